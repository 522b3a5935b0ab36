//! `qio psk`: pre-shared keys, as psktool keeps them.

#![allow(clippy::print_stdout, reason = "what the command prints is its result")]

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use qio_creds::{KeyPermissions, PskFile, PskIdentity, PskKey};

/// Make and remove pre-shared keys, for `--object tls-creds-psk` of qio and QEMU, psktool's format.
///
/// The keys are in DIR/keys.psk, one user to a line. The same file goes to the server and to its clients, or to each
/// client only its own line.
#[derive(Debug, Args)]
pub(crate) struct PskCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user with a new random key.
    Add(Add),
    /// List the users; their keys are not shown.
    List(List),
    /// Remove a user.
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Add {
    #[command(flatten)]
    file: File,
    /// The user, by whose name clients are known; QEMU's clients are "qemu" unless told otherwise.
    user: String,
    /// Use this key, in hexadecimal, instead of a new one. Others on this machine can see it while the command runs.
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Give a user who is there already another key.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
struct Remove {
    #[command(flatten)]
    file: File,
    /// The user.
    user: String,
}

#[derive(Debug, Args)]
struct File {
    /// The directory of keys.psk.
    dir: PathBuf,
    /// Go on even if others can read keys.psk. It is for its owner only once it has been written.
    #[arg(long)]
    insecure: bool,
}

impl File {
    fn open(&self) -> anyhow::Result<PskFile> {
        let permissions = if self.insecure {
            KeyPermissions::Insecure
        } else {
            KeyPermissions::Private
        };
        Ok(PskFile::open(&self.dir, permissions)?)
    }

    fn open_existing(&self) -> anyhow::Result<PskFile> {
        let file = self.open()?;
        if !file.path().exists() {
            bail!("{} does not exist; `qio psk add` makes it", file.path().display());
        }
        Ok(file)
    }
}

pub(crate) fn run(command: PskCommand) -> anyhow::Result<()> {
    match command.action {
        Action::Add(command) => add(command),
        Action::List(command) => {
            for user in command.file.open_existing()?.users() {
                println!("{}", qio_creds::printable(&user));
            }
            Ok(())
        }
        Action::Remove(command) => remove(&command),
    }
}

fn add(command: Add) -> anyhow::Result<()> {
    let key = match command.key.map(zeroize::Zeroizing::new) {
        Some(digits) => PskKey::from_hex(&digits).context("--key")?,
        None => PskKey::generate()?,
    };
    let user = PskIdentity::new(&*command.user, key).with_context(|| format!("{:?}", command.user))?;
    make_directory(&command.file.dir)?;
    let mut file = command.file.open()?;
    if file.contains(user.username()) && !command.force {
        bail!(
            "{} has a key for {:?} already; --force gives another one",
            file.path().display(),
            user.username()
        );
    }
    file.set(&user);
    file.write()?;
    println!("{}: a key for {:?}", file.path().display(), user.username());
    Ok(())
}

fn remove(command: &Remove) -> anyhow::Result<()> {
    let mut file = command.file.open_existing()?;
    if !file.remove(&command.user) {
        bail!("{} has no user {:?}", file.path().display(), command.user);
    }
    file.write()?;
    println!("{}: without {:?}", file.path().display(), command.user);
    Ok(())
}

fn make_directory(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))
}
