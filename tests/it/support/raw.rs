//! A client that says exactly what a test wants said: bytes, HTTP/1.1 responses with their framing, WebSocket frames.
//! Independent of the product and of the stand-in's server side.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

pub struct Client {
    pub tcp: TcpStream,
    ahead: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended as its framing says; false: the connection ended first.
    pub whole: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub last: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The code of a close frame.
    pub fn code(&self) -> Option<u16> {
        Some(u16::from_be_bytes([*self.payload.first()?, *self.payload.get(1)?]))
    }
}

impl Client {
    /// Every read gives up after 10 seconds, so that a test fails rather than hangs.
    pub fn connect(address: impl ToSocketAddrs) -> Client {
        let tcp = TcpStream::connect(address).expect("the server listens");
        tcp.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        tcp.set_nodelay(true).expect("an option can be set");
        Client { tcp, ahead: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).expect("the server reads");
    }

    /// A request with `Host` and, for a body, `Content-Length`.
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let host = self.tcp.peer_addr().expect("connected");
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat());
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = self.tcp.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    /// Everything until the server ends the connection; an error is a reset or 10 silent seconds.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// True when the server ended the connection and nothing is left to read.
    pub fn ended(&mut self) -> bool {
        self.ahead.is_empty() && !matches!(self.fill(), Ok(true))
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.drain(..count).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(at + 2)?;
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Status and headers only. The body can then be read with `rest`.
    pub fn head(&mut self) -> io::Result<Response> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new(), whole: false });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("header {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next final response, by its framing; interim ones are skipped. `Err`: no whole head came.
    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = self.head()?;
        while (100..200).contains(&response.status) && response.status != 101 {
            response = self.head()?;
        }
        if response.status == 101 {
            return Ok(response);
        }
        let chunked = response.header("transfer-encoding").is_some();
        let length = response.header("content-length").and_then(|value| value.parse::<usize>().ok());
        let mut body = Vec::new();
        response.whole = if chunked { self.chunks(&mut body).is_ok() } else { self.plain(length, &mut body) };
        response.body = body;
        Ok(response)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    fn plain(&mut self, length: Option<usize>, body: &mut Vec<u8>) -> bool {
        let result = loop {
            match length {
                Some(length) if self.ahead.len() >= length => break Ok(true),
                _ => {}
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break Ok(length.is_none()),
                Err(error) => break Err(error),
            }
        };
        let end = length.unwrap_or(usize::MAX).min(self.ahead.len());
        body.extend(self.ahead.drain(..end));
        result.unwrap_or(false)
    }

    /// Sends the upgrade and reads the answer to it.
    pub fn upgrade(&mut self, target: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        let fixed = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        self.request("GET", target, &[&fixed, headers].concat(), b"");
        self.response()
    }

    /// One masked frame.
    pub fn frame(&mut self, last: bool, opcode: u8, payload: &[u8]) {
        let mask = [0x21, 0x43, 0x65, 0x87];
        let mut out = vec![u8::from(last) << 7 | opcode];
        match payload.len() {
            length @ 0..=125 => out.push(0x80 | u8::try_from(length).expect("it is short")),
            length @ 126..=0xffff => {
                out.push(0x80 | 0x7e);
                out.extend(u16::try_from(length).expect("it fits").to_be_bytes());
            }
            length => {
                out.push(0x80 | 0x7f);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        self.send(&out);
    }

    pub fn text(&mut self, text: &str) {
        self.frame(true, 1, text.as_bytes());
    }

    pub fn read_frame(&mut self) -> io::Result<Frame> {
        let head = self.take(2)?;
        if head[1] & 0x80 != 0 {
            return Err(io::Error::other("masked server frame"));
        }
        let length = match head[1] & 0x7f {
            126 => self.take(2)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            127 => self.take(8)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            short => usize::from(short),
        };
        let payload = self.take(length)?;
        Ok(Frame { last: head[0] & 0x80 != 0, opcode: head[0] & 0x7f, payload })
    }

    /// Text messages up to the first whose type ends the response, fragments put together, pings answered.
    pub fn read_events(&mut self) -> io::Result<Vec<String>> {
        let (mut events, mut message) = (Vec::new(), Vec::new());
        loop {
            let frame = self.read_frame()?;
            match frame.opcode {
                9 => self.frame(true, 10, &frame.payload),
                8 => return Err(io::Error::other(format!("closed with {:?} after {events:?}", frame.code()))),
                0 | 1 => {
                    message.extend(frame.payload);
                    if frame.last {
                        let text = String::from_utf8_lossy(&std::mem::take(&mut message)).into_owned();
                        let last = ["response.completed", "response.failed", "response.incomplete", "error"]
                            .iter()
                            .any(|name| text.starts_with(&format!("{{\"type\":\"{name}\"")));
                        events.push(text);
                        if last {
                            return Ok(events);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Leaves as codex does: no close frame, just the end.
    pub fn leave(self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}
