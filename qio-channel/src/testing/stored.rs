//! Checks of channels that keep what is written: files and buffers.

use super::Pair;
use super::blocking::{receive_pattern, send_pattern};
use crate::{Channel, ChannelExt, Direction, Wait};

/// Runs the checks that make sense where `near` is written first and `far` reads it afterwards: two channels
/// over one file, for example.
pub fn stored_conformance(make: impl Fn() -> Pair) {
    for blocking in [true, false] {
        let Pair {
            mut near, mut far, ..
        } = make();
        near.set_blocking(blocking).expect("choosing the mode");
        far.set_blocking(blocking).expect("choosing the mode");
        assert!(
            !near.info().kind.is_empty(),
            "info() must name the kind of channel"
        );
        assert_eq!(far.read(&mut [0; 16]).expect("an empty store is at its end"), 0);
        send_pattern(&mut near, 9);
        receive_pattern(&mut far, 9);
        for _ in 0..2 {
            assert_eq!(far.read(&mut [0; 16]).expect("the end"), 0);
        }
        for direction in [Direction::Read, Direction::Write] {
            assert!(
                matches!(near.readiness(direction).wait, Wait::Now),
                "a store is always ready"
            );
        }
    }
}
