//! Homes that earlier versions of prodex left, made by hand: they open, run the real codex, and are afterwards what those
//! versions read. Nothing of theirs that prodex does not know is touched.

use crate::support::codex;
use crate::support::scene::{PATIENCE, Scene};
use crate::support::space::{TestSpace, write_private};
use crate::support::standin::backend::Backend;
use crate::support::standin::json::Json;
use crate::support::standin::script::Script;
use crate::support::standin::token;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const ACCOUNTS: [&str; 2] = ["main", "second"];

/// Two profiles with the links that every version makes, and this `state.json` (`<PH>` is the prodex home).
fn home(state: &str, provider: &str) -> Scene {
    let (mut space, backend) = (TestSpace::new("older-home"), Backend::start(Script::new(&ACCOUNTS)));
    space.use_backend(&backend);
    space.env("PRODEX_CODEX_BIN", codex::real(codex::CURRENT).to_str().expect("UTF-8"));
    for name in ACCOUNTS {
        space.login(name, &token::auth_json(name));
        let (home, shared) = (space.profile_home(name), space.codex_home());
        for entry in ["sessions", "archived_sessions", "shell_snapshots"] {
            fs::create_dir_all(shared.join(entry)).unwrap();
            symlink(shared.join(entry), home.join(entry)).unwrap();
        }
        for entry in ["history.jsonl", "state_5.sqlite", "state_5.sqlite-wal", "state_5.sqlite-shm", "logs_2.sqlite"] {
            symlink(shared.join(entry), home.join(entry)).unwrap();
        }
    }
    let text = state.replace("<PH>", space.prodex_home().to_str().expect("UTF-8")).replace("<PROVIDER>", provider);
    fs::write(space.state_file(), text).unwrap();
    fs::set_permissions(space.state_file(), fs::Permissions::from_mode(0o644)).unwrap();
    Scene { space, backend }
}

const STATE: &str = r#"{
  "active_profile": "main",
  "profiles": {
    "main": { "codex_home": "<PH>/profiles/main", "managed": true, "email": null<PROVIDER> },
    "second": { "codex_home": "<PH>/profiles/second", "managed": true, "email": "second@example.com"<PROVIDER> }
  },
  "last_run_selected_at": { "main": 1795574904 },
  "response_profile_bindings": {
    "resp_e54a9f6872fe4e03b4b2b23d8f85b471": { "profile_name": "main", "bound_at": 1795574904 }
  },
  "session_profile_bindings": {
    "SESS-1": { "profile_name": "second", "bound_at": 1795575129 }
  }
}"#;

/// Begins a thread under each profile and goes on with the last one under the other.
fn use_it(scene: &Scene) {
    let say = |profile: &str, args: &[&str]| {
        let args = [&["run", "-p", profile, "exec", "--skip-git-repo-check"], args].concat();
        let output = scene.space.prodex(&args).at_most(PATIENCE).output().expect(0);
        let id = output.stderr.lines().find_map(|line| line.strip_prefix("session id: "));
        id.unwrap_or_else(|| panic!("{}", output.stderr)).to_owned()
    };
    say("main", &["One"]);
    let two = say("second", &["Two"]);
    assert_eq!(say("main", &["resume", "--last", "Three"]), two);
    let listed = scene.space.prodex(&["session", "list", "--json"]).output().expect(0).stdout;
    assert!(listed.contains("\"first_words\": \"One\"") && listed.contains("\"first_words\": \"Two\""), "{listed}");
    scene.space.prodex(&["use", "second"]).output().expect(0);
}

/// `state.json` as original 0.2.38 takes it: these members, of these types.
fn as_0_2_38_reads_it(scene: &Scene) {
    let text = fs::read_to_string(scene.space.state_file()).unwrap();
    let state = Json::parse(text.as_bytes()).expect("JSON");
    let of = |path: &[&str]| path.iter().try_fold(&state, |value, name| value.get(name));
    assert_eq!(of(&["active_profile"]).and_then(Json::text), Some("second"));
    for name in ACCOUNTS {
        let at = |member| of(&["profiles", name, member]);
        let home = scene.space.profile_home(name);
        assert_eq!(at("codex_home").and_then(Json::text), home.to_str());
        assert!(matches!(at("managed"), Some(Json::Bool(true))), "{text}");
        assert!(at("email").is_some_and(|email| matches!(email, Json::Null) || email.text().is_some()), "{text}");
        for entry in ["sessions", "archived_sessions", "shell_snapshots", "history.jsonl", "state_5.sqlite"] {
            assert_eq!(fs::read_link(home.join(entry)).unwrap(), scene.space.codex_home().join(entry));
        }
        assert!(home.join("auth.json").symlink_metadata().unwrap().is_file());
        let aside = fs::read_dir(&home).unwrap().flatten().any(|e| e.file_name().to_string_lossy().contains(".aside-"));
        assert!(!aside, "nothing stood in the way");
    }
    assert!(of(&["last_run_selected_at", "main"]).and_then(Json::number).is_some(), "{text}");
    for (map, id, profile) in [
        ("response_profile_bindings", "resp_e54a9f6872fe4e03b4b2b23d8f85b471", "main"),
        ("session_profile_bindings", "SESS-1", "second"),
    ] {
        assert_eq!(of(&[map, id, "profile_name"]).and_then(Json::text), Some(profile));
        assert!(of(&[map, id, "bound_at"]).and_then(Json::number).is_some());
    }
}

#[test]
fn of_0_2_38() {
    let scene = home(STATE, "");
    let lock = scene.space.prodex_home().join("state.json.lock");
    fs::write(&lock, "").unwrap();
    let config = "model_reasoning_effort = \"low\"\n";
    fs::write(scene.space.profile_home("main").join("config.toml"), config).unwrap();
    use_it(&scene);
    as_0_2_38_reads_it(&scene);
    let kept = fs::read_to_string(scene.space.profile_home("main").join("config.toml")).unwrap();
    assert!(kept.contains(config.trim()), "{kept}");
}

#[test]
fn of_0_67() {
    let scene = home(STATE, r#", "provider": { "provider_kind": "openai" }"#);
    let (root, shared) = (scene.space.prodex_home(), scene.space.codex_home());
    fs::write(shared.join("config.toml"), "model_reasoning_effort = \"low\"\n").unwrap();
    for name in ACCOUNTS {
        symlink(shared.join("config.toml"), scene.space.profile_home(name).join("config.toml")).unwrap();
        for entry in ["rules", "skills", "agents"] {
            fs::create_dir_all(shared.join(entry)).unwrap();
            symlink(shared.join(entry), scene.space.profile_home(name).join(entry)).unwrap();
        }
    }
    let sidecars: Vec<PathBuf> = [
        "runtime-scores.json",
        "runtime-usage-snapshots.json",
        "runtime-backoffs.json",
        "runtime-continuations.json",
        "runtime-continuation-journal.json",
        "runtime-broker-abc.json",
        "runtime-scores.json.last-good",
        "runtime-owner.lock",
    ]
    .iter()
    .map(|name| root.join(name))
    .collect();
    let text = |path: &Path| format!("{{\"of\": {:?}}}", path.file_name().unwrap());
    for path in &sidecars {
        write_private(path, &text(path));
    }
    use_it(&scene);
    as_0_2_38_reads_it(&scene);
    let state = fs::read_to_string(scene.space.state_file()).unwrap();
    assert_eq!(state.matches("\"provider_kind\"").count(), 2, "{state}");
    for path in &sidecars {
        assert_eq!(fs::read_to_string(path).unwrap(), text(path));
    }
    for name in ACCOUNTS {
        let home = scene.space.profile_home(name);
        for entry in ["config.toml", "rules", "skills", "agents"] {
            assert_eq!(fs::read_link(home.join(entry)).unwrap(), shared.join(entry));
        }
    }
}
