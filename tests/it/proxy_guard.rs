//! Who gets nothing from the proxy: without the secret, with a wrong credential, from a browser, climbing, smuggling, or
//! not speaking HTTP. Each is refused in its own words, its connection ends, and the next one works.

use super::support::behind::{Behind, Peer, Wire};
use std::time::Duration;

const NAMES: [&str; 2] = ["alpha", "beta"];

/// Sends `bytes` on a connection of their own: the status of the answer, with nothing after it but the end.
#[track_caller]
fn refused(behind: &Behind, bytes: &[u8]) -> (u16, String) {
    let mut client = behind.peer();
    // What it does not take any more is no fault.
    let sending = client.send_aside(bytes.to_vec());
    let _ = sending.join().expect("no panic");
    let (all, _) = client.rest();
    let text = String::from_utf8_lossy(&all).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {text:?} after {:?}", String::from_utf8_lossy(bytes)));
    assert_eq!(text.matches("\r\ncontent-length: ").count(), 1, "more than one answer: {text:?}");
    assert!(text.contains("\r\nconnection: close\r\n"), "{text:?}");
    (status, text)
}

#[test]
fn without_the_secret_nothing_is_here() {
    let wire = Wire::start();
    let behind = Behind::wire("secret", &NAMES, &wire);
    let secret = behind.model("").strip_suffix("/m").expect("the mount").to_owned();
    let (last, short) = (secret.chars().last().expect("a letter"), &secret[..secret.len() - 1]);
    let other = if last == '0' { '1' } else { '0' };
    let targets = [
        "/".to_owned(),
        "/m/responses".to_owned(),
        "/backend-api/codex/responses".to_owned(),
        format!("{short}/m/responses"),
        format!("{short}{other}/m/responses"),
        format!("{secret}x/m/responses"),
        format!("/{secret}/m/responses"),
        format!("{}/m/responses", secret.to_uppercase().replace('F', "G")),
        format!("/x{secret}/m/responses"),
        "/%2f/m/responses".to_owned(),
        "*".to_owned(),
        // The secret, but no path that codex was given.
        secret.clone(),
        format!("{secret}/"),
        format!("{secret}/m"),
        format!("{secret}/mm/responses"),
        format!("{secret}/backend-apis/x"),
        // Nor the other's path.
        behind.model("/responses").replace("/m/", "/backend-api/"),
        behind.backend("/responses").replace("/backend-api/", "/m/"),
        format!("{secret}/M/responses"),
        format!("{secret}//m/responses"),
    ];
    for target in targets {
        for method in ["GET", "POST"] {
            let (status, text) = refused(&behind, behind.head(method, &target, "Content-Length: 0\r\n").as_bytes());
            assert_eq!(status, 404, "{method} {target}");
            assert!(!text.contains(&secret[1..]), "{text}");
        }
    }
    assert!(behind.space.runtime_logs().iter().all(|log| !log.contains(&secret[1..])), "the secret is in a log");
    behind.assert_well_by_hand(&wire);
}

#[test]
fn paths_that_climb_and_targets_of_another_form() {
    let wire = Wire::start();
    let behind = Behind::wire("climb", &NAMES, &wire);
    let climbing = [
        "/m/../responses",
        "/m/..",
        "/m/./responses",
        "/m/%2e%2e/admin",
        "/m/.%2E/x",
        "/m/a%2Fb",
        "/m/a%2f..%2fb",
        "/m/a\\b",
        "/m/a%5cb",
        "/m/%5C../x",
        "/backend-api/../../x",
        "/backend-api/x/..",
    ];
    let secret = behind.model("").strip_suffix("/m").expect("the mount").to_owned();
    for path in climbing {
        let (status, _) = refused(&behind, behind.head("GET", &format!("{secret}{path}"), "").as_bytes());
        assert_eq!(status, 400, "{path}");
    }
    // In a query it is a value like any other.
    let mut client = behind.peer();
    client.send(behind.head("GET", &behind.backend("/wham/x?next=/../%2f"), ""));
    let mut upstream = wire.next();
    assert!(upstream.head().starts_with("GET /backend-api/wham/x?next=/../%2f HTTP/1.1\r\n"));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.head();
    drop((client, upstream));
    let absolute = format!("http://{}{}", behind.address, behind.model("/responses"));
    let rows = [
        ("POST", absolute.as_str()),
        ("GET", "http://example.com/"),
        ("CONNECT", "example.com:443"),
        ("CONNECT", &behind.model("/responses")[1..]),
        ("OPTIONS", "*"),
    ];
    for (method, target) in rows {
        assert_eq!(refused(&behind, behind.head(method, target, "").as_bytes()).0, 404, "{method} {target}");
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn other_hosts_and_origins() {
    let wire = Wire::start();
    let behind = Behind::wire("host", &NAMES, &wire);
    let (address, port) = (behind.address.to_string(), behind.address.port());
    let mine = format!("Authorization: {}\r\nchatgpt-account-id: acct-alpha\r\n", behind.authorization);
    let hosts = [
        String::new(),
        "Host:\r\n".to_owned(),
        "Host: 127.0.0.1\r\n".to_owned(),
        format!("Host: localhost:{port}\r\n"),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: {address}.evil.example\r\n"),
        format!("Host: {address}\r\nHost: {address}\r\n"),
        format!("Host: {address}\r\nHost: evil.example\r\n"),
        format!("Host: evil.example\r\nHost: {address}\r\n"),
        format!("Host: {address}, evil.example\r\n"),
        format!("Host: {address}\r\nOrigin: http://{address}\r\n"),
        format!("Host: {address}\r\nOrigin: null\r\n"),
        format!("Host: {address}\r\norigin:\r\n"),
    ];
    for target in [behind.model("/responses"), behind.backend("/wham/x"), behind.backend("/wham/accounts/check")] {
        for host in &hosts {
            let text = format!("POST {target} HTTP/1.1\r\n{host}{mine}Content-Length: 0\r\n\r\n");
            assert_eq!(refused(&behind, text.as_bytes()).0, 403, "{host:?}");
        }
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn a_model_route_wants_a_credential_of_ours() {
    let wire = Wire::start();
    let behind = Behind::wire("credential", &NAMES, &wire);
    let token = behind.authorization.strip_prefix("Bearer ").expect("a bearer").to_owned();
    let mine = &behind.authorization;
    let rows = [
        String::new(),
        "Authorization:\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer x\r\n".to_owned(),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Bearer {}\r\n", &token[..token.len() - 1]),
        format!("Authorization: {mine}\r\nAuthorization: {mine}\r\n"),
        format!("Authorization: Bearer x\r\nAuthorization: {mine}\r\n"),
        format!("Authorization: {mine}, {mine}\r\n"),
        format!("X-Authorization: {mine}\r\n"),
    ];
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for below in ["/responses", "/responses/compact", "/models", "/anything"] {
        for authorization in &rows {
            for (method, lines) in [("POST", "Content-Length: 0\r\n"), ("GET", upgrade)] {
                let target = behind.model(below);
                let text =
                    format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{authorization}{lines}\r\n", behind.address);
                assert_eq!(refused(&behind, text.as_bytes()).0, 403, "{method} {below} {authorization:?}");
            }
        }
    }
    assert!(behind.space.runtime_logs().iter().all(|log| !log.contains(&token)), "a token is in a log");
    behind.assert_well_by_hand(&wire);
}

#[test]
fn heads_that_are_no_http_1_1() {
    let wire = Wire::start();
    let behind = Behind::wire("malformed", &NAMES, &wire);
    let good = behind.head("POST", &behind.model("/responses"), "Content-Length: 0\r\n");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from:?}");
        good.replacen(from, to, 1).into_bytes()
    };
    let rows = [
        ("HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 505),
        ("HTTP/2.0", with("HTTP/1.1", "HTTP/2.0"), 400),
        ("HTTP/9.9", with("HTTP/1.1", "HTTP/9.9"), 400),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        ("no version", with(" HTTP/1.1", ""), 400),
        ("two spaces", with("POST ", "POST  "), 400),
        ("a tab", with("POST ", "POST\t"), 400),
        ("no method", with("POST ", ""), 400),
        ("a bare LF", with("HTTP/1.1\r\n", "HTTP/1.1\n"), 400),
        ("a bare CR", with("HTTP/1.1\r\n", "HTTP/1.1\r"), 400),
        ("a NUL in a value", with("acct-alpha", "acct\0alpha"), 400),
        ("a NUL in the target", with("/responses", "/res\0ponses"), 400),
        ("a name with a space", with("Content-Length:", "Content-Length :"), 400),
        ("a name of nothing", with("Content-Length:", ":"), 400),
        ("a line without a colon", with("Content-Length: 0", "Content-Length 0"), 400),
        ("a folded line", with("\r\nContent-Length", "\r\n x: y\r\nContent-Length"), 400),
        ("an umlaut in the target", with("/responses", "/r\u{e4}sponses"), 400),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("garbage", (0..=255).cycle().take(4096).collect(), 400),
        ("zeros", vec![0; 4096], 400),
        ("line ends", b"\r\n\r\n\r\n\r\n".to_vec(), 400),
        ("too many headers", with("Content-Length: 0\r\n", &"a: b\r\n".repeat(200)), 431),
        ("65 KiB of a header", with("Content-Length: 0", &format!("a: {}", "b".repeat(65 * 1024))), 431),
        ("65 KiB of a target", with("/responses", &format!("/{}", "b".repeat(65 * 1024))), 431),
        ("1 MiB without an end", [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat(), 431),
    ];
    for (name, bytes, status) in rows {
        assert_eq!(refused(&behind, &bytes).0, status, "{name}");
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn bodies_that_two_parties_may_read_differently() {
    let wire = Wire::start();
    let behind = Behind::wire("smuggle", &NAMES, &wire);
    let inner = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let framings = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 4\r\n",
        "Content-Length: 4,5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: 4 4\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
    ];
    for target in [behind.model("/responses"), behind.backend("/wham/x")] {
        for framing in framings {
            let text = behind.head("POST", &target, framing) + "0\r\n\r\n" + inner;
            assert_eq!(refused(&behind, text.as_bytes()).0, 400, "{framing:?}");
        }
    }
    wire.assert_no_more();
    let chunks = [
        "xyz\r\n",
        "\r\n",
        ";a\r\n",
        "-1\r\n",
        "+1\r\na\r\n",
        "0x1\r\na\r\n",
        " 1\r\na\r\n",
        "1\na\n",
        "1\r\nab\r\n",
        "1\r\na\n0\r\n\r\n",
        "00000000000000001\r\na\r\n",
        "10000000000000000\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "1;\0\r\na\r\n",
    ];
    for bad in chunks {
        let text = behind.head("POST", &behind.model("/responses"), "Transfer-Encoding: chunked\r\n") + bad + inner;
        assert_eq!(refused(&behind, text.as_bytes()).0, 400, "{bad:?}");
        // It may have been asked for upstream by then; no more than the beginning went there.
        while wire.is_waiting() {
            let (all, _) = wire.next().rest();
            assert!(!String::from_utf8_lossy(&all).contains("smuggled"), "{bad:?}");
        }
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn what_follows_a_body_is_the_next_request_and_nothing_else() {
    let wire = Wire::start();
    let behind = Behind::wire("after", &NAMES, &wire);
    let outside = format!("GET /smuggled HTTP/1.1\r\nHost: {}\r\n\r\n", behind.address);
    // The same number twice is one number; a GET with a body; a nomination of what frames the message.
    let rows = [
        ("POST", "Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
        ("POST", "Connection: content-length\r\nContent-Length: 2\r\n", "{}"),
        ("POST", "Connection: transfer-encoding\r\nTransfer-Encoding: Chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        ("GET", "Content-Length: 2\r\n", "{}"),
        ("GET", "", ""),
    ];
    for (method, framing, body) in rows {
        let mut client = behind.peer();
        client.send(behind.head(method, &behind.model("/responses"), framing) + body + &outside);
        let mut upstream = wire.next();
        let head = upstream.head();
        assert_eq!(
            head.to_ascii_lowercase().contains("content-length: 2\r\n"),
            framing.contains("Length: 2"),
            "{head}"
        );
        assert_eq!(String::from_utf8_lossy(&upstream.exactly(body.len())), body);
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        client.exactly(2);
        assert!(client.head().starts_with("HTTP/1.1 404 "), "{framing:?}: the second request is judged by itself");
        client.gone();
        assert_eq!(String::from_utf8_lossy(&upstream.rest().0), "", "{framing:?}");
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn clients_that_say_little_or_leave_in_the_middle() {
    let wire = Wire::start();
    let behind = Behind::wire("half", &NAMES, &wire);
    // Packed: a plain body would be waited for a while, for the response that it may name.
    let packed = "Content-Encoding: zstd\r\nContent-Length: 100\r\n";
    let head = behind.head("POST", &behind.model("/responses"), packed);
    for reset in [false, true] {
        for cut in [0, 1, 10, head.len() / 2, head.len() - 1] {
            let mut client = behind.peer();
            client.send(&head[..cut]);
            if reset {
                client.reset();
            } else {
                client.finish();
                assert_eq!(client.rest().0, b"", "an answer to half a head");
            }
        }
        // In the middle of its body: what the upstream got of it is never a whole request.
        let mut client = behind.peer();
        client.send(head.clone() + "half");
        let mut upstream = wire.next();
        upstream.head();
        if reset {
            client.reset();
        } else {
            client.finish();
            client.gone();
        }
        assert_eq!(String::from_utf8_lossy(&upstream.rest().0), "half");
    }
    wire.assert_no_more();
    behind.assert_well_by_hand(&wire);
}

#[test]
fn silent_connections_keep_nobody_out() {
    let wire = Wire::start();
    let behind = Behind::wire("many", &NAMES, &wire);
    let mut silent: Vec<Peer> = (0..300).map(|_| behind.peer()).collect();
    let (client, upstream) = behind.served_by_hand(&wire);
    // Half a head each: a worker waits for every one of some of them, and still there is one for whoever asks.
    for peer in silent.iter_mut().take(100) {
        peer.send("POST /");
    }
    drop(behind.served_by_hand(&wire));
    drop((silent, client, upstream));
    behind.assert_well_by_hand(&wire);
}

/// The limit is 10 s: `cargo test -- --ignored slow_head`.
#[test]
#[ignore = "takes 10 s"]
fn a_slow_head_is_408() {
    let wire = Wire::start();
    let behind = Behind::wire("slowloris", &NAMES, &wire);
    let mut client = behind.peer();
    let mut drip = client.tcp.try_clone().expect("a socket can be cloned");
    let dripping = std::thread::spawn(move || {
        use std::io::Write as _;
        "POST /".bytes().chain(std::iter::repeat_n(b'a', 40)).all(|byte| {
            std::thread::sleep(Duration::from_millis(500));
            drip.write_all(&[byte]).is_ok()
        })
    });
    let (text, _) = client.rest();
    assert!(text.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&text));
    assert!(!dripping.join().expect("no panic"), "it was listened to for 23 s");
    drop(client);
    behind.assert_well_by_hand(&wire);
}
