//! A channel over a child process's standard input and output.

use std::io::{self, IoSlice, IoSliceMut};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError, unsupported};
use crate::fd::FdChannel;
use crate::readiness::{Direction, Readiness};

/// How long a child that is asked to end (SIGTERM) may take before it is made to (SIGKILL).
const GRACE: Duration = Duration::from_millis(200);

/// A child process as a channel: what is written is its standard input, what is read its standard output.
///
/// Its standard error is inherited. Dropping the channel closes both pipes, gives the child a moment to end, then ends it,
/// and never leaves a zombie. [`wait`](CommandChannel::wait) ends it in an orderly way and tells how it went.
///
/// ```
/// use std::process::Command;
/// use qio_channel::{Channel, ChannelExt, CommandChannel, Shutdown};
///
/// let mut sort = CommandChannel::spawn(&mut Command::new("sort"))?;
/// sort.write_all(b"b\na\n")?;
/// sort.shutdown(Shutdown::Write)?;
/// let mut sorted = [0; 4];
/// sort.read_exact(&mut sorted)?;
/// assert_eq!(&sorted, b"a\nb\n");
/// assert!(sort.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct CommandChannel {
    pipes: FdChannel,
    child: Option<Child>,
}

impl CommandChannel {
    /// Starts the program with its standard input and output piped to the channel.
    ///
    /// # Errors
    /// What starting it reports.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = match (child.stdout.take(), child.stdin.take()) {
            (Some(stdout), Some(stdin)) => FdChannel::from_pair(stdout.into(), stdin.into())?,
            _ => {
                return Err(io::Error::other(
                    "the child has no pipes although it was asked to",
                ));
            }
        };
        Ok(CommandChannel {
            pipes,
            child: Some(child),
        })
    }

    /// The child's process id; `None` once it has been waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Closes the child's standard input and output, and blocks until it has ended.
    ///
    /// # Errors
    /// What waiting reports.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.pipes.shutdown(Shutdown::Both)?;
        match self.child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::Error::other("the child has been waited for")),
        }
    }
}

impl Drop for CommandChannel {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // A child that reads its input to the end is over soon after this.
        let _ = self.pipes.shutdown(Shutdown::Both);
        if let Ok(None) = child.try_wait() {
            if let Some(pid) = i32::try_from(child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let deadline = Instant::now() + GRACE;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::yield_now();
            }
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

impl Channel for CommandChannel {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.pipes.readv(bufs)
    }
    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.pipes.writev(bufs)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.pipes.flush()
    }
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.pipes.shutdown(how)
    }
    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        self.pipes.set_blocking(blocking)
    }
    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        self.pipes.readiness(direction)
    }
    fn features(&self) -> Features {
        Features::SHUTDOWN
    }
    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            kind: "command",
            peer: self.child.as_ref().map(|child| format!("pid {}", child.id())),
            ..ChannelInfo::default()
        }
    }
    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        // The child belongs to one owner: two halves would have to agree on when it ends.
        let error = unsupported(&self.info(), "splitting");
        Err(SplitError { channel: self, error })
    }
}
