//! Socket addresses as QEMU writes them; connecting, listening, and the socket channel.
//!
//! ```
//! use qio_channel::ChannelExt;
//! use qio_socket::{ConnectOptions, ListenOptions, Listener, SocketAddress, connect};
//!
//! let listener = Listener::bind(&["127.0.0.1:0".parse()?], &ListenOptions::default())?;
//! let address: SocketAddress = listener.local_addresses().next().unwrap().to_string().parse()?;
//!
//! let mut client = connect(&address, &ConnectOptions::default())?;
//! let mut server = listener.accept()?;
//! client.write_all(b"hello").unwrap();
//! let mut hello = [0; 5];
//! server.read_exact(&mut hello).unwrap();
//! assert_eq!(&hello, b"hello");
//! # Ok::<(), qio_socket::SocketError>(())
//! ```
//!
//! * [`SocketAddress`]: `host:port`, `unix:/path`, keyval and JSON, parsed and printed back.
//! * [`connect`]: names with several addresses, one deadline for everything, errors that list what was tried.
//! * [`Listener`]: several addresses at once, ports chosen by the kernel or from a range, unix paths cleaned up.
//! * [`SocketChannel`]: a [`Channel`](qio_channel::Channel) with half-shutdown, splitting, peeking and, on unix
//!   sockets, passing of descriptors.
//!
//! With feature `tokio`, `connect_async` and `Listener::into_async` do the same within a runtime; wrap the channel
//! in `qio_channel::AsyncChannel`.
//!
//! # What this crate deliberately does not know
//!
//! TLS, authentication, limits on connections: those belong to the services. Nothing here reads a peer's data.

mod address;
mod address_text;
mod bind;
mod channel;
mod connect;
#[cfg(feature = "tokio")]
mod connect_async;
mod error;
mod fds;
mod listener;
#[cfg(feature = "tokio")]
mod listener_async;
mod names;
mod resolve;
mod unix_path;

pub use address::{FdAddress, InetAddress, SocketAddress, UnixAddress, VsockAddress};
pub use channel::SocketChannel;
pub use connect::{ConnectOptions, connect};
#[cfg(feature = "tokio")]
pub use connect_async::connect_async;
pub use error::{Attempt, SocketError};
pub use listener::{ListenOptions, Listener};
#[cfg(feature = "tokio")]
pub use listener_async::AsyncListener;
