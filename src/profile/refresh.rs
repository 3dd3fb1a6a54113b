//! New tokens for a login whose access token is refused or about to expire (spec S-32). Prodex is no second refresher that
//! races codex: a refresh token works once, so this happens under codex's own lock, after reading again, never under a
//! codex that prodex launched, and once per token whatever the server says.
//!
//! Knows no network: the caller brings the POST (`net::fetch::post`). One refresh at a time per home and process is the
//! caller's; of two processes at once one asks and the other gets `Elsewhere`.

use super::authfile::Locked;
use super::{auth, in_use, login_needed, refusal};
use crate::state::file;
use crate::sys::clock;
use crate::wire::json::{Raw, write_string};
use crate::wire::url::Url;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where codex asks, and the variable by which it is told otherwise.
const TOKEN_URL: &str = "https://auth.openai.com/oauth/token";
const TOKEN_URL_VARIABLE: &str = "CODEX_REFRESH_TOKEN_URL_OVERRIDE";
/// Codex's own, for files that do not say by which client they were made.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// Codex refreshes an access token that ends sooner than this.
pub const MARGIN_SECONDS: u64 = 300;
/// The largest answer that is read: three tokens of a few KB each.
pub const MAX_ANSWER: usize = 256 * 1024;
/// Whoever holds the lock longer than this is refreshing, and there will be a new token soon.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// With less time than this nothing is sent: an answer that comes too late is a login lost.
const LEAST_TIME: Duration = Duration::from_millis(500);

/// Sends a POST and gives status and body, or why there is none, in words without secrets.
pub type Post<'a> = &'a dyn Fn(&Url, &[(&str, &str)], &[u8], Instant) -> Result<(u16, Vec<u8>), String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// By us: auth.json holds new tokens.
    Here,
    /// auth.json holds another access token than the refused one already, or one that is not about to expire.
    Elsewhere,
}

/// No variant holds a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshError {
    /// The server refused for good; remembered, see `login_needed`. Only a new login helps.
    Permanent(String),
    /// Another time it may work.
    Transient(String),
    /// No login, or one that cannot be refreshed.
    NoRefreshToken,
    /// Somebody else held the login's lock until the deadline.
    Busy,
    /// A codex that prodex launched runs in this home, and refreshes for itself; by the process id of its prodex.
    InUse(u32),
    /// auth.json cannot be read or written.
    File(String),
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefreshError::Permanent(reason) => write!(f, "log in again: {reason}"),
            RefreshError::Transient(words) => write!(f, "the login cannot be refreshed now: {words}"),
            RefreshError::NoRefreshToken => f.write_str("the login holds no refresh token"),
            RefreshError::Busy => f.write_str("another process is busy with this login"),
            RefreshError::InUse(pid) => write!(f, "codex runs with this login (prodex process {pid})"),
            RefreshError::File(words) => write!(f, "auth.json: {words}"),
        }
    }
}

impl std::error::Error for RefreshError {}

/// Gets new tokens for the login in `codex_home`. `rejected` is the access token that was refused, or "" when it is about
/// to expire; `now` are Unix seconds. Give `deadline` 30 s: whoever gives up on an answer may have spent the token.
pub fn refresh(
    codex_home: &Path,
    rejected: &str,
    now: u64,
    deadline: Instant,
    post: Post,
) -> Result<Refreshed, RefreshError> {
    let file = |error: io::Error| RefreshError::File(error.to_string());
    if !codex_home.join("auth.json").is_file() {
        // Also: no lock file where nobody ever logged in.
        return Err(RefreshError::NoRefreshToken);
    }
    // The wait for the lock leaves time for the answer: a POST that is given up may have spent the token.
    let locked =
        Locked::take(codex_home, deadline.min(clock::now() + LOCK_LIMIT)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => RefreshError::Busy,
            _ => file(error),
        })?;
    locked.recover();
    let before = locked.read().map_err(file)?;
    let login = Login::parse(&before)?;
    if !login.is_wanting(rejected, now) {
        return Ok(Refreshed::Elsewhere);
    }
    let refresh_token = login.refresh_token.clone().ok_or(RefreshError::NoRefreshToken)?;
    if let Some(reason) = login_needed(codex_home) {
        return Err(RefreshError::Permanent(reason));
    }
    if let Some(pid) = in_use(codex_home) {
        return Err(RefreshError::InUse(pid));
    }
    let url = token_url()?;
    let draft = locked.draft().map_err(file)?;
    if deadline.saturating_duration_since(clock::now()) < LEAST_TIME {
        return Err(RefreshError::Busy);
    }
    let request = request(&login, &refresh_token, rejected);
    let headers = [("Content-Type", "application/json"), ("Originator", "codex_exec"), ("User-Agent", "codex-cli")];
    let (status, body) = post(&url, &headers, request.as_bytes(), deadline).map_err(RefreshError::Transient)?;
    if status != 200 {
        let error = refused(status, &body);
        if let RefreshError::Permanent(reason) = &error {
            // Not remembered is only asked again.
            let _ = refusal::remember(codex_home, &refresh_token, reason);
        }
        return Err(error);
    }
    let answer = Answer::parse(&body).ok_or_else(|| transient("its answer holds no tokens"))?;
    // A codex of old, which knows no lock, may have been here meanwhile: its token is newer than ours.
    let after = locked.read().map_err(file)?;
    let login = Login::parse(&after)?;
    if login.refresh_token.as_deref() != Some(&refresh_token) {
        return Ok(Refreshed::Elsewhere);
    }
    let text = login.with(&answer, now).ok_or_else(|| RefreshError::File("it changed while it was read".to_owned()))?;
    draft.publish(&text).map_err(file)?;
    refusal::forget(codex_home);
    match answer.access {
        Some(token) if token != rejected => Ok(Refreshed::Here),
        // Codex asks again and again here (wire.md 7).
        _ => Err(transient("it gave no new access token")),
    }
}

fn transient(what: &str) -> RefreshError {
    RefreshError::Transient(format!("the login server answered, but {what}"))
}

fn token_url() -> Result<Url, RefreshError> {
    let text = std::env::var(TOKEN_URL_VARIABLE).ok().filter(|text| !text.is_empty());
    Url::parse(text.as_deref().unwrap_or(TOKEN_URL))
        .map_err(|bad| RefreshError::Transient(format!("{TOKEN_URL_VARIABLE} is no usable URL: {bad}")))
}

/// The members in codex's order.
fn request(login: &Login, refresh_token: &str, rejected: &str) -> String {
    let reason = if rejected.is_empty() { "proactive_expiry" } else { "unauthorized_recovery" };
    let client = login.text(&["tokens", "oauth_provenance", "client_id"]);
    let mut body = String::from("{\"client_id\":");
    write_string(&mut body, client.as_deref().unwrap_or(CLIENT_ID));
    body.push_str(",\"grant_type\":\"refresh_token\",\"refresh_reason\":");
    write_string(&mut body, reason);
    body.push_str(",\"refresh_token\":");
    write_string(&mut body, refresh_token);
    body.push('}');
    body
}

/// What an answer other than 200 means. Of its text only the error's code is used: the rest may say anything.
fn refused(status: u16, body: &[u8]) -> RefreshError {
    let code = error_code(body);
    let code = code.as_deref().unwrap_or_default();
    let for_good = code == "invalid_grant" || code.starts_with("refresh_token_");
    if for_good && matches!(status, 400 | 401 | 403) {
        return RefreshError::Permanent(match code {
            "refresh_token_reused" => "its refresh token was used already, by another copy of this login".to_owned(),
            "refresh_token_expired" => "its refresh token expired".to_owned(),
            "refresh_token_invalidated" => "its refresh token was revoked".to_owned(),
            code => format!("its refresh token was refused ({code})"),
        });
    }
    let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
    RefreshError::Transient(format!("the login server answered with HTTP {status}{code}"))
}

/// `error.code`, the OAuth way `"error": "code"`, or a bare `code`; only if it looks like one.
fn error_code(body: &[u8]) -> Option<String> {
    let root = Raw::parse(body).ok()?;
    let places = [&["error", "code"][..], &["error"], &["code"], &["error", "type"]];
    let code = places.iter().find_map(|path| root.at(path)?.as_str())?.into_owned();
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (code.len() <= 64 && code.bytes().all(is_word)).then_some(code)
}

/// The tokens of an answer. One that is absent, or that no header could carry, leaves the old one in place.
struct Answer {
    id: Option<String>,
    access: Option<String>,
    refresh: Option<String>,
}

impl Answer {
    /// `None` when there is not one token in it.
    fn parse(body: &[u8]) -> Option<Answer> {
        let root = Raw::parse(body).ok()?;
        let token = |name| {
            let token = root.member(name)?.as_str()?.into_owned();
            (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
        };
        let answer = Answer { id: token("id_token"), access: token("access_token"), refresh: token("refresh_token") };
        (answer.id.is_some() || answer.access.is_some() || answer.refresh.is_some()).then_some(answer)
    }
}

/// Another of the homes that holds the same refresh token (a copied login): it is good for one refresh, so whoever uses
/// it here logs the other one out. Codex may do that for its user; prodex does not do it unasked.
pub fn twin<'a>(codex_home: &Path, homes: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let token = |home: &Path| {
        let bytes = file::read_bounded(&home.join("auth.json"), auth::MAX_BYTES).ok()?;
        Login::parse(&bytes).ok()?.refresh_token
    };
    let own = token(codex_home)?;
    homes.iter().find(|other| *other != codex_home && token(other).as_ref() == Some(&own))
}

/// An auth.json as it stands. Edited in place, so that every byte that is not ours to change stays.
struct Login<'a> {
    bytes: &'a [u8],
    root: Raw<'a>,
    access_token: String,
    refresh_token: Option<String>,
}

impl Login<'_> {
    fn parse(bytes: &[u8]) -> Result<Login<'_>, RefreshError> {
        let root = Raw::parse(bytes).map_err(|error| RefreshError::File(format!("it is no JSON: {error}")))?;
        let token = |name| {
            let token = root.at(&["tokens", name])?.as_str()?.into_owned();
            (!token.is_empty()).then_some(token)
        };
        let access_token = token("access_token").ok_or(RefreshError::NoRefreshToken)?;
        Ok(Login { bytes, root, access_token, refresh_token: token("refresh_token") })
    }

    fn text(&self, path: &[&str]) -> Option<String> {
        Some(self.root.at(path)?.as_str()?.into_owned())
    }

    /// Whether this access token is the refused one, or about to expire.
    fn is_wanting(&self, rejected: &str, now: u64) -> bool {
        if !rejected.is_empty() {
            return self.access_token == rejected;
        }
        super::auth::expires_at(&self.access_token).is_some_and(|at| at < now.saturating_add(MARGIN_SECONDS))
    }

    fn with(&self, answer: &Answer, now: u64) -> Option<Vec<u8>> {
        let tokens = [("id_token", &answer.id), ("access_token", &answer.access), ("refresh_token", &answer.refresh)];
        let when = timestamp(now);
        let mut edits = vec![self.edit(&[], "last_refresh", &when)?];
        for (name, token) in tokens {
            if let Some(token) = token {
                edits.push(self.edit(&["tokens"], name, token)?);
            }
        }
        // From the end, so that the places before stay right. Two new members at one place may come in any order.
        edits.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(place.start));
        let mut text = self.bytes.to_vec();
        for (place, new) in edits {
            text.splice(place, new.into_bytes());
        }
        Raw::parse(&text).is_ok().then_some(text)
    }

    /// What goes where so that the member of this object is that text: in its place, or as a new first one. The object
    /// is not empty, since the access token was found in it.
    fn edit(&self, object: &[&str], name: &str, text: &str) -> Option<(Range<usize>, String)> {
        let object = self.root.at(object).filter(Raw::is_object)?;
        let mut new = String::new();
        if let Some(member) = object.member(name) {
            write_string(&mut new, text);
            return Some((member.span(), new));
        }
        write_string(&mut new, name);
        new.push_str(": ");
        write_string(&mut new, text);
        new.push(',');
        let inside = object.span().start + 1;
        Some((inside..inside, new))
    }
}

/// RFC 3339 in UTC, spelt as codex does.
fn timestamp(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.000000000Z", second % 60)
}

/// The date that many days after 1970-01-01, counted in eras of 400 years that begin on a 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
