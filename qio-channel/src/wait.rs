//! Blocking the calling thread until a channel is worth trying again.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::readiness::{Interest, Readiness, Wait};

/// Blocks until what `readiness` names has happened, or `deadline` has passed.
///
/// This is the whole glue between a non-blocking channel and a thread: try, and on `WouldBlock` call
/// `wait(channel.readiness(direction), deadline)`. A hang-up or an error on the descriptor also ends the wait,
/// because the next try is what reports it.
///
/// # Errors
/// [`TimedOut`](io::ErrorKind::TimedOut) when `deadline` passed first; what `poll(2)` reports.
pub fn wait(readiness: Readiness<'_>, deadline: Option<Instant>) -> io::Result<()> {
    let Wait::Fd(fd, interest) = readiness.wait else {
        return Ok(());
    };
    let flags = match interest {
        Interest::Readable => PollFlags::IN,
        Interest::Writable => PollFlags::OUT,
    };
    let end = readiness.until(deadline).until;
    loop {
        let now = Instant::now();
        let left = end.map(|end| end.saturating_duration_since(now));
        let timeout = left.map(timespec);
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], timeout.as_ref()) {
            Ok(0) => {}
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the deadline passed"));
        }
        if end.is_some_and(|end| now >= end) {
            return Ok(());
        }
    }
}

/// A timeout for `poll`. Longer than the type can say means "very long", which is what it becomes.
fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_deadline_ends_the_wait_and_a_time_to_try_again_does_not_fail_it() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        let readable = Readiness::fd(reader.as_fd(), Interest::Readable);
        assert_eq!(
            wait(readable, Some(soon)).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        wait(readable.until(Some(soon)), None).unwrap();
    }

    #[test]
    fn a_hang_up_ends_the_wait() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(writer);
        wait(Readiness::fd(reader.as_fd(), Interest::Readable), None).unwrap();
    }

    #[test]
    fn nothing_to_wait_for() {
        wait(Readiness::NOW, Some(Instant::now())).unwrap();
    }
}
