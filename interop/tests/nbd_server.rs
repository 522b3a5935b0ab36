//! QEMU's and libnbd's tools against our server: every byte is the same after every route.

use std::path::Path;
use std::process::Command;

use qio_interop::site::{EXPORT, NbdServer, Route, Site, sha256};
use qio_interop::{require, succeed};

const SIZE: u64 = 1 << 30;

fn require_peers() -> anyhow::Result<()> {
    for (program, package) in [
        ("qemu-img", "qemu-utils"),
        ("qemu-io", "qemu-utils"),
        ("nbdinfo", "libnbd-bin"),
        ("nbdcopy", "libnbd-bin"),
    ] {
        require(program, package)?;
    }
    Ok(())
}

fn expect_same(hash: &str, path: &Path, what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(sha256(path)? == hash, "{what} changed the data");
    std::fs::remove_file(path)?;
    Ok(())
}

fn reads(route: Route) -> anyhow::Result<()> {
    require_peers()?;
    let site = Site::new()?;
    let image = site.image("source.img", SIZE)?;
    let hash = sha256(&image)?;
    let server = NbdServer::qio(&site, route, &image)?;
    let (uri, options) = (server.uri(&site, "pki"), server.qemu_options());
    let copy = site.path("copy.img");

    let info = succeed(
        server
            .qemu_tool(&site, "qemu-img", &["info"])
            .args(["--image-opts", &options]),
    )?;
    anyhow::ensure!(info.contains("1 GiB (1073741824 bytes)"), "{info}");
    succeed(
        server
            .qemu_tool(&site, "qemu-img", &["convert"])
            .args(["-O", "raw", "--image-opts", &options])
            .arg(&copy),
    )?;
    expect_same(&hash, &copy, "qemu-img convert out of the export")?;

    let info = succeed(Command::new("nbdinfo").arg(&uri))?;
    let protocol = match route {
        Route::Tls => "newstyle-fixed with TLS, using structured packets",
        Route::Tcp | Route::Unix => "newstyle-fixed without TLS, using structured packets",
    };
    anyhow::ensure!(
        info.contains(protocol) && info.contains("export-size: 1073741824"),
        "{info}"
    );
    let list = succeed(Command::new("nbdinfo").args(["--list", &uri]))?;
    anyhow::ensure!(list.contains(&format!("export=\"{EXPORT}\"")), "{list}");

    for connections in ["1", "4"] {
        succeed(Command::new("nbdcopy").args(["-C", connections, &uri]).arg(&copy))?;
        expect_same(
            &hash,
            &copy,
            &format!("nbdcopy with {connections} connections out of the export"),
        )?;
    }
    Ok(())
}

fn writes(route: Route) -> anyhow::Result<()> {
    require_peers()?;
    let site = Site::new()?;
    let source = site.image("source.img", SIZE)?;
    let hash = sha256(&source)?;
    let target = site.empty_image("target.img", SIZE)?;
    let server = NbdServer::qio(&site, route, &target)?;
    let (uri, options) = (server.uri(&site, "pki"), server.qemu_options());
    // Each way in starts from other data, so that what it leaves out shows.
    let spoil = || -> anyhow::Result<()> {
        succeed(server.qemu_tool(&site, "qemu-io", &[]).args([
            "--image-opts",
            &options,
            "-c",
            "write -P 0xee 0 16M",
            "-c",
            "write -P 0xee 1000M 24M",
        ]))?;
        anyhow::ensure!(sha256(&target)? != hash, "spoiling the target changed nothing");
        Ok(())
    };

    spoil()?;
    succeed(
        server
            .qemu_tool(&site, "qemu-img", &["convert"])
            .args(["-n", "-f", "raw"])
            .arg(&source)
            .args(["--target-image-opts", &options]),
    )?;
    anyhow::ensure!(
        sha256(&target)? == hash,
        "qemu-img convert into the export changed the data"
    );

    for connections in ["1", "4"] {
        spoil()?;
        succeed(
            Command::new("nbdcopy")
                .args(["-C", connections, "--flush"])
                .arg(&source)
                .arg(&uri),
        )?;
        anyhow::ensure!(
            sha256(&target)? == hash,
            "nbdcopy with {connections} connections changed the data"
        );
    }

    // Patterns at odd places, zeroes, discards, forced unit access.
    let commands = [
        "write -P 0x11 0 4k",
        "write -P 0x22 12345k 777k",
        "write -f -P 0x33 1G-512 512",
        "read -P 0x11 0 4k",
        "read -P 0x22 12345k 777k",
        "read -P 0x33 1G-512 512",
        "write -z 12400k 100k",
        "read -P 0 12400k 100k",
        "read -P 0x22 12345k 55k",
        "write -z -u 13000k 60k",
        "read -P 0 13000k 60k",
        "discard 0 4k",
        "flush",
        "aio_write -P 0x44 100M 8M",
        "aio_write -P 0x55 200M 8M",
        "aio_flush",
        "read -P 0x44 100M 8M",
        "read -P 0x55 200M 8M",
    ];
    let mut qemu_io = server.qemu_tool(&site, "qemu-io", &[]);
    qemu_io.args(["--image-opts", &options]);
    for command in commands {
        qemu_io.args(["-c", &command.replace("1G-512", "1073741312")]);
    }
    let output = succeed(&mut qemu_io)?;
    anyhow::ensure!(
        !output.contains("verification failed") && !output.contains("failed:"),
        "{output}"
    );
    Ok(())
}

#[test]
fn reads_over_a_unix_socket() -> anyhow::Result<()> {
    reads(Route::Unix)
}

#[test]
fn reads_over_tcp() -> anyhow::Result<()> {
    reads(Route::Tcp)
}

#[test]
fn reads_over_mutual_tls() -> anyhow::Result<()> {
    reads(Route::Tls)
}

#[test]
fn writes_over_a_unix_socket() -> anyhow::Result<()> {
    writes(Route::Unix)
}

#[test]
fn writes_over_tcp() -> anyhow::Result<()> {
    writes(Route::Tcp)
}

#[test]
fn writes_over_mutual_tls() -> anyhow::Result<()> {
    writes(Route::Tls)
}
