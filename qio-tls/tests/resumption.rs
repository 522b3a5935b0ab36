//! Sessions that go on from earlier ones: who may, who may not, and that everybody is judged and authorized again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::io::{IoSlice, IoSliceMut};

use qio_creds::pki::Validity;
use qio_creds::{ClientCreds, ServerCreds};
use qio_tls::{Handshake, HandshakeStep, ReadOutcome, Session, TlsError, Verdict};
use support::{
    HOST, authority, carry, client_creds, client_template, good_creds, server_creds, server_template, shake,
};
use time::{Duration, OffsetDateTime};

fn handshakes(client: &ClientCreds, server: &ServerCreds) -> (Handshake, Handshake) {
    (
        Handshake::client(client, Some(HOST)).unwrap(),
        Handshake::server(server).unwrap(),
    )
}

fn connect(client: &ClientCreds, server: &ServerCreds) -> (Session, Session) {
    let (client, server) = handshakes(client, server);
    shake(client, server, usize::MAX).both()
}

/// Lets the client have the ticket, which comes behind the handshake.
fn deliver(from: &mut Session, to: &mut Session) {
    from.writev(&[IoSlice::new(b"x")]).unwrap();
    while carry(from, to, usize::MAX) > 0 {}
    assert_eq!(
        to.readv(&mut [IoSliceMut::new(&mut [0; 4])]).unwrap(),
        ReadOutcome::Data(1)
    );
}

#[test]
fn the_second_session_is_resumed_and_knows_its_peer() {
    let (client_creds, server_creds) = good_creds();
    let (mut client, mut server) = connect(&client_creds, &server_creds);
    assert!(!client.facts().resumed && !server.facts().resumed);
    deliver(&mut server, &mut client);
    let (client, server) = connect(&client_creds, &server_creds);
    assert!(client.facts().resumed && server.facts().resumed);
    assert_eq!(server.peer().verified_name(), Some("CN=tester"));
    assert!(client.peer().verified_name().unwrap().contains(HOST));
}

/// A ticket is used once, and only with the credentials that got it.
#[test]
fn tickets_are_not_shared() {
    let (client_creds, server_creds) = good_creds();
    let (mut client, mut server) = connect(&client_creds, &server_creds);
    deliver(&mut server, &mut client);
    assert!(connect(&client_creds, &server_creds).0.facts().resumed);
    // That session's own ticket has not been read.
    assert!(!connect(&client_creds, &server_creds).0.facts().resumed);
}

/// hostile.md CRED-06: two servers never accept each other's tickets.
#[test]
fn cred_06_another_server_does_not_know_the_ticket() {
    let ca = authority("Test CA");
    let client_creds = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let pair = ca.issue(&server_template()).unwrap();
    let other = ca.issue(&server_template()).unwrap();
    let (first, second) = (server_creds(pair, &[&ca]), server_creds(other, &[&ca]));
    let (mut client, mut server) = connect(&client_creds, &first);
    deliver(&mut server, &mut client);
    let (client, server) = connect(&client_creds, &second);
    assert!(!client.facts().resumed && !server.facts().resumed);
}

/// decisions.md 9: authorization applies to resumed sessions too.
#[test]
fn a_resumed_client_is_authorized_again() {
    let (client_creds, server_creds) = good_creds();
    let (mut client, mut server) = connect(&client_creds, &server_creds);
    deliver(&mut server, &mut client);

    let (mut client, server) = handshakes(&client_creds, &server_creds);
    let mut server = server.with_authorization();
    while server.step().unwrap() != HandshakeStep::Authorize {
        let _ = client.step().unwrap();
        carry(&mut client, &mut server, usize::MAX);
        carry(&mut server, &mut client, usize::MAX);
    }
    assert_eq!(server.peer().unwrap().verified_name(), Some("CN=tester"));
    let mut server = server.decide(Verdict::Denied { why: None });
    assert!(matches!(server.step(), Err(TlsError::NotAuthorized { .. })));
    let _ = client.step().unwrap();
    while carry(&mut server, &mut client, usize::MAX) > 0 {}
    let _ = client.step();
    let mut client = client.into_session().expect("the client's side is done");
    assert!(client.facts().resumed);
    let error = client.readv(&mut [IoSliceMut::new(&mut [0; 9])]).unwrap_err();
    assert!(error.to_string().contains("access_denied"), "{error}");
}

/// A ticket does not outlive the certificate that it was given for.
#[test]
fn a_resumed_client_whose_certificate_has_expired_is_refused() {
    let ca = authority("Test CA");
    let now = OffsetDateTime::now_utc();
    let until = now + Duration::seconds(3);
    let validity = Validity::Between {
        not_before: now - Duration::days(1),
        not_after: until,
    };
    let client_creds = client_creds(
        Some(ca.issue(&client_template().validity(validity)).unwrap()),
        &[&ca],
    );
    let server_creds = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
    let (mut client, mut server) = connect(&client_creds, &server_creds);
    deliver(&mut server, &mut client);
    // The condition is a time, so this waits for it.
    while OffsetDateTime::now_utc() <= until + Duration::seconds(1) {
        std::thread::yield_now();
    }
    let (client, server) = handshakes(&client_creds, &server_creds);
    let outcome = shake(client, server, usize::MAX);
    let error = outcome.server.expect_err("an expired certificate");
    assert!(error.to_string().contains("expired at"), "{error}");
    let error = outcome.client.expect_err("a refusal");
    assert!(error.to_string().contains("certificate_expired"), "{error}");
}
