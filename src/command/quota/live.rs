//! The view that stays: painted at once from what is known, then as each answer arrives, each second for the countdowns, and
//! whenever the terminal changes its size. What is known is `feed`'s, how it looks is `screen`'s.

use super::feed::Feed;
use super::keys::{Key, Keys};
use crate::error::{Error, Outcome};
use crate::screen::quota::{overview, single};
use crate::screen::view::{Frame, View};
use crate::screen::{Look, text};
use crate::sys::tty::{Event, Screen};
use crate::sys::{clock, signal, terminal};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which view.
#[derive(Clone, Copy)]
pub enum Kind {
    All { detail: bool },
    One,
}

pub fn run(feed: &Arc<Feed>, kind: Kind) -> Outcome {
    let screen = Screen::open()?;
    let mut picture = Picture::default();
    let mut keys = Keys::default();
    let mut from = 0;
    let mut started = false;
    loop {
        let (width, height) = (terminal::width(), terminal::height());
        let frame = frame(feed, kind, from, height, Look { width, ..super::look() });
        if let Some(bytes) = picture.change(&frame.lines, width, height)
            && !screen.draw(&bytes)?
        {
            picture = Picture::default();
        }
        from = frame.first;
        if !started {
            // Not before the first picture stands.
            feed.start(screen.bell());
            started = true;
        }
        match screen.wait(next_second())? {
            Event::Input(bytes) => {
                for key in keys.read(&bytes) {
                    match key {
                        Key::Quit => return Ok(0),
                        Key::Redraw => picture = Picture::default(),
                        _ => from = scrolled(key, from, &frame),
                    }
                }
            }
            Event::Resized => picture = Picture::default(),
            Event::Suspended => {
                screen.suspend();
                picture = Picture::default();
            }
            Event::Interrupted | Event::Closed => return Ok(0),
            Event::Ended(by) => {
                drop(screen);
                signal::end_by(by);
                return Ok(0);
            }
            // Whoever died may have been the one that asks: rather no view than numbers that stand still.
            Event::Broken(words) => {
                drop(screen);
                return Err(Error::new(format!("the view broke: {words}")).next("Please report this."));
            }
            Event::Rung | Event::Timeout => {}
        }
    }
}

fn frame(feed: &Feed, kind: Kind, from: usize, height: usize, look: Look) -> Frame {
    let board = feed.board();
    let rows = board.rows(look.now);
    let view = match (kind, rows.first()) {
        (Kind::All { detail }, _) => overview("Quota Watch", &rows, board.pool(look.now).as_ref(), detail, look),
        (Kind::One, Some(row)) => single(row, look),
        (Kind::One, None) => View::default(),
    };
    let asking = rows.iter().filter(|row| row.live.is_some_and(|live| live.asking)).count();
    let hint = match (asking, rows.len()) {
        (0, _) => "q quits".to_owned(),
        (_, 1) => "q quits | asking...".to_owned(),
        (some, all) => format!("q quits | asking {some} of {all}..."),
    };
    view.fit(height, from, &hint, look)
}

fn scrolled(key: Key, from: usize, frame: &Frame) -> usize {
    let page = frame.shown.max(1);
    match key {
        Key::Up => from.saturating_sub(1),
        Key::Down => from + 1,
        Key::PageUp => from.saturating_sub(page),
        Key::PageDown => from + page,
        Key::Home => 0,
        Key::End => frame.last,
        Key::Quit | Key::Redraw => from,
    }
    .min(frame.last)
}

fn next_second() -> Instant {
    clock::now() + Duration::from_millis(1_000 - clock::unix_millis() % 1_000)
}

/// What stands on the terminal; nothing is known of a new one.
#[derive(Default)]
struct Picture(Vec<String>);

impl Picture {
    /// What turns it into `lines`, in one piece; `None` when nothing changes.
    fn change(&mut self, lines: &[String], width: usize, height: usize) -> Option<Vec<u8>> {
        let mut bytes = String::new();
        for row in 0..height {
            let line = lines.get(row).map_or("", String::as_str);
            if self.0.get(row).is_some_and(|old| old == line) {
                continue;
            }
            let _ = write!(bytes, "\x1b[{};1H{line}", row + 1);
            // After a character in the last column this would erase it.
            if text::width(line) < width {
                bytes.push_str("\x1b[K");
            }
        }
        self.0 = lines.to_vec();
        self.0.resize(height, String::new());
        // Terminals that know the mode show it all at once; the others ignore it.
        (!bytes.is_empty()).then(|| format!("\x1b[?2026h{bytes}\x1b[?2026l").into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_written() {
        let mut picture = Picture::default();
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut change = |texts: &[&str]| picture.change(&lines(texts), 5, 3).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(
            change(&["a", "12345"]).unwrap(),
            "\x1b[?2026h\x1b[1;1Ha\x1b[K\x1b[2;1H12345\x1b[3;1H\x1b[K\x1b[?2026l"
        );
        assert_eq!(change(&["a", "12345"]), None);
        assert_eq!(change(&["a", "1234"]).unwrap(), "\x1b[?2026h\x1b[2;1H1234\x1b[K\x1b[?2026l");
        assert_eq!(change(&["a"]).unwrap(), "\x1b[?2026h\x1b[2;1H\x1b[K\x1b[?2026l");
    }

    #[test]
    fn keys_move_within_the_pages() {
        let frame = Frame { lines: Vec::new(), first: 2, shown: 3, last: 6 };
        let rows = [
            (Key::Up, 1),
            (Key::Down, 3),
            (Key::PageUp, 0),
            (Key::PageDown, 5),
            (Key::Home, 0),
            (Key::End, 6),
            (Key::Redraw, 2),
        ];
        for (key, to) in rows {
            assert_eq!(scrolled(key, 2, &frame), to, "{key:?}");
        }
        assert_eq!(scrolled(Key::Down, 6, &frame), 6);
    }
}
