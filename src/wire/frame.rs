//! WebSocket frames (RFC 6455 5): headers, masks, the order of fragments, and what a close says.
//!
//! Stores no payload and answers no ping: frames are relayed, this only knows where they begin and end. Knows no
//! extensions, so a reserved bit is always wrong.

mod prefix;

pub use prefix::Prefix;

use super::Malformed;

/// Bytes of payload in one frame. Codex itself takes at most 16 MiB in a frame and 64 MiB in a message.
pub const MAX_FRAME: u64 = 64 * 1024 * 1024;
/// Bytes of payload in a control frame (RFC 6455 5.5).
const MAX_CONTROL: usize = 125;

/// RFC 6455 5.2, the opcodes that are defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload, at most [`MAX_FRAME`].
    pub len: u64,
}

/// Which side sends the bytes: a client must mask, a server must not (RFC 6455 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Client,
    Server,
}

/// Walks the bytes of one direction, frame by frame.
#[derive(Debug)]
pub struct Reader {
    from: From,
    /// The frame whose payload comes now, and how much of it is behind us; less than its length.
    frame: Option<(Header, u64)>,
    /// A data message has begun and not ended.
    fragmented: bool,
    message_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A frame header: as many bytes as were used.
    Header(Header),
    /// `len` payload bytes of this frame, still masked; `offset` is where they stand in its payload.
    Payload { frame: Header, offset: u64, len: usize },
}

impl Opcode {
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }
}

/// Reads a frame header (RFC 6455 5.2) of 2 to 14 bytes. Says what is wrong as soon as the bytes that show it are there.
pub fn header(buf: &[u8], from: From) -> Result<Option<(usize, Header)>, Malformed> {
    let &[first, second, ref rest @ ..] = buf else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Malformed::ReservedBits);
    }
    let fin = first & 0x80 != 0;
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Malformed::BadOpcode)?;
    let short = second & 0x7f;
    if opcode.is_control() && (!fin || usize::from(short) > MAX_CONTROL) {
        return Err(Malformed::BadControlFrame);
    }
    let masked = second & 0x80 != 0;
    match from {
        From::Client if !masked => return Err(Malformed::NotMasked),
        From::Server if masked => return Err(Malformed::Masked),
        _ => {}
    }
    let (len, rest, used) = match short {
        126 => {
            let Some((bytes, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), rest, 4)
        }
        127 => {
            let Some((bytes, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), rest, 10)
        }
        len => (u64::from(len), rest, 2),
    };
    let shortest: u8 = match len {
        0..=125 => short,
        126..=0xffff => 126,
        _ => 127,
    };
    if short != shortest || (short >= 126 && len <= 125) || len >> 63 != 0 {
        return Err(Malformed::BadFrameLength);
    }
    if len > MAX_FRAME {
        return Err(Malformed::FrameTooLarge);
    }
    if !masked {
        return Ok(Some((used, Header { fin, opcode, mask: None, len })));
    }
    let Some((mask, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    Ok(Some((used + 4, Header { fin, opcode, mask: Some(*mask), len })))
}

impl Reader {
    pub fn new(from: From) -> Reader {
        Reader { from, frame: None, fragmented: false, message_ended: false }
    }

    /// The next header, or as much of the current payload as `buf` has; a frame without payload yields its header only.
    /// Checks the order of fragments (RFC 6455 5.4): control frames may stand between them, nothing else.
    pub fn next(&mut self, buf: &[u8]) -> Result<Option<(usize, Part)>, Malformed> {
        self.message_ended = false;
        if let Some((frame, offset)) = self.frame {
            let left = usize::try_from(frame.len - offset).unwrap_or(usize::MAX);
            let len = buf.len().min(left);
            if len == 0 {
                return Ok(None);
            }
            self.advance(frame, offset + len as u64);
            return Ok(Some((len, Part::Payload { frame, offset, len })));
        }
        let Some((used, frame)) = header(buf, self.from)? else { return Ok(None) };
        if !frame.opcode.is_control() {
            if (frame.opcode == Opcode::Continuation) != self.fragmented {
                return Err(Malformed::BadFragment);
            }
            self.fragmented = true;
        }
        self.advance(frame, 0);
        Ok(Some((used, Part::Header(frame))))
    }

    /// Between two messages: no frame and no fragmented message is open. Bytes of a header that is not complete are the
    /// caller's, not ours.
    pub fn at_boundary(&self) -> bool {
        self.frame.is_none() && !self.fragmented
    }

    /// True right after the last byte of the final frame of a data message was taken, until [`Reader::next`] is called.
    pub fn message_ended(&self) -> bool {
        self.message_ended
    }

    fn advance(&mut self, frame: Header, offset: u64) {
        if offset < frame.len {
            self.frame = Some((frame, offset));
            return;
        }
        self.frame = None;
        if frame.fin && !frame.opcode.is_control() {
            self.fragmented = false;
            self.message_ended = true;
        }
    }
}

/// Masks or unmasks (RFC 6455 5.3) `bytes`, which stand `offset` bytes into their frame's payload.
pub fn unmask(key: [u8; 4], offset: u64, bytes: &mut [u8]) {
    let mut key = key;
    key.rotate_left((offset % 4) as usize);
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    // Eight is a multiple of four: the rest starts with the key's first byte again.
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes one whole frame. A control frame's payload must not be longer than 125 bytes: the rest of it is left out.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) {
    let payload = if opcode.is_control() { &payload[..payload.len().min(MAX_CONTROL)] } else { payload };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode.bits());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => out.push(masked + len),
        (_, Ok(len)) => {
            out.push(masked + 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(masked + 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[][..], |mask| mask));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        unmask(mask, 0, &mut out[start..]);
    }
}

/// The payload of a close frame (RFC 6455 5.5.1); the reason is cut to 123 bytes, between two characters.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL - 2)];
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The code in an unmasked close payload, `None` when it is empty. Codes that must not be sent (RFC 6455 7.4: 1005,
/// 1006, 1015, and those nobody defined) and a reason that is not UTF-8 are wrong.
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, Malformed> {
    if payload.len() > MAX_CONTROL {
        return Err(Malformed::BadControlFrame);
    }
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            code @ (1000..=1003 | 1007..=1014 | 3000..=4999) if std::str::from_utf8(reason).is_ok() => Ok(Some(code)),
            _ => Err(Malformed::BadClose),
        },
        _ => Err(Malformed::BadClose),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hostile::{Rng, mutate, pieces, same_when_cut};
    use super::*;

    #[test]
    fn headers() {
        type Row<'a> = (&'a [u8], From, Result<(usize, u64), Malformed>);
        let rows: [Row; 20] = [
            (&[0x81, 0x00], From::Server, Ok((2, 0))),
            (&[0x02, 0x7d], From::Server, Ok((2, 125))),
            (&[0x81, 0x7e, 0x00, 0x7e], From::Server, Ok((4, 126))),
            (&[0x81, 0x7e, 0xff, 0xff], From::Server, Ok((4, 65535))),
            (&[0x81, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], From::Server, Ok((10, 65536))),
            (&[0x81, 0xff, 0, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4], From::Client, Ok((14, MAX_FRAME))),
            (&[0x88, 0xfd, 1, 2, 3, 4], From::Client, Ok((6, 125))),
            (&[0x81, 0x7f, 0, 0, 0, 0, 4, 0, 0, 1], From::Server, Err(Malformed::FrameTooLarge)),
            (&[0x81, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], From::Server, Err(Malformed::BadFrameLength)),
            (&[0x81, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], From::Server, Err(Malformed::BadFrameLength)),
            (&[0x81, 0x7f, 0, 0, 0, 0, 0, 0, 0, 127], From::Server, Err(Malformed::BadFrameLength)),
            (&[0x81, 0x7e, 0, 125], From::Server, Err(Malformed::BadFrameLength)),
            (&[0xc1, 0x00], From::Server, Err(Malformed::ReservedBits)),
            (&[0x91, 0x00], From::Server, Err(Malformed::ReservedBits)),
            (&[0x83, 0x00], From::Server, Err(Malformed::BadOpcode)),
            (&[0x8b, 0x00], From::Server, Err(Malformed::BadOpcode)),
            (&[0x09, 0x00], From::Server, Err(Malformed::BadControlFrame)),
            (&[0x89, 0x7e, 0, 126], From::Server, Err(Malformed::BadControlFrame)),
            (&[0x81, 0x00], From::Client, Err(Malformed::NotMasked)),
            (&[0x81, 0x80, 0, 0, 0, 0], From::Server, Err(Malformed::Masked)),
        ];
        for (bytes, from, want) in rows {
            let found = header(bytes, from).map(|found| found.map(|(used, header)| (used, header.len)));
            assert_eq!(found, want.map(Some), "{bytes:x?}");
            same_when_cut(bytes, |buf| header(buf, from));
        }
    }

    /// A frame, its payload, and what `message_ended` and `at_boundary` said after it.
    type Seen = (Header, Vec<u8>, bool, bool);

    fn walk(from: From, pieces: &[&[u8]]) -> Result<Vec<Seen>, Malformed> {
        let (mut reader, mut pending, mut seen) = (Reader::new(from), Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece);
            while let Some((used, part)) = reader.next(&pending)? {
                let bytes: Vec<u8> = pending.drain(..used).collect();
                match part {
                    Part::Header(header) => seen.push((header, Vec::new(), false, false)),
                    Part::Payload { frame, offset, len } => {
                        let (header, payload, ..) = seen.last_mut().unwrap();
                        assert_eq!((frame, offset, len), (*header, payload.len() as u64, bytes.len()));
                        payload.extend_from_slice(&bytes);
                    }
                }
                let (_, _, ended, boundary) = seen.last_mut().unwrap();
                (*ended, *boundary) = (reader.message_ended(), reader.at_boundary());
            }
        }
        Ok(seen)
    }

    /// A fragmented text with a ping inside, an empty text, a close.
    const STREAM: &[u8] = b"\x01\x03abc\x89\x01p\x00\x00\x80\x02de\x81\x00\x88\x02\x03\xe8";

    #[test]
    fn reader_walks_frames_and_messages() {
        let found: Vec<_> = walk(From::Server, &[STREAM]).unwrap();
        let brief: Vec<_> = found.iter().map(|(h, payload, ended, at)| (h.opcode, &payload[..], *ended, *at)).collect();
        let want: [(Opcode, &[u8], bool, bool); 6] = [
            (Opcode::Text, b"abc", false, false),
            (Opcode::Ping, b"p", false, false),
            (Opcode::Continuation, b"", false, false),
            (Opcode::Continuation, b"de", true, true),
            (Opcode::Text, b"", true, true),
            (Opcode::Close, b"\x03\xe8", false, true),
        ];
        assert_eq!(brief, want);
        for cut in 0..STREAM.len() {
            assert_eq!(walk(From::Server, &[&STREAM[..cut], &STREAM[cut..]]), Ok(found.clone()), "cut at {cut}");
        }
        for wrong in [&b"\x80\x00"[..], b"\x01\x00\x81\x00", b"\x01\x01a\x02\x00", b"\x81\x00\x00\x00"] {
            assert_eq!(walk(From::Server, &[wrong]), Err(Malformed::BadFragment), "{wrong:x?}");
        }
    }

    #[test]
    fn unmask_equals_the_slow_way() {
        let key = [0x12, 0x34, 0x56, 0xf8];
        let text: Vec<u8> = (0..=255).collect();
        for start in 0..9 {
            for len in 0..64 {
                for offset in [0, 1, 2, 3, 4, 7, u64::from(u32::MAX), u64::MAX - 3] {
                    let mut fast = text[start..start + len].to_vec();
                    unmask(key, offset, &mut fast);
                    let slow = |(at, byte): (u64, &u8)| byte ^ key[((offset % 4 + at) % 4) as usize];
                    let slow: Vec<u8> = (0..).zip(&text[start..start + len]).map(slow).collect();
                    assert_eq!(fast, slow, "{start} {len} {offset}");
                }
            }
        }
    }

    #[test]
    fn written_frames_are_read_back() {
        for len in [0, 1, 125, 126, 65535, 65536] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let (mut out, payload) = (Vec::new(), vec![b'x'; len]);
                write(&mut out, Opcode::Binary, mask, &payload);
                let from = if mask.is_some() { From::Client } else { From::Server };
                let (used, header) = header(&out, from).unwrap().unwrap();
                assert_eq!(header, Header { fin: true, opcode: Opcode::Binary, mask, len: len as u64 });
                unmask(mask.unwrap_or_default(), 0, &mut out[used..]);
                assert_eq!(&out[used..], payload);
            }
        }
    }

    #[test]
    fn close_codes() {
        assert_eq!(close_code(&close_payload(1011, "why")), Ok(Some(1011)));
        let long = close_payload(1000, &"é".repeat(99));
        assert_eq!((long.len(), close_code(&long)), (124, Ok(Some(1000))));
        assert_eq!(close_code(b""), Ok(None));
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(close_code(&close_payload(code, "")), Err(Malformed::BadClose), "{code}");
        }
        assert_eq!(close_code(b"\x03"), Err(Malformed::BadClose));
        assert_eq!(close_code(b"\x03\xe8\xff"), Err(Malformed::BadClose));
        assert_eq!(close_code(&[3; 126]), Err(Malformed::BadControlFrame));
    }

    #[test]
    fn cut_and_mutated() {
        const WORDS: [&[u8]; 7] =
            [b"\x81\x7e\x00\x7e", b"\x00\x01", b"\x80\x00", b"\x7f", b"\xff", b"\x81\x80abcd", b"\x7f\0\0\0\0"];
        let mut rng = Rng::new(4);
        for _ in 0..20_000 {
            let bytes = mutate(&mut rng, STREAM, &WORDS);
            let from = if rng.below(8) == 0 { From::Client } else { From::Server };
            assert_eq!(walk(from, &pieces(&mut rng, &bytes)), walk(from, &[&bytes]), "{bytes:x?}");
            same_when_cut(&bytes, |buf| header(buf, from));
        }
    }
}
