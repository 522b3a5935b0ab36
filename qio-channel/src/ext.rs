//! The loops that every user of a channel would otherwise write, and get subtly wrong.

use std::io::{self, IoSlice, IoSliceMut};

use crate::channel::Channel;
use crate::readiness::Direction;
use crate::wait::wait;

/// How a read that asked for an exact amount ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the stream may have ended instead"]
pub enum ReadAll {
    /// Every byte is there.
    Complete,
    /// The stream ended cleanly before the first byte: nothing was read, nothing is missing.
    End,
}

/// Exact-length operations on any [`Channel`].
///
/// Each works in both modes: on a channel in non-blocking mode it waits with `poll(2)` where the channel
/// would block, so it blocks the calling thread either way. Event loops use the trait's own methods.
pub trait ChannelExt: Channel {
    /// Reads once into one buffer. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// As [`Channel::readv`].
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.readv(&mut [IoSliceMut::new(buf)])
    }

    /// Writes once from one buffer.
    ///
    /// # Errors
    /// As [`Channel::writev`].
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writev(&[IoSlice::new(buf)])
    }

    /// Fills all vectors, or tells a stream that ended before the first byte.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends after the first byte and before the last, saying how many came.
    fn readv_all_eof(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<ReadAll> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut done = 0;
        let mut rest = bufs;
        IoSliceMut::advance_slices(&mut rest, 0); // drops empty vectors at the front
        while !rest.is_empty() {
            match self.readv(rest) {
                Ok(0) if done == 0 => return Ok(ReadAll::End),
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("the stream ended after {done} of {total} bytes"),
                    ));
                }
                Ok(n) => {
                    done += n;
                    IoSliceMut::advance_slices(&mut rest, n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.readiness(Direction::Read), None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ReadAll::Complete)
    }

    /// Fills all vectors.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends before the last byte, saying how many came.
    fn readv_all(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        match self.readv_all_eof(bufs)? {
            ReadAll::Complete => Ok(()),
            ReadAll::End => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the stream ended before the first byte",
            )),
        }
    }

    /// Fills one buffer.
    ///
    /// # Errors
    /// As [`readv_all`](ChannelExt::readv_all).
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.readv_all(&mut [IoSliceMut::new(buf)])
    }

    /// Writes all vectors, then flushes.
    ///
    /// `bufs` is advanced as bytes are accepted, so after an error it holds what was not.
    ///
    /// # Errors
    /// As [`Channel::writev`]; `WriteZero` from a channel that accepts nothing without saying why.
    fn writev_all(&mut self, bufs: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = bufs;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.writev(rest) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::WriteZero,
                        "the channel accepts no more data",
                    ));
                }
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.readiness(Direction::Write), None)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.flush_all()
    }

    /// Writes one buffer, then flushes.
    ///
    /// # Errors
    /// As [`writev_all`](ChannelExt::writev_all).
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.writev_all(&mut [IoSlice::new(buf)])
    }

    /// Flushes, waiting where a non-blocking channel would block.
    ///
    /// # Errors
    /// As [`Channel::flush`].
    fn flush_all(&mut self) -> io::Result<()> {
        loop {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.readiness(Direction::Write), None)?;
                }
                done => return done,
            }
        }
    }
}

impl<C: Channel + ?Sized> ChannelExt for C {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BufferChannel;

    #[test]
    fn an_end_before_the_first_byte_differs_from_an_end_in_the_middle() {
        let mut buf = [0; 4];
        let mut channel = BufferChannel::new();
        assert_eq!(
            channel.readv_all_eof(&mut [IoSliceMut::new(&mut buf)]).unwrap(),
            ReadAll::End
        );
        assert_eq!(
            channel.read_exact(&mut buf).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        channel.write_all(b"abc").unwrap();
        let error = channel
            .readv_all_eof(&mut [IoSliceMut::new(&mut buf)])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("3 of 4"), "{error}");
    }

    #[test]
    fn vectors_are_advanced_through_not_copied() {
        let mut channel = BufferChannel::new();
        channel
            .writev_all(&mut [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b"cdef")])
            .unwrap();
        let (mut a, mut b, mut c) = ([0; 1], [0; 0], [0; 5]);
        let mut bufs = [
            IoSliceMut::new(&mut a),
            IoSliceMut::new(&mut b),
            IoSliceMut::new(&mut c),
        ];
        channel.readv_all(&mut bufs).unwrap();
        assert_eq!((&a[..], &c[..]), (&b"a"[..], &b"bcdef"[..]));
    }
}
