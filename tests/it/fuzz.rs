//! Foreign bytes for everything above the wire that reads some: answers, events, files, arguments. Seeds with edits out of a
//! vocabulary, the same in every run; what must hold whatever they say stands with each. The wire's own readers are fed so in
//! their files, by the same generator.

use super::support::behind::PATIENCE;
use super::support::space::TestSpace;
use prodex::config::Config;
use prodex::foreign;
use prodex::profile::{auth, bundle, rollout};
use prodex::proxy::bindings::{self, Kind};
use prodex::proxy::route::{self, Lane, Secrets};
use prodex::proxy::tap::Tap;
use prodex::proxy::turn;
use prodex::proxy::{journal, verdict, workspace};
use prodex::quota::snapshots::Snapshots;
use prodex::quota::usage;
use prodex::state::State;
use prodex::wire::Malformed;
use prodex::wire::body::Framing;
use prodex::wire::frame::{self, From, Opcode, Part, Reader};
use prodex::wire::json::Raw;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

#[allow(dead_code)]
#[path = "../../src/wire/hostile.rs"]
mod hostile;
use hostile::{Rng, mutate, pieces};

const NOW: u64 = 1_800_000_000;

/// What stands in JSON, and what must not.
const JSON: [&[u8]; 26] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"0.5",
    b"18446744073709551616",
    b"\"\"",
    b"{}",
    b"[]",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b" ",
    b"99999999999999999999999999999999",
];

/// So many edited copies of each seed, each with the words that are in it.
fn each(seed: u64, rounds: usize, texts: &[&str], words: &[&[u8]], mut look: impl FnMut(&mut Rng, &[u8])) {
    let mut rng = Rng::new(seed);
    for text in texts {
        let inside: Vec<&[u8]> = text.as_bytes().split(|byte| b"\",:{}[] ".contains(byte)).collect();
        let all = [words, &inside].concat();
        look(&mut rng, text.as_bytes());
        for _ in 0..rounds {
            let edited = mutate(&mut rng, text.as_bytes(), &all);
            // Edits upon edits lead further away.
            let edited = if rng.below(4) == 0 { mutate(&mut rng, &edited, &all) } else { edited };
            look(&mut rng, &edited);
        }
    }
}

#[track_caller]
fn is_for_people(words: &str) {
    assert!(!words.is_empty() && !words.chars().any(foreign::steers), "{words:?}");
}

const STATE: &str = r#"{"active_profile":"a","profiles":{"a":{"codex_home":"/x/profiles/a","managed":true,"email":"a@b.c"},"b":{"codex_home":"/y","managed":false,"disabled":true}},"last_run_selected_at":{"a":1800000000},"response_profile_bindings":{"resp_1":{"profile_name":"a","bound_at":1700000000}},"session_profile_bindings":{"s":{"profile_name":"b","bound_at":1}},"later":{"k":[1,2.5,"z"]}}"#;

#[test]
fn a_state() {
    each(11, 4000, &[STATE], &JSON, |_, text| match State::parse(text) {
        Err(why) => is_for_people(&why),
        Ok(mut state) => {
            let written = state.text();
            let again = State::parse(written.as_bytes()).expect("what is written can be read");
            assert_eq!(again.text(), written, "written twice it is the same");
            assert_eq!((again.active(), again.profiles()), (state.active(), state.profiles()));
            state.problems().iter().for_each(|problem| is_for_people(problem));
            for profile in state.profiles() {
                let _ = (state.last_run_selected_at(&profile.name), state.has_entry(&profile.name));
            }
            state.remove("a");
            assert!(!state.has_entry("a"));
        }
    });
}

const USAGE: &str = r#"{"email":"a@b.c","plan_type":"plus","rate_limit":{"allowed":true,"limit_reached":false,"primary_window":{"used_percent":12.5,"limit_window_seconds":18000,"reset_after_seconds":3600,"reset_at":1800003600},"secondary_window":{"used_percent":40,"limit_window_seconds":604800,"reset_at":1800100000}},"additional_rate_limits":[{"limit_name":"x","rate_limit":{"primary_window":{"used_percent":1}}}],"credits":{"has_credits":true,"unlimited":false,"balance":"12.5"}}"#;
const EVENT: &str = r#"{"type":"codex.rate_limits","plan_type":"plus","rate_limits":{"primary":{"used_percent":42,"window_minutes":300,"reset_at":1800003600},"secondary":null},"credits":{"has_credits":false}}"#;

#[test]
fn quotas() {
    let mut known = Snapshots::default();
    each(12, 3000, &[USAGE, EVENT], &JSON, |_, text| {
        if let Ok(reading) = usage::parse(text, NOW) {
            let _ = known.learn("a", "account", &reading, prodex::quota::snapshots::Extent::Whole);
        }
        if let Ok(raw) = Raw::parse(text) {
            let _ = usage::from_event(&raw, NOW);
        }
        let value: Vec<u8> = text.iter().copied().filter(|byte| *byte >= b' ').take(20).collect();
        let names = ["x-codex-primary-used-percent", "x-codex-primary-window-minutes", "x-codex-primary-reset-at"];
        let _ = usage::from_headers(names.map(|name| (name, value.as_slice())), NOW);
    });
    // What they all come to can be kept, and the file that keeps it may be anything.
    let written = known.text();
    let again = Snapshots::parse(written.as_bytes(), NOW).text();
    assert_eq!(Snapshots::parse(again.as_bytes(), NOW).text(), again);
    each(13, 1000, &[&written], &JSON, |_, text| {
        for known in [Snapshots::parse(text, NOW), Snapshots::parse_latest(text, NOW)] {
            if let Some(snapshot) = known.of("a", "account") {
                let _ = (snapshot.due_at(NOW), snapshot.fresh(NOW, 600), snapshot.pace(18_000, NOW));
            }
        }
    });
}

const EVENTS: &str = "\u{feff}event: x\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\r\n\r\ndata: {\"type\":\"codex.rate_limits\"}\n\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"usage_limit_reached\",\"resets_in_seconds\":7200}}}\n\ndata: {\"type\":\"error\",\"status\":429,\"error\":{\"type\":\"usage_limit_reached\",\"resets_at\":1800000000},\"headers\":{\"retry-after\":\"7\"}}\n\n";

#[test]
fn answers() {
    let words = [&JSON[..], &[b"\n", b"\r", b"\r\n", b"data:", b"\n\n", b":"]].concat();
    each(14, 3000, &[EVENTS], &words, |rng, text| {
        // Read whole and in pieces it means the same.
        let seen = |pieces: &[&[u8]]| {
            let mut tap = Tap::new(Framing::UntilClose, true);
            for piece in pieces {
                assert_eq!(tap.feed(piece), Ok(piece.len()));
            }
            (tap.response_ids, tap.decided, tap.terminal, tap.quotas)
        };
        assert_eq!(seen(&pieces(rng, text)), seen(&[text]));
        let _ = (verdict::of_event(text), verdict::response_id(text), verdict::tells_quotas(text));
        let words = String::from_utf8_lossy(text);
        for lane in [Lane::Responses, Lane::Compact, Lane::WebSocket, Lane::Standard] {
            let _ = verdict::of_status(429, words.get(..5), text, lane);
        }
    });
    let accounts = r#"{"accounts":{"acct-a":{"account":{"account_id":"acct-a","workspace":{"region":"us","url":"https://us.example.com/backend-api"}}},"default":{}},"account_ordering":["acct-a"]}"#;
    each(15, 2000, &[accounts], &JSON, |_, text| {
        let _ = workspace::placement(text, Some("acct-a"));
        if let Some(rewritten) = workspace::rewrite(text, Some("acct-a")) {
            assert!(Raw::parse(&rewritten).is_ok(), "{}", String::from_utf8_lossy(&rewritten));
        }
    });
}

#[test]
fn a_turn_of_a_socket() {
    let asked =
        r#"{"type":"response.create","client_metadata":{"a":1,"x-codex-turn-state":"ts-1","b":"2"},"input":[]}"#;
    each(16, 2000, &[asked], &JSON, |rng, text| {
        // In frames of any length, each with a mask of its own.
        let mut frames = Vec::new();
        for (at, piece) in pieces(rng, text).into_iter().enumerate() {
            let mut one = Vec::new();
            let mask = [rng.below(256), rng.below(256), 0, 255].map(|byte| u8::try_from(byte).unwrap_or(0));
            frame::write(&mut one, if at == 0 { Opcode::Text } else { Opcode::Continuation }, Some(mask), piece);
            one[0] &= 0x7f;
            frames.extend(one);
        }
        frame::write(&mut frames, Opcode::Continuation, Some([7; 4]), b"");
        let before = message(&frames);
        let mut after = frames.clone();
        turn::leave_out_turn_state(&mut after);
        assert_eq!(after.len(), frames.len());
        let after = message(&after);
        // What is no JSON no backend takes in.
        if Raw::parse(&before).is_ok() {
            assert_eq!(turn::turn_state(&after), None, "{}", String::from_utf8_lossy(text));
        }
        // Nothing but spaces came in.
        assert!(before.iter().zip(&after).all(|(was, is)| was == is || *is == b' '));
        assert_eq!(Raw::parse(&before).is_ok(), Raw::parse(&after).is_ok(), "{}", String::from_utf8_lossy(text));
    });
}

fn message(frames: &[u8]) -> Vec<u8> {
    let (mut reader, mut at, mut text) = (Reader::new(From::Client), 0, Vec::new());
    while let Ok(Some((used, part))) = reader.next(&frames[at..]) {
        if let Part::Payload { frame, offset, .. } = part {
            let mut bytes = frames[at..at + used].to_vec();
            frame::unmask(frame.mask.unwrap_or_default(), offset, &mut bytes);
            text.extend(bytes);
        }
        at += used;
    }
    text
}

#[test]
fn targets() {
    let secrets = Secrets { run: "r-secret".into(), home: "h-secret".into() };
    let words: [&[u8]; 14] =
        [b"/", b"..", b".", b"%2e", b"%2F", b"%5c", b"\\", b"?", b"#", b"//", b"%", b"/m", b"/backend-api", b"%00"];
    let seeds =
        ["/h-secret/m/responses?x=1", "/r-secret/backend-api/wham/accounts/check", "/h-secret/m/responses/compact"];
    each(17, 4000, &seeds, &words, |_, text| {
        let Ok(target) = std::str::from_utf8(text) else { return };
        for is_upgrade in [false, true] {
            let Ok(route) = route::of(target, &secrets, is_upgrade) else { continue };
            // Whoever comes in has a secret, and stays below its mount.
            let (first, rest) = target[1..].split_once('/').expect("a secret, and something below it");
            assert!(first == "r-secret" || first == "h-secret", "{target}");
            assert_eq!(first == "h-secret", route.class == route::Class::Model, "{target}");
            let path = rest.split('?').next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
            assert!(path.split('/').all(|part| part != "." && part != ".."), "{target}");
            assert!(!["%2f", "%5c", "\\"].iter().any(|bad| path.contains(bad)), "{target}");
        }
    });
}

#[test]
fn files() {
    let space = TestSpace::new("fuzz");
    let login = r#"{"auth_mode":"chatgpt","OPENAI_API_KEY":null,"tokens":{"id_token":"e30.eyJlbWFpbCI6ImFAYi5jIiwiZXhwIjoxODAwMDAwMDAwfQ.x","access_token":"e30.eyJleHAiOjE4MDAwMDAwMDB9.x","refresh_token":"r","account_id":"acct"},"last_refresh":"2026-01-01T00:00:00Z"}"#;
    let home = space.work();
    each(18, 800, &[login], &JSON, |_, text| {
        fs::write(home.join("auth.json"), text).expect("a file");
        let auth = auth::read(&home);
        is_for_people(auth.label());
        if let Some(tokens) = auth.tokens() {
            // It becomes a line of a head.
            assert!(tokens.access_token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    });
    let packed = bundle::Packed {
        name: "a".into(),
        files: vec![bundle::PackedFile { path: "auth.json".into(), executable: false, bytes: login.into() }],
        ..bundle::Packed::default()
    };
    let export = bundle::Bundle { active: Some("a".into()), profiles: vec![packed] }.text();
    let words = [&JSON[..], &[b"../", b"/", b"prompts/", b".", b"auth.json", b"config.toml"]].concat();
    each(19, 2000, &[&export], &words, |_, text| match bundle::Bundle::parse(text) {
        Err(why) => is_for_people(&why),
        Ok(bundle) => {
            for file in bundle.profiles.iter().flat_map(|profile| &profile.files) {
                assert!(bundle::belongs(&file.path), "{:?}", file.path);
                assert!(
                    file.path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."),
                    "{:?}",
                    file.path
                );
            }
        }
    });
    let thread = "{\"timestamp\":\"t\",\"type\":\"session_meta\",\"payload\":{\"id\":\"0199a213-81a0-7800-8aa2-bab9e87f1b27\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"cwd\":\"/w\"}}\n{\"type\":\"response_item\",\"payload\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"hello\"}]}}\n{\"type\":\"turn_context\",\"payload\":{\"cwd\":\"/x\"}}\n";
    each(20, 2000, &[thread], &[&JSON[..], &[b"\n"]].concat(), |_, text| {
        let _ = (rollout::meta(text), rollout::words(text), rollout::last_cwd(text));
    });
    let log = "[2026-01-01 00:00:00.000 +00:00] request=1 transport=http responses_committed profile=a\n[2026-01-01 00:00:01.000 +00:00] exchange profile=a status=200 attempts=1\n";
    each(21, 2000, &[log], &[b"\n", b"=", b" ", b"[", b"]", b"\x1b[2J", b"\xff"], |_, text| {
        let _ = journal::read::summarize(text).markers().count();
    });
}

/// A damaged log of bindings may lose some; it never gives an id to another profile than it was written for.
#[test]
fn a_log_of_bindings() {
    let space = TestSpace::new("fuzzlog");
    let root = space.prodex_home();
    fs::create_dir_all(&root).expect("a directory");
    let config = Config {
        root,
        shared_codex_home: space.codex_home(),
        default_codex_home: space.codex_home(),
        codex_bin: "codex".into(),
        base_url: "http://127.0.0.1:1/backend-api".into(),
    };
    let recorder = bindings::Recorder::start(config.clone());
    for number in 0..12_u64 {
        let kind = [Kind::Response, Kind::Session, Kind::TurnState][number as usize % 3];
        recorder.bind(kind, &format!("id%\u{e4}-{number}"), ["alpha", "beta"][number as usize % 2]);
    }
    assert!(recorder.finish(PATIENCE), "all is written");
    drop(recorder);
    let file = fs::read_dir(&config.root).expect("a directory").flatten().map(|entry| entry.path());
    let file = file.into_iter().find(|path| path.ends_with("bindings.log")).expect("the log");
    let written = fs::read(&file).expect("a file");
    let set = |bindings: Vec<bindings::Binding>| {
        bindings.into_iter().map(|b| (b.kind as usize, b.id, b.profile)).collect::<BTreeSet<_>>()
    };
    let all = set(bindings::read(&config).bindings);
    assert_eq!(all.len(), 12);
    let mut rng = Rng::new(22);
    let words: [&[u8]; 8] = [b"\n", b" ", b"%", b"response ", b"alpha", b"beta", b"\0", b"\xff"];
    for _ in 0..1500 {
        let mut text = mutate(&mut rng, &written, &words);
        for _ in 0..rng.below(6) {
            text = mutate(&mut rng, &text, &words);
        }
        fs::write(&file, &text).expect("a file");
        let read = bindings::read(&config);
        read.problems.iter().for_each(|problem| is_for_people(problem));
        assert!(set(read.bindings).is_subset(&all), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn arguments() {
    let words = [
        "run",
        "quota",
        "profile",
        "add",
        "import-current",
        "list",
        "remove",
        "use",
        "current",
        "login",
        "logout",
        "doctor",
        "why",
        "completions",
        "bash",
        "zsh",
        "fish",
        "session",
        "resume",
        "help",
        "reserve",
        "50%",
        "export",
        "import",
        "-p",
        "--profile",
        "--profile=a",
        "-pa",
        "--all",
        "--once",
        "--json",
        "--raw",
        "--base-url",
        "http://h/",
        "--",
        "-",
        "",
        "-h",
        "--help",
        "-V",
        "--last",
        "exec",
        "--delete-home",
        "0199a213-81a0-7800-8aa2-bab9e87f1b27",
        "--activate",
        "--auto-rotate",
        "--no-auto-rotate",
        "--skip-quota-check",
        "../x",
        "a b",
        "\u{1b}[2J",
        "\u{202e}",
        "---",
        "-=",
        "--=x",
    ];
    let bytes: [&[u8]; 6] = [b"\xff", b"=", b"-", b"\n", b"\x1b", b"\xe2\x80\xae"];
    let mut rng = Rng::new(23);
    for _ in 0..30_000 {
        let args: Vec<OsString> = (0..rng.below(6))
            .map(|_| {
                let word = words[rng.below(words.len())].as_bytes();
                let word = if rng.below(5) == 0 { mutate(&mut rng, word, &bytes) } else { word.to_vec() };
                OsString::from_vec(word)
            })
            .collect();
        match prodex::cli::parse(args.clone()) {
            Err(error) => is_for_people(&error.to_string()),
            // What stands behind the command of codex is codex's, to the byte.
            Ok(prodex::cli::Command::Run(run)) => {
                // A session alone means its resumption.
                let given = run.args.strip_prefix(&[OsString::from("resume")]).filter(|_| !args.ends_with(&run.args));
                assert!(args.ends_with(given.unwrap_or(&run.args)), "{args:?}");
            }
            Ok(_) => {}
        }
    }
}
