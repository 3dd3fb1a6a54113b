//! Absolute `http` and `https` URLs (RFC 3986), as base URLs: who to connect to, and what comes before a path.
//!
//! Takes fewer than RFC 3986 does, since what it takes is written into request lines and `Host` headers as it is. Knows
//! no DNS, no proxies and no international names: those must come in their ASCII form.

use std::fmt;
use std::net::Ipv6Addr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    pub scheme: Scheme,
    /// Lower case; an IPv6 address without its brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// Empty, or from its `/` on without one at the end; may hold a query, which is left as it is. Visible ASCII.
    pub path: String,
}

/// Why a text is no URL for us, as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadUrl {
    Character,
    Scheme,
    UserInfo,
    Fragment,
    EmptyHost,
    Host,
    Port,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, BadUrl> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(BadUrl::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
        let scheme = [Scheme::Http, Scheme::Https].into_iter().find(|known| scheme.eq_ignore_ascii_case(known.name()));
        let scheme = scheme.ok_or(BadUrl::Scheme)?;
        if rest.contains('#') {
            return Err(BadUrl::Fragment);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BadUrl::UserInfo);
        }
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(BadUrl::Host)?;
            (host.parse::<Ipv6Addr>().map_err(|_| BadUrl::Host)?.to_string(), port)
        } else {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (name(host)?, port)
        };
        let port = match port.strip_prefix(':') {
            Some(port) => number(port)?,
            None if port.is_empty() => scheme.default_port(),
            None => return Err(BadUrl::Host),
        };
        let path = if path.contains('?') { path } else { path.trim_end_matches('/') };
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Url { scheme, host, port, path })
    }

    /// What the `Host` header says (RFC 9110 7.2): no default port, brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Scheme and authority: `https://chatgpt.com`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.name(), self.authority())
    }

    /// The request target for `path`, which is empty or starts with `/`, below this URL's own path.
    pub fn join(&self, path: &str) -> String {
        let target = format!("{}{path}", self.path);
        if target.starts_with('/') { target } else { format!("/{target}") }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadUrl::Character => "the URL has a space, a backslash, a control or a non-ASCII character",
            BadUrl::Scheme => "the URL does not start with http:// or https://",
            BadUrl::UserInfo => "the URL has a user name or password",
            BadUrl::Fragment => "the URL has a fragment (#)",
            BadUrl::EmptyHost => "the URL has no host",
            BadUrl::Host => "the host of the URL is not valid",
            BadUrl::Port => "the port of the URL is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for BadUrl {}

/// A DNS name or an IPv4 address, in lower case.
fn name(host: &str) -> Result<String, BadUrl> {
    if host.is_empty() {
        return Err(BadUrl::EmptyHost);
    }
    // The underscore is not for host names, but DNS has it and people use it.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.len() > 253 || host.starts_with('.') || !host.bytes().all(fits) {
        return Err(BadUrl::Host);
    }
    Ok(host.to_ascii_lowercase())
}

fn number(port: &str) -> Result<u16, BadUrl> {
    // `parse` alone would take a plus sign.
    let digits = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).filter(|&port| port != 0).ok_or(BadUrl::Port)
}

#[cfg(test)]
mod tests {
    use super::super::hostile::{Rng, mutate};
    use super::*;

    #[test]
    fn parses() {
        let rows = [
            ("https://chatgpt.com/backend-api/", "https", "chatgpt.com", 443, "/backend-api", "chatgpt.com"),
            ("HTTP://LocalHost:18080", "http", "localhost", 18080, "", "localhost:18080"),
            ("http://127.0.0.1:80/a//", "http", "127.0.0.1", 80, "/a", "127.0.0.1"),
            ("https://[::1]:8443/x?y=/", "https", "::1", 8443, "/x?y=/", "[::1]:8443"),
            ("https://[2001:DB8::0]", "https", "2001:db8::", 443, "", "[2001:db8::]"),
            ("http://h?q", "http", "h", 80, "/?q", "h"),
            ("http://h:443/%20:@", "http", "h", 443, "/%20:@", "h:443"),
        ];
        for (text, scheme, host, port, path, authority) in rows {
            let url = Url::parse(text).unwrap();
            let found = (url.scheme.name(), url.host.as_str(), url.port, url.path.as_str());
            assert_eq!(found, (scheme, host, port, path), "{text}");
            assert_eq!((url.authority(), url.to_string()), (authority.into(), format!("{scheme}://{authority}{path}")));
        }
        let url = Url::parse("https://h/a/").unwrap();
        assert_eq!((url.join("/b?c"), url.join(""), url.origin()), ("/a/b?c".into(), "/a".into(), "https://h".into()));
        assert_eq!(Url::parse("https://h").unwrap().join(""), "/");
    }

    #[test]
    fn refuses() {
        let rows = [
            ("", BadUrl::Scheme),
            ("chatgpt.com", BadUrl::Scheme),
            ("ftp://h", BadUrl::Scheme),
            ("https:/h", BadUrl::Scheme),
            ("https://", BadUrl::EmptyHost),
            ("https:///a", BadUrl::EmptyHost),
            ("https://:80", BadUrl::EmptyHost),
            ("https://u:p@h", BadUrl::UserInfo),
            ("https://h/#a", BadUrl::Fragment),
            ("https://h /", BadUrl::Character),
            ("https://h/\r\nX: y", BadUrl::Character),
            ("https://h/ä", BadUrl::Character),
            ("https://h\\@g", BadUrl::Character),
            ("https://h:0", BadUrl::Port),
            ("https://h:", BadUrl::Port),
            ("https://h:65536", BadUrl::Port),
            ("https://h:+1", BadUrl::Port),
            ("https://::1", BadUrl::EmptyHost),
            ("https://a:b:1", BadUrl::Port),
            ("https://[::1", BadUrl::Host),
            ("https://[::1]a", BadUrl::Host),
            ("https://[fe80::1%25eth0]", BadUrl::Host),
            ("https://a,b", BadUrl::Host),
            ("https://.h", BadUrl::Host),
        ];
        for (text, wrong) in rows {
            assert_eq!(Url::parse(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn mutated_urls_print_what_they_are() {
        const WORDS: [&[u8]; 9] = [b":", b"/", b"?", b"[", b"]", b"[::1]", b"//", b"%", b"65535"];
        let mut rng = Rng::new(10);
        for _ in 0..50_000 {
            let text = mutate(&mut rng, b"https://Host.example:8443/a/b?c=d", &WORDS);
            if let Ok(url) = Url::parse(&String::from_utf8_lossy(&text)) {
                assert_eq!(Url::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
