//! Data whose every byte is known from its position, and vectors of uneven sizes.

/// An endless stream of bytes that neither repeats soon nor looks alike when shifted.
///
/// ```
/// use qio_channel::testing::Pattern;
/// let mut block = [0; 100];
/// Pattern::new(7).fill(&mut block);
/// Pattern::new(7).check(&block);
/// ```
#[derive(Debug, Clone)]
pub struct Pattern {
    state: u64,
    position: usize,
}

impl Pattern {
    /// The stream named by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Pattern {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            position: 0,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the top byte is what is wanted")]
    fn next(&mut self) -> u8 {
        self.position += 1;
        // xorshift64*: small, seedable, and good enough to make a lost or doubled byte visible.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    }

    /// Writes the next bytes of the stream into `space`.
    pub fn fill(&mut self, space: &mut [u8]) {
        space.fill_with(|| self.next());
    }

    /// Panics, with the position, unless `data` is the next bytes of the stream.
    pub fn check(&mut self, data: &[u8]) {
        for &byte in data {
            let position = self.position;
            let expected = self.next();
            assert_eq!(byte, expected, "byte {position} of the stream differs");
        }
    }

    /// Bytes filled or checked so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

/// Cuts `total` bytes into `count` lengths that are uneven, include zero, and add up.
#[must_use]
pub fn uneven(total: usize, count: usize) -> Vec<usize> {
    let mut left = total;
    let mut lengths = Vec::with_capacity(count);
    for i in 0..count.saturating_sub(1) {
        let mean = left / (count - i);
        let length = match i % 5 {
            0 => mean / 3,
            1 => mean + mean / 2,
            2 => mean.saturating_sub(1),
            3 => 0,
            _ => mean + 7,
        };
        let length = length.min(left);
        lengths.push(length);
        left -= length;
    }
    lengths.push(left);
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uneven_lengths_add_up() {
        for (total, count) in [(1 << 20, 250), (0, 3), (1, 1), (17, 40)] {
            let lengths = uneven(total, count);
            assert_eq!(lengths.len(), count);
            assert_eq!(lengths.iter().sum::<usize>(), total);
        }
    }

    #[test]
    #[should_panic(expected = "byte 1 of the stream differs")]
    fn a_shifted_stream_is_noticed() {
        let mut data = [0; 64];
        Pattern::new(1).fill(&mut data);
        data.copy_within(2.., 1);
        Pattern::new(1).check(&data);
    }
}
