//! Command lines and what they mean.

use super::*;
use std::os::unix::ffi::OsStringExt;

fn try_parse(line: &str) -> Result<Command, Error> {
    parse(line.split_whitespace().map(OsString::from))
}

fn run(line: &str) -> Run {
    match try_parse(line) {
        Ok(Command::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

#[track_caller]
fn error(line: &str, what: &str) {
    let error = try_parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    assert!(error.to_string().contains(what), "{line}: {error}");
}

#[test]
fn run_reads_own_flags_up_to_the_first_foreign_token() {
    let rows: &[(&str, Option<&str>, &str)] = &[
        ("run", None, ""),
        ("run -p a", Some("a"), ""),
        ("run -pa exec -p b", Some("a"), "exec -p b"),
        ("run -p=a -m x", Some("a"), "-m x"),
        ("run --profile=a", Some("a"), ""),
        ("run --profile a hi", Some("a"), "hi"),
        ("run --version", None, "--version"),
        ("run -V", None, "-V"),
        ("run -hx", None, "-hx"),
        ("run -", None, "-"),
        ("run -m x -p b --skip-quota-check", None, "-m x -p b --skip-quota-check"),
        ("run --search foo", None, "--search foo"),
        ("run exec -h", None, "exec -h"),
        ("run -- -p b", None, "-p b"),
        ("run -- -- x", None, "-- x"),
        ("run -p a -- --profile b", Some("a"), "--profile b"),
        ("run exec -- x", None, "exec -- x"),
        ("run 0199a213-81c0-7800-8aa1-bbab2a035a53", None, "resume 0199a213-81c0-7800-8aa1-bbab2a035a53"),
        ("run 0199a213-81c0-7800-8aa1-bbab2a035a53 x", None, "0199a213-81c0-7800-8aa1-bbab2a035a53 x"),
        ("run 0199a213-81c0-7800-8aa1-bbab2a035a5g", None, "0199a213-81c0-7800-8aa1-bbab2a035a5g"),
        ("run -p-x", Some("-x"), ""),
    ];
    for (line, profile, args) in rows {
        let run = run(line);
        assert_eq!(run.profile.as_deref(), *profile, "{line}");
        assert_eq!(run.args, args.split_whitespace().map(OsString::from).collect::<Vec<_>>(), "{line}");
    }
    let all = run("run --no-auto-rotate --skip-quota-check --base-url http://x/y exec hi");
    assert!(all.no_auto_rotate && all.skip_quota_check);
    assert_eq!(all.base_url.as_deref(), Some("http://x/y"));
    assert!(!run("run --auto-rotate x").no_auto_rotate);
    assert!(matches!(try_parse("run -h"), Ok(Command::Help(text)) if text.contains("prodex run")));
    assert!(matches!(try_parse("run -p a --help"), Ok(Command::Help(_))));
    error("run --auto-rotate --no-auto-rotate", "exclude each other");
    error("run -p", "--profile needs a value");
    error("run -p --skip-quota-check", "--profile needs a value");
    error("run --profile=a --profile=b", "given twice");
    error("run --skip-quota-check=1 x", "takes no value");
}

#[test]
fn arguments_of_codex_need_not_be_text() {
    let raw = OsString::from_vec(b"\xff\xfe".to_vec());
    let args = vec!["run".into(), raw.clone(), "-p".into()];
    assert!(matches!(parse(args), Ok(Command::Run(run)) if run.args == [raw.clone(), "-p".into()]));
    let args = vec!["login".into(), "-p".into(), "a".into(), raw.clone()];
    assert!(matches!(parse(args), Ok(Command::Login { args, .. }) if args == [raw.clone()]));
    assert!(parse(vec!["use".into(), raw.clone()]).is_err());
    assert!(parse(vec![raw.clone()]).is_err());
    let flag = OsString::from_vec(b"--\xff".to_vec());
    assert!(parse(vec!["quota".into(), flag.clone()]).is_err());
    assert!(matches!(parse(vec!["run".into(), flag]), Ok(Command::Run(_))));
    // A path need not be text either.
    let add = vec!["profile".into(), "add".into(), "x".into(), "--codex-home".into(), raw.clone()];
    assert!(matches!(parse(add), Ok(Command::ProfileAdd(add)) if add.codex_home == Some(raw)));
}

#[test]
fn profile_commands() {
    let add = |line| match try_parse(line) {
        Ok(Command::ProfileAdd(add)) => add,
        other => panic!("{line}: {other:?}"),
    };
    let expected = ProfileAdd { name: "x".into(), activate: true, copy_current: true, ..ProfileAdd::default() };
    assert_eq!(add("profile add --copy-current x --activate"), expected);
    assert_eq!(add("profile add x --codex-home=/a").codex_home, Some("/a".into()));
    assert_eq!(add("profile add x --copy-from ./b").copy_from, Some("./b".into()));
    error("profile add x --codex-home /a --copy-current", "exclude each other");
    error("profile add x --codex-home /a --copy-from /b", "exclude each other");
    error("profile add x --copy-from /a --copy-current", "exclude each other");
    error("profile add", "NAME is missing");
    error("profile add a b", "unexpected argument 'b'");
    let rows: &[(&str, Command)] = &[
        ("profile import-current", Command::ProfileImportCurrent { name: "default".into() }),
        ("profile import-current main", Command::ProfileImportCurrent { name: "main".into() }),
        ("profile list", Command::ProfileList { json: false }),
        ("profile list --json", Command::ProfileList { json: true }),
        ("profile remove a", Command::ProfileRemove { name: "a".into(), delete_home: false }),
        ("profile remove --delete-home a", Command::ProfileRemove { name: "a".into(), delete_home: true }),
        ("profile use a", Command::Use { name: "a".into() }),
        ("profile use -p a", Command::Use { name: "a".into() }),
        ("use a", Command::Use { name: "a".into() }),
        ("use --profile=a", Command::Use { name: "a".into() }),
        ("use -- -a", Command::Use { name: "-a".into() }),
        ("current", Command::Current { json: false }),
        ("current --json", Command::Current { json: true }),
        ("logout", Command::Logout { profile: None }),
        ("logout a", Command::Logout { profile: Some("a".into()) }),
        ("logout -pa", Command::Logout { profile: Some("a".into()) }),
        ("login", Command::Login { profile: None, args: vec![] }),
        (
            "login -p a --device-auth -p b",
            Command::Login { profile: Some("a".into()), args: vec!["--device-auth".into(), "-p".into(), "b".into()] },
        ),
    ];
    for (line, command) in rows {
        assert_eq!(try_parse(line).as_ref(), Ok(command), "{line}");
    }
    error("use", "NAME is missing");
    error("use a -p b", "named twice");
    error("current x", "unexpected argument");
}

#[test]
fn quota_flags() {
    let expected = Quota {
        profile: Some("a".into()),
        all: true,
        detail: true,
        raw: true,
        once: true,
        json: false,
        line: false,
        base_url: Some("http://h".into()),
    };
    let line = "quota --all --detail --raw --once -p a --base-url http://h";
    assert_eq!(try_parse(line), Ok(Command::Quota(expected)));
    assert_eq!(try_parse("quota --watch"), Ok(Command::Quota(Quota::default())));
    error("quota --once --watch", "exclude each other");
    error("quota --json --raw", "exclude each other");
    error("quota --line --json", "exclude each other");
    error("quota --all=yes", "takes no value");
    error("quota --base-url", "needs a value");
}

#[test]
fn help_and_version() {
    assert!(matches!(try_parse(""), Ok(Command::Bare(text)) if text.contains("Commands:")));
    assert!(matches!(try_parse("profile"), Ok(Command::Bare(text)) if text.contains("import-current")));
    assert_eq!(try_parse("-V"), Ok(Command::Version));
    assert_eq!(try_parse("--version"), Ok(Command::Version));
    let help = |line| match try_parse(line) {
        Ok(Command::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    for (one, other) in [
        ("--help", "help"),
        ("-h", "help"),
        ("profile --help", "help profile"),
        ("profile add -h", "help profile add"),
        ("profile help add", "profile add --help"),
        ("profile help", "help profile"),
        ("run --help", "help run"),
    ] {
        assert_eq!(help(one), help(other), "{one} / {other}");
    }
    error("help nosuch", "unknown command 'nosuch'");
}

#[test]
fn did_you_mean() {
    error("quoat", "Did you mean `prodex quota`?");
    error("profile lsit", "Did you mean `prodex profile list`?");
    error("prof", "Did you mean `prodex profile`?");
    error("list", "Did you mean `prodex profile list`?");
    error("import-current", "Did you mean `prodex profile import-current`?");
    error("profile rm", "Did you mean `prodex profile remove`?");
    error("profile ls", "Did you mean `prodex profile list`?");
    error("ls", "Did you mean `prodex profile list`?");
    error("profile create", "Did you mean `prodex profile add`?");
    error("switch", "Did you mean `prodex use`?");
    error("status", "Did you mean `prodex current`?");
    error("version", "Did you mean `prodex --version`?");
    error("frobnicate", "See `prodex help`");
    error("quota --al", "Did you mean `--all`?");
    error("quota --detial", "Did you mean `--detail`?");
    error("quota --zzzzz", "See `prodex quota --help`");
    error("quota -x", "unknown option '-x'");
    error("--vresion", "unknown option '--vresion'");
    error("docter", "Did you mean `prodex doctor`?");
    error("doctor --qouta", "Did you mean `--quota`?");
    error("doctor main", "main");
    error(&"x".repeat(100_000), "unknown command");
}

#[test]
fn doctor() {
    let all = Doctor { quota: true, runtime: true, json: true, fix: false };
    assert_eq!(try_parse("doctor").unwrap(), Command::Doctor(Doctor::default()));
    error("doctor --fix --json", "exclude each other");
    assert_eq!(try_parse("doctor --json --runtime --quota").unwrap(), Command::Doctor(all));
}

#[test]
fn no_command_line_panics() {
    let words: [&[u8]; 16] = [
        b"run",
        b"profile",
        b"add",
        b"-p",
        b"--",
        b"-",
        b"--all",
        b"--once=",
        b"-h",
        b"help",
        b"use",
        b"quota",
        b"",
        b"\xff",
        b"-\xff\xc3",
        b"--=",
    ];
    let mut seed = 7_u64;
    for _ in 0..20_000 {
        let mut args = Vec::new();
        for _ in 0..5 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            args.push(OsString::from_vec(words[(seed >> 33) as usize % words.len()].to_vec()));
        }
        let _ = parse(args);
    }
}

#[test]
fn a_reserve_is_a_percentage() {
    for (line, percent) in [("profile reserve a 0", 0), ("profile reserve a 99", 99), ("profile reserve a 7%", 7)] {
        assert_eq!(try_parse(line).unwrap(), Command::ProfileReserve { name: "a".into(), percent }, "{line}");
    }
    for line in ["profile reserve a 100", "profile reserve a x", "profile reserve a %", "profile reserve a 256"] {
        error(line, "is not a percentage from 0 to 99");
    }
    assert_eq!(try_parse("profile enable a").unwrap(), Command::ProfileSwitch { name: "a".into(), disabled: false });
    error("profile disabel a", "Did you mean `prodex profile disable`?");
}
