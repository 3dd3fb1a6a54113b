//! Events of a `text/event-stream` (WHATWG HTML 9.2.6), seen in passing.
//!
//! Only the data of events is read: the backend's JSON says itself what it is. Knows no JSON, changes no byte, and keeps
//! a bounded piece of one event at a time. Nothing can be malformed: every byte string is an event stream.

use super::swar;

/// Finds the events in a stream that comes in pieces, cut anywhere.
#[derive(Debug)]
pub struct Events {
    /// At most `keep` bytes: the start of the current event's data.
    data: Vec<u8>,
    keep: usize,
    /// Bytes of the current event's data so far, kept or not.
    total: usize,
    /// Whether the current event has a data line, be it an empty one.
    has_data: bool,
    line: Line,
    /// The last byte was CR: an LF now belongs to the same line end.
    after_cr: bool,
}

/// One event that has data lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The data lines joined with LF, at most as many bytes as are kept. Not necessarily UTF-8.
    pub data: &'a [u8],
    /// Bytes of the complete data; more than `data.len()` when it was cut.
    pub total: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// At the start of the stream, this many bytes of the byte order mark behind us.
    Mark(usize),
    Start,
    /// This many bytes of `data` behind us.
    Name(usize),
    /// Right after `data:`, where one space does not count.
    Space,
    Value,
    /// A comment or another field.
    Skip,
}

const MARK: &[u8] = b"\xef\xbb\xbf";
const NAME: &[u8] = b"data";

impl Events {
    /// Keeps at most `keep` bytes of each event's data; the rest is counted only.
    pub fn new(keep: usize) -> Events {
        Events { data: Vec::new(), keep, total: 0, has_data: false, line: Line::Mark(0), after_cr: false }
    }

    /// Calls `on` for every event that ends within `bytes`. An event ends with its empty line; one without it, at the
    /// end of the stream, is never reported.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                rest = after;
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                self.after_cr = byte == b'\r';
                self.end_line(&mut on);
                rest = after;
                continue;
            }
            match self.line {
                Line::Mark(read) if MARK.get(read) == Some(&byte) => {
                    self.line = if read + 1 == MARK.len() { Line::Start } else { Line::Mark(read + 1) };
                }
                // Not a mark after all: its bytes were the start of an unknown field.
                Line::Mark(1..) => self.line = Line::Skip,
                Line::Mark(_) | Line::Start => self.line = if byte == NAME[0] { Line::Name(1) } else { Line::Skip },
                Line::Name(read) if NAME.get(read) == Some(&byte) => self.line = Line::Name(read + 1),
                Line::Name(read) if read == NAME.len() && byte == b':' => {
                    self.begin_data();
                    self.line = Line::Space;
                }
                Line::Name(_) => self.line = Line::Skip,
                Line::Space if byte == b' ' => self.line = Line::Value,
                Line::Space | Line::Value | Line::Skip => {
                    let end = swar::run(rest, &swar::LINE_END);
                    let (piece, next) = rest.split_at(end);
                    if self.line != Line::Skip {
                        self.line = Line::Value;
                        self.push(piece);
                    }
                    rest = next;
                    continue;
                }
            }
            rest = after;
        }
    }

    fn end_line(&mut self, on: &mut impl FnMut(Event<'_>)) {
        match self.line {
            Line::Name(read) if read == NAME.len() => self.begin_data(),
            Line::Mark(0) | Line::Start => {
                if std::mem::take(&mut self.has_data) {
                    on(Event { data: &self.data, total: self.total });
                }
                self.data.clear();
                self.total = 0;
            }
            _ => {}
        }
        self.line = Line::Start;
    }

    /// A further data line of the event: joined with LF.
    fn begin_data(&mut self) {
        if std::mem::replace(&mut self.has_data, true) {
            self.push(b"\n");
        }
    }

    fn push(&mut self, piece: &[u8]) {
        let room = self.keep - self.data.len();
        self.data.extend_from_slice(&piece[..piece.len().min(room)]);
        self.total = self.total.saturating_add(piece.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::hostile::{Rng, mutate, pieces};
    use super::*;

    fn events(keep: usize, pieces: &[&[u8]]) -> Vec<(Vec<u8>, usize)> {
        let mut found = Vec::new();
        let mut events = Events::new(keep);
        for piece in pieces {
            events.feed(piece, |event| found.push((event.data.to_vec(), event.total)));
        }
        found
    }

    /// The rules of the standard, word by word, over the whole text at once.
    fn slow(keep: usize, text: &[u8]) -> Vec<(Vec<u8>, usize)> {
        let text = text.strip_prefix(MARK).unwrap_or(text);
        let mut lines = vec![Vec::new()];
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'\n' if at > 0 && text[at - 1] == b'\r' => {}
                b'\n' | b'\r' => lines.push(Vec::new()),
                _ => lines.last_mut().unwrap().push(byte),
            }
        }
        lines.pop();
        let (mut found, mut data) = (Vec::new(), Vec::new());
        for line in lines {
            let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            if line.is_empty() && !data.is_empty() {
                data.pop();
                found.push((data[..data.len().min(keep)].to_vec(), data.len()));
                data.clear();
            } else if &line[..colon] == b"data" {
                data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                data.push(b'\n');
            }
        }
        found
    }

    #[test]
    fn reads_events() {
        let rows: [(&str, &[&str]); 12] = [
            ("data: a\n\n", &["a"]),
            ("event: x\r\ndata: a\r\nid: 1\r\n\r\ndata:b\r\n\r\n", &["a", "b"]),
            ("data: a\rdata:  b\r\r\ndata\n\n", &["a\n b", ""]),
            ("data\ndata\n\n", &["\n"]),
            ("data:\n\n:comment\n\n", &[""]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a"]),
            (" data: a\n\ndat: b\n\ndatas: c\n\nDATA: d\n\ndata : e\n\n", &[]),
            ("data: a", &[]),
            ("data: a\n", &[]),
            ("\n\n\n\ndata: a: b\n\n", &["a: b"]),
            ("retry: 1\n\nevent: data\n\n", &[]),
            ("data: {\"type\":\"x\"}\n\ndata: [DONE]\n\n", &["{\"type\":\"x\"}", "[DONE]"]),
        ];
        for (text, want) in rows {
            let want: Vec<_> = want.iter().map(|data| (data.as_bytes().to_vec(), data.len())).collect();
            assert_eq!(events(99, &[text.as_bytes()]), want, "{text:?}");
            for cut in 0..text.len() {
                let (before, after) = text.as_bytes().split_at(cut);
                assert_eq!(events(99, &[before, after]), want, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn keeps_no_more_than_asked() {
        let found = events(3, &[b"data: ab\ndata: cdef\n\ndata: x\n\n"]);
        assert_eq!(found, [(b"ab\n".to_vec(), 7), (b"x".to_vec(), 1)]);
        assert_eq!(events(0, &[b"data: ab\n\n"]), [(Vec::new(), 2)]);
    }

    #[test]
    fn cut_and_mutated_equals_the_slow_way() {
        const SEED: &[u8] = b"\xef\xbb\xbfevent: a\ndata: {\"b\":1}\r\ndata:c\r\r\n: d\n\ndata\ndata: e\n\n";
        const WORDS: [&[u8]; 10] =
            [b"\n", b"\r", b"\r\n", b"data", b"data:", b": ", b"\n\n", b"\xef\xbb", b"\xef\xbb\xbf", b"data\n\n"];
        let mut rng = Rng::new(3);
        for _ in 0..20_000 {
            let text = mutate(&mut rng, SEED, &WORDS);
            let keep = rng.below(12);
            let want = slow(keep, &text);
            assert_eq!(events(keep, &[&text]), want, "{:?}", String::from_utf8_lossy(&text));
            assert_eq!(events(keep, &pieces(&mut rng, &text)), want, "{:?}", String::from_utf8_lossy(&text));
        }
    }
}
