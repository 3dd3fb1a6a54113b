//! What several processes of one user keep together: bindings on disk, and the load that they see of each other. Unlike
//! the rest, this goes through the library: hundreds of processes that do one thing each, killed where it hurts. They are
//! this very test binary, told by the environment what to do.

use prodex::config::Config;
use prodex::proxy::bindings::{self, Kind, Recorder};
use prodex::proxy::share::Share;
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ROLE: &str = "PRODEX_TEST_ROLE";
const ROOT: &str = "PRODEX_TEST_ROOT";
const NAME: &str = "PRODEX_TEST_NAME";
const PATIENCE: Duration = Duration::from_secs(60);

/// A home that is gone afterwards.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let unique = format!("prodex-{name}-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(unique);
        fs::create_dir_all(&root).expect("the test's directory is made");
        Home(root)
    }

    fn config(&self) -> Config {
        config(&self.0)
    }

    fn log(&self) -> PathBuf {
        self.0.join("bindings.log")
    }

    /// This binary as another process, in `role`.
    fn play(&self, role: &str, name: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the test binary knows its path"));
        command
            .args(["--ignored", "--exact", "persistence::another_process", "--nocapture", "-q"])
            .envs([(ROLE, role), (NAME, name)])
            .env(ROOT, &self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    /// Lines that count for little, enough to make a rewriting due.
    fn bloat(&self) {
        let recorder = Recorder::start(self.config());
        recorder.bind(Kind::Session, "bloat", "main");
        recorder.finish(PATIENCE);
        let line =
            fs::read(self.log()).expect("a log").split(|&b| b == b'\n').rfind(|l| !l.is_empty()).map(<[u8]>::to_vec);
        let mut line = line.expect("a line");
        line.push(b'\n');
        let mut log = fs::OpenOptions::new().append(true).open(self.log()).expect("a log");
        log.write_all(&line.repeat(60_000)).expect("the log grows");
    }

    fn ids(&self) -> HashSet<String> {
        bindings::read(&self.config()).bindings.into_iter().map(|binding| binding.id).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(root: &Path) -> Config {
    Config {
        root: root.to_owned(),
        shared_codex_home: root.join("codex"),
        default_codex_home: root.join("codex"),
        codex_bin: "codex".into(),
        base_url: "http://127.0.0.1:1/backend-api".to_owned(),
    }
}

/// Not a test: what [`Home::play`] starts.
#[test]
#[ignore = "a part of the tests around it, in a process of its own"]
fn another_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let root = PathBuf::from(std::env::var_os(ROOT).expect("a root"));
    let name = std::env::var(NAME).expect("a name");
    let config = config(&root);
    match role.as_str() {
        "bind" => bind_until_killed(config, &name),
        "bind-100" => {
            let recorder = Recorder::start(config);
            for n in 0..100_u64 {
                recorder.bind(Kind::Response, &format!("resp-{name}-{n}"), "main");
                std::thread::sleep(Duration::from_millis((n * 7) % 20));
            }
            assert!(recorder.finish(PATIENCE));
            assert_eq!((recorder.dropped(), recorder.take_problem()), (0, None));
        }
        "bind-full" => {
            let recorder = Recorder::start(config);
            for n in 0..200 {
                recorder.bind(Kind::Response, &format!("resp-{name}-{n}"), "main");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(500));
            say(recorder.take_problem().as_deref().unwrap_or("no problem"));
            recorder.bind(Kind::Response, "one more", "main");
            recorder.finish(Duration::from_secs(2));
            say(recorder.take_problem().as_deref().unwrap_or("no second problem"));
        }
        "share" => share_as_told(&config),
        _ => panic!("an unknown role"),
    }
}

/// Tells of each binding once `bind` has returned.
fn bind_until_killed(config: Config, name: &str) {
    let recorder = Recorder::start(config);
    for n in 0_u64.. {
        let id = format!("resp-{name}-{n}");
        recorder.bind(Kind::Response, &id, "main");
        say(&id);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "= {text}").and_then(|()| out.flush());
}

/// What the process says, each line with the moment at which it was heard.
fn listen(child: &mut Child) -> std::thread::JoinHandle<Vec<(Instant, String)>> {
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    std::thread::spawn(move || {
        let lines = out.lines().map_while(Result::ok);
        lines.filter_map(|line| Some((Instant::now(), line.strip_prefix("= ")?.to_owned()))).collect()
    })
}

/// 200 kills at seeded instants, 20 writers of one log at a time, rewritings in between.
#[test]
fn two_hundred_kills_lose_nothing_older_than_a_second() {
    const AT_ONCE: u64 = 20;
    let home = Home::new("kills");
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let (mut told, mut old, mut rewritten) = (0, 0, 0);
    for round in 0..10 {
        home.bloat();
        let killers: Vec<_> = (0..AT_ONCE)
            .map(|n| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let life = Duration::from_millis(800 + seed % 1_000);
                let mut child = home.play("bind", &format!("{round}-{n}")).spawn().expect("a child");
                std::thread::spawn(move || {
                    let heard = listen(&mut child);
                    std::thread::sleep(life);
                    let killed = Instant::now();
                    child.kill().expect("it still lives");
                    let _ = child.wait();
                    (killed, heard.join().expect("a listener"))
                })
            })
            .collect();
        let killed: Vec<_> = killers.into_iter().map(|killer| killer.join().expect("a killer")).collect();
        let read = bindings::read(&home.config());
        assert!(read.problems.iter().all(|problem| problem.contains("lines cannot be read")), "{:?}", read.problems);
        let known: HashSet<String> = read.bindings.into_iter().map(|binding| binding.id).collect();
        for (at, id) in killed.iter().flat_map(|(at, heard)| heard.iter().map(move |(when, id)| (*at - *when, id))) {
            told += 1;
            if at >= Duration::from_secs(1) {
                old += 1;
                assert!(known.contains(id), "{id} was lost {at:?} after it was bound");
            }
        }
        rewritten += u32::from(fs::metadata(home.log()).expect("a log").len() < 3_500_000);
    }
    assert!(rewritten > 4, "{rewritten} rewritings in 10 rounds");
    assert!(told > 5_000 && old > 500, "{told} told, {old} of them old");
    eprintln!(
        "200 kills: {told} bindings, {old} of them older than a second, none of these lost, {rewritten} rewritings"
    );
}

#[test]
fn fifty_processes_lose_nothing_while_the_log_is_rewritten() {
    let home = Home::new("fifty");
    home.bloat();
    let done = AtomicBool::new(false);
    let rewritings = std::thread::scope(|scope| {
        let rewriter = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                count += u32::from(bindings::forget(&home.config(), "nobody").is_ok());
                std::thread::sleep(Duration::from_millis(20));
            }
            count
        });
        let children: Vec<Child> =
            (0..50).map(|n| home.play("bind-100", &n.to_string()).spawn().expect("a child")).collect();
        let ended: Vec<bool> =
            children.into_iter().map(|child| child.wait_with_output().expect("it ends").status.success()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(|well| *well));
        rewriter.join().expect("the rewriter")
    });
    let known = home.ids();
    let lost = (0..5_000).filter(|n| !known.contains(&format!("resp-{}-{}", n / 100, n % 100))).count();
    assert_eq!(lost, 0, "of 5,000, with {rewritings} rewritings");
    assert!(rewritings > 3, "{rewritings}");
    assert!(bindings::read(&home.config()).problems.is_empty());
}

/// A limit on the size of files does what a full disk does: the last write is a short one, the next an error.
#[test]
fn a_full_disk_is_told_once_and_the_log_stays_readable() {
    let home = Home::new("full");
    let program = home.play("bind-full", "f");
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"").arg(program.get_program());
    limited.args(program.get_args());
    for (name, value) in program.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let output = limited.output().expect("sh");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("= ")).collect();
    assert!(said.len() == 2 && said[0].contains("cannot write") && said[1] == "no second problem", "{said:?}");
    let kept = home.ids().len();
    assert!((20..190).contains(&kept), "{kept}");
    // There is room again.
    assert!(home.play("bind-100", "later").output().expect("a child").status.success());
    assert_eq!(home.ids().len(), kept + 100);
}

#[test]
fn a_home_that_takes_no_file_costs_nothing_but_a_line() {
    let config = config(Path::new("/proc/prodex-is-not-here"));
    let recorder = Recorder::start(config.clone());
    recorder.bind(Kind::Response, "r", "main");
    recorder.finish(Duration::from_secs(5));
    let problem = recorder.take_problem().expect("a problem");
    assert!(problem.contains("/proc/prodex-is-not-here"), "{problem}");
    assert!(bindings::read(&config).bindings.is_empty());
}

/// Does what its input says, a word a line, and answers each.
fn share_as_told(config: &Config) {
    let share = Share::open(config);
    let main = share.seat("main");
    let now = 1_795_574_904;
    let mut inside = Vec::new();
    say(share.problem().unwrap_or("ready"));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "enter" => inside.push(share.enter(main, prodex::sys::clock::unix())),
            "leave" => drop(inside.pop()),
            "exhaust" => share.mark_quota(main, now + 60, now),
            "sweep" => share.sweep(),
            _ => {}
        }
        say(&format!("{} {}", share.inflight(main), share.marks(main, now).quota_until.is_some()));
    }
}

/// A process of the role "share".
struct Peer {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Peer {
    fn new(home: &Home) -> Peer {
        let mut child = home.play("share", "").spawn().expect("a child");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut peer = Peer { child, answers };
        assert_eq!(peer.hear(), "ready");
        peer
    }

    fn hear(&mut self) -> String {
        let mut lines = self.answers.by_ref().map_while(Result::ok);
        lines.find_map(|line| Some(line.strip_prefix("= ")?.to_owned())).expect("an answer")
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{what}").expect("it listens");
        self.hear()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn eight_processes_see_each_other_and_the_dead_disappear() {
    let home = Home::new("share");
    let mut peers: Vec<Peer> = (0..8).map(|_| Peer::new(&home)).collect();
    for (n, peer) in peers.iter_mut().enumerate() {
        for _ in 0..=n {
            peer.ask("enter");
        }
    }
    for peer in &mut peers {
        assert_eq!(peer.ask("count"), "36 false");
    }
    assert_eq!(peers[7].ask("leave"), "35 false");
    assert_eq!(peers[3].ask("exhaust"), "35 true");
    assert_eq!(peers[0].ask("count"), "35 true");
    // Killed, and even before anybody has asked how it ended.
    let mut dead = peers.remove(7);
    dead.child.kill().expect("it lives");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(peers[0].ask("sweep"), "28 true");
    assert_eq!(peers[6].ask("count"), "28 true");
    drop(dead);
    // Its place is free for the next one, whose coming is a sweep as well.
    drop(peers.remove(6));
    let mut next = Peer::new(&home);
    assert_eq!(next.ask("enter"), "22 true");
    // All of them die at once; the next run finds nothing in flight, and still knows what is wrong.
    drop(peers);
    drop(next);
    assert_eq!(Peer::new(&home).ask("count"), "0 true");
}

/// 200 kills while counts go up and down: what is left is what the living have.
#[test]
fn kills_leave_no_count_behind() {
    let home = Home::new("share-kills");
    let mut watcher = Peer::new(&home);
    watcher.ask("enter");
    for _ in 0..10 {
        let mut peers: Vec<Peer> = (0..20).map(|_| Peer::new(&home)).collect();
        for peer in &mut peers {
            for what in ["enter", "enter", "leave", "enter"] {
                writeln!(peer.child.stdin.as_mut().expect("a pipe"), "{what}").expect("it listens");
            }
        }
        for peer in &mut peers {
            peer.child.kill().expect("it lives");
        }
        drop(peers);
        assert_eq!(watcher.ask("sweep"), "1 false");
    }
}
