//! Tests of the reply parser.

use super::*;
use crate::facts::ReplyMode;
use crate::limits::MAX_PAYLOAD;
use crate::testing::Random;
use crate::wire::*;

fn chunk(kind: ChunkType, done: bool, cookie: Cookie, payload: &[u8]) -> Vec<u8> {
    let flags = if done {
        ChunkFlags::DONE
    } else {
        ChunkFlags::empty()
    };
    let header = ChunkHeader {
        flags,
        kind,
        cookie,
        payload: PayloadLength(payload.len() as u32),
    };
    [&header.encode()[..], payload].concat()
}

fn data(offset: u64, bytes: &[u8], done: bool) -> Vec<u8> {
    chunk(
        ChunkType::OffsetData,
        done,
        Cookie(1),
        &[&offset.to_be_bytes()[..], bytes].concat(),
    )
}

fn hole(offset: u64, length: u32, done: bool) -> Vec<u8> {
    let payload = [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat();
    chunk(ChunkType::OffsetHole, done, Cookie(1), &payload)
}

fn error(done: bool, number: u32, text: &str) -> Vec<u8> {
    let payload = [
        &number.to_be_bytes()[..],
        &(text.len() as u16).to_be_bytes(),
        text.as_bytes(),
    ]
    .concat();
    chunk(ChunkType::Error, done, Cookie(1), &payload)
}

fn none() -> Vec<u8> {
    chunk(ChunkType::None, true, Cookie(1), &[])
}

/// The outcome of a read of 100 bytes at offset 1000 whose reply is `stream`, fed `cut` bytes at a time.
fn read(
    mode: ReplyMode,
    stream: &[u8],
    cut: usize,
) -> Result<Option<Result<Vec<u8>, ErrorNumber>>, ReplyError> {
    let mut parser = ReplyParser::new(mode);
    assert_eq!(
        parser.expect(Asked::Read {
            offset: 1000,
            length: 100
        }),
        Cookie(1)
    );
    let mut buffer = vec![0xee; 100];
    let mut place = 0..0;
    for mut piece in stream.chunks(cut) {
        loop {
            let direct = parser.data_missing().min(piece.len());
            if direct > 0 {
                buffer[place.start..place.start + direct].copy_from_slice(&piece[..direct]);
                place.start += direct;
                parser.data_received(direct);
                piece = &piece[direct..];
            }
            let (used, event) = parser.feed(piece)?;
            piece = &piece[used..];
            match event {
                ReplyEvent::NeedInput if piece.is_empty() => break,
                ReplyEvent::NeedInput => {}
                ReplyEvent::Data { range, .. } => place = range,
                ReplyEvent::Zeroes { range, .. } => buffer[range].fill(0),
                ReplyEvent::Done { .. } => return Ok(Some(Ok(buffer))),
                ReplyEvent::Failed { error, .. } => return Ok(Some(Err(error))),
            }
        }
    }
    Ok(None)
}

fn structured(stream: &[u8]) -> Result<Option<Result<Vec<u8>, ErrorNumber>>, ReplyError> {
    let whole = read(ReplyMode::Structured, stream, usize::MAX);
    for cut in [1, 3, 20, 21, 64] {
        assert_eq!(read(ReplyMode::Structured, stream, cut), whole, "cut into {cut}");
    }
    whole
}

#[test]
fn a_read_in_pieces_out_of_order_with_a_hole() {
    let stream = [
        data(1060, &[3; 40], false),
        hole(1020, 40, false),
        data(1000, &[1; 20], true),
    ]
    .concat();
    let expected = [[1; 20].to_vec(), vec![0; 40], vec![3; 40]].concat();
    assert_eq!(structured(&stream), Ok(Some(Ok(expected.clone()))));
    let ended_apart = [
        data(1060, &[3; 40], false),
        data(1000, &expected[..60], false),
        none(),
    ]
    .concat();
    assert_eq!(structured(&ended_apart), Ok(Some(Ok(expected))));
}

#[test]
fn a_simple_read() {
    let head = SimpleReplyHeader {
        error: None,
        cookie: Cookie(1),
    }
    .encode();
    let stream = [&head[..], &[9; 100]].concat();
    for cut in [1, 16, 17, 1000] {
        assert_eq!(read(ReplyMode::Simple, &stream, cut), Ok(Some(Ok(vec![9; 100]))));
    }
    assert_eq!(
        read(ReplyMode::Structured, &stream, 1000).unwrap_err(),
        ReplyError::WrongForm("a read's data in a simple reply, where structured ones were agreed on")
    );
    let refusal = SimpleReplyHeader {
        error: Some(ErrorNumber::Io),
        cookie: Cookie(1),
    }
    .encode();
    assert_eq!(
        read(ReplyMode::Simple, &refusal, 1000),
        Ok(Some(Err(ErrorNumber::Io)))
    );
    assert!(
        read(ReplyMode::Simple, &none(), 1000).is_err(),
        "chunks were not agreed on"
    );
}

#[test]
fn nbdc_02_chunks_outside_the_read_are_fatal() {
    for (offset, length) in [
        (u64::MAX, 1),
        (0, 1),
        (999, 1),
        (999, 100),
        (1100, 1),
        (1099, 2),
        (1000, 101),
        (u64::MAX - 50, 100),
    ] {
        let outcome = structured(&data(offset, &vec![1; length], true));
        assert!(
            matches!(outcome, Err(ReplyError::OutOfRange { .. })),
            "{offset}+{length}: {outcome:?}"
        );
        let outcome = structured(&hole(offset, length as u32, true));
        assert!(
            matches!(outcome, Err(ReplyError::OutOfRange { .. })),
            "{offset}+{length}: {outcome:?}"
        );
    }
    assert!(matches!(
        structured(&hole(1000, u32::MAX, true)),
        Err(ReplyError::OutOfRange { .. })
    ));
}

#[test]
fn nbdc_03_every_byte_exactly_once() {
    let whole = data(1000, &[1; 100], false);
    assert_eq!(
        structured(&[whole.clone(), none()].concat()),
        Ok(Some(Ok(vec![1; 100])))
    );
    for twice in [
        data(1000, &[2; 1], true),
        data(1099, &[2; 1], true),
        hole(1040, 10, true),
    ] {
        assert_eq!(
            structured(&[whole.clone(), twice].concat()),
            Err(ReplyError::Overlap)
        );
    }
    // A duplicate as long as what is missing: the lengths add up, the bytes do not.
    let duplicate = [data(1000, &[1; 50], false), data(1000, &[1; 50], true)].concat();
    assert_eq!(structured(&duplicate), Err(ReplyError::Overlap));
    for short in [data(1000, &[1; 99], true), data(1001, &[1; 99], true), none()] {
        assert_eq!(structured(&short), Err(ReplyError::Incomplete));
    }
}

#[test]
fn nbdc_04_a_failed_read_shows_nothing_and_stays_in_step() {
    let stream = [
        data(1000, &[1; 50], false),
        error(false, 5, "bad\nsector"),
        data(1050, &[1; 50], true),
    ]
    .concat();
    assert_eq!(structured(&stream), Ok(Some(Err(ErrorNumber::Io))));
    let mut parser = ReplyParser::new(ReplyMode::Structured);
    let _ = parser.expect(Asked::Read { offset: 0, length: 8 });
    let (_, event) = parser.feed(&error(true, 28, "full\u{7}")).unwrap();
    assert_eq!(
        event,
        ReplyEvent::Failed {
            cookie: Cookie(1),
            error: ErrorNumber::NoSpace,
            text: "full\\u{7}".to_owned()
        }
    );
    assert_eq!(parser.in_flight(), 0);
}

#[test]
fn nbdc_10_a_chunk_is_judged_by_its_header() {
    for (kind, length) in [
        (ChunkType::OffsetData, MAX_PAYLOAD + 9),
        (ChunkType::OffsetData, u32::MAX),
        (ChunkType::OffsetData, 8),
        (ChunkType::OffsetHole, 11),
        (ChunkType::None, 1),
        (ChunkType::Error, 65_537),
        (ChunkType::Error, 5),
        (ChunkType::ErrorOffset, u32::MAX),
        (ChunkType::BlockStatus, 12),
        (ChunkType::Other(77), 0),
    ] {
        let header = ChunkHeader {
            flags: ChunkFlags::DONE,
            kind,
            cookie: Cookie(1),
            payload: PayloadLength(length),
        };
        let outcome = structured(&header.encode());
        assert!(
            matches!(outcome, Err(ReplyError::Chunk { .. })),
            "{kind:?} {length}: {outcome:?}"
        );
    }
    assert!(structured(&error(true, 0, "")).is_err(), "an error that is none");
    let mut lying = error(true, 5, "abc");
    lying[25] = 4;
    assert!(matches!(structured(&lying), Err(ReplyError::Chunk { .. })));
    lying[25] = 2;
    assert!(matches!(structured(&lying), Err(ReplyError::Chunk { .. })));
}

#[test]
fn nbdc_12_unknown_and_finished_cookies_and_bad_magic_are_fatal() {
    let stranger = SimpleReplyHeader {
        error: None,
        cookie: Cookie(2),
    }
    .encode();
    assert_eq!(structured(&stranger), Err(ReplyError::UnknownCookie(Cookie(2))));
    assert_eq!(
        structured(&chunk(ChunkType::None, true, Cookie(9), &[])),
        Err(ReplyError::UnknownCookie(Cookie(9)))
    );
    assert!(matches!(
        structured(b"HTTP/1.1 200 OK"),
        Err(ReplyError::BadMagic(_))
    ));

    let mut parser = ReplyParser::new(ReplyMode::Simple);
    let cookie = parser.expect(Asked::Other);
    let reply = SimpleReplyHeader { error: None, cookie }.encode();
    assert_eq!(parser.feed(&reply), Ok((16, ReplyEvent::Done { cookie })));
    assert_eq!(parser.feed(&reply), Err(ReplyError::UnknownCookie(cookie)));
}

#[test]
fn data_for_a_request_that_is_no_read_is_fatal() {
    let mut parser = ReplyParser::new(ReplyMode::Structured);
    let _ = parser.expect(Asked::Other);
    assert!(matches!(
        parser.feed(&data(0, &[1], true)),
        Err(ReplyError::Chunk { .. })
    ));
}

#[test]
fn random_replies_never_panic_and_never_invent_bytes() {
    let mut random = Random::new(4);
    for _ in 0..20_000 {
        let mut stream = vec![];
        for _ in 0..random.below(5) {
            let offset = 995 + u64::from(random.below(110));
            let length = random.below(60);
            let done = random.below(3) == 0;
            stream.extend(match random.below(4) {
                0 => hole(offset, length, done),
                1 => error(done, random.below(3), "x"),
                2 => none(),
                _ => data(offset, &vec![1; length as usize], done),
            });
        }
        if random.below(4) == 0 && !stream.is_empty() {
            let at = random.below(stream.len() as u32) as usize;
            stream[at] = random.byte();
        }
        if let Ok(Some(Ok(buffer))) = read(ReplyMode::Structured, &stream, 1 + random.below(80) as usize) {
            assert!(buffer.iter().all(|byte| *byte != 0xee), "a byte that nobody sent");
        }
    }
}

#[test]
fn a_reply_of_chunks_without_end_is_cut_off() {
    let limit = |error| match error {
        ReplyError::TooManyChunks { limit } => limit,
        other => panic!("{other}"),
    };
    for asked in [
        Asked::Other,
        Asked::Read {
            offset: 0,
            length: 1 << 20,
        },
    ] {
        let mut parser = ReplyParser::new(ReplyMode::Structured);
        let _ = parser.expect(asked);
        let chunk = error(false, 5, "again");
        let mut fed = 0;
        let error = loop {
            assert!(fed < 1 << 20, "there is no end");
            match parser.feed(&chunk) {
                Ok((used, event)) => assert_eq!((used, event), (chunk.len(), ReplyEvent::NeedInput)),
                Err(error) => break error,
            }
            fed += 1;
        };
        assert_eq!(fed, limit(error), "{asked:?}");
    }
}

#[test]
fn a_read_in_as_many_pieces_as_it_has_sectors_is_taken() {
    let mut parser = ReplyParser::new(ReplyMode::Structured);
    let length = MAX_PAYLOAD;
    let _ = parser.expect(Asked::Read { offset: 0, length });
    for offset in (0..length).step_by(512) {
        let (_, event) = parser
            .feed(&hole(offset.into(), 512, offset + 512 == length))
            .unwrap();
        assert!(matches!(event, ReplyEvent::Zeroes { .. }), "{event:?}");
    }
    assert_eq!(
        parser.feed(&[]).unwrap().1,
        ReplyEvent::Done { cookie: Cookie(1) }
    );
}
