//! The limits of the proxy that a user can set: 0.2.38's variables, validated and clamped, with our defaults (spec S-56).
//! Pure: the environment is an argument. Every other limit is a constant beside the code that keeps it.

use super::route::Lane;
use super::sockets::PASSAGES;
use std::time::Duration;

const PREFIX: &str = "PRODEX_RUNTIME_PROXY_";

/// No quota lasts longer: a month's window is the longest known. What claims to is a mistake, or a clock that is wrong.
pub const LONGEST_QUOTA: Duration = Duration::from_secs(32 * 24 * 3600);

/// Of the beginning of an answer so many bytes are held back at most: `response.created` echoes instructions and tools,
/// about 40 KB, and `response.in_progress` does so again.
pub const HOLD_BYTES: usize = 256 * 1024;

const SPARE_WORKERS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Live exchanges of all lanes together.
    pub active: usize,
    pub responses: usize,
    pub compact: usize,
    /// Turns in progress; a socket without one takes no place.
    pub websocket: usize,
    pub standard: usize,
    /// How long an exchange waits for a place in its lane.
    pub admission_wait: Duration,
    /// Connecting to one upstream address.
    pub connect: Duration,
    /// The same for a WebSocket.
    pub websocket_connect: Duration,
    /// A stream on which nothing moves.
    pub stream_idle: Duration,
    /// How long the beginning of an answer may be held back.
    pub hold: Duration,
}

impl Default for Limits {
    /// Sized for people, whatever the cores: a worker costs about 33 KiB while it waits (`design.md` 2.5).
    fn default() -> Limits {
        Limits {
            active: 640,
            responses: 256,
            compact: 64,
            websocket: 256,
            standard: 64,
            admission_wait: Duration::from_millis(750),
            connect: Duration::from_secs(5),
            websocket_connect: Duration::from_secs(15),
            // Longer than codex's own 300 s, so that codex is the one who decides (`wire.md` 11).
            stream_idle: Duration::from_secs(330),
            // Codex shows nothing of what is held, so the hold costs nothing it could see.
            hold: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// `value` gives a variable. What is no number, or 0, is as if it were not set, as in 0.2.38.
    pub fn from_env(value: impl Fn(&str) -> Option<String>) -> Limits {
        let number = |name: &str, most: u64| {
            let text = value(&format!("{PREFIX}{name}"))?;
            text.trim().parse::<u64>().ok().filter(|&n| n > 0).map(|n| n.min(most))
        };
        // A place for each thread that a process may reasonably have.
        let count = |name: &str, default: usize| number(name, 4_096).map_or(default, |n| n as usize);
        let millis = |name: &str, default: Duration| number(name, 3_600_000).map_or(default, Duration::from_millis);
        let usual = Limits::default();
        let limits = Limits {
            active: count("ACTIVE_REQUEST_LIMIT", usual.active),
            responses: count("RESPONSES_ACTIVE_LIMIT", usual.responses),
            compact: count("COMPACT_ACTIVE_LIMIT", usual.compact),
            websocket: count("WEBSOCKET_ACTIVE_LIMIT", usual.websocket),
            standard: count("STANDARD_ACTIVE_LIMIT", usual.standard),
            admission_wait: millis("ADMISSION_WAIT_BUDGET_MS", usual.admission_wait),
            connect: millis("HTTP_CONNECT_TIMEOUT_MS", usual.connect),
            websocket_connect: millis("WEBSOCKET_CONNECT_TIMEOUT_MS", usual.websocket_connect),
            stream_idle: millis("STREAM_IDLE_TIMEOUT_MS", usual.stream_idle),
            hold: millis("SSE_LOOKAHEAD_TIMEOUT_MS", usual.hold),
        };
        // Lanes that were raised by hand need a total that lets them be full.
        let lanes = limits.responses + limits.compact + limits.websocket + limits.standard;
        match value(&format!("{PREFIX}ACTIVE_REQUEST_LIMIT")) {
            None => Limits { active: lanes, ..limits },
            Some(_) => limits,
        }
    }

    /// Open sockets of the model: as many between two turns as in one, and never few.
    pub fn sockets(&self) -> usize {
        (2 * self.websocket).max(512)
    }

    /// Threads for them, for every other exchange, and for some that wait for a place or are refused: whoever was admitted
    /// has one. One costs about 33 KiB while it waits (`design.md` 2.5), and is started when it is needed.
    pub fn workers(&self) -> usize {
        self.sockets() + PASSAGES + self.responses + self.compact + self.standard + SPARE_WORKERS
    }

    pub fn of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Responses => self.responses,
            Lane::Compact => self.compact,
            Lane::WebSocket => self.websocket,
            Lane::Standard => self.standard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Limits {
        Limits::from_env(|name| {
            vars.iter().find(|(known, _)| format!("{PREFIX}{known}") == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn nonsense_is_the_default_and_giants_are_clamped() {
        assert_eq!(with(&[]), Limits::default());
        for nonsense in ["", "0", "-1", "x", "1.5", "99999999999999999999999"] {
            assert_eq!(with(&[("RESPONSES_ACTIVE_LIMIT", nonsense)]), Limits::default(), "{nonsense}");
        }
        assert_eq!(with(&[("WEBSOCKET_ACTIVE_LIMIT", "1000000")]).websocket, 4_096);
        assert_eq!(with(&[("ACTIVE_REQUEST_LIMIT", "1")]).active, 1, "0.2.38 panics here");
        assert_eq!(with(&[("SSE_LOOKAHEAD_TIMEOUT_MS", "50")]).hold, Duration::from_millis(50));
        assert_eq!(with(&[("STREAM_IDLE_TIMEOUT_MS", " 1500 ")]).stream_idle, Duration::from_millis(1500));
    }

    #[test]
    fn raised_lanes_raise_the_total_unless_it_is_set() {
        assert_eq!(with(&[("RESPONSES_ACTIVE_LIMIT", "1000")]).active, 1000 + 64 + 256 + 64);
        assert_eq!(with(&[("RESPONSES_ACTIVE_LIMIT", "1000"), ("ACTIVE_REQUEST_LIMIT", "9")]).active, 9);
    }
}
