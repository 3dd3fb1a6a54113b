//! Workspace routing (`wire.md` 1.1): what `accounts/check` says of an account, what codex is told instead, and where a
//! profile's model requests go therefore. Pure.

use crate::wire::json::{Raw, write_string};
use crate::wire::url::{Scheme, Url};

/// What keeps codex with the base URLs that it was given, in every version seen (`wire.md` 0.2 F): its model base does
/// not look first-party, so this origin is never contacted.
const ORIGIN_FOR_CODEX: &str = "https://chatgpt.com";
const NO_CONSTRAINT: &str = "NO_CONSTRAINT";

/// Where one account's model requests belong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Another origin than the base's.
    pub origin: Option<Url>,
    /// `x-openai-account-routing-override: us`
    pub us: bool,
}

pub const OVERRIDE_HEADER: &str = "x-openai-account-routing-override";
pub const OVERRIDE_US: &str = "us";

/// Reads the account's own line. An unreadable answer, or one without it, is no constraint.
pub fn placement(answer: &[u8], account_id: Option<&str>) -> Placement {
    let Some(account) = account(answer, account_id) else { return Placement::default() };
    let word = |name| account.member(name).and_then(|value| value.as_str());
    let origin = word("workspace_backend_origin")
        .filter(|origin| origin != NO_CONSTRAINT)
        .and_then(|origin| Url::parse(&origin).ok())
        .filter(|origin| origin.scheme == Scheme::Https && origin.path.is_empty());
    let us = word("account_routing_override").is_some_and(|word| word == "us" || word == "us_cr");
    Placement { origin, us }
}

/// Where a profile's model requests go: the base that the user named, or the origin that the backend names for the
/// account. A plain-http base is somebody's gateway or test: it is not left for another address.
pub fn model_base(base: &Url, placement: &Placement) -> Url {
    match &placement.origin {
        Some(origin) if base.scheme == Scheme::Https => Url { path: "/backend-api".to_owned(), ..origin.clone() },
        _ => base.clone(),
    }
}

/// The backend's answer with every origin replaced; `None` when codex would not accept it or miss its account there.
pub fn rewrite(answer: &[u8], account_id: Option<&str>) -> Option<Vec<u8>> {
    account(answer, account_id)?;
    let document = Raw::parse(answer).ok()?;
    let mut out = Vec::with_capacity(answer.len() + 64);
    let mut done = 0;
    for account in document.member("accounts")?.elements() {
        let Some(origin) = account.member("workspace_backend_origin") else { continue };
        let span = origin.span();
        out.extend_from_slice(answer.get(done..span.start)?);
        out.extend_from_slice(quoted(ORIGIN_FOR_CODEX).as_bytes());
        done = span.end;
    }
    out.extend_from_slice(answer.get(done..)?);
    Some(out)
}

/// What codex is told where the backend has no such answer: its own account, and nothing that would lead it away.
pub fn made_up(account_id: &str) -> Vec<u8> {
    let (id, origin) = (quoted(account_id), quoted(ORIGIN_FOR_CODEX));
    format!(
        "{{\"accounts\":[{{\"id\":{id},\"workspace_backend_origin\":{origin},\"account_routing_override\":\"{NO_CONSTRAINT}\"}}],\
         \"account_ordering\":[{id}],\"default_account_id\":{id}}}"
    )
    .into_bytes()
}

/// The entry of `account_id`, or the only one when the id is not known.
fn account<'a>(answer: &'a [u8], account_id: Option<&str>) -> Option<Raw<'a>> {
    let accounts = Raw::parse(answer).ok()?.member("accounts").filter(Raw::is_array)?;
    let mut all = accounts.elements();
    match account_id {
        Some(id) => {
            all.find(|account| account.member("id").and_then(|known| known.as_str()).is_some_and(|known| known == id))
        }
        None => all.next().filter(|_| all.next().is_none()),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_string(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"accounts":[{"id":"a","workspace_backend_origin":"NO_CONSTRAINT","account_routing_override":"us_cr","x":1},
        {"id":"b","workspace_backend_origin":"https://eu.example","account_routing_override":"NO_CONSTRAINT"},
        {"id":"c","workspace_backend_origin":"http://evil.example"}],"default_account_id":"a"}"#;

    fn of(id: &str) -> Placement {
        placement(ANSWER.as_bytes(), Some(id))
    }

    #[test]
    fn placements() {
        assert_eq!(of("a"), Placement { origin: None, us: true });
        assert_eq!(of("b"), Placement { origin: Some(Url::parse("https://eu.example").unwrap()), us: false });
        assert_eq!(of("c"), Placement::default(), "only https leads anywhere");
        assert_eq!(of("nobody"), Placement::default());
        assert_eq!(placement(b"<html>", Some("a")), Placement::default());
        assert_eq!(placement(br#"{"accounts":{"a":{}}}"#, Some("a")), Placement::default());
    }

    #[test]
    fn bases() {
        let to = |base: &str, id| model_base(&Url::parse(base).unwrap(), &of(id)).to_string();
        assert_eq!(to("https://chatgpt.com/backend-api", "a"), "https://chatgpt.com/backend-api");
        assert_eq!(to("https://chatgpt.com/backend-api", "b"), "https://eu.example/backend-api");
        assert_eq!(to("http://127.0.0.1:9/backend-api", "b"), "http://127.0.0.1:9/backend-api");
    }

    #[test]
    fn codex_hears_of_one_origin_and_all_else_is_kept() {
        let told = rewrite(ANSWER.as_bytes(), Some("a")).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches(r#""workspace_backend_origin":"https://chatgpt.com""#).count(), 3);
        assert_eq!(
            told.replace("https://chatgpt.com", ""),
            ANSWER
                .replace("NO_CONSTRAINT\",\"account", "\",\"account")
                .replace("https://eu.example", "")
                .replace("http://evil.example", "")
        );
        assert_eq!(rewrite(ANSWER.as_bytes(), Some("missing")), None);
        assert_eq!(rewrite(b"nonsense", Some("a")), None);
        let made_up = made_up("a\"b");
        assert_eq!(
            Raw::parse(&made_up).unwrap().member("default_account_id").unwrap().as_str().as_deref(),
            Some("a\"b")
        );
        assert!(!placement(&made_up, Some("a\"b")).us);
    }
}
