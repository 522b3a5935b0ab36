//! Replies that wait to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::buffer::{AlignedBuf, BufferPool};
use crate::transmission::{ErrorReply, ReplyHead};

/// Vectors of one write.
pub(super) const MAX_SLICES: usize = 64;

/// What follows a reply's head.
#[derive(Debug)]
enum Body {
    None,
    Text(String),
    Data(AlignedBuf),
}

impl Body {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Body::None => &[],
            Body::Text(text) => text.as_bytes(),
            Body::Data(buffer) => buffer,
        }
    }
}

#[derive(Debug)]
struct Frame {
    head: ReplyHead,
    body: Body,
}

impl Frame {
    fn len(&self) -> usize {
        self.head
            .as_bytes()
            .len()
            .saturating_add(self.body.as_bytes().len())
    }
}

/// Replies in the order in which they will be sent. Heads and payloads stay where they are: sending gathers.
#[derive(Debug, Default)]
pub(super) struct Output {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are sent.
    sent: usize,
    /// Bytes of all frames, whether sent or not.
    bytes: usize,
}

impl Output {
    pub(super) fn push(&mut self, head: ReplyHead) {
        self.push_frame(Frame {
            head,
            body: Body::None,
        });
    }

    pub(super) fn push_data(&mut self, head: ReplyHead, data: AlignedBuf) {
        self.push_frame(Frame {
            head,
            body: Body::Data(data),
        });
    }

    pub(super) fn push_error(&mut self, reply: ErrorReply) {
        self.push_frame(Frame {
            head: reply.head,
            body: Body::Text(reply.text),
        });
    }

    fn push_frame(&mut self, frame: Frame) {
        self.bytes = self.bytes.saturating_add(frame.len());
        self.frames.push_back(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many replies wait.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.saturating_sub(self.sent)
    }

    /// Puts the next bytes to send into `slices`, and says how many slices that took.
    pub(super) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut skip = self.sent;
        let parts = self
            .frames
            .iter()
            .flat_map(|frame| [frame.head.as_bytes(), frame.body.as_bytes()]);
        let unsent = parts.filter_map(|part| {
            let rest = part.get(skip.min(part.len())..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            (!rest.is_empty()).then_some(rest)
        });
        let mut count = 0_usize;
        for (slice, part) in slices.iter_mut().zip(unsent) {
            *slice = IoSlice::new(part);
            count = count.saturating_add(1);
        }
        count
    }

    /// Counts `count` bytes as sent, and gives whole payloads back to the pool. Says how many bytes of
    /// payload that freed.
    pub(super) fn advance(&mut self, count: usize, pool: &BufferPool) -> usize {
        self.sent = self.sent.saturating_add(count);
        let mut freed = 0_usize;
        while self.frames.front().is_some_and(|frame| frame.len() <= self.sent)
            && let Some(frame) = self.frames.pop_front()
        {
            self.sent = self.sent.saturating_sub(frame.len());
            self.bytes = self.bytes.saturating_sub(frame.len());
            if let Body::Data(buffer) = frame.body {
                freed = freed.saturating_add(buffer.len());
                pool.give(buffer);
            }
        }
        freed
    }

    /// Forgets everything: nobody will read it.
    pub(super) fn clear(&mut self) {
        *self = Output::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::ReplyMode;
    use crate::testing::Random;
    use crate::wire::{Cookie, ErrorNumber};

    #[test]
    fn whatever_is_sent_at_once_the_bytes_come_in_order() {
        let mut random = Random::new(9);
        let pool = BufferPool::new(1 << 20);
        let mut output = Output::default();
        let (mut expected, mut held, mut freed) = (vec![], 0, 0);
        for cookie in 0..200 {
            let cookie = Cookie(cookie);
            match random.below(3) {
                0 => output.push(ReplyHead::done(cookie)),
                1 => output.push_error(ErrorReply::new(
                    ReplyMode::Structured,
                    cookie,
                    ErrorNumber::Io,
                    "broken",
                )),
                _ => {
                    let mut data = AlignedBuf::zeroed(1 + random.below(5000) as usize);
                    data.fill(cookie.0 as u8);
                    held += data.len();
                    let length = data.len() as u32;
                    output.push_data(ReplyHead::data(ReplyMode::Structured, cookie, 0, length), data);
                }
            }
            let frame = output.frames.back().unwrap();
            expected.extend_from_slice(frame.head.as_bytes());
            expected.extend_from_slice(frame.body.as_bytes());
        }
        let mut sent = vec![];
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = output.gather(&mut slices);
            let offered: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            let accepted = 1 + random.below(offered.len() as u32) as usize;
            sent.extend_from_slice(&offered[..accepted]);
            freed += output.advance(accepted, &pool);
            assert_eq!(output.bytes(), expected.len() - sent.len());
        }
        assert!(sent == expected);
        assert_eq!(freed, held);
    }
}
