//! The conformance suite: what every [`Channel`](crate::Channel) must do, in every way it can be driven.
//!
//! An implementation runs it from its own tests, over a function that makes a connected pair:
//!
//! ```
//! use qio_channel::FdChannel;
//! use qio_channel::testing::{Pair, stream_conformance};
//!
//! stream_conformance(|| {
//!     let (reader, writer) = FdChannel::pipe().expect("a pipe");
//!     Pair::simplex(Box::new(writer), Box::new(reader))
//! });
//! ```
//!
//! A check that fails panics with what was expected, as a test should. Channels that store what is written instead of
//! carrying it to a peer (a file, a buffer) run [`stored_conformance`].
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test suite reports by panicking, also when it is a library"
)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod blocking;
mod event_loop;
mod pattern;
mod stored;

pub use pattern::{Pattern, uneven};
pub use stored::stored_conformance;

use crate::BoxChannel;

/// Bytes moved by one pump, and the vectors they are cut into: the numbers of QEMU's own channel tests.
pub const PUMP_BYTES: usize = 1 << 20;
/// See [`PUMP_BYTES`].
pub const PUMP_VECTORS: usize = 250;

/// Two connected channels. What is written to `near` is read from `far`, and the reverse if `duplex`.
pub struct Pair {
    /// The end that the suite writes to first.
    pub near: BoxChannel,
    /// The end that the suite reads from first.
    pub far: BoxChannel,
    /// Data also flows from `far` to `near`.
    pub duplex: bool,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Pair({} -> {}, duplex: {})",
            self.near.info(),
            self.far.info(),
            self.duplex
        )
    }
}

impl Pair {
    /// A pair in which data flows both ways.
    #[must_use]
    pub fn duplex(near: BoxChannel, far: BoxChannel) -> Self {
        Pair {
            near,
            far,
            duplex: true,
        }
    }

    /// A pair in which data flows from `writer` to `reader` only.
    #[must_use]
    pub fn simplex(writer: BoxChannel, reader: BoxChannel) -> Self {
        Pair {
            near: writer,
            far: reader,
            duplex: false,
        }
    }

    fn reversed(self) -> Self {
        Pair {
            near: self.far,
            far: self.near,
            duplex: self.duplex,
        }
    }
}

/// Runs every check on pairs made by `make`: blocking, by readiness, and (feature `tokio`) in a runtime.
pub fn stream_conformance(make: impl Fn() -> Pair) {
    blocking::run(&make);
    event_loop::run(&make);
    #[cfg(feature = "tokio")]
    asynchronous::run(&make);
    if make().duplex {
        let reversed = || make().reversed();
        blocking::run(&reversed);
        event_loop::run(&reversed);
    }
}
