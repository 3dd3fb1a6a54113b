//! Cloudflare's cookies, kept for each profile as codex itself would keep them, in memory (spec S-60, `wire.md` 12).
//! Every other cookie is not ours to touch. Pure but for its lock.

use super::ProfileId;
use crate::wire::head::Headers;
use crate::wire::url::{Scheme, Url};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Codex's allowlist; a name may also begin with the last one.
const NAMES: [&str; 9] = [
    "__cf_bm",
    "__cflb",
    "__cfruid",
    "__cfseq",
    "__cfwaitingroom",
    "_cfuvid",
    "cf_clearance",
    "cf_ob_info",
    "cf_use_ob",
];
const CHALLENGE: &str = "cf_chl_";
/// For one profile: the names are few, but a challenge's is free.
const MAX_COOKIES: usize = 32;
const MAX_VALUE: usize = 4_096;

/// Name and value.
type Cookie = (String, String);

#[derive(Default)]
pub struct Jar {
    cookies: Mutex<HashMap<Option<ProfileId>, Vec<Cookie>>>,
}

impl Jar {
    /// The `Cookie` header for a request to `url`, if there is one. `None` as owner: codex's own requests.
    pub fn header(&self, owner: Option<ProfileId>, url: &Url) -> Option<String> {
        if !is_chatgpt(url) {
            return None;
        }
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<String> = cookies.get(&owner)?.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The profile has another account now.
    pub fn forget(&self, owner: ProfileId) {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner).remove(&Some(owner));
    }

    /// Keeps what an answer from `url` sets.
    pub fn keep(&self, owner: Option<ProfileId>, url: &Url, headers: &Headers) {
        if !is_chatgpt(url) || !headers.contains("set-cookie") {
            return;
        }
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = cookies.entry(owner).or_default();
        for value in headers.values("set-cookie").filter_map(|value| std::str::from_utf8(value).ok()) {
            let Some((name, value)) = pair(value).filter(|(name, _)| is_ours(name)) else { continue };
            kept.retain(|(known, _)| known != name);
            if value.len() <= MAX_VALUE && kept.len() < MAX_COOKIES && !value.is_empty() {
                kept.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

/// Whether this `Set-Cookie` value is one that the jar keeps, so that codex must not see it.
pub fn is_kept(set_cookie: &[u8]) -> bool {
    std::str::from_utf8(set_cookie).ok().and_then(pair).is_some_and(|(name, _)| is_ours(name))
}

fn pair(set_cookie: &str) -> Option<(&str, &str)> {
    let (name, value) = set_cookie.split(';').next()?.split_once('=')?;
    Some((name.trim(), value.trim()))
}

fn is_ours(name: &str) -> bool {
    NAMES.contains(&name) || name.starts_with(CHALLENGE)
}

/// As codex: https, and ChatGPT's own hosts.
fn is_chatgpt(url: &Url) -> bool {
    // In lower case, as `Url` has it.
    let host = &url.host;
    url.scheme == Scheme::Https
        && ["chatgpt.com", "openai.com"]
            .iter()
            .any(|site| host.strip_suffix(site).is_some_and(|front| front.is_empty() || front.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    fn headers(lines: &str) -> Headers {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        head::response(text.as_bytes()).unwrap().unwrap().1.headers().clone()
    }

    #[test]
    fn keeps_cloudflares_for_one_profile_and_https_only() {
        let (a, b) = (Some(ProfileId(0)), Some(ProfileId(1)));
        let site = Url::parse("https://chatgpt.com/backend-api").unwrap();
        let jar = Jar::default();
        jar.keep(
            a,
            &site,
            &headers("set-cookie: __cf_bm=1; Path=/; Secure\r\nSet-Cookie: oai-did=x\r\nset-cookie: _cfuvid=2\r\n"),
        );
        jar.keep(a, &site, &headers("set-cookie: __cf_bm=3; Path=/\r\n"));
        assert_eq!(jar.header(a, &site).as_deref(), Some("_cfuvid=2; __cf_bm=3"));
        assert_eq!(jar.header(b, &site), None);
        for other in ["http://chatgpt.com", "https://notchatgpt.com", "https://chatgpt.com.evil.example"] {
            let other = Url::parse(other).unwrap();
            jar.keep(b, &other, &headers("set-cookie: __cf_bm=1\r\n"));
            assert_eq!(jar.header(a, &other), None);
        }
        assert_eq!(jar.header(b, &site), None);
        assert!(is_kept(b"cf_chl_rc_i=1; x") && !is_kept(b"oai-did=1") && !is_kept(b"junk"));
    }
}
