//! Handshakes and sessions without any I/O.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::io::{IoSlice, IoSliceMut};

use qio_creds::pki::{Authority, AuthorityTemplate, Name, Purpose, Template, Validity};
use qio_creds::{Endpoint, TlsCreds};
use qio_tls::{
    CertificateProblem, Handshake, HandshakeStep, Peer, PeerRole, ReadOutcome, Session, TlsError, TlsVersion,
    Transport,
};
use support::{
    HOST, authority, carry, client_creds, client_template, good_creds, server_creds, server_template, shake,
};
use time::{Duration, OffsetDateTime};

fn established() -> (Session, Session) {
    let (client, server) = good_creds();
    shake(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
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
    assert_eq!(client.facts().group.as_deref(), Some("X25519MLKEM768"));
    assert_eq!(server.peer().verified_name(), Some("CN=tester"));
    assert!(matches!(client.peer(), Peer::Verified(certificate) if certificate.subject().contains(HOST)));
}

/// hostile.md IO-26: a hello in pieces, down to single bytes.
#[test]
fn io_26_a_handshake_in_single_bytes() {
    let (client, server) = good_creds();
    for chunk in [1, 7, 100] {
        shake(
            Handshake::client(&client, Some(HOST)).unwrap(),
            Handshake::server(&server).unwrap(),
            chunk,
        )
        .both();
    }
}

/// hostile.md IO-23: the peer leaves after any number of bytes; exactly one error, nothing else.
#[test]
fn io_23_a_peer_that_leaves_in_the_middle() {
    let (client_creds, server_creds) = good_creds();
    for after in (0..4000).step_by(61) {
        let mut client = Handshake::client(&client_creds, Some(HOST)).unwrap();
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
            Err(error) => {
                assert!(
                    matches!(error, TlsError::HandshakeCut { .. }),
                    "after {after}: {error}"
                );
                assert!(server.step().is_err());
            }
            Ok(step) => assert!(
                matches!(step, HandshakeStep::Done | HandshakeStep::Send),
                "after {after}"
            ),
        }
    }
}

/// hostile.md MIG-09, NBDC-14: clear text is noticed at its first bytes.
#[test]
fn clear_text_is_not_tls() {
    let (_, creds) = good_creds();
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
    let (_, creds) = good_creds();
    let mut server = Handshake::server(&creds).unwrap();
    // A handshake message that claims 16 MiB, in full records.
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
            TlsError::HandshakeTooLong { .. } | TlsError::Misbehaved { .. } | TlsError::NotTls { .. }
        ),
        "{error}"
    );
}

#[test]
fn data_goes_through_in_records() {
    let (mut client, mut server) = established();
    let data: Vec<u8> = (0..200_000u32)
        .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
        .collect();
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < data.len() {
        sent += client.writev(&[IoSlice::new(&data[sent..])]).unwrap();
        while carry(&mut client, &mut server, 10_000) > 0 {}
        while let ReadOutcome::Data(n) = {
            let mut piece = [0; 3333];
            let outcome = server.readv(&mut [IoSliceMut::new(&mut piece)]).unwrap();
            if let ReadOutcome::Data(n) = outcome {
                got.extend_from_slice(&piece[..n]);
            }
            outcome
        } {
            assert!(n > 0);
        }
    }
    assert_eq!(got, data);
}

#[test]
fn small_vectors_share_a_record() {
    let (mut client, mut server) = established();
    let piece = [7; 64];
    let vectors = vec![IoSlice::new(&piece); 64];
    assert_eq!(client.writev(&vectors).unwrap(), 64 * 64);
    assert_eq!(
        client.to_send().len(),
        5 + 64 * 64 + 1 + 16,
        "header, content, content type, tag"
    );
    carry(&mut client, &mut server, usize::MAX);
    assert_eq!(read(&mut server, 10_000).unwrap(), vec![7; 64 * 64]);
}

#[test]
fn large_and_small_vectors_keep_their_order() {
    let (mut client, mut server) = established();
    let parts: [Vec<u8>; 5] = [vec![1; 10], vec![2; 40_000], vec![], vec![3; 16_384], vec![4; 5]];
    let all: Vec<u8> = parts.concat();
    let vectors: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    assert_eq!(client.writev(&vectors).unwrap(), all.len());
    while carry(&mut client, &mut server, usize::MAX) > 0 {}
    assert_eq!(read(&mut server, 100_000).unwrap(), all);
}

#[test]
fn a_reader_that_stays_away_stops_the_writer() {
    let (mut client, _server) = established();
    let data = vec![0; 1 << 20];
    assert_eq!(client.writev(&[IoSlice::new(&data)]).unwrap(), 64 << 10);
    assert_eq!(client.writev(&[IoSlice::new(&data)]).unwrap(), 0);
    assert!(client.to_send().len() < 70 << 10);
}

#[test]
fn both_directions_at_once() {
    let (mut client, mut server) = established();
    let data = vec![9; 60_000];
    assert_eq!(server.writev(&[IoSlice::new(&data)]).unwrap(), data.len());
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    // The client writes while records it has not read wait for it.
    assert_eq!(client.writev(&[IoSlice::new(&data)]).unwrap(), data.len());
    while carry(&mut client, &mut server, usize::MAX) > 0 {}
    assert_eq!(read(&mut client, 100_000).unwrap(), data);
    assert_eq!(read(&mut server, 100_000).unwrap(), data);
}

/// hostile.md IO-20: an end is an end only if the peer said so.
#[test]
fn io_20_goodbye_and_truncation_are_told_apart() {
    let (mut client, mut server) = established();
    client.writev(&[IoSlice::new(b"all of it")]).unwrap();
    client.close().unwrap();
    client.close().unwrap();
    assert_eq!(client.writev(&[IoSlice::new(b"more")]).unwrap(), 0);
    while carry(&mut client, &mut server, usize::MAX) > 0 {}
    server.received_end();
    assert_eq!(read(&mut server, 100).unwrap(), b"all of it");
    for _ in 0..2 {
        assert_eq!(
            server.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap(),
            ReadOutcome::End
        );
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
    assert!(
        matches!(
            error,
            TlsError::Truncated {
                role: PeerRole::Client
            }
        ),
        "{error}"
    );
    server.set_relaxed_eof(true);
    assert_eq!(
        server.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap(),
        ReadOutcome::End
    );
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
        assert!(
            matches!(
                error,
                TlsError::Misbehaved {
                    role: PeerRole::Client,
                    ..
                }
            ),
            "{error}"
        );
    }
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    let error = client.readv(&mut [IoSliceMut::new(&mut [0; 99])]).unwrap_err();
    assert!(error.to_string().contains("bad_record_mac"), "{error}");
}

/// hostile.md IO-25, IO-28: alerts in clear during a handshake prove nothing, cost nothing, and are not endless.
#[test]
fn io_25_close_notify_during_the_handshake() {
    let (_, creds) = good_creds();
    let mut server = Handshake::server(&creds).unwrap();
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    let mut alerts = 0;
    let error = loop {
        server.receive_space()[..close_notify.len()].copy_from_slice(&close_notify);
        server.received(close_notify.len());
        alerts += 1;
        assert!(alerts < 10, "it goes on listening to alerts");
        match server.step() {
            Ok(step) => assert_eq!(step, HandshakeStep::Receive),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TlsError::Misbehaved { .. }), "{error}");

    let mut server = Handshake::server(&creds).unwrap();
    server.receive_space()[..close_notify.len()].copy_from_slice(&close_notify);
    server.received(close_notify.len());
    server.received_end();
    assert!(matches!(server.step(), Err(TlsError::HandshakeCut { .. })));
}

// Whom we let in, and whom we do not.

fn refused(client: Handshake, server: Handshake) -> (TlsError, TlsError) {
    let outcome = shake(client, server, usize::MAX);
    (
        outcome.client.expect_err("the client's side"),
        outcome.server.expect_err("the server's side"),
    )
}

fn problem(error: &TlsError) -> &CertificateProblem {
    match error {
        TlsError::PeerCertificate { problem, .. } => problem,
        other => panic!("not about a certificate: {other}"),
    }
}

fn days(from: i64, to: i64) -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity::Between {
        not_before: now + Duration::days(from),
        not_after: now + Duration::days(to),
    }
}

#[test]
fn cred_17_a_server_of_another_authority_is_refused() {
    let (ours, theirs) = (authority("Our CA"), authority("Their CA"));
    let client = client_creds(None, &[&ours]);
    let server = server_creds(theirs.issue(&server_template()).unwrap(), &[&theirs]);
    let (client, server) = refused(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
    );
    assert!(
        matches!(problem(&client), CertificateProblem::UnknownIssuer { issuer } if issuer.contains("Their CA"))
    );
    assert!(client.to_string().contains("ca-cert.pem"), "{client}");
    assert!(server.to_string().contains("unknown_ca"), "{server}");
}

#[test]
fn cred_17_certificates_out_of_date_are_refused() {
    let ca = Authority::create(&AuthorityTemplate::new("Test CA").validity(days(-100, 100))).unwrap();
    for (validity, wanted) in [(days(-10, -1), "expired"), (days(1, 10), "not valid before")] {
        let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
        let server = server_creds(ca.issue(&server_template().validity(validity)).unwrap(), &[&ca]);
        let (client, server) = refused(
            Handshake::client(&client, Some(HOST)).unwrap(),
            Handshake::server(&server).unwrap(),
        );
        assert!(client.to_string().contains(wanted), "{client}");
        assert!(server.to_string().contains("certificate_expired"), "{server}");

        let client = client_creds(
            Some(ca.issue(&client_template().validity(validity)).unwrap()),
            &[&ca],
        );
        let server = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
        let (client, server) = refused(
            Handshake::client(&client, Some(HOST)).unwrap(),
            Handshake::server(&server).unwrap(),
        );
        assert!(
            server.to_string().contains(wanted) && server.to_string().contains("tester"),
            "{server}"
        );
        assert!(client.to_string().contains("certificate_expired"), "{client}");
    }
}

#[test]
fn cred_17_a_server_with_another_name_is_refused() {
    let ca = authority("Test CA");
    let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let server = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
    for name in ["other.example.com", "127.0.0.1", "example.com"] {
        let (client, server) = refused(
            Handshake::client(&client, Some(name)).unwrap(),
            Handshake::server(&server).unwrap(),
        );
        let text = client.to_string();
        assert!(
            text.contains(name) && text.contains(HOST) && text.contains("tls-hostname"),
            "{text}"
        );
        assert!(server.to_string().contains("bad_certificate"), "{server}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = authority("Test CA");
    let client = client_creds(None, &[&ca]);
    let server = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
    let (client, server) = refused(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
    );
    assert!(matches!(server, TlsError::NoPeerCertificate), "{server}");
    assert!(client.to_string().contains("client-cert.pem"), "{client}");
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let (ours, theirs) = (authority("Our CA"), authority("Their CA"));
    let client = client_creds(Some(theirs.issue(&client_template()).unwrap()), &[&ours]);
    let server = server_creds(ours.issue(&server_template()).unwrap(), &[&ours]);
    let (client, server) = refused(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
    );
    assert!(
        matches!(problem(&server), CertificateProblem::UnknownIssuer { .. }),
        "{server}"
    );
    assert!(client.to_string().contains("unknown_ca"), "{client}");
}

#[test]
fn certificates_for_the_other_side_are_refused() {
    let ca = authority("Test CA");
    let named_client = client_template().name(Name::Dns(HOST.to_owned()));
    let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let server = server_creds(ca.issue(&named_client).unwrap(), &[&ca]);
    let (error, _) = refused(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
    );
    assert!(
        matches!(
            problem(&error),
            CertificateProblem::WrongPurpose { needed: "serverAuth" }
        ),
        "{error}"
    );

    let client = client_creds(Some(ca.issue(&server_template()).unwrap()), &[&ca]);
    let server = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
    let (_, error) = refused(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
    );
    assert!(
        matches!(
            problem(&error),
            CertificateProblem::WrongPurpose { needed: "clientAuth" }
        ),
        "{error}"
    );
}

/// architecture.md: CN only where there is no SAN (decisions.md 10 on CRED-15).
#[test]
fn cred_15_the_common_name_counts_only_without_alternative_names() {
    let ca = authority("Test CA");
    let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let old_style = Template::new(Purpose::Server).common_name(HOST);
    let server = server_creds(ca.issue(&old_style).unwrap(), &[&ca]);
    shake(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
        usize::MAX,
    )
    .both();

    let misleading = Template::new(Purpose::Server)
        .common_name(HOST)
        .name(Name::Dns("other.example.com".to_owned()));
    let server = server_creds(ca.issue(&misleading).unwrap(), &[&ca]);
    let (error, _) = refused(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
    );
    assert!(
        matches!(problem(&error), CertificateProblem::WrongName { .. }),
        "{error}"
    );
}

#[test]
fn addresses_are_names_too() {
    let ca = authority("Test CA");
    let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let template = Template::new(Purpose::Server)
        .name(Name::Ip("192.0.2.7".parse().unwrap()))
        .name(Name::Ip("2001:db8::7".parse().unwrap()));
    let server = server_creds(ca.issue(&template).unwrap(), &[&ca]);
    for name in ["192.0.2.7", "2001:db8::7", "[2001:db8::7]"] {
        shake(
            Handshake::client(&client, Some(name)).unwrap(),
            Handshake::server(&server).unwrap(),
            usize::MAX,
        )
        .both();
    }
}

#[test]
fn any_certificate_of_the_ca_file_is_an_anchor() {
    let (first, second) = (authority("First CA"), authority("Second CA"));
    let client = client_creds(Some(first.issue(&client_template()).unwrap()), &[&first, &second]);
    let server = server_creds(second.issue(&server_template()).unwrap(), &[&second, &first]);
    shake(
        Handshake::client(&client, Some(HOST)).unwrap(),
        Handshake::server(&server).unwrap(),
        usize::MAX,
    )
    .both();
}

#[test]
fn verify_peer_off_accepts_anyone_and_says_so() {
    let (ours, theirs) = (authority("Our CA"), authority("Their CA"));
    let client = TlsCreds::builder(Endpoint::Client)
        .verify_peer(false)
        .ca([ours.certificate().clone()])
        .build()
        .unwrap()
        .for_client()
        .unwrap();
    let server = TlsCreds::builder(Endpoint::Server)
        .verify_peer(false)
        .ca([theirs.certificate().clone()])
        .identity(theirs.issue(&server_template()).unwrap().into_identity())
        .build()
        .unwrap()
        .for_server()
        .unwrap();
    let (client, server) = shake(
        Handshake::client(&client, None).unwrap(),
        Handshake::server(&server).unwrap(),
        usize::MAX,
    )
    .both();
    assert!(matches!(client.peer(), Peer::Unverified(_)));
    assert_eq!(
        client.peer().verified_name(),
        None,
        "an unverified name must not reach an access list"
    );
    assert_eq!(server.peer(), &Peer::Unknown);
}

/// hostile.md CRED-07: any alert, at any point of a client's handshake, is an answer and never a crash.
#[test]
fn cred_07_any_alert_at_any_time() {
    let (client_creds, server_creds) = good_creds();
    for (level, description) in (1..=2u8).flat_map(|level| (0..=255u8).map(move |alert| (level, alert))) {
        for steps in 0..3 {
            let mut client = Handshake::client(&client_creds, Some(HOST)).unwrap();
            let mut server = Handshake::server(&server_creds).unwrap();
            for _ in 0..steps {
                let _ = (client.step(), server.step());
                carry(&mut client, &mut server, usize::MAX);
                carry(&mut server, &mut client, 200);
            }
            let alert = [21, 3, 3, 0, 2, level, description];
            client.receive_space()[..alert.len()].copy_from_slice(&alert);
            client.received(alert.len());
            let first = client.step().is_err();
            assert!(
                !first || client.step().is_err(),
                "a failed handshake stays failed"
            );
        }
    }
}

/// hostile.md CRED-22: credentials are shared, the expected name is not: each connection verifies its own.
#[test]
fn cred_22_parallel_clients_verify_their_own_names() {
    let ca = authority("Test CA");
    let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let names = ["one.example.com", "two.example.com"];
    let servers = names.map(|name| {
        let template = Template::new(Purpose::Server).name(Name::Dns(name.to_owned()));
        server_creds(ca.issue(&template).unwrap(), &[&ca])
    });
    std::thread::scope(|scope| {
        for index in 0..100 {
            let (client, names, servers) = (&client, &names, &servers);
            scope.spawn(move || {
                let (asked, answers) = (index % 2, index / 2 % 2);
                let client = Handshake::client(client, Some(names[asked])).unwrap();
                let server = Handshake::server(&servers[answers]).unwrap();
                let outcome = shake(client, server, usize::MAX);
                assert_eq!(outcome.client.is_ok(), asked == answers);
            });
        }
    });
}

/// hostile.md CRED-23: whatever it is connected to, a descriptor for example.
#[test]
fn cred_23_a_verifying_client_must_know_whom_it_expects() {
    let (client, _) = good_creds();
    assert!(matches!(Handshake::client(&client, None), Err(TlsError::NoName)));
    for name in ["", "no spaces", "a\0b", "host:10809"] {
        assert!(
            matches!(
                Handshake::client(&client, Some(name)),
                Err(TlsError::InvalidName { .. })
            ),
            "{name:?}"
        );
    }
}
