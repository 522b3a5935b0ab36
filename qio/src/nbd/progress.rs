//! How far a copy has come.

#![allow(clippy::print_stderr, reason = "progress goes to the person who waits")]

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

/// Whether to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// If somebody is looking.
    Auto,
    /// Always; a line per percent where standard error is no terminal.
    Always,
}

/// Progress on standard error: a bar on a terminal, lines elsewhere, or nothing.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { total: u64, done: AtomicU64 },
    Silent,
}

impl Progress {
    pub(super) fn new(total: u64, show: Show) -> Self {
        match (std::io::stderr().is_terminal(), show) {
            (true, _) => {
                let bar = ProgressBar::new(total);
                // A template that does not parse would be a mistake in this line; the default bar will do then.
                if let Ok(style) = ProgressStyle::with_template(
                    "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left",
                ) {
                    bar.set_style(style);
                }
                Progress::Bar(bar)
            }
            (false, Show::Always) => Progress::Lines {
                total,
                done: AtomicU64::new(0),
            },
            (false, Show::Auto) => Progress::Silent,
        }
    }

    /// Counts bytes as copied.
    pub(super) fn add(&self, bytes: u64) {
        match self {
            Progress::Bar(bar) => bar.inc(bytes),
            Progress::Lines { total, done } => {
                let before = done.fetch_add(bytes, Ordering::Relaxed);
                let percent = |bytes: u64| bytes.saturating_mul(100).checked_div(*total).unwrap_or(100);
                let now = percent(before.saturating_add(bytes));
                if now != percent(before) {
                    eprintln!("{now}/100");
                }
            }
            Progress::Silent => {}
        }
    }

    /// Takes the bar off the screen.
    pub(super) fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
