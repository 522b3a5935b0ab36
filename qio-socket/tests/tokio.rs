//! Connecting and accepting within tokio.
#![cfg(feature = "tokio")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use qio_channel::AsyncChannel;
use qio_socket::{
    AsyncListener, ConnectOptions, ListenOptions, Listener, SocketAddress, SocketError, connect_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn bind(addresses: &[SocketAddress]) -> AsyncListener {
    Listener::bind(addresses, &ListenOptions::default())
        .unwrap()
        .into_async()
        .unwrap()
}

#[tokio::test]
async fn echo_over_every_socket_of_a_listener() {
    let dir = tempfile::tempdir().unwrap();
    let mut listener = bind(&[
        SocketAddress::tcp("127.0.0.1", 0),
        SocketAddress::tcp("::1", 0),
        SocketAddress::unix(dir.path().join("s")),
    ]);
    let addresses: Vec<_> = listener.local_addresses().cloned().collect();
    let server = tokio::spawn(async move {
        for _ in 0..30 {
            let mut channel = AsyncChannel::new(listener.accept().await.unwrap()).unwrap();
            let mut text = [0; 4];
            channel.read_exact(&mut text).await.unwrap();
            channel.write_all(&text).await.unwrap();
        }
        listener
    });
    for round in 0..10_u32 {
        for address in &addresses {
            let channel = connect_async(address, &ConnectOptions::default()).await.unwrap();
            let mut channel = AsyncChannel::new(channel).unwrap();
            channel.write_all(&round.to_be_bytes()).await.unwrap();
            assert_eq!(channel.read_u32().await.unwrap(), round);
        }
    }
    let listener = server.await.unwrap();
    // And it can be taken back.
    let listener = listener.into_inner();
    assert!(listener.try_accept().unwrap().is_none());
}

#[tokio::test]
async fn names_are_looked_up_and_failures_listed() {
    let mut listener = bind(&[SocketAddress::tcp("localhost", 0)]);
    let SocketAddress::Inet(bound) = listener.local_addresses().next().unwrap() else {
        panic!()
    };
    let port: u16 = bound.port.parse().unwrap();
    let options = ConnectOptions::within(Duration::from_secs(60));
    let _client = connect_async(&SocketAddress::tcp("localhost", port), &options)
        .await
        .unwrap();
    listener.accept().await.unwrap();
    drop(listener);
    let error = connect_async(&SocketAddress::tcp("localhost", port), &options)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("127.0.0.1:{port}: Connection refused")),
        "{error}"
    );
    let error = connect_async(&SocketAddress::tcp("no-such-host.invalid", 1), &options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot look up the host"), "{error}");
    let error = connect_async(&SocketAddress::unix("/nonexistent/s"), &options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    let error = connect_async(&"vsock:2:1".parse().unwrap(), &options)
        .await
        .unwrap_err();
    assert!(matches!(error, SocketError::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn a_full_unix_queue_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let address = SocketAddress::unix(dir.path().join("s"));
    let listener = Listener::bind(std::slice::from_ref(&address), &ListenOptions { backlog: 0 }).unwrap();
    let mut held = Vec::new();
    let short = ConnectOptions::within(Duration::from_millis(20));
    let error = loop {
        match connect_async(&address, &short).await {
            Ok(channel) => held.push(channel),
            Err(error) => break error,
        }
        assert!(held.len() < 100, "the queue never filled");
    };
    assert!(matches!(error, SocketError::TimedOut { .. }), "{error}");
    let knocking = tokio::spawn(async move { connect_async(&address, &ConnectOptions::default()).await });
    for _ in 0..=held.len() {
        let accepting = poll_fn(|cx| match listener.try_accept().unwrap() {
            Some(channel) => Poll::Ready(channel),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        });
        accepting.await;
    }
    knocking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_connection() {
    let mut listener = bind(&[SocketAddress::tcp("127.0.0.1", 0)]);
    let address = listener.local_addresses().next().unwrap().clone();
    {
        let mut accept = pin!(listener.accept());
        let pending = poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
    }
    let client = connect_async(&address, &ConnectOptions::default()).await.unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(server.peer_address(), client.local_address());
}
