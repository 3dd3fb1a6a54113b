//! How codex is told to send its traffic through a proxy on loopback: the overrides in front of its arguments (`wire.md`
//! 0.2 F) and the hosts that it must reach without the user's own HTTP proxy. Pure; `run` and `doctor` share it, so that
//! what is checked is what is used.

use super::route::{self, Secrets};
use std::ffi::OsString;

/// Hosts that codex must reach without the user's HTTP proxy (spec S-51).
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// Under these names programs look for that list.
pub const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Arguments for codex that lead it to the proxy which listens at `authority` and knows these secrets.
/// Ahead of the user's own arguments: a later `-c` of theirs wins.
pub fn overrides(authority: &str, secrets: &Secrets) -> [OsString; 4] {
    let url =
        |key: &str, secret: &str, mount: &str| OsString::from(format!("{key}=\"http://{authority}/{secret}{mount}\""));
    [
        "-c".into(),
        url("chatgpt_base_url", &secrets.run, route::BACKEND_MOUNT),
        "-c".into(),
        url("openai_base_url", &secrets.home, route::MODEL_MOUNT),
    ]
}

/// The list with the loopback hosts in it.
pub fn with_loopback(list: Option<&str>) -> String {
    let mut hosts: Vec<&str> =
        list.unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    for host in LOOPBACK {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_base_is_not_below_the_backends() {
        // It would look first-party to codex, and traffic would leave past us (wire.md 0.1).
        let expected = [
            "-c",
            "chatgpt_base_url=\"http://127.0.0.1:7/s3/backend-api\"",
            "-c",
            "openai_base_url=\"http://127.0.0.1:7/h4/m\"",
        ];
        let secrets = Secrets { run: "s3".to_owned(), home: "h4".to_owned() };
        assert_eq!(overrides("127.0.0.1:7", &secrets), expected);
    }

    #[test]
    fn loopback_joins_what_is_there() {
        assert_eq!(with_loopback(None), "127.0.0.1,localhost,::1");
        assert_eq!(with_loopback(Some("corp.example, localhost")), "corp.example,localhost,127.0.0.1,::1");
        assert_eq!(with_loopback(Some("*")), "*,127.0.0.1,localhost,::1");
    }
}
