//! The one place in this crate where the compiler has to take our word: registering a descriptor with tokio.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// A private duplicate of a descriptor, as tokio's reactor wants it: nobody else can close or exchange it.
#[derive(Debug)]
pub(crate) struct Registered(OwnedFd);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

pub(crate) type Registration = AsyncFd<Registered>;

/// Registers a duplicate of `fd` with the current runtime's reactor, for both interests.
pub(crate) fn register(fd: BorrowedFd<'_>) -> io::Result<Registration> {
    let own = Registered(fd.try_clone_to_owned()?);
    // SAFETY: `AsyncFd::register` asks that `as_raw_fd` names one open descriptor for as long as the registration
    // lives. `Registered` owns its descriptor, gives no access to it, and is itself owned by the registration, so
    // it is closed only after being deregistered; `as_raw_fd` always returns it.
    unsafe { AsyncFd::register(own) }.map_err(io::Error::from)
}
