//! Who a process is, beyond its number, which comes round again: number and start time, from /proc (proc(5)).

use std::io;

/// Bits of the number of a process; Linux gives none above 2^22.
const PID_BITS: u32 = 22;
const SERIAL_BITS: u32 = 10;
const START_BITS: u32 = 32;

/// What of /proc/PID/stat we need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    /// Ended, though its parent has not asked how.
    ended: bool,
    /// In clock ticks since the machine started.
    start: u64,
}

/// This process as one word, never 0. `serial` tells several users of one process apart. `None` where /proc is not told.
pub fn own(serial: u64) -> Option<u64> {
    let pid = std::process::id();
    let start = stat(pid).ok().flatten()?.start;
    Some(word(pid, serial, start))
}

/// Whether the process that the word is about still runs. True when that cannot be known.
pub fn is_alive(word: u64) -> bool {
    let pid = (word >> (START_BITS + SERIAL_BITS)) as u32;
    let Ok(found) = stat(pid) else { return true };
    found.is_some_and(|stat| !stat.ended && stat.start & ((1 << START_BITS) - 1) == word & ((1 << START_BITS) - 1))
}

fn word(pid: u32, serial: u64, start: u64) -> u64 {
    let part = |value: u64, bits: u32| value & ((1 << bits) - 1);
    part(u64::from(pid), PID_BITS) << (START_BITS + SERIAL_BITS)
        | part(serial, SERIAL_BITS) << START_BITS
        | part(start, START_BITS)
}

/// `None`: there is no such process.
fn stat(pid: u32) -> io::Result<Option<Stat>> {
    /// "No such process" while its file is read.
    const ESRCH: i32 = 3;
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| io::Error::other("not understood")),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {
            // Without /proc nobody is found, which says nothing about them.
            if std::path::Path::new("/proc/self/stat").exists() { Ok(None) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

/// `PID (NAME) STATE PPID …`, the start time is field 22. The name may hold anything, `)` and spaces too.
fn parse(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let start = fields.nth(18)?.parse().ok()?;
    Some(Stat { ended, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc() {
        let line = b"4242 (a) b) R 1 4242 4242 34816 4242 4194304 91 0 0 0 0 0 0 0 20 0 1 0 9876543 2506752 200\n";
        assert_eq!(parse(line), Some(Stat { ended: false, start: 9_876_543 }));
        let zombie = String::from_utf8_lossy(line).replace(" R ", " Z ");
        assert_eq!(parse(zombie.as_bytes()), Some(Stat { ended: true, start: 9_876_543 }));
        for cut in 0..line.len() - 20 {
            assert!(parse(&line[..cut]).is_none_or(|stat| stat.start != 9_876_543), "{cut}");
        }
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn we_live_and_others_do_not() {
        let me = own(1).unwrap();
        assert!(is_alive(me) && is_alive(own(2).unwrap()) && me != own(2).unwrap());
        assert!(!is_alive(me ^ 1), "the same number with another start time is somebody else");
        for word in [0, u64::MAX, 1, u64::MAX << (START_BITS + SERIAL_BITS)] {
            assert!(!is_alive(word), "{word:x}");
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let theirs = word(child.id(), 0, stat(child.id()).unwrap().map_or(0, |stat| stat.start));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!is_alive(theirs), "one that ended and was not waited for");
        child.wait().unwrap();
        assert!(!is_alive(theirs));
    }
}
