//! The proxy behind a proxy: `HTTPS_PROXY` and its kin lead upstream (spec S-82), with credentials, and nobody else sees
//! those.

use super::support::behind::Behind;
use super::support::space::TestSpace;
use super::support::standin::backend::Backend;
use super::support::standin::script::{Kind, Script};
use super::support::standin::tls::Ca;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const NAMES: [&str; 2] = ["alpha", "beta"];
const FULL: &str = r#"{"type":"response.create","model":"m","input":[]}"#;
/// `us er:pa@ss`.
const CREDENTIALS: &str = "us%20er:pa%40ss";
const BASIC: &str = "Proxy-Authorization: Basic dXMgZXI6cGFAc3M=";

/// Leads every CONNECT to one address, whatever it names; or answers with a refusal. Ends with the test process.
struct Way {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Way {
    fn to(upstream: SocketAddr) -> Way {
        Way::start("HTTP/1.1 200 Connection established\r\n\r\n", Some(upstream))
    }

    fn start(answer: &'static str, upstream: Option<SocketAddr>) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        std::thread::spawn(move || {
            for mut near in listener.incoming().flatten() {
                let seen = seen.clone();
                std::thread::spawn(move || {
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") && near.read_exact(&mut byte).is_ok() {
                        head.push(byte[0]);
                    }
                    seen.lock().expect("nobody panics").push(String::from_utf8_lossy(&head).into_owned());
                    let far = upstream.map(|upstream| TcpStream::connect(upstream).expect("the stand-in listens"));
                    let _ = near.write_all(answer.as_bytes());
                    if let Some(far) = far {
                        let back = (far.try_clone().expect("a clone"), near.try_clone().expect("a clone"));
                        std::thread::spawn(move || pass(back.0, back.1));
                        pass(near, far);
                    }
                });
            }
        });
        Way { address, heads }
    }

    fn url(&self) -> String {
        format!("http://{CREDENTIALS}@{}", self.address)
    }

    /// The heads that came, each of which must ask for this, and how many they are.
    #[track_caller]
    fn asked(&self, target: &str) -> usize {
        let heads = self.heads.lock().expect("nobody panics");
        for head in heads.iter() {
            assert_eq!(head, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{BASIC}\r\n\r\n"));
        }
        heads.len()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}

/// Of a backend that is known as `chatgpt.test`, which only a proxy can find.
fn space(name: &str, backend: impl FnOnce(&TestSpace) -> Backend) -> (TestSpace, Backend, String) {
    let mut space = TestSpace::new(name);
    let backend = backend(&space);
    space.profiles(&NAMES);
    let target = format!("chatgpt.test:{}", backend.address().port());
    let scheme = backend.origin().split(':').next().unwrap_or_default().to_owned();
    space.env("CODEX_CHATGPT_BASE_URL", &format!("{scheme}://{target}/backend-api"));
    (space, backend, target)
}

fn over_tls(space: &TestSpace) -> Backend {
    Backend::start_tls(Script::new(&NAMES), &Ca::new(space.root()))
}

fn trusting(space: &mut TestSpace) {
    let pem = space.root().join("standin-ca.pem");
    space.env("CODEX_CA_CERTIFICATE", pem.to_str().expect("test paths are UTF-8"));
}

#[test]
fn requests_and_sockets_go_through_it() {
    let (mut space, backend, target) = space("way-tls", over_tls);
    trusting(&mut space);
    let way = Way::to(backend.address());
    space.env("HTTPS_PROXY", &way.url());
    // Quotas too: a connection of its own.
    let quota = space.prodex(&["quota"]).output().expect(0);
    let before = way.asked(&target);
    assert!(before > 0, "{}", quota.stdout);
    let behind = Behind::inside(space, NAMES[0], &backend);
    Behind::wait_checked(&NAMES, &backend);
    let answer = behind.ask(&mut behind.client(), b"{}");
    assert!(answer.whole && answer.text().contains("Hello from alpha."), "{}", answer.text());
    let mut socket = behind.socket();
    socket.text(FULL);
    let events = socket.read_events().expect("a turn").concat();
    assert!(events.contains("Hello from alpha."), "{events}");
    socket.leave();
    // The request, the socket, and what prodex asks aside.
    assert!(way.asked(&target) >= before + 3, "{}", way.asked(&target));
    let logs = behind.space.runtime_logs().concat();
    assert!(!logs.contains("pa@ss") && !logs.contains("pa%40ss") && !logs.contains("dXMgZXI"), "{logs}");
}

#[test]
fn plain_upstreams_go_by_http_proxy_and_not_when_excepted() {
    // An address that is not called loopback, and leads there all the same.
    for (exceptions, through) in [("127.0.0.1,localhost", true), ("localhost,0.0.0.0", false)] {
        let (mut space, backend, _) = space("way-plain", |_| Backend::start(Script::new(&NAMES)));
        let target = format!("0.0.0.0:{}", backend.address().port());
        let way = Way::to(backend.address());
        space.env("CODEX_CHATGPT_BASE_URL", &format!("http://{target}/backend-api"));
        space.env("http_proxy", &way.url());
        space.env("NO_PROXY", exceptions);
        let behind = Behind::inside(space, NAMES[0], &backend);
        Behind::wait_checked(&NAMES, &backend);
        let answer = behind.ask(&mut behind.client(), b"{}");
        assert!(answer.whole && answer.text().contains("Hello from alpha."), "{}", answer.text());
        assert_eq!(way.asked(&target) >= 2, through, "{exceptions}");
        assert!(through || way.asked(&target) == 0);
    }
}

#[test]
fn one_that_refuses_or_cannot_be_used_is_503_in_clear_words() {
    let nowhere = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let refusing = Way::start("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", None);
    let talking = Way::start("HTTP/1.1 200 OK\r\n\r\nhello", None);
    let silent = Way::start("", None);
    let at = |address: SocketAddr| format!("the proxy of HTTPS_PROXY ({address})");
    for (value, words) in [
        (refusing.url(), "cannot connect to TARGET: the proxy of HTTPS_PROXY refused: 407".to_owned()),
        (talking.url(), format!("no answer from {}: not HTTP as it should be: ", at(talking.address))),
        (silent.url(), format!("no answer from {}: it closed the connection", at(silent.address))),
        (format!("http://{CREDENTIALS}@{nowhere}"), format!("cannot connect to {}: Connection refused", at(nowhere))),
        (
            format!("socks5://{CREDENTIALS}@{nowhere}"),
            "cannot connect to TARGET: HTTPS_PROXY is no http:// proxy".to_owned(),
        ),
    ] {
        let (mut space, backend, target) = space("way-refused", over_tls);
        trusting(&mut space);
        space.env("HTTPS_PROXY", &value);
        let behind = Behind::inside(space, NAMES[0], &backend);
        let answer = behind.ask(&mut behind.client(), b"{}");
        let words = words.replace("TARGET", &target);
        assert_eq!((answer.status, answer.whole), (503, true), "{}", answer.text());
        assert!(answer.text().contains(&format!("prodex: {words}")), "{words}: {}", answer.text());
        let lines = behind.space.marked("upstream_connect_error");
        assert!(lines.iter().any(|line| line.contains(&words)), "{lines:#?}");
        let said = behind.space.runtime_logs().concat() + &answer.text();
        assert!(!said.contains("pa@ss") && !said.contains("pa%40ss") && !said.contains("dXMgZXI"), "{said}");
        assert!(backend.of("alpha", &Kind::Post).is_empty());
    }
}
