//! The transmission phase of one connection: one task that owns the channel.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use qio_channel::{AsyncChannel, BoxChannel, Shutdown};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use crate::buffer::{AlignedBuf, BufferPool};
use crate::export::{Durability, Export, ZeroMode};
use crate::facts::ReplyMode;
use crate::limits::CLOSE_TIMEOUT;
use crate::transmission::{
    ErrorReply, ExportFacts, ReplyHead, Request, RequestEvent, RequestParser, RequestStreamError,
};
use crate::wire::{Cookie, ErrorNumber};

use super::budget::Budget;
use super::output::{MAX_SLICES, Output};
use super::{ConnectionEnd, ConnectionError, Shared};
use crate::input::Input;

/// Reads up to this size are tried on the connection's own thread; larger copies would hold up the others.
const INLINE_READ: usize = 1 << 20;

/// Once this much waits to be sent, it is sent before more is read: what was just read is still in the cache.
const SEND_BATCH: usize = 256 << 10;

/// Turns of the loop before other tasks get theirs.
const FAIR_SHARE: usize = 32;

/// What the connection does with what it receives.
#[derive(Debug)]
enum Receiving {
    /// Takes requests.
    Requests,
    /// Has a request that would exceed the budget, and takes no more until it does not.
    Parked { cookie: Cookie, request: Request },
    /// Takes the payload of a write.
    Payload { write: Write, filled: usize },
    /// Takes nothing more.
    Ended,
}

/// A write whose payload is on its way.
#[derive(Debug)]
struct Write {
    cookie: Cookie,
    offset: u64,
    durability: Durability,
    buffer: AlignedBuf,
}

/// What a thread that may block has finished.
struct Finished {
    cookie: Cookie,
    result: io::Result<()>,
    buffer: Buffer,
}

/// The buffer of a finished job: a read's is the reply's body, a write's has done its service.
enum Buffer {
    None,
    Read { offset: u64, data: AlignedBuf },
    Written(AlignedBuf),
}

/// The transmission phase of one connection.
pub(super) struct Connection {
    channel: AsyncChannel<BoxChannel>,
    export: Arc<dyn Export>,
    replies: ReplyMode,
    max_in_flight: usize,
    /// Counts payload in jobs and in the output.
    budget: Budget,
    pool: BufferPool,
    parser: RequestParser,
    input: Input,
    receiving: Receiving,
    jobs: JoinSet<Finished>,
    output: Output,
    /// The channel accepted bytes that may not have reached the kernel.
    unflushed: bool,
    /// A reply was given up in the middle: nothing that follows would be understood.
    silent: bool,
    /// Runs while the connection is over but for replies that the client does not take.
    patience: Option<Pin<Box<Sleep>>>,
    /// How the connection will end, once it is known.
    end: Option<Result<ConnectionEnd, ConnectionError>>,
}

impl Connection {
    pub(super) fn new(
        channel: AsyncChannel<BoxChannel>,
        input: Input,
        export: Arc<dyn Export>,
        facts: ExportFacts,
        shared: &Shared,
    ) -> Self {
        Connection {
            channel,
            export,
            replies: facts.replies,
            max_in_flight: shared.limits.max_in_flight.max(1),
            budget: Budget::new(
                shared.limits.max_in_flight_bytes,
                Arc::clone(&shared.held),
                shared.limits.max_server_bytes,
            ),
            pool: shared.pool.clone(),
            parser: RequestParser::new(facts),
            input,
            receiving: Receiving::Requests,
            jobs: JoinSet::new(),
            output: Output::default(),
            unflushed: false,
            silent: false,
            patience: None,
            end: None,
        }
    }

    /// Serves until the client leaves, breaks the rules, or `stop` is ready; then finishes what is in flight.
    pub(super) async fn run(
        mut self,
        stop: impl Future<Output = ()>,
    ) -> Result<ConnectionEnd, ConnectionError> {
        let done = tokio::select! {
            biased;
            () = poll_fn(|cx| self.poll(cx)) => true,
            () = stop => false,
        };
        if !done {
            self.finish_with(Ok(ConnectionEnd::Stopped));
            if tokio::time::timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.poll(cx)))
                .await
                .is_err()
            {
                self.give_up();
            }
        }
        // A job that a thread is working on cannot be called off, only waited for: no task is left behind.
        while self.jobs.join_next().await.is_some() {}
        let end = self.end.unwrap_or(Ok(ConnectionEnd::Stopped));
        if end.is_ok() {
            // close_notify, for whoever still listens. A client that said goodbye need not.
            let goodbye = self.channel.shutdown(Shutdown::Write);
            if let Ok(Err(error)) = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await {
                tracing::debug!("the client did not wait for our goodbye: {error}");
            }
        }
        end
    }

    /// Takes no more requests; ends like this once everything is answered.
    fn finish_with(&mut self, end: Result<ConnectionEnd, ConnectionError>) {
        self.receiving = Receiving::Ended;
        self.end.get_or_insert(end);
    }

    /// Ends at once: nobody is there to answer to. Where an end is known already, what follows from it is no news:
    /// a client that left need not listen any more, and one that broke the rules is told of by the rule.
    fn break_off(&mut self, error: ConnectionError) {
        self.fall_silent();
        match &self.end {
            None => self.end = Some(Err(error)),
            Some(_) => tracing::debug!("after the end of the connection: {error}"),
        }
    }

    /// Ends at once: the client does not take what it asked for.
    fn give_up(&mut self) {
        self.fall_silent();
        if !matches!(self.end, Some(Err(_))) {
            self.end = Some(Err(ConnectionError::CloseTimeout(CLOSE_TIMEOUT)));
        }
    }

    fn fall_silent(&mut self) {
        self.receiving = Receiving::Ended;
        self.output.clear();
        self.unflushed = false;
        self.silent = true;
    }

    /// Bounds how long a connection that is over waits for its client to take the last replies, and gives up after
    /// [`CLOSE_TIMEOUT`] in which no byte moved. Says whether it did. The export may take its time.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> bool {
        let waits = self.end.is_some() && (!self.output.is_empty() || self.unflushed);
        if !waits {
            self.patience = None;
            return false;
        }
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        let over = patience.as_mut().poll(cx).is_ready();
        if over {
            self.give_up();
        }
        over
    }

    /// Ready when nothing is left to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..FAIR_SHARE {
            let collected = self.poll_jobs(cx);
            let sent = self.poll_send(cx);
            let received = self.poll_receive(cx);
            let idle = self.jobs.is_empty() && self.output.is_empty() && !self.unflushed;
            if idle && matches!(self.receiving, Receiving::Ended) {
                return Poll::Ready(());
            }
            if sent {
                self.patience = None;
            }
            if !(collected || sent || received || self.poll_patience(cx)) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Queues the replies of finished jobs. Says whether there were any.
    fn poll_jobs(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while let Poll::Ready(Some(joined)) = self.jobs.poll_join_next(cx) {
            progress = true;
            match joined {
                Ok(_) if self.silent => {}
                Ok(finished) => self.reply(finished),
                Err(error) => self.break_off(error.into()),
            }
        }
        progress
    }

    fn reply(&mut self, finished: Finished) {
        let Finished {
            cookie,
            result,
            buffer,
        } = finished;
        match (result, buffer) {
            (Ok(()), Buffer::Read { offset, data }) => self.reply_data(cookie, offset, data),
            (Ok(()), Buffer::Written(data)) => {
                self.release(data);
                self.output.push(ReplyHead::done(cookie));
            }
            (Ok(()), Buffer::None) => self.output.push(ReplyHead::done(cookie)),
            (Err(error), buffer) => {
                if let Buffer::Read { data, .. } | Buffer::Written(data) = buffer {
                    self.release(data);
                }
                tracing::warn!(cookie = cookie.0, "the export failed a request: {error}");
                self.reply_error(cookie, ErrorNumber::from_io(&error), &error.to_string());
            }
        }
    }

    fn reply_data(&mut self, cookie: Cookie, offset: u64, data: AlignedBuf) {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.output
            .push_data(ReplyHead::data(self.replies, cookie, offset, length), data);
    }

    fn reply_error(&mut self, cookie: Cookie, error: ErrorNumber, why: &str) {
        self.output
            .push_error(ErrorReply::new(self.replies, cookie, error, why));
    }

    fn release(&mut self, data: AlignedBuf) {
        self.budget.give_back(data.len());
        self.pool.give(data);
    }

    /// Sends what waits, many replies at a time. Says whether anything moved.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.output.gather(&mut slices);
            match self
                .channel
                .poll_writev(cx, slices.get(..count).unwrap_or_default())
            {
                Poll::Ready(Ok(0)) => {
                    self.break_off(io::Error::from(io::ErrorKind::WriteZero).into());
                    return true;
                }
                Poll::Ready(Ok(sent)) => {
                    let freed = self.output.advance(sent, &self.pool);
                    self.budget.give_back(freed);
                    self.unflushed = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => {
                    self.break_off(error.into());
                    return true;
                }
                Poll::Pending => return progress,
            }
        }
        if self.unflushed {
            match self.channel.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.break_off(error.into()),
                Poll::Pending => return progress,
            }
            progress = true;
        }
        progress
    }

    /// Takes requests and payload as long as the budget allows. Says whether anything moved.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.output.bytes() < SEND_BATCH {
            let moved = match &self.receiving {
                Receiving::Ended => false,
                Receiving::Parked { cookie, request } => {
                    let (cookie, request) = (*cookie, *request);
                    let fits = self.budget.admits(request.buffer_size());
                    if fits {
                        self.start(cookie, request);
                    }
                    fits
                }
                Receiving::Payload { .. } => self.poll_payload(cx),
                Receiving::Requests
                    if self.jobs.len().saturating_add(self.output.len()) >= self.max_in_flight =>
                {
                    false
                }
                Receiving::Requests => self.poll_request(cx),
            };
            if !moved {
                return progress;
            }
            progress = true;
        }
        progress
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> bool {
        match self.parser.feed(self.input.filled()) {
            Ok((used, event)) => {
                self.input.consume(used);
                match event {
                    RequestEvent::Request { cookie, request }
                        if self.budget.admits(request.buffer_size()) =>
                    {
                        self.start(cookie, request);
                    }
                    RequestEvent::Request { cookie, request } => {
                        self.receiving = Receiving::Parked { cookie, request };
                    }
                    RequestEvent::Refused { cookie, error, why } => {
                        tracing::debug!(cookie = cookie.0, "refused a request: {why}");
                        self.reply_error(cookie, error, why);
                    }
                    RequestEvent::Disconnect => self.finish_with(Ok(ConnectionEnd::Disconnected)),
                    RequestEvent::NeedInput if self.input.is_empty() => return self.poll_fill(cx),
                    RequestEvent::NeedInput | RequestEvent::Payload => {}
                }
            }
            Err(error) => {
                if let RequestStreamError::WriteTooLong { cookie, .. } = error {
                    self.reply_error(
                        cookie,
                        ErrorNumber::Invalid,
                        "at most 32 MiB can be written at once",
                    );
                }
                self.finish_with(Err(error.into()));
            }
        }
        true
    }

    /// Receives into the input buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> bool {
        let received = self
            .channel
            .poll_readv(cx, &mut [IoSliceMut::new(self.input.room())]);
        match self.take_received(received) {
            Some(received) => self.input.received(received),
            None => return matches!(self.receiving, Receiving::Ended),
        }
        true
    }

    /// How many bytes came; `None` if none can be expected now, or ever again.
    fn take_received(&mut self, received: Poll<io::Result<usize>>) -> Option<usize> {
        match received {
            Poll::Pending => None,
            Poll::Ready(Ok(0)) => {
                self.finish_with(Ok(ConnectionEnd::Vanished));
                None
            }
            Poll::Ready(Ok(received)) => Some(received),
            // A TLS stream that ends without close_notify: what came before it was authentic.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.finish_with(Ok(ConnectionEnd::Vanished));
                None
            }
            Poll::Ready(Err(error)) => {
                self.break_off(error.into());
                None
            }
        }
    }

    /// Receives a write's payload: what is in the input buffer is copied, the rest lands where it belongs, and
    /// what follows it in the input buffer, in the same system call.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> bool {
        let Receiving::Payload { write, filled } = &mut self.receiving else {
            return false;
        };
        let missing = write.buffer.get_mut(*filled..).unwrap_or_default();
        let moved = if self.input.is_empty() {
            let wanted = missing.len();
            let mut slices = [IoSliceMut::new(missing), IoSliceMut::new(self.input.room())];
            let received = self.channel.poll_readv(cx, &mut slices);
            let Some(received) = self.take_received(received) else {
                return matches!(self.receiving, Receiving::Ended);
            };
            self.input.received(received.saturating_sub(wanted));
            received.min(wanted)
        } else {
            self.input.take_into(missing)
        };
        self.parser
            .payload_received(u32::try_from(moved).unwrap_or(u32::MAX));
        if let Receiving::Payload { filled, .. } = &mut self.receiving {
            *filled = filled.saturating_add(moved);
        }
        self.start_write_if_complete();
        true
    }

    fn start_write_if_complete(&mut self) {
        let complete = self.parser.payload_missing() == 0;
        if complete
            && let Receiving::Payload { write, .. } =
                std::mem::replace(&mut self.receiving, Receiving::Requests)
        {
            let Write {
                cookie,
                offset,
                durability,
                buffer,
            } = write;
            let export = Arc::clone(&self.export);
            self.jobs.spawn_blocking(move || {
                let result = export.write_at(&buffer, offset, durability);
                Finished {
                    cookie,
                    result,
                    buffer: Buffer::Written(buffer),
                }
            });
        }
    }

    /// Begins to serve a request.
    fn start(&mut self, cookie: Cookie, request: Request) {
        self.receiving = Receiving::Requests;
        let durability = |fua| {
            if fua {
                Durability::Forced
            } else {
                Durability::Buffered
            }
        };
        match request {
            Request::Read { offset, .. } => self.start_read(cookie, offset, request.buffer_size()),
            Request::Write { offset, fua, .. } => {
                let buffer = self.take_buffer(request.buffer_size());
                let write = Write {
                    cookie,
                    offset,
                    durability: durability(fua),
                    buffer,
                };
                self.receiving = Receiving::Payload { write, filled: 0 };
                self.start_write_if_complete();
            }
            Request::Flush => self.start_job(cookie, Export::flush),
            Request::Trim { offset, length, fua } => {
                self.start_job(cookie, move |export| export.trim(offset, length, durability(fua)));
            }
            Request::WriteZeroes {
                offset,
                length,
                fua,
                no_hole,
            } => {
                let mode = if no_hole {
                    ZeroMode::Allocate
                } else {
                    ZeroMode::MayPunch
                };
                self.start_job(cookie, move |export| {
                    export.write_zeroes(offset, length, mode, durability(fua))
                });
            }
        }
    }

    fn take_buffer(&mut self, size: usize) -> AlignedBuf {
        self.budget.take(size);
        self.pool.take(size)
    }

    /// Reads what can be had at once, and leaves the rest to a thread that may wait for it.
    fn start_read(&mut self, cookie: Cookie, offset: u64, size: usize) {
        let mut data = self.take_buffer(size);
        let ready = if size <= INLINE_READ {
            // A failure here is found again, and reported, by the thread.
            self.export.try_read_now(&mut data, offset).unwrap_or(0)
        } else {
            0
        };
        if ready >= size {
            return self.reply_data(cookie, offset, data);
        }
        let export = Arc::clone(&self.export);
        self.jobs.spawn_blocking(move || {
            let from = offset.saturating_add(u64::try_from(ready).unwrap_or(0));
            let result = export.read_at(data.get_mut(ready..).unwrap_or_default(), from);
            Finished {
                cookie,
                result,
                buffer: Buffer::Read { offset, data },
            }
        });
    }

    fn start_job(
        &mut self,
        cookie: Cookie,
        job: impl FnOnce(&dyn Export) -> io::Result<()> + Send + 'static,
    ) {
        let export = Arc::clone(&self.export);
        self.jobs.spawn_blocking(move || Finished {
            cookie,
            result: job(&*export),
            buffer: Buffer::None,
        });
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
