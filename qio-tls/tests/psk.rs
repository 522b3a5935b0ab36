//! Pre-shared keys: sessions without I/O and channels, both ends ours.
#![cfg(feature = "psk")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::io::{IoSlice, IoSliceMut};
use std::thread;
use std::time::Duration;

use qio_channel::testing::{Pair, stream_conformance};
use qio_channel::{BoxChannel, ChannelExt};
use qio_creds::{ClientCreds, Psk, PskIdentity, PskKey, PskUsers, ServerCreds, TlsCreds};
use qio_tls::{
    Handshake, HandshakeStep, Peer, PeerRole, ReadOutcome, Session, TlsChannel, TlsError, TlsHandshake,
    TlsVersion, Transport,
};
use support::{HOST, carry, good_creds, shake};

const LIMIT: Duration = Duration::from_secs(60);

fn user(name: &str, key: u8) -> PskIdentity {
    PskIdentity::new(name, PskKey::from_bytes(&[key; 32]).unwrap()).unwrap()
}

fn server(users: &[(&str, u8)]) -> ServerCreds {
    let users = PskUsers::new(users.iter().map(|(name, key)| user(name, *key))).unwrap();
    TlsCreds::from_psk(Some("server0"), Psk::server(users))
        .for_server()
        .unwrap()
}

fn client(name: &str, key: u8) -> ClientCreds {
    TlsCreds::from_psk(Some("client0"), Psk::client(user(name, key)))
        .for_client()
        .unwrap()
}

fn shaken(client: &ClientCreds, server: &ServerCreds, chunk: usize) -> support::Outcome {
    shake(
        Handshake::client(client, None).unwrap(),
        Handshake::server(server).unwrap(),
        chunk,
    )
}

fn established() -> (Session, Session) {
    shaken(
        &client("alice", 1),
        &server(&[("alice", 1), ("bob", 2)]),
        usize::MAX,
    )
    .both()
}

fn read(session: &mut Session, room: usize) -> Result<Vec<u8>, TlsError> {
    let mut data = vec![0; room];
    match session.readv(&mut [IoSliceMut::new(&mut data)])? {
        ReadOutcome::Data(n) => data.truncate(n),
        other => panic!("expected data, got {other:?}"),
    }
    Ok(data)
}

#[test]
fn both_ends_know_each_other_and_agree() {
    let (client, server) = established();
    assert_eq!(client.facts(), server.facts());
    assert_eq!(client.facts().version, TlsVersion::Tls13);
    assert_eq!(client.facts().group.as_deref(), Some("X25519"));
    let alice = Peer::Psk {
        identity: "alice".to_owned(),
    };
    assert_eq!((client.peer(), server.peer()), (&alice, &alice));
    assert_eq!(server.peer().verified_name(), Some("alice"));
}

/// AES is faster where the processor has instructions for it; OpenSSL alone would take ChaCha20.
#[test]
#[cfg(target_arch = "x86_64")]
fn aes_comes_before_chacha20_where_the_processor_has_aes() {
    let (client, _) = established();
    let wanted = if is_x86_feature_detected!("aes") {
        "TLS_AES_128_GCM_SHA256"
    } else {
        "TLS_CHACHA20_POLY1305_SHA256"
    };
    assert_eq!(client.facts().cipher_suite, wanted);
}

#[test]
fn a_name_is_not_needed_and_does_no_harm() {
    let server = server(&[("qemu", 9)]);
    shake(
        Handshake::client(&client("qemu", 9), Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
        usize::MAX,
    )
    .both();
}

/// ECDHE-PSK, both ways of being refused, and a goodbye, in the older protocol.
#[test]
fn tls_1_2_when_the_priority_says_so() {
    let priority =
        qio_creds::Priority::parse_for_psk("NORMAL:-VERS-TLS1.3", &qio_creds::PolicyFiles::new([])).unwrap();
    let old = |name: &str, key| {
        TlsCreds::from_psk(
            None,
            Psk::client(user(name, key)).with_priority(Some(priority.clone())),
        )
        .for_client()
        .unwrap()
    };
    let server = server(&[("alice", 1)]);
    let (mut near, mut far) = shaken(&old("alice", 1), &server, 7).both();
    assert_eq!(near.facts().version, TlsVersion::Tls12);
    assert_eq!(
        near.facts().cipher_suite,
        "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256"
    );
    assert_eq!(far.peer().verified_name(), Some("alice"));
    near.writev(&[IoSlice::new(b"x")]).unwrap();
    near.close().unwrap();
    while carry(&mut near, &mut far, usize::MAX) > 0 {}
    assert_eq!(read(&mut far, 9).unwrap(), b"x");
    assert_eq!(
        far.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap(),
        ReadOutcome::End
    );

    let mut told = Vec::new();
    for (name, key, known) in [("alice", 2, true), ("mallory", 1, false)] {
        let outcome = shaken(&old(name, key), &server, usize::MAX);
        let error = outcome.server.unwrap_err();
        assert!(
            matches!(error, TlsError::PskNotProven { known: k, .. } if k == known),
            "{error}"
        );
        match outcome.client.unwrap_err() {
            TlsError::PskRefused { alert, .. } => told.push(alert),
            other => panic!("{other}"),
        }
    }
    assert_eq!(told[0], told[1]);
}

/// hostile.md IO-26: a hello in pieces, down to single bytes.
#[test]
fn io_26_a_handshake_in_single_bytes() {
    for chunk in [1, 7, 100] {
        shaken(&client("alice", 1), &server(&[("alice", 1)]), chunk).both();
    }
}

/// decisions.md 11: whoever guesses names or keys learns nothing from the answer, byte for byte.
#[test]
fn an_unknown_user_and_a_wrong_key_look_alike() {
    let server = server(&[("alice", 1)]);
    let mut answers = Vec::new();
    for (name, key, known) in [("alice", 2, true), ("mallory", 1, false), ("mallory", 2, false)] {
        let outcome = shaken(&client(name, key), &server, usize::MAX);
        match outcome.server.unwrap_err() {
            TlsError::PskNotProven {
                identity,
                known: told,
            } => {
                assert_eq!((identity.as_str(), told), (name, known));
            }
            other => panic!("{other}"),
        }
        let error = outcome.client.unwrap_err();
        assert!(
            matches!(&error, TlsError::PskRefused { username, .. } if username == name),
            "{error}"
        );
        assert!(error.to_string().contains("decrypt_error (51)"), "{error}");

        let mut from = Handshake::client(&client(name, key), None).unwrap();
        let mut to = Handshake::server(&server).unwrap();
        from.step().unwrap();
        while carry(&mut from, &mut to, usize::MAX) > 0 {}
        to.step().unwrap_err();
        assert!(to.step().is_err(), "the error stays");
        answers.push(to.to_send().to_vec());
    }
    assert!(!answers[0].is_empty());
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // The next one is served.
    shaken(&client("alice", 1), &server, usize::MAX).both();
}

#[test]
fn what_a_client_calls_itself_is_told_without_tricks() {
    let long = "\u{1b}[31m".repeat(50);
    let error = shaken(&client(&long, 1), &server(&[("alice", 1)]), usize::MAX)
        .server
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\u{1b}') && error.contains("..."), "{error}");
    assert!(error.len() < 700, "{}", error.len());
}

/// CRED-17 for keys: a peer is only who the key says. OpenSSL without verification connects here.
#[test]
fn cred_17_a_server_that_answers_with_a_certificate_is_refused() {
    let (_, certificates) = good_creds();
    let outcome = shake(
        Handshake::client(&client("alice", 1), None).unwrap(),
        Handshake::server(&certificates).unwrap(),
        usize::MAX,
    );
    let error = outcome.client.unwrap_err();
    assert!(
        matches!(&error, TlsError::PskIgnored { username } if username == "alice")
            || matches!(&error, TlsError::PskRefused { .. }),
        "{error}"
    );
    assert!(outcome.server.is_err());
}

#[test]
fn a_client_with_a_certificate_is_told_what_is_missing() {
    let (certificates, _) = good_creds();
    let outcome = shake(
        Handshake::client(&certificates, Some(HOST)).unwrap(),
        Handshake::server(&server(&[("alice", 1)])).unwrap(),
        usize::MAX,
    );
    let error = outcome.server.unwrap_err();
    assert!(matches!(error, TlsError::NoPskOffered), "{error}");
    assert!(matches!(
        outcome.client.unwrap_err(),
        TlsError::AlertReceived { .. }
    ));
}

/// CRED-06: nothing that a client could come back with is ever sent.
#[test]
fn cred_06_no_tickets() {
    let (mut client, mut server) = established();
    assert!(server.to_send().is_empty(), "not even behind the handshake");
    server.writev(&[IoSlice::new(b"x")]).unwrap();
    assert_eq!(
        server.to_send().len(),
        5 + 1 + 1 + 16,
        "one record, and nothing before it"
    );
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    assert_eq!(read(&mut client, 10).unwrap(), b"x");
    assert!(!client.facts().resumed && !server.facts().resumed);
}

/// hostile.md IO-23: the peer leaves after any number of bytes; exactly one error, nothing else.
#[test]
fn io_23_a_peer_that_leaves_in_the_middle() {
    let (client_creds, server_creds) = (client("alice", 1), server(&[("alice", 1)]));
    for after in 0..600 {
        let mut client = Handshake::client(&client_creds, None).unwrap();
        let mut server = Handshake::server(&server_creds).unwrap();
        let mut carried = 0;
        while carried < after {
            let _ = (client.step(), server.step());
            let n = carry(&mut client, &mut server, after - carried);
            carried += n;
            if n + carry(&mut server, &mut client, usize::MAX) == 0 {
                break;
            }
        }
        server.received_end();
        match server.step() {
            Err(error) => assert!(
                matches!(error, TlsError::HandshakeCut { .. }),
                "after {after}: {error}"
            ),
            Ok(step) => assert!(
                matches!(step, HandshakeStep::Done | HandshakeStep::Send),
                "after {after}"
            ),
        }
    }
}

#[test]
fn clear_text_is_not_tls() {
    let creds = server(&[("alice", 1)]);
    for text in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"IHAVEOPT\0\0\0\x07",
        b"RFB 003.008\n",
        &[0xff; 64],
    ] {
        let mut server = Handshake::server(&creds).unwrap();
        server.receive_space()[..text.len()].copy_from_slice(text);
        server.received(text.len());
        let error = server.step().unwrap_err();
        assert!(
            matches!(
                error,
                TlsError::NotTls {
                    role: PeerRole::Client
                }
            ),
            "{error}"
        );
    }
}

/// hostile.md IO-28 and the budgets: what an unauthenticated peer can make us hold is bounded.
#[test]
fn a_handshake_that_never_ends_is_ended() {
    let mut server = Handshake::server(&server(&[("alice", 1)])).unwrap();
    let mut record = vec![22, 3, 3, 0x40, 0];
    record.resize(5 + 0x4000, 0);
    record[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    let mut sent = 0usize;
    let error = loop {
        let space = server.receive_space();
        let n = space.len().min(record.len());
        space[..n].copy_from_slice(&record[..n]);
        server.received(n);
        sent += n;
        match server.step() {
            Ok(_) => assert!(sent < 200 << 10, "it goes on listening"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            TlsError::HandshakeTooLong { .. } | TlsError::Misbehaved { .. }
        ),
        "{error}"
    );
}

#[test]
fn data_goes_through_both_ways_at_once() {
    let (mut client, mut server) = established();
    let data: Vec<u8> = (0..60_000u32)
        .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
        .collect();
    assert_eq!(server.writev(&[IoSlice::new(&data)]).unwrap(), data.len());
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    // The client writes while records it has not read wait for it.
    assert_eq!(client.writev(&[IoSlice::new(&data)]).unwrap(), data.len());
    while carry(&mut client, &mut server, 999) > 0 {}
    assert_eq!(read(&mut client, 100_000).unwrap(), data);
    let mut got = Vec::new();
    while got.len() < data.len() {
        got.extend(read(&mut server, 777).unwrap());
    }
    assert_eq!(got, data);
}

#[test]
fn a_reader_that_stays_away_stops_the_writer() {
    let (mut client, _server) = established();
    let data = vec![0; 1 << 20];
    assert_eq!(client.writev(&[IoSlice::new(&data)]).unwrap(), 64 << 10);
    assert_eq!(client.writev(&[IoSlice::new(&data)]).unwrap(), 0);
    assert!(client.to_send().len() < 70 << 10);
}

/// hostile.md IO-20: an end is an end only if the peer said so. QEMU says nothing after NBD_CMD_DISC.
#[test]
fn io_20_goodbye_and_truncation_are_told_apart() {
    let (mut client, mut server) = established();
    client.writev(&[IoSlice::new(b"all of it")]).unwrap();
    client.close().unwrap();
    assert_eq!(client.writev(&[IoSlice::new(b"more")]).unwrap(), 0);
    while carry(&mut client, &mut server, usize::MAX) > 0 {}
    server.received_end();
    assert_eq!(read(&mut server, 100).unwrap(), b"all of it");
    for _ in 0..2 {
        let end = server.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap();
        assert_eq!(end, ReadOutcome::End);
    }
    // Half-closed: the other direction goes on.
    server.writev(&[IoSlice::new(b"thanks")]).unwrap();
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    assert_eq!(read(&mut client, 100).unwrap(), b"thanks");

    let (mut client, mut server) = established();
    client.writev(&[IoSlice::new(b"half of i")]).unwrap();
    while carry(&mut client, &mut server, usize::MAX) > 0 {}
    server.received_end();
    assert_eq!(read(&mut server, 100).unwrap(), b"half of i");
    let error = server.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap_err();
    assert!(matches!(error, TlsError::Truncated { .. }), "{error}");
}

#[test]
fn a_damaged_record_breaks_the_session_for_good() {
    let (mut client, mut server) = established();
    client.writev(&[IoSlice::new(b"genuine")]).unwrap();
    let mut record = client.to_send().to_vec();
    *record.last_mut().unwrap() ^= 1;
    server.receive_space()[..record.len()].copy_from_slice(&record);
    server.received(record.len());
    for _ in 0..2 {
        let error = server.readv(&mut [IoSliceMut::new(&mut [0; 99])]).unwrap_err();
        assert!(matches!(error, TlsError::Misbehaved { .. }), "{error}");
    }
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    let error = client.readv(&mut [IoSliceMut::new(&mut [0; 99])]).unwrap_err();
    assert!(error.to_string().contains("bad_record_mac"), "{error}");
}

fn sockets() -> (BoxChannel, BoxChannel) {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    (
        Box::new(qio_socket::SocketChannel::from_fd(a.into()).unwrap()),
        Box::new(qio_socket::SocketChannel::from_fd(b.into()).unwrap()),
    )
}

fn connect(client: &ClientCreds, server: &ServerCreds) -> (TlsChannel<BoxChannel>, TlsChannel<BoxChannel>) {
    let (near, far) = sockets();
    let server = TlsHandshake::server(far, server).unwrap();
    let accepting = thread::spawn(move || server.complete(LIMIT).expect("the server's side"));
    let client = TlsHandshake::client(near, client, None).unwrap().complete(LIMIT);
    (client.expect("the client's side"), accepting.join().unwrap())
}

#[test]
fn a_channel_over_sockets_conforms() {
    let (client, server) = (client("alice", 1), server(&[("alice", 1)]));
    stream_conformance(|| {
        let (near, far) = connect(&client, &server);
        Pair::duplex(Box::new(near), Box::new(far))
    });
}

/// One of ten thousand users is found like the only one.
#[test]
fn ten_thousand_users() {
    let users = (0..10_000).map(|n| user(&format!("user{n}"), u8::try_from(n % 200).unwrap()));
    let users = TlsCreds::from_psk(None, Psk::server(PskUsers::new(users).unwrap()))
        .for_server()
        .unwrap();
    for n in [0, 4_711, 9_999] {
        let name = format!("user{n}");
        let (_, server) = shaken(&client(&name, u8::try_from(n % 200).unwrap()), &users, usize::MAX).both();
        assert_eq!(server.peer().verified_name(), Some(name.as_str()));
    }
    let wrong = shaken(&client("user5", 6), &users, usize::MAX)
        .server
        .unwrap_err();
    assert!(
        matches!(wrong, TlsError::PskNotProven { known: true, .. }),
        "{wrong}"
    );
}

/// The keys in force are those of the moment when a handshake begins.
#[test]
fn a_reload_counts_for_the_next_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.psk");
    let write = |text: &str| {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let _ = std::fs::remove_file(&file);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let key = |byte: u8| format!("{byte:02x}").repeat(32);
    write(&format!("alice:{}\nbob:{}\n", key(1), key(2)));
    let creds = TlsCreds::load_psk(
        qio_creds::TlsCredsPskOptions::server(dir.path()),
        qio_creds::KeyPermissions::Private,
    )
    .unwrap();
    let server = creds.for_server().unwrap();
    let (bob, alice) = (client("bob", 2), client("alice", 1));
    shaken(&bob, &server, usize::MAX).both();
    let begun = Handshake::server(&server).unwrap();
    write(&format!("alice:{}\n", key(1)));
    creds.reload().unwrap();
    shake(Handshake::client(&bob, None).unwrap(), begun, usize::MAX).both();
    assert!(shaken(&bob, &server, usize::MAX).server.is_err());
    write("nonsense\n");
    creds.reload().unwrap_err();
    shaken(&alice, &server, usize::MAX).both();
}

#[test]
fn data_through_channels() {
    let (mut near, mut far) = connect(&client("alice", 1), &server(&[("alice", 1)]));
    near.write_all(b"hello").unwrap();
    let mut data = [0; 5];
    far.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"hello");
    assert_eq!(far.peer().verified_name(), Some("alice"));
}

/// Lets one user in.
#[derive(Debug)]
struct Only(&'static str);

impl qio_authz::Authorizer for Only {
    fn is_allowed(&self, identity: &str) -> Result<bool, qio_authz::AuthzError> {
        Ok(identity == self.0)
    }
}

/// Access lists know users by their names; whoever is not let in hears access_denied, as with certificates.
#[test]
fn a_user_may_be_known_and_not_let_in() {
    let server = server(&[("alice", 1), ("bob", 2)]);
    for (name, key, allowed) in [("alice", 1, true), ("bob", 2, false)] {
        let (near, far) = sockets();
        let far = TlsHandshake::server(far, &server)
            .unwrap()
            .with_authorizer(std::sync::Arc::new(Only("alice")));
        let accepting = thread::spawn(move || {
            let mut channel = far.complete(LIMIT)?;
            channel.write_all(b"welcome").unwrap();
            Ok::<_, TlsError>(())
        });
        let mut near = TlsHandshake::client(near, &client(name, key), None)
            .unwrap()
            .complete(LIMIT)
            .unwrap();
        let mut text = [0; 7];
        let read = near.read_exact(&mut text);
        match (allowed, accepting.join().unwrap()) {
            (true, Ok(())) => read.unwrap(),
            (false, Err(error)) => {
                assert!(error.to_string().contains("\"bob\" is not authorized"), "{error}");
                assert!(read.unwrap_err().to_string().contains("access_denied"));
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}
