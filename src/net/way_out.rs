//! Which HTTP proxy leads out to an upstream, by the variables that curl and codex go by (spec S-82). A pure rule but for
//! `of_environment`. Knows no sockets; `tunnel` speaks with the proxy.
//!
//! Every upstream is reached by CONNECT, a plain http one too: there is one way for all then, and only tests have such.

use crate::wire::url::{Scheme, Url};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

/// The first that is set and not empty counts, in the order of direct codex.
const FOR_HTTPS: &[&str] = &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Without `HTTP_PROXY`, as curl does it: in a CGI program that is a header of whoever asks.
const FOR_HTTP: &[&str] = &["http_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: &[&str] = &["NO_PROXY", "no_proxy"];

/// Not `Debug`: it would show the password.
pub struct Proxy {
    /// Which variable named it, for people.
    pub variable: &'static str,
    /// An IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// By the environment of this process.
pub fn of_environment(url: &Url) -> Result<Option<Proxy>, String> {
    of(url, |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

/// The proxy in front of `url`; `lookup` gives the value of a variable. The error says which variable cannot be used, and
/// nothing of its value, which may hold a password.
fn of(url: &Url, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, String> {
    let first = |names: &[&'static str]| {
        names.iter().find_map(|&name| Some((name, lookup(name).filter(|value| !value.trim().is_empty())?)))
    };
    let names = if url.scheme == Scheme::Https { FOR_HTTPS } else { FOR_HTTP };
    let Some((variable, value)) = first(names) else { return Ok(None) };
    if is_loopback(&url.host) || first(EXCEPTIONS).is_some_and(|(_, list)| is_excepted(url, &list)) {
        return Ok(None);
    }
    parse(variable, value.trim()).map(Some)
}

fn parse(variable: &'static str, value: &str) -> Result<Proxy, String> {
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(format!("{variable} is no http:// proxy, and prodex knows no other kind"));
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (credentials, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let url = Url::parse(&format!("http://{host}")).map_err(|bad| format!("{variable} cannot be used: {bad}"))?;
    let authorization = (!credentials.is_empty()).then(|| {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut plain = percent_decoded(user);
        plain.push(b':');
        plain.extend(percent_decoded(password));
        format!("Basic {}", STANDARD.encode(plain))
    });
    Ok(Proxy { variable, host: url.host, port: url.port, authorization })
}

/// What is no escape stays as it is.
fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        out.push(*byte);
        if let [high, low, after @ ..] = rest
            && let (b'%', Some(high), Some(low)) = (*byte, digit(*high), digit(*low))
        {
            out.pop();
            out.push(high * 16 + low);
            rest = after;
        }
    }
    out
}

/// No proxy could lead there.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// `NO_PROXY`: `*`, names with all below them (`corp.example`, `.corp.example`, `*.corp.example`), addresses, and each of
/// these with a port.
fn is_excepted(url: &Url, list: &str) -> bool {
    list.split([',', ' ']).filter(|entry| !entry.is_empty()).any(|entry| {
        let bracketed = entry.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, port)) => (host, port.strip_prefix(':')),
            // More than one colon is an IPv6 address.
            None => match entry.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (entry, None),
            },
        };
        port.is_none_or(|port| port.parse() == Ok(url.port)) && covers(host, &url.host)
    })
}

fn covers(pattern: &str, host: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return pattern.parse() == Ok(ip);
    }
    let name = pattern.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
    let front = host.strip_suffix(name.as_str()).filter(|_| !name.is_empty());
    front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str, env: &[(&str, &str)]) -> Result<Option<Proxy>, String> {
        let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        of(&Url::parse(url).unwrap(), lookup)
    }

    #[test]
    fn which_variable_counts() {
        let https = "https://chatgpt.com/backend-api";
        let all = ["HTTPS_PROXY", "https_proxy", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"];
        let rows: [(&str, &[&str], Option<&str>); 11] = [
            (https, &all, Some("HTTPS_PROXY")),
            (https, &all[1..], Some("https_proxy")),
            (https, &all[2..], Some("ALL_PROXY")),
            (https, &["all_proxy"], Some("all_proxy")),
            (https, &["http_proxy", "HTTP_PROXY"], None),
            ("http://h.example", &all, Some("http_proxy")),
            ("http://h.example", &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"], Some("ALL_PROXY")),
            ("http://h.example", &["HTTP_PROXY"], None),
            ("https://localhost:1", &all, None),
            ("https://127.1.2.3", &all, None),
            ("http://[::1]:80", &all, None),
        ];
        for (url, set, wanted) in rows {
            let env: Vec<(&str, &str)> = set.iter().map(|name| (*name, "http://p.example:3128")).collect();
            let proxy = found(url, &env).unwrap();
            assert_eq!(proxy.as_ref().map(|proxy| proxy.variable), wanted, "{url} {set:?}");
            assert!(proxy.is_none_or(|proxy| (proxy.host.as_str(), proxy.port) == ("p.example", 3128)));
        }
        let empty = [("HTTPS_PROXY", ""), ("https_proxy", " "), ("all_proxy", "p")];
        assert_eq!(found(https, &empty).unwrap().unwrap().variable, "all_proxy");
        // One that is not used may be of any kind.
        assert!(found(https, &[("HTTPS_PROXY", "p"), ("ALL_PROXY", "socks5://p")]).is_ok());
        assert!(found("https://localhost", &[("HTTPS_PROXY", "socks5://p")]).is_ok());
    }

    #[test]
    fn where_and_as_whom() {
        for (value, host, port, plain) in [
            ("http://p.example:3128", "p.example", 3128, None),
            ("HTTP://P.example/", "p.example", 80, None),
            (" p:1 ", "p", 1, None),
            ("u:w@p:1", "p", 1, Some("u:w")),
            ("http://[2001:db8::1]:3128/x?y#z", "2001:db8::1", 3128, None),
            ("http://user:pa%40s%3as%2@p", "p", 80, Some("user:pa@s:s%2")),
            ("http://us%20er@p", "p", 80, Some("us er:")),
            ("http://a@b:c%zz%@p", "p", 80, Some("a@b:c%zz%")),
            ("http://a:b:c@p", "p", 80, Some("a:b:c")),
            ("http://@p", "p", 80, None),
        ] {
            let proxy = found("https://h.example", &[("HTTPS_PROXY", value)]).unwrap().unwrap();
            let authorization = plain.map(|plain| format!("Basic {}", STANDARD.encode(plain)));
            assert_eq!((proxy.host.as_str(), proxy.port, proxy.authorization), (host, port, authorization), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_value() {
        for value in [
            "socks5://u:secret@p:1080",
            "https://u:secret@p",
            "secret://",
            "http://",
            "http://u:secret@",
            "http://u:secret@p:0",
            "http://u:secret@p:x",
            "http://u:secret@p q",
            "http://u:secret/@p",
            "http://u:secret\r\nX: y@p\r\nX: y",
        ] {
            let error = found("https://h.example", &[("https_proxy", value)]).err().unwrap();
            assert!(error.starts_with("https_proxy ") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn exceptions() {
        let rows = [
            ("chatgpt.com", "chatgpt.com", true),
            ("a.chatgpt.com", "x, ChatGPT.com", true),
            ("a.chatgpt.com", ".chatgpt.com", true),
            ("chatgpt.com", ".chatgpt.com", true),
            ("a.chatgpt.com", "*.chatgpt.com", true),
            ("notchatgpt.com", "chatgpt.com", false),
            ("chatgpt.com.evil", "chatgpt.com", false),
            ("chatgpt.com", "a.chatgpt.com", false),
            ("chatgpt.com", "*", true),
            ("chatgpt.com", "a,*", true),
            ("chatgpt.com", ",, ,", false),
            ("chatgpt.com", ".", false),
            ("chatgpt.com", "chatgpt.com:443", true),
            ("chatgpt.com", "chatgpt.com:80 chatgpt.com:x chatgpt.com:", false),
            ("chatgpt.com:8443", "chatgpt.com:8443", true),
            ("chatgpt.com", "*:443", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "0.0.1", false),
            ("[2001:db8::1]", "2001:DB8:0::1", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("[2001:db8::1]", "[2001:db8::1]:443", true),
            ("[2001:db8::1]", "[2001:db8::1]:80", false),
            ("[2001:db8::1]", "2001:db8::2,db8::1", false),
        ];
        for (host, list, direct) in rows {
            for variable in EXCEPTIONS {
                let env = [("ALL_PROXY", "http://p"), (variable, list)];
                let proxy = found(&format!("https://{host}/x"), &env).unwrap();
                assert_eq!(proxy.is_none(), direct, "{host} {list}");
            }
        }
    }
}
