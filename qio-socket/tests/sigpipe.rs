//! hostile.md IO-32: writing to a peer that is gone is an error and never a signal.
//!
//! Alone in its process, because signals belong to the process. Rust programs ignore SIGPIPE from the start,
//! which would hide the fault; tokio's handler takes the place of that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, IoSlice};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::Poll;

use qio_channel::{Channel, ChannelExt, Shutdown};
use qio_socket::SocketChannel;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::test]
async fn io_32_writing_to_a_peer_that_is_gone() {
    let mut sigpipe = signal(SignalKind::pipe()).unwrap();
    let mut marker = signal(SignalKind::user_defined1()).unwrap();

    for blocking in [true, false] {
        for mut channel in [unix_closed(), unix_shut_down(), tcp_reset()] {
            channel.set_blocking(blocking).unwrap();
            let error = std::iter::repeat_with(|| channel.write(b"anyone there?"))
                .take(1000)
                .find_map(Result::err)
                .expect("the peer is gone");
            assert!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "{error}"
            );
            assert_eq!(
                channel.write(b"still not?").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
    }
    let null = File::open("/dev/null").unwrap();
    let error = unix_closed()
        .writev_fds(&[IoSlice::new(b"x")], &[null.as_fd()])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);

    // A signal that had come before this one would have been delivered with it.
    kill_process(getpid(), Signal::USR1).unwrap();
    marker.recv().await;
    {
        let mut came = pin!(sigpipe.recv());
        let none = poll_fn(|cx| Poll::Ready(came.as_mut().poll(cx).is_pending())).await;
        assert!(none, "a write raised SIGPIPE");
    }
    // And it would have been seen.
    kill_process(getpid(), Signal::PIPE).unwrap();
    sigpipe.recv().await;
}

fn unix_closed() -> SocketChannel {
    SocketChannel::pair().unwrap().0
}

fn unix_shut_down() -> SocketChannel {
    let (mut a, _b) = SocketChannel::pair().unwrap();
    a.shutdown(Shutdown::Write).unwrap();
    a
}

/// Closing with unread data makes the kernel send a reset.
fn tcp_reset() -> SocketChannel {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut channel = SocketChannel::from_fd(listener.accept().unwrap().0.into()).unwrap();
    channel.write_all(b"unread").unwrap();
    theirs.peek(&mut [0]).unwrap();
    drop(theirs);
    while channel.read(&mut [0]).is_ok_and(|n| n != 0) {}
    channel
}
