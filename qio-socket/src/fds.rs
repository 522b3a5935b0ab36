//! Descriptors beside data (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors in one message; QEMU has the same limit.
pub(crate) const MAX_FDS: usize = 16;

/// What came in one message. Bad descriptors are closed and reported as an error.
pub(crate) struct Received {
    pub(crate) bytes: usize,
    pub(crate) fds: io::Result<Vec<OwnedFd>>,
}

/// Receives data and descriptors; `bufs` must have room for a byte.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bufs: &mut [IoSliceMut<'_>],
    flags: RecvFlags,
) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, bufs, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    // The space is rounded up for alignment, so that one more may fit than we allow.
    if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the peer passed more descriptors in one message than the {MAX_FDS} allowed; all were closed"
            ),
        );
        return Ok(Received {
            bytes: message.bytes,
            fds: Err(error),
        });
    }
    for fd in &fds {
        make_blocking(fd);
    }
    Ok(Received {
        bytes: message.bytes,
        fds: Ok(fds),
    })
}

/// A passed descriptor starts out blocking, whatever its sender made of it: code that expects one mode and
/// gets the other loses data.
fn make_blocking(fd: &OwnedFd) {
    if let Ok(flags) = fcntl_getfl(fd)
        && flags.contains(OFlags::NONBLOCK)
    {
        // Some descriptors (O_PATH) have no such mode, and do not need it.
        let _ = fcntl_setfl(fd, flags - OFlags::NONBLOCK);
    }
}

/// Refuses what cannot be sent.
pub(crate) fn check(bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if fds.len() > MAX_FDS {
        return refuse(format!(
            "cannot pass {} descriptors in one message, at most {MAX_FDS}",
            fds.len()
        ));
    }
    if bufs.is_empty() && !fds.is_empty() {
        return refuse("descriptors travel beside data: write at least one byte with them".to_owned());
    }
    Ok(())
}

/// Sends data and descriptors that [`check`] has passed.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bufs: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL); // the space is made for MAX_FDS
    }
    sendmsg(socket, bufs, &mut control, flags)
}
