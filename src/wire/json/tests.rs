use super::super::hostile::{Rng, mutate};
use super::*;

const TEXT: &str = r#" {"type":"x","a":{"b":[1,"2",{}],"\u0061b":"t\ud83d\ude00\n"},"n":12.0,"type":"y","z":null} "#;

fn raw(text: &str) -> Raw<'_> {
    Raw::parse(text.as_bytes()).unwrap()
}

#[test]
fn members_and_elements() {
    let value = raw(TEXT);
    assert_eq!(value.span(), 1..TEXT.len() - 1);
    assert_eq!(value.member("type").unwrap().as_str().unwrap(), "x");
    assert_eq!(value.at(&["a", "ab"]).unwrap().as_str().unwrap(), "t😀\n");
    assert!(value.at(&["a", "b", "c"]).is_none() && value.member("q").is_none() && value.at(&[]).is_some());
    let names: Vec<_> = value.members().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["type", "a", "n", "type", "z"]);
    let elements: Vec<_> = value.at(&["a", "b"]).unwrap().elements().map(|value| value.bytes()).collect();
    assert_eq!(elements, [&b"1"[..], b"\"2\"", b"{}"]);
    assert_eq!(value.elements().count() + raw("[1]").members().count() + raw("[]").elements().count(), 0);
    assert!(value.member("z").unwrap().is_null() && value.is_object() && raw("[]").is_array());
    assert!(!format!("{value:?}").contains("type"));
}

#[test]
fn scalars() {
    let rows = [
        ("12", Some(12.0), Some(12)),
        ("12.0", Some(12.0), Some(12)),
        ("\"12\"", Some(12.0), Some(12)),
        ("1.2e1", Some(12.0), Some(12)),
        ("12.5", Some(12.5), None),
        ("-1", Some(-1.0), None),
        ("18446744073709551615", Some(18_446_744_073_709_551_615.0), Some(u64::MAX)),
        ("18446744073709551616", Some(18_446_744_073_709_551_616.0), None),
        ("1e300", Some(1e300), None),
        ("1e999", None, None),
        ("\"\"", None, None),
        ("\" 12\"", None, None),
        ("\"inf\"", None, None),
        ("\"0x1\"", None, None),
        ("true", None, None),
        ("null", None, None),
        ("[1]", None, None),
    ];
    for (text, float, integer) in rows {
        assert_eq!((raw(text).as_f64(), raw(text).as_u64()), (float, integer), "{text}");
    }
    assert_eq!((raw("true").as_bool(), raw("\"true\"").as_bool(), raw("1").as_str()), (Some(true), None, None));
    let strings = [
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\udc00x""#, "\u{fffd}x"),
    ];
    for (text, want) in strings.into_iter().chain([(r#""\ud83d\u0041""#, "\u{fffd}A"), (r#""\u00E4€""#, "ä€")]) {
        assert_eq!(raw(text).as_str().unwrap(), want, "{text}");
    }
}

#[test]
fn peeks_into_cut_texts() {
    let brief = |text: &str, path: &[&str]| match peek(text.as_bytes(), path) {
        Peek::Found(value) => String::from_utf8_lossy(value.bytes()).into_owned(),
        other => format!("{other:?}"),
    };
    let rows: [(&str, &[&str], &str); 13] = [
        (r#"{"type":"a","x":"#, &["type"], "\"a\""),
        (r#"{"type":"a"#, &["type"], "Cut"),
        (r#"{"n":12"#, &["n"], "Cut"),
        (r#"{"n":12,"#, &["n"], "12"),
        (r#"{"n":tru"#, &["n"], "Cut"),
        (r#"{"x":[{"type":1}],"type":2}garbage"#, &["type"], "2"),
        (r#"{"r":{"id":"q"},"#, &["r", "id"], "\"q\""),
        (r#"{"r":{},"id":1"#, &["r", "id"], "Absent"),
        (r#"{"r":[1],"#, &["r", "id"], "Absent"),
        (r#"{"a":1}"#, &["type"], "Absent"),
        (r#"{"a":1"#, &["type"], "Cut"),
        (r#"{"a":x"#, &["type"], "Invalid"),
        ("", &["type"], "Cut"),
    ];
    for (text, path, want) in rows {
        assert_eq!(brief(text, path), want, "{text}");
    }
    assert_eq!(peek_str(TEXT.as_bytes(), &["a", "ab"]).unwrap(), "t😀\n");
    assert_eq!(peek_str(TEXT.as_bytes(), &["n"]), None);
}

#[test]
fn mutated_peek_equals_parse_and_strings_survive_writing() {
    const WORDS: [&[u8]; 9] = [b"\"", b"\\ud83d", b",", b"}", b"{\"b\":1}", b"\"a\":", b"[", b"\xff", b"\\"];
    let mut rng = Rng::new(8);
    for _ in 0..50_000 {
        let text = mutate(&mut rng, TEXT.as_bytes(), &WORDS);
        let path: &[&str] = [&["type"][..], &["a", "b"], &["z"], &["a", "ab"], &[]][rng.below(5)];
        let whole = peek(&text, path);
        if let Ok(value) = Raw::parse(&text) {
            match (value.at(path), whole) {
                (Some(parsed), Peek::Found(peeked)) => assert_eq!(parsed.span(), peeked.span()),
                (None, Peek::Absent) => {}
                // Only a text that is nothing but a number.
                (parsed, peeked) => assert!(parsed.is_some() && matches!(peeked, Peek::Cut)),
            }
        }
        let cut = rng.below(text.len() + 1);
        match (peek(&text[..cut], path), whole) {
            (Peek::Cut, _) | (Peek::Absent, Peek::Absent) | (Peek::Invalid, Peek::Invalid) => {}
            (Peek::Found(part), Peek::Found(whole)) => assert_eq!(part.span(), whole.span()),
            (part, whole) => panic!("{part:?} {whole:?} {}", String::from_utf8_lossy(&text)),
        }
        let (mut out, lossy) = (String::new(), String::from_utf8_lossy(&text));
        write_string(&mut out, &lossy);
        assert_eq!(raw(&out).as_str().unwrap(), lossy);
    }
}
