//! Descriptors beside data. Alone in its process, because it counts the process's descriptors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use qio_channel::{Channel, ChannelExt};
use qio_socket::SocketChannel;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sends descriptors without our own limit.
fn send_raw(channel: &SocketChannel, data: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    sendmsg(
        channel.as_fd(),
        &[IoSlice::new(data)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .unwrap();
}

fn receive(channel: &mut SocketChannel) -> std::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut data, mut fds) = (vec![0; 64], Vec::new());
    let n = channel.readv_fds(&mut [IoSliceMut::new(&mut data)], &mut fds)?;
    data.truncate(n);
    Ok((data, fds))
}

// One test, because other tests' descriptors would be counted as well.
#[test]
fn descriptors_arrive_usable_and_never_leak() {
    arrive_usable();
    start_out_blocking();
    let before = open_fds();
    io_14_not_asked_for();
    io_15_more_than_allowed();
    refused_when_sent();
    refused_by_tcp();
    assert_eq!(open_fds(), before, "descriptors leaked");
}

fn arrive_usable() {
    let (mut a, mut b) = SocketChannel::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"content").unwrap();
    file.rewind().unwrap();
    let sixteen = vec![file.as_fd(); 16];
    for fds in [&sixteen[..1], &sixteen] {
        assert_eq!(
            a.writev_fds(&[IoSlice::new(b"hea"), IoSlice::new(b"der")], fds)
                .unwrap(),
            6
        );
        let (data, received) = receive(&mut b).unwrap();
        assert_eq!((&data[..], received.len()), (&b"header"[..], fds.len()));
        for fd in &received {
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        }
        let mut text = String::new();
        let mut received: File = received.into_iter().next().unwrap().into();
        received.rewind().unwrap();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
    }
    // Without descriptors, both are plain reads and writes.
    assert_eq!(a.writev_fds(&[IoSlice::new(b"x")], &[]).unwrap(), 1);
    assert_eq!(receive(&mut b).unwrap().1.len(), 0);
    b.set_blocking(false).unwrap();
    assert_eq!(receive(&mut b).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(a);
    assert_eq!(receive(&mut b).unwrap().0, b"", "the end of the stream");
}

/// hostile.md IO-13.
fn start_out_blocking() {
    let (mut a, mut b) = SocketChannel::pair().unwrap();
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
    a.writev_fds(&[IoSlice::new(b"x")], &[reader.as_fd()]).unwrap();
    let (_, received) = receive(&mut b).unwrap();
    assert!(!fcntl_getfl(&received[0]).unwrap().contains(OFlags::NONBLOCK));
}

/// hostile.md IO-14: a reader that does not ask for descriptors gets none, and keeps none.
fn io_14_not_asked_for() {
    let (mut a, mut b) = SocketChannel::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let fds = vec![null.as_fd(); 16];
    let before = open_fds();
    for _ in 0..10_000 {
        a.writev_fds(&[IoSlice::new(b"x")], &fds).unwrap();
        b.peek(&mut [IoSliceMut::new(&mut [0])]).unwrap();
        assert_eq!(b.read(&mut [0]).unwrap(), 1);
    }
    assert_eq!(open_fds(), before);
}

/// hostile.md IO-15: too many end the connection, and all that came are closed.
fn io_15_more_than_allowed() {
    let null = File::open("/dev/null").unwrap();
    for count in [17, 18, 19, 64, 253] {
        let (a, mut b) = SocketChannel::pair().unwrap();
        let before = open_fds();
        send_raw(&a, b"data", &vec![null.as_fd(); count]);
        let error = receive(&mut b).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{count}: {error}");
        assert!(error.to_string().contains("more descriptors"), "{error}");
        assert_eq!(open_fds(), before, "{count}");
        assert_eq!(b.read(&mut [0]).unwrap(), 0, "the connection is over");
    }
}

fn refused_when_sent() {
    let (mut a, _b) = SocketChannel::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let many = a
        .writev_fds(&[IoSlice::new(b"x")], &[null.as_fd(); 17])
        .unwrap_err();
    assert!(
        many.kind() == ErrorKind::InvalidInput && many.to_string().contains("at most 16"),
        "{many}"
    );
    let alone = a.writev_fds(&[IoSlice::new(b"")], &[null.as_fd()]).unwrap_err();
    assert!(
        alone.kind() == ErrorKind::InvalidInput && alone.to_string().contains("at least one byte"),
        "{alone}"
    );
}

fn refused_by_tcp() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut channel = SocketChannel::from_fd(stream.into()).unwrap();
    assert_eq!(receive(&mut channel).unwrap_err().kind(), ErrorKind::Unsupported);
    let null = File::open("/dev/null").unwrap();
    let error = channel
        .writev_fds(&[IoSlice::new(b"x")], &[null.as_fd()])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
