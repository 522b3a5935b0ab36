//! Credentials that follow their files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use common::{Pki, authority, past, server};
use qio_creds::pki::{Overwrite, Purpose};
use qio_creds::{CredsWatcher, Endpoint, TlsCreds, WatchOptions};

/// The most that a machine under load may need; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Watched {
    pki: Pki,
    creds: TlsCreds,
    outcomes: Receiver<Result<u64, String>>,
    watcher: CredsWatcher,
}

impl Watched {
    fn new(options: WatchOptions) -> Self {
        let pki = Pki::server();
        let creds = pki.load(Endpoint::Server).unwrap();
        Self::start(pki, creds, options)
    }

    fn start(pki: Pki, creds: TlsCreds, options: WatchOptions) -> Self {
        let (tell, outcomes) = mpsc::channel();
        let watcher = CredsWatcher::start_with(&creds, options, move |outcome| {
            let outcome = match outcome {
                Ok(snapshot) => Ok(snapshot.generation()),
                Err(error) => Err(error.to_string()),
            };
            let _ = tell.send(outcome);
        });
        Self {
            pki,
            creds,
            outcomes,
            watcher: watcher.unwrap(),
        }
    }

    fn generation(&self) -> u64 {
        self.creds.snapshot().generation()
    }

    /// The outcome of the next reload.
    fn next(&self) -> Result<u64, String> {
        self.outcomes.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until what is in force is what `pair` presents. There may be a reload between its two files.
    fn follows(&self, pki: &Pki) {
        let wanted = fs::read_to_string(pki.file("server-cert.pem")).unwrap();
        loop {
            let outcome = self.next();
            let snapshot = self.creds.snapshot();
            let chain = snapshot.x509().unwrap().identities()[0].chain();
            let shown = pem(chain[0].as_ref());
            if outcome.is_ok() && wanted.contains(&shown) {
                return;
            }
        }
    }
}

/// The base64 of a certificate's first bytes, as its PEM file has it.
fn pem(der: &[u8]) -> String {
    use base64ct::Encoding as _;
    base64ct::Base64::encode_string(&der[..48])
}

/// Quick, and deaf to nothing but the kernel's reports.
fn quick() -> WatchOptions {
    let mut options = WatchOptions::default();
    options.quiet = Duration::from_millis(20);
    options.look = Duration::MAX;
    options
}

/// Another certificate of the same authority.
fn renew(pki: &Pki) {
    pki.directory
        .write_pair(
            Purpose::Server,
            &pki.authority.issue(&server()).unwrap(),
            Overwrite::Replace,
        )
        .unwrap();
}

#[test]
fn files_that_are_replaced_are_in_force_soon() {
    let watched = Watched::new(quick());
    let old = watched.generation();
    renew(&watched.pki);
    watched.follows(&watched.pki);
    assert!(watched.generation() > old);
}

#[test]
fn files_that_are_rewritten_in_place_are_in_force_soon() {
    let watched = Watched::new(quick());
    let pair = watched.pki.authority.issue(&server()).unwrap();
    watched.pki.write("server-cert.pem", pair.certificate_pem());
    watched.pki.write("server-key.pem", &*pair.key_pem());
    watched.follows(&watched.pki);
}

#[test]
fn a_link_that_is_turned_elsewhere_is_followed() {
    // As in a mounted Kubernetes secret: every file is a link through one that is replaced.
    let pki = Pki::server();
    for (name, of) in [("one", &pki), ("two", &Pki::server())] {
        fs::create_dir(pki.file(name)).unwrap();
        for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
            fs::copy(of.file(file), pki.file(name).join(file)).unwrap();
        }
    }
    std::os::unix::fs::symlink("one", pki.file("data")).unwrap();
    for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        pki.remove(file);
        std::os::unix::fs::symlink(format!("data/{file}"), pki.file(file)).unwrap();
    }
    let creds = pki.load(Endpoint::Server).unwrap();
    let watched = Watched::start(pki, creds, quick());
    std::os::unix::fs::symlink("two", watched.pki.file("new")).unwrap();
    fs::rename(watched.pki.file("new"), watched.pki.file("data")).unwrap();
    watched.follows(&watched.pki);
}

#[test]
fn a_bad_set_leaves_the_old_one_in_force_until_it_is_mended() {
    let watched = Watched::new(quick());
    let old = watched.generation();
    let expired = watched.pki.authority.issue(&server().validity(past())).unwrap();
    watched.pki.put(Purpose::Server, &expired);
    let error = loop {
        match watched.next() {
            Err(error) if error.contains("expired") => break error,
            _ => {}
        }
    };
    assert!(error.contains("server-cert.pem"), "{error}");
    assert_eq!(watched.generation(), old);
    renew(&watched.pki);
    watched.follows(&watched.pki);
    assert!(watched.generation() > old);
}

#[test]
fn a_directory_put_in_the_place_of_another_is_followed() {
    let mut options = quick();
    options.look = Duration::from_millis(50);
    let pki = Pki::server();
    let (place, aside) = (pki.file("current"), pki.file("old"));
    for (dir, of) in [(&place, &pki), (&pki.file("next"), &Pki::server())] {
        fs::create_dir(dir).unwrap();
        for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
            fs::copy(of.file(file), dir.join(file)).unwrap();
        }
    }
    let creds = TlsCreds::load(
        qio_creds::TlsCredsX509Options::server(&place),
        qio_creds::KeyPermissions::Private,
    );
    let watched = Watched::start(pki, creds.unwrap(), options);
    let old = watched.generation();
    fs::rename(&place, &aside).unwrap();
    fs::rename(watched.pki.file("next"), &place).unwrap();
    while watched.next().is_err() {} // it may have been looked for when it was not there
    assert!(watched.generation() > old);
}

#[test]
fn changes_between_load_and_start_count() {
    let pki = Pki::server();
    let creds = pki.load(Endpoint::Server).unwrap();
    renew(&pki);
    let watched = Watched::start(pki, creds, quick());
    watched.follows(&watched.pki);
}

#[test]
fn what_was_reloaded_by_hand_is_not_reloaded_again() {
    let pki = Pki::server();
    let creds = pki.load(Endpoint::Server).unwrap();
    assert!(creds.reload_if_changed().is_none());
    renew(&pki);
    creds.reload().unwrap();
    assert!(creds.reload_if_changed().is_none());
    pki.put(Purpose::Server, &authority("x").issue(&server()).unwrap());
    assert!(creds.reload_if_changed().unwrap().is_err());
    assert!(creds.reload_if_changed().is_none(), "a bad set is not read twice");
    pki.remove("server-key.pem");
    assert!(creds.reload_if_changed().unwrap().is_err());
}

#[test]
fn a_watcher_that_is_dropped_has_stopped() {
    let Watched {
        pki,
        creds,
        outcomes,
        watcher,
    } = Watched::new(quick());
    drop(watcher);
    let old = creds.snapshot().generation();
    renew(&pki);
    // The thread owned the sender, so it is gone.
    assert_eq!(
        outcomes.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(creds.snapshot().generation(), old);
}

#[test]
fn what_has_no_files_cannot_be_watched() {
    let creds = TlsCreds::builder(Endpoint::Client)
        .verify_peer(false)
        .build()
        .unwrap();
    let error = CredsWatcher::start(&creds, WatchOptions::default()).unwrap_err();
    assert!(error.to_string().contains("in memory"), "{error}");
}
