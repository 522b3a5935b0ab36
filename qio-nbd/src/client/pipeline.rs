//! The transmission phase with many requests in flight: one task that owns the channel.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::task::{Context, Poll};

use qio_channel::{AsyncChannel, BoxChannel, Shutdown};
use tokio::sync::{mpsc, oneshot};

use crate::buffer::AlignedBuf;
use crate::input::Input;
use crate::limits::CLOSE_TIMEOUT;
use crate::transmission::{Asked, ReplyEvent, ReplyParser};
use crate::wire::{Command, CommandFlags, Cookie, RequestHeader};

use super::{RequestError, request};

/// Requests on the wire at once. Servers work on 16 or so and leave the rest in the socket.
pub(super) const MAX_IN_FLIGHT: usize = 64;

/// Vectors of one write.
const MAX_SLICES: usize = 64;

/// Turns of a loop before it is another's turn: the other direction's, then other tasks'.
const FAIR_SHARE: usize = 32;

/// A request's outcome, with its buffer where it has one.
pub(super) type Answer = Result<Option<AlignedBuf>, RequestError>;

/// A request on its way to the task.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) flags: CommandFlags,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) buffer: Option<AlignedBuf>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A request that waits for its reply.
#[derive(Debug)]
struct Slot {
    /// A read's buffer; a write's, once it is sent.
    buffer: Option<AlignedBuf>,
    answer: oneshot::Sender<Answer>,
}

/// A request that waits to be sent.
#[derive(Debug)]
struct Frame {
    cookie: Cookie,
    header: [u8; RequestHeader::SIZE],
    payload: Option<AlignedBuf>,
}

impl Frame {
    fn parts(&self) -> [&[u8]; 2] {
        [&self.header, self.payload.as_deref().unwrap_or_default()]
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

/// The task: owns the channel, and everything in flight.
pub(super) struct Pipeline {
    channel: AsyncChannel<BoxChannel>,
    parser: ReplyParser,
    input: Input,
    /// `None` once all handles are gone.
    orders: Option<mpsc::Receiver<Order>>,
    slots: HashMap<Cookie, Slot>,
    output: VecDeque<Frame>,
    /// Bytes of the first frame that are sent.
    sent: usize,
    unflushed: bool,
    /// Where the data that comes next belongs.
    target: Option<(Cookie, Range<usize>)>,
}

impl Pipeline {
    pub(super) fn new(
        channel: AsyncChannel<BoxChannel>,
        parser: ReplyParser,
        input: Input,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Pipeline {
            channel,
            parser,
            input,
            orders: Some(orders),
            slots: HashMap::new(),
            output: VecDeque::new(),
            sent: 0,
            unflushed: false,
            target: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), RequestError> {
        let result = poll_fn(|cx| self.poll(cx)).await;
        match &result {
            Ok(()) => {
                let goodbye = self.channel.shutdown(Shutdown::Write);
                // The server need not wait for it.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
            }
            Err(error) => {
                for (_, slot) in self.slots.drain() {
                    // Whoever is not waiting any more need not know.
                    let _ = slot.answer.send(Err(error.clone()));
                }
            }
        }
        result
    }

    /// Ready when all handles are gone, everything is answered and the goodbye is sent; or at the first failure.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        for _ in 0..FAIR_SHARE {
            let mut progress = self.poll_orders(cx);
            progress |= self.poll_send(cx)?;
            if self.orders.is_none() && self.slots.is_empty() && self.output.is_empty() && !self.unflushed {
                return Poll::Ready(Ok(()));
            }
            progress |= self.poll_receive(cx)?;
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_orders(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while let Some(orders) = &mut self.orders
            && self.slots.len() < MAX_IN_FLIGHT
        {
            match orders.poll_recv(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(order)) => self.accept(order),
                Poll::Ready(None) if self.slots.is_empty() => {
                    self.orders = None;
                    let header = request(Command::Disconnect, CommandFlags::empty(), Cookie(0), 0, 0);
                    self.output.push_back(Frame {
                        cookie: Cookie(0),
                        header,
                        payload: None,
                    });
                }
                // The goodbye comes after the last reply.
                Poll::Ready(None) => break,
            }
            progress = true;
        }
        progress
    }

    fn accept(&mut self, order: Order) {
        let Order {
            command,
            flags,
            offset,
            length,
            buffer,
            answer,
        } = order;
        let asked = if command == Command::Read {
            Asked::Read { offset, length }
        } else {
            Asked::Other
        };
        let cookie = self.parser.expect(asked);
        let (kept, payload) = if command == Command::Read {
            (buffer, None)
        } else {
            (None, buffer)
        };
        self.slots.insert(cookie, Slot { buffer: kept, answer });
        let header = request(command, flags, cookie, offset, length);
        self.output.push_back(Frame {
            cookie,
            header,
            payload,
        });
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, RequestError> {
        let mut progress = false;
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut skip = self.sent;
            let mut count = 0_usize;
            let unsent = self.output.iter().flat_map(Frame::parts).filter_map(|part| {
                let rest = part.get(skip.min(part.len())..).unwrap_or_default();
                skip = skip.saturating_sub(part.len());
                (!rest.is_empty()).then_some(rest)
            });
            for (slice, part) in slices.iter_mut().zip(unsent) {
                *slice = IoSlice::new(part);
                count = count.saturating_add(1);
            }
            let Poll::Ready(sent) = self
                .channel
                .poll_writev(cx, slices.get(..count).unwrap_or_default())
            else {
                return Ok(progress);
            };
            match sent? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                sent => self.sent = self.sent.saturating_add(sent),
            }
            while self.output.front().is_some_and(|frame| frame.len() <= self.sent)
                && let Some(frame) = self.output.pop_front()
            {
                self.sent = self.sent.saturating_sub(frame.len());
                if let (Some(payload), Some(slot)) = (frame.payload, self.slots.get_mut(&frame.cookie)) {
                    slot.buffer = Some(payload);
                }
            }
            self.unflushed = true;
            progress = true;
        }
        if self.unflushed
            && let Poll::Ready(flushed) = self.channel.poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
            progress = true;
        }
        Ok(progress)
    }

    /// Takes replies off the channel, a fair share of them at a time: a server that always has more to say must not
    /// keep the other tasks of this thread from running. Says whether anything moved.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, RequestError> {
        let mut progress = false;
        for _ in 0..FAIR_SHARE {
            if self.target.is_some() {
                if !self.poll_data(cx)? {
                    return Ok(progress);
                }
                progress = true;
                continue;
            }
            let (used, event) = self.parser.feed(self.input.filled())?;
            self.input.consume(used);
            match event {
                ReplyEvent::NeedInput if self.input.is_empty() => {
                    let Poll::Ready(received) = self
                        .channel
                        .poll_readv(cx, &mut [IoSliceMut::new(self.input.room())])
                    else {
                        return Ok(progress);
                    };
                    match received? {
                        0 => return Err(closed()),
                        received => self.input.received(received),
                    }
                }
                ReplyEvent::NeedInput => {}
                ReplyEvent::Data { cookie, range } => self.target = Some((cookie, range)),
                ReplyEvent::Zeroes { cookie, range } => {
                    if let Some(buffer) = self.slots.get_mut(&cookie).and_then(|slot| slot.buffer.as_mut()) {
                        buffer.get_mut(range).unwrap_or_default().fill(0);
                    }
                }
                ReplyEvent::Done { cookie } => self.answer(cookie, Ok(())),
                ReplyEvent::Failed { cookie, error, text } => {
                    self.answer(cookie, Err(RequestError::Server { error, text }));
                }
            }
            progress = true;
        }
        Ok(progress)
    }

    /// Puts data into the buffer it belongs to. Says whether anything moved.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Result<bool, RequestError> {
        let Some((cookie, range)) = &mut self.target else {
            return Ok(false);
        };
        let buffer = self.slots.get_mut(cookie).and_then(|slot| slot.buffer.as_mut());
        let place = buffer.and_then(|buffer| buffer.get_mut(range.clone()));
        // The parser knows only requests that have a slot, and ranges inside their buffers.
        let place = place.ok_or_else(|| RequestError::Lost("a read has lost its buffer".to_owned()))?;
        let moved = if self.input.is_empty() {
            let wanted = place.len();
            let mut slices = [IoSliceMut::new(place), IoSliceMut::new(self.input.room())];
            let Poll::Ready(received) = self.channel.poll_readv(cx, &mut slices) else {
                return Ok(false);
            };
            let received = received?;
            if received == 0 {
                return Err(closed());
            }
            self.input.received(received.saturating_sub(wanted));
            received.min(wanted)
        } else {
            self.input.take_into(place)
        };
        range.start = range.start.saturating_add(moved);
        let complete = range.start >= range.end;
        self.parser.data_received(moved);
        if complete {
            self.target = None;
        }
        Ok(true)
    }

    fn answer(&mut self, cookie: Cookie, result: Result<(), RequestError>) {
        if let Some(Slot { buffer, answer }) = self.slots.remove(&cookie) {
            // Whoever is not waiting any more need not know.
            let _ = answer.send(result.map(|()| buffer));
        }
    }
}

fn closed() -> RequestError {
    RequestError::Lost("the server closed the connection".to_owned())
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
