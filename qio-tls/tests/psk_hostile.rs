//! Hellos that no honest client sends, against a server with pre-shared keys.
//!
//! They are made by hand, with binders that are right where the test is about something else: what is refused here is
//! refused for its reason, and not because it is garbage.
#![cfg(feature = "psk")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use aws_lc_rs::{digest, hkdf, hmac};
use qio_creds::{Psk, PskIdentity, PskKey, PskUsers, ServerCreds, TlsCreds};
use qio_tls::{Handshake, TlsError, Transport};

const KEY: [u8; 32] = [1; 32];
const DECRYPT_ERROR: u8 = 51;

fn server() -> ServerCreds {
    let admin = PskIdentity::new("admin", PskKey::from_bytes(&KEY).unwrap()).unwrap();
    TlsCreds::from_psk(None, Psk::server(PskUsers::new([admin]).unwrap()))
        .for_server()
        .unwrap()
}

fn vector(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(content)].concat()
}

/// RFC 8446, section 7.1.
fn expand_label(secret: &[u8], label: &str, context: &[u8]) -> Vec<u8> {
    let label = [b"tls13 ", label.as_bytes()].concat();
    let info = [
        &[0, 32, label.len() as u8][..],
        &label,
        &[context.len() as u8],
        context,
    ]
    .concat();
    let mut out = vec![0; 32];
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret)
        .expand(&[&info], hkdf::HKDF_SHA256)
        .unwrap()
        .fill(&mut out)
        .unwrap();
    out
}

/// RFC 8446, section 4.2.11.2.
fn binder(key: &[u8], truncated_hello: &[u8]) -> Vec<u8> {
    let early = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), key);
    let nothing = digest::digest(&digest::SHA256, b"");
    let binder_key = expand_label(early.as_ref(), "ext binder", nothing.as_ref());
    let finished = expand_label(&binder_key, "finished", b"");
    let hash = digest::digest(&digest::SHA256, truncated_hello);
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &finished), hash.as_ref())
        .as_ref()
        .to_vec()
}

/// A ClientHello to be.
#[derive(Clone)]
struct Hello<'a> {
    identity: Option<&'a [u8]>,
    /// In place of the right one.
    binder: Option<Vec<u8>>,
    /// Without one, the server asks for another hello.
    key_share: bool,
    suites: &'a [u8],
    padding: usize,
}

impl<'a> Hello<'a> {
    fn of(identity: &'a [u8]) -> Self {
        Hello {
            identity: Some(identity),
            binder: None,
            key_share: true,
            suites: &[0x13, 0x01],
            padding: 0,
        }
    }

    fn records(&self) -> Vec<u8> {
        let mut extensions = extension(43, &[2, 3, 4]);
        extensions.extend(extension(10, &vector(&[0, 29])));
        extensions.extend(extension(13, &vector(&[4, 3, 8, 4])));
        extensions.extend(extension(45, &[1, 1]));
        let share = [&[0, 29][..], &vector(&[9; 32])].concat();
        extensions.extend(extension(51, &vector(if self.key_share { &share } else { &[] })));
        if self.padding > 0 {
            extensions.extend(extension(21, &vec![0; self.padding]));
        }
        let placeholder = self.binder.clone().unwrap_or_else(|| vec![0; 32]);
        let binders = vector(&[&[placeholder.len() as u8][..], &placeholder].concat());
        if let Some(identity) = self.identity {
            let identities = vector(&[vector(identity), vec![0; 4]].concat());
            extensions.extend(extension(41, &[identities, binders.clone()].concat()));
        }
        let mut hello = [&[3, 3][..], &[7; 32], &[0], &vector(self.suites), &[1, 0]].concat();
        hello.extend(vector(&extensions));
        let length = (hello.len() as u32).to_be_bytes();
        hello.splice(0..0, [1, length[1], length[2], length[3]]);
        if self.identity.is_some() && self.binder.is_none() {
            let end = hello.len() - binders.len();
            let binder = binder(&KEY, &hello[..end]);
            let at = hello.len() - binder.len();
            hello[at..].copy_from_slice(&binder);
        }
        hello
            .chunks(16_000)
            .flat_map(|part| [&[22, 3, 1][..], &vector(part)].concat())
            .collect()
    }
}

/// Gives the server a hello, and gives what it came to and what the server answered.
fn answer(server: &mut Handshake, hello: &Hello<'_>) -> (Result<(), TlsError>, Vec<u8>) {
    let mut records = &hello.records()[..];
    let mut result = Ok(());
    while !records.is_empty() {
        let space = server.receive_space();
        let n = space.len().min(records.len());
        space[..n].copy_from_slice(&records[..n]);
        server.received(n);
        records = &records[n..];
        result = server.step().map(drop);
        if result.is_err() {
            break;
        }
    }
    let sent = server.to_send().to_vec();
    server.sent(sent.len());
    (result, sent)
}

fn refused(hello: &Hello<'_>) -> (TlsError, u8) {
    let mut server = Handshake::server(&server()).unwrap();
    let (result, sent) = answer(&mut server, hello);
    assert_eq!(sent[..6], [21, 3, 3, 0, 2, 2], "one fatal alert");
    (result.unwrap_err(), sent[6])
}

/// The hellos of this file are as they should be: with nothing wrong in it, one is answered with a ServerHello.
#[test]
fn an_honest_hello_is_answered() {
    let mut server = Handshake::server(&server()).unwrap();
    let (result, sent) = answer(&mut server, &Hello::of(b"admin"));
    result.unwrap();
    assert_eq!((sent[0], sent[5]), (22, 2));
}

/// OpenSSL hands `admin` to the callback here, and the binder is right for admin's key.
#[test]
fn cred_01_an_identity_with_a_nul_is_not_the_one_before_it() {
    for identity in [&b"admin\0x"[..], b"admin\0", b"\0admin"] {
        let (error, alert) = refused(&Hello::of(identity));
        assert_eq!(alert, DECRYPT_ERROR);
        match error {
            TlsError::PskNotProven {
                identity: told,
                known,
            } => {
                assert!(!known);
                assert!(told.contains("\\0"), "{told}");
            }
            other => panic!("{other}"),
        }
    }
}

/// No user of a file has a name that long, so OpenSSL need not hide that it does not even ask.
#[test]
fn an_identity_of_the_greatest_length_is_refused() {
    let (error, _) = refused(&Hello::of(&[b'a'; 60_000]));
    assert!(
        matches!(
            error,
            TlsError::PskNotProven { known: false, .. } | TlsError::Incompatible { .. }
        ),
        "{error}"
    );
    assert!(error.to_string().len() < 300, "{error}");
}

/// Every one is refused with one fatal alert; a wrong one of the right length with decrypt_error.
#[test]
fn cred_03_binders_that_do_not_verify() {
    for length in (0..=40).chain([64, 255]) {
        let hello = Hello {
            binder: Some(vec![0x55; length]),
            ..Hello::of(b"admin")
        };
        let (error, alert) = refused(&hello);
        if length == 32 {
            assert_eq!(alert, DECRYPT_ERROR);
            assert!(
                matches!(error, TlsError::PskNotProven { known: true, .. }),
                "{error}"
            );
        }
    }
    // Of the right length for SHA-384, and over another hello.
    let stolen = Hello {
        binder: Some(binder(&KEY, b"another hello")),
        ..Hello::of(b"admin")
    };
    assert_eq!(refused(&stolen).1, DECRYPT_ERROR);
}

#[test]
fn cred_04_a_second_hello_that_drops_the_key_or_changes_the_suite() {
    let first = Hello {
        key_share: false,
        ..Hello::of(b"admin")
    };
    let without = Hello {
        identity: None,
        ..Hello::of(b"")
    };
    let changed = Hello {
        suites: &[0x13, 0x03],
        ..Hello::of(b"admin")
    };
    for second in [without, changed, first.clone()] {
        let mut server = Handshake::server(&server()).unwrap();
        let (result, sent) = answer(&mut server, &first);
        result.unwrap();
        assert_eq!((sent[0], sent[5]), (22, 2), "a HelloRetryRequest");
        let (result, sent) = answer(&mut server, &second);
        assert!(result.is_err());
        assert_eq!(sent[..6], [21, 3, 3, 0, 2, 2], "one fatal alert");
        assert!(server.step().is_err(), "the error stays");
    }
}

#[test]
fn cred_05_a_hello_of_60_kib_and_a_retry() {
    let long = Hello {
        padding: 60_000,
        ..Hello::of(b"admin")
    };
    let (result, sent) = answer(&mut Handshake::server(&server()).unwrap(), &long);
    result.unwrap();
    assert_eq!((sent[0], sent[5]), (22, 2));

    let first = Hello {
        key_share: false,
        ..long.clone()
    };
    let mut server = Handshake::server(&server()).unwrap();
    answer(&mut server, &first).0.unwrap();
    // Its binder does not cover the first hello, as a second one's must.
    let (result, sent) = answer(&mut server, &long);
    assert!(matches!(result, Err(TlsError::PskNotProven { known: true, .. })));
    assert_eq!(sent[6], DECRYPT_ERROR);
}

/// Static keys, and keys under RSA, are neither offered nor taken.
#[test]
fn cred_08_suites_without_ephemeral_keys_are_not_taken() {
    // TLS_PSK_WITH_AES_128_GCM_SHA256, TLS_RSA_PSK_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_GCM_SHA256,
    // TLS_DHE_PSK_WITH_AES_128_CBC_SHA256, TLS_ECDHE_PSK_WITH_NULL_SHA256
    for suite in [
        [0x00, 0xa8],
        [0x00, 0xac],
        [0x00, 0x9c],
        [0x00, 0xb2],
        [0xc0, 0x3a],
    ] {
        let hello = [&[3, 3][..], &[7; 32], &[0], &vector(&suite), &[1, 0]].concat();
        let hello = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
        let record = [&[22, 3, 1][..], &vector(&hello)].concat();
        let mut server = Handshake::server(&server()).unwrap();
        server.receive_space()[..record.len()].copy_from_slice(&record);
        server.received(record.len());
        let error = server.step().unwrap_err();
        assert!(
            matches!(error, TlsError::Incompatible { .. }),
            "{suite:x?}: {error}"
        );
    }
}
