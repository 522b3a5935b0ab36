//! Our client against qemu-nbd, nbdkit and our own server: every byte is the same after every route.

use std::path::Path;

use qio_interop::site::{EXPORT, NbdServer, Route, Site, qio, sha256};
use qio_interop::{require, succeed};

const SIZE: u64 = 1 << 30;

#[derive(Debug, Clone, Copy)]
enum Server {
    QemuNbd,
    Nbdkit,
    Qio,
}

impl Server {
    fn start(self, site: &Site, route: Route, image: &Path) -> anyhow::Result<NbdServer> {
        match self {
            Server::QemuNbd => {
                require("qemu-nbd", "qemu-utils")?;
                NbdServer::qemu_nbd(site, route, image, "pki")
            }
            Server::Nbdkit => {
                require("nbdkit", "nbdkit")?;
                NbdServer::nbdkit(site, route, image)
            }
            Server::Qio => NbdServer::qio(site, route, image),
        }
    }
}

fn everything(server: Server) -> anyhow::Result<()> {
    let site = Site::new()?;
    let source = site.image("source.img", SIZE)?;
    let hash = sha256(&source)?;
    for route in Route::ALL {
        let reading = server.start(&site, route, &source)?;
        let uri = reading.uri(&site, "pki");

        let info = succeed(qio()?.args(["nbd", "info", "--json", &uri]))?;
        anyhow::ensure!(
            info.contains("1073741824") && info.contains(EXPORT),
            "{server:?} {route:?}: {info}"
        );
        let list = succeed(qio()?.args(["nbd", "list", &uri]))?;
        // nbdkit does not tell the names that it answers to.
        anyhow::ensure!(list.contains("1073741824"), "{server:?} {route:?}: {list}");

        let copy = site.path("copy.img");
        succeed(qio()?.args(["nbd", "copy", &uri]).arg(&copy))?;
        anyhow::ensure!(
            sha256(&copy)? == hash,
            "{server:?} {route:?}: copying out changed the data"
        );
        std::fs::remove_file(&copy)?;
        succeed(qio()?.args(["nbd", "copy", &uri, "null:"]))?;

        let target = site.empty_image("target.img", SIZE)?;
        let writing = server.start(&site, route, &target)?;
        succeed(
            qio()?
                .args(["nbd", "copy"])
                .arg(&source)
                .arg(writing.uri(&site, "pki")),
        )?;
        anyhow::ensure!(
            sha256(&target)? == hash,
            "{server:?} {route:?}: copying in changed the data"
        );
        std::fs::remove_file(&target)?;

        if route == Route::Tls {
            // The same with QEMU's way of naming credentials.
            let uri = format!("nbds://localhost:{}/{EXPORT}", reading.port());
            let creds = site.creds("pki", "client");
            let info =
                succeed(qio()?.args(["nbd", "info", "--object", &creds, "--tls-creds", "tls0", &uri]))?;
            anyhow::ensure!(info.contains("with TLS"), "{info}");
            // An address that the certificate has, under a name that it has.
            let uri = format!("nbds://127.0.0.1:{}/{EXPORT}", reading.port());
            let hostname = ["--tls-hostname", "localhost"];
            succeed(
                qio()?
                    .args(["nbd", "info", "--object", &creds, "--tls-creds", "tls0"])
                    .args(hostname)
                    .arg(&uri),
            )?;
        }
    }
    Ok(())
}

#[test]
fn against_qemu_nbd() -> anyhow::Result<()> {
    everything(Server::QemuNbd)
}

#[test]
fn against_nbdkit() -> anyhow::Result<()> {
    everything(Server::Nbdkit)
}

#[test]
fn against_ourselves() -> anyhow::Result<()> {
    everything(Server::Qio)
}

/// From one server to another, without a file between.
#[test]
fn from_server_to_server() -> anyhow::Result<()> {
    let site = Site::new()?;
    let source = site.image("source.img", 64 << 20)?;
    let target = site.empty_image("target.img", 64 << 20)?;
    let reading = Server::QemuNbd.start(&site, Route::Tls, &source)?;
    let writing = Server::Qio.start(&site, Route::Unix, &target)?;
    succeed(qio()?.args([
        "nbd",
        "copy",
        &reading.uri(&site, "pki"),
        &writing.uri(&site, "pki"),
    ]))?;
    anyhow::ensure!(sha256(&source)? == sha256(&target)?, "copying changed the data");
    Ok(())
}
