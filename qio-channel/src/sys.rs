//! The one place in this workspace where the compiler has to take our word: registering a descriptor with tokio.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// A private duplicate of a descriptor, as tokio's reactor wants it: nobody else can close or exchange it.
#[derive(Debug)]
pub struct DuplicatedFd(OwnedFd);

impl AsRawFd for DuplicatedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Registers a duplicate of `fd` with the current tokio runtime, for both interests: readiness of sockets and
/// pipes without `unsafe` in the crate that wants it.
///
/// It tells of readiness only; the descriptor is read and written through whoever owns it. As a duplicate, it keeps
/// the open file description alive: where closing is what tells the peer (a pipe's write end), drop it first.
///
/// # Errors
/// What duplicating or registering reports; `PermissionDenied` for a regular file.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn register_with_tokio(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<DuplicatedFd>> {
    let own = DuplicatedFd(fd.try_clone_to_owned()?);
    // SAFETY: `AsyncFd::register` asks that `as_raw_fd` names one open descriptor for as long as the registration
    // lives. `DuplicatedFd` owns its descriptor, gives no access to it, and is itself owned by the registration, so
    // it is closed only after being deregistered; its `as_raw_fd` always returns that descriptor.
    unsafe { AsyncFd::register(own) }.map_err(io::Error::from)
}
