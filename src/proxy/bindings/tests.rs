use super::*;
use crate::state::scratch::Scratch;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

const NOW: u64 = 1_795_574_904;
const LEGACY: &str = r#"{"active_profile": "main", "profiles": {
    "main": {"codex_home": "/h/main", "managed": true}, "second": {"codex_home": "/h/second", "managed": true}},
  "response_profile_bindings": {"r1": {"profile_name": "main", "bound_at": 100},
    "": {"profile_name": "main", "bound_at": 1}, "r9": {"profile_name": "main", "bound_at": 18446744073709551615}},
  "session_profile_bindings": {"s1": {"profile_name": "second", "bound_at": 200}}}"#;

/// Whatever its size, and whoever the profiles are.
fn compact(config: &Config) -> io::Result<()> {
    log::compact(config, When::Now, |_| true).map(drop)
}

struct Home(Scratch);

impl Home {
    fn new(name: &str, log: &[u8]) -> Home {
        let home = Home(Scratch::new(name));
        fs::create_dir_all(home.config().root).unwrap();
        fs::write(log::path(&home.config()), log).unwrap();
        home
    }

    fn config(&self) -> Config {
        self.0.config()
    }

    /// `kind id profile` of each binding; and how many problems there were.
    fn known(&self) -> (Vec<String>, usize) {
        let read = read(&self.config());
        let show = |b: &Binding| format!("{:?} {} {}", b.kind, b.id, b.profile);
        (read.bindings.iter().map(show).collect(), read.problems.len())
    }
}

fn line(kind: Kind, at: u64, profile: &str, id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(line::encode(&mut out, kind, at, profile, id));
    out
}

/// A whole line that says `body`.
fn foreign(body: &str) -> Vec<u8> {
    let check = body.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{body} {check:08x}\n").into_bytes()
}

fn sample() -> Vec<u8> {
    let r = |at, profile, id| line(Kind::Response, at, profile, id);
    [r(50, "main", "r1"), line(Kind::TurnState, 51, "main", "t 1"), r(52, "second", "r\n2")].concat()
}

#[test]
fn logs_of_every_sort() {
    let r = |at, profile, id| line(Kind::Response, at, profile, id);
    let monster = vec![b'x'; 1_000_000];
    let table: Vec<(&str, Vec<u8>, &[&str], usize)> = vec![
        ("empty", vec![], &[], 0),
        ("ends of lines only", b"\n\n\n".to_vec(), &[], 0),
        (
            "the last of an id wins",
            [r(9, "main", "a"), r(1, "main", "b"), r(2, "second", "a")].concat(),
            &["Response b main", "Response a second"],
            0,
        ),
        ("the same twice", [r(1, "main", "a"), r(1, "main", "a")].concat(), &["Response a main"], 0),
        (
            "kinds are apart",
            [r(1, "main", "a"), line(Kind::Session, 1, "second", "a")].concat(),
            &["Response a main", "Session a second"],
            0,
        ),
        ("no end of line", r(1, "main", "a").strip_suffix(b"\n").unwrap().to_vec(), &["Response a main"], 0),
        (
            "a clock that was wrong",
            [r(u64::MAX, "main", "a"), r(0, "main", "b")].concat(),
            &["Response a main", "Response b main"],
            0,
        ),
        ("unknown kinds", [foreign("owner 5 main x"), r(1, "main", "a")].concat(), &["Response a main"], 0),
        (
            "garbage",
            [&b"\0\xff\xfe garbage\n"[..], &r(1, "main", "a"), b"{\"json\": 1}\n"].concat(),
            &["Response a main"],
            1,
        ),
        ("a monster", [&monster[..], b"\n", &r(1, "main", "a"), b"\n", &monster].concat(), &["Response a main"], 1),
        ("carriage returns", b"response 1 main a 00000000\r\n".to_vec(), &[], 1),
    ];
    for (what, log, known, problems) in table {
        let home = Home::new("bindings-table", &log);
        assert_eq!(home.known(), (known.iter().map(|&s| s.to_owned()).collect(), problems), "{what}");
        let before = home.known().0;
        compact(&home.config()).unwrap();
        assert_eq!(home.known(), (before, 0), "{what}, rewritten");
    }
    let home = Home::new("bindings-future", &r(u64::MAX, "main", "a"));
    assert!(read(&home.config()).bindings[0].bound_at <= clock::unix());
}

#[test]
fn cut_at_every_byte_only_whole_lines_count() {
    let log = sample();
    let home = Home::new("bindings-cut", b"");
    let whole = ["Response r1 main", "TurnState t 1 main", "Response r\n2 second"];
    for cut in 0..=log.len() {
        fs::write(log::path(&home.config()), &log[..cut]).unwrap();
        let (known, _) = home.known();
        // A line without its end is whole.
        let lines = log[..cut].split(|&b| b == b'\n').skip(1).count() + usize::from(log.get(cut) == Some(&b'\n'));
        assert_eq!(known, whole[..lines.min(3)], "{cut}");
    }
}

#[test]
fn damage_costs_the_damaged_lines_and_invents_none() {
    let log = sample();
    let allowed = ["Response r1 main", "TurnState t 1 main", "Response r\n2 second"];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % bound.max(1)
    };
    for round in 0..20_000 {
        let mut bytes = log.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, next(256) as u8),
                2 => drop(bytes.drain(at..(at + next(40)).min(bytes.len()))),
                3 => bytes.extend_from_within(at..),
                _ if at < bytes.len() => bytes[at] ^= 1 << next(8),
                _ => {}
            }
        }
        for kept in log::scan(&bytes).kept {
            let Some(entry) = kept.entry else { continue };
            let id = line::decode_id(entry.id).unwrap();
            let known = format!("{:?} {id} {}", entry.kind, entry.profile);
            assert!(allowed.contains(&known.as_str()), "round {round}: {known}");
        }
    }
}

#[test]
fn what_stands_in_the_logs_place() {
    let home = Home::new("bindings-place", b"");
    let path = log::path(&home.config());
    fs::remove_file(&path).unwrap();
    assert_eq!(home.known(), (vec![], 0), "no file is no problem");
    compact(&home.config()).unwrap();
    assert!(!path.exists());
    symlink("/dev/zero", &path).unwrap();
    assert_eq!(home.known(), (vec![], 1));
    assert!(log::append(&home.config(), b"\n").is_err() && compact(&home.config()).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(home.known(), (vec![], 1));
    fs::write(home.config().state_file(), "{").unwrap();
    assert_eq!(home.known(), (vec![], 1), "a broken state.json has its own warning");
}

#[test]
fn maps_of_0_2_38_are_read_and_the_younger_wins() {
    let r = |at, profile, id| line(Kind::Response, at, profile, id);
    let log = [r(50, "main", "r0"), r(99, "second", "r1"), line(Kind::Session, 201, "main", "s1")].concat();
    let home = Home::new("bindings-legacy", &log);
    fs::write(home.config().state_file(), LEGACY).unwrap();
    let expected = ["Response r0 main", "Response r1 main", "Session s1 main", "Response r9 main"];
    assert_eq!(home.known(), (expected.map(str::to_owned).to_vec(), 0));
}

#[test]
fn maps_of_0_2_38_are_kept_up_where_it_was_used() {
    let home = Home::new("bindings-back", b"");
    let config = home.config();
    let binding =
        |kind, id: &str, profile: &str| Binding { kind, id: id.into(), profile: profile.into(), bound_at: NOW };
    let mut ours = vec![
        binding(Kind::Response, "new", "second"),
        binding(Kind::Response, "r1", "second"),
        binding(Kind::Response, "gone", "removed"),
        binding(Kind::TurnState, "turn", "main"),
        binding(Kind::Session, "s2", "main"),
    ];
    write_back(&config, &ours).unwrap();
    assert!(!config.state_file().exists(), "no state is made for it");
    fs::write(config.state_file(), r#"{"profiles": {}, "response_profile_bindings": {}}"#).unwrap();
    write_back(&config, &ours).unwrap();
    assert!(!fs::read_to_string(config.state_file()).unwrap().contains("new"), "empty maps stay empty");
    fs::write(config.state_file(), LEGACY).unwrap();
    write_back(&config, &ours).unwrap();
    let text = fs::read_to_string(config.state_file()).unwrap();
    let expected = "\"new\": {\n      \"profile_name\": \"second\",\n      \"bound_at\": 1795574904\n    }";
    assert!(text.contains(expected) && text.contains("\"s2\"") && text.contains("\"s1\""), "{text}");
    assert!(!text.contains("gone") && !text.contains("turn"), "{text}");
    let (known, _) = home.known();
    assert!(known.contains(&"Response r1 second".to_owned()), "{known:?}");
    // Bounds of 0.2.38: the oldest go.
    ours.extend((0..20_000).map(|n| binding(Kind::Response, &format!("many-{n}"), "main")));
    write_back(&config, &ours).unwrap();
    let state = store::load(&config).unwrap().state;
    assert_eq!(state.bindings(Map::Responses).count(), MAX_RESPONSES);
}

#[test]
fn bounds_hold_and_a_rewriting_keeps_what_counts() {
    let mut log = Vec::new();
    for n in 0..MAX_RESPONSES + 100 {
        log.extend(line(Kind::Response, NOW, "main", &format!("r{n}")));
        log.extend(line(Kind::Session, NOW, if n % 2 == 0 { "main" } else { "second" }, &format!("s{}", n % 5_000)));
    }
    log.extend(foreign("owner 5 main x"));
    log.extend(foreign("owner 5 main x"));
    let home = Home::new("bindings-bounds", &log);
    let config = home.config();
    let (known, problems) = home.known();
    assert_eq!((known.len(), problems), (MAX_RESPONSES + MAX_SESSIONS, 0));
    assert!(!known.contains(&"Response r99 main".to_owned()) && known.contains(&"Response r100 main".to_owned()));
    compact(&config).unwrap();
    assert_eq!(home.known().0, known);
    let text = fs::read(log::path(&config)).unwrap();
    assert_eq!(text.split(|&b| b == b'\n').skip(1).count(), known.len() + 1, "a foreign line is kept, once");
    assert_eq!(fs::metadata(log::path(&config)).unwrap().permissions().mode() & 0o777, 0o600);
    // Somebody is rewriting it, and ends.
    let busy = fs::File::open(log::path(&config)).unwrap();
    busy.lock().unwrap();
    let waiting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(busy);
    });
    forget(&config, "second").unwrap();
    waiting.join().unwrap();
    assert!(home.known().0.iter().all(|binding| binding.ends_with(" main")));
}

/// A reader sees a long write in parts: what it took for the end of the file was the middle of a line.
#[test]
fn a_rewriting_in_the_middle_of_a_write_loses_no_line() {
    let log = sample();
    for cut in 0..log.len() {
        let home = Home::new("bindings-middle", &log[..cut]);
        assert_eq!(home.known().1, 0, "{cut}: somebody is writing it");
        compact(&home.config()).unwrap();
        log::append(&home.config(), &log[cut..]).unwrap();
        assert_eq!(fs::read(log::path(&home.config())).unwrap(), log, "{cut}");
    }
}

#[test]
fn of_a_file_without_end_the_end_is_read() {
    let home = Home::new("bindings-huge", b"");
    let path = log::path(&home.config());
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let mut log = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut log, &[&b"\n"[..], &sample()].concat()).unwrap();
    assert_eq!(home.known().0.len(), 3);
    compact(&home.config()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), sample());
}

#[test]
fn a_rewriting_leaves_room_whatever_the_ids() {
    let mut log = Vec::new();
    for n in 0..2_000 {
        log.extend(line(Kind::TurnState, NOW, "main", &format!("{n:04}{}", "\u{e9}".repeat(1_000))));
    }
    let home = Home::new("bindings-room", &log);
    assert!(log.len() > 8_000_000);
    compact(&home.config()).unwrap();
    let length = fs::metadata(log::path(&home.config())).unwrap().len();
    assert!((5_900_000..=6 * 1024 * 1024).contains(&length), "{length}");
    assert!(home.known().0.last().unwrap().contains("1999"));
}

/// `cargo test --release -- --ignored --nocapture figures_of_bindings`
#[test]
#[ignore = "measures; run by hand in a release build"]
fn figures_of_bindings() {
    let mut log = Vec::new();
    for n in 0..MAX_RESPONSES {
        log.extend(line(Kind::Response, NOW, "main_example.com", &format!("resp_{n:048x}")));
    }
    let home = Home::new("bindings-figures", &log);
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let began = clock::now();
        assert_eq!(read(&home.config()).bindings.len(), MAX_RESPONSES);
        best = best.min(began.elapsed());
    }
    println!("read {MAX_RESPONSES} bindings, {} bytes: {best:?}", log.len());
    let began = clock::now();
    compact(&home.config()).unwrap();
    println!("rewrite: {:?}", began.elapsed());
    let recorder = Recorder::start(home.config());
    let ids: Vec<String> = (0..10_000).map(|n| format!("resp_{n:048}")).collect();
    for _ in 0..5 {
        let began = clock::now();
        for id in &ids {
            recorder.bind(Kind::Response, id, "main_example.com");
        }
        println!("bind: {:?}", began.elapsed() / 10_000);
        std::thread::sleep(Duration::from_millis(300));
    }
    println!("finish: {} dropped {}", recorder.finish(Duration::from_secs(5)), recorder.dropped());
}
