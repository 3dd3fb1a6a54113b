//! How many WebSockets of a kind are open at once. Each keeps a thread for as long as it lasts, also one that says nothing: so
//! they have a bound of their own, within which every exchange finds its thread. Knows no lanes: a turn takes its place there.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Of other routes than the model's. Codex opens one or two.
pub const PASSAGES: usize = 128;

pub struct Sockets {
    open: AtomicUsize,
    pub most: usize,
}

/// One that is open, until it is dropped.
#[must_use]
pub struct Open<'a>(&'a Sockets);

impl Sockets {
    pub fn new(most: usize) -> Sockets {
        Sockets { open: AtomicUsize::new(0), most }
    }

    /// One more, unless all are taken.
    pub fn enter(&self) -> Option<Open<'_>> {
        let more = |open: usize| (open < self.most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Open(self))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many() {
        let sockets = Sockets::new(2);
        let (one, two) = (sockets.enter(), sockets.enter());
        assert!(one.is_some() && two.is_some() && sockets.enter().is_none());
        drop(one);
        assert!(sockets.enter().is_some());
    }
}
