//! Bytes from a terminal to the few keys that a screen understands. Pure; what is unknown is ignored, what is incomplete
//! waits for its rest.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Redraw,
}

/// Real sequences have at most 6 bytes; longer ones are no keys.
const LONGEST: usize = 32;
const ESCAPE: u8 = 0x1b;

#[derive(Debug, Default)]
pub struct Keys {
    /// A sequence without its end, from its ESC on.
    pending: Vec<u8>,
}

impl Keys {
    /// The keys that these bytes complete.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|byte| self.take(*byte)).collect()
    }

    fn take(&mut self, byte: u8) -> Option<Key> {
        if byte == ESCAPE {
            self.pending = vec![ESCAPE];
            return None;
        }
        match *self.pending.as_slice() {
            [] => plain(byte),
            [_] if matches!(byte, b'[' | b'O') => {
                self.pending.push(byte);
                None
            }
            // An Escape that stood alone, or Alt with a key.
            [_] => {
                self.pending.clear();
                plain(byte)
            }
            [_, b'O', ..] => {
                self.pending.clear();
                sequence(&[], byte)
            }
            _ if (0x40..=0x7e).contains(&byte) => {
                let pending = std::mem::take(&mut self.pending);
                sequence(pending.get(2..).unwrap_or_default(), byte)
            }
            _ => {
                self.pending.push(byte);
                if self.pending.len() > LONGEST {
                    self.pending.clear();
                }
                None
            }
        }
    }
}

fn plain(byte: u8) -> Option<Key> {
    match byte {
        // Ctrl+C and Ctrl+D, where the terminal does not make a signal of them.
        b'q' | b'Q' | 0x03 | 0x04 => Some(Key::Quit),
        b'k' => Some(Key::Up),
        b'j' => Some(Key::Down),
        b' ' | b'f' => Some(Key::PageDown),
        b'b' => Some(Key::PageUp),
        b'g' => Some(Key::Home),
        b'G' => Some(Key::End),
        0x0c => Some(Key::Redraw),
        _ => None,
    }
}

/// `ESC [ parameters end` or `ESC O end`.
fn sequence(parameters: &[u8], end: u8) -> Option<Key> {
    match (end, parameters) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_and_no_others() {
        let rows: &[(&[u8], &[Key])] = &[
            (b"q", &[Key::Quit]),
            (b"\x03", &[Key::Quit]),
            (b"\x1b[A\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[1;5A", &[Key::Up]),
            (b"\x1b[5~\x1b[6~\x1b[H\x1bOF\x1b[4~", &[Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::End]),
            (b"xyz\r\n\x1b[3~\x1b[200~\x1b[<0;1;1M\xff\x00", &[]),
            (b"\x1bq", &[Key::Quit]),
            (b"\x1b\x1b[B", &[Key::Down]),
            (b"jk gG", &[Key::Down, Key::Up, Key::PageDown, Key::Home, Key::End]),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Keys::default().read(bytes), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        let mut keys = Keys::default();
        assert_eq!((keys.read(b"\x1b"), keys.read(b"["), keys.read(b"B")), (vec![], vec![], vec![Key::Down]));
        assert_eq!((keys.read(b"\x1b[5"), keys.read(b"~q")), (vec![], vec![Key::PageUp, Key::Quit]));
        keys.read(&[b"\x1b[".as_slice(), &[b'1'; 100]].concat());
        assert!(keys.pending.len() <= LONGEST);
    }
}
