//! Does the installed codex obey the overrides (spec S-71)? A throw-away home with a login that nobody ever had, a
//! listener of our own in the place of the proxy, one `codex exec`: either a model request comes here or it does not.
//! Nothing can leave the machine: the listener is also the HTTP proxy of that codex, refuses everything, and so learns
//! where codex wanted to go instead. Knows nothing of the user's profiles.

use super::KNOWN_GOOD;
use crate::proxy::route::{self, Secrets};
use crate::proxy::{self, launch, workspace};
use crate::screen::text;
use crate::state::file;
use crate::sys::bounded::{Bounded, Said};
use crate::sys::child::Program;
use crate::sys::poll::{self, Watch};
use crate::sys::{clock, user};
use crate::wire::head;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// All of it. Codex 0.169 needs about one second; with npm's launcher on a cold disk some more.
pub const LIMIT: Duration = Duration::from_secs(15);
/// Between two looks at codex.
const TICK: Duration = Duration::from_millis(50);
/// After codex's end, until the last connection has told what came.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// One connection, from its first byte to its end.
const CONNECTION: Duration = Duration::from_secs(3);
/// Connections in all: codex 0.169 makes fewer than ten.
const MAX_CONNECTIONS: usize = 64;
/// Read and thrown away behind a head, so that the answer is not lost to a reset.
const MAX_BODY: u64 = 1024 * 1024;
/// Other hosts that are named.
const MAX_HOSTS: usize = 3;
/// Characters of what codex said.
const MAX_WORDS: usize = 160;

const PREFIX: &str = "prodex-selfcheck-";
/// A home that a killed doctor left is removed by a later one.
const LEFT_BEHIND_SECONDS: u64 = 3600;
const ACCOUNT: &str = "prodex-doctor";
/// Of the token; the home lives for seconds.
const DAY: u64 = 86_400;

/// Would lend this codex somebody's real credentials or files, or lead it elsewhere.
const WITHOUT: [&str; 8] = [
    "OPENAI_API_KEY",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "OPENAI_BASE_URL",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
    "CODEX_SQLITE_HOME",
    "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
];
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// What came of it.
pub struct Trial {
    /// `http` or `websocket` when the model request came.
    pub transport: Option<&'static str>,
    /// A sentence without its full stop.
    pub words: String,
    pub took: Duration,
}

/// To be called on the main thread (`Bounded::start`).
pub fn run(codex: &Path, version: Option<&str>) -> Trial {
    let began = clock::now();
    let name = version.map_or_else(|| "codex".to_owned(), |version| format!("codex {version}"));
    let (transport, words) = match attempt(codex, began + LIMIT) {
        Err(error) => (None, format!("{name} could not be tried: {error}")),
        Ok((Heard { transport: Some(transport), .. }, _)) => {
            (Some(transport), format!("{name} sends its model traffic through prodex"))
        }
        Ok((heard, said)) => (None, failure(&name, &heard, &said)),
    };
    Trial { transport, words, took: clock::now().saturating_duration_since(began) }
}

/// What to do when it does not work.
pub fn advice() -> String {
    format!(
        "Try the codex that is known to work, `npm install -g @openai/codex@{KNOWN_GOOD}`; meanwhile \
         `prodex run --no-auto-rotate` starts codex without the proxy"
    )
}

#[derive(Default)]
struct Heard {
    transport: Option<&'static str>,
    /// Hosts that codex wanted to reach past us.
    hosts: Vec<String>,
    requests: usize,
}

fn failure(name: &str, heard: &Heard, said: &Said) -> String {
    let came = match heard.requests {
        0 => "nothing came to prodex's port",
        _ => "other requests came to prodex's port, but no model request",
    };
    if !heard.hosts.is_empty() {
        return format!("{name} went past prodex: it wanted to reach {} ({came})", heard.hosts.join(", "));
    }
    match said.status {
        None => format!("{name} sent no model request within {} s ({came})", LIMIT.as_secs()),
        Some(status) => {
            let last = last_words(&said.stderr).map(|words| format!(": {words}")).unwrap_or_default();
            format!("{name} ended ({status}) without a model request ({came}){last}")
        }
    }
}

/// The last error that codex printed, else its last line.
fn last_words(stderr: &str) -> Option<String> {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error")));
    error.or_else(|| lines().next_back()).map(|line| text::elide(&text::clean(line), MAX_WORDS))
}

fn attempt(codex: &Path, deadline: Instant) -> Result<(Heard, Said), String> {
    let words = |error: io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(words)?;
    listener.set_nonblocking(true).map_err(words)?;
    let authority = listener.local_addr().map_err(words)?.to_string();
    let secret = proxy::secret::random().map_err(|error| error.to_string())?;
    let home = Home::new().map_err(words)?;
    let secrets = Secrets { run: secret.clone(), home: secret.clone() };
    let mut args = launch::overrides(&authority, &secrets).to_vec();
    args.extend(["exec", "--skip-git-repo-check", "hi"].map(Into::into));
    let mut env = vec![("CODEX_HOME".into(), home.0.clone().into_os_string())];
    env.extend(PROXIES.map(|name| (name.into(), format!("http://{authority}").into())));
    // The user's own list could let something out.
    env.extend(launch::NO_PROXY.map(|name| (name.into(), launch::with_loopback(None).into())));
    let program = Program { path: codex.to_owned(), args, env };
    let mut running = Bounded::start(&program, &home.0.join("work"), &WITHOUT).map_err(words)?;
    let heard = listen(&listener, &secret, deadline, &mut running);
    Ok((heard, running.finish()))
}

fn listen(listener: &TcpListener, secret: &str, mut deadline: Instant, running: &mut Bounded) -> Heard {
    let (tell, news) = mpsc::channel();
    let mut heard = Heard::default();
    let (mut connections, mut ending) = (0, false);
    while clock::now() < deadline {
        if note(&news, &mut heard) {
            break;
        }
        if running.ended() && !ending {
            ending = true;
            deadline = deadline.min(clock::now() + LAST_WORDS);
        }
        let mut watches = [Watch::new(listener).read(true)];
        if !poll::wait(&mut watches, Some(deadline.min(clock::now() + TICK))).unwrap_or(false) {
            continue;
        }
        while let Ok((socket, _)) = listener.accept() {
            connections += 1;
            if connections <= MAX_CONNECTIONS {
                let (secret, tell) = (secret.to_owned(), tell.clone());
                // Without a thread the connection ends, and codex tries again.
                let serve = move || drop(serve(&socket, &secret, &tell));
                let _ = std::thread::Builder::new().name("trial".to_owned()).spawn(serve);
            }
        }
    }
    note(&news, &mut heard);
    heard
}

enum News {
    Model(&'static str),
    Request,
    Elsewhere(String),
}

/// Takes in what the connections told; true when the question is answered.
fn note(news: &Receiver<News>, heard: &mut Heard) -> bool {
    for news in news.try_iter() {
        heard.requests += usize::from(!matches!(news, News::Elsewhere(_)));
        match news {
            News::Model(transport) => heard.transport = Some(transport),
            News::Elsewhere(host) if heard.hosts.len() < MAX_HOSTS && !heard.hosts.contains(&host) => {
                heard.hosts.push(host);
            }
            News::Request | News::Elsewhere(_) => {}
        }
    }
    heard.transport.is_some()
}

/// One request, one answer, end.
fn serve(mut socket: &TcpStream, secret: &str, tell: &Sender<News>) -> io::Result<()> {
    let until = clock::now() + CONNECTION;
    let patience = || Some(until.saturating_duration_since(clock::now()).max(Duration::from_millis(1)));
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(CONNECTION))?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let request = loop {
        match head::request(&bytes) {
            Ok(Some((_, request))) => break request,
            Ok(None) => {}
            Err(bad) => return Err(io::Error::other(bad.to_string())),
        }
        socket.set_read_timeout(patience())?;
        match socket.read(&mut buffer)? {
            _ if clock::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
            0 => return Ok(()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let upgrade = request.headers().has_token("upgrade", "websocket");
    let (news, status, body) = answer(request.target(), upgrade, secret);
    let _ = tell.send(news);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(&[answer.as_bytes(), &body].concat())?;
    socket.shutdown(std::net::Shutdown::Write)?;
    socket.set_read_timeout(patience())?;
    io::copy(&mut socket.take(MAX_BODY), &mut io::sink())?;
    Ok(())
}

fn answer(target: &str, upgrade: bool, secret: &str) -> (News, &'static str, Vec<u8>) {
    let nothing = br#"{"error":{"message":"prodex doctor answers no questions","code":"prodex_doctor"}}"#.to_vec();
    let Some(path) = target.strip_prefix('/') else {
        // As a proxy: `CONNECT chatgpt.com:443`, or an absolute URL.
        let host = target.split("://").last().and_then(|rest| rest.split('/').next()).unwrap_or_default();
        return (News::Elsewhere(text::elide(&text::clean(host), 80)), "403 Forbidden", nothing);
    };
    let Some(path) = path.strip_prefix(secret) else { return (News::Request, "404 Not Found", nothing) };
    let path = path.split('?').next().unwrap_or_default();
    if path.strip_prefix(route::MODEL_MOUNT) == Some("/responses") {
        return (News::Model(if upgrade { "websocket" } else { "http" }), "400 Bad Request", nothing);
    }
    if path.ends_with("/wham/accounts/check") {
        return (News::Request, "200 OK", workspace::made_up(ACCOUNT));
    }
    (News::Request, "404 Not Found", nothing)
}

/// A `CODEX_HOME` that lives as long as this value. Even `codex --version` writes into its home.
pub struct Home(pub PathBuf);

impl Home {
    pub fn new() -> io::Result<Home> {
        let directory = std::env::temp_dir();
        sweep(&directory);
        let path = directory.join(format!("{PREFIX}{}-{}", std::process::id(), clock::unix_millis()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let home = Home(std::path::absolute(&path).unwrap_or(path));
        DirBuilder::new().mode(0o700).create(home.0.join("work"))?;
        file::write_new(&home.0.join("auth.json"), login(clock::unix()).as_bytes())?;
        Ok(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What codex started was killed a moment ago and may still be writing its last file.
        for _ in 0..10 {
            if fs::remove_dir_all(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(TICK);
        }
    }
}

fn sweep(directory: &Path) {
    let now = i64::try_from(clock::unix().saturating_sub(LEFT_BEHIND_SECONDS)).unwrap_or(0);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if ours && meta.is_dir() && meta.uid() == user::id() && meta.mtime() < now {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// An auth.json as codex writes it (`wire.md` 7), unsigned: codex checks no signature, and nobody else ever sees it.
fn login(now: u64) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(
        r#""exp":{},"https://api.openai.com/auth":{{"chatgpt_plan_type":"plus","chatgpt_account_id":"{ACCOUNT}","chatgpt_user_id":"{ACCOUNT}"}}"#,
        now + DAY
    );
    let token = |more: &str| {
        let payload = format!(r#"{{"iss":"https://auth.openai.com",{more}{claims}}}"#);
        format!("{}.{}.{}", part(r#"{"alg":"none","typ":"JWT"}"#), part(&payload), part("unsigned"))
    };
    format!(
        r#"{{"auth_mode":"chatgpt","OPENAI_API_KEY":null,"tokens":{{"id_token":"{}","access_token":"{}","refresh_token":"{ACCOUNT}","account_id":"{ACCOUNT}"}},"last_refresh":"2026-01-01T00:00:00Z"}}"#,
        token(r#""email":"doctor@prodex.invalid","#),
        token("")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::auth;

    #[test]
    fn only_a_model_request_below_the_secret_counts() {
        let rows = [
            ("/s3/m/responses", "model"),
            ("/s3/m/responses?x=1", "model"),
            ("/s3/m/models", "request"),
            ("/s3/m/responses/compact", "request"),
            ("/s3/backend-api/wham/accounts/check?a", "request"),
            ("/other/m/responses", "request"),
            ("/", "request"),
            ("chatgpt.com:443", "chatgpt.com:443"),
            ("http://example.com/s3/m/responses", "example.com"),
            ("*", "*"),
        ];
        for (target, expected) in rows {
            let found = match answer(target, false, "s3").0 {
                News::Model(transport) => {
                    assert_eq!(transport, "http");
                    "model".to_owned()
                }
                News::Request => "request".to_owned(),
                News::Elsewhere(host) => host,
            };
            assert_eq!(found, expected, "{target}");
        }
        assert!(matches!(answer("/s3/m/responses", true, "s3").0, News::Model("websocket")));
        assert_eq!(answer("/s3/backend-api/wham/accounts/check", false, "s3").2, workspace::made_up(ACCOUNT));
    }

    #[test]
    fn the_home_is_private_holds_a_login_and_goes() {
        let home = Home::new().unwrap();
        let path = home.0.clone();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        let read = auth::read(&path);
        assert_eq!(read.tokens().unwrap().account_id.as_deref(), Some(ACCOUNT));
        assert!(read.tokens().unwrap().expires_at > Some(clock::unix()));
        assert_eq!(read.email(), Some("doctor@prodex.invalid"));
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn failures_say_what_happened_instead() {
        let said = |stderr: &str| Said { status: None, stdout: String::new(), stderr: stderr.to_owned() };
        let heard = Heard { hosts: vec!["chatgpt.com:443".to_owned()], requests: 1, ..Heard::default() };
        assert!(failure("codex 1", &heard, &said("")).contains("went past prodex: it wanted to reach chatgpt.com:443"));
        assert!(failure("codex 1", &Heard::default(), &said("")).contains("no model request within 15 s"));
        assert_eq!(last_words("a\nERROR: no\u{1b}[2J\nb\n").as_deref(), Some("ERROR: no\u{fffd}[2J"));
        assert_eq!(last_words("a\nb\n\n").as_deref(), Some("b"));
        assert_eq!(last_words(""), None);
        assert!(last_words(&"x".repeat(9000)).unwrap().len() < 200);
    }
}
