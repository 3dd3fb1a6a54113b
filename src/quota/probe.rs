//! Asks the backend for usage: one account, or all of them at once. Bounded in time and size; decides nothing.
//! Knows no screen. No error here holds a token or more than one cleaned line of what a server said.

use super::usage::{self, UsageError};
use super::{Reading, snapshots};
use crate::error::Error;
use crate::net::fetch::{self, FetchError};
use crate::profile::Profile;
use crate::profile::auth::{self, Auth, Tokens};
use crate::sys::clock;
use crate::wire::json::Raw;
use crate::wire::url::Url;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// One usage call, from the look-up of the host to the end of the body (0.2.38's limit).
pub const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A real answer has 1 to 4 KiB.
const MAX_BODY: usize = 1024 * 1024;
/// Accounts asked at the same time. Nearly everybody has fewer, so that nobody waits for another's answer.
pub const AT_ONCE: usize = 64;
/// Beyond its calls, what the whole may take before the missing ones are given up.
const GRACE: Duration = Duration::from_secs(2);
/// Deep enough for a TLS handshake in a debug build (design 2.5), with room for JSON.
const STACK: usize = 512 * 1024;
/// Characters that a server may say in one of our error lines.
const MAX_MESSAGE: usize = 160;

/// What the backend said about one account.
#[derive(Debug, Clone)]
pub struct Usage {
    pub reading: Reading,
    /// Its own words: a JSON object.
    pub body: Vec<u8>,
}

/// What came of asking for one profile.
#[derive(Debug)]
pub struct Answer {
    /// The label of the login: `chatgpt`, `api-key`, `no-auth`, …
    pub auth: String,
    /// The e-mail of the login, where its tokens tell.
    pub email: Option<String>,
    /// Whose login it is: see [`snapshots::account`].
    pub account: String,
    pub usage: Result<Usage, ProbeError>,
}

/// Why there is no usage.
#[derive(Debug)]
pub enum ProbeError {
    /// The profile holds no tokens, but what this label says; and what is wrong with the file.
    NoTokens {
        label: String,
        reason: Option<String>,
    },
    /// The tokens hold characters that no header may have.
    BadTokens,
    Fetch(FetchError),
    Status {
        status: u16,
        host: String,
        /// One clean line of what the server said.
        message: Option<String>,
    },
    Usage(UsageError),
    /// The time for all accounts together was over, or the thread that asked is gone.
    Late,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::NoTokens { label, reason: None } => write!(f, "no ChatGPT login ({label})"),
            ProbeError::NoTokens { label, reason: Some(reason) } => write!(f, "no ChatGPT login ({label}: {reason})"),
            ProbeError::BadTokens => f.write_str("the tokens in its auth.json are damaged"),
            ProbeError::Fetch(error) => error.fmt(f),
            ProbeError::Status { status, host, message } => {
                write!(f, "HTTP {status} from {host}")?;
                message.iter().try_for_each(|message| write!(f, ": {message}"))
            }
            ProbeError::Usage(error) => error.fmt(f),
            ProbeError::Late => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for ProbeError {}

impl ProbeError {
    /// What the user can do about it, if anything.
    pub fn next(&self, profile: &str) -> Option<String> {
        match self {
            ProbeError::NoTokens { label, .. } if label == "api-key" => None,
            ProbeError::NoTokens { .. } | ProbeError::BadTokens => Some(format!("Log in: `prodex login -p {profile}`")),
            ProbeError::Status { status: 401, .. } => Some(format!("Log in again: `prodex login -p {profile}`")),
            ProbeError::Status { status: 404, .. } => Some("Is the base URL right?".to_owned()),
            _ => None,
        }
    }

    /// All of it on one line, for a table.
    pub fn words(&self, profile: &str) -> String {
        match self.next(profile) {
            Some(next) => format!("{self}. {next}"),
            None => self.to_string(),
        }
    }

    /// All of it as the error of a command.
    pub fn into_error(self, profile: &str) -> Error {
        let error = Error::new(format!("cannot read the quota of profile '{profile}': {self}"));
        match self.next(profile) {
            Some(next) => error.next(next),
            None => error,
        }
    }
}

/// Where usage is asked (spec S-40): a base without `/backend-api` speaks the other path style.
pub fn usage_url(base: &str) -> Result<Url, Error> {
    let trimmed = base.trim().trim_end_matches('/');
    let path = if trimmed.contains("/backend-api") { "/wham/usage" } else { "/api/codex/usage" };
    Url::parse(&format!("{trimmed}{path}")).map_err(|error| {
        Error::new(format!("the base URL '{base}' cannot be used: {error}"))
            .next("Correct --base-url or CODEX_CHATGPT_BASE_URL.")
    })
}

/// One usage call with these credentials.
pub fn fetch(url: &Url, tokens: &Tokens, deadline: Instant) -> Result<Usage, ProbeError> {
    let token = tokens.access_token.expose();
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("Authorization", authorization.as_str()), ("User-Agent", "codex-cli")];
    if let Some(account) = tokens.account_id.as_deref().filter(|account| !account.is_empty()) {
        headers.push(("ChatGPT-Account-Id", account));
    }
    // auth.json is a file like any other: a line break in it must not become a header.
    if token.is_empty() || headers.iter().any(|(_, value)| !value.bytes().all(|b| (b' '..=b'~').contains(&b))) {
        return Err(ProbeError::BadTokens);
    }
    let answer = fetch::get(url, &headers, deadline, MAX_BODY).map_err(ProbeError::Fetch)?;
    if answer.status != 200 {
        let message = message(&answer.body, token);
        return Err(ProbeError::Status { status: answer.status, host: url.authority(), message });
    }
    let reading = usage::parse(&answer.body, clock::unix()).map_err(ProbeError::Usage)?;
    Ok(Usage { reading, body: answer.body })
}

/// Asks for one profile.
pub fn fetch_one(url: &Url, profile: &Profile, call_limit: Duration) -> Answer {
    ask(url, &auth::read(&profile.codex_home), call_limit)
}

/// Asks for one profile on a thread of its own. False when there can be none.
pub fn fetch_apart(
    url: Url,
    profile: Profile,
    call_limit: Duration,
    arrived: impl FnOnce(Answer) + Send + 'static,
) -> bool {
    let work = move || arrived(fetch_one(&url, &profile, call_limit));
    std::thread::Builder::new().name("quota".to_owned()).stack_size(STACK).spawn(work).is_ok()
}

/// Asks for every profile at once, and gives each answer with its index as it arrives; every index comes exactly once.
/// Never takes longer than the calls of a full crew one after another, and a little.
pub fn fetch_all(url: &Url, profiles: &[Profile], call_limit: Duration, mut arrived: impl FnMut(usize, Answer)) {
    let auths: Arc<[Auth]> = profiles.iter().map(|profile| auth::read(&profile.codex_home)).collect();
    let rounds = u32::try_from(profiles.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    let limit = call_limit.saturating_mul(rounds).saturating_add(GRACE);
    let (asked, url, shared) = (url.clone(), url.clone(), Arc::clone(&auths));
    let work = move |index: usize| shared.get(index).map(|auth| ask(&url, auth, call_limit));
    spread(profiles.len(), limit, work, |index, answer| {
        let late = || Answer { usage: Err(ProbeError::Late), ..known(&asked, &auths[index]) };
        arrived(index, answer.flatten().unwrap_or_else(late));
    });
}

fn ask(url: &Url, auth: &Auth, call_limit: Duration) -> Answer {
    let answer = known(url, auth);
    let Some(tokens) = auth.tokens() else { return answer };
    Answer { usage: fetch(url, tokens, clock::now() + call_limit), ..answer }
}

/// What the file tells without asking anybody.
fn known(url: &Url, auth: &Auth) -> Answer {
    let label = auth.label().to_owned();
    let reason = match auth {
        Auth::Unreadable(reason) | Auth::Invalid(reason) => Some(reason.clone()),
        _ => None,
    };
    let usage = Err(ProbeError::NoTokens { label: label.clone(), reason });
    let account = snapshots::account(auth.tokens().and_then(|tokens| tokens.account_id.as_deref()), url);
    Answer { auth: label, email: auth.email().map(str::to_owned), account, usage }
}

/// Does `work` for 0 to `count`-1 on at most `AT_ONCE` threads, and gives the results as they come; `None` for what was
/// not done when `limit` is over. A thread that hangs is left behind.
fn spread<T: Send + 'static>(
    count: usize,
    limit: Duration,
    work: impl Fn(usize) -> T + Send + Sync + 'static,
    mut each: impl FnMut(usize, Option<T>),
) {
    let until = clock::now() + limit;
    let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let (tell, results) = mpsc::channel();
    for _ in 0..count.min(AT_ONCE) {
        let (work, next, tell) = (Arc::clone(&work), Arc::clone(&next), tell.clone());
        let crew = std::thread::Builder::new().name("quota".to_owned()).stack_size(STACK).spawn(move || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || tell.send((index, work(index))).is_err() {
                    break;
                }
            }
        });
        // The threads that could be started do it all; without any, everything is reported as not done.
        if crew.is_err() {
            break;
        }
    }
    drop(tell);
    let mut missing = vec![true; count];
    while let Ok((index, result)) = results.recv_timeout(until.saturating_duration_since(clock::now())) {
        missing[index] = false;
        each(index, Some(result));
    }
    next.store(count, Ordering::Relaxed);
    for (index, _) in missing.iter().enumerate().filter(|(_, missing)| **missing) {
        each(index, None);
    }
}

/// One clean line of what a server said with an error: the message of a JSON error, or the first line of plain text.
/// Nothing of a web page, and nothing that may hold the token.
fn message(body: &[u8], token: &str) -> Option<String> {
    const PLACES: [&[&str]; 6] =
        [&["error", "message"], &["error"], &["detail", "message"], &["detail"], &["message"], &["error", "code"]];
    let text = match Raw::parse(body) {
        Ok(json) => PLACES.iter().find_map(|place| Some(json.at(place)?.as_str()?.into_owned()))?,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned(),
    };
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let secret: String = token.chars().take(16).collect();
    if line.starts_with('<') || line.contains(&secret) {
        return None;
    }
    let clean: String = line.chars().map(|c| if c.is_control() || c == '\u{fffd}' { ' ' } else { c }).collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = clean.chars().take(MAX_MESSAGE).collect();
    let more = if short.len() < clean.len() { "…" } else { "" };
    (!short.is_empty()).then(|| short + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_follows_the_base() {
        let rows = [
            ("https://chatgpt.com/backend-api", "https://chatgpt.com/backend-api/wham/usage"),
            ("http://127.0.0.1:8/x/backend-api//", "http://127.0.0.1:8/x/backend-api/wham/usage"),
            ("http://127.0.0.1:8", "http://127.0.0.1:8/api/codex/usage"),
            ("http://h/codex/", "http://h/codex/api/codex/usage"),
        ];
        for (base, url) in rows {
            assert_eq!(usage_url(base).unwrap().to_string(), url);
        }
        for bad in ["", "chatgpt.com", "ftp://x", "http://"] {
            assert!(usage_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_servers_words_are_one_clean_line_or_nothing() {
        let token = "eyJhbGciOiJSUzI1NiJ9.secret";
        let rows: [(&[u8], Option<&str>); 9] = [
            (br#"{"error":{"message":"Your token\nhas expired","code":"x"}}"#, Some("Your token")),
            (br#"{"detail":"Unauthorized"}"#, Some("Unauthorized")),
            (br#"{"error":{"code":"token_expired"}}"#, Some("token_expired")),
            (br#"{"a":1}"#, None),
            (b"<!DOCTYPE html><html>\n<title>x</title>", None),
            (b"\n\n  upstream \x1b[31mgone\t now\r\nmore", Some("upstream [31mgone now")),
            (b"bad Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.secret", None),
            (b"", None),
            (b"\xff\xfe", None),
        ];
        for (body, expected) in rows {
            assert_eq!(message(body, token).as_deref(), expected, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(message(&b"x".repeat(500), token).unwrap().chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn every_index_comes_once_and_a_hanging_one_is_given_up() {
        let mut seen = [0; 50];
        spread(
            50,
            Duration::from_mins(1),
            |index| index * 2,
            |index, result| {
                assert_eq!(result, Some(index * 2));
                seen[index] += 1;
            },
        );
        assert!(seen.iter().all(|&times| times == 1));

        // One waits for what never comes, one dies: the others are not held up and both are reported.
        let (never, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let mut missing = Vec::new();
        let work = move |index| match index {
            1 => drop(wait.lock().unwrap().recv()),
            2 => panic!("on purpose"),
            _ => {}
        };
        spread(4, Duration::from_secs(2), work, |index, result| {
            if result.is_none() {
                missing.push(index);
            }
        });
        assert_eq!(missing, [1, 2]);
        drop(never);
        spread(0, Duration::ZERO, |_| (), |_, _| panic!("nothing to do"));
    }

    #[test]
    fn errors_say_what_to_type() {
        let status = |status| ProbeError::Status { status, host: "h:1".to_owned(), message: Some("no".to_owned()) };
        assert_eq!(status(401).words("a"), "HTTP 401 from h:1: no. Log in again: `prodex login -p a`");
        assert_eq!(status(503).words("a"), "HTTP 503 from h:1: no");
        assert_eq!(
            ProbeError::NoTokens { label: "api-key".to_owned(), reason: None }.words("a"),
            "no ChatGPT login (api-key)"
        );
        assert_eq!(
            status(401).into_error("a").to_string(),
            "cannot read the quota of profile 'a': HTTP 401 from h:1: no. Log in again: `prodex login -p a`"
        );
    }
}
