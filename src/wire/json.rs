//! JSON (RFC 8259) read in place: whole texts are validated, members are spans, nothing is built.
//!
//! JSON that passes through prodex is never written again, so there is no tree here (the files that prodex edits have
//! one, in `value`). Knows no field of codex or its backend.

mod scan;

pub use scan::{Error, Kind, MAX_DEPTH, validate};

use scan::{byte, name_end, number_end, skip_space, value_end};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;

/// A valid value inside a larger text, by its span. The text itself is never printed: it may be secret.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Raw<'a> {
    /// The value that the whole text is; all of it is validated.
    pub fn parse(text: &'a [u8]) -> Result<Raw<'a>, Error> {
        let Range { start, end } = scan::whole(text)?;
        Ok(Raw { text, start, end })
    }

    /// Where it stands in the text that was parsed, for replacing it there.
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    pub fn bytes(&self) -> &'a [u8] {
        &self.text[self.start..self.end]
    }

    /// The first member of this name (unescaped); `None` also when this is no object.
    pub fn member(&self, name: &str) -> Option<Raw<'a>> {
        let mut members = self.spans(b'{');
        members.find(|(given, _)| is_name(given, name)).map(|(_, value)| value)
    }

    /// The members found once, for looking up many of them; none when this is no object.
    pub fn opened(&self) -> Members<'a> {
        Members(self.spans(b'{').collect())
    }

    /// The member of the member, and so on; itself for an empty path.
    pub fn at(&self, path: &[&str]) -> Option<Raw<'a>> {
        path.iter().try_fold(*self, |value, name| value.member(name))
    }

    /// Names and values of an object in their order, duplicates included; nothing for anything else.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'a, str>, Raw<'a>)> + use<'a> {
        self.spans(b'{').map(|(name, value)| (unescape(name).unwrap_or_default(), value))
    }

    /// The elements of an array; nothing for anything else.
    pub fn elements(&self) -> impl Iterator<Item = Raw<'a>> + use<'a> {
        self.spans(b'[').map(|(_, value)| value)
    }

    /// The text of a string. Lone surrogates become U+FFFD, which no string can otherwise say.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        match self.bytes() {
            [b'"', inner @ .., b'"'] => unescape(inner),
            _ => None,
        }
    }

    /// A number, or a string that holds exactly a number. Always finite.
    pub fn as_f64(&self) -> Option<f64> {
        to_f64(&self.number()?)
    }

    /// The same if it is whole, not negative, and fits: `12`, `12.0`, `"12"`.
    pub fn as_u64(&self) -> Option<u64> {
        to_u64(&self.number()?)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.bytes() {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.bytes() == b"null"
    }

    pub fn is_object(&self) -> bool {
        self.bytes().first() == Some(&b'{')
    }

    pub fn is_array(&self) -> bool {
        self.bytes().first() == Some(&b'[')
    }

    /// The spelling of a number, or of the number in a string.
    fn number(&self) -> Option<Cow<'a, str>> {
        let text = match self.bytes() {
            [b'"', ..] => self.as_str()?,
            bytes => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        };
        (number_end(text.as_bytes(), 0) == Ok(text.len())).then_some(text)
    }

    /// Names (still escaped, without quotes; empty in an array) and values of a container that opens with `open`.
    fn spans(&self, open: u8) -> impl Iterator<Item = (&'a [u8], Raw<'a>)> + use<'a> {
        let text = self.text;
        let mut next = (text.get(self.start) == Some(&open)).then(|| skip_space(text, self.start + 1));
        std::iter::from_fn(move || {
            // The text is valid: whatever is no name and no value is the end of the container.
            let at = next.take()?;
            let (name, start) = match open {
                b'{' => name_end(text, at).ok().map(|(end, value)| (&text[at + 1..end - 1], value))?,
                _ => (&[][..], at),
            };
            let end = value_end(text, start, 0).ok()?;
            let comma = skip_space(text, end);
            next = (text.get(comma) == Some(&b',')).then(|| skip_space(text, comma + 1));
            Some((name, Raw { text, start, end }))
        })
    }
}

/// The members of an object: names (still escaped) and values, in their order.
pub struct Members<'a>(Vec<(&'a [u8], Raw<'a>)>);

impl<'a> Members<'a> {
    /// As [`Raw::member`] finds it.
    pub fn member(&self, name: &str) -> Option<Raw<'a>> {
        self.0.iter().find(|(given, _)| is_name(given, name)).map(|(_, value)| *value)
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({:?})", self.span())
    }
}

/// What [`peek`] found.
#[derive(Debug, Clone, Copy)]
pub enum Peek<'a> {
    Found(Raw<'a>),
    /// The object that would hold it ended without it, or there is no object.
    Absent,
    /// The text ended first.
    Cut,
    Invalid,
}

/// Looks up a path of members in a text that may be cut off anywhere, such as the first bytes of a large message. What
/// comes after the value is not looked at. A number that ends with the text counts as cut.
pub fn peek<'a>(text: &'a [u8], path: &[&str]) -> Peek<'a> {
    match find(text, path) {
        Ok(Some(value)) => Peek::Found(value),
        Ok(None) => Peek::Absent,
        Err(Error { kind: Kind::Cut, .. }) => Peek::Cut,
        Err(_) => Peek::Invalid,
    }
}

/// The string that [`peek`] finds; `None` for everything else.
pub fn peek_str<'a>(text: &'a [u8], path: &[&str]) -> Option<Cow<'a, str>> {
    match peek(text, path) {
        Peek::Found(value) => value.as_str(),
        _ => None,
    }
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// A JSON number as a float, unless it is too large for one.
pub(super) fn to_f64(number: &str) -> Option<f64> {
    number.parse().ok().filter(|float: &f64| float.is_finite())
}

/// A JSON number as an integer, if it is whole, not negative and fits.
pub(super) fn to_u64(number: &str) -> Option<u64> {
    /// 2^64: the first float that does not fit.
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    if number.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.parse().ok();
    }
    let float = to_f64(number)?;
    (float.fract() == 0.0 && (0.0..TOO_LARGE).contains(&float)).then_some(float as u64)
}

fn find<'a>(text: &'a [u8], path: &[&str]) -> Result<Option<Raw<'a>>, Error> {
    let mut at = skip_space(text, 0);
    for (depth, name) in path.iter().enumerate() {
        if byte(text, at)? != b'{' {
            // What it is instead does not matter, but it must be something.
            return value_end(text, at, depth).map(|_| None);
        }
        at = skip_space(text, at + 1);
        if byte(text, at)? == b'}' {
            return Ok(None);
        }
        loop {
            let (end, value) = name_end(text, at)?;
            if is_name(&text[at + 1..end - 1], name) {
                at = value;
                break;
            }
            let end = skip_space(text, value_end(text, value, depth + 1)?);
            match byte(text, end)? {
                b',' => at = skip_space(text, end + 1),
                b'}' => return Ok(None),
                _ => return Err(Error { at: end, kind: Kind::Unexpected }),
            }
        }
    }
    let end = value_end(text, at, path.len())?;
    if text[end - 1].is_ascii_digit() {
        byte(text, end)?;
    }
    Ok(Some(Raw { text, start: at, end }))
}

/// An escaped character is longer than what it stands for.
fn is_name(escaped: &[u8], name: &str) -> bool {
    escaped == name.as_bytes()
        || (escaped.len() > name.len()
            && escaped.contains(&b'\\')
            && unescape(escaped).is_some_and(|given| given == name))
}

/// The text of a valid string's inside.
fn unescape(inner: &[u8]) -> Option<Cow<'_, str>> {
    let mut rest = std::str::from_utf8(inner).ok()?;
    if !rest.contains('\\') {
        return Some(Cow::Borrowed(rest));
    }
    let mut out = String::with_capacity(rest.len());
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escape.chars();
        match chars.next()? {
            'u' => {
                let unit = u32::from_str_radix(escape.get(1..5)?, 16).ok()?;
                rest = &escape[5..];
                let low = rest.strip_prefix("\\u").and_then(|low| u32::from_str_radix(low.get(..4)?, 16).ok());
                match (unit, low) {
                    (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                        rest = &rest[6..];
                        out.extend(char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
                    }
                    _ => out.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
                continue;
            }
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            same => out.push(same),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests;
