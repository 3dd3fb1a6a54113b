//! A disk that is full, a home that cannot be written, file systems that differ, links in circles: what prodex says, and that
//! nothing is half done. A mount takes root: without it those tests say so and pass.

use crate::support::codex::Fake;
use crate::support::run::Output;
use crate::support::space::{TestSpace, write_private};
use crate::support::standin::token;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small file system of its own, gone with this.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path) -> Option<Mount> {
        fs::create_dir_all(at).expect("a place to mount at");
        let mount = Mount(at.to_owned());
        let mounted = mount.call("mount", &["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]);
        if !mounted {
            eprintln!("skipped: this test mounts a file system, which takes root");
        }
        mounted.then_some(mount)
    }

    fn call(&self, program: &str, args: &[&str]) -> bool {
        let mut command = Command::new(program);
        command.args(args).arg(&self.0).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn writable(&self, yes: bool) {
        assert!(self.call("mount", &["-o", if yes { "remount,rw" } else { "remount,ro" }]));
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        // As root all of it can be used; what does not fit says so.
        let _ = fs::write(&path, vec![0; 2 << 20]);
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.call("umount", &["-l"]);
    }
}

fn fake(space: &mut TestSpace) -> Fake {
    let next = space.root().join("next");
    write_private(&next, &token::auth_json("third"));
    let login = format!("[ \"$1\" = login ] && cp '{}' \"$CODEX_HOME/auth.json\"", next.display());
    let fake = Fake::new(space, &format!("{login}\nexit $?"));
    space.env("PRODEX_CODEX_BIN", fake.path());
    fake
}

#[track_caller]
fn refused(output: &Output, what: &str) {
    let words = &output.stderr;
    assert!(output.code() == 1 && words.contains(what) && words.lines().count() == 1, "{}: {words}", output.code());
    assert!(output.stdout.is_empty(), "{}", output.stdout);
}

fn homes(space: &TestSpace) -> Vec<String> {
    let entries = fs::read_dir(space.prodex_home().join("profiles")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_stops_a_change_and_harms_nothing() {
    let mut space = TestSpace::new("full");
    let Some(mount) = Mount::new(&space.prodex_home()) else { return };
    space.profiles(&["alpha", "beta"]);
    let _fake = fake(&mut space);
    let export = space.work().join("export.json").display().to_string();
    space.prodex(&["profile", "export", &export, "beta"]).output().expect(0);
    space.prodex(&["profile", "disable", "alpha"]).output().expect(0);
    let before = fs::read(space.state_file()).expect("state.json");
    let login = fs::read(space.profile_home("alpha").join("auth.json")).expect("a login");
    let ballast = mount.fill();
    for args in [
        &["profile", "add", "gamma"][..],
        &["profile", "import", &export, "--as", "gamma"],
        &["profile", "enable", "alpha"],
        &["profile", "reserve", "beta", "5"],
        &["use", "beta"],
    ] {
        refused(&space.prodex(args).output(), "No space left on device");
        assert_eq!(fs::read(space.state_file()).expect("state.json"), before, "{args:?}");
        assert_eq!(homes(&space), ["alpha", "beta"], "{args:?}");
    }
    // Codex cannot write its login either, and says so itself.
    assert_ne!(space.prodex(&["login"]).output().code(), 0);
    assert_eq!(homes(&space), ["alpha", "beta"]);
    space.prodex(&["profile", "list"]).output().expect(0);
    // An export onto a full disk leaves no half of a login.
    let inside = space.prodex_home().join("export.json");
    refused(&space.prodex(&["profile", "export", inside.to_str().expect("UTF-8")]).output(), "No space left on device");
    assert!(!inside.exists());
    fs::remove_file(ballast).expect("the ballast");
    assert_eq!(fs::read(space.profile_home("alpha").join("auth.json")).expect("a login"), login);
    space.prodex(&["profile", "enable", "alpha"]).output().expect(0);
    space.prodex(&["login"]).output().expect(0);
}

#[test]
fn a_home_that_cannot_be_written_is_read_and_said_so() {
    let mut space = TestSpace::new("read-only");
    let Some(mount) = Mount::new(&space.prodex_home()) else { return };
    space.profiles(&["alpha", "beta"]);
    let fake = fake(&mut space);
    space.prodex(&["doctor", "--fix"]).output().expect(0);
    mount.writable(false);
    for args in [&["profile", "list"][..], &["current"], &["profile", "export", "-"]] {
        space.prodex(args).output().expect(0);
    }
    for args in [&["use", "beta"][..], &["profile", "add", "gamma"], &["profile", "disable", "beta"], &["login"]] {
        refused(
            &space.prodex(args).output(),
            "Read-only file system (os error 30). Make it writable for you, or choose",
        );
    }
    let doctor = space.prodex(&["doctor", "--runtime", "--json"]).output().expect(0).stdout;
    assert!(doctor.contains("\"root_read_only\""), "{doctor}");
    let calls = fake.calls().len();
    let run = space.prodex(&["run", "--skip-quota-check", "-p", "alpha", "exec", "hello"]).output();
    assert_eq!(fake.calls().len(), calls + 1, "codex starts all the same: {}", run.stderr);
    mount.writable(true);
}

#[test]
fn root_and_history_on_different_file_systems() {
    let mut space = TestSpace::new("two-disks");
    let Some(_mount) = Mount::new(&space.prodex_home()) else { return };
    space.profiles(&["alpha"]);
    let _fake = fake(&mut space);
    let device = |path: &Path| fs::metadata(path).expect("is there").dev();
    assert_ne!(device(&space.prodex_home()), device(&space.codex_home()), "two file systems");
    write_private(&space.codex_home().join("auth.json"), &token::auth_json("home"));
    space.prodex(&["profile", "add", "copy", "--copy-current"]).output().expect(0);
    space.prodex(&["login"]).output().expect(0);
    for name in ["copy", "third_example.com"] {
        assert!(
            space.profile_home(name).join("auth.json").is_file()
                && space.profile_home(name).join("sessions").is_symlink()
        );
    }
    // What a profile grew by itself cannot be handed over, so it is kept beside.
    let own = space.profile_home("alpha").join("sessions");
    fs::create_dir(&own).expect("a directory");
    fs::write(own.join("thread"), "mine").expect("a thread");
    space.prodex(&["run", "--skip-quota-check", "-p", "alpha", "exec", "hello"]).output();
    assert!(own.is_symlink());
    let entries = fs::read_dir(space.profile_home("alpha")).expect("a home").flatten();
    let aside = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("sessions.aside-"));
    assert_eq!(fs::read_to_string(aside.expect("kept").join("thread")).expect("the thread"), "mine");
}

#[test]
fn links_in_circles_end_with_a_word() {
    let circle = |at: &Path| {
        let _ = fs::remove_file(at);
        let _ = fs::remove_dir_all(at);
        symlink(at, at).expect("a circle");
    };
    let said = "Too many levels of symbolic links";
    let list = ["profile", "list"];
    // The login of a profile: named where it is looked at, and codex is left to say the rest.
    let space = TestSpace::new("circle-login");
    space.profiles(&["alpha", "beta"]);
    circle(&space.profile_home("alpha").join("auth.json"));
    circle(&space.profile_home("beta").join("sessions"));
    let output = space.prodex(&list).output().expect(0);
    assert!(output.stdout.contains("unreadable-auth"), "{}", output.stdout);
    refused(&space.prodex(&["profile", "export", "-"]).output(), said);
    let fixed = space.prodex(&["doctor", "--fix"]).output().expect(0).stdout;
    assert!(fixed.contains("fixed: links of profile 'beta'") && fixed.contains("sessions"), "{fixed}");
    assert_eq!(
        fs::read_link(space.profile_home("beta").join("sessions")).expect("a link"),
        space.codex_home().join("sessions")
    );
    // Files of the user's configuration: copied as links, exported without.
    circle(&space.codex_home().join("AGENTS.md"));
    space.prodex(&["profile", "add", "gamma"]).output().expect(0);
    let output = space.prodex(&["profile", "export", "-", "gamma"]).output().expect(0);
    assert!(output.stderr.contains("not exported: ") && output.stderr.contains("AGENTS.md"), "{}", output.stderr);
    // The state, the root, the shared home.
    let before = fs::read(space.state_file()).expect("state.json");
    circle(&space.state_file());
    for args in [&list[..], &["use", "alpha"], &["profile", "add", "delta"]] {
        refused(&space.prodex(args).output(), said);
    }
    fs::remove_file(space.state_file()).expect("the circle");
    fs::write(space.state_file(), before).expect("state.json");
    let root = space.root().join("loop");
    circle(&root);
    let root = root.to_str().expect("UTF-8").to_owned();
    for args in [&list[..], &["profile", "add", "delta"]] {
        refused(&space.prodex(args).env("PRODEX_HOME", &root).output(), said);
    }
    for args in [&["profile", "add", "delta"][..], &["profile", "add", "delta", "--copy-from", &root]] {
        refused(&space.prodex(args).env("PRODEX_SHARED_CODEX_HOME", &root).output(), said);
    }
    assert_eq!(homes(&space), ["alpha", "beta", "gamma"]);
}
