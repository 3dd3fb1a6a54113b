//! Synthetic logins: unsigned JWTs and the `auth.json` around them, as real codex accepts them (it checks no
//! signature). Knows no account of this process; a name is all there is to an account.

use super::json::{Json, quote};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn account_id(name: &str) -> String {
    format!("acct-{name}")
}

pub fn email(name: &str) -> String {
    format!("{name}@example.com")
}

pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An access token of `name` that ends at `expires` (Unix seconds). `serial` makes two tokens of one account differ.
pub fn access_token(name: &str, expires: u64, serial: u32) -> String {
    jwt(&format!(
        r#"{{"iss":"https://auth.openai.com","jti":"{serial}","exp":{expires},"https://api.openai.com/auth":{}}}"#,
        claims(name, "plus")
    ))
}

pub fn id_token(name: &str, plan: &str) -> String {
    jwt(&format!(
        r#"{{"iss":"https://auth.openai.com","email":{},"exp":{},"https://api.openai.com/auth":{}}}"#,
        quote(&email(name)),
        unix_now() + YEAR,
        claims(name, plan)
    ))
}

/// The whole file, as codex 0.169 `login` writes it, with an access token that outlives every test.
pub fn auth_json(name: &str) -> String {
    auth_json_until(name, unix_now() + YEAR)
}

/// The same with an access token that ends at `expires`.
pub fn auth_json_until(name: &str, expires: u64) -> String {
    format!(
        concat!(
            "{{\n  \"auth_mode\": \"chatgpt\",\n  \"OPENAI_API_KEY\": null,\n  \"tokens\": {{\n",
            "    \"id_token\": \"{id}\",\n    \"access_token\": \"{access}\",\n    \"refresh_token\": \"rt-{name}-0\",\n",
            "    \"account_id\": \"{account}\"\n  }},\n  \"last_refresh\": \"2026-11-25T03:15:45.243533500Z\"\n}}\n"
        ),
        id = id_token(name, "plus"),
        access = access_token(name, expires, 0),
        name = name,
        account = account_id(name),
    )
}

/// What a token says about itself: the account id, and when it ends.
pub fn read(token: &str) -> Option<(String, u64)> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims = Json::parse(&payload)?;
    let account = claims.get("https://api.openai.com/auth")?.get("chatgpt_account_id")?.text()?.to_owned();
    let expires = claims.get("exp").and_then(Json::number).unwrap_or(f64::MAX);
    Some((account, expires as u64))
}

const YEAR: u64 = 365 * 24 * 3600;

fn claims(name: &str, plan: &str) -> String {
    format!(
        r#"{{"chatgpt_plan_type":{},"chatgpt_account_id":{},"chatgpt_user_id":{}}}"#,
        quote(plan),
        quote(&account_id(name)),
        quote(&format!("user-{name}"))
    )
}

fn jwt(payload: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"none","typ":"JWT"}"#), part(payload), part("unsigned"))
}
