//! Tests of the server's negotiation.

use super::*;
use crate::facts::{BlockSizes, ExportInfo, ReplyMode};
use crate::limits::*;
use crate::name::ExportName;
use crate::testing::Random;
use crate::wire::*;

/// Drives a negotiation as a server with one export, `disk`, would.
pub(super) struct Peer {
    negotiation: ServerNegotiation,
    pub(super) sent: Vec<u8>,
    pub(super) end: Option<End>,
    pub(super) lookups: usize,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum End {
    Negotiated(Negotiated),
    Closed(CloseReason),
}

pub(super) fn info() -> ExportInfo {
    ExportInfo {
        size: 1 << 20,
        flags: TransmissionFlags::SEND_FLUSH,
        description: "a disk".to_owned(),
        block_sizes: BlockSizes::DEFAULT,
    }
}

impl Peer {
    pub(super) fn new(policy: TlsPolicy) -> Self {
        let mut peer = Peer {
            negotiation: ServerNegotiation::new(policy, MAX_OPTIONS),
            sent: vec![],
            end: None,
            lookups: 0,
        };
        peer.sent = peer.negotiation.take_output();
        peer
    }

    /// Feeds `input`, and goes through STARTTLS as if a handshake had succeeded.
    pub(super) fn feed(&mut self, mut input: &[u8]) {
        let disk = ExportName::try_from("disk").unwrap();
        loop {
            if self.end.is_some() {
                return;
            }
            let (used, mut event) = self.negotiation.feed(input);
            input = &input[used..];
            event = match event {
                ServerEvent::List(query) => self.negotiation.answer_list(query, [(&disk, "a disk")]),
                ServerEvent::Lookup(query) => {
                    self.lookups += 1;
                    let found = (*query.name() == disk).then(info);
                    self.negotiation.answer_lookup(query, found.as_ref())
                }
                other => other,
            };
            self.sent.extend(self.negotiation.take_output());
            match event {
                ServerEvent::NeedInput => return assert!(input.is_empty()),
                ServerEvent::Continue => {}
                ServerEvent::StartTls(upgrade) => self.negotiation = upgrade.encrypted(),
                ServerEvent::Negotiated(negotiated) => self.end = Some(End::Negotiated(negotiated)),
                ServerEvent::Close(reason) => self.end = Some(End::Closed(reason)),
                ServerEvent::List(_) | ServerEvent::Lookup(_) => unreachable!(),
            }
        }
    }

    fn closed(&self) -> &CloseReason {
        match &self.end {
            Some(End::Closed(reason)) => reason,
            other => panic!("not closed: {other:?}"),
        }
    }

    /// Takes the replies sent so far apart; panics unless they are whole.
    fn replies(&mut self) -> Vec<(OptionCode, OptionReplyType, Vec<u8>)> {
        let sent = std::mem::take(&mut self.sent);
        let mut rest = sent.strip_prefix(&greeting()[..]).unwrap_or(&sent);
        let mut replies = vec![];
        while !rest.is_empty() {
            let header = OptionReplyHeader::decode(rest.first_chunk().unwrap()).unwrap();
            let end = 20 + header.payload.0 as usize;
            replies.push((header.option, header.kind, rest[20..end].to_vec()));
            rest = &rest[end..];
        }
        replies
    }

    fn kinds(&mut self) -> Vec<OptionReplyType> {
        self.replies().into_iter().map(|(_, kind, _)| kind).collect()
    }
}

fn greeting() -> [u8; 18] {
    *b"NBDMAGICIHAVEOPT\x00\x03"
}

pub(super) fn option(code: OptionCode, payload: &[u8]) -> Vec<u8> {
    let header = OptionHeader {
        option: code,
        payload: PayloadLength(payload.len() as u32),
    };
    [&header.encode()[..], payload].concat()
}

pub(super) fn go(code: OptionCode, name: &[u8], infos: &[u16]) -> Vec<u8> {
    let mut payload = (name.len() as u32).to_be_bytes().to_vec();
    payload.extend(name);
    payload.extend((infos.len() as u16).to_be_bytes());
    payload.extend(infos.iter().flat_map(|info| info.to_be_bytes()));
    option(code, &payload)
}

const FLAGS: [u8; 4] = [0, 0, 0, 3];

fn session(policy: TlsPolicy) -> Peer {
    let mut peer = Peer::new(policy);
    peer.feed(&FLAGS);
    peer.sent.clear();
    peer
}

#[test]
fn go_is_answered_in_qemus_order() {
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&go(OptionCode::Go, b"disk", &[1, 3]));
    let replies = peer.replies();
    let infos: Vec<_> = replies
        .iter()
        .map(|(_, kind, payload)| (*kind, payload.get(1).copied()))
        .collect();
    assert_eq!(
        infos,
        [
            (OptionReplyType::Info, Some(1)),
            (OptionReplyType::Info, Some(2)),
            (OptionReplyType::Info, Some(3)),
            (OptionReplyType::Info, Some(0)),
            (OptionReplyType::Ack, None)
        ]
    );
    assert_eq!(replies[0].2, b"\0\x01disk");
    let Some(End::Negotiated(negotiated)) = peer.end else {
        panic!("{:?}", peer.end)
    };
    assert_eq!(negotiated.replies, ReplyMode::Simple);
    assert!(!negotiated.flags.contains(TransmissionFlags::SEND_DF));
}

#[test]
fn df_is_offered_with_structured_replies_only() {
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&option(OptionCode::StructuredReply, &[]));
    peer.feed(&option(OptionCode::StructuredReply, &[]));
    assert_eq!(peer.kinds(), [OptionReplyType::Ack, OptionReplyType::Invalid]);
    peer.feed(&go(OptionCode::Go, b"disk", &[]));
    let Some(End::Negotiated(negotiated)) = peer.end else {
        panic!("{:?}", peer.end)
    };
    assert_eq!(negotiated.replies, ReplyMode::Structured);
    assert!(negotiated.flags.contains(TransmissionFlags::SEND_DF));
}

#[test]
fn export_name_is_answered_with_and_without_padding() {
    for (flags, length) in [([0, 0, 0, 3], 10), ([0, 0, 0, 1], 134), ([0, 0, 0, 0], 134)] {
        let mut peer = Peer::new(TlsPolicy::Off);
        peer.feed(&flags);
        peer.sent.clear();
        peer.feed(&option(OptionCode::ExportName, b"disk"));
        assert_eq!(peer.sent.len(), length);
        assert!(matches!(peer.end, Some(End::Negotiated(_))));
    }
}

#[test]
fn a_client_without_fixed_newstyle_may_only_name_an_export() {
    let mut peer = Peer::new(TlsPolicy::Off);
    peer.feed(&[0; 4]);
    peer.feed(&option(OptionCode::List, &[]));
    assert_eq!(*peer.closed(), CloseReason::NotFixedNewstyle(OptionCode::List));
}

#[test]
fn nbds_04_names_of_every_length() {
    for (length, kind) in [
        (0, OptionReplyType::Unknown),
        (256, OptionReplyType::Unknown),
        (257, OptionReplyType::Unknown),
        (4096, OptionReplyType::Unknown),
        (4097, OptionReplyType::TooBig),
        (60_000, OptionReplyType::TooBig),
        (70_000, OptionReplyType::TooBig),
    ] {
        let mut peer = session(TlsPolicy::Off);
        peer.feed(&go(OptionCode::Info, &vec![b'x'; length], &[]));
        peer.feed(&option(OptionCode::List, &[]));
        assert_eq!(
            peer.kinds(),
            [kind, OptionReplyType::Server, OptionReplyType::Ack],
            "{length}"
        );
    }
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&option(OptionCode::ExportName, &[b'x'; 4097]));
    assert_eq!(
        *peer.closed(),
        CloseReason::InvalidName(crate::InvalidName::TooLong(4097))
    );
}

#[test]
fn nbds_05_huge_options_drop_the_peer_unread() {
    for length in [MAX_OPTION_DRAIN + 1, u32::MAX] {
        let mut peer = session(TlsPolicy::Off);
        peer.feed(
            &OptionHeader {
                option: OptionCode::Other(77),
                payload: PayloadLength(length),
            }
            .encode(),
        );
        assert_eq!(*peer.closed(), CloseReason::OptionTooLong(length));
    }
    // What is merely large is read past without being kept.
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&option(
        OptionCode::Other(77),
        &vec![0; MAX_OPTION_DRAIN as usize],
    ));
    assert_eq!(peer.kinds(), [OptionReplyType::Unsupported]);
}

#[test]
fn nbds_06_a_refusal_repeats_little_of_the_name() {
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&go(OptionCode::Go, "\u{1b}ä".repeat(1365).as_bytes(), &[]));
    let (_, kind, text) = peer.replies().remove(0);
    assert_eq!(kind, OptionReplyType::Unknown);
    let text = String::from_utf8(text).unwrap();
    assert!(text.len() < 120 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn nbds_07_every_short_prefix_then_silence_is_harmless() {
    let mut random = Random::new(7);
    for length in 0..=64 {
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|_| random.byte()).collect();
            Peer::new(TlsPolicy::Off).feed(&bytes);
            Peer::new(TlsPolicy::Required).feed(&bytes);
            session(TlsPolicy::Off).feed(&bytes);
        }
    }
}

#[test]
fn nbds_10_every_sequence_of_four_options_is_total() {
    let alphabet: Vec<Vec<u8>> = vec![
        option(OptionCode::ExportName, b"disk"),
        option(OptionCode::Abort, &[]),
        option(OptionCode::List, &[]),
        option(OptionCode::StartTls, &[]),
        go(OptionCode::Info, b"disk", &[]),
        go(OptionCode::Go, b"disk", &[]),
        go(OptionCode::Go, b"no", &[]),
        option(OptionCode::StructuredReply, &[]),
        option(OptionCode::ListMetaContext, &[0; 8]),
        option(OptionCode::SetMetaContext, &[0; 8]),
        option(OptionCode::ExtendedHeaders, &[]),
    ];
    for policy in [TlsPolicy::Off, TlsPolicy::Required] {
        for number in 0..alphabet.len().pow(4) {
            let mut peer = session(policy);
            for place in 0..4 {
                let which = number / alphabet.len().pow(place) % alphabet.len();
                peer.feed(&alphabet[which]);
            }
            if peer.end.is_none() {
                assert!(
                    peer.replies().len() >= 4,
                    "every option that does not end the session is answered"
                );
            }
        }
    }
}

#[test]
fn nbds_11_what_was_negotiated_in_clear_is_forgotten_under_tls() {
    // The policy refuses the option in clear, so put the state there by hand: it must still not survive.
    let mut peer = session(TlsPolicy::Required);
    peer.negotiation.pretend_structured();
    peer.feed(&option(OptionCode::StartTls, &[]));
    peer.feed(&go(OptionCode::Go, b"disk", &[]));
    let Some(End::Negotiated(negotiated)) = peer.end else {
        panic!("{:?}", peer.end)
    };
    assert_eq!(negotiated.replies, ReplyMode::Simple);
}

#[test]
fn nbds_12_meta_contexts_are_not_negotiable_yet_before_or_after_tls() {
    let mut peer = session(TlsPolicy::Required);
    peer.feed(&option(OptionCode::SetMetaContext, &[0; 8]));
    peer.feed(&option(OptionCode::StartTls, &[]));
    peer.feed(&option(OptionCode::SetMetaContext, &[0; 8]));
    assert_eq!(
        peer.kinds(),
        [
            OptionReplyType::TlsRequired,
            OptionReplyType::Ack,
            OptionReplyType::Unsupported
        ]
    );
}

#[test]
fn nbds_13_clear_text_behind_starttls_is_fatal() {
    for behind in [&b"\0"[..], &option(OptionCode::List, &[])] {
        let mut peer = session(TlsPolicy::Required);
        peer.feed(&[&option(OptionCode::StartTls, &[]), behind].concat());
        assert_eq!(*peer.closed(), CloseReason::ClearTextBehindStartTls);
        assert!(peer.sent.is_empty(), "not even acknowledged");
        assert_eq!(peer.lookups, 0);
    }
}

#[test]
fn nbds_14_before_tls_nothing_is_told() {
    let mut peer = session(TlsPolicy::Required);
    for name in [&b"disk"[..], b"no"] {
        peer.feed(&go(OptionCode::Info, name, &[]));
        peer.feed(&go(OptionCode::Go, name, &[]));
    }
    peer.feed(&option(OptionCode::List, &[]));
    peer.feed(&option(OptionCode::StructuredReply, &[]));
    peer.feed(&option(OptionCode::Other(1234), &[1; 100_000]));
    let replies = peer.replies();
    assert_eq!(replies.len(), 7);
    for (_, kind, text) in &replies {
        assert_eq!((*kind, text), (OptionReplyType::TlsRequired, &replies[0].2));
    }
    assert_eq!(peer.lookups, 0);
    peer.feed(&option(OptionCode::ExportName, b"disk"));
    assert_eq!(*peer.closed(), CloseReason::ClearTextExportName);

    let mut peer = session(TlsPolicy::Required);
    peer.feed(&option(OptionCode::Abort, &[]));
    assert_eq!(
        (peer.kinds(), peer.closed()),
        (vec![OptionReplyType::Ack], &CloseReason::Aborted)
    );
}

#[test]
fn starttls_is_refused_where_it_makes_no_sense() {
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&option(OptionCode::StartTls, &[]));
    assert_eq!(peer.kinds(), [OptionReplyType::Policy]);
    let mut peer = session(TlsPolicy::Required);
    peer.feed(&option(OptionCode::StartTls, &[1]));
    peer.feed(&option(OptionCode::StartTls, &[]));
    peer.feed(&option(OptionCode::StartTls, &[]));
    assert_eq!(
        peer.kinds(),
        [
            OptionReplyType::Invalid,
            OptionReplyType::Ack,
            OptionReplyType::Invalid
        ]
    );
}

/// One random option, and how it must be answered (nothing but its last reply's kind).
fn random_option(random: &mut Random) -> (Vec<u8>, OptionReplyType) {
    let junk: Vec<u8> = (0..random.below(9000)).map(|_| random.byte()).collect();
    match random.below(9) {
        0 => (option(OptionCode::List, &[]), OptionReplyType::Ack),
        1 => (
            option(OptionCode::List, &[&junk[..], b"x"].concat()),
            OptionReplyType::Invalid,
        ),
        2 => (
            go(OptionCode::Info, b"disk", &[0, 1, 2, 3, 9]),
            OptionReplyType::Ack,
        ),
        3 => (go(OptionCode::Go, b"no", &[3]), OptionReplyType::Unknown),
        4 => (go(OptionCode::Go, b"a\0b", &[]), OptionReplyType::Invalid),
        5 => (
            option(OptionCode::Go, &[&[0xff; 4], &junk[..]].concat()),
            OptionReplyType::Invalid,
        ),
        6 => (
            option(OptionCode::Other(random.below(60_000) + 100), &junk),
            OptionReplyType::Unsupported,
        ),
        7 => (
            option(OptionCode::StartTls, &junk),
            if junk.is_empty() {
                OptionReplyType::Policy
            } else {
                OptionReplyType::Invalid
            },
        ),
        _ => (
            option(OptionCode::Info, &vec![7; 70_000]),
            OptionReplyType::TooBig,
        ),
    }
}

#[test]
fn nbds_15_ten_thousand_refusals_stay_in_step_however_they_are_cut() {
    let mut random = Random::new(15);
    let mut options = 0;
    while options < 10_000 {
        let mut stream = vec![];
        let mut expected = vec![];
        for _ in 0..MAX_OPTIONS {
            let (bytes, kind) = random_option(&mut random);
            stream.extend(bytes);
            expected.push(kind);
            options += 1;
        }
        let mut peer = session(TlsPolicy::Off);
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let length = (1 + random.below(20_000) as usize).min(rest.len());
            peer.feed(&rest[..length]);
            rest = &rest[length..];
        }
        assert_eq!(peer.end, None);
        let mut kinds = peer.kinds();
        kinds.retain(|kind| !matches!(kind, OptionReplyType::Server | OptionReplyType::Info));
        assert_eq!(kinds, expected);
    }
}

#[test]
fn byte_by_byte_is_the_same_as_at_once() {
    let stream = [
        &FLAGS[..],
        &option(OptionCode::List, &[]),
        &option(OptionCode::StructuredReply, &[]),
        &go(OptionCode::Info, b"disk", &[1]),
        &go(OptionCode::Go, b"no", &[]),
        &go(OptionCode::Go, b"disk", &[3]),
    ]
    .concat();
    let mut whole = Peer::new(TlsPolicy::Off);
    whole.feed(&stream);
    let mut pieces = Peer::new(TlsPolicy::Off);
    for byte in stream {
        pieces.feed(&[byte]);
    }
    assert_eq!((whole.sent, &whole.end), (pieces.sent, &pieces.end));
    assert!(whole.end.is_some());
}

#[test]
fn nbds_16_name_length_of_4_gib_is_malformed_not_allocated() {
    let mut peer = session(TlsPolicy::Off);
    peer.feed(&option(OptionCode::Go, &[0xff, 0xff, 0xff, 0xff, b'a', 0, 0]));
    assert_eq!(peer.kinds(), [OptionReplyType::Invalid]);
}

#[test]
fn nbds_17_inner_lengths_must_add_up() {
    let good = &go(OptionCode::Go, b"no", &[1, 3])[16..];
    for length in 0..good.len() {
        let mut peer = session(TlsPolicy::Off);
        peer.feed(&option(OptionCode::Go, &good[..length]));
        peer.feed(&option(OptionCode::Go, &[good, b"x"].concat()));
        assert_eq!(peer.kinds(), [OptionReplyType::Invalid; 2], "{length}");
    }
}

#[test]
fn nbds_23_an_option_flood_is_cut_off() {
    for policy in [TlsPolicy::Off, TlsPolicy::Required] {
        let mut peer = session(policy);
        for _ in 0..MAX_OPTIONS {
            peer.feed(&option(OptionCode::Other(99), &[]));
        }
        assert_eq!(peer.end, None);
        peer.feed(&option(OptionCode::Other(99), &[]));
        assert_eq!(*peer.closed(), CloseReason::TooManyOptions);
    }
}

#[test]
fn nbds_23_output_is_handed_over_after_every_option() {
    let mut negotiation = ServerNegotiation::new(TlsPolicy::Off, MAX_OPTIONS);
    let two = [
        &FLAGS[..],
        &option(OptionCode::Other(99), &[]),
        &option(OptionCode::Other(99), &[]),
    ]
    .concat();
    let (used, event) = negotiation.feed(&two);
    assert!(matches!(event, ServerEvent::Continue));
    assert_eq!(
        used, 20,
        "the second option is left for after the output was sent"
    );
}

#[test]
fn nbds_25_nul_and_broken_utf8_in_names() {
    for name in [&b"a\0b"[..], b"\0", b"\xff", b"\xc3"] {
        let mut peer = session(TlsPolicy::Off);
        peer.feed(&go(OptionCode::Go, name, &[]));
        assert_eq!(peer.kinds(), [OptionReplyType::Invalid]);
        assert_eq!(peer.lookups, 0);
        peer.feed(&option(OptionCode::ExportName, name));
        assert!(matches!(peer.closed(), CloseReason::InvalidName(_)));
    }
}

#[test]
fn unknown_client_flags_and_bad_magic_end_the_session() {
    let mut peer = Peer::new(TlsPolicy::Off);
    peer.feed(&[0, 0, 0, 4]);
    assert_eq!(*peer.closed(), CloseReason::UnknownClientFlags(4));
    let mut peer = session(TlsPolicy::Off);
    peer.feed(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(peer.closed(), CloseReason::BadMagic(_)));
}
