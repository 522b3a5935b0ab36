//! What priority strings do to sessions, at either end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests report by panicking"
)]

mod support;

use qio_creds::pki::{Authority, KeyKind, Pair};
use qio_creds::{Endpoint, PolicyFiles, Priority, TlsCreds};
use qio_tls::{Handshake, TlsFacts};
use support::{HOST, authority, client_template, server_template, shake};

/// Credentials with a priority string, if there is one.
fn creds(endpoint: Endpoint, pair: Pair, ca: &Authority, priority: &str) -> TlsCreds {
    let mut builder = TlsCreds::builder(endpoint)
        .id("tls0")
        .sanity_check(false)
        .ca([ca.certificate().clone()])
        .identity(pair.into_identity());
    if !priority.is_empty() {
        builder = builder.priority(Priority::parse(priority, &PolicyFiles::new([])).unwrap());
    }
    builder.build().unwrap()
}

/// What a session of two ends with these strings agreed on, or the client's error.
fn agree(client: &str, server: &str) -> Result<TlsFacts, String> {
    let ca = authority("Test CA");
    let client = creds(
        Endpoint::Client,
        ca.issue(&client_template()).unwrap(),
        &ca,
        client,
    );
    let server = creds(
        Endpoint::Server,
        ca.issue(&server_template()).unwrap(),
        &ca,
        server,
    );
    let client = Handshake::client(&client.for_client().unwrap(), Some(HOST)).map_err(|e| e.to_string())?;
    let server = Handshake::server(&server.for_server().unwrap()).map_err(|e| e.to_string())?;
    let outcome = shake(client, server, usize::MAX);
    match (outcome.client, outcome.server) {
        (Ok(client), Ok(server)) => {
            assert_eq!(client.facts().cipher_suite, server.facts().cipher_suite);
            Ok(client.facts().clone())
        }
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}

#[test]
fn either_end_can_restrict_what_both_do() {
    for (priority, version, suite, group) in [
        ("NORMAL", "TLS 1.3", "", "X25519MLKEM768"),
        ("NORMAL:-VERS-TLS1.3", "TLS 1.2", "", ""),
        ("NORMAL:-VERS-TLS1.2", "TLS 1.3", "", ""),
        ("NORMAL:-CIPHER-ALL:+AES-256-GCM", "TLS 1.3", "AES_256_GCM", ""),
        (
            "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
            "TLS 1.3",
            "CHACHA20_POLY1305",
            "",
        ),
        (
            "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:-VERS-TLS1.3",
            "TLS 1.2",
            "CHACHA20_POLY1305",
            "",
        ),
        ("NORMAL:-GROUP-ALL:+GROUP-SECP384R1", "TLS 1.3", "", "secp384r1"),
        (
            "NORMAL:-GROUP-ALL:+GROUP-SECP256R1:-VERS-TLS1.3",
            "TLS 1.2",
            "",
            "secp256r1",
        ),
        (
            "NONE:+VERS-TLS1.3:+AEAD:+AES-256-GCM:+AES-128-GCM:+GROUP-X25519:+SIGN-ALL",
            "TLS 1.3",
            "AES_256_GCM",
            "X25519",
        ),
    ] {
        for (client, server) in [(priority, ""), ("", priority), (priority, priority)] {
            let facts = agree(client, server).unwrap_or_else(|error| panic!("{priority}: {error}"));
            let text = format!("{facts:?}");
            assert_eq!(facts.version.to_string(), version, "{priority}: {text}");
            // A server's own order wins, so the order of a client's string alone decides nothing.
            if !priority.starts_with("NONE") || !server.is_empty() {
                assert!(facts.cipher_suite.contains(suite), "{priority}: {text}");
            }
            assert!(
                text.to_lowercase().contains(&group.to_lowercase()),
                "{priority}: {text}"
            );
        }
    }
}

#[test]
fn ends_that_have_nothing_in_common_say_so() {
    let error = agree("NORMAL:-VERS-TLS1.3", "NORMAL:-VERS-TLS1.2").unwrap_err();
    assert!(error.contains("protocol_version"), "{error}");
    assert!(
        agree(
            "NORMAL:-CIPHER-ALL:+AES-256-GCM",
            "NORMAL:-CIPHER-ALL:+AES-128-GCM"
        )
        .is_err()
    );
    assert!(
        agree(
            "NORMAL:-GROUP-ALL:+GROUP-X25519",
            "NORMAL:-GROUP-ALL:+GROUP-SECP256R1"
        )
        .is_err()
    );
}

#[test]
fn signature_algorithms_are_restricted_in_both_directions() {
    // The certificates are of P-256, so they sign with ECDSA and SHA-256.
    assert!(agree("NORMAL:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256", "").is_ok());
    for priority in [
        "NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256",
        "NORMAL:-SIGN-ECDSA-SECP256R1-SHA256:-SIGN-ECDSA-SHA256",
    ] {
        assert!(agree(priority, "").is_err(), "{priority} at the client");
        assert!(agree("", priority).is_err(), "{priority} at the server");
    }
}

#[test]
fn what_no_engine_has_is_refused_before_a_connection() {
    for (priority, lacks) in [
        ("NORMAL:-GROUP-ALL:+GROUP-FFDHE2048", "group"),
        ("NORMAL:-CIPHER-ALL:+AES-128-CCM", "cipher suite"),
        ("NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-SHA256", "signature"),
        (
            "NORMAL:-VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519-MLKEM768",
            "protocol version",
        ),
    ] {
        let error = agree(priority, "").unwrap_err();
        assert!(
            error.contains("'tls0'") && error.contains(lacks) && error.contains(priority),
            "{error}"
        );
    }
}

#[test]
fn the_profile_asks_for_strong_keys() {
    let ca = authority("Test CA");
    let try_with = |key: KeyKind, priority: &str| {
        let server = server_template().key(key);
        let client = creds(
            Endpoint::Client,
            ca.issue(&client_template()).unwrap(),
            &ca,
            priority,
        );
        let server = creds(Endpoint::Server, ca.issue(&server).unwrap(), &ca, "");
        let client = Handshake::client(&client.for_client().unwrap(), Some(HOST)).unwrap();
        let server = Handshake::server(&server.for_server().unwrap()).unwrap();
        shake(client, server, usize::MAX)
            .client
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(try_with(KeyKind::EcdsaP256, "NORMAL:%PROFILE_HIGH"), Ok(()));
    assert_eq!(try_with(KeyKind::EcdsaP384, "NORMAL:%PROFILE_ULTRA"), Ok(()));
    let error = try_with(KeyKind::EcdsaP256, "NORMAL:%PROFILE_ULTRA").unwrap_err();
    assert!(error.contains("P-256") && error.contains("384 bits"), "{error}");
}
