//! Tests of the client's negotiation.

use super::*;
use crate::facts::ReplyMode;
use crate::limits::*;
use crate::name::ExportName;
use crate::wire::*;

use super::server_tests::{End, Peer, option};

fn name(name: &str) -> ExportName {
    name.try_into().unwrap()
}

fn greeting(flags: u8) -> Vec<u8> {
    [&b"NBDMAGICIHAVEOPT\0"[..], &[flags]].concat()
}

fn reply(option: OptionCode, kind: OptionReplyType, payload: &[u8]) -> Vec<u8> {
    let header = OptionReplyHeader {
        option,
        kind,
        payload: PayloadLength(payload.len() as u32),
    };
    [&header.encode()[..], payload].concat()
}

/// A client in clear text that is ready to choose.
fn ready() -> ClientNegotiation {
    let mut client = ClientNegotiation::new(ClientTls::Off);
    let ack = reply(OptionCode::StructuredReply, OptionReplyType::Ack, &[]);
    let (_, event) = client.feed(&[greeting(3), ack].concat()).unwrap();
    assert!(matches!(event, ClientEvent::Ready));
    let _ = client.take_output();
    client
}

/// A client that has asked to go to `disk`, fed with `answer`.
fn after_go(answer: &[u8]) -> Result<ClientEvent, NegotiationError> {
    let mut client = ready();
    client.go(&name("disk")).unwrap();
    client.feed(answer).map(|(_, event)| event)
}

fn info(payload: &[u8]) -> Vec<u8> {
    reply(OptionCode::Go, OptionReplyType::Info, payload)
}

fn export_info(size: u64) -> Vec<u8> {
    info(&[&[0, 0][..], &size.to_be_bytes(), &[0, 1]].concat())
}

fn go_ack() -> Vec<u8> {
    reply(OptionCode::Go, OptionReplyType::Ack, &[])
}

/// Runs our client against our server until both are done; `cut` bytes at a time.
fn converse(tls: ClientTls, policy: TlsPolicy, cut: usize) -> Result<(Established, End), NegotiationError> {
    let mut server = Peer::new(policy);
    let mut client = ClientNegotiation::new(tls);
    let mut established = None;
    let mut to_client = std::mem::take(&mut server.sent);
    loop {
        let mut moved = !to_client.is_empty();
        for piece in to_client.chunks(cut) {
            let mut piece = piece;
            while !piece.is_empty() {
                let (used, event) = client.feed(piece)?;
                piece = &piece[used..];
                match event {
                    ClientEvent::StartTls(upgrade) => client = upgrade.encrypted(),
                    ClientEvent::Ready => client.go(&name("disk"))?,
                    ClientEvent::Established(done) => established = Some(done),
                    ClientEvent::NeedInput => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let to_server = client.take_output();
        moved |= !to_server.is_empty();
        for piece in to_server.chunks(cut) {
            server.feed(piece);
        }
        to_client = std::mem::take(&mut server.sent);
        if !moved && to_client.is_empty() {
            return Ok((established.expect("established"), server.end.expect("negotiated")));
        }
    }
}

#[test]
fn our_two_ends_agree_however_the_bytes_are_cut() {
    for (tls, policy) in [
        (ClientTls::Off, TlsPolicy::Off),
        (ClientTls::Require, TlsPolicy::Required),
    ] {
        for cut in [1, 2, 3, 7, 19, 10_000] {
            let (established, end) = converse(tls, policy, cut).unwrap();
            assert_eq!(established.replies, ReplyMode::Structured);
            assert_eq!(established.export.description, "a disk");
            assert_eq!(established.export.size, 1 << 20);
            let End::Negotiated(negotiated) = end else {
                panic!("{end:?}")
            };
            assert_eq!(negotiated.flags, established.export.flags);
        }
    }
}

#[test]
fn cred_18_require_never_falls_to_clear_text() {
    let error = converse(ClientTls::Require, TlsPolicy::Off, 100).unwrap_err();
    assert!(matches!(error, NegotiationError::TlsNotOffered(Some(_))));
    assert!(error.to_string().contains("does not offer it"), "{error}");

    let mut client = ClientNegotiation::new(ClientTls::Require);
    let error = client.feed(&greeting(0)).unwrap_err();
    assert_eq!(error, NegotiationError::TlsNotOffered(None));
    assert!(client.take_output().is_empty());

    for kind in [
        OptionReplyType::Unsupported,
        OptionReplyType::Policy,
        OptionReplyType::Invalid,
        OptionReplyType::Platform,
        OptionReplyType::Unknown,
        OptionReplyType::Other(0x8000_0077),
    ] {
        let mut client = ClientNegotiation::new(ClientTls::Require);
        let _ = client.feed(&greeting(3)).unwrap();
        let answer = reply(OptionCode::StartTls, kind, b"no");
        assert!(matches!(
            client.feed(&answer),
            Err(NegotiationError::TlsNotOffered(Some(_)))
        ));
    }
}

#[test]
fn a_server_that_requires_tls_is_told_about() {
    let error = converse(ClientTls::Off, TlsPolicy::Required, 100).unwrap_err();
    assert!(matches!(error, NegotiationError::TlsRequiredByServer(_)));
    assert!(error.to_string().contains("--tls-creds"), "{error}");
}

#[test]
fn nbdc_14_oldstyle_clear_text_and_tls_required_under_tls_are_fatal() {
    let mut client = ClientNegotiation::new(ClientTls::Require);
    let oldstyle = [&b"NBDMAGIC"[..], &OLDSTYLE_MAGIC.to_be_bytes()].concat();
    assert_eq!(client.feed(&oldstyle).unwrap_err(), NegotiationError::Oldstyle);

    let ack = reply(OptionCode::StartTls, OptionReplyType::Ack, &[]);
    let mut client = ClientNegotiation::new(ClientTls::Require);
    let _ = client.feed(&greeting(3)).unwrap();
    let error = client.feed(&[&ack[..], b"\0"].concat()).unwrap_err();
    assert_eq!(error, NegotiationError::ClearTextBehindStartTls);

    let mut client = ClientNegotiation::new(ClientTls::Require);
    let (_, event) = client.feed(&greeting(3)).and_then(|_| client.feed(&ack)).unwrap();
    let ClientEvent::StartTls(upgrade) = event else {
        panic!("{event:?}")
    };
    assert!(
        matches!(client.feed(b""), Err(NegotiationError::Ended)),
        "the clear-text half is spent"
    );
    let mut client = upgrade.encrypted();
    let lie = reply(OptionCode::StructuredReply, OptionReplyType::TlsRequired, &[]);
    assert_eq!(
        client.feed(&lie).unwrap_err(),
        NegotiationError::TlsRequiredUnderTls
    );
}

#[test]
fn nbdc_05_the_end_at_every_byte_leaves_only_closing() {
    let stream = [export_info(512), info(&[0, 2, b'x']), go_ack()].concat();
    for length in 0..stream.len() {
        let event = after_go(&stream[..length]).unwrap();
        assert!(matches!(event, ClientEvent::NeedInput), "{length}");
    }
    assert!(matches!(after_go(&stream), Ok(ClientEvent::Established(_))));
    // A choice in the middle of another one is refused, not mixed up.
    let mut client = ready();
    client.go(&name("disk")).unwrap();
    let _ = client.feed(&stream[..25]).unwrap();
    assert_eq!(client.list(), Err(NegotiationError::Ended));
}

#[test]
fn nbdc_07_sizes_above_2_63_are_refused() {
    for (size, good) in [
        (0, true),
        (i64::MAX as u64, true),
        (1 << 63, false),
        (u64::MAX, false),
    ] {
        let outcome = after_go(&[export_info(size), go_ack()].concat());
        assert_eq!(outcome.is_ok(), good, "{size}: {outcome:?}");
    }
}

#[test]
fn nbdc_10_announced_lengths_are_refused_before_anything_is_kept() {
    for (kind, length) in [
        (OptionReplyType::Info, MAX_OPTION_REPLY + 1),
        (OptionReplyType::Ack, u32::MAX),
        (OptionReplyType::Unknown, MAX_OPTION_DRAIN + 1),
    ] {
        let header = OptionReplyHeader {
            option: OptionCode::Go,
            kind,
            payload: PayloadLength(length),
        };
        let error = after_go(&header.encode()).unwrap_err();
        assert!(matches!(error, NegotiationError::TooLong { .. }), "{error}");
    }
}

#[test]
fn nbdc_01_nbdc_11_a_long_refusal_is_read_past_and_the_next_answer_fits() {
    let mut client = ready();
    client.info(&name("disk")).unwrap();
    let long = reply(
        OptionCode::Info,
        OptionReplyType::Unknown,
        &vec![b'\n'; MAX_OPTION_DRAIN as usize],
    );
    let mut event = ClientEvent::NeedInput;
    for piece in long.chunks(5000) {
        (_, event) = client.feed(piece).unwrap();
    }
    let ClientEvent::Refused(refusal) = event else {
        panic!("{event:?}")
    };
    assert_eq!(refusal.text, "\\n".repeat(MAX_STRING));
    client.list().unwrap();
    let (_, event) = client
        .feed(&reply(OptionCode::List, OptionReplyType::Ack, &[]))
        .unwrap();
    assert!(matches!(event, ClientEvent::Listed(exports) if exports.is_empty()));
}

#[test]
fn nbdc_13_block_size_lies_are_fatal() {
    let sizes = |minimum: u32, preferred: u32, maximum: u32| {
        let mut payload = vec![0, 3];
        payload.extend(
            [minimum, preferred, maximum]
                .iter()
                .flat_map(|size| size.to_be_bytes()),
        );
        after_go(&[export_info(512), info(&payload), go_ack()].concat())
    };
    assert!(sizes(1, 4096, 1 << 25).is_ok());
    assert!(matches!(
        sizes(0, 4096, 1 << 25),
        Err(NegotiationError::BlockSizes(_))
    ));
    assert!(matches!(
        sizes(512, 4096, 0),
        Err(NegotiationError::BlockSizes(_))
    ));
}

#[test]
fn malformed_answers_are_fatal() {
    for answer in [
        go_ack(),
        [
            export_info(512),
            reply(OptionCode::Go, OptionReplyType::Ack, b"x"),
        ]
        .concat(),
        info(&[]),
        info(&[0, 0, 1]),
        info(&[0, 3, 1]),
        info(&[0, 1, 0]),
        reply(OptionCode::Go, OptionReplyType::Server, &[0; 4]),
        reply(OptionCode::List, OptionReplyType::Ack, &[]),
        vec![0; 20],
    ] {
        let error = after_go(&answer).unwrap_err();
        assert!(error.to_string().contains("the server"), "{error}");
    }
    assert!(matches!(
        after_go(&info(&[0, 9]).repeat(MAX_INFO_REPLIES as usize + 1)),
        Err(NegotiationError::TooMany(OptionCode::Go))
    ));
}

#[test]
fn an_endless_list_is_cut_off() {
    let mut client = ready();
    client.list().unwrap();
    let entry = reply(
        OptionCode::List,
        OptionReplyType::Server,
        &[0, 0, 0, 1, b'x', b'd'],
    );
    let error = client.feed(&entry.repeat(MAX_LISTED + 1)).unwrap_err();
    assert_eq!(error, NegotiationError::TooMany(OptionCode::List));
}

#[test]
fn unsupported_go_falls_back_to_export_name() {
    for (flags, padding) in [(3, 0), (1, EXPORT_NAME_PADDING)] {
        let mut client = ClientNegotiation::new(ClientTls::Off);
        let no = reply(OptionCode::StructuredReply, OptionReplyType::Unsupported, &[]);
        let _ = client.feed(&[greeting(flags), no].concat()).unwrap();
        client.go(&name("disk")).unwrap();
        let _ = client.take_output();
        let no = reply(OptionCode::Go, OptionReplyType::Unsupported, b"what?");
        assert!(matches!(client.feed(&no), Ok((_, ClientEvent::NeedInput))));
        assert_eq!(&client.take_output()[..], option(OptionCode::ExportName, b"disk"));
        let answer = [&512_u64.to_be_bytes()[..], &[0, 1], &vec![0; padding], b"rest"].concat();
        let (used, event) = client.feed(&answer).unwrap();
        assert_eq!(used, answer.len() - 4);
        let ClientEvent::Established(established) = event else {
            panic!("{event:?}")
        };
        assert_eq!(
            (established.export.size, established.replies),
            (512, ReplyMode::Simple)
        );
    }
}

#[test]
fn a_server_without_fixed_newstyle_can_be_told_a_name_only() {
    let mut client = ClientNegotiation::new(ClientTls::Off);
    let (_, event) = client.feed(&greeting(0)).unwrap();
    assert!(matches!(event, ClientEvent::Ready));
    assert_eq!(client.take_output(), [0, 0, 0, 0]);
    assert_eq!(client.list(), Err(NegotiationError::TooOld(OptionCode::List)));
    client.go(&name("disk")).unwrap();
    assert!(client.take_output().ends_with(b"disk"));
}
