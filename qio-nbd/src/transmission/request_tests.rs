//! Tests of the request parser.

use super::*;
use crate::facts::ReplyMode;
use crate::limits::MAX_PAYLOAD;
use crate::testing::Random;
use crate::wire::*;

const SIZE: u64 = 1 << 30;

fn facts() -> ExportFacts {
    ExportFacts {
        size: SIZE,
        flags: TransmissionFlags::all() - TransmissionFlags::READ_ONLY,
        replies: ReplyMode::Structured,
    }
}

fn header(command: Command, offset: u64, length: u32) -> RequestHeader {
    RequestHeader {
        flags: CommandFlags::empty(),
        command,
        cookie: Cookie(5),
        offset,
        length,
    }
}

fn first(facts: ExportFacts, header: RequestHeader) -> Result<RequestEvent, RequestStreamError> {
    RequestParser::new(facts)
        .feed(&header.encode())
        .map(|(_, event)| event)
}

fn refused(event: RequestEvent) -> ErrorNumber {
    match event {
        RequestEvent::Refused {
            error,
            cookie: Cookie(5),
            ..
        } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nbds_18_payload_sizes_around_the_limit() {
    for length in [1, MAX_PAYLOAD - 1, MAX_PAYLOAD] {
        let event = first(facts(), header(Command::Read, 0, length)).unwrap();
        assert!(matches!(
            event,
            RequestEvent::Request {
                request: Request::Read { .. },
                ..
            }
        ));
        let event = first(facts(), header(Command::Write, 0, length)).unwrap();
        assert!(matches!(
            event,
            RequestEvent::Request {
                request: Request::Write { .. },
                ..
            }
        ));
    }
    for length in [MAX_PAYLOAD + 1, u32::MAX] {
        assert_eq!(
            refused(first(facts(), header(Command::Read, 0, length)).unwrap()),
            ErrorNumber::Overflow
        );
        let error = first(facts(), header(Command::Write, 0, length)).unwrap_err();
        assert_eq!(
            error,
            RequestStreamError::WriteTooLong {
                cookie: Cookie(5),
                length
            }
        );
    }
}

#[test]
fn ranges_are_checked_without_wrapping() {
    for (command, error) in [
        (Command::Read, ErrorNumber::Invalid),
        (Command::Trim, ErrorNumber::Invalid),
        (Command::WriteZeroes, ErrorNumber::NoSpace),
    ] {
        for (offset, length) in [
            (SIZE, 1),
            (SIZE - 1, 2),
            (u64::MAX, 1),
            (u64::MAX - 3, 4),
            (SIZE + 1, 0),
        ] {
            assert_eq!(
                refused(first(facts(), header(command, offset, length)).unwrap()),
                error
            );
        }
        for (offset, length) in [(SIZE, 0), (SIZE - 1, 1), (0, 0)] {
            let event = first(facts(), header(command, offset, length)).unwrap();
            assert!(matches!(event, RequestEvent::Request { .. }), "{event:?}");
        }
    }
}

#[test]
fn nbds_15_a_refused_write_is_read_past() {
    let read_only = ExportFacts {
        flags: TransmissionFlags::all(),
        ..facts()
    };
    for (facts, offset, expected) in [
        (facts(), SIZE - 10, ErrorNumber::NoSpace),
        (read_only, 0, ErrorNumber::NotPermitted),
    ] {
        let stream = [
            &header(Command::Write, offset, 100).encode()[..],
            &[0x25; 100],
            &header(Command::Flush, 0, 0).encode(),
        ]
        .concat();
        for cut in [1, 27, 28, 29, 1000] {
            let mut parser = RequestParser::new(facts);
            let mut events = vec![];
            for mut piece in stream.chunks(cut) {
                loop {
                    let (used, event) = parser.feed(piece).unwrap();
                    piece = &piece[used..];
                    if event != RequestEvent::NeedInput {
                        events.push(event);
                    }
                    if piece.is_empty() {
                        break;
                    }
                }
            }
            assert_eq!(events.len(), 2, "{cut}: {events:?}");
            assert_eq!(refused(events[0]), expected);
            assert_eq!(
                events[1],
                RequestEvent::Request {
                    cookie: Cookie(5),
                    request: Request::Flush
                }
            );
        }
    }
}

#[test]
fn payload_may_bypass_the_parser() {
    let mut parser = RequestParser::new(facts());
    let _ = parser.feed(&header(Command::Write, 0, 100).encode()).unwrap();
    assert_eq!(parser.payload_missing(), 100);
    assert_eq!(parser.feed(&[1; 30]).unwrap(), (30, RequestEvent::Payload));
    parser.payload_received(70);
    assert_eq!(parser.payload_missing(), 0);
    let (_, event) = parser.feed(&header(Command::Disconnect, 0, 0).encode()).unwrap();
    assert_eq!(event, RequestEvent::Disconnect);
}

#[test]
fn only_what_was_offered_is_served() {
    let poor = ExportFacts {
        flags: TransmissionFlags::HAS_FLAGS,
        ..facts()
    };
    for command in [
        Command::Flush,
        Command::Trim,
        Command::WriteZeroes,
        Command::Cache,
        Command::BlockStatus,
    ] {
        assert_eq!(
            refused(first(poor, header(command, 0, 0)).unwrap()),
            ErrorNumber::Invalid
        );
    }
    for flags in [
        CommandFlags::FUA,
        CommandFlags::DF,
        CommandFlags::FAST_ZERO,
        CommandFlags::from_bits_retain(1 << 15),
    ] {
        let read = RequestHeader {
            flags,
            ..header(Command::Read, 0, 1)
        };
        assert_eq!(refused(first(poor, read).unwrap()), ErrorNumber::Invalid);
    }
    let read = RequestHeader {
        flags: CommandFlags::FUA | CommandFlags::DF,
        ..header(Command::Read, 0, 1)
    };
    assert!(matches!(first(facts(), read), Ok(RequestEvent::Request { .. })));
    assert_eq!(
        refused(first(facts(), header(Command::Other(99), 0, 0)).unwrap()),
        ErrorNumber::Invalid
    );
    assert_eq!(
        refused(first(facts(), header(Command::Flush, 1, 0)).unwrap()),
        ErrorNumber::Invalid
    );
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random::new(1);
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
        if random.below(2) == 0 && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&[0x25, 0x60, 0x95, 0x13, 0, 0, 0, random.byte() & 7]);
        }
        let mut parser = RequestParser::new(facts());
        let mut rest = &bytes[..];
        while let Ok((used, event)) = parser.feed(rest) {
            rest = &rest[used..];
            if event == RequestEvent::NeedInput || event == RequestEvent::Disconnect {
                break;
            }
        }
    }
}
