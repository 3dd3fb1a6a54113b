//! What a transcript of codex (a rollout: one JSON text per line) says of its thread, read from its first and its last
//! bytes. Pure: knows no file. Whatever a line does not say, or says in a form of another version, is not known.

use crate::wire::json::{Peek, Raw, peek, peek_str};
use std::borrow::Cow;

/// More of a prompt than any screen shows of it.
const MAX_WORDS: usize = 200;

/// Who began a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A person, in the terminal or an editor: what codex's own lists show.
    Interactive,
    /// Another thread.
    Agent,
    /// `exec`, a server, or something that is not known.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub id: String,
    pub cwd: Option<String>,
    pub origin: Origin,
    pub provider: Option<String>,
}

/// The id in a transcript's name, `rollout-<local time>-<uuid>.jsonl`, and whether it is compressed (`.jsonl.zst`).
pub fn named(file_name: &str) -> Option<(&str, bool)> {
    const UUID: usize = 36;
    let stem = file_name.strip_prefix("rollout-")?;
    let (stem, compressed) = match stem.strip_suffix(".zst") {
        Some(stem) => (stem, true),
        None => (stem, false),
    };
    let stem = stem.strip_suffix(".jsonl")?;
    let id = stem.get(stem.len().checked_sub(UUID)?..)?;
    let form = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    id.bytes().enumerate().all(form).then_some((id, compressed))
}

/// What the first line says; it may be cut off behind these members (the instructions after them are long).
pub fn meta(head: &[u8]) -> Option<Meta> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    // Codex before 0.40 or so had the members at the top.
    let text = |name: &str| match peek_str(line, &["type"]).as_deref() {
        Some("session_meta") => peek_str(line, &["payload", name]).map(Cow::into_owned),
        None => peek_str(line, &[name]).map(Cow::into_owned),
        _ => None,
    };
    let origin = match (text("source").as_deref(), peek(line, &["payload", "source"])) {
        // Codex reads a thread that does not say it as one of an editor.
        (Some("cli" | "vscode"), _) | (None, Peek::Absent) => Origin::Interactive,
        (None, Peek::Found(source)) if source.member("subagent").is_some() => Origin::Agent,
        _ => Origin::Other,
    };
    Some(Meta { id: text("id")?, cwd: text("cwd"), origin, provider: text("model_provider") })
}

/// The first that the user said, on one line; not cleaned, not for the terminal as it is.
pub fn words(head: &[u8]) -> Option<String> {
    let said = head.split(|byte| *byte == b'\n').find_map(message)?;
    let mut line = String::new();
    for word in said.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(MAX_WORDS));
        if line.chars().count() >= MAX_WORDS {
            break;
        }
    }
    (!line.is_empty()).then(|| line.chars().take(MAX_WORDS).collect())
}

/// What the user typed, where this line is that: codex tells it apart from the instructions that go to the model as the
/// user's, in a form of today and one of before 0.160 or so.
fn message(line: &[u8]) -> Option<String> {
    if peek_str(line, &["type"])? != "event_msg" {
        return None;
    }
    if peek_str(line, &["payload", "type"])? == "user_message" {
        return peek_str(line, &["payload", "message"]).map(Cow::into_owned);
    }
    if peek_str(line, &["payload", "item", "type"])? != "UserMessage" {
        return None;
    }
    let content = Raw::parse(line).ok()?.at(&["payload", "item", "content"])?;
    let texts = content.elements().filter_map(|part| part.member("text")?.as_str());
    Some(texts.collect::<Vec<_>>().join(" "))
}

/// Where the last turn ran, when its line stands in these last bytes.
pub fn last_cwd(tail: &[u8]) -> Option<String> {
    let turn = |line: &&[u8]| peek_str(line, &["type"]).is_some_and(|kind| kind == "turn_context");
    let line = tail.rsplit(|byte| *byte == b'\n').find(turn)?;
    peek_str(line, &["payload", "cwd"]).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01a212af-92e5-7b53-bd59-357ab4a623d6";

    #[test]
    fn the_name_tells_the_id() {
        let plain = format!("rollout-2026-11-25T12-30-26-{ID}.jsonl");
        assert_eq!(named(&plain), Some((ID, false)));
        assert_eq!(named(&format!("{plain}.zst")), Some((ID, true)));
        let strange =
            ["", "rollout-", "rollout-.jsonl", "rollout-x.jsonl", "rollout-ééééééééééééééééééééé.jsonl", "notes"];
        for name in strange {
            assert_eq!(named(name), None, "{name}");
        }
        // An id goes to codex as an argument: never an option.
        assert_eq!(named("rollout-2026---dangerously-bypass-everything-00000000.jsonl"), None);
        assert_eq!(named(&plain.replace(".jsonl", ".jsonl.tmp")), None);
    }

    #[test]
    fn the_first_line_of_each_age() {
        let of = |line: &str| meta(line.as_bytes());
        let today = format!(
            r#"{{"timestamp":"t","ordinal":0,"type":"session_meta","payload":{{"account_scoped":true,"id":"{ID}","cwd":"/w \"x\"","source":"exec","model_provider":"openai","base_instructions":{{"text":"You"#
        );
        let meta = of(&today).unwrap();
        assert_eq!((meta.id.as_str(), meta.cwd.as_deref(), meta.origin), (ID, Some("/w \"x\""), Origin::Other));
        assert_eq!(meta.provider.as_deref(), Some("openai"));
        for (source, origin) in [
            (r#""cli""#, Origin::Interactive),
            (r#""vscode""#, Origin::Interactive),
            (r#""exec""#, Origin::Other),
            (r#""mcp""#, Origin::Other),
            (r#"{"subagent":{"thread_spawn":{"depth":1}}}"#, Origin::Agent),
            ("7", Origin::Other),
        ] {
            let line = format!(r#"{{"type":"session_meta","payload":{{"id":"{ID}","source":{source}}}}}"#);
            assert_eq!(of(&line).unwrap().origin, origin, "{source}");
        }
        let oldest = of(&format!(r#"{{"id":"{ID}","timestamp":"t"}}"#)).unwrap();
        assert_eq!((oldest.cwd, oldest.origin), (None, Origin::Interactive));
        for line in ["", "\n", "{", "[]", "null", r#"{"type":"event_msg","payload":{"id":"x"}}"#, "\u{1b}[2J"] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn the_users_first_words_in_both_forms() {
        let noise = r#"{"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>"}]}}"#;
        let today = r#"{"type":"event_msg","payload":{"type":"item_completed","item":{"type":"UserMessage","content":[{"type":"image"},{"type":"text","text":"hello\n  there"}]}}}"#;
        let before = r#"{"type":"event_msg","payload":{"type":"user_message","message":"hello there"}}"#;
        for line in [today, before] {
            assert_eq!(words(format!("{noise}\n{line}\n{before}").as_bytes()).as_deref(), Some("hello there"));
        }
        assert_eq!(words(format!("{noise}\n{}", &today[..today.len() - 9]).as_bytes()), None);
        let long = before.replace("hello", &"ß".repeat(5_000));
        assert_eq!(words(long.as_bytes()).unwrap().chars().count(), MAX_WORDS);
    }

    #[test]
    fn the_last_turn_says_where_it_ran() {
        let turn = |cwd: &str| format!(r#"{{"type":"turn_context","payload":{{"turn_id":"1","cwd":"{cwd}"}}}}"#);
        let tail = format!("cut\"}}\n{}\n{}\n{{\"type\":\"event_msg\",\"payload\":{{}}}}\n", turn("/a"), turn("/b"));
        assert_eq!(last_cwd(tail.as_bytes()).as_deref(), Some("/b"));
        assert_eq!(last_cwd(b"nothing"), None);
    }
}
