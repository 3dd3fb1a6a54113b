use super::*;
use crate::profile::mark;
use crate::state::scratch::Scratch;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::cell::RefCell;
use std::fs;

const NOW: u64 = 1_795_574_904;

const LOGIN: &str = "{\"z\": 1.50E+3,\t\"tokens\":{ \"access_token\" :\"old\", \"new\\u00e4\": [ ],\r\n \"refresh_token\":\"rt-0\",
  \"oauth_provenance\":{\"client_id\":\"app_x\"}, \"account_id\":\"a\"} , \"last_refresh\":null, \"OPENAI_API_KEY\":null}\n\n";

fn soon() -> Instant {
    clock::now() + Duration::from_secs(5)
}

fn home(login: &str) -> Scratch {
    let dir = Scratch::new("refresh");
    fs::write(dir.path("auth.json"), login).unwrap();
    dir
}

/// One refresh against a server that says this; what it was sent, and what came of it.
fn ask(dir: &Scratch, rejected: &str, status: u16, answer: &str) -> (Vec<String>, Result<Refreshed, RefreshError>) {
    let sent = RefCell::new(Vec::new());
    let post = |_: &Url, headers: &[(&str, &str)], body: &[u8], _: Instant| {
        assert_eq!(headers[0], ("Content-Type", "application/json"));
        sent.borrow_mut().push(String::from_utf8(body.to_vec()).unwrap());
        Ok((status, answer.as_bytes().to_vec()))
    };
    let result = refresh(dir.root(), rejected, NOW, soon(), &post);
    (sent.into_inner(), result)
}

fn login(dir: &Scratch) -> String {
    fs::read_to_string(dir.path("auth.json")).unwrap()
}

#[test]
fn only_the_tokens_and_the_time_change() {
    let dir = home(LOGIN);
    let answer = r#"{"access_token":"new","refresh_token":"rt-1","id_token":"","expires_in":1}"#;
    let (sent, result) = ask(&dir, "old", 200, answer);
    assert_eq!(result, Ok(Refreshed::Here));
    let request = r#"{"client_id":"app_x","grant_type":"refresh_token","refresh_reason":"unauthorized_recovery","refresh_token":"rt-0"}"#;
    assert_eq!(sent, [request]);
    let expected = LOGIN
        .replace("\"old\"", "\"new\"")
        .replace("rt-0", "rt-1")
        .replace("\"last_refresh\":null", "\"last_refresh\":\"2026-11-25T02:48:24.000000000Z\"");
    assert_eq!(login(&dir), expected);
    // The one who comes second finds it done.
    assert_eq!(ask(&dir, "old", 500, ""), (vec![], Ok(Refreshed::Elsewhere)));
}

#[test]
fn members_that_were_not_there_are_added() {
    let dir = home(r#"{"tokens":{"access_token":"old","refresh_token":"r"}}"#);
    let (sent, result) = ask(&dir, "old", 200, r#"{"access_token":"new","id_token":"i\"d"}"#);
    assert_eq!(result, Ok(Refreshed::Here));
    assert!(sent[0].contains(CLIENT_ID));
    let text = login(&dir);
    let root = Raw::parse(text.as_bytes()).unwrap();
    let at = |path: &[&str]| root.at(path).unwrap().as_str().unwrap().into_owned();
    assert_eq!((at(&["tokens", "access_token"]), at(&["tokens", "refresh_token"])), ("new".into(), "r".into()));
    assert_eq!(at(&["tokens", "id_token"]), "i\"d");
    assert_eq!(at(&["last_refresh"]), "2026-11-25T02:48:24.000000000Z");
}

#[test]
fn refusals_by_status_and_code() {
    let rows = [
        (401, r#"{"error":{"code":"refresh_token_reused","message":"rt-0"}}"#, true),
        (401, r#"{"error":{"code":"refresh_token_expired"}}"#, true),
        (403, r#"{"error":{"code":"refresh_token_invalidated"}}"#, true),
        (400, r#"{"error":"invalid_grant"}"#, true),
        (400, r#"{"code":"refresh_token_new_word"}"#, true),
        (500, r#"{"error":"invalid_grant"}"#, false),
        (401, r#"{"error":{"code":"\u001b[2J rt-0"}}"#, false),
        (403, "<html>rt-0", false),
        (429, "{}", false),
        (503, "", false),
        (200, "", false),
        (200, r#"{"access_token":"a b\r\n"}"#, false),
        (200, r#"{"access_token":5}"#, false),
        (302, "", false),
    ];
    for (status, answer, for_good) in rows {
        let dir = home(LOGIN);
        let (sent, result) = ask(&dir, "old", status, answer);
        let error = result.unwrap_err();
        assert_eq!(sent.len(), 1);
        assert_eq!(matches!(error, RefreshError::Permanent(_)), for_good, "{status} {answer}: {error}");
        assert!(!error.to_string().contains("rt-0") && !error.to_string().contains('\u{1b}'), "{error}");
        assert_eq!(login(&dir), LOGIN);
        assert_eq!(login_needed(dir.root()).is_some(), for_good);
        // What is refused for good is not asked again, until there is another token.
        let (sent, _) = ask(&dir, "old", 500, "");
        assert_eq!(sent.is_empty(), for_good);
        fs::write(dir.path("auth.json"), LOGIN.replace("rt-0", "rt-9")).unwrap();
        assert_eq!(ask(&dir, "old", 200, r#"{"access_token":"n"}"#).1, Ok(Refreshed::Here));
    }
}

#[test]
fn what_cannot_be_refreshed_is_not() {
    let rows = [
        ("{\"tokens\":{\"access_token\":\"old\"}}", Err(RefreshError::NoRefreshToken)),
        ("{\"OPENAI_API_KEY\":\"sk\"}", Err(RefreshError::NoRefreshToken)),
        ("[]", Err(RefreshError::NoRefreshToken)),
        ("{\"tokens\":{\"access_token\":\"other\"}}", Ok(Refreshed::Elsewhere)),
    ];
    for (login, expected) in rows {
        assert_eq!(ask(&home(login), "old", 500, ""), (vec![], expected), "{login}");
    }
    assert!(matches!(ask(&home("{"), "old", 500, "").1, Err(RefreshError::File(_))));
    let empty = Scratch::new("refresh-empty");
    assert_eq!(ask(&empty, "old", 500, "").1, Err(RefreshError::NoRefreshToken));
    assert_eq!(fs::read_dir(empty.root()).unwrap().count(), 0);

    let dir = home(LOGIN);
    let mark = mark(dir.root()).unwrap();
    assert_eq!(ask(&dir, "old", 200, "").1, Err(RefreshError::InUse(std::process::id())));
    drop(mark);
    let held = Locked::take(dir.root(), soon()).unwrap();
    let post = |_: &Url, _: &[(&str, &str)], _: &[u8], _: Instant| Err("sent".to_owned());
    let at_once = refresh(dir.root(), "old", NOW, clock::now(), &post);
    assert_eq!(at_once, Err(RefreshError::Busy));
    drop(held);
    assert_eq!(refresh(dir.root(), "old", NOW, clock::now(), &post), Err(RefreshError::Busy), "too late to ask");
    assert_eq!(refresh(dir.root(), "old", NOW, soon(), &post), Err(RefreshError::Transient("sent".into())));
    let mut left: Vec<_> = fs::read_dir(dir.root()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, [".prodex-in-use.lock", "auth.json", "auth.lock"]);
}

#[test]
fn expiry_is_five_minutes_ahead() {
    let login = |exp: &str| {
        let token = format!("e30.{}.s", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}")));
        home(&LOGIN.replace("\"old\"", &format!("\"{token}\"")))
    };
    for (exp, asked) in [("1795575203", 1), ("1795575204", 0), ("0", 1), ("\"never\"", 0)] {
        let (sent, _) = ask(&login(exp), "", 200, r#"{"access_token":"new"}"#);
        assert_eq!(sent.len(), asked, "{exp}");
        assert!(sent.iter().all(|body| body.contains("proactive_expiry")));
    }
}

#[test]
fn a_new_refresh_token_is_kept_also_without_a_new_access_token() {
    let dir = home(LOGIN);
    assert!(matches!(ask(&dir, "old", 200, r#"{"refresh_token":"rt-1"}"#).1, Err(RefreshError::Transient(_))));
    assert!(login(&dir).contains("rt-1") && login(&dir).contains("\"old\""));
}

#[test]
fn a_login_made_meanwhile_wins() {
    let dir = home(LOGIN);
    let post = |_: &Url, _: &[(&str, &str)], _: &[u8], _: Instant| {
        fs::write(dir.path("auth.json"), LOGIN.replace("rt-0", "rt-theirs")).unwrap();
        Ok((200, br#"{"access_token":"n","refresh_token":"rt-ours"}"#.to_vec()))
    };
    assert_eq!(refresh(dir.root(), "old", NOW, soon(), &post), Ok(Refreshed::Elsewhere));
    assert!(login(&dir).contains("rt-theirs"));
}

#[test]
fn timestamps() {
    for (unix, text) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_399, "2000-02-28T23:59:59"),
        (951_782_400, "2000-02-29T00:00:00"),
        (1_795_574_904, "2026-11-25T02:48:24"),
        (4_107_542_400, "2100-03-01T00:00:00"),
    ] {
        assert_eq!(timestamp(unix), format!("{text}.000000000Z"));
    }
    timestamp(u64::MAX);
}
