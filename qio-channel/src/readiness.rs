//! What to wait for before an operation is worth trying again.

use std::os::fd::BorrowedFd;
use std::time::Instant;

/// A direction of data, seen from this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards us.
    Read,
    /// Towards the peer.
    Write,
}

/// What to ask of a descriptor: `POLLIN` or `POLLOUT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Wait until it can be read.
    Readable,
    /// Wait until it can be written.
    Writable,
}

/// The event that makes an operation worth trying again.
#[derive(Debug, Clone, Copy)]
pub enum Wait<'a> {
    /// There is nothing to wait for: try at once.
    Now,
    /// This descriptor, which said `EAGAIN`, must become ready.
    ///
    /// It is lent for polling only: reading or writing it directly breaks the layers above it.
    Fd(BorrowedFd<'a>, Interest),
}

/// What to wait for, and how long at most. See [`Channel::readiness`](crate::Channel::readiness).
#[derive(Debug, Clone, Copy)]
pub struct Readiness<'a> {
    /// The event.
    pub wait: Wait<'a>,
    /// Try again at this time even if the event did not come: a rate limit frees budget, a deadline passes.
    pub until: Option<Instant>,
}

impl<'a> Readiness<'a> {
    /// Nothing to wait for.
    pub const NOW: Readiness<'static> = Readiness {
        wait: Wait::Now,
        until: None,
    };

    /// Wait for a descriptor, without limit.
    #[must_use]
    pub fn fd(fd: BorrowedFd<'a>, interest: Interest) -> Self {
        Readiness {
            wait: Wait::Fd(fd, interest),
            until: None,
        }
    }

    /// The same wait, but not past `until`; of two limits the earlier one holds.
    #[must_use]
    pub fn until(mut self, until: Option<Instant>) -> Self {
        self.until = match (self.until, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self
    }
}
