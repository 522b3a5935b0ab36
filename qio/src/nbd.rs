//! `qio nbd`: serving, listing, describing and copying disks.

mod client;
mod copy;
mod details;
mod info;
mod list;
mod progress;
mod serve;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Serve, list, describe and copy disks over NBD, the network block device protocol.
#[derive(Debug, Args)]
pub(crate) struct NbdCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeCommand),
    Info(info::InfoCommand),
    List(list::ListCommand),
    Copy(copy::CopyCommand),
}

/// Runs the command within a tokio runtime.
pub(crate) async fn run(command: NbdCommand) -> anyhow::Result<ExitCode> {
    match command.command {
        Command::Serve(command) => serve::run(command).await,
        Command::Info(command) => info::run(command).await,
        Command::List(command) => list::run(command).await,
        Command::Copy(command) => copy::run(command).await,
    }
    .map(|()| ExitCode::SUCCESS)
}
