//! What the tests of the server and the clients share.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use qio_channel::BoxChannel;
use qio_nbd::client::{Client, ConnectOptions, Session};
use qio_nbd::export::{Capabilities, Durability, Export, MemoryExport, ZeroMode};
use qio_nbd::server::{ConnectionEnd, ConnectionError, Server, ServerBuilder};
use qio_socket::{ListenOptions, Listener, SocketAddress, SocketChannel};
use tokio::task::JoinHandle;

pub(crate) const SIZE: usize = 8 << 20;

/// A server with one export, `disk`, of [`SIZE`] bytes of a pattern.
pub(crate) fn builder() -> (ServerBuilder, Arc<MemoryExport>) {
    let disk = Arc::new(MemoryExport::from(pattern(0, SIZE)));
    let server = Server::builder().export("disk".parse().unwrap(), "a disk", disk.clone());
    (server, disk)
}

/// What the disk holds at first.
pub(crate) fn pattern(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length)
        .map(|i| (i / 512 * 7 + i % 512 % 251) as u8)
        .collect()
}

pub(crate) fn pair() -> (BoxChannel, BoxChannel) {
    let (ours, theirs) = SocketChannel::pair().unwrap();
    (Box::new(ours), Box::new(theirs))
}

pub(crate) type Served = JoinHandle<Result<ConnectionEnd, ConnectionError>>;

/// Serves one connection, and gives its other end.
pub(crate) fn serve_one(server: &Server) -> (BoxChannel, Served) {
    let (ours, theirs) = pair();
    let server = server.clone();
    (
        ours,
        tokio::spawn(async move { server.serve_channel(theirs).await }),
    )
}

/// Runs blocking client code beside the server's tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A blocking client of `disk` on a channel.
pub(crate) fn client(channel: BoxChannel) -> Client {
    Session::over(channel, None, &ConnectOptions::default())
        .unwrap()
        .go(&"disk".parse().unwrap())
        .unwrap()
}

/// A listener on a free loopback port, and its address.
pub(crate) fn listen() -> (Listener, SocketAddress) {
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], &ListenOptions::default()).unwrap();
    let address = listener.local_addresses().next().unwrap().clone();
    (listener, address)
}

/// An export whose reads wait until they are let through, and which counts what it is asked.
#[derive(Default)]
pub(crate) struct GatedExport {
    open: Mutex<bool>,
    opened: Condvar,
    pub(crate) started: AtomicUsize,
    pub(crate) finished: AtomicUsize,
}

impl GatedExport {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Export for GatedExport {
    fn size(&self) -> u64 {
        1 << 30
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.started.fetch_add(1, Ordering::SeqCst);
        if offset == 0 {
            let mut open = self.open.lock().unwrap();
            while !*open {
                open = self.opened.wait(open).unwrap();
            }
        }
        buf.fill(7);
        self.finished.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn write_at(&self, _: &[u8], offset: u64, _: Durability) -> io::Result<()> {
        if offset == 666 {
            panic!("a backend that panics")
        }
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
    fn write_zeroes(&self, _: u64, _: u64, _: ZeroMode, _: Durability) -> io::Result<()> {
        Err(io::Error::other("the disk is on fire"))
    }
}
