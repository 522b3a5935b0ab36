//! The receive buffer of a connection, at either end.

/// Room for many requests in one read. Small, because the payload of a write that lands here is copied once
/// more, and every idle connection has one.
const SIZE: usize = 4096;

/// Bytes that were received and not used yet.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Input {
            bytes: vec![0; SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// What has been received and not used yet.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves as many bytes as there are, and fit, to the front of `to`, and says how many.
    pub(crate) fn take_into(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.filled().len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), self.filled().get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        count
    }

    /// Where to receive the next bytes. Empty only if nothing of a full buffer was used.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Counts `count` bytes as received into [`room`](Self::room).
    pub(crate) fn received(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_in_order() {
        let mut input = Input::new();
        let (mut written, mut read) = (0_u32, 0_u32);
        for round in 0..2000_usize {
            let room = input.room();
            let count = room.len().min(round % 700);
            for byte in &mut room[..count] {
                *byte = (written % 251) as u8;
                written += 1;
            }
            input.received(count);
            let used = input.filled().len().min(round % 690);
            for byte in &input.filled()[..used] {
                assert_eq!(*byte, (read % 251) as u8);
                read += 1;
            }
            input.consume(used);
        }
        assert!(written > 100_000 && read > 100_000);
    }
}
