//! Which bytes of a buffer have been written, so that each is written exactly once.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::limits::MAX_READ_FRAGMENTS;

/// A set of byte ranges that never overlap; neighbours are joined.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Start to end.
    ranges: BTreeMap<usize, usize>,
}

/// Why a range cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CoverageError {
    Overlap,
    /// More separate pieces than [`MAX_READ_FRAGMENTS`].
    TooManyPieces,
}

impl Coverage {
    pub(super) fn add(&mut self, range: Range<usize>) -> Result<(), CoverageError> {
        let Range { mut start, mut end } = range;
        if let Some((&before, &before_end)) = self.ranges.range(..end).next_back() {
            if before_end > start {
                return Err(CoverageError::Overlap);
            }
            if before_end == start {
                self.ranges.remove(&before);
                start = before;
            }
        }
        if let Some(after_end) = self.ranges.remove(&end) {
            end = after_end;
        }
        self.ranges.insert(start, end);
        if self.ranges.len() > MAX_READ_FRAGMENTS {
            Err(CoverageError::TooManyPieces)
        } else {
            Ok(())
        }
    }

    /// Is every byte of `0..length` there?
    pub(super) fn is_complete(&self, length: usize) -> bool {
        length == 0 || self.ranges.get(&0) == Some(&length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn nbdc_03_agrees_with_a_bitmap() {
        let mut random = Random::new(3);
        for _ in 0..2000 {
            let mut coverage = Coverage::default();
            let mut bitmap = [false; 40];
            for _ in 0..12 {
                let start = random.below(40) as usize;
                let end = (start + 1 + random.below(12) as usize).min(40);
                let free = bitmap[start..end].iter().all(|bit| !bit);
                assert_eq!(
                    coverage.add(start..end).is_ok(),
                    free,
                    "{start}..{end} in {bitmap:?}"
                );
                if !free {
                    break;
                }
                bitmap[start..end].fill(true);
                assert_eq!(coverage.is_complete(40), bitmap.iter().all(|bit| *bit));
            }
        }
    }

    #[test]
    fn scattered_bytes_do_not_grow_memory_without_end() {
        let mut coverage = Coverage::default();
        let outcome = (0..1 << 20).try_for_each(|byte: usize| coverage.add(byte * 2..byte * 2 + 1));
        assert_eq!(outcome, Err(CoverageError::TooManyPieces));
    }
}
