//! Credentials directories, good, bad and odd: what QEMU loads, `qio creds check` loads, and what QEMU refuses, it
//! refuses, but for the differences that [`DIFFERENCES`] lists with their reasons.
//!
//! Every directory is loaded by qemu-nbd as a server and by qemu-img as a client; both then fail to find an image, so
//! none of them lingers. QEMU 7.2 is asked as well where `QIO_OLD_QEMU` names the folder of its tools, as `./x test`
//! does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking; the table is printed"
)]

#[path = "creds_oracle/build.rs"]
mod build;
#[path = "creds_oracle/cases.rs"]
mod cases;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use build::Build;
use cases::CASES;
use qio_interop::site::qio;
use qio_interop::{qemu_path, require, run, succeed};

/// A directory of the collection: its name, and how it differs from one that is as it should be.
type Case = (&'static str, fn(&mut Build));

/// Whether credentials are loaded or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Loads,
    Refuses,
}

use Verdict::{Loads, Refuses};

/// Where we differ from QEMU on purpose: the directory, the endpoints, what we say, and why. The README of qio-creds
/// explains them.
///
/// This is about QEMU 10.0. Others may side with us: 7.2 as Debian has it takes digitalSignature alone, and 10.2 checks
/// the authorities on the way only and knows chains and numbered pairs.
const DIFFERENCES: &[(&str, &[&str], Verdict, &str)] = &[
    // More than QEMU takes: none of it makes anybody less safe.
    (
        "critical key usage: digitalSignature",
        BOTH,
        Loads,
        "no key exchange of today enciphers with the certificate's key (10.2 dropped the demand)",
    ),
    (
        "seventeen roots",
        BOTH,
        Loads,
        "QEMU's limit of 16 is one of its array",
    ),
    (
        "an expired authority beside",
        BOTH,
        Loads,
        "an authority that the own certificate does not hang on harms nobody, and earns a warning (as in 10.2)",
    ),
    (
        "an end certificate among the authorities",
        BOTH,
        Loads,
        "likewise",
    ),
    (
        "unsound authorities beside, of every kind",
        BOTH,
        Loads,
        "likewise",
    ),
    (
        "an intermediate in the leaf's file",
        BOTH,
        Loads,
        "it is what servers send, and where other programs expect it (10.2 looks there)",
    ),
    (
        "an intermediate and the root in the leaf's file",
        BOTH,
        Loads,
        "likewise",
    ),
    (
        "an Ed25519 key with its public half",
        BOTH,
        Loads,
        "as newer tools write it (RFC 5958); GnuTLS reads keys without only",
    ),
    (
        "a key encrypted with scrypt",
        BOTH,
        Loads,
        "OpenSSL writes them, GnuTLS cannot read them",
    ),
    (
        "Diffie-Hellman parameters that are none",
        &["server"],
        Loads,
        "the file is not used, which is told",
    ),
    ("a numbered pair only", &["server"], Loads, "as in 10.2"),
    (
        "a revocation list that is none, not wanted",
        &["server"],
        Loads,
        "QEMU's servers cannot be told crl=off",
    ),
    // Less than QEMU takes: on purpose, with an option.
    (
        "a key that others can read",
        BOTH,
        Refuses,
        "it is no secret any more (--insecure)",
    ),
    (
        "a revocation list that is none",
        &["client"],
        Refuses,
        "whoever puts one there wants it heeded; QEMU's clients do not look (crl=off)",
    ),
    ("an empty revocation list file", &["client"], Refuses, "likewise"),
    (
        "half a numbered pair beside",
        &["server"],
        Refuses,
        "as in 10.2; 10.0 does not look",
    ),
    // Less than QEMU takes: the engine cannot.
    (
        "an RSA key of 1024 bits",
        BOTH,
        Refuses,
        "aws-lc-rs and ring begin at 2048",
    ),
    ("an Ed448 key", BOTH, Refuses, "neither of them knows it"),
    (
        "a key encrypted as PKCS#12 does",
        BOTH,
        Refuses,
        "the library leaves the schemes before PBES2 out; the error says how to convert",
    ),
    ("a key encrypted as OpenSSL used to", BOTH, Refuses, "likewise"),
];

const BOTH: &[&str] = &["server", "client"];

/// How the tools are asked about a directory.
struct Asked<'a> {
    build: &'a Build,
    dir: &'a Path,
}

impl Asked<'_> {
    fn objects(&self, endpoint: &str, options: &str) -> Vec<String> {
        let mut objects = self.build.secrets.clone();
        let dir = qemu_path(self.dir);
        objects.push(format!(
            "tls-creds-x509,id=tls0,dir={dir},endpoint={endpoint}{options}"
        ));
        objects
    }

    fn qemu(&self, folder: Option<&Path>, endpoint: &str) -> anyhow::Result<Verdict> {
        let tool = |name: &str| folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
        let mut command = match endpoint {
            "server" => Command::new(tool("qemu-nbd")),
            _ => {
                let mut command = Command::new(tool("qemu-img"));
                command.arg("info");
                command
            }
        };
        for object in self.objects(endpoint, &self.build.options) {
            command.args(["--object", &object]);
        }
        // Objects are made before images are opened, and this one cannot be.
        let finished = run(command
            .args(["-f", "raw", "/nonexistent/image"])
            .current_dir(self.dir))?;
        ensure!(!finished.status.success(), "{command:?} found an image");
        Ok(if finished.output.contains("/nonexistent/image") {
            Loads
        } else {
            Refuses
        })
    }

    fn qio(&self, endpoint: &str) -> anyhow::Result<Verdict> {
        let mut command = qio()?;
        command.args(["creds", "check"]);
        command.args(&self.build.our_arguments);
        let options = format!("{}{}", self.build.options, self.build.our_options);
        for object in self.objects(endpoint, &options) {
            command.args(["--object", &object]);
        }
        let finished = run(command.current_dir(self.dir))?;
        match finished.status.code() {
            Some(0) if finished.output.contains("can be used") => Ok(Loads),
            Some(1) if finished.output.contains("cannot be used") => Ok(Refuses),
            _ => bail!("{command:?} ended {}: {}", finished.status, finished.output),
        }
    }
}

#[test]
fn we_load_what_qemu_loads() -> anyhow::Result<()> {
    require("qemu-nbd", "qemu-utils")?;
    require("qemu-img", "qemu-utils")?;
    ensure!(CASES.len() >= 60, "only {} directories", CASES.len());
    let is_10_0 = succeed(Command::new("qemu-nbd").arg("--version"))?.contains(" 10.0");
    let old = std::env::var_os("QIO_OLD_QEMU").map(PathBuf::from);
    let mut wrong = Vec::new();
    eprintln!("{:55} {:8} qio     QEMU    older", "directory", "endpoint");
    for (name, spoil) in CASES {
        let directory = tempfile::tempdir()?;
        let mut build = Build::new(directory.path());
        spoil(&mut build);
        build.write().with_context(|| format!("cannot make: {name}"))?;
        let asked = Asked {
            build: &build,
            dir: directory.path(),
        };
        for endpoint in BOTH {
            let ours = asked.qio(endpoint).context(*name)?;
            let qemu = asked.qemu(None, endpoint)?;
            let older = old
                .as_deref()
                .map(|old| asked.qemu(Some(old), endpoint))
                .transpose()?;
            let told = |verdict: Verdict| format!("{verdict:?}");
            eprintln!(
                "{name:55} {endpoint:8} {:7} {:7} {}",
                told(ours),
                told(qemu),
                older.map(told).unwrap_or_default()
            );
            let purpose = DIFFERENCES
                .iter()
                .find(|(case, ends, ..)| case == name && ends.contains(endpoint));
            match purpose {
                Some((.., reason)) if is_10_0 && ours == qemu => {
                    wrong.push(format!("{name}, {endpoint}: no difference any more: {reason}"));
                }
                None if ours != qemu || older.is_some_and(|older| older != ours) => {
                    wrong.push(format!(
                        "{name}, {endpoint}: we say {ours:?}, QEMU {qemu:?}, older {older:?}"
                    ));
                }
                Some((.., expected, reason)) if ours != *expected => {
                    wrong.push(format!("{name}, {endpoint}: we say {ours:?}, although {reason}"));
                }
                _ => {}
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_difference_is_about_a_directory_of_the_collection() {
    for (case, ..) in DIFFERENCES {
        assert!(CASES.iter().any(|(name, _)| name == case), "{case}");
    }
    for (index, (name, _)) in CASES.iter().enumerate() {
        assert!(
            !CASES[..index].iter().any(|(other, _)| other == name),
            "{name} is there twice"
        );
    }
}
