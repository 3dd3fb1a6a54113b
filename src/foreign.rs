//! Foreign text in a line for people: without what steers a terminal, turns the direction of reading around, or hides. Knows no
//! layout.

/// Foreign texts are cut to this many characters before anything else looks at them.
const LONGEST: usize = 2_000;

/// What stands where something of a foreign text was taken out.
pub const REPLACEMENT: char = '\u{fffd}';

/// `text` on one line.
pub fn clean(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if steers(c) { REPLACEMENT } else { c }).collect()
}

/// Control characters, and those that reorder or hide what stands around them.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_lose_their_power() {
        assert_eq!(clean("a\x1b[2J\r\nb\u{9b}c\u{202e}d"), "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(clean(&"x".repeat(10_000)).len(), LONGEST);
    }
}
