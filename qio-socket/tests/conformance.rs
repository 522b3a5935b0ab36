//! The suite that every channel runs, over every kind of socket and in every way of making one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::fd::OwnedFd;

use qio_channel::Channel;
use qio_channel::testing::{Pair, stream_conformance};
use qio_socket::{
    ConnectOptions, ListenOptions, Listener, SocketAddress, SocketChannel, UnixAddress, connect,
};

/// A connected pair through a listener at `address`.
fn through(address: &SocketAddress) -> (SocketChannel, SocketChannel) {
    let listener = Listener::bind(std::slice::from_ref(address), &ListenOptions::default()).unwrap();
    let bound = listener.local_addresses().next().unwrap().clone();
    let client = connect(&bound, &ConnectOptions::default()).unwrap();
    (client, listener.accept().unwrap())
}

fn duplex((near, far): (SocketChannel, SocketChannel)) -> Pair {
    Pair::duplex(Box::new(near), Box::new(far))
}

#[test]
fn tcp_ipv4() {
    stream_conformance(|| duplex(through(&SocketAddress::tcp("127.0.0.1", 0))));
}

#[test]
fn tcp_ipv6() {
    stream_conformance(|| duplex(through(&SocketAddress::tcp("::1", 0))));
}

#[test]
fn unix_path() {
    let dir = tempfile::tempdir().unwrap();
    let address = SocketAddress::unix(dir.path().join("s"));
    stream_conformance(|| duplex(through(&address)));
}

#[test]
fn unix_abstract() {
    let name = format!("qio-conformance-{}", std::process::id());
    stream_conformance(|| duplex(through(&UnixAddress::abstract_name(&name).into())));
}

#[test]
fn socketpair() {
    stream_conformance(|| duplex(SocketChannel::pair().unwrap()));
}

/// Whoever made the socket may want it non-blocking for himself; blocking mode must still block.
#[test]
fn adopted_and_non_blocking_underneath() {
    stream_conformance(|| {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let adopt = |fd: OwnedFd| Box::new(SocketChannel::from_fd(fd).unwrap());
        Pair::duplex(adopt(a.into()), adopt(b.into()))
    });
}

/// The halves of a split channel are channels too, and each keeps its own mode.
#[test]
fn halves_of_a_split_channel() {
    stream_conformance(|| {
        let (near, far) = SocketChannel::pair().unwrap();
        let (_near_read, near_write) = Box::new(near).into_split().unwrap();
        let (mut far_read, mut far_write) = Box::new(far).into_split().unwrap();
        far_write.set_blocking(false).unwrap();
        far_read.set_blocking(true).unwrap();
        Pair::simplex(near_write, far_read)
    });
}
