//! The grammar of RFC 8259: where a value ends, and what is wrong with it. Iterative, without allocation, and exact:
//! what passes here is JSON, numbers and UTF-8 included. Lone surrogates in `\u` escapes pass, as the grammar lets them.

use super::super::swar::{self, Set};
use std::fmt;
use std::ops::Range;

/// Objects and arrays within each other. One bit each is kept, in a `u128`.
pub const MAX_DEPTH: usize = 128;

/// Where a text stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Byte offset; the length of the text when it was cut.
    pub at: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unexpected,
    /// The text ended inside a value: more bytes could still make it right.
    Cut,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// A control character or an unknown escape in a string.
    BadString,
    BadNumber,
    BadUtf8,
    /// Something after the value.
    Trailing,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Unexpected => "unexpected character",
            Kind::Cut => "unexpected end of the text",
            Kind::TooDeep => "too many levels",
            Kind::BadString => "bad character or escape in a string",
            Kind::BadNumber => "bad number",
            Kind::BadUtf8 => "bad UTF-8",
            Kind::Trailing => "text after the end of the value",
        };
        write!(f, "{what} at byte {}", self.at)
    }
}

impl std::error::Error for Error {}

/// Whether the whole text is one JSON value.
pub fn validate(text: &[u8]) -> Result<(), Error> {
    whole(text).map(|_| ())
}

/// Where the one value stands that the whole text is.
pub(super) fn whole(text: &[u8]) -> Result<Range<usize>, Error> {
    let start = skip_space(text, 0);
    let end = value_end(text, start, 0)?;
    match skip_space(text, end) {
        behind if behind == text.len() => Ok(start..end),
        behind => Err(Error { at: behind, kind: Kind::Trailing }),
    }
}

/// The end of the value that starts at `at`, which itself is `outer` levels deep.
pub(super) fn value_end(text: &[u8], at: usize, outer: usize) -> Result<usize, Error> {
    let mut at = at;
    // One bit for each open level, the innermost lowest: 1 for an object.
    let (mut kinds, mut depth) = (0u128, 0);
    loop {
        match byte(text, at)? {
            open @ (b'{' | b'[') => {
                if outer + depth >= MAX_DEPTH {
                    return Err(Error { at, kind: Kind::TooDeep });
                }
                let next = skip_space(text, at + 1);
                // `{` and `[` are two characters before their closing ones.
                if byte(text, next)? == open + 2 {
                    at = next + 1;
                } else {
                    depth += 1;
                    kinds = kinds << 1 | u128::from(open == b'{');
                    at = if open == b'{' { name_end(text, next)?.1 } else { next };
                    continue;
                }
            }
            b'"' => at = string_end(text, at)?,
            b'-' | b'0'..=b'9' => at = number_end(text, at)?,
            b't' => at = word_end(text, at, b"true")?,
            b'f' => at = word_end(text, at, b"false")?,
            b'n' => at = word_end(text, at, b"null")?,
            _ => return Err(Error { at, kind: Kind::Unexpected }),
        }
        // A value has ended: so may the levels around it.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = skip_space(text, at);
            let object = kinds & 1 == 1;
            match (byte(text, at)?, object) {
                (b',', false) => at = skip_space(text, at + 1),
                (b',', true) => at = name_end(text, skip_space(text, at + 1))?.1,
                (b'}', true) | (b']', false) => {
                    at += 1;
                    depth -= 1;
                    kinds >>= 1;
                    continue;
                }
                _ => return Err(Error { at, kind: Kind::Unexpected }),
            }
            break;
        }
    }
}

/// The end of the member name that starts at `at`, and the start of its value.
pub(super) fn name_end(text: &[u8], at: usize) -> Result<(usize, usize), Error> {
    if byte(text, at)? != b'"' {
        return Err(Error { at, kind: Kind::Unexpected });
    }
    let end = string_end(text, at)?;
    let colon = skip_space(text, end);
    match byte(text, colon)? {
        b':' => Ok((end, skip_space(text, colon + 1))),
        _ => Err(Error { at: colon, kind: Kind::Unexpected }),
    }
}

/// The end of the number that starts at `at`.
pub(super) fn number_end(text: &[u8], at: usize) -> Result<usize, Error> {
    // A digit must follow: it is not wrong yet when the text ends here.
    let some_digits = |at: usize| {
        if !byte(text, at)?.is_ascii_digit() {
            return Err(Error { at, kind: Kind::BadNumber });
        }
        let mut end = at + 1;
        while text.get(end).is_some_and(u8::is_ascii_digit) {
            end += 1;
        }
        Ok(end)
    };
    let start = if byte(text, at)? == b'-' { at + 1 } else { at };
    let mut at = some_digits(start)?;
    if text[start] == b'0' && at > start + 1 {
        return Err(Error { at: start, kind: Kind::BadNumber });
    }
    if text.get(at) == Some(&b'.') {
        at = some_digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at = some_digits(at + 1 + sign)?;
    }
    Ok(at)
}

pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

pub(super) fn byte(text: &[u8], at: usize) -> Result<u8, Error> {
    text.get(at).copied().ok_or(Error { at: text.len(), kind: Kind::Cut })
}

/// The end of the string whose quote is at `at`.
fn string_end(text: &[u8], at: usize) -> Result<usize, Error> {
    let mut at = at + 1;
    loop {
        at += swar::run(&text[at..], &SPECIAL_OR_WIDE);
        match byte(text, at)? {
            b'"' => return Ok(at + 1),
            b'\\' => at = escape_end(text, at)?,
            0x80.. => at = characters_end(text, at)?,
            _ => return Err(Error { at, kind: Kind::BadString }),
        }
    }
}

/// The end of the run of plain characters at `at`, not all of them ASCII.
fn characters_end(text: &[u8], at: usize) -> Result<usize, Error> {
    let end = at + swar::run(&text[at..], &SPECIAL);
    match std::str::from_utf8(&text[at..end]) {
        Ok(_) => Ok(end),
        // A character may be cut only where the text is.
        Err(error) if error.error_len().is_none() && end == text.len() => Err(Error { at: end, kind: Kind::Cut }),
        Err(error) => Err(Error { at: at + error.valid_up_to(), kind: Kind::BadUtf8 }),
    }
}

fn escape_end(text: &[u8], at: usize) -> Result<usize, Error> {
    match byte(text, at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => {
            for at in at + 2..at + 6 {
                if !byte(text, at)?.is_ascii_hexdigit() {
                    return Err(Error { at, kind: Kind::BadString });
                }
            }
            Ok(at + 6)
        }
        _ => Err(Error { at: at + 1, kind: Kind::BadString }),
    }
}

/// What ends a run of plain characters: a quote, a backslash or a control character.
const SPECIAL: Set = Set::of(b'"', b'\\').and_below(0x20);
/// The same, and what must be looked at as UTF-8.
const SPECIAL_OR_WIDE: Set = Set::of(b'"', b'\\').and_below(0x20).and_not_ascii();

fn word_end(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Error> {
    for (at, &want) in (at..).zip(word) {
        if byte(text, at)? != want {
            return Err(Error { at, kind: Kind::Unexpected });
        }
    }
    Ok(at + word.len())
}

#[cfg(test)]
mod tests {
    use super::super::super::hostile::{Rng, mutate};
    use super::*;

    #[test]
    fn what_is_json_and_what_is_not() {
        let good = "{}|[]|0|-0|1.5E+3|1e5|\"\"|true|false|null| [ 1 , {\"a\" : [ ] } ] |\"\\u00e4\\\"\\/\\b\\ud83d\"|[\"\u{10ffff}\"]";
        for text in good.split('|') {
            assert_eq!(validate(text.as_bytes()), Ok(()), "{text}");
        }
        let bad = [
            ("", 0, Kind::Cut),
            (" ", 1, Kind::Cut),
            ("{\"x\":{\"y\":1", 11, Kind::Cut),
            ("{\"x\":}", 5, Kind::Unexpected),
            ("[1,]", 3, Kind::Unexpected),
            ("{\"a\":1,}", 7, Kind::Unexpected),
            ("{a:1}", 1, Kind::Unexpected),
            ("[1}", 2, Kind::Unexpected),
            ("{\"a\" 1}", 5, Kind::Unexpected),
            ("// x", 0, Kind::Unexpected),
            ("nul", 3, Kind::Cut),
            ("nulL", 3, Kind::Unexpected),
            ("NaN", 0, Kind::Unexpected),
            ("+1", 0, Kind::Unexpected),
            (".5", 0, Kind::Unexpected),
            ("01", 0, Kind::BadNumber),
            ("-a", 1, Kind::BadNumber),
            ("[1.]", 3, Kind::BadNumber),
            ("1e+", 3, Kind::Cut),
            ("1 2", 2, Kind::Trailing),
            ("\"a\nb\"", 2, Kind::BadString),
            ("\"\\x\"", 2, Kind::BadString),
            ("\"\\u12g4\"", 5, Kind::BadString),
            ("\"\\u12", 5, Kind::Cut),
            ("\u{feff}{}", 0, Kind::Unexpected),
        ];
        for (text, at, kind) in bad {
            assert_eq!(validate(text.as_bytes()), Err(Error { at, kind }), "{text}");
        }
        for (text, at, kind) in
            [(&b"\"\xff\""[..], 1, Kind::BadUtf8), (b"\"\xed\xa0\x80\"", 1, Kind::BadUtf8), (b"\"a\xc3", 3, Kind::Cut)]
        {
            assert_eq!(validate(text), Err(Error { at, kind }));
        }
        assert_eq!(Error { at: 17, kind: Kind::Unexpected }.to_string(), "unexpected character at byte 17");
    }

    #[test]
    fn levels_are_bound() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(validate(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert_eq!(validate(nested(MAX_DEPTH + 1).as_bytes()), Err(Error { at: MAX_DEPTH, kind: Kind::TooDeep }));
        assert_eq!(validate(&b"{\"a\":".repeat(1_000_000)), Err(Error { at: 5 * MAX_DEPTH, kind: Kind::TooDeep }));
    }

    /// The grammar again, recursive and naive: the rest after one value with the space around it.
    fn slow(text: &str) -> Option<&str> {
        let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
        let items = |close: char, named: bool| {
            let mut rest = text[1..].trim_start_matches([' ', '\t', '\r', '\n']);
            if let Some(rest) = rest.strip_prefix(close) {
                return Some(rest);
            }
            loop {
                if named {
                    rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
                    rest = slow(rest).filter(|_| rest.starts_with('"'))?.strip_prefix(':')?;
                }
                rest = slow(rest)?;
                match rest.strip_prefix(',') {
                    Some(next) => rest = next,
                    None => return rest.strip_prefix(close),
                }
            }
        };
        let rest = match text.chars().next()? {
            '{' => items('}', true)?,
            '[' => items(']', false)?,
            '"' => {
                let mut chars = text[1..].chars();
                loop {
                    match chars.next()? {
                        '"' => break chars.as_str(),
                        '\\' => match chars.next()? {
                            'u' if (0..4).all(|_| chars.next().is_some_and(|c| c.is_ascii_hexdigit())) => {}
                            c if "\"\\/bfnrt".contains(c) => {}
                            _ => return None,
                        },
                        c if c < ' ' => return None,
                        _ => {}
                    }
                }
            }
            '-' | '0'..='9' => {
                let number = text.strip_prefix('-').unwrap_or(text);
                let skip = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let whole = skip(number);
                if whole == 0 || (whole > 1 && number.starts_with('0')) {
                    return None;
                }
                let mut rest = &number[whole..];
                if let Some(fraction) = rest.strip_prefix('.') {
                    rest = fraction.get(skip(fraction)..).filter(|_| skip(fraction) > 0)?;
                }
                if let Some(power) = rest.strip_prefix(['e', 'E']) {
                    let power = power.strip_prefix(['+', '-']).unwrap_or(power);
                    rest = Some(&power[skip(power)..]).filter(|_| skip(power) > 0)?;
                }
                rest
            }
            _ => ["true", "false", "null"].iter().find_map(|word| text.strip_prefix(word))?,
        };
        Some(rest.trim_start_matches([' ', '\t', '\r', '\n']))
    }

    #[test]
    fn mutated_equals_the_slow_way() {
        const SEED: &str =
            "{\"a\":[1,-2.5e+3,0.1E9,true,false,null],\"b\\u0041\":{\"c\":\"\\\"ä\\n€\"},\"d\":[[],{}], \"e\" : \"\"}";
        const WORDS: [&[u8]; 17] = [
            b"\"",
            b"\\",
            b",",
            b":",
            b"{",
            b"}",
            b"[",
            b"]",
            b"0",
            b"-",
            b".",
            b"e",
            b"\\u",
            b" ",
            b"\xc3",
            b"true",
            b"{\"a\":1}",
        ];
        let mut rng = Rng::new(7);
        let mut good = 0;
        for _ in 0..100_000 {
            let text = mutate(&mut rng, SEED.as_bytes(), &WORDS);
            let want = std::str::from_utf8(&text).is_ok_and(|text| slow(text) == Some(""));
            assert_eq!(validate(&text).is_ok(), want, "{}", String::from_utf8_lossy(&text));
            if want {
                good += 1;
                // Cut anywhere, a text is cut and nothing else, as long as its end is its last character.
                let cut = rng.below(text.trim_ascii_end().len());
                let kind = validate(&text[..cut]).err().map(|error| error.kind);
                assert!(kind == Some(Kind::Cut) || text.trim_ascii()[0] != b'{', "{kind:?}");
            }
        }
        assert!(good > 1000, "{good}");
    }
}
