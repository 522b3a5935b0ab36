//! Checks of a channel in blocking mode, with a thread at each end.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::thread;

use super::{PUMP_BYTES, PUMP_VECTORS, Pair, Pattern, uneven};
use crate::{BoxChannel, ChannelExt, Features, ReadAll, Shutdown};

pub(super) fn run(make: &dyn Fn() -> Pair) {
    says_what_it_is(make());
    pump(make());
    one_byte_reads(make());
    empty_vectors(make());
    many_vectors(make());
    for sent in 0..=17 {
        end_of_stream_after(make(), sent);
    }
    shutdown_is_idempotent(make());
    writing_to_a_dropped_peer_fails(make());
    if make().near.features().contains(Features::SPLIT) && make().far.features().contains(Features::SPLIT) {
        split(make());
    }
}

fn says_what_it_is(pair: Pair) {
    for channel in [&pair.near, &pair.far] {
        assert!(
            !channel.info().kind.is_empty(),
            "info() must name the kind of channel"
        );
    }
}

/// 1 MiB through 250 uneven vectors, with other uneven vectors at the reading end.
fn pump(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    let writer = thread::spawn(move || {
        send_pattern(&mut near, 1);
        end(&mut near);
        near // dropped by the joiner: an early drop must not be what ends the stream
    });
    receive_pattern(&mut far, 1);
    for _ in 0..2 {
        assert_eq!(
            far.read(&mut [0; 16]).expect("a clean end"),
            0,
            "the end of the stream must stay the end"
        );
    }
    drop(writer.join().expect("the writer"));
}

pub(super) fn send_pattern(channel: &mut BoxChannel, seed: u64) {
    let mut data = vec![0; PUMP_BYTES];
    Pattern::new(seed).fill(&mut data);
    let mut rest = &data[..];
    let mut vectors = Vec::new();
    for length in uneven(PUMP_BYTES, PUMP_VECTORS) {
        let (now, later) = rest.split_at(length);
        vectors.push(IoSlice::new(now));
        rest = later;
    }
    channel.writev_all(&mut vectors).expect("writing all vectors");
}

pub(super) fn receive_pattern(channel: &mut BoxChannel, seed: u64) {
    let mut data = vec![0; PUMP_BYTES];
    let mut rest = &mut data[..];
    let mut vectors = Vec::new();
    for length in uneven(PUMP_BYTES, PUMP_VECTORS - 13) {
        let (now, later) = rest.split_at_mut(length);
        vectors.push(IoSliceMut::new(now));
        rest = later;
    }
    channel.readv_all(&mut vectors).expect("reading all vectors");
    Pattern::new(seed).check(&data);
}

fn one_byte_reads(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    let mut data = [0; 4096];
    Pattern::new(2).fill(&mut data);
    let writer = thread::spawn(move || {
        near.write_all(&data).expect("writing");
        near
    });
    let mut pattern = Pattern::new(2);
    for _ in 0..data.len() {
        let mut byte = [0];
        assert_eq!(far.read(&mut byte).expect("reading one byte"), 1);
        pattern.check(&byte);
    }
    drop(writer.join().expect("the writer"));
}

/// Vectors without room are neither the end of the stream nor a write.
fn empty_vectors(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    assert_eq!(near.writev(&[]).expect("writing no vector"), 0);
    assert_eq!(
        near.writev(&[IoSlice::new(&[]), IoSlice::new(&[])])
            .expect("writing empty vectors"),
        0
    );
    near.writev_all(&mut [IoSlice::new(b""), IoSlice::new(b"abc"), IoSlice::new(b"")])
        .expect("writing");
    assert_eq!(far.readv(&mut []).expect("reading into no vector"), 0);
    assert_eq!(far.read(&mut []).expect("reading into an empty vector"), 0);
    let mut abc = [0; 3];
    let (mut none, mut none_either) = ([0; 0], [0; 0]);
    far.readv_all(&mut [
        IoSliceMut::new(&mut none),
        IoSliceMut::new(&mut abc),
        IoSliceMut::new(&mut none_either),
    ])
    .expect("reading");
    assert_eq!(&abc, b"abc");
}

/// More vectors than the kernel takes in one call.
fn many_vectors(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    let data: Vec<u8> = (0..3000u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut vectors: Vec<_> = data.chunks(1).map(IoSlice::new).collect();
    near.writev_all(&mut vectors).expect("writing 3000 vectors");
    let mut back = vec![0; data.len()];
    let mut vectors: Vec<_> = back.chunks_mut(1).map(IoSliceMut::new).collect();
    far.readv_all(&mut vectors).expect("reading 3000 vectors");
    assert_eq!(back, data);

    // As many empty ones in front do not look like the end of the stream.
    let mut out = vec![IoSlice::new(&[]); 1500];
    out.push(IoSlice::new(b"behind"));
    assert!(near.writev(&out).expect("writing behind 1500 empty vectors") > 0);
    let mut behind = [0; 6];
    let mut nothing: Vec<[u8; 0]> = vec![[]; 1500];
    let mut vectors: Vec<_> = nothing.iter_mut().map(|empty| IoSliceMut::new(empty)).collect();
    vectors.push(IoSliceMut::new(&mut behind));
    assert!(
        far.readv(&mut vectors)
            .expect("reading behind 1500 empty vectors")
            > 0
    );
}

/// A reader that wants 16 bytes, and a stream that ends after fewer, as many, or more.
fn end_of_stream_after(pair: Pair, sent: usize) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    near.write_all(&vec![7; sent]).expect("writing");
    end(&mut near);
    let mut wanted = [0; 16];
    let result = far.readv_all_eof(&mut [IoSliceMut::new(&mut wanted)]);
    match sent {
        0 => assert_eq!(result.expect("a clean end"), ReadAll::End),
        16.. => assert_eq!(result.expect("all of it"), ReadAll::Complete),
        _ => assert_eq!(result.expect_err("a cut stream").kind(), ErrorKind::UnexpectedEof),
    }
}

fn shutdown_is_idempotent(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    near.write_all(b"last words").expect("writing");
    for _ in 0..3 {
        near.shutdown(Shutdown::Write)
            .expect("shutdown(Write) is legal any number of times");
    }
    let error = near
        .write_all(b"more")
        .expect_err("writing after shutdown(Write)");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    let mut words = [0; 10];
    far.read_exact(&mut words)
        .expect("what was written before the shutdown");
    assert_eq!(&words, b"last words");
    for _ in 0..3 {
        // A peer that is gone already is no reason to fail.
        far.shutdown(Shutdown::Both)
            .expect("shutdown(Both) is legal any number of times");
    }
}

fn writing_to_a_dropped_peer_fails(pair: Pair) {
    let Pair { mut near, far, .. } = pair;
    drop(far);
    let block = [0; 4096];
    // The kernel may swallow some before it knows.
    let error = (0..4096).find_map(|_| near.write_all(&block).err());
    let kind = error.expect("16 MiB into the void").kind();
    assert!(
        matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        "{kind:?}"
    );
}

/// Both directions at once, each half on its own thread.
fn split(pair: Pair) {
    let Pair { near, far, duplex } = pair;
    let (near_reader, mut near_writer) = near.into_split().expect("splitting");
    let (mut far_reader, far_writer) = far.into_split().expect("splitting");
    thread::scope(|scope| {
        scope.spawn(|| {
            send_pattern(&mut near_writer, 3);
            end(&mut near_writer);
        });
        scope.spawn(|| {
            receive_pattern(&mut far_reader, 3);
            assert_eq!(far_reader.read(&mut [0]).expect("a clean end"), 0);
        });
        if duplex {
            let (mut near_reader, mut far_writer) = (near_reader, far_writer);
            scope.spawn(move || {
                send_pattern(&mut far_writer, 4);
                end(&mut far_writer);
            });
            scope.spawn(move || {
                receive_pattern(&mut near_reader, 4);
                assert_eq!(near_reader.read(&mut [0]).expect("a clean end"), 0);
            });
        }
    });
}

pub(super) fn end(channel: &mut BoxChannel) {
    channel.shutdown(Shutdown::Write).expect("ending the stream");
}
