//! A small JSON tree for the files that prodex edits: it keeps unknown members, their order, and how numbers are spelt.
//!
//! For files only; traffic is read in place by `json`. Knows no file and no member. Lone surrogates become U+FFFD.

use super::json::{self, Raw};

/// A JSON value. `Debug` prints everything in it, secrets included: never print one that holds tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it is spelt; always a number of RFC 8259.
    Number(String),
    String(String),
    Array(Vec<Value>),
    /// In the order of the text; a name may stand twice, the first one counts.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Refuses what [`json::validate`] refuses, so at most [`json::MAX_DEPTH`] levels.
    pub fn parse(text: &[u8]) -> Result<Value, json::Error> {
        Raw::parse(text).map(build)
    }

    /// An object of these members, in this order.
    pub fn of<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
        Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Two spaces for each level, no newline at the end.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        write(self, &mut out, Some(0));
        out
    }

    /// Without any space.
    pub fn compact(&self) -> String {
        let mut out = String::new();
        write(self, &mut out, None);
        out
    }

    /// The member of an object; `None` also when this is no object.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.as_object()?.iter().find(|(given, _)| given == name).map(|(_, value)| value)
    }

    pub fn member_mut(&mut self, name: &str) -> Option<&mut Value> {
        match self {
            Value::Object(members) => members.iter_mut().find(|(given, _)| given == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Replaces the member in its place, or appends it. `Null` becomes an object first; any other value that is no
    /// object stays as it is.
    pub fn set(&mut self, name: &str, value: Value) {
        if *self == Value::Null {
            *self = Value::Object(Vec::new());
        }
        let Value::Object(members) = self else { return };
        let Some(first) = members.iter().position(|(given, _)| given == name) else {
            return members.push((name.to_owned(), value));
        };
        members[first].1 = value;
        // Other readers take the last of two: an old value must not stand behind the new one.
        let mut at = 0;
        members.retain(|(given, _)| {
            at += 1;
            at <= first + 1 || given != name
        });
    }

    /// Removes every member of this name and gives the first.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let Value::Object(members) = self else { return None };
        let mut removed = members.extract_if(.., |(given, _)| given == name);
        let first = removed.next().map(|(_, value)| value);
        removed.for_each(drop);
        first
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is whole, not negative, and fits: `12`, `12.0`. Not a string.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(number) => json::to_u64(number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Sorts the members of every object in this value by the bytes of their names; equal names keep their order.
    pub fn sort_keys(&mut self) {
        match self {
            Value::Object(members) => {
                members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                for (_, value) in members {
                    value.sort_keys();
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(Value::sort_keys),
            _ => {}
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number.to_string())
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Value {
        Value::Bool(bool)
    }
}

/// Recursive, which is fine: a valid text has at most `MAX_DEPTH` levels.
fn build(raw: Raw<'_>) -> Value {
    match raw.bytes() {
        b"null" => Value::Null,
        [b'{', ..] => Value::Object(raw.members().map(|(name, value)| (name.into_owned(), build(value))).collect()),
        [b'[', ..] => Value::Array(raw.elements().map(build).collect()),
        bytes => match (raw.as_bool(), raw.as_str()) {
            (Some(bool), _) => Value::Bool(bool),
            (_, Some(text)) => Value::String(text.into_owned()),
            _ => Value::Number(String::from_utf8_lossy(bytes).into_owned()),
        },
    }
}

/// `level` is how deep this value stands, `None` for no space at all.
fn write(value: &Value, out: &mut String, level: Option<usize>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number),
        Value::String(text) => json::write_string(out, text),
        Value::Array(elements) => write_items(out, level, ['[', ']'], elements, |out, element, level| {
            write(element, out, level);
        }),
        Value::Object(members) => write_items(out, level, ['{', '}'], members, |out, (name, value), level| {
            json::write_string(out, name);
            out.push_str(if level.is_some() { ": " } else { ":" });
            write(value, out, level);
        }),
    }
}

fn write_items<T>(
    out: &mut String,
    level: Option<usize>,
    [open, close]: [char; 2],
    items: &[T],
    each: impl Fn(&mut String, &T, Option<usize>),
) {
    let new_line = |out: &mut String, level: Option<usize>| {
        if let Some(level) = level {
            out.push('\n');
            out.push_str(&"  ".repeat(level));
        }
    };
    let inner = level.map(|level| level + 1);
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        new_line(out, inner);
        each(out, item, inner);
    }
    if !items.is_empty() {
        new_line(out, level);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::super::hostile::{Rng, mutate};
    use super::*;

    const TEXT: &str = r#"{
  "b": 1.50E+3,
  "a": {
    "z": [
      1,
      [],
      {},
      null
    ],
    "y": true
  },
  "s": "\"\n\u0001ä"
}"#;

    #[test]
    fn what_is_not_touched_stays() {
        let value = Value::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(value.pretty(), TEXT);
        let compact = r#"{"b":1.50E+3,"a":{"z":[1,[],{},null],"y":true},"s":"\"\n\u0001ä"}"#;
        assert_eq!(value.compact(), compact);
        assert_eq!(Value::parse(compact.as_bytes()), Ok(value));
        assert!(Value::parse(&TEXT.as_bytes()[..TEXT.len() - 1]).is_err());
    }

    #[test]
    fn editing() {
        let mut value = Value::parse(br#"{"a":1,"b":2,"a":3,"c":{"y":1,"x":2},"b":4}"#).unwrap();
        value.set("a", "new".into());
        assert_eq!(value.remove("b").unwrap().as_u64(), Some(2));
        value.set("d", true.into());
        value.member_mut("c").unwrap().set("x", 7.into());
        assert_eq!(value.compact(), r#"{"a":"new","c":{"y":1,"x":7},"d":true}"#);
        value.set("0", Value::Array(vec![Value::parse(br#"{"q":1,"p":2}"#).unwrap()]));
        value.sort_keys();
        assert_eq!(value.compact(), r#"{"0":[{"p":2,"q":1}],"a":"new","c":{"x":7,"y":1},"d":true}"#);
        assert_eq!(
            (value.member("a").unwrap().as_str(), value.member("d").unwrap().as_bool()),
            (Some("new"), Some(true))
        );
        assert_eq!((value.remove("none"), value.member("none"), value.as_object().unwrap().len()), (None, None, 4));
        let (mut null, mut number) = (Value::Null, Value::from(1));
        null.set("a", Value::Null);
        number.set("a", Value::Null);
        assert_eq!((null.compact(), number.compact()), (r#"{"a":null}"#.to_owned(), "1".to_owned()));
        assert!(number.remove("a").is_none() && number.member_mut("a").is_none() && number.as_object().is_none());
    }

    #[test]
    fn mutated_texts_survive_writing() {
        const WORDS: [&[u8]; 7] = [b"\"", b",", b"{\"a\":1}", b"[", b"]", b"\\ud800", b"null"];
        let mut rng = Rng::new(9);
        for _ in 0..20_000 {
            let text = mutate(&mut rng, TEXT.as_bytes(), &WORDS);
            if let Ok(value) = Value::parse(&text) {
                assert_eq!(Value::parse(value.pretty().as_bytes()).as_ref(), Ok(&value));
                assert_eq!(Value::parse(value.compact().as_bytes()), Ok(value));
            }
        }
    }
}
