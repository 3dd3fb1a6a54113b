//! What each screen says of a login that cannot be used: refused for good, in the keyring, an API key, none.

use super::support::codex::Fake;
use super::support::space::TestSpace;
use super::support::standin::backend::Backend;
use super::support::standin::script::Script;
use super::support::standin::token;
use std::fs;

/// All that a command says.
fn words(space: &TestSpace, line: &str) -> String {
    let output = space.prodex(&line.split(' ').collect::<Vec<_>>()).output();
    format!("{}{}", output.stdout, output.stderr)
}

#[test]
fn every_screen_names_what_is_wrong_with_a_login() {
    let backend = Backend::start(Script::new(&["good", "bad"]));
    let mut space = TestSpace::with_profiles("logins", &["bad", "good"], &backend);
    let codex = Fake::new(&space, "exit 0");
    space.env("PRODEX_CODEX_BIN", codex.path());
    backend.revoke("rt-bad-0");
    let home = space.profile_home("bad");
    let key = r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-secret"}"#;
    let expired = token::auth_json_until("bad", 1_000);
    let keyring = "cli_auth_credentials_store = \"keyring\"\n";
    for (auth, config, words_of_it, never) in [
        (Some(expired.as_str()), "", &["log in again", "Log in again: `prodex login -p bad`"][..], "no-auth"),
        (None, keyring, &["keyring"], "no-auth"),
        (Some(key), "", &["api-key"], "no-auth"),
        (None, "", &["no-auth", "nobody is logged in", "nobody logged in"], "keyring"),
    ] {
        words(&space, "use bad");
        let _ = fs::remove_file(home.join("auth.json"));
        if let Some(auth) = auth {
            space.login("bad", auth);
        }
        fs::write(home.join("config.toml"), config).expect("config.toml");
        let run = words(&space, "run -p bad exec hi");
        words(&space, "use bad");
        let lines = ["profile list", "current", "quota -p bad --once", "quota --all --once", "doctor", "why"];
        let said = lines.map(|line| (line, words(&space, line)));
        // An API key is no trouble for a run.
        for (line, text) in said.into_iter().chain((auth != Some(key)).then_some(("run -p bad", run))) {
            let line_of_bad = words_of_it.iter().any(|word| text.contains(word));
            assert!(line_of_bad && !text.contains(never), "{words_of_it:?}, `prodex {line}`:\n{text}");
            assert!(!text.contains("sk-secret") && !text.contains("rt-bad"), "`prodex {line}`:\n{text}");
        }
    }
}
