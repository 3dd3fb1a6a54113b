//! The real `codex login --device-auth` and `codex logout`, against an auth server of the test.

use crate::support::codex;
use crate::support::issuer::Issuer;
use crate::support::scene::PATIENCE;
use crate::support::space::TestSpace;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const ANN: &str = "ann_example.com";
const BOB: &str = "bob_example.com";

/// Files of this world, links not followed, in which this text is.
fn files_with(space: &TestSpace, text: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![space.home(), space.tmp()]);
    while let Some(path) = left.pop() {
        if path.is_symlink() {
            continue;
        }
        if let Ok(entries) = fs::read_dir(&path) {
            left.extend(entries.flatten().map(|entry| entry.path()));
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes())) {
            found.push(path);
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn two_logins_a_logout_and_a_login_again() {
    let mut space = TestSpace::new("login-real");
    let issuer = Issuer::start();
    space.env("CODEX_REVOKE_TOKEN_URL_OVERRIDE", &issuer.revoke_url());
    space.env("PRODEX_CODEX_BIN", codex::real(codex::CURRENT).to_str().expect("test paths are UTF-8"));
    let prodex = |args: &[&str]| space.prodex(args).at_most(PATIENCE).output().expect(0);
    // The refresh token that the account got.
    let login = |name: &str, says: &str| {
        let token = issuer.expect(name);
        let output = prodex(&["login", "--device-auth", "--experimental_issuer", issuer.origin()]);
        assert!(output.stdout.contains(says), "{}", output.stdout);
        token
    };
    let auth = |profile: &str| space.profile_home(profile).join("auth.json");
    let homes = || {
        let entries = fs::read_dir(space.prodex_home().join("profiles")).expect("profiles").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };

    let ann = login("ann", "Created profile 'ann_example.com'");
    let bob = login("bob", "Created profile 'bob_example.com'");
    assert_eq!(homes(), [ANN, BOB], "and nothing that was only begun");
    for (profile, token) in [(ANN, &ann), (BOB, &bob)] {
        assert_eq!((mode(&space.profile_home(profile)), mode(&auth(profile))), (0o700, 0o600));
        assert_eq!(files_with(&space, token), [auth(profile)]);
    }
    assert!(!space.codex_home().join("auth.json").exists());

    prodex(&["logout", "-p", ANN]);
    assert!(!auth(ANN).exists() && auth(BOB).exists());
    assert!(matches!(issuer.revoked().as_slice(), [body] if body.contains(&ann)), "{:?}", issuer.revoked());
    assert!(files_with(&space, &ann).is_empty());

    let again = login("ann", "Reusing profile 'ann_example.com'");
    assert_eq!(homes(), [ANN, BOB]);
    assert_eq!((mode(&auth(ANN)), files_with(&space, &again)), (0o600, vec![auth(ANN)]));

    prodex(&["profile", "remove", ANN, "--delete-home"]);
    assert_eq!((homes(), files_with(&space, &again)), (vec![BOB.to_owned()], Vec::new()));
    assert_eq!(files_with(&space, &bob), [auth(BOB)]);
}
