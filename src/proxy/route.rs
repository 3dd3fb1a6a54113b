//! Which request is this: from method and path to a lane, an upstream path, and the rights it needs. Pure.
//! Knows the launch scheme (`wire.md` 0.2 F): `/<home>/m/…` is the model base, `/<run>/backend-api/…` the rest.

use crate::profile::auth::same;
use crate::wire::url::Url;

/// What codex finds under the model base is mounted away from `/backend-api/codex` upstream, so that codex does not take
/// it for first-party and go around us.
pub const MODEL_MOUNT: &str = "/m";
pub const BACKEND_MOUNT: &str = "/backend-api";

/// Kinds of work that must not starve each other (spec S-53).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    Responses,
    Compact,
    WebSocket,
    Standard,
}

impl Lane {
    /// As 0.2.38's log lines have it.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Responses => "responses",
            Lane::Compact => "compact",
            Lane::WebSocket => "websocket",
            Lane::Standard => "standard",
        }
    }
}

/// Whose credentials a request travels with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A model route: any profile's, chosen by us.
    Model,
    /// `wham/accounts/check`: codex's own, and answered so that codex stays with us.
    Check,
    /// Everything else that codex asks: codex's own.
    Auxiliary,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub lane: Lane,
    pub class: Class,
    /// Path and query below the upstream's base; starts with a slash.
    pub path: String,
}

/// Why a request line is not ours to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// Without the run's secret: whoever asks learns nothing more.
    NoSecret,
    /// The secret, then a path that codex was not given.
    UnknownMount,
    /// `.` or `..` as a segment, plain or encoded, or an encoded slash: it could climb out of the mount upstream.
    Climbs,
}

/// First segments of the paths that codex was given.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Of this run: codex's own calls.
    pub run: String,
    /// Of this `PRODEX_HOME`, the same in every run: codex keeps its catalogue of models for a base URL, and would fetch it at
    /// each start from one that changes. Below it a request needs a profile's credential as well.
    pub home: String,
}

pub fn of(target: &str, secrets: &Secrets, is_upgrade: bool) -> Result<Route, Stray> {
    let rest = target.strip_prefix('/').ok_or(Stray::NoSecret)?;
    let (head, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_model = same(head.as_bytes(), secrets.home.as_bytes());
    if !is_model && !same(head.as_bytes(), secrets.run.as_bytes()) {
        return Err(Stray::NoSecret);
    }
    let path = rest.split('?').next().unwrap_or(rest);
    if climbs(path) {
        return Err(Stray::Climbs);
    }
    if is_model {
        let below = below(rest, MODEL_MOUNT).ok_or(Stray::UnknownMount)?;
        let lane = match (below.split('?').next().unwrap_or(below), is_upgrade) {
            (_, true) => Lane::WebSocket,
            ("/responses", false) => Lane::Responses,
            ("/responses/compact", false) => Lane::Compact,
            _ => Lane::Standard,
        };
        return Ok(Route { lane, class: Class::Model, path: format!("/codex{below}") });
    }
    let below = below(rest, BACKEND_MOUNT).ok_or(Stray::UnknownMount)?;
    let check = below.split('?').next() == Some("/wham/accounts/check");
    let class = if check { Class::Check } else { Class::Auxiliary };
    let lane = if is_upgrade { Lane::WebSocket } else { Lane::Standard };
    Ok(Route { lane, class, path: below.to_owned() })
}

/// The request target at the upstream: a base with `/backend-api` in it is the mount itself, another gets it appended, as
/// 0.2.38 does (`original.md` D.4).
pub fn upstream_target(base: &Url, path: &str) -> String {
    if base.path.contains(BACKEND_MOUNT) { base.join(path) } else { base.join(&format!("{BACKEND_MOUNT}{path}")) }
}

/// What stands below `mount`, with its slash; `None` for another path.
fn below<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    path.strip_prefix(mount).filter(|rest| rest.starts_with('/'))
}

fn climbs(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%2e", ".");
    lower.contains("%2f")
        || lower.contains("%5c")
        || lower.contains('\\')
        || lower.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets { run: "k".to_owned(), home: "h".to_owned() }
    }

    #[test]
    fn routes() {
        use Class::*;
        use Lane::*;
        let table = [
            ("/h/m/responses", false, Responses, Model, "/codex/responses"),
            ("/h/m/responses", true, WebSocket, Model, "/codex/responses"),
            ("/h/m/responses?x=1", false, Responses, Model, "/codex/responses?x=1"),
            ("/h/m/responses/compact", false, Compact, Model, "/codex/responses/compact"),
            ("/h/m/models?client_version=0.169.0", false, Standard, Model, "/codex/models?client_version=0.169.0"),
            ("/k/backend-api/wham/accounts/check", false, Standard, Check, "/wham/accounts/check"),
            ("/k/backend-api/wham/usage", false, Standard, Auxiliary, "/wham/usage"),
            ("/k/backend-api/some/socket", true, WebSocket, Auxiliary, "/some/socket"),
            ("/k/backend-api/ps/mcp", false, Standard, Auxiliary, "/ps/mcp"),
            ("/k/backend-api/x?next=../y", false, Standard, Auxiliary, "/x?next=../y"),
        ];
        for (target, upgrade, lane, class, path) in table {
            let route = of(target, &secrets(), upgrade).unwrap();
            assert_eq!(route, Route { lane, class, path: path.to_owned() }, "{target}");
        }
    }

    #[test]
    fn strays() {
        let table = [
            ("/", Stray::NoSecret),
            ("*", Stray::NoSecret),
            ("http://127.0.0.1/k/m/responses", Stray::NoSecret),
            ("/K/m/responses", Stray::NoSecret),
            ("/kk/m/responses", Stray::NoSecret),
            ("/m/responses", Stray::NoSecret),
            ("/k", Stray::UnknownMount),
            ("/k/m/responses", Stray::UnknownMount),
            ("/h/backend-api/x", Stray::UnknownMount),
            ("/h/mm/responses", Stray::UnknownMount),
            ("/h/m", Stray::UnknownMount),
            ("/h/m/../backend-api/x", Stray::Climbs),
            ("/h/m/%2E%2e/x", Stray::Climbs),
            ("/h/m/a%2Fb", Stray::Climbs),
            ("/h/m/..\\x", Stray::Climbs),
        ];
        for (target, stray) in table {
            assert_eq!(of(target, &secrets(), false), Err(stray), "{target}");
        }
    }

    #[test]
    fn upstream_targets() {
        let target = |base: &str| upstream_target(&Url::parse(base).unwrap(), "/codex/responses");
        assert_eq!(target("https://chatgpt.com/backend-api"), "/backend-api/codex/responses");
        assert_eq!(target("http://gateway/team/backend-api"), "/team/backend-api/codex/responses");
        assert_eq!(target("http://gateway"), "/backend-api/codex/responses");
    }
}
