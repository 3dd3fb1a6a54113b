//! Homes that are made, copied, swept and deleted.

use super::*;
use crate::state::scratch::Scratch;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn the_home_of_a_profile_is_not_deleted() {
    let dir = Scratch::new("delete-resident");
    let config = dir.config();
    let home = config.profiles_dir().join("a");
    file::create_private_dir(&home).unwrap();
    fs::write(home.join("auth.json"), "a login").unwrap();
    let profile = Profile { name: "a".into(), codex_home: home.clone(), managed: true, ..Profile::default() };
    store::update(&config, |state| state.insert(&profile)).unwrap();
    delete(&config, &home).unwrap();
    assert!(home.join("auth.json").exists());
    store::update(&config, |state| {
        state.remove("a");
        Ok(())
    })
    .unwrap();
    delete(&config, &home).unwrap();
    assert!(!home.exists() && fs::read_dir(config.profiles_dir()).unwrap().next().is_none());
}

#[test]
fn a_copy_takes_account_and_configuration_only() {
    let dir = Scratch::new("copy");
    let config = dir.config();
    let source = config.default_codex_home.clone();
    for directory in ["skills/s", "sessions/2026", "packages/x", "app-server-daemon", "log", "unknown", "prompts"] {
        fs::create_dir_all(source.join(directory)).unwrap();
    }
    for name in [
        "auth.json",
        "config.toml",
        "work.config.toml",
        "AGENTS.md",
        ".credentials.json",
        "unknown/f",
        "history.jsonl",
        "state_5.sqlite",
        "other.sqlite-wal",
        "auth.lock",
        "models_cache.json",
        "sessions/2026/r",
        "log/l",
        "skills/s/run.sh",
    ] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::write(source.join("huge"), vec![0; 1_048_577]).unwrap();
    fs::set_permissions(source.join("skills/s/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../dotfiles/AGENTS.md", source.join("AGENTS.override.md")).unwrap();
    symlink("s/run.sh", source.join("skills/inside")).unwrap();
    symlink("/", source.join("unknown/out")).unwrap();
    let staged = Staged::copy_of(&config, &source).unwrap();
    let mut names: Vec<_> = fs::read_dir(staged.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    let expected = [
        ".credentials.json",
        "AGENTS.md",
        "AGENTS.override.md",
        "auth.json",
        "config.toml",
        "prompts",
        "skills",
        "unknown",
        "work.config.toml",
    ];
    assert_eq!(names, expected);
    assert_eq!(staged.skipped.len(), 1);
    let at = |name: &str| staged.path().join(name);
    let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("auth.json"), mode("skills/s/run.sh"), mode("skills"), mode("")), (0o600, 0o700, 0o700, 0o700));
    assert_eq!(fs::read_link(at("AGENTS.override.md")).unwrap(), dir.path("dotfiles/AGENTS.md"));
    assert_eq!(fs::read_link(at("skills/inside")).unwrap(), Path::new("s/run.sh"));
    assert_eq!(fs::read_link(at("unknown/out")).unwrap(), Path::new("/"));
}

#[test]
fn a_home_that_is_not_published_is_gone() {
    let dir = Scratch::new("staged");
    let config = dir.config();
    let (one, two) = (Staged::empty(&config).unwrap(), Staged::empty(&config).unwrap());
    let left_over = config.profiles_dir().join(".new+1+0");
    fs::create_dir(&left_over).unwrap();
    let home = config.profiles_dir().join("a");
    one.publish(&home).unwrap();
    assert!(two.publish(&home).is_err());
    drop(Staged::empty(&config).unwrap());
    assert!(!left_over.exists(), "what a dead process left is swept");
    assert_eq!(fs::read_dir(config.profiles_dir()).unwrap().count(), 1);
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_somebody_is_deleting_is_not_swept() {
    let dir = Scratch::new("gone");
    let config = dir.config();
    let home = config.profiles_dir().join("a");
    fs::create_dir_all(&home).unwrap();
    let gone = Discarded::of(&config, &home).unwrap();
    sweep_left_over(&config);
    assert!(gone.path.is_dir() && !home.exists());
    let path = gone.path.clone();
    drop(gone);
    sweep_left_over(&config);
    assert!(!path.exists(), "whoever was at it is dead");
}

#[test]
fn a_home_that_is_somebodys_again_is_kept() {
    let dir = Scratch::new("retire");
    let config = dir.config();
    let home = config.profiles_dir().join("a");
    fs::create_dir_all(home.join("deeper")).unwrap();
    let register = |codex_home: &Path| {
        let profile = Profile { name: "b".into(), codex_home: codex_home.to_owned(), ..Profile::default() };
        store::update(&config, |state| state.insert(&profile)).unwrap();
    };
    for at in [home.clone(), home.join("deeper"), config.profiles_dir().join("../profiles/a")] {
        register(&at);
        assert_eq!(retire(&config, &home).unwrap(), Retired::Kept);
        assert!(home.is_dir());
    }
    register(&dir.path("elsewhere"));
    assert_eq!(retire(&config, &home).unwrap(), Retired::Deleted);
    assert_eq!(fs::read_dir(config.profiles_dir()).unwrap().count(), 0);
}

#[test]
fn a_failing_copy_leaves_nothing() {
    let dir = Scratch::new("copy-fail");
    let config = dir.config();
    assert!(Staged::copy_of(&config, &dir.path("missing")).is_err());
    fs::create_dir_all(config.default_codex_home.join("auth.json")).unwrap();
    assert!(Staged::copy_of(&config, &config.default_codex_home).is_err());
    assert_eq!(fs::read_dir(config.profiles_dir()).unwrap().count(), 0);
}

#[test]
fn a_root_inside_the_source_is_not_copied_into_itself() {
    let dir = Scratch::new("copy-self");
    let mut config = dir.config();
    config.root = config.default_codex_home.join("x/prodex");
    fs::create_dir_all(&config.root).unwrap();
    let staged = Staged::copy_of(&config, &config.default_codex_home).unwrap();
    assert!(staged.path().join("x").is_dir() && !staged.path().join("x/prodex").exists());
}

#[test]
fn only_real_directories_inside_are_deletable() {
    let dir = Scratch::new("delete");
    let config = dir.config();
    let profiles = config.profiles_dir();
    fs::create_dir_all(profiles.join("a/d")).unwrap();
    fs::create_dir_all(dir.path("out")).unwrap();
    fs::write(dir.path("out/f"), "x").unwrap();
    symlink(dir.path("out"), profiles.join("link")).unwrap();
    symlink(dir.path("out"), profiles.join("a/sessions")).unwrap();
    assert!(deletable(&config, &profiles.join("a")).unwrap());
    assert!(!deletable(&config, &profiles.join("none")).unwrap());
    for home in
        [profiles.clone(), profiles.join("link"), profiles.join(".."), profiles.join("link/../.."), dir.path("out")]
    {
        assert!(deletable(&config, &home).is_err(), "{}", home.display());
    }
    delete(&config, &profiles.join("a")).unwrap();
    assert_eq!(fs::read_to_string(dir.path("out/f")).unwrap(), "x");
    assert_eq!(fs::read_dir(&profiles).unwrap().count(), 1);
}
