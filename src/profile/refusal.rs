//! Refusals for good: the server said that a refresh token works no more. Remembered beside the login, so that no
//! process asks again and every screen can say "log in again".
//!
//! The note names the token by a fingerprint that tells nothing of it, so it is void by itself once auth.json holds
//! another token: after a login, also one by codex alone, nobody need clear it.

use super::auth::MAX_BYTES;
use crate::state::file;
use crate::wire::json::{Raw, write_string};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;

const NAME: &str = ".prodex-refusal.json";
const TEMP: &str = ".prodex-refusal.tmp-";
/// A reason is a sentence.
const MAX_REASON: usize = 300;

/// Why the login in this home must be made again. `None`: as far as is known it is good.
pub fn login_needed(codex_home: &Path) -> Option<String> {
    let note = file::read_bounded(&codex_home.join(NAME), MAX_BYTES).ok()?;
    let note = Raw::parse(&note).ok()?;
    let login = file::read_bounded(&codex_home.join("auth.json"), MAX_BYTES).ok()?;
    let token = Raw::parse(&login).ok()?.at(&["tokens", "refresh_token"])?.as_str()?.into_owned();
    let reason = note.member("reason")?.as_str()?;
    let same = note.member("token")?.as_str()? == fingerprint(&token);
    same.then(|| reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect())
}

/// Under the home's `auth.lock`.
pub(super) fn remember(codex_home: &Path, refresh_token: &str, reason: &str) -> io::Result<()> {
    let mut note = format!("{{\"token\":\"{}\",\"reason\":", fingerprint(refresh_token));
    write_string(&mut note, reason);
    note.push_str("}\n");
    file::sweep(codex_home, TEMP);
    file::replace(&codex_home.join(NAME), TEMP, note.as_bytes())
}

/// Under the home's `auth.lock`. The note is void already; this is tidiness.
pub(super) fn forget(codex_home: &Path) {
    let _ = fs::remove_file(codex_home.join(NAME));
}

/// 64 bits of a text of many more. Another release of Rust may count differently: then the server is asked once more.
fn fingerprint(token: &str) -> String {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn remembered_for_that_token_only() {
        let dir = Scratch::new("refusal");
        let login = |token: &str| {
            fs::write(dir.path("auth.json"), format!(r#"{{"tokens":{{"refresh_token":"{token}"}}}}"#)).unwrap();
        };
        login("rt-secret");
        assert_eq!(login_needed(dir.root()), None);
        remember(dir.root(), "rt-secret", "used \"twice\"").unwrap();
        assert_eq!(login_needed(dir.root()).as_deref(), Some("used \"twice\""));
        let note = dir.path(NAME);
        assert!(!fs::read_to_string(&note).unwrap().contains("secret"));
        assert_eq!(fs::metadata(&note).unwrap().permissions().mode() & 0o777, 0o600);
        login("rt-other");
        assert_eq!(login_needed(dir.root()), None);
        fs::remove_file(dir.path("auth.json")).unwrap();
        assert_eq!(login_needed(dir.root()), None);
        login("rt-secret");
        fs::write(&note, "torn").unwrap();
        assert_eq!(login_needed(dir.root()), None);
        forget(dir.root());
        assert!(!note.exists());
    }
}
