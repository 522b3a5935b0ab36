//! I/O channels: one trait over sockets, pipes, files, TLS sessions and whatever else moves bytes.
//!
//! A [`Channel`] is what QEMU calls a `QIOChannel`: scatter/gather reads and writes, half-shutdown, a
//! switch between blocking and non-blocking, and an exact answer to "what do I wait for now?". Layers
//! stack: a TLS channel wraps any channel and is one, so a service is written once, against
//! [`BoxChannel`], and runs over plain TCP, TLS in a unix socket, or a test double.
//!
//! # Three ways of driving one implementation
//!
//! * **Blocking threads.** A channel starts in blocking mode and then never reports
//!   [`WouldBlock`](std::io::ErrorKind::WouldBlock). [`ChannelExt`] adds the loops people want
//!   (`read_exact`, `writev_all`, ...), [`Deadlined`] adds deadlines.
//! * **An event loop of your own.** Call [`Channel::set_blocking`]`(false)`, try the operation, and on
//!   `WouldBlock` register what [`Channel::readiness`] names with epoll, mio or calloop.
//! * **tokio.** With feature `tokio`, `AsyncChannel` makes any channel an `AsyncRead + AsyncWrite`.
//!
//! ```
//! use qio_channel::{BufferChannel, ChannelExt};
//!
//! let mut channel = BufferChannel::new();
//! channel.write_all(b"hello")?;
//! let mut greeting = [0; 5];
//! channel.read_exact(&mut greeting)?;
//! assert_eq!(&greeting, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What this crate deliberately does not know
//!
//! Addresses, names, TLS, and any runtime (tokio only behind its feature).

#[cfg(feature = "tokio")]
mod async_channel;
mod buffer;
mod channel;
mod command;
mod deadlined;
mod duplex;
mod ext;
mod fd;
mod null;
mod readiness;
#[cfg(feature = "tokio")]
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
mod wait;

#[cfg(feature = "tokio")]
pub use async_channel::AsyncChannel;
pub use buffer::BufferChannel;
pub use channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError, Whence, unsupported};
pub use command::CommandChannel;
pub use deadlined::Deadlined;
pub use duplex::DuplexChannel;
pub use ext::{ChannelExt, ReadAll};
pub use fd::FdChannel;
pub use null::NullChannel;
pub use readiness::{Direction, Interest, Readiness, Wait};
#[cfg(feature = "tokio")]
pub use sys::{DuplicatedFd, register_with_tokio};
pub use wait::wait;
