//! `profile export` and `profile import`: from one machine to another, what is refused, and what is left after a failure.

use crate::support::run::Output;
use crate::support::space::{TestSpace, write_private};
use crate::support::tmux::Tmux;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

const NAMES: [&str; 2] = ["alpha", "beta"];

fn ok(space: &TestSpace, args: &[&str]) -> String {
    space.prodex(args).output().expect(0).stdout
}

/// Two profiles, one with configuration, one disabled.
fn machine() -> TestSpace {
    let space = TestSpace::new("export");
    space.profiles(&NAMES);
    let home = space.profile_home("alpha");
    fs::create_dir_all(home.join("skills/s")).expect("directories");
    fs::write(home.join("config.toml"), "model = \"m\"\n").expect("a file");
    fs::write(home.join("skills/s/run.sh"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(home.join("skills/s/run.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    ok(&space, &["profile", "disable", "beta"]);
    ok(&space, &["profile", "reserve", "beta", "30"]);
    space
}

fn file(space: &TestSpace) -> String {
    space.work().join("accounts.json").display().to_string()
}

/// Everything below, by name.
fn tree(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            found.push(entry.path().strip_prefix(directory).expect("below").display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_exported_is_there_after_the_import() {
    let (here, there) = (machine(), TestSpace::new("import"));
    let file = file(&here);
    let output = here.prodex(&["profile", "export", &file]).output().expect(0);
    assert!(output.stdout.contains("Exported alpha, beta."), "{}", output.stdout);
    assert!(output.stderr.contains("credentials") && output.stderr.contains("refresh tokens"), "{}", output.stderr);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = here.prodex(&["profile", "export", &file]).output().expect(1);
    assert!(again.stderr.contains("exists already") && again.stderr.lines().count() == 1, "{}", again.stderr);
    let output = there.prodex(&["profile", "import", &file]).output().expect(0);
    assert!(output.stdout.contains("Imported alpha, beta.") && output.stdout.contains("alpha"), "{}", output.stdout);
    assert!(output.stderr.contains("refresh tokens"), "{}", output.stderr);
    assert!(output.stderr.contains("With the logins came 2 other files"), "{}", output.stderr);
    for name in NAMES {
        let login = |space: &TestSpace| fs::read(space.profile_home(name).join("auth.json")).expect("a login");
        assert_eq!(login(&there), login(&here), "byte for byte");
    }
    let mode = |name: &str| {
        fs::metadata(there.profile_home("alpha").join(name)).expect("is there").permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("auth.json"), mode("skills/s/run.sh")), (0o700, 0o600, 0o700));
    assert!(there.profile_home("alpha").join("sessions").is_symlink(), "the history is linked");
    let list = ok(&there, &["profile", "list"]);
    assert!(list.contains("Active:    alpha") && list.contains("disabled, 30% of each window kept back"), "{list}");
    // Nothing is replaced.
    let before = (tree(&there.prodex_home()), fs::read(there.state_file()).expect("state.json"));
    for (args, what) in [
        (&["profile", "import", &file][..], "profile 'alpha' already exists, and nothing was imported"),
        (&["profile", "import", &file, "alpha", "--as", "other"], "is here already, as 'alpha'"),
        (&["profile", "import", &file, "gamma"], "there is no profile 'gamma' in"),
        (&["profile", "import", &file, "alpha", "--as", "../x"], "path separators"),
    ] {
        let error = there.prodex(args).output().expect(1).stderr;
        assert!(error.contains(what) && error.lines().count() == 1, "{args:?}: {error}");
    }
    there.prodex(&["profile", "import", &file, "--as", "x"]).output().expect(2);
    assert_eq!((tree(&there.prodex_home()), fs::read(there.state_file()).expect("state.json")), before);
}

#[test]
fn some_of_them_through_a_pipe_and_under_another_name() {
    let (here, there) = (machine(), TestSpace::new("pipe"));
    let output = here.prodex(&["profile", "export", "-", "beta"]).output().expect(0);
    assert!(output.stderr.contains("Exported beta."), "{}", output.stderr);
    assert!(output.stdout.starts_with("{\n  \"prodex_export\": 1,"), "{}", output.stdout);
    let import = there.prodex(&["profile", "import", "-", "--as", "second"]).stdin(output.stdout.as_bytes());
    let output = import.output().expect(0);
    assert!(output.stdout.contains("Imported second.") && !output.stderr.contains("other file"), "{output:?}");
    assert!(there.profile_home("second").join("auth.json").is_file() && !there.profile_home("alpha").exists());
    assert!(ok(&there, &["current"]).contains("second"));
}

/// The account that a home holds decides, whatever the profile is called, and whoever else imports at this moment.
#[test]
fn one_account_comes_in_once() {
    let (here, there) = (TestSpace::new("one"), TestSpace::new("once"));
    here.profiles(&["alpha"]);
    let file = file(&here);
    ok(&here, &["profile", "export", &file]);
    let running: Vec<_> = (0..8)
        .map(|number| there.prodex(&["profile", "import", &file, "alpha", "--as", &format!("n{number}")]).start())
        .collect();
    let outputs: Vec<_> = running.into_iter().map(|running| running.wait(Duration::from_secs(20))).collect();
    assert_eq!(outputs.iter().filter(|output| output.code() == 0).count(), 1, "{outputs:?}");
    let refused = |output: &&Output| output.stderr.contains("is here already, as 'n");
    assert_eq!(outputs.iter().filter(refused).count(), 7, "{outputs:?}");
    assert_eq!(fs::read_dir(there.prodex_home().join("profiles")).expect("homes").count(), 1);
    // Twice in one file.
    let text = fs::read_to_string(&file).expect("an export");
    let (_, entry) = text.split_once("\"profiles\": [").expect("profiles");
    let twin = entry.trim_end().trim_end_matches('}').trim_end().trim_end_matches(']').replace("\"alpha\"", "\"twin\"");
    let both = text.replacen("\"profiles\": [", &format!("\"profiles\": [{twin},"), 1);
    let empty = TestSpace::new("twice");
    let error = empty.prodex(&["profile", "import", "-"]).stdin(both.as_bytes()).output().expect(1).stderr;
    assert!(error.contains("profiles 'twin' and 'alpha' in the export are one account"), "{error}");
    assert_eq!(tree(&empty.prodex_home().join("profiles")), [""; 0]);
    empty.prodex(&["profile", "import", "-", "twin"]).stdin(both.as_bytes()).output().expect(0);
}

/// The limit is one for all homes together, and met while they are read.
#[test]
fn more_than_an_export_holds() {
    let space = machine();
    let skills = space.profile_home("beta").join("skills");
    fs::create_dir(&skills).expect("a directory");
    for number in 0..45 {
        let file = fs::File::create(skills.join(format!("{number}"))).expect("a file");
        file.set_len(1024 * 1024).expect("a size");
    }
    let error = space.prodex(&["profile", "export", &file(&space)]).output().expect(1).stderr;
    assert!(error.contains("45 MiB in all, which ") && error.contains("profile export FILE NAME"), "{error}");
    assert!(!Path::new(&file(&space)).exists());
    ok(&space, &["profile", "export", &file(&space), "alpha"]);
}

#[test]
fn a_terminal_gets_no_credentials() {
    let space = machine();
    // A pane that is dead scrolls.
    let script = format!("{} profile export -; sleep 60", env!("CARGO_BIN_EXE_prodex"));
    let tmux = Tmux::start(&space, 250, 30, &[], &["sh", "-c", &script]);
    let screen = tmux.wait_for("do not belong on a screen", Duration::from_secs(20));
    assert!(!screen.contains("prodex_export"), "{screen}");
}

#[test]
fn an_export_that_goes_nowhere_is_none() {
    let space = machine();
    for stdout in [">&-", "> /dev/null"] {
        let script = format!("'{}' profile export - {stdout}", env!("CARGO_BIN_EXE_prodex"));
        let error = space.run("sh", &["-c", &script]).output().expect(1).stderr;
        assert!(error.contains("nothing was exported") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn logins_that_are_not_in_a_file_are_named() {
    let space = machine();
    let beta = space.profile_home("beta");
    fs::remove_file(beta.join("auth.json")).expect("a login");
    write_private(&beta.join("config.toml"), "cli_auth_credentials_store = \"keyring\"\n");
    let output = space.prodex(&["profile", "export", &file(&space)]).output().expect(0);
    assert!(output.stderr.contains("the login of profile 'beta' is in this system's keyring"), "{}", output.stderr);
    let there = TestSpace::new("keyless");
    let said = there.prodex(&["profile", "import", &file(&space)]).output().expect(0).stdout;
    assert!(said.contains("`prodex login -p beta`"), "{said}");
    // Torn, it would be worth nothing there.
    write_private(&space.profile_home("alpha").join("auth.json"), "{\"tokens\":");
    let error = space.prodex(&["profile", "export", "-"]).output().expect(1);
    assert!(error.stderr.contains("profile 'alpha' cannot be exported") && error.stdout.is_empty(), "{}", error.stderr);
}

#[test]
fn a_hostile_or_torn_file_changes_nothing() {
    let (here, there) = (machine(), TestSpace::new("hostile"));
    let good = here.prodex(&["profile", "export", "-"]).output().expect(0).stdout;
    let path = there.work().join("in.json");
    let name = path.to_str().expect("UTF-8");
    let climbing = good.replace("skills/s/run.sh", "../../../.ssh/run.sh");
    let shared = good.replace("skills/s/run.sh", "sessions/x");
    let later = good.replace("\"prodex_export\": 1", "\"prodex_export\": 2");
    let twice = good.replace("\"name\": \"beta\"", "\"name\": \"alpha\"");
    let (before, after) = good.split_once("\"base64\": \"").expect("files");
    assert!(before.trim_end().ends_with("\"executable\": false,") && before.contains("auth.json"), "the first one");
    let no_login = format!("{before}\"base64\": \"AAAA{after}");
    for (text, what) in [
        (&good[..good.len() / 2], "it is no JSON"),
        ("", "it is no JSON"),
        ("{}", "it is no export of prodex"),
        (climbing.as_str(), "does not belong into a profile"),
        (shared.as_str(), "does not belong into a profile"),
        (later.as_str(), "another version of prodex"),
        (twice.as_str(), "is in it twice"),
        (no_login.as_str(), "in the export is none"),
    ] {
        fs::write(&path, text).expect("a file");
        let output = there.prodex(&["profile", "import", name]).output().expect(1);
        assert!(output.stderr.contains(what) && output.stderr.lines().count() == 1, "{what}: {}", output.stderr);
        assert!(!there.state_file().exists(), "{what}");
        assert_eq!(tree(&there.prodex_home().join("profiles")), [""; 0], "{what}");
    }
    let huge = fs::File::create(&path).expect("a file");
    huge.set_len(65 * 1024 * 1024).expect("a size");
    for path in [name, "/dev/zero", "/nowhere", "/"] {
        there.prodex(&["profile", "import", path]).output().expect(1);
    }
    assert_eq!(tree(&there.prodex_home().join("profiles")), [""; 0]);
    // A home that is there without a profile is somebody's, too; so is a link under the name.
    fs::write(&path, &good).expect("a file");
    fs::create_dir_all(there.prodex_home().join("profiles")).expect("a directory");
    symlink(there.work(), there.profile_home("beta")).expect("a link");
    let error = there.prodex(&["profile", "import", name]).output().expect(1).stderr;
    assert!(error.contains("beta exists already, and nothing was imported") && error.contains("(alpha)"), "{error}");
    assert!(!there.profile_home("alpha").exists());
}
