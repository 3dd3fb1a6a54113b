//! WebSockets of other hands on both sides of the program, each with each: what one says the other hears, whole, with its
//! kind and its close code. Tungstenite, which codex is built on, comes with the tests. Python's `websockets` and Node's `ws`
//! are asked when they are there:
//!
//! ```sh
//! pip install --no-deps --target target/peers/python websockets && npm install --prefix target/peers/node ws
//! cargo test --test it websocket_peers -- --ignored
//! ```

use super::proxy_websocket::{masked, upgrade_head};
use super::support::behind::{Behind, Peer, Wire};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

const NAMES: [&str; 2] = ["alpha", "beta"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Tungstenite,
    Python,
    Node,
}
use Hand::{Node, Python, Tungstenite};

/// Says every message back, and a close with its code.
const PYTHON_SERVER: &str = r#"
import asyncio, websockets
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=2**26) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
"#;

/// Asks what a client of codex's kind may, and says `well` when all came back.
const PYTHON_CLIENT: &str = r#"
import asyncio, sys, websockets
url, *headers = sys.argv[1:]
async def main():
    headers_ = [tuple(line.split(": ", 1)) for line in headers]
    async with websockets.connect(url, additional_headers=headers_, max_size=2**26, user_agent_header=None) as ws:
        for message in ["", "x", "ü€😀", '{"type":"response.create","input":[]}', *("y" * n for n in (125, 126, 65535, 65536, 1 << 20)),
                        b"", bytes(range(256)) * 300]:
            await ws.send(message)
            assert await ws.recv() == message, len(message)
        await ws.send(["in ", "three ", "pieces"])
        assert await ws.recv() == "in three pieces"
        await (await ws.ping(b"are you there"))
        await ws.close(4001, "done here")
    assert (ws.close_code, ws.close_reason) == (4001, "done here"), (ws.close_code, ws.close_reason)
asyncio.run(main())
print("well")
"#;

const NODE_SERVER: &str = r#"
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: true }, () => console.log(server.address().port));
server.on("connection", ws => { ws.on("error", () => {}); ws.on("message", (data, binary) => ws.send(data, { binary })); });
"#;

const NODE_CLIENT: &str = r#"
const WebSocket = require("ws");
const [url, ...lines] = process.argv.slice(1);
const ws = new WebSocket(url, { headers: Object.fromEntries(lines.map(line => line.split(/: (.*)/s))) });
const fail = why => { console.log(String(why)); process.exit(1); };
ws.on("error", fail);
const next = kind => new Promise(done => ws.once(kind, (...all) => done(all)));
ws.on("open", async () => {
  const sizes = [125, 126, 65535, 65536, 1 << 20].map(n => "y".repeat(n));
  for (const said of ["", "x", "ü€😀", '{"type":"response.create","input":[]}', ...sizes, Buffer.alloc(0), Buffer.alloc(70000, 7)]) {
    const heard = next("message");
    ws.send(said);
    const [data, binary] = await heard;
    if (binary !== Buffer.isBuffer(said) || !data.equals(Buffer.from(said))) fail("another message: " + data.length);
  }
  let heard = next("message");
  ws.send("in ", { fin: false }); ws.send("three ", { fin: false }); ws.send("pieces");
  if ((await heard)[0].toString() !== "in three pieces") fail("pieces");
  heard = next("pong");
  ws.ping("are you there");
  if ((await heard)[0].toString() !== "are you there") fail("pong");
  heard = next("close");
  ws.close(4001, "done here");
  const [code, reason] = await heard;
  if (code !== 4001 || reason.toString() !== "done here") fail("close " + code);
  console.log("well");
});
"#;

/// A program that ends with its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(hand: Hand, text: &str, args: &[String]) -> Program {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let (name, flag, home) = match hand {
        Python => ("python3", "-c", peers.join("python")),
        _ => ("node", "-e", peers.join("node/node_modules")),
    };
    assert!(home.is_dir(), "{} is missing: see the head of this file", home.display());
    let mut command = Command::new(name);
    command.arg(flag).arg(text).args(args).env("PYTHONPATH", &home).env("NODE_PATH", &home);
    let command = command.env_remove("HTTP_PROXY").env_remove("http_proxy").env("NO_PROXY", "127.0.0.1");
    Program(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts"))
}

/// The upstream's side: takes the next connection and says everything back until the socket is closed.
fn serve(hand: Hand, wire: &Wire) {
    let peer = wire.next();
    let (text, hand) = match hand {
        Tungstenite => return echo(peer),
        Python => (PYTHON_SERVER, Python),
        Node => (NODE_SERVER, Node),
    };
    let mut program = program(hand, text, &[]);
    let mut port = String::new();
    BufReader::new(program.0.stdout.take().expect("piped")).read_line(&mut port).expect("a port");
    let address = format!("127.0.0.1:{}", port.trim());
    join(peer, TcpStream::connect(address).expect("it listens"));
}

fn echo(peer: Peer) {
    let mut socket = tungstenite::accept(peer).expect("a handshake");
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).expect("it is heard"),
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return,
            Err(error) => panic!("the server sees: {error}"),
        }
    }
}

/// Bytes both ways until both have ended.
fn join(mut one: Peer, two: TcpStream) {
    let (mut back, mut there) = (one.tcp.try_clone().expect("a clone"), two.try_clone().expect("a clone"));
    let mut two = two;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::copy(&mut two, &mut back);
            let _ = back.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut one, &mut there);
        let _ = there.shutdown(Shutdown::Write);
    });
}

/// Codex's side: a socket of this hand, everything asked and heard back, closed with a code.
fn ask(hand: Hand, behind: &Behind) {
    let url = format!("ws://{}{}", behind.address, behind.model("/responses"));
    let text = match hand {
        Tungstenite => return ask_here(behind, &url),
        Python => PYTHON_CLIENT,
        Node => NODE_CLIENT,
    };
    let headers = behind.headers().into_iter().map(|(name, value)| format!("{name}: {value}"));
    let args: Vec<String> = std::iter::once(url).chain(headers).collect();
    let mut program = program(hand, text, &args);
    let mut said = String::new();
    program.0.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(said.trim(), "well", "{hand:?} as a client");
}

fn ask_here(behind: &Behind, url: &str) {
    let mut request = url.into_client_request().expect("a URL");
    for (name, value) in behind.headers() {
        let name: tungstenite::http::HeaderName = name.parse().expect("a name");
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let (mut socket, _) = tungstenite::client(request, behind.peer()).expect("a handshake");
    let mut same = |message: Message| {
        socket.send(message.clone()).expect("it is taken");
        let heard = socket.read().expect("it comes back");
        assert!(heard == message, "{} bytes came back as {}", message.len(), heard.len());
    };
    for count in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        same(Message::text("y".repeat(count)));
        same(Message::binary(vec![7; count]));
    }
    same(Message::text("\u{fc}\u{20ac}\u{1f600}"));
    same(Message::text(r#"{"type":"response.create","input":[]}"#));
    socket.send(Message::Ping("are you there".into())).expect("it is taken");
    assert_eq!(socket.read().expect("a pong"), Message::Pong("are you there".into()));
    closed(socket);
}

fn closed(mut socket: WebSocket<Peer>) {
    let frame = CloseFrame { code: CloseCode::Library(4001), reason: "done here".into() };
    socket.close(Some(frame.clone())).expect("it is taken");
    assert_eq!(socket.read().expect("an answer"), Message::Close(Some(frame)));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

fn each_with_each(hands: &[(Hand, Hand)]) {
    let wire = Wire::start();
    let behind = Behind::wire("peers", &NAMES, &wire);
    for (client, server) in hands {
        std::thread::scope(|scope| {
            scope.spawn(|| serve(*server, &wire));
            ask(*client, &behind);
        });
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn tungstenite_with_itself() {
    each_with_each(&[(Tungstenite, Tungstenite)]);
}

#[test]
#[ignore = "needs target/peers"]
fn each_with_each_other() {
    let hands = [Tungstenite, Python, Node];
    let all: Vec<(Hand, Hand)> = hands.iter().flat_map(|one| hands.map(|two| (*one, two))).collect();
    each_with_each(&all);
}

/// What is not UTF-8 is for the ends to refuse: the server's 1007 reaches the client.
#[test]
#[ignore = "needs target/peers"]
fn what_the_ends_refuse_is_refused_in_their_words() {
    let wire = Wire::start();
    let behind = Behind::wire("peersrefuse", &NAMES, &wire);
    // A text and its close code: no UTF-8, a close of one byte, a close code that may not be sent.
    let rows: [(u8, &[u8], u16); 3] = [(0x81, b"\xff\xfe", 1007), (0x88, b"\x03", 1002), (0x88, &[0x03, 0xed], 1002)];
    for hand in [Python, Node] {
        for (first, payload, code) in rows {
            std::thread::scope(|scope| {
                scope.spawn(|| serve(hand, &wire));
                let mut client = behind.peer();
                client.write_all(upgrade_head(&behind, "").as_bytes()).expect("it is taken");
                assert!(client.head().starts_with("HTTP/1.1 101 "));
                client.send(masked(first, payload));
                let head = client.exactly(4);
                assert_eq!((head[0], u16::from_be_bytes([head[2], head[3]])), (0x88, code), "{hand:?} {payload:?}");
                client.finish();
            });
        }
    }
    behind.assert_well_by_hand(&wire);
}
