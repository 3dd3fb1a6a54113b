//! One accepted connection, plain or TLS: reads ahead so that waiting notices a client that leaves, and ends in every
//! way a connection can end. Knows no HTTP.

use super::behave::Cut;
use super::gate::Gate;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why an exchange ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    ClientGone,
    Cut,
    Stopped,
    Malformed(String),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::ClientGone
    }
}

/// A clone of the socket without a second file descriptor, because a reset is sent only when the last one closes.
#[derive(Clone)]
struct Shared(Arc<TcpStream>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Io {
    Plain(Shared),
    Tls(Box<StreamOwned<ServerConnection, Shared>>),
}

pub struct Stream {
    io: Io,
    tcp: Arc<TcpStream>,
    stop: Arc<AtomicBool>,
    /// Bytes that were read and not yet used.
    pub ahead: Vec<u8>,
    /// Plain bytes written so far.
    pub sent: u64,
}

/// Past this the client is left to fill its own buffers; a pause then sleeps.
const AHEAD_LIMIT: usize = 1 << 20;
const SLICE: Duration = Duration::from_millis(10);

impl Stream {
    pub fn new(tcp: Arc<TcpStream>, tls: Option<Arc<ServerConfig>>, stop: Arc<AtomicBool>) -> Option<Stream> {
        let io = match tls {
            None => Io::Plain(Shared(tcp.clone())),
            Some(config) => {
                Io::Tls(Box::new(StreamOwned::new(ServerConnection::new(config).ok()?, Shared(tcp.clone()))))
            }
        };
        Some(Stream { io, tcp, stop, ahead: Vec::new(), sent: 0 })
    }

    /// Reads more; `false` at the end. Blocks until something comes, or until the read timeout.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let result = match &mut self.io {
                Io::Plain(tcp) => tcp.read(&mut buffer),
                Io::Tls(tls) => tls.read(&mut buffer),
            };
            match result {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.ahead.extend_from_slice(&buffer[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.ahead.len() < count {
            if !self.fill()? {
                return Err(End::ClientGone);
            }
        }
        Ok(self.ahead.drain(..count).collect())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        // In pieces, so that `sent` is near the truth while a slow reader holds us up.
        for piece in bytes.chunks(64 * 1024) {
            match &mut self.io {
                Io::Plain(tcp) => tcp.write_all(piece)?,
                Io::Tls(tls) => tls.write_all(piece).and_then(|()| tls.flush())?,
            }
            self.sent += piece.len() as u64;
        }
        Ok(())
    }

    /// Waits; ends early when the client leaves or the backend stops. What the client sends meanwhile is kept.
    pub fn pause(&mut self, wait: Duration) -> Result<(), End> {
        let until = Instant::now() + wait;
        let result = loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.stop.load(Ordering::Relaxed) {
                break Err(End::Stopped);
            }
            if left.is_zero() {
                break Ok(());
            }
            if self.ahead.len() > AHEAD_LIMIT {
                std::thread::sleep(left.min(SLICE));
                continue;
            }
            self.tcp.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.fill() {
                Ok(true) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Ok(false) | Err(_) => break Err(End::ClientGone),
            }
        };
        let stopped = self.stop.load(Ordering::Relaxed);
        self.tcp.set_read_timeout(None)?;
        if stopped { Err(End::Stopped) } else { result }
    }

    pub fn hold(&mut self, gate: &Gate) -> Result<(), End> {
        while !gate.wait(SLICE) {
            self.pause(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// A clean end: close_notify where there is TLS, then FIN.
    pub fn finish(&mut self) {
        if let Io::Tls(tls) = &mut self.io {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        self.fin();
    }

    /// Ends as scripted. The return value is always an `Err`, for `?`.
    pub fn cut(&mut self, cut: Cut) -> Result<(), End> {
        match cut {
            Cut::Drop | Cut::Close(_) => self.fin(),
            Cut::Reset => linger_zero(&self.tcp),
            Cut::Hang => loop {
                self.pause(Duration::from_hours(1))?;
            },
        }
        Err(End::Cut)
    }

    /// FIN. What the client still sends is read away for a moment: closing over unread bytes would send a reset.
    fn fin(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
        let _ = self.tcp.set_read_timeout(Some(Duration::from_millis(200)));
        let until = Instant::now() + Duration::from_secs(1);
        let mut sink = [0; 4096];
        while Instant::now() < until && matches!((&*self.tcp).read(&mut sink), Ok(count) if count > 0) {}
    }
}

/// Makes the coming close a reset. std cannot say this (its `set_linger` is unstable), so this is the one unsafe place.
#[allow(unsafe_code)]
pub fn linger_zero(tcp: &TcpStream) {
    use std::os::fd::AsRawFd as _;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open for the life of `tcp`, and the pointer and length describe `linger`.
    unsafe {
        libc::setsockopt(
            tcp.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}
