//! Checks of a channel in non-blocking mode, both ends on one thread, by readiness.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::time::{Duration, Instant};

use super::{PUMP_BYTES, PUMP_VECTORS, Pair, Pattern, uneven};
use crate::{BoxChannel, ChannelExt, Direction, Shutdown, Wait, wait};

pub(super) fn run(make: &dyn Fn() -> Pair) {
    nothing_there_would_block(nonblocking(make()));
    full_would_block(nonblocking(make()));
    pump(nonblocking(make()));
    modes_can_change(make());
}

fn nonblocking(mut pair: Pair) -> Pair {
    pair.near.set_blocking(false).expect("non-blocking mode");
    pair.far.set_blocking(false).expect("non-blocking mode");
    pair
}

fn would_block<T: std::fmt::Debug>(result: std::io::Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            true
        }
    }
}

/// Is what the channel asks to wait for there already?
fn is_ready(channel: &BoxChannel, direction: Direction) -> bool {
    match wait(channel.readiness(direction), Some(Instant::now())) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            false
        }
    }
}

/// Waits as a loop would; a readiness that never comes fails the test instead of hanging it.
fn wait_for(channel: &BoxChannel, direction: Direction) {
    let end = Instant::now() + Duration::from_secs(30);
    wait(channel.readiness(direction), Some(end)).expect("the readiness that was asked for");
}

fn nothing_there_would_block(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    assert!(would_block(far.read(&mut [0; 16])), "nothing has been written");
    let readiness = far.readiness(Direction::Read);
    assert!(
        matches!(readiness.wait, Wait::Fd(..)),
        "after WouldBlock there is something to wait for"
    );
    assert!(!is_ready(&far, Direction::Read), "nothing has been written");
    near.write_all(b"now").expect("writing");
    let mut now = [0; 3];
    let mut done = 0;
    while done < now.len() {
        match far.read(&mut now[done..]) {
            Ok(n) => done += n,
            error => {
                would_block(error);
                wait_for(&far, Direction::Read);
            }
        }
    }
    assert_eq!(&now, b"now");
    assert!(would_block(far.read(&mut [0; 16])), "everything has been read");
    near.shutdown(Shutdown::Write).expect("ending the stream");
    loop {
        match far.read(&mut [0; 16]) {
            Ok(n) => break assert_eq!(n, 0),
            error => {
                would_block(error);
                wait_for(&far, Direction::Read);
            }
        }
    }
}

fn full_would_block(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    let mut pattern = Pattern::new(5);
    let mut block = vec![0; 64 << 10];
    pattern.fill(&mut block);
    let mut accepted = 0;
    loop {
        let from = accepted % block.len();
        match near.write(&block[from..]) {
            Ok(n) => accepted += n,
            error => break assert!(would_block(error)),
        }
        assert!(accepted < 256 << 20, "a channel that nobody reads must fill up");
    }
    assert!(!is_ready(&near, Direction::Write), "it just said that it is full");
    let mut space = vec![0; 64 << 10];
    let mut got = 0;
    while got < accepted {
        match far.read(&mut space) {
            Ok(n) => {
                for &byte in &space[..n] {
                    assert_eq!(byte, block[got % block.len()], "byte {got}");
                    got += 1;
                }
            }
            error => {
                would_block(error);
                // What was accepted may still be on our side of the kernel.
                if !would_block(near.flush()) {
                    wait_for(&far, Direction::Read);
                }
            }
        }
    }
    wait_for(&near, Direction::Write);
}

fn pump(pair: Pair) {
    let Pair {
        mut near, mut far, ..
    } = pair;
    let mut data = vec![0; PUMP_BYTES];
    Pattern::new(6).fill(&mut data);
    let mut rest = &data[..];
    let mut out = Vec::new();
    for length in uneven(PUMP_BYTES, PUMP_VECTORS) {
        let (now, later) = rest.split_at(length);
        out.push(IoSlice::new(now));
        rest = later;
    }
    let mut out = &mut out[..];
    let mut back = vec![0; PUMP_BYTES + 1];
    let mut got = 0;
    let mut ended = false;
    loop {
        let mut progress = false;
        if !out.is_empty() {
            match near.writev(out) {
                Ok(n) => {
                    IoSlice::advance_slices(&mut out, n);
                    progress = true;
                }
                error => assert!(would_block(error)),
            }
        } else if !ended {
            match near.flush().and_then(|()| near.shutdown(Shutdown::Write)) {
                Ok(()) => ended = true,
                error => assert!(would_block(error)),
            }
        }
        let (first, second) = back[got..].split_at_mut((PUMP_BYTES + 1 - got) / 3);
        match far.readv(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]) {
            Ok(0) => break,
            Ok(n) => got += n,
            error => {
                assert!(would_block(error));
                if !progress {
                    wait_for(&far, Direction::Read);
                }
            }
        }
    }
    assert!(ended, "the stream ended before it was ended");
    Pattern::new(6).check(&back[..got]);
    assert_eq!(got, PUMP_BYTES);
}

/// A channel can go to non-blocking mode and back.
fn modes_can_change(pair: Pair) {
    let mut pair = nonblocking(pair);
    assert!(would_block(pair.far.read(&mut [0; 1])));
    pair.far.set_blocking(true).expect("blocking mode");
    let Pair {
        mut near, mut far, ..
    } = pair;
    let reader = std::thread::spawn(move || {
        let mut three = [0; 3];
        far.read_exact(&mut three).expect("blocking until it is there");
        three
    });
    near.write_all(b"abc").expect("writing");
    assert_eq!(&reader.join().expect("the reader"), b"abc");
}
