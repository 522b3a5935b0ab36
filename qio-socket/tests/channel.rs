//! What a socket channel does beyond the conformance suite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use qio_channel::{Channel, ChannelExt, Features, Shutdown};
use qio_socket::{SocketChannel, SocketError};
use rustix::net::sockopt;

fn tcp_pair() -> (SocketChannel, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (
        SocketChannel::from_fd(listener.accept().unwrap().0.into()).unwrap(),
        theirs,
    )
}

#[test]
fn io_17_only_connected_stream_sockets_are_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let refused: Vec<(OwnedFd, &str)> = vec![
        (tempfile::tempfile().unwrap().into(), "a file"),
        (File::open(dir.path()).unwrap().into(), "a directory"),
        (rustix::pipe::pipe().unwrap().0, "a pipe"),
        (File::open("/dev/null").unwrap().into(), "a character device"),
        (
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "a datagram socket",
        ),
        (UnixDatagram::pair().unwrap().0.into(), "a datagram socket"),
        (
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            "a listening socket",
        ),
        (
            UnixListener::bind(dir.path().join("l")).unwrap().into(),
            "a listening socket",
        ),
        (
            rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            )
            .unwrap(),
            "a socket that is not connected",
        ),
        (
            rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::SEQPACKET,
                rustix::net::SocketFlags::CLOEXEC,
                None,
            )
            .unwrap()
            .0,
            "a sequenced packet socket",
        ),
    ];
    for (fd, kind) in refused {
        let number = fd.as_raw_fd();
        let error = SocketChannel::from_fd(fd).unwrap_err();
        assert!(matches!(&error, SocketError::NotAStreamSocket { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("descriptor {number} ")),
            "{error}"
        );
        assert!(error.to_string().contains(kind), "{error}, expected {kind}");
    }
    assert!(SocketChannel::from_fd(UnixStream::pair().unwrap().0.into()).is_ok());
}

#[test]
fn info_and_features_are_those_of_the_family() {
    let (tcp, theirs) = tcp_pair();
    let info = tcp.info();
    assert_eq!(info.kind, "tcp");
    assert_eq!(info.local, Some(format!("tcp:{}", theirs.peer_addr().unwrap())));
    assert_eq!(info.peer, Some(format!("tcp:{}", theirs.local_addr().unwrap())));
    assert_eq!(
        tcp.features(),
        Features::SHUTDOWN | Features::SPLIT | Features::PEEK
    );
    // The facts outlive the peer.
    drop(theirs);
    assert_eq!(tcp.info(), info);

    let (unix, _b) = SocketChannel::pair().unwrap();
    assert_eq!((unix.info().kind, unix.info().local), ("unix", None));
    assert!(unix.features().contains(Features::FD_PASS));
}

#[test]
fn delay_and_cork() {
    let (mut tcp, mut theirs) = tcp_pair();
    assert!(
        sockopt::tcp_nodelay(tcp.as_fd()).unwrap(),
        "no delay from the first byte"
    );
    tcp.set_delay(true).unwrap();
    assert!(!sockopt::tcp_nodelay(tcp.as_fd()).unwrap());
    tcp.set_delay(false).unwrap();
    assert!(sockopt::tcp_nodelay(tcp.as_fd()).unwrap());

    tcp.set_cork(true).unwrap();
    assert!(sockopt::tcp_cork(tcp.as_fd()).unwrap());
    tcp.write_all(b"ab").unwrap();
    tcp.set_cork(false).unwrap();
    let mut both = [0; 2];
    theirs.read_exact(&mut both).unwrap();
    assert_eq!(&both, b"ab");

    let (mut unix, _b) = SocketChannel::pair().unwrap();
    unix.set_delay(true).unwrap();
    unix.set_cork(true).unwrap();
}

#[test]
fn peeking_leaves_the_bytes() {
    let (mut a, mut b) = SocketChannel::pair().unwrap();
    a.write_all(b"twice").unwrap();
    for _ in 0..2 {
        let (mut x, mut y) = ([0; 2], [0; 8]);
        assert_eq!(
            b.peek(&mut [IoSliceMut::new(&mut x), IoSliceMut::new(&mut y)])
                .unwrap(),
            5
        );
        assert_eq!((&x, &y[..3]), (b"tw", &b"ice"[..]));
    }
    let mut text = [0; 5];
    b.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"twice");
    b.set_blocking(false).unwrap();
    assert_eq!(
        b.peek(&mut [IoSliceMut::new(&mut text)]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    drop(a);
    assert_eq!(b.peek(&mut [IoSliceMut::new(&mut text)]).unwrap(), 0);
}

#[test]
fn more_vectors_than_the_kernel_takes_are_a_short_operation() {
    let (mut a, mut b) = SocketChannel::pair().unwrap();
    let bytes: Vec<u8> = (0..3000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let vectors: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
    assert_eq!(a.writev(&vectors).unwrap(), 1024);
    let mut received = vec![0; 3000];
    let mut vectors: Vec<_> = received.chunks_mut(1).map(IoSliceMut::new).collect();
    assert_eq!(b.readv(&mut vectors).unwrap(), 1024);
    assert_eq!(received[..1024], bytes[..1024]);
}

/// An empty vector must not turn into an empty read, which would look like the end of the stream.
#[test]
fn empty_vectors_are_stepped_over() {
    let (mut a, mut b) = SocketChannel::pair().unwrap();
    let mut bufs = vec![IoSlice::new(&[]); 2000];
    bufs.push(IoSlice::new(b"x"));
    assert_eq!(a.writev(&bufs).unwrap(), 1);
    let mut byte = [0];
    let mut bufs: Vec<_> = (0..2000).map(|_| IoSliceMut::new(&mut [])).collect();
    assert_eq!(
        b.readv(&mut bufs).unwrap(),
        0,
        "no room at all: at once, although data waits"
    );
    bufs.push(IoSliceMut::new(&mut byte));
    assert_eq!(b.readv(&mut bufs).unwrap(), 1);
    assert_eq!(&byte, b"x");
    assert_eq!(a.writev(&[]).unwrap(), 0);
}

#[test]
fn shutdown_is_legal_in_every_state() {
    let (mut tcp, theirs) = tcp_pair();
    for _ in 0..3 {
        tcp.shutdown(Shutdown::Write).unwrap();
    }
    // The peer resets: it closes with unread data.
    let (mut reset, theirs2) = tcp_pair();
    reset.write_all(b"unread").unwrap();
    let mut one = [0];
    theirs2.peek(&mut one).unwrap();
    drop(theirs2);
    while reset.read(&mut one).is_ok_and(|n| n != 0) {}
    drop(theirs);
    for channel in [&mut tcp, &mut reset] {
        for how in [Shutdown::Both, Shutdown::Read, Shutdown::Write, Shutdown::Both] {
            channel.shutdown(how).unwrap();
        }
    }
}

#[test]
fn halves_have_modes_of_their_own() {
    let (near, mut far) = SocketChannel::pair().unwrap();
    let (mut read, mut write) = Box::new(near).into_split().unwrap();
    read.set_blocking(false).unwrap();
    assert_eq!(read.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Blocking still, though the other half and the same socket are not: fills the buffer and waits.
    let writer = std::thread::spawn(move || write.write_all(&vec![7; 4 << 20]));
    let mut received = vec![0; 4 << 20];
    far.read_exact(&mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received.iter().all(|b| *b == 7));
}

#[test]
fn io_31_descriptor_numbers_above_4096() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|n| n < 6000) {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(6000),
                ..limit
            },
        )
        .expect("6000 descriptors are allowed");
    }
    let (a, b) = UnixStream::pair().unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&a, 5000).unwrap();
    drop(a);
    assert!(high.as_raw_fd() >= 5000);
    rustix::fs::fcntl_setfl(&high, rustix::fs::OFlags::NONBLOCK).unwrap(); // so that it has to poll
    let mut channel = SocketChannel::from_fd(high).unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = [0; 4];
        channel
            .read_exact(&mut text)
            .map(|()| (text, channel.read(&mut [0]).unwrap()))
    });
    (&b).write_all(b"high").unwrap();
    drop(b); // closed by the other side while we poll
    assert_eq!(reader.join().unwrap().unwrap(), (*b"high", 0));
}
