//! Whether a text is TOML: the mistakes that people make in a `config.toml`, with their lines. Pure. Lenient where it matters
//! to nobody (numbers, what TOML 1.1 allows): what is told must be a mistake, not every mistake must be told.

use std::collections::BTreeSet;

/// Lists and tables within each other; codex's reader takes fewer than a hundred.
const MAX_DEPTH: usize = 64;
/// Tables whose names are kept to find one that comes twice; each element of a list looks through them.
const MAX_TABLES: usize = 1_000;

/// The first mistake: `line 3: a string has no end`.
pub fn fault(text: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { text, at: 0 };
    let what = reader.document().err()?;
    // Of what has no end the beginning tells more.
    let line = text.as_bytes().iter().take(reader.at).filter(|&&byte| byte == b'\n').count() + 1;
    Some(format!("line {line}: {what}"))
}

type Read<T> = Result<T, String>;

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Read<()> {
        let mut tables: BTreeSet<String> = BTreeSet::new();
        let mut keys = BTreeSet::new();
        loop {
            self.gap();
            if self.rest().is_empty() {
                return Ok(());
            }
            if self.takes("[") {
                let is_list = self.takes("[");
                self.spaces();
                let name = self.key()?;
                self.expects(if is_list { "]]" } else { "]" })?;
                keys.clear();
                if is_list {
                    // A new element, with tables of its own.
                    let below = format!("{name}\u{0}");
                    tables.retain(|table| !table.starts_with(&below));
                } else if tables.len() < MAX_TABLES && !tables.insert(name.clone()) {
                    return Err(format!("the table [{}] is there twice", name.replace('\u{0}', ".")));
                }
            } else {
                let name = self.pair(0)?;
                if !keys.insert(name.clone()) {
                    return Err(format!("'{}' is there twice", name.replace('\u{0}', ".")));
                }
            }
            self.spaces();
            self.comment();
            if !self.rest().is_empty() && !self.takes("\n") && !self.takes("\r\n") {
                return Err("there is more on the line than belongs there".to_owned());
            }
        }
    }

    /// `key = value`; gives the key.
    fn pair(&mut self, depth: usize) -> Read<String> {
        let name = self.key()?;
        if !self.takes("=") {
            return Err(format!("there is no '=' behind '{}'", name.replace('\u{0}', ".")));
        }
        self.spaces();
        self.value(depth)?;
        Ok(name)
    }

    /// The parts of a key, with NUL between them, and the spaces behind it.
    fn key(&mut self) -> Read<String> {
        let mut name = String::new();
        loop {
            let from = self.at;
            if self.rest().starts_with(['"', '\'']) {
                self.line_of_text()?;
                let quoted = self.text.get(from..self.at).unwrap_or_default();
                name.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
            } else {
                let bare = self.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                if bare.is_empty() {
                    return Err(match self.rest().chars().next() {
                        Some(c) if !c.is_control() => format!("'{c}' where a name should be"),
                        _ => "a name is missing".to_owned(),
                    });
                }
                name.push_str(bare);
            }
            self.spaces();
            if !self.takes(".") {
                return Ok(name);
            }
            name.push('\u{0}');
            self.spaces();
        }
    }

    fn value(&mut self, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err("lists or tables are nested too deeply".to_owned());
        }
        if self.takes("\"\"\"") {
            return self.text_until("\"\"\"", true);
        }
        if self.takes("'''") {
            return self.text_until("'''", false);
        }
        match self.rest().bytes().next() {
            Some(b'"' | b'\'') => self.line_of_text(),
            Some(b'[') => self.list("[", "]", |reader| reader.value(depth + 1)),
            Some(b'{') => self.list("{", "}", |reader| reader.pair(depth + 1).map(drop)),
            _ => self.bare(),
        }
    }

    /// Elements with commas between them, one also behind the last, over any number of lines.
    fn list(&mut self, open: &str, close: &str, mut element: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        let from = self.at;
        self.takes(open);
        loop {
            self.gap();
            if self.takes(close) {
                return Ok(());
            }
            if !self.rest().is_empty() {
                element(self)?;
                self.gap();
            }
            if self.rest().is_empty() {
                self.at = from;
                return Err(format!("a '{open}' has no '{close}'"));
            }
            if !self.takes(",") && !self.rest().starts_with(close) {
                return Err(format!("a ',' or a '{close}' is missing"));
            }
        }
    }

    /// A string on one line.
    fn line_of_text(&mut self) -> Read<()> {
        let (quote, escapes) = if self.takes("\"") { ("\"", true) } else { ("'", false) };
        if !escapes {
            self.takes(quote);
        }
        let end = self.rest().find('\n').unwrap_or(self.rest().len());
        self.closed(quote, escapes, end)
    }

    /// A string over lines, which may end in quotes of its own.
    fn text_until(&mut self, quotes: &str, escapes: bool) -> Read<()> {
        let from = self.at;
        let end = self.rest().len();
        self.closed(quotes, escapes, end).inspect_err(|_| self.at = from)?;
        let quote = if escapes { "\"" } else { "'" };
        let _ = self.takes(quote) && self.takes(quote);
        Ok(())
    }

    /// Moves behind the closing quotes, which come before `end`.
    fn closed(&mut self, quotes: &str, escapes: bool, end: usize) -> Read<()> {
        let end = self.at + end;
        while self.at < end {
            if self.takes(quotes) {
                return Ok(());
            }
            let mut chars = self.rest().chars();
            let Some(c) = chars.next() else { break };
            self.at += c.len_utf8();
            if c != '\\' || !escapes {
                continue;
            }
            // Behind a backslash at the end of a line the string goes on, where it may have lines.
            match chars.next() {
                Some('b' | 't' | 'n' | 'f' | 'r' | 'e' | '"' | '\\' | 'u' | 'U' | 'x') => self.at += 1,
                Some(' ' | '\t' | '\r' | '\n') if quotes.len() == 3 => {}
                Some(c) if !c.is_control() => {
                    return Err(format!("'\\{c}' in a string: write '\\\\', or put the string in single quotes"));
                }
                _ => {}
            }
        }
        Err("a string has no end".to_owned())
    }

    /// Numbers, dates, `true` and the like.
    fn bare(&mut self) -> Read<()> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || "+-_.:".contains(c));
        let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
        if matches!(word, "true" | "false") || matches!(unsigned, "inf" | "nan") {
            return Ok(());
        }
        if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
            // Between a date and its time there may be a space.
            let is_date = word.len() == 10 && word.bytes().filter(|&byte| byte == b'-').count() == 2;
            if is_date
                && self.rest().strip_prefix(' ').is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit()))
            {
                self.at += 1;
                self.run(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c));
            }
            return Ok(());
        }
        Err(match (word, self.rest().chars().next()) {
            ("", Some(c)) if !c.is_control() => format!("'{c}' where a value should be: a text stands in \"quotes\""),
            ("", _) => "a value is missing".to_owned(),
            _ => "a text without its \"quotes\"".to_owned(),
        })
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        if is_there {
            self.at += token.len();
        }
        is_there
    }

    fn expects(&mut self, token: &str) -> Read<()> {
        if self.takes(token) { Ok(()) } else { Err(format!("a '{token}' is missing")) }
    }

    fn run(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let run = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn spaces(&mut self) {
        self.run(|c| c == ' ' || c == '\t');
    }

    fn comment(&mut self) {
        if self.rest().starts_with('#') {
            self.run(|c| c != '\n');
        }
    }

    /// Spaces, comments and line ends.
    fn gap(&mut self) {
        loop {
            let from = self.at;
            self.run(|c| " \t\r\n".contains(c));
            self.comment();
            if self.at == from {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_right_or_told_with_its_line() {
        let good = r#"
            # comment
            model = "gpt-5"   # behind
            "quoted key".'and literal'.bare-1 = 'C:\path'
            a.b = 1
            empty = ""
            date = 2026-11-25 07:16:03.123Z
            numbers = [+1, -0.5e3, 0xFF, inf, -nan, 1_000, # more
                true,
            ]
            text = """
            over "lines" \\
              and on"""""
            raw = '''it's \\ raw'''
            point = { x = 1, y = [ { z = "}" } ] }
            [mcp_servers."a.b"]
            command = "x"
            [mcp_servers.a.b]
            [[list]]
            [list.env]
            model = "again, elsewhere"
            [[list]]
            [list.env]
        "#;
        for text in [good, "", "\u{feff}a = 1\r\nb = 2\r\n", "a=1"] {
            assert_eq!(fault(text), None, "{text}");
        }
        for (text, told) in [
            ("model = gpt-5", "line 1: a text without its \"quotes\""),
            (
                "a = 1\nmodel = \u{201c}gpt-5\u{201d}",
                "line 2: '\u{201c}' where a value should be: a text stands in \"quotes\"",
            ),
            ("model = \"gpt-5\na = 1", "line 1: a string has no end"),
            ("# x\na = \"\"\"\nb = 1\n", "line 2: a string has no end"),
            ("model \"gpt-5\"", "line 1: there is no '=' behind 'model'"),
            ("a.b: 1", "line 1: there is no '=' behind 'a.b'"),
            ("a =\nb = 1", "line 1: a value is missing"),
            ("\n= 1", "line 2: '=' where a name should be"),
            ("[table\na = 1", "line 1: a ']' is missing"),
            ("[[table]\n", "line 1: a ']]' is missing"),
            ("a = [1, 2\nb = 3\n", "line 2: a ',' or a ']' is missing"),
            ("a = [1,\n", "line 1: a '[' has no ']'"),
            ("a = {b = 1", "line 1: a '{' has no '}'"),
            ("a = 1 b = 2", "line 1: there is more on the line than belongs there"),
            ("path = \"C:\\path\"", "line 1: '\\p' in a string: write '\\\\', or put the string in single quotes"),
            ("a = 1\na = 2", "line 2: 'a' is there twice"),
            ("[a.b]\n[c]\n[a.b]\n", "line 3: the table [a.b] is there twice"),
            (&format!("a = {}", "[".repeat(100_000)), "line 1: lists or tables are nested too deeply"),
            ("{", "line 1: '{' where a name should be"),
        ] {
            assert_eq!(fault(text).as_deref(), Some(told), "{text:.200}");
        }
    }
}
