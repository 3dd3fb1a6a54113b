use super::*;
use crate::state::scratch::Scratch;

fn scene(name: &str) -> (Scratch, Config, Profile) {
    let dir = Scratch::new(name);
    let config = dir.config();
    let codex_home = config.profiles_dir().join("a");
    fs::create_dir_all(&codex_home).unwrap();
    let profile = Profile { name: "a".into(), codex_home, managed: true, ..Profile::default() };
    (dir, config, profile)
}

#[test]
fn a_bare_home_gets_every_link_and_the_second_time_nothing_happens() {
    let (_dir, config, profile) = scene("links");
    assert!(ensure_links(&profile, &config).unwrap().is_empty());
    for (name, shape) in ENTRIES {
        let target = config.shared_codex_home.join(name);
        assert_eq!(fs::read_link(profile.codex_home.join(name)).unwrap(), target);
        assert_eq!(target.is_dir(), *shape == Shape::Directory, "{name}");
    }
    let inode = |name| fs::symlink_metadata(profile.codex_home.join(name)).unwrap().ino();
    let before = (inode("sessions"), inode("state_5.sqlite"));
    let _held = Lock::take(&config).unwrap();
    assert!(ensure_links(&profile, &config).unwrap().is_empty(), "without the lock");
    assert_eq!((inode("sessions"), inode("state_5.sqlite")), before);
}

#[test]
fn real_entries_move_to_the_free_place_with_their_log() {
    let (_dir, config, profile) = scene("links-move");
    let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
    fs::create_dir(home.join("sessions")).unwrap();
    fs::write(home.join("sessions/r"), "mine").unwrap();
    fs::create_dir_all(shared.join("sessions")).unwrap();
    fs::write(home.join("history.jsonl"), "h").unwrap();
    fs::write(home.join("state_9.sqlite"), "db").unwrap();
    fs::write(home.join("state_9.sqlite-wal"), "wal").unwrap();
    assert!(ensure_links(&profile, &config).unwrap().is_empty());
    for (name, text) in
        [("sessions/r", "mine"), ("history.jsonl", "h"), ("state_9.sqlite", "db"), ("state_9.sqlite-wal", "wal")]
    {
        assert_eq!(fs::read_to_string(shared.join(name)).unwrap(), text);
    }
    assert!(home.join("state_9.sqlite").is_symlink() && !home.join("state_9.sqlite-wal").exists());
}

#[test]
fn what_stands_in_the_way_goes_aside_and_is_named() {
    let (_dir, config, profile) = scene("links-aside");
    let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
    for (directory, text) in [(home, "mine"), (shared, "theirs")] {
        fs::create_dir_all(directory.join("sessions")).unwrap();
        fs::write(directory.join("sessions/r"), text).unwrap();
        fs::write(directory.join("state_5.sqlite"), text).unwrap();
    }
    fs::write(home.join("state_5.sqlite-wal"), "wal").unwrap();
    symlink("/elsewhere", home.join("history.jsonl")).unwrap();
    symlink("/elsewhere", home.join(".link+1")).unwrap();
    let aside = ensure_links(&profile, &config).unwrap();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert_eq!(fs::read_to_string(Path::new(&aside[0]).join("r")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&aside[1]).unwrap(), "mine");
    assert_eq!(fs::read_to_string(format!("{}-wal", aside[1])).unwrap(), "wal");
    assert_eq!(fs::read_to_string(home.join("sessions/r")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(home.join("state_5.sqlite")).unwrap(), "theirs");
    assert_eq!(fs::read_link(home.join("history.jsonl")).unwrap(), shared.join("history.jsonl"));
    assert!(!home.join(".link+1").is_symlink(), "what a death left");
}

#[test]
fn an_empty_lock_gives_way_and_what_is_written_does_not() {
    let (_dir, config, profile) = scene("links-lock");
    let lock = profile.codex_home.join("session_index.jsonl.lock");
    for (text, aside) in [("", 0), ("x", 1)] {
        let _ = fs::remove_file(&lock);
        fs::write(&lock, text).unwrap();
        fs::create_dir_all(&config.shared_codex_home).unwrap();
        fs::write(config.shared_codex_home.join("session_index.jsonl.lock"), "").unwrap();
        assert_eq!(ensure_links(&profile, &config).unwrap().len(), aside);
        assert!(lock.is_symlink());
    }
}

#[test]
fn a_loop_is_said_and_stays() {
    let (_dir, config, profile) = scene("links-loop");
    fs::create_dir_all(&config.shared_codex_home).unwrap();
    symlink("sessions", config.shared_codex_home.join("sessions")).unwrap();
    let error = ensure_links(&profile, &config).unwrap_err().to_string();
    assert!(error.contains("sessions"), "{error}");
    let linked = |name: &str| profile.codex_home.join(name).is_symlink();
    assert!(!linked("sessions") && linked("worktrees") && linked("history.jsonl"), "the others are made");
    assert_eq!(fs::read_link(config.shared_codex_home.join("sessions")).unwrap(), Path::new("sessions"));
}

#[test]
fn two_histories_become_one_but_for_what_has_one_name() {
    let (_dir, config, profile) = scene("links-merge");
    let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
    let files =
        [(home, "mine", ["01/01/a", "11/25/b", "11/25/c"]), (shared, "theirs", ["02/01/d", "11/25/e", "11/25/c"])];
    for (directory, text, names) in files {
        for name in names {
            let path = directory.join("sessions/2026").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    // Somebody writes into one that moves.
    let mut open = fs::File::options().append(true).open(home.join("sessions/2026/11/25/b")).unwrap();
    let aside = ensure_links(&profile, &config).unwrap();
    std::io::Write::write_all(&mut open, b"+").unwrap();
    let text = |name: &str| fs::read_to_string(home.join("sessions/2026").join(name)).unwrap();
    let texts = ["01/01/a", "11/25/b", "11/25/c", "02/01/d", "11/25/e"].map(text);
    assert_eq!(texts, ["mine", "mine+", "theirs", "theirs", "theirs"]);
    assert_eq!(aside.len(), 1);
    assert_eq!(fs::read_to_string(Path::new(&aside[0]).join("2026/11/25/c")).unwrap(), "mine");
    assert_eq!(fs::read_dir(Path::new(&aside[0]).join("2026")).unwrap().count(), 1);
}

#[test]
fn two_of_one_name_go_aside_within_one_second() {
    let (_dir, config, profile) = scene("links-twice");
    let own = profile.codex_home.join("history.jsonl");
    fs::create_dir_all(&config.shared_codex_home).unwrap();
    fs::write(config.shared_codex_home.join("history.jsonl"), "theirs").unwrap();
    let aside = ["one", "two", "three"].map(|text| {
        let _ = fs::remove_file(&own);
        fs::write(&own, text).unwrap();
        ensure_links(&profile, &config).unwrap().remove(0)
    });
    assert_eq!(aside.map(|path| fs::read_to_string(path).unwrap()), ["one", "two", "three"]);
}

#[test]
fn what_a_death_left_under_two_names_is_one_file() {
    let (_dir, config, profile) = scene("links-two-names");
    for name in ["sessions/2026/r", "history.jsonl", "state_5.sqlite", "state_5.sqlite-wal"] {
        let (own, shared) = (profile.codex_home.join(name), config.shared_codex_home.join(name));
        for path in [&own, &shared] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(&own, name).unwrap();
        fs::hard_link(&own, &shared).unwrap();
    }
    assert_eq!(ensure_links(&profile, &config).unwrap(), [""; 0]);
    for name in ["sessions/2026/r", "history.jsonl", "state_5.sqlite", "state_5.sqlite-wal"] {
        let shared = config.shared_codex_home.join(name);
        assert_eq!(fs::metadata(&shared).unwrap().nlink(), 1, "{name}");
        assert_eq!(fs::read_to_string(shared).unwrap(), name);
    }
}

#[test]
fn what_is_merged_goes_through_no_link() {
    let (dir, config, profile) = scene("links-merge-link");
    let own = profile.codex_home.join("sessions/2025");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("r"), "mine").unwrap();
    fs::create_dir_all(config.shared_codex_home.join("sessions")).unwrap();
    fs::create_dir(dir.path("elsewhere")).unwrap();
    symlink(dir.path("elsewhere"), config.shared_codex_home.join("sessions/2025")).unwrap();
    let aside = ensure_links(&profile, &config).unwrap();
    assert_eq!(fs::read_dir(dir.path("elsewhere")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(Path::new(&aside[0]).join("2025/r")).unwrap(), "mine");
}

#[test]
fn two_checkouts_of_one_name_are_not_mixed() {
    let (_dir, config, profile) = scene("links-checkouts");
    let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
    for (file, directory) in [("ab/mine", home), ("cd/mine", home), ("ab/theirs", shared)] {
        let path = directory.join("worktrees").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let aside = ensure_links(&profile, &config).unwrap();
    let names = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names(shared.join("worktrees/ab")), ["theirs"]);
    assert_eq!(names(shared.join("worktrees/cd")), ["mine"], "its place was free");
    assert_eq!(aside.len(), 1);
    assert_eq!(names(Path::new(&aside[0]).join("ab")), ["mine"]);
    assert_eq!(names(PathBuf::from(&aside[0])), ["ab"]);
}

#[test]
fn nobody_is_linked_to_himself() {
    let (_dir, mut config, profile) = scene("links-self");
    config.shared_codex_home.clone_from(&profile.codex_home);
    assert!(ensure_links(&profile, &config).unwrap().is_empty());
    assert_eq!(fs::read_dir(&profile.codex_home).unwrap().count(), 0);
    let external = Profile { managed: false, codex_home: "/dev/null/nowhere".into(), ..profile.clone() };
    assert!(ensure_links(&external, &config).unwrap().is_empty());
    assert!(ensure_links(&Profile { codex_home: "/dev/null/nowhere".into(), ..profile }, &config).is_err());
}

#[test]
fn a_link_the_other_way_round_is_left_alone() {
    let (_dir, config, profile) = scene("links-back");
    fs::create_dir(profile.codex_home.join("sessions")).unwrap();
    fs::create_dir_all(&config.shared_codex_home).unwrap();
    symlink(profile.codex_home.join("sessions"), config.shared_codex_home.join("sessions")).unwrap();
    assert!(ensure_links(&profile, &config).unwrap().is_empty());
    assert!(!profile.codex_home.join("sessions").is_symlink());
}
