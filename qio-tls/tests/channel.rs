//! TLS channels over real transports, in all three ways of driving.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use qio_channel::testing::{Pair, stream_conformance};
use qio_channel::{BoxChannel, Channel, ChannelExt, Direction, FdChannel, Shutdown, Wait};
use qio_creds::{ClientCreds, ServerCreds};
use qio_tls::{TlsChannel, TlsError, TlsHandshake};
use support::{HOST, authority, client_creds, client_template, good_creds, server_creds, server_template};

const LIMIT: Duration = Duration::from_secs(60);

/// Two channels that are each other's peer, over two pipes.
fn pipes() -> (BoxChannel, BoxChannel) {
    let (a_reader, b_writer) = rustix_pipe();
    let (b_reader, a_writer) = rustix_pipe();
    (
        Box::new(FdChannel::from_pair(a_reader, a_writer).unwrap()),
        Box::new(FdChannel::from_pair(b_reader, b_writer).unwrap()),
    )
}

fn rustix_pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

fn sockets() -> (BoxChannel, BoxChannel) {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    (
        Box::new(qio_socket::SocketChannel::from_fd(a.into()).unwrap()),
        Box::new(qio_socket::SocketChannel::from_fd(b.into()).unwrap()),
    )
}

fn connect(
    transports: (BoxChannel, BoxChannel),
    client: &ClientCreds,
    server: &ServerCreds,
) -> (TlsChannel<BoxChannel>, TlsChannel<BoxChannel>) {
    let (near, far) = transports;
    let server = TlsHandshake::server(far, server).unwrap();
    let accepting = thread::spawn(move || server.complete(LIMIT).expect("the server's side"));
    let client = TlsHandshake::client(near, client, Some(HOST))
        .unwrap()
        .complete(LIMIT);
    (client.expect("the client's side"), accepting.join().unwrap())
}

#[test]
fn tls_over_pipes_conforms() {
    let (client, server) = good_creds();
    stream_conformance(|| {
        let (near, far) = connect(pipes(), &client, &server);
        Pair::duplex(Box::new(near), Box::new(far))
    });
}

#[test]
fn tls_over_sockets_conforms() {
    let (client, server) = good_creds();
    stream_conformance(|| {
        let (near, far) = connect(sockets(), &client, &server);
        Pair::duplex(Box::new(near), Box::new(far))
    });
}

#[test]
fn tls_in_tls_conforms() {
    let (client, server) = good_creds();
    stream_conformance(|| {
        let (near, far) = connect(sockets(), &client, &server);
        let (near, far) = connect((Box::new(near), Box::new(far)), &client, &server);
        Pair::duplex(Box::new(near), Box::new(far))
    });
}

/// hostile.md IO-22: readiness tells of plaintext that no descriptor knows of.
#[test]
fn io_22_buffered_plaintext_is_ready_now() {
    let (client, server) = good_creds();
    let (mut near, mut far) = connect(sockets(), &client, &server);
    far.set_blocking(false).unwrap();
    assert_eq!(far.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(matches!(far.readiness(Direction::Read).wait, Wait::Fd(..)));
    near.write_all(b"onetwo").unwrap();
    let mut three = [0; 3];
    far.read_exact(&mut three).unwrap();
    assert!(
        matches!(far.readiness(Direction::Read).wait, Wait::Now),
        "the second half is decrypted already"
    );
    far.read_exact(&mut three).unwrap();
    assert_eq!(&three, b"two");
    assert_eq!(far.read(&mut three).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(matches!(far.readiness(Direction::Read).wait, Wait::Fd(..)));
}

#[test]
fn io_20_a_cut_is_an_error_with_the_reason_behind_it() {
    let (client, server) = good_creds();
    let (near, mut far) = connect(sockets(), &client, &server);
    drop(near);
    let error = far.read(&mut [0; 4]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(
        matches!(TlsError::from_io(&error), Some(TlsError::Truncated { .. })),
        "{error}"
    );
    far.set_relaxed_eof(true);
    assert_eq!(far.read(&mut [0; 4]).unwrap(), 0);
}

/// hostile.md IO-24: ending is legal in every state.
#[test]
fn io_24_shutdown_at_any_time() {
    let (client, server) = good_creds();
    let (mut near, mut far) = connect(sockets(), &client, &server);
    for how in [
        Shutdown::Write,
        Shutdown::Write,
        Shutdown::Both,
        Shutdown::Read,
        Shutdown::Both,
    ] {
        near.shutdown(how).unwrap();
    }
    assert_eq!(far.read(&mut [0; 4]).unwrap(), 0);
    far.shutdown(Shutdown::Both).unwrap();
    far.shutdown(Shutdown::Both).unwrap();
}

/// hostile.md NBDS-02, IO-18: a silent peer costs the deadline and no more.
#[test]
fn a_silent_peer_times_out() {
    let (_, server) = good_creds();
    let (_near, far) = sockets();
    let limit = Duration::from_millis(20);
    let error = TlsHandshake::server(far, &server)
        .unwrap()
        .complete(limit)
        .unwrap_err();
    assert!(matches!(error, TlsError::HandshakeTimeout { .. }), "{error}");
}

/// The ticket that the server still sends must not cost it what a client wrote before it left.
#[test]
fn a_client_that_writes_and_leaves_is_heard() {
    let (client, server) = good_creds();
    let (near, far) = sockets();
    let near = TlsHandshake::client(near, &client, Some(HOST)).unwrap();
    let leaving = thread::spawn(move || {
        let mut near = near.complete(LIMIT).unwrap();
        near.write_all(b"last words").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
    });
    let mut far = TlsHandshake::server(far, &server).unwrap();
    // The server takes part only up to the hello; the rest happens once the client has left.
    let _ = far.step().unwrap();
    let far = thread::spawn(move || far.complete(LIMIT).unwrap());
    leaving.join().unwrap();
    let mut far = far.join().unwrap();
    let mut words = [0; 10];
    far.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"last words");
    assert_eq!(far.read(&mut words).unwrap(), 0);
}

/// Both ends are told why: the alert must reach a client that was already sending when it was refused.
#[test]
fn a_refused_client_reads_why_although_it_is_sending() {
    let ca = authority("Test CA");
    let client = client_creds(None, &[&ca]);
    let server = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
    let (near, far) = sockets();
    let server = TlsHandshake::server(far, &server).unwrap();
    let accepting = thread::spawn(move || server.complete(LIMIT).expect_err("no certificate"));
    let mut near = TlsHandshake::client(near, &client, Some(HOST))
        .unwrap()
        .complete(LIMIT)
        .unwrap();
    // Under TLS 1.3 the client is done before it is judged, and may send already.
    let _ = near.write_all(&[0; 1000]);
    let error = near.read(&mut [0; 4]).unwrap_err();
    assert!(error.to_string().contains("certificate_required"), "{error}");
    assert!(matches!(accepting.join().unwrap(), TlsError::NoPeerCertificate));
}

#[cfg(feature = "tokio")]
mod under_tokio {
    use super::*;
    use qio_channel::AsyncChannel;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_handshake_and_an_echo() {
        let (client, server) = good_creds();
        let (near, far) = sockets();
        let accepting = tokio::spawn(async move {
            let channel = TlsHandshake::server(far, &server)
                .unwrap()
                .complete_async(LIMIT)
                .await
                .unwrap();
            let mut channel = AsyncChannel::new(channel).unwrap();
            let mut text = [0; 5];
            channel.read_exact(&mut text).await.unwrap();
            channel.write_all(&text).await.unwrap();
            channel.flush().await.unwrap();
            channel.shutdown(Shutdown::Write).await.unwrap();
        });
        let channel = TlsHandshake::client(near, &client, Some(HOST))
            .unwrap()
            .complete_async(LIMIT)
            .await
            .unwrap();
        let mut channel = AsyncChannel::new(channel).unwrap();
        channel.write_all(b"hello").await.unwrap();
        channel.flush().await.unwrap();
        let mut back = Vec::new();
        channel.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"hello");
        accepting.await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_reaches_both_ends() {
        let (ours, theirs) = (authority("Our CA"), authority("Their CA"));
        let client = client_creds(Some(theirs.issue(&client_template()).unwrap()), &[&ours]);
        let server = server_creds(ours.issue(&server_template()).unwrap(), &[&ours]);
        let (near, far) = sockets();
        let accepting = tokio::spawn(async move {
            TlsHandshake::server(far, &server)
                .unwrap()
                .complete_async(LIMIT)
                .await
                .expect_err("unknown issuer")
        });
        let mut channel = AsyncChannel::new(
            TlsHandshake::client(near, &client, Some(HOST))
                .unwrap()
                .complete_async(LIMIT)
                .await
                .unwrap(),
        )
        .unwrap();
        let _ = channel.write_all(&[0; 1000]).await;
        let error = channel.read(&mut [0; 4]).await.unwrap_err();
        assert!(error.to_string().contains("unknown_ca"), "{error}");
        assert!(matches!(
            accepting.await.unwrap(),
            TlsError::PeerCertificate { .. }
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_times_out() {
        let (_, server) = good_creds();
        let (_near, far) = sockets();
        let error = TlsHandshake::server(far, &server)
            .unwrap()
            .complete_async(LIMIT)
            .await
            .unwrap_err();
        assert!(matches!(error, TlsError::HandshakeTimeout { .. }), "{error}");
    }
}
