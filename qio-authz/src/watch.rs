//! Notices that a file was rewritten or replaced, with inotify(7).
//!
//! It is the folder that is watched: a file that is replaced by renaming another over it is a different file afterwards.
//! A file is looked at when whoever writes it has closed it, so a half-written one is not seen.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fs, io, thread};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How often a folder that has gone is looked for again.
const LOST_FOLDER_RETRY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Room for a few events with names of full length.
const EVENT_BYTES: usize = 4096;

/// A watch that has noted everything since it was made, and tells it once [`start`](Self::start)ed.
pub(crate) struct Prepared {
    inotify: OwnedFd,
    file: PathBuf,
    folder: PathBuf,
    name: OsString,
    /// Whether the folder's own watch is gone, because the folder is.
    lost: bool,
    /// Where the file really is, if its name is a symbolic link to another folder.
    target: Option<(PathBuf, i32)>,
    seen: Option<Fingerprint>,
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What changes when a name leads to another file, or to the same with other contents.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Whether a file is a symbolic link, or has several names.
fn is_link(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

fn events() -> WatchFlags {
    WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
}

impl Prepared {
    /// Watches the folder of `file`, an absolute path.
    pub(crate) fn new(file: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not the path of a file",
            ));
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, folder, events())?;
        let mut prepared = Self {
            inotify,
            file: file.to_owned(),
            folder: folder.to_owned(),
            name: name.to_owned(),
            lost: false,
            target: None,
            seen: None,
        };
        prepared.follow();
        Ok(prepared)
    }

    /// Calls `changed` on a thread of its own whenever the file may have changed.
    pub(crate) fn start(mut self, changed: impl Fn() + Send + 'static) -> io::Result<Watch> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("authz-list-file".to_owned())
            .spawn(move || {
                while let Ok(true) = self.wait(&stopped) {
                    match self.drain() {
                        Ok(true) => {
                            self.follow();
                            changed();
                        }
                        Ok(false) => {}
                        Err(error) => {
                            tracing::error!(file = %self.file.display(), %error, "changes of the access list are no longer noticed");
                            return;
                        }
                    }
                }
            })?;
        Ok(Watch {
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until there is something to look at; false once the watch is to end.
    fn wait(&self, stop: &OwnedFd) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        let timeout = self.lost.then_some(&LOST_FOLDER_RETRY);
        loop {
            match poll(&mut fds, timeout) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let [_, stop] = fds;
        Ok(stop.revents().is_empty())
    }

    /// Reads all events there are; true if the file may have changed.
    fn drain(&mut self) -> io::Result<bool> {
        let (mut ours, mut others) = (false, false);
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.intersects(ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::IGNORED) {
                // It may be the target's folder instead. Then the watch added again is the one there is already.
                self.lost = true;
            }
            match event.file_name() {
                // A new file is empty until its writer closes it; a link has its contents at once.
                Some(name) if name.to_bytes() == self.name.as_bytes() => {
                    ours |= flags != ReadFlags::CREATE || is_link(&self.file);
                }
                // Of another name, but perhaps a link on the way to the file.
                _ => others = true,
            }
        }
        if self.lost && inotify::add_watch(&self.inotify, &self.folder, events()).is_ok() {
            self.lost = false;
            others = true;
        }
        Ok(ours || others && Fingerprint::of(&self.file) != self.seen)
    }

    /// Watches where a symbolic link leads, and notes what is there.
    fn follow(&mut self) {
        let real = fs::canonicalize(&self.file).ok();
        let folder = real.as_deref().and_then(Path::parent).map(Path::to_owned);
        if self.target.as_ref().map(|(folder, _)| folder) != folder.as_ref() {
            if let Some((_, watch)) = self.target.take() {
                // It is gone already if the folder is.
                let _ = inotify::remove_watch(&self.inotify, watch);
                let _ = inotify::add_watch(&self.inotify, &self.folder, events());
            }
            // Without it only a change of the link itself is noticed, which is the usual way.
            self.target = folder.and_then(|folder| {
                let watch = inotify::add_watch(&self.inotify, &folder, events()).ok()?;
                Some((folder, watch))
            });
        }
        self.seen = Fingerprint::of(&self.file);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Neither can fail: the counter is not full, and the thread does not panic. If they did, all that is left
        // is a thread that nobody waits for.
        let stopped = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| stopped) {
            let _ = thread.join();
        }
    }
}
