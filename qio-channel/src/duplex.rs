//! Two channels in memory that are each other's peer, with a descriptor to wait on.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError};
use crate::readiness::{Direction, Interest, Readiness};
use crate::wait::wait;

/// One end of a connection that never leaves the process, like a socket pair without the kernel's copies.
///
/// Each direction holds a bounded number of bytes. Unlike a buffer of one's own it can be waited for: readiness names a
/// descriptor (an `eventfd`), so threads, event loops and tokio drive it like any other channel.
///
/// ```
/// use qio_channel::{Channel, ChannelExt, DuplexChannel, Shutdown};
/// let (mut near, mut far) = DuplexChannel::pair(4096)?;
/// near.write_all(b"hello")?;
/// near.shutdown(Shutdown::Write)?;
/// let mut text = [0; 5];
/// far.read_exact(&mut text)?;
/// assert_eq!(far.read(&mut [0])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct DuplexChannel {
    incoming: Option<Arc<Pipe>>,
    outgoing: Option<Arc<Pipe>>,
    blocking: bool,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    queue: Mutex<Queue>,
    capacity: usize,
    /// Readable while a reader would not block.
    readable: Event,
    /// Readable while a writer would not block.
    writable: Event,
}

#[derive(Debug, Default)]
struct Queue {
    data: VecDeque<u8>,
    write_ended: bool,
    read_ended: bool,
}

/// A descriptor that is readable while it is raised.
#[derive(Debug)]
struct Event(OwnedFd);

impl Event {
    fn new() -> io::Result<Self> {
        Ok(Event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Raises or lowers it; either may be the case already.
    fn set(&self, raised: bool) {
        // The counter is 0 or 1: adding cannot overflow, and taking from 0 says EAGAIN, which is as good.
        let _ = if raised {
            match rustix::event::poll(
                &mut [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)],
                Some(&NO_TIME),
            ) {
                Ok(0) => rustix::io::write(&self.0, &1u64.to_ne_bytes()),
                _ => Ok(0),
            }
        } else {
            rustix::io::read(&self.0, &mut [0; 8])
        };
    }
}

const NO_TIME: rustix::event::Timespec = rustix::event::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl Pipe {
    fn new(capacity: usize) -> io::Result<Arc<Self>> {
        let pipe = Pipe {
            queue: Mutex::default(),
            capacity: capacity.max(1),
            readable: Event::new()?,
            writable: Event::new()?,
        };
        pipe.writable.set(true);
        Ok(Arc::new(pipe))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Whole operations happen under the lock, and none of them panics half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the descriptors in line with the queue. Under the lock, so that no change is missed.
    fn tell(&self, queue: &Queue) {
        self.readable
            .set(!queue.data.is_empty() || queue.write_ended || queue.read_ended);
        self.writable
            .set(queue.data.len() < self.capacity || queue.write_ended || queue.read_ended);
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut queue = self.lock();
        if queue.read_ended || bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        if queue.data.is_empty() {
            return if queue.write_ended {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let mut done = 0;
        for buf in bufs {
            let mut room = &mut buf[..];
            // The ring may have to be read in two pieces.
            while !room.is_empty() && !queue.data.is_empty() {
                let n = queue.data.read(room)?;
                room = room.get_mut(n..).unwrap_or_default();
                done += n;
            }
        }
        self.tell(&queue);
        Ok(done)
    }

    fn write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut queue = self.lock();
        if queue.write_ended || queue.read_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut done = 0;
        for buf in bufs {
            let room = self.capacity.saturating_sub(queue.data.len());
            let now = buf.get(..room).unwrap_or(buf);
            queue.data.extend(now);
            done += now.len();
        }
        self.tell(&queue);
        if done == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(done)
    }

    fn end(&self, direction: Direction) {
        let mut queue = self.lock();
        match direction {
            Direction::Read => {
                queue.read_ended = true;
                queue.data = VecDeque::new();
            }
            Direction::Write => queue.write_ended = true,
        }
        self.tell(&queue);
    }
}

impl DuplexChannel {
    /// Two connected ends, each direction of which holds up to `capacity` bytes.
    ///
    /// # Errors
    /// When the system has no descriptors left: a pair takes four.
    pub fn pair(capacity: usize) -> io::Result<(Self, Self)> {
        let (there, back) = (Pipe::new(capacity)?, Pipe::new(capacity)?);
        let near = DuplexChannel {
            incoming: Some(Arc::clone(&back)),
            outgoing: Some(Arc::clone(&there)),
            blocking: true,
        };
        let far = DuplexChannel {
            incoming: Some(there),
            outgoing: Some(back),
            blocking: true,
        };
        Ok((near, far))
    }

    fn half(&self, direction: Direction) -> io::Result<&Arc<Pipe>> {
        let (pipe, refusal) = match direction {
            Direction::Read => (&self.incoming, "reading from its write half"),
            Direction::Write => (&self.outgoing, "writing to its read half"),
        };
        pipe.as_ref()
            .ok_or_else(|| crate::channel::unsupported(&self.info(), refusal))
    }

    fn retry(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&Pipe) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let pipe = self.half(direction)?;
        loop {
            match operation(pipe) {
                Err(error) if self.blocking && error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.readiness(direction), None)?;
                }
                done => return done,
            }
        }
    }
}

impl Drop for DuplexChannel {
    fn drop(&mut self) {
        if let Some(pipe) = &self.incoming {
            pipe.end(Direction::Read);
        }
        if let Some(pipe) = &self.outgoing {
            pipe.end(Direction::Write);
        }
    }
}

impl Channel for DuplexChannel {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.retry(Direction::Read, |pipe| pipe.read(bufs))
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.retry(Direction::Write, |pipe| pipe.write(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        for (direction, pipe) in [
            (Direction::Read, &self.incoming),
            (Direction::Write, &self.outgoing),
        ] {
            if let Some(pipe) = pipe
                && how.includes(direction)
            {
                pipe.end(direction);
            }
        }
        Ok(())
    }

    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        self.blocking = blocking;
        Ok(())
    }

    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        // Both are events, and an event is readable when what it stands for can be done.
        match (direction, &self.incoming, &self.outgoing) {
            (Direction::Read, Some(pipe), _) => Readiness::fd(pipe.readable.0.as_fd(), Interest::Readable),
            (Direction::Write, _, Some(pipe)) => Readiness::fd(pipe.writable.0.as_fd(), Interest::Readable),
            _ => Readiness::NOW,
        }
    }

    fn features(&self) -> Features {
        Features::SHUTDOWN | Features::SPLIT
    }

    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            kind: "duplex",
            ..ChannelInfo::default()
        }
    }

    fn into_split(mut self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        let blocking = self.blocking;
        let reader = DuplexChannel {
            incoming: self.incoming.take(),
            outgoing: None,
            blocking,
        };
        let writer = DuplexChannel {
            incoming: None,
            outgoing: self.outgoing.take(),
            blocking,
        };
        Ok((Box::new(reader), Box::new(writer)))
    }
}
