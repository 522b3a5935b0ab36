//! The `qio` command.

mod creds;
mod log;
mod nbd;
mod objects;
mod pki;
mod psk;
mod tls;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// QEMU's I/O channels, credentials and block export, as one command.
///
/// Options that QEMU's tools have keep their names and their meaning.
#[derive(Debug, Parser)]
#[command(name = "qio", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    log: log::LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Creds(creds::CredsCommand),
    Nbd(nbd::NbdCommand),
    Pki(pki::PkiCommand),
    Psk(psk::PskCommand),
    Tls(tls::TlsCommand),
    Up(up::UpCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = cli.log.install().and_then(|()| run(cli.command));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Creds(command) => creds::run(&command),
        Command::Nbd(command) => runtime()?.block_on(nbd::run(command)),
        Command::Pki(command) => pki::run(command).map(|()| ExitCode::SUCCESS),
        Command::Psk(command) => psk::run(command).map(|()| ExitCode::SUCCESS),
        Command::Tls(command) => tls::run(command),
        Command::Up(command) => runtime()?.block_on(up::run(command)),
    }
}

/// Two worker threads at least, one a processor at most; blocking file access gets threads of its own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

#[allow(clippy::print_stderr, reason = "this is how a command says why it failed")]
fn complain(error: &anyhow::Error) {
    eprintln!("qio: {}", told(error));
}

/// One line: what failed, and its causes as far as they say something new.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
