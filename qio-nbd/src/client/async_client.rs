//! The handle of a connection with many requests in flight.

use std::io;
use std::sync::Arc;

use qio_channel::AsyncChannel;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::buffer::AlignedBuf;
use crate::export::{Durability, ZeroMode};
use crate::negotiation::ExportDetails;
use crate::wire::{Command, CommandFlags};

use super::pipeline::{Answer, MAX_IN_FLIGHT, Order, Pipeline};
use super::{Client, MAX_EFFECT, RequestError, check, fua, max_payload};

/// A connection to an export on which any number of requests can wait for their replies.
///
/// Buffers go in and come back, page-aligned, so that nothing is copied on the way. A request whose future is
/// dropped is still carried out.
///
/// ```no_run
/// use qio_nbd::buffer::AlignedBuf;
/// use qio_nbd::client::{AsyncClient, ConnectOptions, Session};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// # let address = "unix:/run/nbd.sock".parse()?;
/// let client = AsyncClient::new(Session::connect(&address, &ConnectOptions::default())?.go(&"".parse()?)?)?;
/// let (first, second) = tokio::join!(
///     client.read(0, AlignedBuf::zeroed(65536)),
///     client.read(65536, AlignedBuf::zeroed(65536)),
/// );
/// # let _ = (first?, second?);
/// client.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AsyncClient {
    commands: mpsc::Sender<Order>,
    export: Arc<ExportDetails>,
    task: JoinHandle<Result<(), RequestError>>,
}

impl AsyncClient {
    /// Takes a connection over, and moves it into a task of the current tokio runtime.
    ///
    /// # Errors
    /// What switching the channel to non-blocking mode reports.
    pub fn new(client: Client) -> io::Result<Self> {
        let (channel, parser, input, export) = client.into_parts();
        let (sender, receiver) = mpsc::channel(MAX_IN_FLIGHT);
        let pipeline = Pipeline::new(AsyncChannel::new(channel)?, parser, input, receiver);
        let task = tokio::spawn(pipeline.run());
        Ok(AsyncClient {
            commands: sender,
            export: Arc::new(export),
            task,
        })
    }

    /// What the server told about the export.
    #[must_use]
    pub fn export(&self) -> &ExportDetails {
        &self.export
    }

    /// The most that one read or write can carry, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> u32 {
        max_payload(&self.export)
    }

    /// Fills the buffer from `offset` on, and gives it back.
    ///
    /// # Errors
    /// Why not; the buffer is gone then.
    pub async fn read(&self, offset: u64, buffer: AlignedBuf) -> Result<AlignedBuf, RequestError> {
        self.transfer(Command::Read, CommandFlags::empty(), offset, buffer)
            .await
    }

    /// Stores all of the buffer from `offset` on, and gives it back.
    ///
    /// # Errors
    /// Why not; the buffer is gone then.
    pub async fn write(
        &self,
        offset: u64,
        buffer: AlignedBuf,
        durability: Durability,
    ) -> Result<AlignedBuf, RequestError> {
        self.transfer(Command::Write, fua(durability), offset, buffer)
            .await
    }

    /// Makes every write that was answered durable.
    ///
    /// # Errors
    /// Why not.
    pub async fn flush(&self) -> Result<(), RequestError> {
        self.effect(Command::Flush, CommandFlags::empty(), 0, 0).await
    }

    /// Tells the server that a range is not needed any more.
    ///
    /// # Errors
    /// Why not; some of it may have been trimmed.
    pub async fn trim(&self, offset: u64, length: u64, durability: Durability) -> Result<(), RequestError> {
        self.effect(Command::Trim, fua(durability), offset, length).await
    }

    /// Makes a range read as zeroes.
    ///
    /// # Errors
    /// Why not; some of it may have been zeroed.
    pub async fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        mode: ZeroMode,
        durability: Durability,
    ) -> Result<(), RequestError> {
        let mut flags = fua(durability);
        flags.set(CommandFlags::NO_HOLE, mode == ZeroMode::Allocate);
        self.effect(Command::WriteZeroes, flags, offset, length).await
    }

    /// Waits for what is in flight, says goodbye and closes.
    ///
    /// # Errors
    /// When the connection was lost before.
    pub async fn close(self) -> Result<(), RequestError> {
        let AsyncClient { commands, task, .. } = self;
        drop(commands);
        task.await
            .unwrap_or_else(|error| Err(RequestError::Lost(error.to_string())))
    }

    async fn transfer(
        &self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        buffer: AlignedBuf,
    ) -> Result<AlignedBuf, RequestError> {
        let length = buffer.len();
        check(
            &self.export,
            command,
            flags,
            offset,
            u64::try_from(length).unwrap_or(u64::MAX),
        )?;
        let maximum = self.max_payload();
        let wire_length = u32::try_from(length)
            .ok()
            .filter(|length| *length <= maximum)
            .ok_or(RequestError::TooLong { length, maximum })?;
        if wire_length == 0 {
            return Ok(buffer);
        }
        let answer = self
            .order(command, flags, offset, wire_length, Some(buffer))
            .await?;
        answer.ok_or_else(|| RequestError::Lost("the server answered a write before it was sent".to_owned()))
    }

    async fn effect(
        &self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), RequestError> {
        check(&self.export, command, flags, offset, length)?;
        let (mut offset, mut left) = (offset, length);
        loop {
            let step = left.min(MAX_EFFECT);
            self.order(
                command,
                flags,
                offset,
                u32::try_from(step).unwrap_or(u32::MAX),
                None,
            )
            .await?;
            (offset, left) = (offset.saturating_add(step), left.saturating_sub(step));
            if left == 0 {
                return Ok(());
            }
        }
    }

    async fn order(
        &self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u32,
        buffer: Option<AlignedBuf>,
    ) -> Answer {
        let gone = || RequestError::Lost("it was lost by an earlier failure".to_owned());
        let (answer, answered) = oneshot::channel();
        let order = Order {
            command,
            flags,
            offset,
            length,
            buffer,
            answer,
        };
        self.commands.send(order).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}
