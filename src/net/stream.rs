//! One non-blocking stream, plain or TLS, with blocking helpers that end at a deadline or when the client is gone.
//! Knows nothing of what is read and written.

use super::tls::{self, Protocol};
use super::{Cause, NetError, Patience, Phase, dial, tunnel, way_out};
use crate::sys::buffer;
use crate::sys::poll::{self, Watch};
use crate::wire::url::{Scheme, Url};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

/// Reads and writes never block: `WouldBlock` says to poll for [`Stream::watch`].
pub struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Stream {
    /// A plain socket that is already connected, for the side of codex.
    pub fn plain(socket: TcpStream) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        Ok(Stream { socket, tls: None })
    }

    /// Connects to the origin of `url`, through the user's proxy if there is one (spec S-82); for https the handshake is
    /// finished and the certificate checked.
    pub fn connect(url: &Url, protocol: Protocol, patience: Patience) -> Result<Stream, NetError> {
        let failed = |phase, cause| NetError { phase, peer: format!("{}:{}", url.host, url.port), cause };
        let way = way_out::of_environment(url).map_err(|words| failed(Phase::Connect, Cause::Failed(words)))?;
        let mut stream = match way {
            Some(proxy) => tunnel::open(&proxy, url, patience)?,
            None => Stream::direct(&url.host, url.port, patience)?,
        };
        if url.scheme == Scheme::Https {
            stream.start_tls(&url.host, protocol, patience).map_err(|cause| failed(Phase::Tls, cause))?;
        }
        Ok(stream)
    }

    pub(super) fn direct(host: &str, port: u16, patience: Patience) -> Result<Stream, NetError> {
        dial::tcp(host, port, patience).map(|socket| Stream { socket, tls: None })
    }

    fn start_tls(&mut self, host: &str, protocol: Protocol, patience: Patience) -> Result<(), Cause> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Cause::Failed(format!("{host} cannot be the name of a certificate")))?;
        let config = tls::config(protocol).map_err(Cause::Failed)?;
        let mut tls = ClientConnection::new(config, name).map_err(|error| Cause::Failed(error.to_string()))?;
        while tls.is_handshaking() || tls.wants_write() {
            let blocked = match tls.complete_io(&mut self.socket) {
                Ok(_) => false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Cause::Closed),
                Err(error) => return Err(Cause::Failed(error.to_string())),
            };
            if blocked {
                let watch = Watch::new(&self.socket).read(tls.wants_read()).write(tls.wants_write());
                wait(watch, patience)?;
            }
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// What to poll for in order to go on reading, writing, or both. TLS may have records of its own to send.
    pub fn watch(&self, read: bool, write: bool) -> Watch {
        Watch::new(&self.socket).read(read).write(write || self.unsent())
    }

    /// TLS records wait for the socket.
    pub fn unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Something can be read although the socket itself may be silent: poll(2) does not know of decrypted bytes.
    pub fn buffered(&mut self) -> bool {
        self.tls
            .as_mut()
            .is_some_and(|tls| tls.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0))
    }

    /// Reads what is there behind what stands in `into`.
    pub fn read_into(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        buffer::with_scratch(|scratch| {
            let taken = self.read(scratch)?;
            into.extend_from_slice(&scratch[..taken]);
            Ok(taken)
        })
    }

    /// At most `buf.len()` bytes; 0 is an orderly end. A TLS peer that just drops the connection is `UnexpectedEof`.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buf) };
        loop {
            match tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            // 0 is the end of TCP: the next turn of the loop lets TLS say whether it was announced.
            tls.read_tls(&mut self.socket)?;
            let told = tls.process_new_packets();
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok_and(|n| n > 0) {}
            told.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Takes some of `bytes`. With TLS they may wait here for the socket: see [`Stream::flush`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        let taken = tls.writer().write(bytes)?;
        match Stream::send(tls, &mut self.socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => Ok(taken),
            Err(error) => Err(error),
            Ok(()) if taken == 0 && !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            Ok(()) => Ok(taken),
        }
    }

    /// Hands what waits to the socket; `WouldBlock` when it cannot take all.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => Stream::send(tls, &mut self.socket),
            None => Ok(()),
        }
    }

    fn send(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
        while tls.wants_write() {
            if tls.write_tls(socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`, waiting as long as `patience` allows.
    pub fn write_all(&mut self, mut bytes: &[u8], patience: Patience) -> Result<(), Cause> {
        while !bytes.is_empty() || self.unsent() {
            let result = if bytes.is_empty() { self.flush().map(|()| 0) } else { self.write(bytes) };
            match result {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(self.watch(false, true), patience)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cause(&error)),
            }
        }
        Ok(())
    }

    /// Reads what is there, waiting for the first byte as long as `patience` allows; 0 is an orderly end.
    pub fn read_some(&mut self, buf: &mut [u8], patience: Patience) -> Result<usize, Cause> {
        loop {
            match self.read(buf) {
                Ok(taken) => return Ok(taken),
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(self.watch(true, false), patience)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cause(&error)),
            }
        }
    }

    /// True for an idle connection on which nothing has come, not even its end: it can carry the next request.
    pub fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// The process at the other end of a loopback connection is one of our own user's.
    pub fn is_own_user(&self) -> bool {
        crate::sys::peer::is_own_user(&self.socket)
    }

    /// The close that follows tells the peer of a break, not of an end.
    pub fn reset_on_close(&self) {
        crate::sys::socket::reset_on_close(&self.socket);
    }
}

/// The words for an error of the socket or of TLS.
pub fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Cause::Closed,
        _ => Cause::Failed(error.to_string()),
    }
}

/// Polls one stream, and the client beside it.
pub(super) fn wait(stream: Watch, patience: Patience) -> Result<(), Cause> {
    let mut watches = [stream, patience.client.map_or_else(Watch::nothing, Watch::raw)];
    match poll::wait(&mut watches, Some(patience.until)) {
        Ok(_) if watches[1].hung_up() => Err(Cause::ClientGone),
        Ok(true) => Ok(()),
        Ok(false) => Err(Cause::Deadline),
        Err(error) => Err(Cause::Failed(error.to_string())),
    }
}
