//! One line of `bindings.log`: `KIND BOUND_AT PROFILE ID CHECK`. The check makes a line that was cut, glued to another or
//! damaged no line at all, instead of a binding of another id. Pure; knows no file.

use super::{Kind, MAX_ID};
use crate::profile::name;

/// Longer lines are not looked at: every byte of the longest id takes three, and the rest is below 200.
const MAX_LINE: usize = 3 * MAX_ID + 256;
/// Hex digits of the check.
const CHECK: usize = 8;

const KINDS: [(Kind, &str); 3] =
    [(Kind::Response, "response"), (Kind::Session, "session"), (Kind::TurnState, "turn_state")];

/// A line that says something we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub kind: Kind,
    pub bound_at: u64,
    pub profile: &'a str,
    /// Still encoded: equal ids are equal here too.
    pub id: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    Known(Entry<'a>),
    /// Whole, but of a kind that a later version writes.
    Foreign,
    Unreadable,
}

/// Appends the line and its end to `out`. False, and nothing appended, for what is not kept.
pub fn encode(out: &mut Vec<u8>, kind: Kind, bound_at: u64, profile: &str, id: &str) -> bool {
    if id.is_empty() || id.len() > MAX_ID || name::validate(profile).is_err() {
        return false;
    }
    let start = out.len();
    let word = KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, word)| word);
    out.extend_from_slice(word.as_bytes());
    out.push(b' ');
    push_number(out, bound_at);
    out.push(b' ');
    out.extend_from_slice(profile.as_bytes());
    out.push(b' ');
    for &byte in id.as_bytes() {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    let check = check(&out[start..]);
    out.push(b' ');
    for shift in (0..CHECK).rev() {
        out.push(HEX[(check >> (4 * shift)) as usize & 15]);
    }
    out.push(b'\n');
    true
}

/// `line` is without its end.
pub fn decode(line: &[u8]) -> Line<'_> {
    let whole = || {
        let (body, given) = line.split_at_checked(line.len().checked_sub(CHECK + 1)?)?;
        let given = std::str::from_utf8(given.strip_prefix(b" ")?).ok()?;
        let lower = given.bytes().all(|byte| HEX.contains(&byte));
        (line.len() <= MAX_LINE && lower && u32::from_str_radix(given, 16).ok()? == check(body)).then_some(body)
    };
    let Some(body) = whole() else { return Line::Unreadable };
    let mut fields = body.split(|&byte| byte == b' ');
    let word = fields.next().unwrap_or_default();
    let Some((kind, _)) = KINDS.iter().find(|(_, known)| known.as_bytes() == word) else { return Line::Foreign };
    let mut entry = || {
        let bound_at = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let profile = std::str::from_utf8(fields.next()?).ok().filter(|profile| name::validate(profile).is_ok())?;
        let id = fields.next().filter(|id| !id.is_empty())?;
        Some(Entry { kind: *kind, bound_at, profile, id })
    };
    // More fields than we know: a later version's.
    entry().map_or(Line::Foreign, Line::Known)
}

/// The id as it was; `None` when it is none that we would have written.
pub fn decode_id(encoded: &[u8]) -> Option<String> {
    let mut id = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digit = |byte: u8| HEX.iter().position(|&hex| hex == byte).and_then(|at| u8::try_from(at).ok());
            id.push(digit(digits[0])? << 4 | digit(digits[1])?);
            rest = after;
        } else {
            is_plain(byte).then(|| id.push(byte))?;
        }
    }
    String::from_utf8(id).ok().filter(|id| !id.is_empty() && id.len() <= MAX_ID)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What needs no escape: no space, no control character, nothing that a terminal could take for one.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'%'
}

/// FNV-1a: against accidents, not against people; who can write this file can write every other one here too.
fn check(body: &[u8]) -> u32 {
    body.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind, at: u64, profile: &str, id: &str) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(encode(&mut out, kind, at, profile, id), "{id:?}");
        assert_eq!(out.pop(), Some(b'\n'));
        out
    }

    #[test]
    fn every_id_comes_back() {
        let long = "\u{1f600}".repeat(MAX_ID / 4);
        let ids = ["resp_1", "a b", "a\nb", "\0", "%", "%25", "\u{7f}\u{85}ä", " ", "\r\n\t", &long];
        for id in ids {
            for (kind, _) in KINDS {
                for at in [0, 1_795_574_904, u64::MAX] {
                    let line = line(kind, at, "main", id);
                    assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "{id:?}");
                    let Line::Known(entry) = decode(&line) else { panic!("{id:?}") };
                    assert_eq!((entry.kind, entry.bound_at, entry.profile), (kind, at, "main"));
                    assert_eq!(decode_id(entry.id).as_deref(), Some(id));
                }
            }
        }
        assert_eq!(line(Kind::Response, 5, "main", "r 1"), b"response 5 main r%201 ef9cdadc");
    }

    #[test]
    fn what_is_not_kept() {
        let mut out = Vec::new();
        assert!(!encode(&mut out, Kind::Session, 1, "main", ""));
        assert!(!encode(&mut out, Kind::Session, 1, "main", &"x".repeat(MAX_ID + 1)));
        assert!(!encode(&mut out, Kind::Session, 1, "a b", "x") && !encode(&mut out, Kind::Session, 1, "../x", "x"));
        assert!(out.is_empty());
    }

    #[test]
    fn a_line_that_was_cut_or_damaged_is_none() {
        let whole = line(Kind::TurnState, 1_795_574_904, "main", "state 1");
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), Line::Unreadable, "{cut}");
            assert_eq!(decode(&[&whole[..cut], &whole[..]].concat()) == Line::Unreadable, cut > 0, "{cut}");
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[cut] ^= 1 << bit;
                assert_eq!(decode(&damaged), Line::Unreadable, "{cut} {bit}");
            }
        }
    }

    #[test]
    fn whole_lines_of_others_are_foreign() {
        for body in
            ["owner 5 main x", "response x main x", "response 5 ../x x", "response 5 main", "response 5 main ", ""]
        {
            let line = format!("{body} {:08x}", check(body.as_bytes()));
            assert_eq!(decode(line.as_bytes()), Line::Foreign, "{body}");
        }
        let later = "response 5 main x y";
        let line = format!("{later} {:08x}", check(later.as_bytes()));
        assert!(matches!(decode(line.as_bytes()), Line::Known(_)), "fields that a later version adds do not hurt");
        for encoded in ["%", "%2", "%zz", "%C3", "%ff", "a b", ""] {
            assert_eq!(decode_id(encoded.as_bytes()), None, "{encoded}");
        }
    }
}
