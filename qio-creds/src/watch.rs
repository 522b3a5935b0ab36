//! Credentials that reload themselves when their files change.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::{CredsError, Snapshot, TlsCreds};

/// How a [`CredsWatcher`] keeps time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// How long the directory must be left alone before its files are read: whoever replaces a certificate is
    /// about to replace its key, too. Half a second unless said otherwise.
    pub quiet: Duration,
    /// How long a directory that is never left alone is waited for. Five seconds unless said otherwise.
    pub patience: Duration,
    /// How often the files are looked at even if the kernel reports no change: it does not see what other hosts do
    /// to a network file system, nor files behind symbolic links. Half a minute unless said otherwise.
    pub look: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(500),
            patience: Duration::from_secs(5),
            look: Duration::from_secs(30),
        }
    }
}

/// Reloads a credentials object whenever its files are replaced or rewritten, until it is dropped.
///
/// Every service that shares the object uses the new files for its next handshakes; open sessions keep what they
/// have. A set of files that is not fit for use leaves the old one in force and is logged with all that is wrong; it
/// is read again when it changes again.
///
/// It is one thread, asleep while nothing happens. Dropping the watcher ends the thread, and waits for it.
///
/// ```no_run
/// use qio_creds::{CredsWatcher, KeyPermissions, TlsCreds, TlsCredsX509Options, WatchOptions};
///
/// let creds = TlsCreds::load(TlsCredsX509Options::server("/etc/pki/qemu"), KeyPermissions::Private)?;
/// let watcher = CredsWatcher::start(&creds, WatchOptions::default())?;
/// // ... serve ...
/// drop(watcher);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CredsWatcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl CredsWatcher {
    /// Begins to watch. Changes since the object was loaded count.
    ///
    /// # Errors
    ///
    /// If the object has no files, or the system grants no thread or descriptor.
    pub fn start(creds: &TlsCreds, options: WatchOptions) -> io::Result<Self> {
        Self::start_with(creds, options, |_| {})
    }

    /// Likewise, and tells of the outcome of each reload, from the watcher's thread, once it is in force.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        creds: &TlsCreds,
        options: WatchOptions,
        told: impl FnMut(&Result<Arc<Snapshot>, CredsError>) + Send + 'static,
    ) -> io::Result<Self> {
        let Some(dir) = creds.dir() else {
            let error = CredsError::NotFromFiles {
                name: creds.name().to_owned(),
            };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        };
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let watched = Directory::new(dir, creds.name());
        let task = Task {
            creds: creds.clone(),
            options,
            stop: Arc::clone(&stop),
            told,
        };
        let thread = thread::Builder::new()
            .name("creds-watcher".to_owned())
            .spawn(move || task.run(watched))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for CredsWatcher {
    fn drop(&mut self) {
        // An eventfd takes eight bytes whenever its counter has room, and nobody else writes to this one.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join(); // its panic has been printed, and is not ours to spread
        }
    }
}

impl fmt::Debug for CredsWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredsWatcher")
    }
}

struct Task<F> {
    creds: TlsCreds,
    options: WatchOptions,
    stop: Arc<OwnedFd>,
    told: F,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stop,
    Change,
    Timeout,
}

impl<F: FnMut(&Result<Arc<Snapshot>, CredsError>)> Task<F> {
    fn run(mut self, mut directory: Directory) {
        loop {
            // Before the look, so that no change falls between the two.
            directory.watch();
            if let Some(outcome) = self.creds.reload_if_changed() {
                if let Err(error) = &outcome {
                    tracing::warn!(creds = %self.creds.name(), "the old TLS credentials stay in force: {error}");
                }
                (self.told)(&outcome);
            }
            let look = directory.interval(self.options.look);
            match self.wait(&directory, look) {
                Woken::Stop => return,
                Woken::Timeout => {}
                Woken::Change => {
                    if self.settle(&directory) == Woken::Stop {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until the directory has been left alone for a while.
    fn settle(&self, directory: &Directory) -> Woken {
        let end = Instant::now() + self.options.patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.wait(directory, self.options.quiet.min(left)) {
                Woken::Change if !left.is_zero() => {}
                woken => return woken,
            }
        }
    }

    fn wait(&self, directory: &Directory, timeout: Duration) -> Woken {
        let timeout = Timespec::try_from(timeout).ok(); // too long to say is as good as for ever
        let mut descriptors = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        descriptors.extend(
            directory
                .events
                .iter()
                .map(|events| PollFd::new(events, PollFlags::IN)),
        );
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(0) => return Woken::Timeout,
            // A signal: look, and wait again.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                // Cannot happen with descriptors that are open; going on would spin.
                tracing::error!(creds = %self.creds.name(), "TLS credentials are no longer watched: {error}");
                return Woken::Stop;
            }
        }
        if descriptors.first().is_some_and(|stop| !stop.revents().is_empty()) {
            return Woken::Stop;
        }
        directory.drain();
        Woken::Change
    }
}

/// The kernel's reports on a directory.
struct Directory {
    path: std::path::PathBuf,
    /// None if the system grants no inotify descriptor.
    events: Option<OwnedFd>,
    watch: Option<i32>,
}

/// How often the files are looked at while the kernel does not report on their directory.
const UNWATCHED: Duration = Duration::from_secs(1);

impl Directory {
    fn new(path: &Path, name: &str) -> Self {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .inspect_err(|error| {
                tracing::warn!(creds = %name, "changes of TLS credentials are noticed late: inotify: {error}");
            })
            .ok();
        Self {
            path: path.to_owned(),
            events,
            watch: None,
        }
    }

    /// Watches what is at the path now, which may be another directory than before.
    fn watch(&mut self) {
        use inotify::WatchFlags as On;
        let Some(events) = &self.events else { return };
        let changes = On::CLOSE_WRITE | On::MOVE | On::CREATE | On::DELETE | On::ATTRIB;
        let flags = changes | On::MOVE_SELF | On::DELETE_SELF | On::ONLYDIR;
        let watch = inotify::add_watch(events, &self.path, flags).ok();
        if let Some(old) = self.watch
            && watch != Some(old)
        {
            let _ = inotify::remove_watch(events, old); // it went away together with its directory
        }
        self.watch = watch;
    }

    fn interval(&self, look: Duration) -> Duration {
        if self.watch.is_some() {
            look
        } else {
            look.min(UNWATCHED)
        }
    }

    /// Takes the reports. What they say does not matter: the files are looked at anyway.
    fn drain(&self) {
        let Some(events) = &self.events else { return };
        let mut reports = [0; 4096];
        while rustix::io::read(events.as_fd(), &mut reports).is_ok_and(|len| len > 0) {}
    }
}
