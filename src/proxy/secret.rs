//! The secrets by which codex alone finds its way to the proxy, and the port that stays the same with one of them: that of a
//! run is made anew, that of a `PRODEX_HOME` kept. What they guard is `route`'s and `guard`'s.

use crate::config::Config;
use crate::error::Error;
use crate::net::tls;
use crate::state::{file, store::Lock};
use std::fmt::Write;

const SECRET_TEMP: &str = "proxy-secret.tmp-";

/// What stays the same in every run of a `PRODEX_HOME`: it stands in a file of its own, for the user alone to read.
pub struct Home {
    pub secret: String,
    /// Above the ports that systems give out by themselves.
    pub port: u16,
}

impl Home {
    pub fn of(config: &Config) -> Result<Home, Error> {
        let path = config.root.join("proxy-secret");
        let is_secret = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let known = || {
            let text = file::read_bounded(&path, 64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            text.filter(|text| is_secret(text))
        };
        let secret = if let Some(secret) = known() {
            secret
        } else {
            let lock = Lock::take(config);
            // Of several first runs one decides for all.
            if let Some(secret) = known() {
                secret
            } else {
                let new = random()?;
                // Where it cannot be kept, this run has one of its own.
                if lock.is_ok() {
                    file::sweep(&config.root, SECRET_TEMP);
                    let _ = file::replace(&path, SECRET_TEMP, new.as_bytes());
                }
                new
            }
        };
        let spread = u16::from_str_radix(secret.get(..4).unwrap_or_default(), 16).unwrap_or(0);
        Ok(Home { secret, port: FIRST_PORT + spread % PORTS })
    }
}

/// Linux gives out 32768 to 60999 by itself.
const FIRST_PORT: u16 = 61_000;
const PORTS: u16 = 4_000;

/// What the first path segment of a run is: 128 random bits in hex.
pub fn random() -> Result<String, Error> {
    let mut bytes = [0; 16];
    tls::random(&mut bytes).map_err(Error::new)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
