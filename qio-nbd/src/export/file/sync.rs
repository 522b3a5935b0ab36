//! Syncs whose failure is not forgotten.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

/// Syncs one open file for whoever asks, and remembers if data was lost.
///
/// Linux tells of a failed writeback once for each open file, and considers it dealt with. All connections share
/// the file, so the one that is told would leave the others to believe that what they wrote is safe. Hence the
/// first failure is kept, and every later sync fails as well.
///
/// One sync runs at a time, so that none can succeed while another is about to note a failure. Those that wait
/// share the next one, which covers what was written before any of them asked.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// How many syncs have begun.
    begun: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last sync that succeeded; the first is 1.
    succeeded: u64,
    /// Why data was lost.
    lost: Option<String>,
}

impl Syncs {
    /// Makes all completed writes durable by calling `sync`, or by having waited for another's call that began
    /// after this one.
    pub(super) fn run(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let asked = self.begun.load(Ordering::SeqCst);
        // Nothing that holds the lock leaves the state half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &state.lost {
            return Err(io::Error::other(format!(
                "data written earlier may be lost, as syncing the file failed once: {why}; check the disk, and open the file anew by restarting the server"
            )));
        }
        if state.succeeded > asked {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let result = sync();
        match &result {
            Ok(()) => state.succeeded = number,
            Err(error) if was_not_tried(error) => {}
            Err(error) => {
                tracing::error!("syncing the file failed, and data may be lost: {error}");
                state.lost = Some(error.to_string());
            }
        }
        result
    }
}

/// Does this failure say nothing about the data? So it is where syncing was interrupted, or is not supported.
fn was_not_tried(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INTR | Errno::NOSYS | Errno::INVAL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ErrorNumber;
    use std::sync::mpsc;

    fn fails_with(errno: Errno) -> impl FnOnce() -> io::Result<()> {
        move || Err(errno.into())
    }

    #[test]
    fn after_a_failure_no_sync_succeeds() {
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT] {
            let syncs = Syncs::default();
            syncs.run(|| Ok(())).unwrap();
            let first = syncs.run(fails_with(errno)).unwrap_err();
            assert_eq!(Errno::from_io_error(&first), Some(errno));
            for _ in 0..2 {
                let later = syncs.run(|| Ok(())).unwrap_err();
                assert_eq!(ErrorNumber::from_io(&later), ErrorNumber::Io);
                assert!(later.to_string().contains(&first.to_string()), "{later}");
            }
        }
    }

    #[test]
    fn a_sync_that_was_not_tried_loses_nothing() {
        for errno in [Errno::INTR, Errno::NOSYS, Errno::INVAL] {
            let syncs = Syncs::default();
            syncs.run(fails_with(errno)).unwrap_err();
            syncs.run(|| Ok(())).unwrap();
        }
    }

    #[test]
    fn each_sync_is_done_where_none_can_be_shared() {
        let syncs = Syncs::default();
        let mut done = 0;
        for _ in 0..3 {
            syncs
                .run(|| {
                    done += 1;
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(done, 3);
    }

    #[test]
    fn a_sync_beside_one_that_fails_fails_too() {
        let syncs = Syncs::default();
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        std::thread::scope(|scope| {
            let failing = scope.spawn(|| {
                syncs.run(move || {
                    begun.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Err(Errno::IO.into())
                })
            });
            has_begun.recv().unwrap();
            // The kernel would tell this one that all is well.
            let beside = scope.spawn(|| syncs.run(|| Ok(())));
            go_on.send(()).unwrap();
            assert!(failing.join().unwrap().is_err());
            assert!(beside.join().unwrap().is_err());
        });
    }
}
