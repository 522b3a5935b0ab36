//! `qio up`: a working example with generated credentials, and the commands to try it with.

#![allow(clippy::print_stdout, reason = "what the command prints is what it is for")]

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use qio_creds::pki::{Authority, AuthorityTemplate, Directory, Name, Overwrite, Purpose, Template};
use qio_creds::{Endpoint, KeyPermissions, TlsCreds, TlsCredsX509Options};
use qio_nbd::export::OpenOptions;
use qio_nbd::server::{Server, ServerTls};
use qio_socket::{ListenOptions, Listener, SocketAddress};
use tokio::signal::unix::{SignalKind, signal};

/// The size of the example's disk.
const DISK_SIZE: &str = "64M";
/// What clients ask for.
const EXPORT: &str = "disk";

/// Serve a small disk over NBD with mutual TLS, and print how to reach it.
///
/// Certificates and the disk, an ext4 filesystem with a few files in it, are made on the first start and kept
/// in the state folder. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct UpCommand {
    /// The folder for certificates and the disk; made if it is not there.
    #[arg(long, value_name = "DIR", default_value_os_t = default_state())]
    state: PathBuf,
    /// The TCP port on the loopback; 0 for a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

fn default_state() -> PathBuf {
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    base.unwrap_or_else(|| PathBuf::from(".")).join("qio/up")
}

pub(crate) async fn run(command: UpCommand) -> anyhow::Result<ExitCode> {
    let state = &command.state;
    make_folder(state)?;
    let state = &state
        .canonicalize()
        .with_context(|| format!("cannot find {}", state.display()))?;
    let pki = state.join("pki");
    make_pki(&pki)?;
    let disk = state.join("disk.img");
    make_disk(state, &disk)?;

    let creds = TlsCreds::load(TlsCredsX509Options::server(&pki), KeyPermissions::Private)?;
    let export = OpenOptions::new().open(&disk)?;
    let server = Server::builder()
        .export(
            EXPORT.parse()?,
            "an ext4 filesystem with a few files",
            Arc::new(export),
        )
        .default_export(EXPORT.parse()?)
        .tls(ServerTls::Required(creds.for_server()?))
        .build();
    let address = SocketAddress::tcp("127.0.0.1", command.port);
    let listener = Listener::bind(std::slice::from_ref(&address), &ListenOptions::default())?;
    let port = match listener.local_addresses().next() {
        Some(SocketAddress::Inet(bound)) => bound.port.clone(),
        _ => bail!("the listener on {address} has no port"),
    };

    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    print!("{}", instructions(state, &pki, &port));
    let serving = server.serve(listener);
    tokio::pin!(serving);
    let ended = tokio::select! {
        result = &mut serving => Some(result),
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
    };
    match ended {
        Some(result) => result?,
        None => {
            server.stop();
            serving.await?;
        }
    }
    println!("\nStopped. The state folder is kept; remove it to begin anew.");
    Ok(ExitCode::SUCCESS)
}

fn instructions(state: &Path, pki: &Path, port: &str) -> String {
    let (disk, state, pki) = (state.join("disk.img"), state.display(), pki.to_string_lossy());
    // As they can be pasted, whatever the folder and this program are called.
    let qio = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("qio"));
    let qio = for_shell(&qio.to_string_lossy());
    let object = for_shell(&format!(
        "tls-creds-x509,id=tls0,dir={},endpoint=client",
        pki.replace(',', ",,")
    ));
    let folder = utf8_percent_encode(&pki, URI_RESERVED);
    let uri = format!("'nbds://localhost:{port}/{EXPORT}?tls-certificates={folder}'");
    format!(
        "\
Serving {} as the NBD export \"{EXPORT}\" on 127.0.0.1:{port}, with mutual TLS.
Certificates and disk are in {state}. Try, in another terminal:

  qemu-img info --object {object} \\
    --image-opts driver=nbd,host=localhost,port={port},export={EXPORT},tls-creds=tls0

  nbdcopy {uri} copy1.img

  {qio} nbd copy {uri} copy2.img

  {qio} nbd info {uri}

The copies are ext4 filesystems: debugfs -R 'cat /README.txt' copy1.img
Ctrl-C ends this.
",
        disk.display(),
    )
}

/// What has a meaning of its own in a URI's query (RFC 3986, section 2.2), or may not stand there.
const URI_RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One word of a shell's command line.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~=,:+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// An authority, and one certificate for each end, unless they are there.
fn make_pki(path: &Path) -> anyhow::Result<()> {
    let directory = Directory::create(path)?;
    let authority = if directory.ca_certificate().exists() {
        Authority::load(&directory, KeyPermissions::Private)?
    } else {
        let authority = Authority::create(&AuthorityTemplate::new("qio example authority"))?;
        directory.write_authority(&authority, Overwrite::Refuse)?;
        authority
    };
    let ends = [
        (
            Endpoint::Server,
            Purpose::Server,
            local_names(Template::new(Purpose::Server))?,
        ),
        (
            Endpoint::Client,
            Purpose::Client,
            Template::new(Purpose::Client).common_name("qio example client"),
        ),
    ];
    for (endpoint, purpose, template) in ends {
        if !directory.certificate(endpoint).exists() {
            directory.write_pair(purpose, &authority.issue(&template)?, Overwrite::Refuse)?;
        }
    }
    Ok(())
}

fn local_names(template: Template) -> anyhow::Result<Template> {
    let names = ["localhost", "127.0.0.1", "::1"];
    names.iter().try_fold(
        template,
        |template, name| Ok(template.name(name.parse::<Name>()?)),
    )
}

/// A filesystem with files in it, unless it is there.
fn make_disk(state: &Path, disk: &Path) -> anyhow::Result<()> {
    if disk.exists() {
        return Ok(());
    }
    let files = state.join("disk-files");
    make_folder(&files)?;
    fs::write(
        files.join("README.txt"),
        "This file came to you over NBD, encrypted, from qio.\n",
    )?;
    let poem: String = (1..=2000)
        .map(|n| format!("line {n} of a file that fills more than one block\n"))
        .collect();
    fs::write(files.join("lines.txt"), poem)?;
    // Made under another name and renamed when whole: an interrupted first start must not leave half a disk.
    let unfinished = state.join("disk.img.new");
    let _ = fs::remove_file(&unfinished);
    let output = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "qio", "-d"])
        .args([&files, &unfinished])
        .arg(DISK_SIZE)
        .env("PATH", path_with_sbin())
        .stdin(Stdio::null())
        .output()
        .context(
            "cannot run mke2fs, which makes the example's disk; it is in the Debian package e2fsprogs",
        )?;
    if !output.status.success() {
        bail!(
            "mke2fs failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    fs::rename(&unfinished, disk)?;
    fs::remove_dir_all(&files)?;
    Ok(())
}

/// Debian keeps mke2fs where only root's `PATH` looks.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}
