//! Who is verified, and still not let in (decisions.md 9; hostile.md CRED-28, RFBA-13's rule).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::io::IoSliceMut;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use qio_authz::{Authorizer, AuthzError};
use qio_channel::{BoxChannel, ChannelExt};
use qio_creds::{Endpoint, TlsCreds};
use qio_tls::{Handshake, HandshakeStep, Progress, TlsError, TlsHandshake, Verdict};
use support::{HOST, authority, carry, good_creds, server_template};

const LIMIT: Duration = Duration::from_secs(60);

/// Lets one identity in, and remembers whom it was asked about.
#[derive(Debug, Default)]
struct Only {
    identity: String,
    asked: Mutex<Vec<String>>,
}

impl Authorizer for Only {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        self.asked.lock().unwrap().push(identity.to_owned());
        Ok(identity == self.identity)
    }
}

/// Knows nobody, and says why.
#[derive(Debug)]
struct Broken;

impl Authorizer for Broken {
    fn is_allowed(&self, _identity: &str) -> Result<bool, AuthzError> {
        Err(AuthzError::Other("the directory is down".into()))
    }
}

/// Runs both sides until the server has to ask.
fn up_to_authorization(client: &mut Handshake, server: &mut Handshake) {
    for _ in 0..100 {
        let _ = client.step().unwrap();
        if server.step().unwrap() == HandshakeStep::Authorize {
            return;
        }
        carry(client, server, usize::MAX);
        carry(server, client, usize::MAX);
    }
    panic!("nobody asked");
}

#[test]
fn nothing_is_established_before_the_answer() {
    let (client_creds, server_creds) = good_creds();
    let mut client = Handshake::client(&client_creds, Some(HOST)).unwrap();
    let mut server = Handshake::server(&server_creds).unwrap().with_authorization();
    assert!(server.peer().is_none(), "nobody is verified yet");
    up_to_authorization(&mut client, &mut server);
    assert_eq!(server.peer().unwrap().verified_name(), Some("CN=tester"));
    // Asking for the session instead of answering gets nowhere.
    let server = *server.into_session().expect_err("no session before the answer");
    let mut server = server.decide(Verdict::Allowed);
    assert_eq!(server.step().unwrap(), HandshakeStep::Done);
    server.into_session().expect("an answered handshake");
}

#[test]
fn a_refused_peer_reads_access_denied() {
    let (client_creds, server_creds) = good_creds();
    let mut client = Handshake::client(&client_creds, Some(HOST)).unwrap();
    let mut server = Handshake::server(&server_creds).unwrap().with_authorization();
    up_to_authorization(&mut client, &mut server);
    let mut server = server.decide(Verdict::Denied {
        why: Some("not today".to_owned()),
    });
    for _ in 0..2 {
        let error = server.step().unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, TlsError::NotAuthorized { .. }), "{text}");
        assert!(text.contains("CN=tester") && text.contains("not today"), "{text}");
    }
    assert!(client.step().is_ok());
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    let error = match client.step() {
        Err(error) => error,
        Ok(_) => {
            let mut session = client
                .into_session()
                .expect("a TLS 1.3 client is done before it is judged");
            session.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap_err()
        }
    };
    assert!(error.to_string().contains("access_denied"), "{error}");
    assert!(
        server.decide(Verdict::Allowed).into_session().is_err(),
        "a refusal cannot be taken back"
    );
}

/// With verify-peer=off there is no identity that an access list could know: QEMU skips the list, we refuse.
#[test]
fn a_peer_without_a_verified_identity_is_refused() {
    let ca = authority("Test CA");
    let server_creds = TlsCreds::builder(Endpoint::Server)
        .verify_peer(false)
        .ca([ca.certificate().clone()])
        .identity(ca.issue(&server_template()).unwrap().into_identity())
        .build()
        .unwrap()
        .for_server()
        .unwrap();
    let client_creds = support::client_creds(None, &[&ca]);
    let mut client = Handshake::client(&client_creds, Some(HOST)).unwrap();
    let mut server = Handshake::server(&server_creds).unwrap().with_authorization();
    up_to_authorization(&mut client, &mut server);
    let mut server = server.decide(Verdict::Allowed);
    assert!(matches!(server.step(), Err(TlsError::NotAuthorized { .. })));
}

fn sockets() -> (BoxChannel, BoxChannel) {
    let (a, b) = UnixStream::pair().unwrap();
    (
        Box::new(qio_socket::SocketChannel::from_fd(a.into()).unwrap()),
        Box::new(qio_socket::SocketChannel::from_fd(b.into()).unwrap()),
    )
}

#[test]
fn blocking_drivers_ask_the_authorizer() {
    let (client_creds, server_creds) = good_creds();
    for (identity, allowed) in [("CN=tester", true), ("CN=teste", false), ("", false)] {
        let only = Arc::new(Only {
            identity: identity.to_owned(),
            ..Only::default()
        });
        let (near, far) = sockets();
        let server = TlsHandshake::server(far, &server_creds)
            .unwrap()
            .with_authorizer(only.clone());
        let accepting = thread::spawn(move || {
            let mut channel = server.complete(LIMIT)?;
            channel.write_all(b"welcome").unwrap();
            Ok::<_, TlsError>(())
        });
        let mut near = TlsHandshake::client(near, &client_creds, Some(HOST))
            .unwrap()
            .complete(LIMIT)
            .unwrap();
        let mut text = [0; 7];
        let read = near.read_exact(&mut text);
        assert_eq!(*only.asked.lock().unwrap(), ["CN=tester"]);
        match (allowed, accepting.join().unwrap()) {
            (true, Ok(())) => read.unwrap(),
            (false, Err(error)) => {
                assert!(error.to_string().contains("is not authorized"), "{error}");
                assert!(read.unwrap_err().to_string().contains("access_denied"));
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_authorizer_that_fails_lets_nobody_in() {
    let (client_creds, server_creds) = good_creds();
    let (near, far) = sockets();
    let server = TlsHandshake::server(far, &server_creds)
        .unwrap()
        .with_authorizer(Arc::new(Broken));
    let accepting = thread::spawn(move || server.complete(LIMIT).map(drop));
    let _client = TlsHandshake::client(near, &client_creds, Some(HOST))
        .unwrap()
        .complete(LIMIT)
        .unwrap();
    drop(_client);
    let error = accepting.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("the directory is down"), "{error}");
}

#[test]
fn event_loops_ask_wherever_they_like() {
    let (client_creds, server_creds) = good_creds();
    let (near, mut far) = sockets();
    far.set_blocking(false).unwrap();
    let only = Arc::new(Only {
        identity: "CN=tester".to_owned(),
        ..Only::default()
    });
    let mut server = TlsHandshake::server(far, &server_creds)
        .unwrap()
        .with_authorizer(only);
    assert!(server.question().is_none(), "nobody is verified yet");
    let client = thread::spawn(move || {
        TlsHandshake::client(near, &client_creds, Some(HOST))
            .unwrap()
            .complete(LIMIT)
            .map(drop)
    });
    loop {
        match server.step().unwrap() {
            Progress::Pending => qio_channel::wait(server.readiness(), None).unwrap(),
            Progress::Authorize => {
                let question = server.question().expect("a question");
                let verdict = thread::spawn(move || question.ask()).join().unwrap();
                server = server.decide(verdict);
            }
            Progress::Done => break,
        }
    }
    server.finish().expect("it is done");
    client.join().unwrap().unwrap();
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn futures_ask_on_a_thread_that_may_block() {
    let (client_creds, server_creds) = good_creds();
    for (identity, allowed) in [("CN=tester", true), ("CN=other", false)] {
        let only = Arc::new(Only {
            identity: identity.to_owned(),
            ..Only::default()
        });
        let (near, far) = sockets();
        let server = TlsHandshake::server(far, &server_creds)
            .unwrap()
            .with_authorizer(only);
        let accepting = tokio::spawn(async move { server.complete_async(LIMIT).await.map(drop) });
        let near = TlsHandshake::client(near, &client_creds, Some(HOST)).unwrap();
        let near = near.complete_async(LIMIT).await.unwrap();
        let mut near = qio_channel::AsyncChannel::new(near).unwrap();
        let mut space = [0; 4];
        let read = near.readv(&mut [IoSliceMut::new(&mut space)]).await.unwrap_err();
        assert_eq!(accepting.await.unwrap().is_ok(), allowed);
        // An admitted one only finds that the server has gone.
        assert_eq!(read.to_string().contains("access_denied"), !allowed, "{read}");
    }
}
