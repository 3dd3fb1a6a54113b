//! `auth.json` of a `CODEX_HOME`: what kind of login it is, its access token, and what the token says about the account.
//! Reads only: codex owns the file. The claims of a token are not verified, as codex does not; they are shown and
//! compared, never trusted. No secret leaves through Debug or Display.

use crate::state::file;
use crate::wire::json::Raw;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet::URL_SAFE, engine::DecodePaddingMode};
use std::fmt;
use std::io;
use std::path::Path;

/// Codex writes a few KB.
pub const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No file: nobody is logged in.
    Missing,
    /// The file is there and cannot be read; why.
    Unreadable(String),
    /// The file says something that is no login; what.
    Invalid(String),
    ApiKey,
    ChatGpt(Tokens),
    /// No file, and codex is told to keep the login in the system's keyring; with `auto` there may be none.
    Keyring {
        auto: bool,
    },
    /// The `auth_mode` of a kind that we do not know.
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Visible ASCII only: it goes into a header.
    pub access_token: Secret,
    /// `tokens.account_id` of the file, which codex sends as `ChatGPT-Account-ID`; no field, no header. Visible ASCII.
    pub account_id: Option<String>,
    pub email: Option<String>,
    pub plan: Option<String>,
    pub user_id: Option<String>,
    /// The account id that the tokens claim: for comparing, where the file has none; never for a header.
    pub claimed_account_id: Option<String>,
    /// `exp` of the access token, Unix seconds.
    pub expires_at: Option<u64>,
}

impl Auth {
    /// The words of 0.2.38.
    pub fn label(&self) -> &str {
        match self {
            Auth::Missing => "no-auth",
            Auth::Unreadable(_) => "unreadable-auth",
            Auth::Invalid(_) => "invalid-auth",
            Auth::ApiKey => "api-key",
            Auth::ChatGpt(_) => "chatgpt",
            Auth::Keyring { auto: false } => "keyring",
            Auth::Keyring { auto: true } => "no-auth-or-keyring",
            Auth::Other(mode) => mode,
        }
    }

    pub fn tokens(&self) -> Option<&Tokens> {
        match self {
            Auth::ChatGpt(tokens) => Some(tokens),
            _ => None,
        }
    }

    /// The e-mail of the login, where it has one.
    pub fn email(&self) -> Option<&str> {
        self.tokens()?.email.as_deref()
    }
}

/// What is in this home now. Asked again whenever it matters: codex replaces the file when it refreshes.
pub fn read(codex_home: &Path) -> Auth {
    match file::read_bounded(&codex_home.join("auth.json"), MAX_BYTES) {
        Ok(bytes) => parse(&bytes),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => match store(codex_home).as_deref() {
                Some("keyring") => Auth::Keyring { auto: false },
                Some("auto") => Auth::Keyring { auto: true },
                _ => Auth::Missing,
            },
            io::ErrorKind::FileTooLarge => Auth::Invalid(format!("auth.json is {error}")),
            _ => Auth::Unreadable(error.to_string()),
        },
    }
}

fn parse(bytes: &[u8]) -> Auth {
    let root = match Raw::parse(bytes) {
        Ok(root) => root,
        Err(error) => return Auth::Invalid(format!("auth.json is no JSON: {error}")),
    };
    let mode = text(&root, &["auth_mode"]);
    if matches!(mode.as_deref(), Some("apikey" | "api_key")) {
        return Auth::ApiKey;
    }
    if let Some(token) = text(&root, &["tokens", "access_token"]) {
        return tokens(&root, token);
    }
    if text(&root, &["OPENAI_API_KEY"]).is_some() {
        return Auth::ApiKey;
    }
    match mode {
        Some(mode) if mode.len() <= 40 && is_visible(&mode) => Auth::Other(mode),
        _ if !root.is_object() => Auth::Invalid("auth.json is no JSON object".to_owned()),
        _ => Auth::Other("auth-present".to_owned()),
    }
}

fn tokens(root: &Raw, access_token: String) -> Auth {
    if !is_visible(&access_token) {
        return Auth::Invalid("the access token holds characters that no header may carry".to_owned());
    }
    let account_id = text(root, &["tokens", "account_id"]);
    if account_id.as_deref().is_some_and(|id| !is_visible(id)) {
        return Auth::Invalid("the account id holds characters that no header may carry".to_owned());
    }
    let id = text(root, &["tokens", "id_token"]).and_then(|token| payload(&token));
    let access = payload(&access_token);
    // The id_token speaks of the account; the access token repeats most of it.
    let claim = |path: &[&str]| {
        let mut payloads = [id.as_deref(), access.as_deref()].into_iter().flatten();
        payloads.find_map(|bytes| text(&Raw::parse(bytes).ok()?, path).filter(|claim| is_decent(claim)))
    };
    let exp = expires_at(&access_token);
    Auth::ChatGpt(Tokens {
        email: claim(&["email"]).or_else(|| claim(&[PROFILE_CLAIM, "email"])),
        plan: claim(&[AUTH_CLAIM, "chatgpt_plan_type"]),
        user_id: claim(&[AUTH_CLAIM, "chatgpt_user_id"]).or_else(|| claim(&[AUTH_CLAIM, "user_id"])),
        claimed_account_id: claim(&[AUTH_CLAIM, "chatgpt_account_id"]),
        expires_at: exp,
        account_id,
        access_token: Secret(access_token),
    })
}

/// `exp` of a JWT, Unix seconds.
pub fn expires_at(token: &str) -> Option<u64> {
    Raw::parse(&payload(token)?).ok()?.member("exp")?.as_u64()
}

const PROFILE_CLAIM: &str = "https://api.openai.com/profile";
const AUTH_CLAIM: &str = "https://api.openai.com/auth";

/// The payload of a JWT. JWTs come without padding (RFC 7515); one with padding is not worth a lost e-mail.
fn payload(token: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let part = token.split('.').nth(1)?;
    GeneralPurpose::new(&URL_SAFE, LENIENT).decode(part).ok()
}

/// A string that is there and not empty.
fn text(root: &Raw, path: &[&str]) -> Option<String> {
    let text = root.at(path)?.as_str()?.into_owned();
    (!text.is_empty()).then_some(text)
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Claims are shown and stored: no control characters, no longer than an e-mail address can be.
pub(super) fn is_decent(claim: &str) -> bool {
    claim.len() <= 320 && !claim.contains(char::is_control)
}

/// `cli_auth_credentials_store` at the top level of config.toml: one line, so no TOML reader for it.
pub fn store(codex_home: &Path) -> Option<String> {
    let bytes = file::read_bounded(&codex_home.join("config.toml"), MAX_BYTES).ok()?;
    let config = String::from_utf8_lossy(&bytes);
    let mut top_level = config.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    top_level.find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        (key.trim().trim_matches('"') == "cli_auth_credentials_store").then(|| value.to_owned())
    })
}

/// Text that must not be shown. Debug and Display print `***`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// For the header or the request that it is meant for, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, other: &[u8]) -> bool {
        same(self.0.as_bytes(), other)
    }
}

/// Whether both are the same, in a time that depends on lengths only: a peer must not learn a secret byte by byte.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0_u8, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

    fn jwt(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    fn file(access: &str, id: &str, more: &str) -> Auth {
        parse(format!(r#"{{"tokens":{{"access_token":"{access}","id_token":"{id}"{more}}}}}"#).as_bytes())
    }

    #[test]
    fn tokens_and_claims() {
        let id = jwt(r#"{"email":"a@b","https://api.openai.com/auth":{"chatgpt_plan_type":"plus","user_id":"u"}}"#);
        let auth = file(&jwt(r#"{"exp":1795574904}"#), &id, r#","account_id":"acct-1","new":{}"#);
        let tokens = auth.tokens().unwrap();
        assert_eq!(auth.label(), "chatgpt");
        assert_eq!(tokens.email.as_deref(), Some("a@b"));
        assert_eq!(tokens.plan.as_deref(), Some("plus"));
        assert_eq!(tokens.user_id.as_deref(), Some("u"));
        assert_eq!(tokens.account_id.as_deref(), Some("acct-1"));
        assert_eq!(tokens.expires_at, Some(1_795_574_904));
        let secret = tokens.access_token.expose().to_owned();
        assert!(!format!("{auth:?} {}", tokens.access_token).contains(&secret));

        let nested = r#"{"https://api.openai.com/profile":{"email":"p@b"},"exp":"soon"}"#;
        let padded = format!("e30.{}.s", URL_SAFE.encode(nested));
        assert_eq!(file(&padded, "junk", "").email(), Some("p@b"));
        assert_eq!(file("opaque", "", "").tokens().unwrap().email, None);
        assert_eq!(file("opaque", &jwt("{\"email\":\"a\\u001b[2J@b\"}"), "").email(), None);
        assert_eq!(file("a.!!.c", "a.bm8.c", "").tokens().unwrap().expires_at, None);
    }

    #[test]
    fn labels() {
        let rows = [
            (r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-x"}"#, "api-key"),
            (r#"{"auth_mode":"api_key"}"#, "api-key"),
            (r#"{"OPENAI_API_KEY":"sk-x"}"#, "api-key"),
            (r#"{"auth_mode":"chatgpt","OPENAI_API_KEY":"sk","tokens":{"access_token":"t"}}"#, "chatgpt"),
            (r#"{"auth_mode":"agent_identity"}"#, "agent_identity"),
            ("{\"auth_mode\":\"a\\u001b[2J\"}", "auth-present"),
            (r#"{"tokens":{"access_token":""}}"#, "auth-present"),
            (r#"{"tokens":{"access_token":5}}"#, "auth-present"),
            ("{}", "auth-present"),
            ("", "invalid-auth"),
            ("[]", "invalid-auth"),
            ("{", "invalid-auth"),
            ("\u{0}\u{1}", "invalid-auth"),
            (r#"{"tokens":{"access_token":"a\r\nHost: evil"}}"#, "invalid-auth"),
            (r#"{"tokens":{"access_token":"a b"}}"#, "invalid-auth"),
            (r#"{"tokens":{"access_token":"t","account_id":"a\nb"}}"#, "invalid-auth"),
        ];
        for (text, label) in rows {
            assert_eq!(parse(text.as_bytes()).label(), label, "{text}");
        }
    }

    #[test]
    fn files_that_are_none() {
        let dir = Scratch::new("auth");
        assert_eq!(read(dir.root()), Auth::Missing);
        std::fs::write(dir.path("config.toml"), "# x\n cli_auth_credentials_store = 'keyring' # why\n[a]\n").unwrap();
        assert_eq!(read(dir.root()), Auth::Keyring { auto: false });
        std::fs::write(dir.path("config.toml"), "cli_auth_credentials_store=\"auto\"").unwrap();
        assert_eq!(read(dir.root()), Auth::Keyring { auto: true });
        std::fs::write(dir.path("config.toml"), "cli_auth_credentials_store = \"file\"").unwrap();
        assert_eq!(read(dir.root()), Auth::Missing);
        std::fs::write(dir.path("config.toml"), "[a]\ncli_auth_credentials_store = \"keyring\"\n").unwrap();
        assert_eq!(read(dir.root()), Auth::Missing);
        std::fs::write(dir.path("auth.json"), vec![b' '; 1_048_577]).unwrap();
        assert_eq!(read(dir.root()).label(), "invalid-auth");
        std::fs::remove_file(dir.path("auth.json")).unwrap();
        std::fs::create_dir(dir.path("auth.json")).unwrap();
        assert_eq!(read(dir.root()).label(), "unreadable-auth");
    }

    #[test]
    fn secrets_match_as_a_whole() {
        let secret = Secret::new("token".into());
        assert!(secret.matches(b"token"));
        for other in [&b""[..], b"toke", b"tokem", b"tokens", b"\xff"] {
            assert!(!secret.matches(other));
        }
    }
}
