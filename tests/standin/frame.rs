//! WebSocket as a server reads and writes it (RFC 6455): the accept key, client messages, server frames. Knows no
//! message.

use super::stream::{End, Stream};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub fn accept_key(key: &str) -> String {
    STANDARD.encode(sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest().bytes())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Text(Vec<u8>),
    Close(Option<u16>),
}

/// Real codex was seen with messages of a megabyte; the real backend's own limit is not known.
const MESSAGE_LIMIT: usize = 256 << 20;

/// The next message; answers pings on the way. A client may not send what the real backend would not take.
pub fn read_message(stream: &mut Stream) -> Result<Message, End> {
    let malformed = |what: &str| End::Malformed(format!("WebSocket: {what}"));
    let mut message: Option<Vec<u8>> = None;
    loop {
        let head = stream.take(2)?;
        let (last, opcode) = (head[0] & 0x80 != 0, head[0] & 0x0f);
        if head[0] & 0x70 != 0 {
            return Err(malformed("reserved bit without an extension"));
        }
        if head[1] & 0x80 == 0 {
            return Err(malformed("unmasked client frame"));
        }
        let length = match head[1] & 0x7f {
            126 => number(&stream.take(2)?),
            127 => number(&stream.take(8)?),
            short => usize::from(short),
        };
        if length > MESSAGE_LIMIT || (opcode >= 8 && (length > 125 || !last)) {
            return Err(malformed("frame length"));
        }
        let mask = stream.take(4)?;
        let mut payload = stream.take(length)?;
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        match (opcode, &mut message) {
            (8, _) => return Ok(Message::Close(payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]])))),
            (9, _) => stream.write(&frame(0x8a, &payload))?,
            (10, _) => {}
            (1, None) => message = Some(payload),
            (0, Some(begun)) => begun.extend_from_slice(&payload),
            _ => return Err(malformed("opcode out of place")),
        }
        if opcode < 8 && last {
            return Ok(Message::Text(message.unwrap_or_default()));
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
}

/// One server frame; `first` is the first byte (final bit and opcode).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        medium @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// A text message in `count` frames.
pub fn text(payload: &[u8], count: usize) -> Vec<u8> {
    let size = payload.len().div_ceil(count.max(1)).max(1);
    let pieces: Vec<&[u8]> = payload.chunks(size).collect();
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let opcode = u8::from(at == 0);
        let last = if at + 1 == pieces.len() { 0x80 } else { 0 };
        out.extend_from_slice(&frame(last | opcode, piece));
    }
    out
}

pub fn close(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}
