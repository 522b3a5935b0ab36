//! What the command logs, and how.

use std::io::{self, IsTerminal};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// Say more on standard error; twice or three times for still more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// What to log: a level, or a filter such as `qio_nbd=debug,qio_tls=trace`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "QIO_LOG",
        conflicts_with = "verbose"
    )]
    log: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogOptions {
    /// Installs the logger of this process.
    pub(crate) fn install(&self) -> anyhow::Result<()> {
        let filter = match (&self.log, self.verbose) {
            (Some(filter), _) => filter,
            (None, 0) => "warn",
            (None, 1) => "info",
            (None, 2) => "debug",
            (None, _) => "trace",
        };
        let filter = EnvFilter::try_new(filter)
            .map_err(|error| anyhow::anyhow!("--log {filter} is not a log filter: {error}"))?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => subscriber.with_target(false).init(),
            LogFormat::Json => subscriber.json().init(),
        }
        Ok(())
    }
}
