//! `quota.json` in PRODEX_HOME: the [`Snapshots`] that all processes of the user share. Knows the file, not what is in it.
//!
//! Readers take no lock: a rename shows them the old file or the new one. Losing the file costs one call for each account, so
//! one that cannot be read is begun anew.

use super::probe::{self, Answer};
use super::snapshots::{self, Extent, Snapshots};
use crate::config::Config;
use crate::profile::{Profile, auth};
use crate::state::file;
use crate::sys::clock;
use crate::wire::url::Url;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// 512 profiles with full histories make 20 MB; a person's have 100 KB.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Every change takes milliseconds, and none is worth a longer wait.
const PATIENCE: Duration = Duration::from_secs(2);
const TEMP: &str = "quota.json.tmp-";

pub fn path(config: &Config) -> PathBuf {
    config.root.join("quota.json")
}

/// What is known now.
pub fn load(config: &Config) -> Snapshots {
    file::read_bounded(&path(config), MAX_BYTES)
        .map_or_else(|_| Snapshots::default(), |bytes| Snapshots::parse(&bytes, clock::unix()))
}

/// The same without how it went in the last hour: no pace comes of it, and it is there at once.
pub fn load_latest(config: &Config) -> Snapshots {
    file::read_bounded(&path(config), MAX_BYTES)
        .map_or_else(|_| Snapshots::default(), |bytes| Snapshots::parse_latest(&bytes, clock::unix()))
}

/// Lock, read, change, write. Nothing is written when nothing changed.
pub fn update<T>(config: &Config, change: impl FnOnce(&mut Snapshots) -> T) -> io::Result<T> {
    file::create_private_dir(&config.root)?;
    let _lock = file::lock(&config.root.join("quota.json.lock"), PATIENCE)?;
    file::sweep(&config.root, TEMP);
    let before = load(config);
    let mut after = before.clone();
    let result = change(&mut after);
    if after != before {
        file::replace_cached(&path(config), TEMP, after.text().as_bytes())?;
    }
    Ok(result)
}

/// Whose login is in this home, as [`Snapshots`] tell accounts apart.
pub fn account(codex_home: &Path, url: &Url) -> String {
    snapshots::account(auth::read(codex_home).tokens().and_then(|tokens| tokens.account_id.as_deref()), url)
}

/// These profiles are about to be asked about, whoever was asked before. That it cannot be noted costs a question.
pub fn begin(config: &Config, url: &Url, profiles: &[Profile]) {
    let _ = update(config, |known| {
        for profile in profiles {
            known.asked(&profile.name, &account(&profile.codex_home, url), clock::unix());
        }
    });
}

/// Asks about these profiles, each of which the caller may ask about, and gives all that is known then.
pub fn ask(config: &Config, url: &Url, profiles: &[Profile], call_limit: Duration) -> io::Result<Snapshots> {
    let mut answers = Vec::new();
    probe::fetch_all(url, profiles, call_limit, |index, answer| answers.push((index, answer)));
    update(config, |known| {
        for (index, answer) in &answers {
            if let Some(profile) = profiles.get(*index) {
                note(known, &profile.name, answer);
            }
        }
        known.clone()
    })
}

/// What came of a usage call, into what is known.
pub fn note(known: &mut Snapshots, profile: &str, answer: &Answer) {
    known.asked(profile, &answer.account, clock::unix());
    match &answer.usage {
        Ok(usage) => drop(known.learn(profile, &answer.account, &usage.reading, Extent::Whole)),
        Err(error) => known.failed(profile, &answer.account, &error.words(profile)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Reading;
    use crate::state::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_one_process_learns_the_next_one_knows() {
        let dir = Scratch::new("shelf");
        let config = dir.config();
        assert_eq!(load(&config), Snapshots::default());
        let reading = Reading { plan: Some("plus".to_owned()), taken_at: clock::unix(), ..Reading::default() };
        update(&config, |snapshots| snapshots.learn("a", "x", &reading, Extent::Whole)).unwrap();
        assert_eq!(load(&config).of("a", "x").and_then(|known| known.reading.as_ref()), Some(&reading));
        assert_eq!(fs::metadata(path(&config)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew() {
        let dir = Scratch::new("shelf-torn");
        let config = dir.config();
        let reading = Reading { taken_at: 7, ..Reading::default() };
        update(&config, |snapshots| snapshots.learn("a", "x", &reading, Extent::Whole)).unwrap();
        let whole = fs::read(path(&config)).unwrap();
        for end in 0..whole.len() {
            fs::write(path(&config), &whole[..end]).unwrap();
            assert_eq!(load(&config), Snapshots::default(), "{end}");
        }
        assert!(update(&config, |snapshots| snapshots.claim("a", "x", 100)).unwrap());
        assert!(load(&config).of("a", "x").is_some());
    }

    #[test]
    fn of_many_that_want_to_ask_one_does() {
        let dir = Scratch::new("shelf-claim");
        let config = dir.config();
        let asked = std::thread::scope(|scope| {
            let crew: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| update(&config, |snapshots| snapshots.claim("a", "x", 1_000)).unwrap()))
                .collect();
            crew.into_iter().map(|one| one.join().unwrap()).filter(|asked| *asked).count()
        });
        assert_eq!(asked, 1);
    }
}
