//! The start of each data message, unmasked, for looking at it while its frames pass.

use super::{Opcode, Part, unmask};

/// The first `keep` bytes of the current data message, or of the last one once it is over.
#[derive(Default)]
pub struct Prefix {
    keep: usize,
    bytes: Vec<u8>,
    total: u64,
    text: bool,
}

impl Prefix {
    pub fn new(keep: usize) -> Prefix {
        Prefix { keep, ..Prefix::default() }
    }

    /// Takes a part that [`super::Reader::next`] gave, with the bytes it used. The header of a text or binary frame
    /// starts anew; control frames are passed over.
    pub fn take(&mut self, part: &Part, bytes: &[u8]) {
        match *part {
            Part::Header(frame) if matches!(frame.opcode, Opcode::Text | Opcode::Binary) => {
                self.bytes.clear();
                self.total = 0;
                self.text = frame.opcode == Opcode::Text;
            }
            Part::Payload { frame, offset, len } if !frame.opcode.is_control() => {
                self.total = self.total.saturating_add(len as u64);
                let start = self.bytes.len();
                let room = self.keep.saturating_sub(start).min(len);
                self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if let Some(mask) = frame.mask {
                    unmask(mask, offset, &mut self.bytes[start..]);
                }
            }
            _ => {}
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the message so far, kept or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether the message is text; false before the first one.
    pub fn is_text(&self) -> bool {
        self.text
    }
}

/// Sizes only: the bytes are a prompt.
impl std::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prefix({} of {} bytes)", self.bytes.len(), self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{From, Reader};
    use super::*;

    #[test]
    fn keeps_the_start_of_each_message_however_it_is_cut() {
        // Masked: a fragmented text "hello" + " world" with a ping inside, then a binary "xyz".
        let frame = |first: u8, mask: [u8; 4], text: &[u8]| {
            let mut masked = text.to_vec();
            unmask(mask, 0, &mut masked);
            [&[first, 0x80 | u8::try_from(text.len()).unwrap()], &mask[..], &masked].concat()
        };
        let stream = [
            frame(0x01, [1, 2, 3, 4], b"hello"),
            frame(0x89, [9, 9, 9, 9], b"ping"),
            frame(0x80, [5, 6, 7, 8], b" world"),
            frame(0x82, [1, 1, 1, 1], b"xyz"),
        ]
        .concat();
        for keep in 0..13 {
            for size in 1..20 {
                let (mut reader, mut prefix) = (Reader::new(From::Client), Prefix::new(keep));
                let (mut found, mut start) = (Vec::new(), 0);
                for end in (0..=stream.len()).step_by(size).chain([stream.len()]) {
                    while let Some((used, part)) = reader.next(&stream[start..end]).unwrap() {
                        prefix.take(&part, &stream[start..start + used]);
                        start += used;
                        if reader.message_ended() {
                            found.push((prefix.bytes().to_vec(), prefix.total(), prefix.is_text()));
                        }
                    }
                }
                let text = b"hello world"[..keep.min(11)].to_vec();
                assert_eq!(found, [(text, 11, true), (b"xyz"[..keep.min(3)].to_vec(), 3, false)], "{keep} {size}");
            }
        }
    }
}
