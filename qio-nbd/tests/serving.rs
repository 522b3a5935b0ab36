//! Our server and our clients against each other, over socket pairs and loopback.

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

use qio_channel::ChannelExt;
use qio_nbd::buffer::AlignedBuf;
use qio_nbd::client::{AsyncClient, ClientError, ConnectOptions, RequestError, Session};
use qio_nbd::export::{Durability, Export, OpenOptions, ZeroMode};
use qio_nbd::facts::ReplyMode;
use qio_nbd::server::{ConnectionEnd, Lifetime, Limits, Server};
use qio_nbd::wire::{Command, CommandFlags, Cookie, ErrorNumber, RequestHeader, SimpleReplyHeader};

use support::*;

/// Within this, what is to happen has happened, or never will.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_client_can_ask_for() {
    let (builder, disk) = builder();
    let server = builder.build();
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut client = client(channel);
        assert_eq!(client.replies(), ReplyMode::Structured);
        assert_eq!(
            (client.export().size, &*client.export().description),
            (SIZE as u64, "a disk")
        );
        for (offset, length) in [(0, 1), (1, 511), (4095, 70_000), (0, SIZE), (SIZE - 1, 1), (5, 0)] {
            let mut buf = vec![0xaa; length];
            client.read_at(&mut buf, offset as u64).unwrap();
            assert!(buf == pattern(offset, length), "{offset}+{length}");
        }
        for length in [1, 28, 4095, 4096, 4097, 300_000] {
            let data: Vec<u8> = (0..length).map(|i| (i % 253) as u8 + 1).collect();
            client.write_at(&data, 12_345, Durability::Forced).unwrap();
            let mut buf = vec![0; length];
            client.read_at(&mut buf, 12_345).unwrap();
            assert!(buf == data, "{length}");
        }
        client
            .write_zeroes(20_000, 100_000, ZeroMode::MayPunch, Durability::Buffered)
            .unwrap();
        client
            .write_zeroes(12_345, 5, ZeroMode::Allocate, Durability::Forced)
            .unwrap();
        client.trim(0, SIZE as u64, Durability::Buffered).unwrap();
        client.flush().unwrap();
        client.disconnect().unwrap();
    })
    .await;
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Disconnected);
    let mut zeroed = vec![1; 100_000];
    disk.read_at(&mut zeroed, 20_000).unwrap();
    assert!(zeroed.iter().all(|byte| *byte == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn list_info_and_refusals() {
    let (builder, _) = builder();
    let server = builder.build();
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut session = Session::over(channel, None, &ConnectOptions::default()).unwrap();
        let exports = session.list().unwrap();
        assert_eq!(
            (exports.len(), exports[0].name.as_str(), &*exports[0].description),
            (1, "disk", "a disk")
        );
        assert_eq!(session.info(&"disk".parse().unwrap()).unwrap().size, SIZE as u64);
        let error = session.info(&"other".parse().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("no such export") && error.contains("'other' not present"),
            "{error}"
        );
        let error = session.go(&"".parse().unwrap()).unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
    })
    .await;
    let error = served.await.unwrap().unwrap_err().to_string();
    assert!(
        error.contains("export '' not present"),
        "the log says what the client left over: {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_export_stands_in_for_the_empty_name() {
    let (builder, _) = builder();
    let server = builder.default_export("disk".parse().unwrap()).build();
    let (channel, _served) = serve_one(&server);
    blocking(move || {
        let session = Session::over(channel, None, &ConnectOptions::default()).unwrap();
        let mut client = session.go(&"".parse().unwrap()).unwrap();
        let mut buf = [0; 4];
        client.read_at(&mut buf, 0).unwrap();
        assert_eq!(buf, pattern(0, 4)[..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_are_refused_and_the_connection_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, pattern(0, 1 << 20)).unwrap();
    let export = Arc::new(OpenOptions::new().read_only(true).open(&path).unwrap());
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", export)
        .build();
    let (channel, _served) = serve_one(&server);
    blocking(move || {
        let mut client = client(channel);
        assert!(matches!(
            client.write_at(&[1], 0, Durability::Buffered),
            Err(RequestError::ReadOnly)
        ));
        assert!(matches!(
            client.read_at(&mut [0; 2], (1 << 20) - 1),
            Err(RequestError::PastEnd { .. })
        ));
        let mut buf = vec![0; 1 << 20];
        client.read_at(&mut buf, 0).unwrap();
        assert!(buf == pattern(0, 1 << 20));
    })
    .await;

    // The same from a client that does not check: the server has to.
    let (channel, _served) = serve_one(&server);
    blocking(move || {
        let mut channel = raw_client(channel);
        let request = |command, cookie, offset, length| {
            RequestHeader {
                flags: CommandFlags::empty(),
                command,
                cookie: Cookie(cookie),
                offset,
                length,
            }
            .encode()
        };
        let mut stream = request(Command::Write, 1, 0, 5000).to_vec();
        stream.extend([0x25; 5000]);
        stream.extend(request(Command::Read, 2, u64::MAX, 2));
        stream.extend(request(Command::Trim, 3, 0, 512));
        stream.extend(request(Command::Other(77), 4, 0, 0));
        stream.extend(request(Command::Flush, 5, 0, 0));
        channel.write_all(&stream).unwrap();
        let mut answers = vec![];
        for _ in 0..5 {
            let mut reply = [0; 16];
            channel.read_exact(&mut reply).unwrap();
            let reply = SimpleReplyHeader::decode(&reply).unwrap();
            answers.push((reply.cookie.0, reply.error));
        }
        answers.sort_by_key(|(cookie, _)| *cookie);
        assert_eq!(
            answers,
            [
                (1, Some(ErrorNumber::NotPermitted)),
                (2, Some(ErrorNumber::Invalid)),
                (3, Some(ErrorNumber::NotPermitted)),
                (4, Some(ErrorNumber::Invalid)),
                (5, None)
            ]
        );
    })
    .await;
}

/// A client that chose `disk` by EXPORT_NAME, without structured replies, and says what it likes.
fn raw_client(mut channel: qio_channel::BoxChannel) -> qio_channel::BoxChannel {
    let mut greeting = [0; 18];
    channel.read_exact(&mut greeting).unwrap();
    channel
        .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk")
        .unwrap();
    let mut reply = [0; 10];
    channel.read_exact(&mut reply).unwrap();
    channel
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_come_out_of_order() {
    let gated = Arc::new(GatedExport::default());
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", gated.clone())
        .build();
    let (channel, served) = serve_one(&server);
    let client = AsyncClient::new(blocking(move || client(channel)).await).unwrap();
    let mut slow = Box::pin(client.read(0, AlignedBuf::zeroed(512)));
    for _ in 0..50 {
        tokio::select! {
            biased;
            _ = &mut slow => panic!("the gate is closed"),
            fast = client.read(4096, AlignedBuf::zeroed(4096)) => assert!(fast.unwrap().iter().all(|byte| *byte == 7)),
        }
    }
    gated.open();
    let _ = slow.await.unwrap();
    client.close().await.unwrap();
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Disconnected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_waits_for_what_is_in_flight() {
    let gated = Arc::new(GatedExport::default());
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", gated.clone())
        .build();
    let (channel, served) = serve_one(&server);
    let reader = tokio::task::spawn_blocking(move || {
        let mut channel = raw_client(channel);
        let request = |command, cookie, length| {
            RequestHeader {
                flags: CommandFlags::empty(),
                command,
                cookie: Cookie(cookie),
                offset: 0,
                length,
            }
            .encode()
        };
        let stream = [
            request(Command::Read, 1, 100_000),
            request(Command::Disconnect, 0, 0),
        ]
        .concat();
        channel.write_all(&stream).unwrap();
        let mut reply = vec![0; 16 + 100_000];
        channel.read_exact(&mut reply).unwrap();
        assert_eq!(
            channel.read(&mut [0; 1]).unwrap(),
            0,
            "closed after the last reply"
        );
    });
    while gated.started.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!served.is_finished());
    gated.open();
    reader.await.unwrap();
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Disconnected);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_export_are_told_in_words() {
    let server = Server::builder()
        .export("disk".parse().unwrap(), "", Arc::new(GatedExport::default()))
        .build();
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut client = client(channel);
        let error = client.write_at(&[0; 512], 0, Durability::Buffered).unwrap_err();
        assert!(
            matches!(
                error,
                RequestError::Server {
                    error: ErrorNumber::NoSpace,
                    ..
                }
            ),
            "{error}"
        );
        let error = client
            .write_zeroes(0, 512, ZeroMode::MayPunch, Durability::Buffered)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the disk is on fire"), "{error}");
        // A panic in the export ends this connection, and says so; nothing hangs.
        let error = client.write_at(&[0; 1], 666, Durability::Buffered).unwrap_err();
        assert!(matches!(error, RequestError::Lost(_)), "{error}");
        assert!(
            matches!(client.flush(), Err(RequestError::Lost(_))),
            "lost for good"
        );
    })
    .await;
    assert!(
        served
            .await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("failed to serve")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_mix_in_flight_equals_a_model() {
    let (builder, disk) = builder();
    let server = builder.build();
    let (channel, _served) = serve_one(&server);
    let client = AsyncClient::new(blocking(move || client(channel)).await).unwrap();
    let mut model = pattern(0, SIZE);
    let mut seed = 1_u64;
    let mut random = move |limit: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % limit
    };
    for round in 0..200_usize {
        // Requests of one round touch parts of their own, so that their order does not matter.
        const PARTS: usize = 16;
        let part = SIZE / PARTS;
        let client = &client;
        let mut work = vec![];
        for index in 0..PARTS {
            let start = index * part + random(part / 2);
            let length = 1 + random(part / 2);
            let kind = random(4);
            match kind {
                0 => model[start..start + length].fill(round as u8),
                1 => model[start..start + length].fill(0),
                _ => {}
            }
            let expected = model[start..start + length].to_vec();
            work.push(async move {
                let offset = start as u64;
                match kind {
                    0 => {
                        let mut buffer = AlignedBuf::zeroed(length);
                        buffer.fill(round as u8);
                        let _ = client.write(offset, buffer, Durability::Buffered).await.unwrap();
                    }
                    1 => client
                        .write_zeroes(offset, length as u64, ZeroMode::MayPunch, Durability::Buffered)
                        .await
                        .unwrap(),
                    2 => client.flush().await.unwrap(),
                    _ => {
                        let buffer = client.read(offset, AlignedBuf::zeroed(length)).await.unwrap();
                        assert!(*buffer == *expected, "round {round}, {start}+{length}");
                    }
                }
            });
        }
        join_all(work).await;
    }
    client.close().await.unwrap();
    let mut contents = vec![0; SIZE];
    disk.read_at(&mut contents, 0).unwrap();
    assert!(contents == model);
}

/// Polls all futures until all are done.
async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for slot in &mut futures {
            if let Some(future) = slot {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(()) => *slot = None,
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_when_its_last_client_has_left() {
    let (builder, _) = builder();
    let server = builder.lifetime(Lifetime::UntilIdle).build();
    let (listener, address) = listen();
    let serving = tokio::spawn(async move { server.serve(listener).await });
    blocking(move || {
        // Looking at the list is not being a client.
        let mut session = Session::connect(&address, &ConnectOptions::default()).unwrap();
        session.list().unwrap();
        session.abort();
        let connect = || {
            Session::connect(&address, &ConnectOptions::default())
                .unwrap()
                .go(&"disk".parse().unwrap())
                .unwrap()
        };
        let (first, second) = (connect(), connect());
        first.disconnect().unwrap();
        second.disconnect().unwrap();
    })
    .await;
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_when_the_last_to_leave_was_no_client() {
    let (builder, _) = builder();
    let server = builder.lifetime(Lifetime::UntilIdle).build();
    let (listener, address) = listen();
    let serving = tokio::spawn(async move { server.serve(listener).await });
    blocking(move || {
        let connect = || qio_socket::connect(&address, &qio_socket::ConnectOptions::default()).unwrap();
        let mut looking = Session::over(Box::new(connect()), None, &ConnectOptions::default()).unwrap();
        let mut channel = raw_client(Box::new(connect()));
        let goodbye = RequestHeader {
            flags: CommandFlags::empty(),
            command: Command::Disconnect,
            cookie: Cookie(0),
            offset: 0,
            length: 0,
        };
        channel.write_all(&goodbye.encode()).unwrap();
        assert_eq!(channel.read(&mut [0; 1]).unwrap(), 0, "the server has heard it");
        looking.list().unwrap();
        looking.abort();
    })
    .await;
    let ended = tokio::time::timeout(PATIENCE, serving).await;
    ended
        .expect("the server goes on without clients")
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_beyond_the_end_of_time_is_none() {
    let (builder, _) = builder();
    let limits = Limits {
        handshake_timeout: Some(Duration::MAX),
        ..Limits::default()
    };
    let server = builder.limits(limits).build();
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let options = ConnectOptions {
            timeout: Duration::MAX,
            ..ConnectOptions::default()
        };
        let session = Session::over(channel, None, &options).unwrap();
        let client = session.go(&"disk".parse().unwrap()).unwrap();
        client.disconnect().unwrap();
    })
    .await;
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Disconnected);
}
