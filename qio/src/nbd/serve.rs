//! `qio nbd serve`: qemu-nbd's options, with qemu-nbd's meaning.

#![allow(clippy::print_stderr, reason = "the line that says that the server is ready")]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use qio_authz::{Authz, AuthzRef};
use qio_creds::{KeyPermissions, ServerCreds, TlsCreds};
use qio_nbd::ExportName;
use qio_nbd::export::{Export as _, OpenOptions};
use qio_nbd::limits::{HANDSHAKE_TIMEOUT, MAX_CONNECTIONS};
use qio_nbd::server::{Lifetime, Limits, Server, ServerTls};
use qio_opts::{ObjectRegistry, Size};
use qio_socket::{ListenOptions, Listener, SocketAddress};
use tokio::signal::unix::{SignalKind, signal};

use crate::objects;

/// Serve a raw disk image or a block device over NBD.
///
/// The options are qemu-nbd's. Serving to other hosts needs TLS with verified clients, or --insecure.
#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// The image or block device.
    file: PathBuf,
    /// The address or host name to listen on.
    #[arg(
        short,
        long,
        value_name = "HOST",
        default_value = "0.0.0.0",
        conflicts_with = "socket"
    )]
    bind: String,
    /// The port to listen on; 0 for a free one.
    #[arg(
        short,
        long,
        value_name = "PORT",
        default_value_t = 10809,
        conflicts_with = "socket"
    )]
    port: u16,
    /// Listen on a unix socket instead.
    #[arg(short = 'k', long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The export's name.
    #[arg(short = 'x', long, value_name = "NAME", default_value = "")]
    export_name: ExportName,
    /// A description of the export, for people.
    #[arg(short = 'D', long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Serve for reading only.
    #[arg(short, long)]
    read_only: bool,
    /// Go on when the last client has left.
    #[arg(short = 't', long)]
    persistent: bool,
    /// How many clients are served at once; 0 for as many as --max-connections allows.
    #[arg(short = 'e', long, value_name = "NUM", default_value_t = 1)]
    shared: usize,
    /// The image's format. Only raw can be served so far; without this option an image is never taken for raw.
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Serve from this byte of the image on.
    #[arg(short, long, value_name = "OFFSET", default_value = "0")]
    offset: Size,
    /// Make an object for other options to refer to, such as TLS credentials.
    #[arg(long = "object", value_name = "TYPE,id=ID,...")]
    objects: Vec<String>,
    /// Require TLS, with the credentials of this --object. Their files are read again whenever they change.
    #[arg(long, value_name = "ID")]
    tls_creds: Option<String>,
    /// Let only those clients in that this --object authz-... knows by the name in their certificate.
    #[arg(long, value_name = "ID", requires = "tls_creds")]
    tls_authz: Option<String>,
    /// Write the process id to this file once clients can connect; it is removed at the end.
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Seconds that a client may take to negotiate; 0 for no limit.
    #[arg(long, value_name = "SECONDS", default_value_t = HANDSHAKE_TIMEOUT.as_secs())]
    handshake_limit: u64,
    /// How many connections there may be at once, whatever --shared says.
    #[arg(long, value_name = "NUM", default_value_t = MAX_CONNECTIONS)]
    max_connections: usize,
    /// Serve to other hosts without TLS or without verifying clients, and use private keys that others can read.
    #[arg(long)]
    insecure: bool,
}

pub(super) async fn run(command: ServeCommand) -> anyhow::Result<()> {
    check_format(command.format.as_deref(), &command.file)?;
    let address = match &command.socket {
        Some(path) => SocketAddress::unix(path),
        None => SocketAddress::tcp(&command.bind, command.port),
    };
    let permissions = if command.insecure {
        KeyPermissions::Insecure
    } else {
        KeyPermissions::Private
    };
    let objects = objects::load(&command.objects, permissions)?;
    let tls = tls(&command, &objects)?;
    let _watching = objects::watch(&objects)?;
    check_protection(&address, &tls, command.insecure)?;

    let export = OpenOptions::new()
        .read_only(command.read_only)
        .offset(command.offset.bytes())
        .open(&command.file)?;
    let size = export.size();
    let lifetime = if command.persistent {
        Lifetime::Persistent
    } else {
        Lifetime::UntilIdle
    };
    let limits = Limits {
        max_connections: match command.shared {
            0 => command.max_connections,
            shared => shared.min(command.max_connections),
        },
        handshake_timeout: (command.handshake_limit > 0)
            .then(|| Duration::from_secs(command.handshake_limit)),
        ..Limits::default()
    };
    let server = Server::builder()
        .export(
            command.export_name.clone(),
            &command.description,
            Arc::new(export),
        )
        .tls(tls.clone())
        .limits(limits)
        .lifetime(lifetime)
        .build();

    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = Listener::bind(std::slice::from_ref(&address), &ListenOptions::default())?;
    let addresses: Vec<String> = listener.local_addresses().map(ToString::to_string).collect();
    let _pid_file = command.pid_file.map(PidFile::write).transpose()?;
    eprintln!(
        "qio: serving '{}' ({size} bytes) on {} ({})",
        command.export_name,
        addresses.join(", "),
        protection(&tls)
    );

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
    Ok(())
}

fn tls(command: &ServeCommand, objects: &ObjectRegistry) -> anyhow::Result<ServerTls> {
    let Some(id) = &command.tls_creds else {
        return Ok(ServerTls::Off);
    };
    let creds = objects
        .get::<TlsCreds>(id)
        .with_context(|| format!("--tls-creds {id}"))?;
    let creds = creds.for_server().with_context(|| format!("--tls-creds {id}"))?;
    let Some(authz) = &command.tls_authz else {
        return Ok(ServerTls::Required(creds));
    };
    if let Err(error) = objects.get::<Authz>(authz) {
        // As QEMU has it, the object is looked up for each client, and may come later.
        tracing::warn!("--tls-authz {authz}: nobody gets in for now: {error}");
    }
    let access = Arc::new(AuthzRef::new(objects, authz));
    ServerTls::restricted(creds, access).with_context(|| format!("--tls-authz {authz}"))
}

fn verifies(creds: &ServerCreds) -> bool {
    creds.snapshot().authenticates_peer()
}

fn protection(tls: &ServerTls) -> &'static str {
    match tls {
        ServerTls::Off => "in clear text",
        ServerTls::Required(creds) if verifies(creds) => "TLS required, clients verified",
        ServerTls::Required(_) => "TLS required, clients not verified",
        ServerTls::Restricted(_) => "TLS required, clients verified and on the access list",
    }
}

/// What other hosts can reach needs TLS with verified clients, or the user's word that it does not.
fn check_protection(address: &SocketAddress, tls: &ServerTls, insecure: bool) -> anyhow::Result<()> {
    let lacks = match tls {
        _ if insecure || address.is_local() => return Ok(()),
        ServerTls::Restricted(_) => return Ok(()),
        ServerTls::Required(creds) if verifies(creds) => return Ok(()),
        ServerTls::Required(_) => "clients are not verified (verify-peer=off)",
        ServerTls::Off => "there is no TLS",
    };
    bail!(
        "other hosts can reach {address}, and {lacks}: use --tls-creds with verify-peer=on, listen on -b localhost or a unix socket (-k), or say --insecure"
    )
}

/// Formats that their first bytes prove.
const MAGICS: [(&[u8], &str); 6] = [
    (b"QFI\xfb", "qcow2"),
    (b"QED\0", "qed"),
    (b"KDMV", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"LUKS\xba\xbe", "luks"),
];

/// Only raw is served, and only to a user who said so: the guest that writes a raw image could make it look like
/// another format, and a probe would then open what the guest chose.
fn check_format(format: Option<&str>, file: &Path) -> anyhow::Result<()> {
    let name = file.display();
    match format {
        Some("raw") => return Ok(()),
        Some(other) => bail!("-f {other}: only raw images can be served so far"),
        None => {}
    }
    let mut start = Vec::new();
    let opened = File::open(file).with_context(|| format!("cannot open '{name}'"))?;
    opened
        .take(16)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read '{name}'"))?;
    match MAGICS.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, found)) => {
            bail!(
                "'{name}' looks like a {found} image, and only raw images can be served so far (-f raw would serve its bytes as they are)"
            )
        }
        None => bail!("'{name}' could be a raw image, which cannot be proved: say -f raw"),
    }
}

/// A file with our process id, removed when this is dropped.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> anyhow::Result<Self> {
        let text = format!("{}\n", std::process::id());
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write the pid file {}", path.display()))?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell at the end.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_need_protection_or_consent() {
        let check =
            |address: &str, insecure| check_protection(&address.parse().unwrap(), &ServerTls::Off, insecure);
        assert!(
            check("0.0.0.0:10809", false)
                .unwrap_err()
                .to_string()
                .contains("--insecure")
        );
        assert!(check(":10809", false).is_err());
        assert!(check("example.com:10809", false).is_err());
        assert!(check("0.0.0.0:10809", true).is_ok());
        assert!(check("localhost:10809", false).is_ok());
        assert!(check("[::1]:10809", false).is_ok());
        assert!(check("unix:/s", false).is_ok());
    }

    #[test]
    fn formats_are_proved_or_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let error = |format| format!("{:#}", check_format(format, &path).unwrap_err());
        assert!(error(None).contains("cannot open"));
        std::fs::write(&path, [0; 1024]).unwrap();
        assert!(error(None).contains("-f raw"));
        std::fs::write(&path, b"QFI\xfb\0\0\0\x03").unwrap();
        assert!(error(None).contains("qcow2"));
        assert!(error(Some("qcow2")).contains("only raw"));
        assert!(check_format(Some("raw"), &path).is_ok());
    }

    #[test]
    fn a_pid_file_lives_as_long_as_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::write(path.clone()).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        drop(file);
        assert!(!path.exists());
    }
}
