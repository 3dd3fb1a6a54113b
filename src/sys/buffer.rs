//! Byte buffers that a thread uses again. An exchange takes some of the same sizes each time; to have them from the system,
//! to fill them with zeros and to give them back each time costs more than what is done with them. Knows nothing of what is
//! in them.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// More are not in use at once on one thread, but for a moment.
const MAX_SPARE: usize = 4;
/// A larger one is given back: a burst must not stay.
const MAX_KEPT: usize = 16 * 1024;
/// One read of a socket. Of memory only what was ever filled is taken.
pub const SCRATCH: usize = 64 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Room to read into, [`SCRATCH`] bytes of it. Something stands in there.
pub fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    READ.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => {
            if scratch.is_empty() {
                *scratch = vec![0; SCRATCH];
            }
            read(&mut scratch)
        }
        // A read within a read.
        Err(_) => read(&mut vec![0; SCRATCH]),
    })
}

/// An empty vector at first, with the room of an earlier one where there is one.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    pub fn new() -> Buffer {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.pop());
        Buffer(spare.ok().flatten().unwrap_or_default())
    }
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::new()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() == 0 || bytes.capacity() > MAX_KEPT {
            return;
        }
        bytes.clear();
        // At the end of a thread there is nobody to use it again.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < MAX_SPARE
            {
                spare.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_within_a_read() {
        let inner = with_scratch(|outer| {
            outer.fill(7);
            let inner = with_scratch(|inner| (inner.len(), inner[0]));
            assert!(outer.iter().all(|byte| *byte == 7));
            inner
        });
        assert_eq!(inner, (SCRATCH, 0));
    }

    #[test]
    fn what_was_given_back_is_used_again_and_holds_nothing() {
        let mut one = Buffer::new();
        one.extend_from_slice(&[7; 5_000]);
        let place = one.as_ptr();
        drop(one);
        let two = Buffer::new();
        assert!(two.is_empty() && two.as_ptr() == place && two.capacity() >= 5_000);
        let mut three = Buffer::new();
        three.resize(MAX_KEPT + 1, 0);
        drop(three);
        assert_eq!(Buffer::new().capacity(), 0, "a large one does not stay");
        let many: Vec<Buffer> = (0..MAX_SPARE + 2)
            .map(|_| {
                let mut buffer = Buffer::new();
                buffer.push(1);
                buffer
            })
            .collect();
        drop((two, many));
        assert_eq!(SPARE.with(|spare| spare.borrow().len()), MAX_SPARE);
    }
}
