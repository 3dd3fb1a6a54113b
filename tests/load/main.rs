//! A load generator that plays codex, for `scripts/bench`: compact calls, streamed answers and WebSocket turns, one after
//! the other and eight at once. Prints `name value unit` for each figure; of its parent, when that is the proxy, also CPU
//! and memory. Knows where to go from the argument that prodex gives codex, and who it is from the home's auth.json.

use prodex::wire::body::{self, Body};
use prodex::wire::frame::{self, Opcode, Part};
use prodex::wire::head;
use prodex::wire::json::Raw;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::parent_id;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WARM_UP: usize = 30;
const CLIENTS: usize = 8;

/// Whom to ask, and as whom.
#[derive(Clone)]
struct Target {
    host: String,
    path: String,
    token: String,
    account: String,
}

struct Connection<'a> {
    target: &'a Target,
    tcp: TcpStream,
    ahead: Vec<u8>,
}

fn main() -> Result<()> {
    let target = Target::find()?;
    let rounds: usize = std::env::var("LOAD_ROUNDS").ok().map_or(Ok(300), |rounds| rounds.parse())?;
    // Behind a proxy the parent is prodex; directly it is whatever started us, which is nobody's figure.
    let proxy = std::env::args().len() > 1;
    if proxy {
        println!("idle_rss {} KB", resident()?);
    }

    let mut connection = Connection::open(&target)?;
    measure("compact", rounds, proxy, || connection.post("/responses/compact").map(|times| times.1))?;
    let mut first = Vec::new();
    measure("stream", rounds, proxy, || {
        let times = connection.post("/responses")?;
        first.push(times.0);
        Ok(times.1)
    })?;
    percentiles("stream_first_byte", first.split_off(WARM_UP.min(first.len())));

    let began = Instant::now();
    let each = (rounds / CLIENTS).max(1);
    std::thread::scope(|scope| {
        let crew: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(&target).map_err(|error| error.to_string())?;
                    (0..each).try_for_each(|_| match connection.post("/responses") {
                        Ok(_) => Ok(()),
                        Err(error) => Err(error.to_string()),
                    })
                })
            })
            .collect();
        crew.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked".to_owned())?)
    })?;
    println!("streams_per_second {:.0} /s", (each * CLIENTS) as f64 / began.elapsed().as_secs_f64());

    let mut socket = Connection::open(&target)?;
    socket.upgrade()?;
    let mut previous = None;
    measure("turn", rounds, proxy, || {
        let began = Instant::now();
        previous = Some(socket.turn(previous.as_deref())?);
        Ok(began.elapsed())
    })?;
    if proxy {
        println!("peak_rss {} KB", resident()?);
    }
    Ok(())
}

/// After a warm-up: how long `once` takes, and what it costs the proxy.
fn measure(name: &str, rounds: usize, proxy: bool, mut once: impl FnMut() -> Result<Duration>) -> Result<()> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let before = if proxy { cpu()? } else { 0 };
    let times = (0..rounds).map(|_| once()).collect::<Result<Vec<_>>>()?;
    percentiles(name, times);
    if proxy {
        println!("{name}_cpu {:.0} us", cpu()?.saturating_sub(before) as f64 / 1e3 / rounds as f64);
    }
    Ok(())
}

fn percentiles(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    for (percent, which) in [(50, "p50"), (99, "p99")] {
        if let Some(time) = times.get(times.len() * percent / 100) {
            println!("{name}_{which} {:.0} us", time.as_secs_f64() * 1e6);
        }
    }
}

/// Nanoseconds that the parent's threads have run. Those that ended are not in it: the pool keeps its threads meanwhile.
fn cpu() -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", parent_id()))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

fn resident() -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", parent_id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl Target {
    /// `LOAD_BASE` directly; behind prodex what `-c openai_base_url="..."` says.
    fn find() -> Result<Target> {
        let args: Vec<String> = std::env::args().collect();
        let given = args.iter().find_map(|arg| arg.strip_prefix("openai_base_url=")).map(|url| url.trim_matches('"'));
        let base = match given {
            Some(base) => base.to_owned(),
            None => std::env::var("LOAD_BASE")?,
        };
        let (host, path) = base.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("no http URL")?;
        let login = std::fs::read(std::path::PathBuf::from(std::env::var("CODEX_HOME")?).join("auth.json"))?;
        let tokens = Raw::parse(&login)?.member("tokens");
        let text = |name: &str| Some(tokens.as_ref()?.member(name)?.as_str()?.into_owned());
        Ok(Target {
            host: host.to_owned(),
            path: format!("/{path}"),
            token: text("access_token").ok_or("no access_token")?,
            account: text("account_id").unwrap_or_default(),
        })
    }

    fn head(&self, start: &str, more: &str) -> String {
        format!(
            "{start} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nChatGPT-Account-Id: {}\r\n\
             session-id: 0199-load\r\nthread-id: 0199-load\r\noriginator: codex_exec\r\nuser-agent: codex_exec/0.169.0\r\n{more}\r\n",
            self.host, self.token, self.account
        )
    }
}

impl Connection<'_> {
    fn open(target: &Target) -> Result<Connection<'_>> {
        let tcp = TcpStream::connect(&target.host)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Connection { target, tcp, ahead: Vec::new() })
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.tcp.read(&mut buffer)? {
            0 => Err("the connection was closed".into()),
            count => {
                self.ahead.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    fn response(&mut self) -> Result<head::Response> {
        loop {
            if let Some((used, response)) = head::response(&self.ahead)? {
                self.ahead.drain(..used);
                return Ok(response);
            }
            self.more()?;
        }
    }

    /// Until the first byte of the answer's body, and until its last.
    fn post(&mut self, path: &str) -> Result<(Duration, Duration)> {
        let text = "x".repeat(1_000);
        let body = format!(
            r#"{{"model":"gpt-5","input":[{{"type":"message","role":"user","content":[{{"type":"input_text","text":"{text}"}}]}}],"stream":true}}"#
        );
        let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let head = self.target.head(&format!("POST {}{path}", self.target.path), &more);
        let began = Instant::now();
        self.tcp.write_all((head + &body).as_bytes())?;
        let response = self.response()?;
        let framing = body::response_framing(&response, "POST")?;
        let (mut body, mut content, mut first) = (Body::new(framing), Vec::new(), None);
        loop {
            let used = body.feed(&self.ahead, |bytes| content.extend_from_slice(bytes))?;
            self.ahead.drain(..used);
            if !content.is_empty() {
                first.get_or_insert_with(|| began.elapsed());
            }
            if body.is_done() {
                break;
            }
            self.more()?;
        }
        let whole = path != "/responses" || content.windows(18).any(|bytes| bytes == b"response.completed");
        if response.status() != 200 || !whole {
            let words = String::from_utf8_lossy(&content).chars().take(200).collect::<String>();
            return Err(format!("status {}: {words}", response.status()).into());
        }
        Ok((first.unwrap_or_default(), began.elapsed()))
    }

    fn upgrade(&mut self) -> Result<()> {
        let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nopenai-beta: responses_websockets=2026-02-06\r\n";
        self.tcp.write_all(self.target.head(&format!("GET {}/responses", self.target.path), more).as_bytes())?;
        match self.response()?.status() {
            101 => Ok(()),
            status => Err(format!("the upgrade was answered with {status}").into()),
        }
    }

    /// Sends one turn and reads it to its end. Gives the id of the response.
    fn turn(&mut self, previous: Option<&str>) -> Result<String> {
        let previous = previous.map(|id| format!(r#","previous_response_id":"{id}""#)).unwrap_or_default();
        let create = format!(r#"{{"type":"response.create","model":"gpt-5","input":[]{previous},"stream":true}}"#);
        let mut out = Vec::new();
        frame::write(&mut out, Opcode::Text, Some([1, 2, 3, 4]), create.as_bytes());
        self.tcp.write_all(&out)?;
        let mut reader = frame::Reader::new(frame::From::Server);
        let mut message = Vec::new();
        loop {
            let Some((used, part)) = reader.next(&self.ahead)? else {
                self.more()?;
                continue;
            };
            if let Part::Payload { .. } = part {
                message.extend_from_slice(&self.ahead[..used]);
            }
            self.ahead.drain(..used);
            if !reader.message_ended() {
                continue;
            }
            let event = Raw::parse(&message)?;
            match event.member("type").and_then(|kind| kind.as_str()).as_deref() {
                Some("response.completed") => {
                    let id = event.at(&["response", "id"]).and_then(|id| Some(id.as_str()?.into_owned()));
                    return Ok(id.ok_or("no id")?);
                }
                Some("error" | "response.failed") => return Err(String::from_utf8_lossy(&message).into()),
                _ => {}
            }
            message.clear();
        }
    }
}
