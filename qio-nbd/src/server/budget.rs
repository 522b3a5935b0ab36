//! How much memory payload may hold: of one connection, and of all of a server's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One connection's part of the memory for payload. What it holds is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Budget {
    held: usize,
    limit: usize,
    server: Arc<AtomicUsize>,
    server_limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize, server: Arc<AtomicUsize>, server_limit: usize) -> Self {
        Budget {
            held: 0,
            limit,
            server,
            server_limit,
        }
    }

    /// May this connection hold `bytes` more?
    ///
    /// One that holds nothing always may: so every request is served some day, no connection can starve the
    /// others by holding all there is, and one that may not is asked again when something of its own is done.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        let server = self.server.load(Ordering::Relaxed);
        bytes == 0
            || self.held == 0
            || (self.held.saturating_add(bytes) <= self.limit
                && server.saturating_add(bytes) <= self.server_limit)
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.held = self.held.saturating_add(bytes);
        self.server.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held = self.held.saturating_sub(bytes);
        self.server.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_is_always_admitted_and_the_rest_share() {
        let server = Arc::new(AtomicUsize::new(0));
        let mut first = Budget::new(100, Arc::clone(&server), 150);
        let mut second = Budget::new(100, Arc::clone(&server), 150);
        assert!(first.admits(1000), "however large");
        first.take(60);
        assert!(first.admits(40) && !first.admits(41), "its own limit");
        second.take(50);
        assert!(first.admits(40) && !second.admits(50), "the server's limit");
        first.take(40);
        assert!(!second.admits(1));
        second.give_back(50);
        assert!(
            second.admits(1),
            "holding nothing, it may whatever the others hold"
        );
        drop(first);
        assert_eq!(server.load(Ordering::Relaxed), 0);
    }
}
