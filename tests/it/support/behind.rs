//! The proxy of a running `prodex run` without codex in the way: a false codex tells where the proxy is and sleeps, the
//! test takes its place. And the two ends of a wire that say and see exactly the bytes that a test wants.

use super::codex::Fake;
use super::raw;
use super::run::Running;
use super::space::TestSpace;
use super::standin::backend::Backend;
use super::standin::json::Json;
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. No test waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

const SKIPPING: [&str; 4] = ["run", "--skip-quota-check", "exec", "hello"];

pub struct Behind {
    pub space: TestSpace,
    running: Running,
    pub address: SocketAddr,
    /// The first segment of every path, with its slash.
    /// Of the model's path, and of the others.
    secret: String,
    run_secret: String,
    /// `Bearer …` of the launching profile.
    pub authorization: String,
    account: String,
    upstream: SocketAddr,
    /// Open files when nothing was asked yet.
    files: usize,
}

impl Behind {
    /// `prodex run` with profiles of these names, the first the launching one, all asked for their workspaces already.
    pub fn start(name: &str, profiles: &[&str], backend: &Backend) -> Behind {
        let behind = Behind::at(TestSpace::with_profiles(name, profiles, backend), profiles[0], backend.address());
        Behind::wait_checked(profiles, backend);
        behind.settled()
    }

    /// The workspaces of all but the launching one were asked for.
    pub fn wait_checked(profiles: &[&str], backend: &Backend) {
        backend.wait_for("the workspaces of the others", PATIENCE, |records| {
            use super::standin::{record::Finished, script::Kind};
            let asked = |name: &&str| {
                records.iter().any(|record| record.is(name, &Kind::Check) && record.finished == Finished::Done)
            };
            profiles[1..].iter().all(asked)
        });
    }

    /// In a space that the test has made, of a backend that may be one that cannot be asked.
    pub fn inside(space: TestSpace, launching: &str, backend: &Backend) -> Behind {
        Behind::at(space, launching, backend.address()).settled()
    }

    /// With these variables of the user's.
    pub fn with_env(name: &str, profiles: &[&str], backend: &Backend, variables: &[(&str, &str)]) -> Behind {
        let mut space = TestSpace::with_profiles(name, profiles, backend);
        for (name, value) in variables {
            space.env(name, value);
        }
        Behind::inside(space, profiles[0], backend)
    }

    /// Through a shell that runs `line` before it makes room for prodex: limits and the like.
    pub fn under(space: TestSpace, launching: &str, backend: &Backend, line: &str) -> Behind {
        let script = format!("{line}; exec \"$@\"");
        Behind::launched(space, launching, backend.address(), &["-c", &script, "sh"], &SKIPPING).settled()
    }

    /// One more run of the same user over the same PRODEX_HOME, started in `launching`, with a log of its own. `checked`:
    /// after a quota check.
    pub fn beside(&self, launching: &str, checked: bool) -> Behind {
        let mut space = TestSpace::new("beside");
        // For the test's own reading; the run gets the real path.
        std::os::unix::fs::symlink(self.space.prodex_home(), space.prodex_home()).expect("a link is made");
        let backend = format!("http://{}", self.upstream);
        for (name, value) in [
            ("HOME", self.space.home().display().to_string()),
            ("PRODEX_HOME", self.space.prodex_home().display().to_string()),
            ("CODEX_CHATGPT_BASE_URL", format!("{backend}/backend-api")),
            ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", format!("{backend}/oauth/token")),
        ] {
            space.env(name, &value);
        }
        let wanted = ["run", "-p", launching, "exec", "hello"];
        let skipping = ["run", "--skip-quota-check", "-p", launching, "exec", "hello"];
        let args = if checked { &wanted[..] } else { &skipping };
        let behind = Behind::launched(space, launching, self.upstream, &[], args);
        until("what others bound is known", || behind.space.marked("bindings recalled").pop());
        behind.settled()
    }

    /// `kill -9`, of prodex alone.
    pub fn kill(&mut self) {
        self.running.signal("KILL");
        self.running.ended(PATIENCE);
    }

    /// The user has done with codex: the run ends in order.
    pub fn end(&mut self) {
        self.running.signal("TERM");
        self.running.ended(PATIENCE);
    }

    /// The headers of [`Behind::headers`] without the session: what is fresh work.
    pub fn fresh_headers(&self) -> Vec<(&str, &str)> {
        self.headers().into_iter().filter(|(name, _)| *name != "session-id").collect()
    }

    /// `POST …/responses` of no session, over a connection of its own, and its answer. When it is over: what the run
    /// learns from it is learned.
    pub fn ask_fresh(&self, body: &str) -> raw::Response {
        let mut client = self.client();
        let headers = [self.fresh_headers(), vec![("Connection", "close")]].concat();
        client.request("POST", &self.model("/responses"), &headers, body.as_bytes());
        let answer = client.response().expect("an answer");
        assert!(client.ended(), "the connection is open, or something follows {}", answer.text());
        answer
    }

    /// The same without an end; the answer is still to be read.
    pub fn begin(&self, body: &str) -> raw::Client {
        let mut client = self.client();
        client.request("POST", &self.model("/responses"), &self.fresh_headers(), body.as_bytes());
        client
    }

    /// With so many open files at most.
    pub fn with_descriptors(name: &str, profiles: &[&str], backend: &Backend, most: usize) -> Behind {
        let space = TestSpace::with_profiles(name, profiles, backend);
        let limit = format!("ulimit -n {most}; exec \"$@\"");
        let behind = Behind::launched(space, profiles[0], backend.address(), &["-c", &limit, "sh"], &SKIPPING);
        Behind::wait_checked(profiles, backend);
        behind.settled()
    }

    /// The same in front of an upstream that the test plays itself.
    pub fn wire(name: &str, profiles: &[&str], wire: &Wire) -> Behind {
        let mut space = TestSpace::new(name);
        space.profiles(profiles);
        space.env("CODEX_CHATGPT_BASE_URL", &format!("http://{}/backend-api", wire.address));
        let behind = Behind::at(space, profiles[0], wire.address);
        for _ in &profiles[1..] {
            wire.checked.lock().expect("one reader").recv_timeout(PATIENCE).expect("a workspace is asked for");
        }
        behind.settled()
    }

    /// The same in a space that the test has made.
    pub fn over(space: TestSpace, launching: &str, wire: &Wire) -> Behind {
        Behind::at(space, launching, wire.address).settled()
    }

    /// The same in front of an address where nobody may listen.
    pub fn toward(name: &str, profiles: &[&str], upstream: SocketAddr) -> Behind {
        let mut space = TestSpace::new(name);
        space.profiles(profiles);
        space.env("CODEX_CHATGPT_BASE_URL", &format!("http://{upstream}/backend-api"));
        Behind::at(space, profiles[0], upstream).settled()
    }

    /// With the login that this profile has now.
    pub fn with_login(mut self, name: &str) -> Behind {
        (self.authorization, self.account) = login(&self.space, name);
        self
    }

    fn at(space: TestSpace, launching: &str, upstream: SocketAddr) -> Behind {
        Behind::launched(space, launching, upstream, &[], &SKIPPING)
    }

    /// Through a shell with these arguments in front, when there are any.
    fn launched(mut space: TestSpace, launching: &str, upstream: SocketAddr, shell: &[&str], args: &[&str]) -> Behind {
        let fake = Fake::new(&space, "exec sleep 600");
        space.env("PRODEX_CODEX_BIN", fake.path());
        let running = match shell {
            [] => space.prodex(args).start(),
            shell => space.run("sh", &[shell, &[env!("CARGO_BIN_EXE_prodex")], args].concat()).start(),
        };
        let call = until("the false codex was called", || fake.calls().pop());
        let value = |key: &str| {
            let found = call.args.iter().find_map(|arg| arg.strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'));
            found.unwrap_or_else(|| panic!("no {key} in {:?}", call.args)).to_owned()
        };
        let model = value("openai_base_url");
        let (authority, path) = model.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
        let secret = format!("/{}", path.strip_suffix("/m").expect("the model mount"));
        let backend = value("chatgpt_base_url");
        let below = backend.strip_prefix("http://").and_then(|rest| rest.strip_prefix(authority)).expect("one origin");
        let run_secret = below.strip_suffix("/backend-api").expect("the backend's mount").to_owned();
        assert_ne!(secret, run_secret, "what is kept for the next run is for the model alone");
        let address = authority.parse().expect("an address");
        let (authorization, account) = login(&space, launching);
        Behind { space, running, address, secret, run_secret, authorization, account, upstream, files: 0 }
    }

    /// The question for a workspace may still be on its way out: the lowest of some looks is the level.
    fn settled(mut self) -> Behind {
        let look = || {
            std::thread::sleep(Duration::from_millis(3));
            self.open_files()
        };
        self.files = (0..10).map(|_| look()).min().unwrap_or(0);
        self
    }

    pub fn model(&self, below: &str) -> String {
        format!("{}/m{below}", self.secret)
    }

    pub fn backend(&self, below: &str) -> String {
        format!("{}/backend-api{below}", self.run_secret)
    }

    /// What codex sends with every request that matters here.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        vec![("Authorization", &self.authorization), ("chatgpt-account-id", &self.account), ("session-id", "s-1")]
    }

    /// A head up to its empty line, with Host and credentials in front of `lines`, which end in CR LF each.
    pub fn head(&self, method: &str, target: &str, lines: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nchatgpt-account-id: {}\r\n{lines}\r\n",
            self.address, self.authorization, self.account
        )
    }

    pub fn client(&self) -> raw::Client {
        raw::Client::connect(self.address)
    }

    pub fn peer(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).expect("the proxy listens"))
    }

    /// `POST …/responses` over `client`, and its answer.
    pub fn ask(&self, client: &mut raw::Client, body: &[u8]) -> raw::Response {
        client.request("POST", &self.model("/responses"), &self.headers(), body);
        client.response().expect("an answer")
    }

    /// A client whose WebSocket is open.
    pub fn socket(&self) -> raw::Client {
        let mut client = self.client();
        let answer = client.upgrade(&self.model("/responses"), &self.headers()).expect("an answer to the upgrade");
        assert_eq!(answer.status, 101, "{}", answer.text());
        client
    }

    /// One more request is answered, nothing panicked, and no more files are open than before, but for `idle` upstream
    /// connections that are kept.
    #[track_caller]
    pub fn assert_well(&self, idle: usize) {
        let answer = self.ask(&mut self.client(), b"{}");
        assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
        self.assert_nothing_left(idle);
    }

    /// One more request that goes through, and nothing is left of what was before; the upstream's part is played here.
    #[track_caller]
    pub fn assert_well_by_hand(&self, wire: &Wire) {
        drop(self.served_by_hand(wire));
        wire.assert_no_more();
        self.assert_nothing_left(0);
    }

    /// A request of a model that was answered, and its two ends.
    #[track_caller]
    pub fn served_by_hand(&self, wire: &Wire) -> (raw::Client, Peer) {
        let mut client = self.client();
        client.request("POST", &self.model("/responses"), &self.headers(), b"{}");
        let mut upstream = wire.next();
        let head = upstream.head();
        assert!(head.starts_with("POST /backend-api/codex/responses HTTP/1.1\r\n"), "{head}");
        assert_eq!(upstream.exactly(2), b"{}");
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        let answer = client.response().expect("an answer");
        assert_eq!((answer.status, answer.text().as_ref()), (200, "{}"));
        (client, upstream)
    }

    #[track_caller]
    pub fn assert_nothing_left(&self, idle: usize) {
        // A connection is given back when its client has the answer already: a request that comes at once may find none.
        let kept = idle + 1;
        let began = Instant::now();
        loop {
            let upstream = self.upstream_sockets();
            if upstream <= kept && self.open_files() <= self.files + upstream {
                break;
            }
            let now = || format!("{upstream} of them upstream: {:#?}", self.files());
            assert!(began.elapsed() < PATIENCE, "at first {} open files and now, {}", self.files, now());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.space.marked("worker_panic"), [""; 0]);
    }

    /// Connections to the upstream, whatever their state.
    fn upstream_sockets(&self) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.running.id())).expect("prodex runs");
        let remote = format!("0100007F:{:04X}", self.upstream.port());
        let inodes: Vec<String> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row.get(2) == Some(&remote.as_str()))
            .filter_map(|row| Some(format!("socket:[{}]", row.get(9)?)))
            .collect();
        self.files().iter().filter(|file| inodes.contains(file)).count()
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.running.id())).expect("prodex runs").count()
    }

    /// What they are, for people.
    fn files(&self) -> Vec<String> {
        let links = std::fs::read_dir(format!("/proc/{}/fd", self.running.id())).expect("prodex runs").flatten();
        links.flat_map(|link| std::fs::read_link(link.path())).map(|file| file.display().to_string()).collect()
    }

    /// What it has in its memory together with the user's other runs.
    pub fn shared_file(&self) -> PathBuf {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.running.id())).expect("prodex runs");
        let path = |line: &str| line.find("/dev/shm/prodex").map(|at| PathBuf::from(&line[at..]));
        maps.lines().find_map(path).expect("it is mapped")
    }

    /// Resident memory, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.id())).expect("prodex runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

/// `Authorization` and account id of a profile.
fn login(space: &TestSpace, name: &str) -> (String, String) {
    let auth = std::fs::read(space.profile_home(name).join("auth.json")).expect("a login");
    let auth = Json::parse(&auth).expect("JSON");
    let token = |key: &str| auth.get("tokens").and_then(|t| t.get(key)?.text()).expect("a token").to_owned();
    (format!("Bearer {}", token("access_token")), token("account_id"))
}

/// Looks again and again until there is something to see.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// One end of a connection, in bytes.
pub struct Peer {
    pub tcp: TcpStream,
    ahead: Vec<u8>,
}

impl Peer {
    pub fn new(tcp: TcpStream) -> Peer {
        tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        tcp.set_nodelay(true).expect("an option can be set");
        Peer { tcp, ahead: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).expect("the other side reads");
    }

    /// From another thread, for what the other side takes slowly. What it does not take is no fault here.
    pub fn send_aside(&self, bytes: Vec<u8>) -> std::thread::JoinHandle<io::Result<()>> {
        let mut tcp = self.tcp.try_clone().expect("a socket can be cloned");
        std::thread::spawn(move || tcp.write_all(&bytes))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = self.tcp.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Something was said that is not read yet.
    pub fn is_told(&self) -> bool {
        // Not by non-blocking mode: a clone of the socket may be writing.
        self.tcp.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout can be set");
        let peeked = self.tcp.peek(&mut [0]);
        self.tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        !self.ahead.is_empty() || peeked.is_ok()
    }

    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            let taken = self.fill();
            assert!(matches!(taken, Ok(1..)), "{taken:?} after {} of {count} bytes", self.ahead.len());
        }
        self.ahead.drain(..count).collect()
    }

    /// Up to and with `end`.
    #[track_caller]
    pub fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end.as_bytes()) {
                return String::from_utf8(self.exactly(at + end.len())).expect("text");
            }
            let taken = self.fill();
            assert!(matches!(taken, Ok(1..)), "{taken:?} before {end:?}: {}", String::from_utf8_lossy(&self.ahead));
        }
    }

    /// A head as it stands.
    #[track_caller]
    pub fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// All until the other side ends, and whether it ended in order.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        loop {
            match self.fill() {
                Ok(0) => return (std::mem::take(&mut self.ahead), true),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("silent, but open, after {:?}", String::from_utf8_lossy(&self.ahead))
                }
                Err(_) => return (std::mem::take(&mut self.ahead), false),
            }
        }
    }

    /// The other side ended the connection, whatever it said before.
    #[track_caller]
    pub fn gone(&mut self) {
        self.rest();
    }

    /// Reads and forgets all until the other side ends.
    pub fn drain(&mut self) {
        while matches!(self.fill(), Ok(1..)) {
            self.ahead.clear();
        }
    }

    /// Ends our side only, if the other has not ended it all.
    pub fn finish(&self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// The close that follows is a reset.
    pub fn reset(self) {
        super::standin::stream::linger_zero(&self.tcp);
    }
}

/// For a protocol of other hands: what was read ahead comes first.
impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            return self.tcp.read(buffer);
        }
        let count = buffer.len().min(self.ahead.len());
        buffer[..count].copy_from_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        Ok(count)
    }
}

impl io::Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// An upstream that the test plays by hand: each connection on which a request comes is handed over, with the head of
/// the request still to be read. Questions for a workspace are answered with 404.
pub struct Wire {
    pub address: SocketAddr,
    connections: Mutex<Receiver<Peer>>,
    /// Handed over by the listener, not yet taken by the test.
    waiting: Arc<AtomicUsize>,
    checked: Mutex<Receiver<()>>,
}

impl Wire {
    pub fn start() -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (tell, connections) = mpsc::channel();
        let (note, checked) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let arrived = waiting.clone();
        // It ends with the process: a test's backend is small.
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (tell, note, arrived) = (tell.clone(), note.clone(), arrived.clone());
                std::thread::spawn(move || {
                    let mut peer = Peer::new(tcp);
                    while !peer.ahead.windows(4).any(|end| end == b"\r\n\r\n") {
                        if !matches!(peer.fill(), Ok(1..)) {
                            return;
                        }
                    }
                    let line = String::from_utf8_lossy(&peer.ahead).lines().next().unwrap_or_default().to_owned();
                    if line.contains("/wham/accounts/check") {
                        peer.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                        let _ = note.send(());
                    } else if line.contains("/wham/usage") {
                        // The proxy's own question, whenever it comes: no business of a test with a wire.
                        peer.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    } else if tell.send(peer).is_ok() {
                        arrived.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Wire { address, connections: Mutex::new(connections), waiting, checked: Mutex::new(checked) }
    }

    /// An address that nobody listens on.
    pub fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
    }

    /// The next connection that carries a request.
    #[track_caller]
    pub fn next(&self) -> Peer {
        let peer = self.connections.lock().expect("one reader").recv_timeout(PATIENCE);
        let peer = peer.expect("a request reaches the upstream");
        until("it is counted", || (self.waiting.load(Ordering::SeqCst) > 0).then_some(()));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        peer
    }

    /// A connection waits for [`Wire::next`].
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// No further connection came.
    #[track_caller]
    pub fn assert_no_more(&self) {
        assert!(!self.is_waiting(), "one request too many");
    }
}
