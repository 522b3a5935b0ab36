//! The transmission phase, one request at a time, on the calling thread.

use std::io::{self, IoSlice, IoSliceMut};

use qio_channel::{BoxChannel, Channel, ChannelExt, ChannelInfo, Shutdown};

use crate::export::{Durability, ZeroMode};
use crate::facts::ReplyMode;
use crate::input::Input;
use crate::negotiation::{Established, ExportDetails};
use crate::transmission::{Asked, ReplyEvent, ReplyParser};
use crate::wire::{Command, CommandFlags, Cookie};

use super::{MAX_EFFECT, RequestError, check, fua, max_payload, request};

/// A connection to an export. Its methods block until the server has answered.
///
/// After [`RequestError::Lost`] every further request fails in the same way.
pub struct Client {
    channel: BoxChannel,
    parser: ReplyParser,
    input: Input,
    export: ExportDetails,
    replies: ReplyMode,
    lost: Option<RequestError>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("channel", &self.channel.info())
            .field("export", &self.export)
            .field("replies", &self.replies)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(channel: BoxChannel, input: Input, established: Established) -> Self {
        let Established { export, replies } = established;
        Client {
            channel,
            parser: ReplyParser::new(replies),
            input,
            export,
            replies,
            lost: None,
        }
    }

    #[cfg(feature = "tokio")]
    pub(super) fn into_parts(self) -> (BoxChannel, ReplyParser, Input, ExportDetails) {
        (self.channel, self.parser, self.input, self.export)
    }

    /// What the server told about the export.
    #[must_use]
    pub fn export(&self) -> &ExportDetails {
        &self.export
    }

    /// How replies look.
    #[must_use]
    pub fn replies(&self) -> ReplyMode {
        self.replies
    }

    /// Addresses and TLS facts, for people.
    #[must_use]
    pub fn channel_info(&self) -> ChannelInfo {
        self.channel.info()
    }

    /// Fills `buf` from `offset` on. On failure its contents mean nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<(), RequestError> {
        check(
            &self.export,
            Command::Read,
            CommandFlags::empty(),
            offset,
            length_of(buf),
        )?;
        let maximum = usize::try_from(max_payload(&self.export))
            .unwrap_or(usize::MAX)
            .max(1);
        let mut offset = offset;
        for piece in buf.chunks_mut(maximum) {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let cookie = self.parser.expect(Asked::Read { offset, length });
            let header = request(Command::Read, CommandFlags::empty(), cookie, offset, length);
            self.converse(cookie, &[&header], piece)?;
            offset = offset.saturating_add(length.into());
        }
        Ok(())
    }

    /// Stores all of `buf` from `offset` on.
    ///
    /// # Errors
    /// Why not; some of it may have been stored.
    pub fn write_at(&mut self, buf: &[u8], offset: u64, durability: Durability) -> Result<(), RequestError> {
        let flags = fua(durability);
        check(&self.export, Command::Write, flags, offset, length_of(buf))?;
        let maximum = usize::try_from(max_payload(&self.export))
            .unwrap_or(usize::MAX)
            .max(1);
        let mut offset = offset;
        for piece in buf.chunks(maximum) {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let cookie = self.parser.expect(Asked::Other);
            let header = request(Command::Write, flags, cookie, offset, length);
            self.converse(cookie, &[&header, piece], &mut [])?;
            offset = offset.saturating_add(length.into());
        }
        Ok(())
    }

    /// Makes every write that was answered durable.
    ///
    /// # Errors
    /// Why not.
    pub fn flush(&mut self) -> Result<(), RequestError> {
        self.effect(Command::Flush, CommandFlags::empty(), 0, 0)
    }

    /// Tells the server that a range is not needed any more.
    ///
    /// # Errors
    /// Why not; some of it may have been trimmed.
    pub fn trim(&mut self, offset: u64, length: u64, durability: Durability) -> Result<(), RequestError> {
        self.effect(Command::Trim, fua(durability), offset, length)
    }

    /// Makes a range read as zeroes.
    ///
    /// # Errors
    /// Why not; some of it may have been zeroed.
    pub fn write_zeroes(
        &mut self,
        offset: u64,
        length: u64,
        mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), RequestError> {
        let mut flags = fua(durability);
        flags.set(CommandFlags::NO_HOLE, mode == ZeroMode::Allocate);
        self.effect(Command::WriteZeroes, flags, offset, length)
    }

    /// Says goodbye and closes.
    ///
    /// # Errors
    /// When the goodbye could not be sent. The server may have closed first, which is not an error.
    pub fn disconnect(mut self) -> Result<(), RequestError> {
        if let Some(error) = self.lost.take() {
            return Err(error);
        }
        let header = request(Command::Disconnect, CommandFlags::empty(), Cookie(0), 0, 0);
        self.channel.write_all(&header)?;
        self.channel.flush()?;
        let _ = self.channel.shutdown(Shutdown::Write);
        Ok(())
    }

    fn effect(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), RequestError> {
        check(&self.export, command, flags, offset, length)?;
        let (mut offset, mut left) = (offset, length);
        loop {
            let step = left.min(MAX_EFFECT);
            let cookie = self.parser.expect(Asked::Other);
            let header = request(
                command,
                flags,
                cookie,
                offset,
                u32::try_from(step).unwrap_or(u32::MAX),
            );
            self.converse(cookie, &[&header], &mut [])?;
            (offset, left) = (offset.saturating_add(step), left.saturating_sub(step));
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Sends one request and waits for its reply; nothing else is in flight.
    fn converse(&mut self, cookie: Cookie, message: &[&[u8]], data: &mut [u8]) -> Result<(), RequestError> {
        if let Some(error) = &self.lost {
            return Err(error.clone());
        }
        let result = self
            .send(message)
            .map_err(RequestError::from)
            .and_then(|()| self.receive(cookie, data));
        if let Err(error @ RequestError::Lost(_)) = &result {
            self.lost = Some(error.clone());
        }
        result
    }

    fn send(&mut self, message: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = message.iter().map(|part| IoSlice::new(part)).collect();
        self.channel.writev_all(&mut slices)?;
        self.channel.flush()
    }

    fn receive(&mut self, cookie: Cookie, data: &mut [u8]) -> Result<(), RequestError> {
        let closed = || RequestError::Lost("the server closed the connection".to_owned());
        loop {
            let (used, event) = self.parser.feed(self.input.filled())?;
            self.input.consume(used);
            match event {
                ReplyEvent::NeedInput if self.input.is_empty() => {
                    let received = self.channel.read(self.input.room())?;
                    if received == 0 {
                        return Err(closed());
                    }
                    self.input.received(received);
                }
                ReplyEvent::NeedInput => {}
                ReplyEvent::Data { range, .. } => {
                    let mut missing = data.get_mut(range).unwrap_or_default();
                    while !missing.is_empty() {
                        let moved = fill(&mut self.channel, &mut self.input, missing)?;
                        if moved == 0 {
                            return Err(closed());
                        }
                        self.parser.data_received(moved);
                        missing = missing.get_mut(moved..).unwrap_or_default();
                    }
                }
                ReplyEvent::Zeroes { range, .. } => data.get_mut(range).unwrap_or_default().fill(0),
                ReplyEvent::Done { cookie: done } if done == cookie => return Ok(()),
                ReplyEvent::Failed {
                    cookie: failed,
                    error,
                    text,
                } if failed == cookie => {
                    return Err(RequestError::Server { error, text });
                }
                // A reply to a request that had failed to be sent whole; the connection was given up then.
                ReplyEvent::Done { .. } | ReplyEvent::Failed { .. } => return Err(closed()),
            }
        }
    }
}

/// Moves the next bytes of the stream into `to`: buffered ones first, then straight from the channel, with
/// what follows them going to the input buffer.
fn fill(channel: &mut BoxChannel, input: &mut Input, to: &mut [u8]) -> io::Result<usize> {
    if input.is_empty() {
        let wanted = to.len();
        let received = channel.readv(&mut [IoSliceMut::new(to), IoSliceMut::new(input.room())])?;
        input.received(received.saturating_sub(wanted));
        return Ok(received.min(wanted));
    }
    Ok(input.take_into(to))
}

fn length_of(buf: &[u8]) -> u64 {
    u64::try_from(buf.len()).unwrap_or(u64::MAX)
}
