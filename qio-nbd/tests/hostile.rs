//! Peers that mean no good, or do no good, against the running server. Named after the rows of hostile.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and chooses its own sizes"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use qio_channel::{BoxChannel, Channel, ChannelExt, Shutdown};
use qio_nbd::client::{ConnectOptions, RequestError, Session};
use qio_nbd::export::{Durability, Export};
use qio_nbd::server::{ConnectionEnd, ConnectionError, Limits, Server};
use qio_nbd::wire::{Command, CommandFlags, Cookie, RequestHeader};
use qio_socket::{SocketAddress, SocketChannel};

use support::*;

fn connect(address: &SocketAddress) -> SocketChannel {
    qio_socket::connect(address, &qio_socket::ConnectOptions::default()).unwrap()
}

/// A listening server, and how it ended once stopped.
fn start(server: &Server) -> (SocketAddress, tokio::task::JoinHandle<()>) {
    let (listener, address) = listen();
    let server = server.clone();
    (
        address,
        tokio::spawn(async move { server.serve(listener).await.unwrap() }),
    )
}

fn honest(address: &SocketAddress) {
    let session = Session::connect(address, &ConnectOptions::default()).unwrap();
    let mut client = session.go(&"disk".parse().unwrap()).unwrap();
    let mut buf = vec![0; 10_000];
    client.read_at(&mut buf, 777).unwrap();
    assert!(buf == pattern(777, 10_000));
    client.disconnect().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_01_at_the_cap_accepting_pauses_and_goes_on() {
    let (builder, _) = builder();
    let server = builder
        .limits(Limits {
            max_connections: 3,
            ..Limits::default()
        })
        .build();
    let (address, serving) = start(&server);
    blocking(move || {
        let go = |address: &SocketAddress| {
            Session::connect(address, &ConnectOptions::default())
                .unwrap()
                .go(&"disk".parse().unwrap())
                .unwrap()
        };
        let mut full: Vec<_> = (0..3).map(|_| go(&address)).collect();
        // The fourth is connected by the kernel, and hears nothing until a place is free.
        let mut waiting = connect(&address);
        waiting.set_blocking(false).unwrap();
        assert_eq!(
            waiting.read(&mut [0; 18]).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        full.pop().unwrap().disconnect().unwrap();
        waiting.set_blocking(true).unwrap();
        let mut greeting = [0; 18];
        waiting.read_exact(&mut greeting).unwrap();
        assert!(greeting.starts_with(b"NBDMAGIC"));
    })
    .await;
    server.stop();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_02_silent_clients_are_shut_out_and_honest_ones_get_in() {
    let (builder, _) = builder();
    let limits = Limits {
        max_unauthenticated: 2,
        handshake_timeout: Some(Duration::from_millis(200)),
        ..Limits::default()
    };
    let server = builder.limits(limits).build();
    let (address, serving) = start(&server);
    blocking(move || {
        let mut silent: Vec<_> = (0..8).map(|_| connect(&address)).collect();
        honest(&address);
        for channel in &mut silent {
            // The greeting, and then the end: the server did not wait for ever.
            let mut all = vec![];
            loop {
                let mut buf = [0; 64];
                match channel.read(&mut buf).unwrap() {
                    0 => break,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
            assert_eq!(all.len(), 18);
        }
    })
    .await;
    server.stop();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_02_the_deadline_spans_slow_options_too() {
    let (builder, _) = builder();
    let limits = Limits {
        handshake_timeout: Some(Duration::from_millis(100)),
        ..Limits::default()
    };
    let server = builder.limits(limits).build();
    let (mut channel, served) = serve_one(&server);
    // Half an option, and then nothing.
    channel.write_all(b"\0\0\0\x03IHAVEOPT\0\0").unwrap();
    assert!(matches!(
        served.await.unwrap(),
        Err(ConnectionError::HandshakeTimeout(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_03_stopping_under_attack_leaves_nothing_behind() {
    let runtime = tokio::runtime::Handle::current();
    let before = runtime.metrics().num_alive_tasks();
    for round in 0..100 {
        let disk = Arc::new(qio_nbd::export::MemoryExport::new(4096));
        let server = Server::builder()
            .export("disk".parse().unwrap(), "", disk)
            .build();
        let (address, serving) = start(&server);
        let peers: Vec<_> = (0..round % 5).map(|_| connect(&address)).collect();
        if round % 2 == 0 && !peers.is_empty() {
            // One of them is certainly being served, and stays silent.
            let mut peers = peers.into_iter();
            let mut first = peers.next().unwrap();
            blocking(move || first.read_exact(&mut [0; 18]).unwrap()).await;
        }
        server.stop();
        serving.await.unwrap();
    }
    // The runtime forgets a task a moment after whoever waits for it is told.
    let settled = async {
        while runtime.metrics().num_alive_tasks() != before {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(10), settled).await;
    assert!(
        settled.is_ok(),
        "{} tasks are left",
        runtime.metrics().num_alive_tasks() - before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_03_a_client_in_transmission_is_told_by_the_end_of_the_stream() {
    let gated = Arc::new(GatedExport::default());
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", gated.clone())
        .build();
    let (address, serving) = start(&server);
    let reading = tokio::task::spawn_blocking(move || {
        let session = Session::connect(&address, &ConnectOptions::default()).unwrap();
        let mut client = session.go(&"disk".parse().unwrap()).unwrap();
        let mut buf = [0; 512];
        client.read_at(&mut buf, 0).unwrap();
        assert_eq!(buf, [7; 512], "what was in flight is finished");
        // What is sent before the connection hears of the stop may still be served; then there is an end.
        let end = loop {
            if let Err(error) = client.read_at(&mut buf, 0) {
                break error;
            }
        };
        assert!(matches!(end, RequestError::Lost(_)), "{end}");
    });
    while gated.started.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    server.stop();
    gated.open();
    serving.await.unwrap();
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_07_nbds_19_a_thousand_aborted_negotiations_and_the_listener_lives() {
    let (builder, _) = builder();
    let server = builder.build();
    let (address, serving) = start(&server);
    blocking(move || {
        for round in 0..1000_usize {
            let mut channel = connect(&address);
            let junk: Vec<u8> = (0..round % 64).map(|i| (i * round) as u8).collect();
            // The server may have hung up in the middle of it.
            let _ = channel.write_all(&junk);
        }
        honest(&address);
    })
    .await;
    server.stop();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_05_an_option_of_4_gib_is_not_read() {
    let (builder, _) = builder();
    let server = builder.build();
    let (mut channel, served) = serve_one(&server);
    channel
        .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x63\xff\xff\xff\xff")
        .unwrap();
    let error = served.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("4294967295 bytes"), "{error}");
}

/// Goes to `disk` with simple replies.
fn raw(mut channel: BoxChannel) -> BoxChannel {
    channel.read_exact(&mut [0; 18]).unwrap();
    channel
        .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk")
        .unwrap();
    channel.read_exact(&mut [0; 10]).unwrap();
    channel
}

fn header(command: Command, cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    RequestHeader {
        flags: CommandFlags::empty(),
        command,
        cookie: Cookie(cookie),
        offset,
        length,
    }
    .encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_18_a_write_above_the_limit_is_refused_and_the_connection_closed() {
    let (builder, _) = builder();
    let server = builder.build();
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut channel = raw(channel);
        channel
            .write_all(&header(Command::Write, 9, 0, (32 << 20) + 1))
            .unwrap();
        let mut reply = [0; 16];
        channel.read_exact(&mut reply).unwrap();
        assert_eq!(reply, *b"\x67\x44\x66\x98\0\0\0\x16\0\0\0\0\0\0\0\x09");
        assert_eq!(channel.read(&mut [0; 1]).unwrap(), 0);
    })
    .await;
    assert!(matches!(served.await.unwrap(), Err(ConnectionError::Requests(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_28_a_reader_that_does_not_read_holds_a_bounded_number_of_replies() {
    let gated = Arc::new(GatedExport::default());
    gated.open();
    let limits = Limits {
        max_in_flight: 4,
        max_in_flight_bytes: 3 << 20,
        ..Limits::default()
    };
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", gated.clone())
        .limits(limits)
        .build();
    let (channel, served) = serve_one(&server);
    let mut channel = blocking(move || raw(channel)).await;
    let requests: Vec<u8> = (0..64)
        .flat_map(|cookie| header(Command::Read, cookie, 0, 1 << 20))
        .collect();
    channel.write_all(&requests).unwrap();
    // Of 64 MiB asked for, at most the budget and what the socket took is ever read from the export.
    while gated.finished.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let started = gated.started.load(Ordering::SeqCst);
    assert!((3..=5).contains(&started), "{started} reads were started");
    // Everything comes once it is read.
    blocking(move || {
        for _ in 0..64 {
            let mut reply = vec![0; 16 + (1 << 20)];
            channel.read_exact(&mut reply).unwrap();
            assert!(reply[16..].iter().all(|byte| *byte == 7));
        }
        channel.shutdown(Shutdown::Both).unwrap();
    })
    .await;
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Vanished);
    assert_eq!(gated.started.load(Ordering::SeqCst), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_18_one_request_above_the_byte_budget_is_still_served() {
    let (builder, disk) = builder();
    let server = builder
        .limits(Limits {
            max_in_flight_bytes: 1,
            ..Limits::default()
        })
        .build();
    let (channel, _served) = serve_one(&server);
    blocking(move || {
        let mut client = client(channel);
        client
            .write_at(&vec![3; 1 << 20], 0, Durability::Buffered)
            .unwrap();
        client.read_at(&mut vec![0; 1 << 20], 0).unwrap();
    })
    .await;
    let mut byte = [0];
    disk.read_at(&mut byte, 4000).unwrap();
    assert_eq!(byte, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_in_the_middle_of_a_write_writes_nothing() {
    let (builder, disk) = builder();
    let server = builder.build();
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut channel = raw(channel);
        channel.write_all(&header(Command::Write, 1, 0, 100_000)).unwrap();
        channel.write_all(&[0xff; 50_000]).unwrap();
    })
    .await;
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Vanished);
    let mut first = vec![0; 100_000];
    disk.read_at(&mut first, 0).unwrap();
    assert!(first == pattern(0, 100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdc_12_a_server_that_lies_fails_every_pending_request_at_once() {
    use qio_nbd::buffer::AlignedBuf;
    use qio_nbd::client::AsyncClient;

    let (ours, theirs) = pair();
    let liar = tokio::task::spawn_blocking(move || {
        let mut channel = theirs;
        channel.write_all(b"NBDMAGICIHAVEOPT\0\0").unwrap();
        let mut hello = [0; 4 + 16 + 4];
        channel.read_exact(&mut hello).unwrap();
        channel
            .write_all(&[&(1_u64 << 30).to_be_bytes()[..], &[0, 1], &[0; 124]].concat())
            .unwrap();
        let mut requests = [0; 3 * 28];
        channel.read_exact(&mut requests).unwrap();
        channel.write_all(b"\x67\x44\x66\x98\0\0\0\0UNKNOWN!").unwrap();
        channel
    });
    let client = AsyncClient::new(blocking(move || client(ours)).await).unwrap();
    let read = |offset| client.read(offset, AlignedBuf::zeroed(4096));
    let (first, second, third) = tokio::join!(read(0), read(4096), read(8192));
    for result in [first, second, third] {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, RequestError::Lost(why) if why.contains("never sent")),
            "{error}"
        );
    }
    assert!(
        matches!(read(0).await, Err(RequestError::Lost(_))),
        "and every later one"
    );
    assert!(client.close().await.is_err());
    drop(liar.await.unwrap());
}

/// Everything a client says, from the first byte on: it goes to `disk`, asks for 32 MiB, and says `last`.
fn asks_for_much(last: &[u8]) -> Vec<u8> {
    [
        &b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk"[..],
        &header(Command::Read, 1, 0, 32 << 20),
        last,
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_28_a_connection_that_is_over_is_not_kept_for_a_client_that_does_not_read() {
    let gated = Arc::new(GatedExport::default());
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", gated.clone())
        .build();
    let start = |last: &[u8], shut: bool| {
        let (mut ours, theirs) = pair();
        // All of it is there before the server looks, so it knows the end before it has the answer.
        ours.write_all(&asks_for_much(last)).unwrap();
        if shut {
            ours.shutdown(Shutdown::Write).unwrap();
        }
        let server = server.clone();
        let served = tokio::spawn(async move { server.serve_channel(theirs).await });
        (ours, served)
    };
    let (_left, left) = start(&header(Command::Disconnect, 0, 0, 0), false);
    let (_shut, shut) = start(&[], true);
    let (_garbled, garbled) = start(&[0x77; 28], false);
    gated.open();
    let end = async |served: Served| {
        let ended = tokio::time::timeout(Duration::from_secs(60), served).await;
        ended.expect("the connection is kept").unwrap()
    };
    for served in [left, shut] {
        let end = end(served).await;
        assert!(matches!(end, Err(ConnectionError::CloseTimeout(_))), "{end:?}");
    }
    let end = end(garbled).await;
    assert!(
        matches!(end, Err(ConnectionError::Requests(_))),
        "the first cause is told: {end:?}"
    );
}
