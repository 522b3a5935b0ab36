//! `qio up`: what it prints can be pasted, and works; Ctrl-C ends it.

use std::process::Command;

use qio_interop::site::{qio, sha256};
use qio_interop::{Peer, require, succeed};

/// The commands in what `qio up` printed: indented by two spaces, continued with a backslash.
fn commands(output: &str) -> Vec<String> {
    let joined = output.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn what_it_prints_can_be_pasted() -> anyhow::Result<()> {
    require("qemu-img", "qemu-utils")?;
    require("nbdcopy", "libnbd-bin")?;
    let directory = tempfile::tempdir()?;
    let state = directory.path().join("it's a state folder, with blanks");
    for start in ["first", "second"] {
        let mut up = Peer::spawn(qio()?.arg("up").arg("--state").arg(&state))?;
        up.wait_for_output("Ctrl-C ends this.")?;
        let commands = commands(&up.output());
        anyhow::ensure!(commands.len() == 4, "{start}: {commands:?}");
        for command in &commands {
            let output = succeed(
                Command::new("sh")
                    .args(["-c", command])
                    .current_dir(directory.path()),
            )?;
            if command.contains("info") {
                anyhow::ensure!(
                    output.contains("64 MiB") || output.contains("67108864"),
                    "{command}: {output}"
                );
            }
        }
        let disk = sha256(&state.join("disk.img"))?;
        for copy in ["copy1.img", "copy2.img"] {
            let copy = directory.path().join(copy);
            anyhow::ensure!(sha256(&copy)? == disk, "{} differs", copy.display());
            let readme = succeed(Command::new("debugfs").args(["-R", "cat /README.txt"]).arg(&copy))?;
            anyhow::ensure!(readme.contains("over NBD"), "{readme}");
            std::fs::remove_file(copy)?;
        }
        succeed(Command::new("kill").args(["-INT", &up.id().to_string()]))?;
        let finished = up.wait()?;
        anyhow::ensure!(
            finished.status.success() && finished.output.contains("Stopped."),
            "{finished:?}"
        );
    }
    Ok(())
}
