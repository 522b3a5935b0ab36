//! `authz-pam` against the system's PAM, with services that the tests make in `/etc/pam.d`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests report by panicking"
)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use qio_authz::{Authorizer, Authz, AuthzError, AuthzOptions, AuthzPam, AuthzRef, MAX_IDENTITY_BYTES};
use qio_opts::ObjectRegistry;

/// A PAM service of our own, removed on drop.
struct Service {
    name: String,
    file: PathBuf,
}

impl Service {
    fn new(rules: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "qio-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let file = Path::new("/etc/pam.d").join(&name);
        // Only the account is to be asked: whatever else were asked would fail.
        let text = format!(
            "auth required pam_deny.so\nsession required pam_deny.so\npassword required pam_deny.so\n{rules}\n"
        );
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&file)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            panic!(
                "cannot write {}: {error}; these tests need to be root, with the Debian packages libpam-runtime and libpam-modules",
                file.display()
            );
        }
        Self { name, file }
    }

    /// Of which one line of `account` decides.
    fn account(rule: &str) -> Self {
        let module = rule
            .split_whitespace()
            .find(|word| word.ends_with(".so"))
            .expect("a module");
        assert!(
            has_module(module),
            "there is no PAM module {module}: these tests need the Debian package libpam-modules"
        );
        Self::new(&format!("account {rule}"))
    }

    fn authz(&self) -> AuthzPam {
        AuthzPam::new(&self.name).unwrap()
    }

    fn asked_about(&self, user: &str) -> Result<bool, AuthzError> {
        self.authz().is_allowed(user)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// In any of the folders where distributions have them.
fn has_module(name: &str) -> bool {
    let triplet = format!("/lib/{}-linux-gnu/security", std::env::consts::ARCH);
    [
        triplet.as_str(),
        "/lib/security",
        "/lib64/security",
        "/usr/lib/security",
        "/usr/lib64/security",
    ]
    .iter()
    .any(|folder| Path::new(folder).join(name).exists())
}

#[test]
fn pam_decides() {
    assert!(
        Service::account("required pam_permit.so")
            .asked_about("anyone")
            .unwrap()
    );
    assert!(
        !Service::account("required pam_deny.so")
            .asked_about("root")
            .unwrap()
    );
}

#[test]
fn the_identity_is_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    fs::write(&users, "fred\nCN=host1,O=Example\n").unwrap();
    let service = Service::account(&format!(
        "required pam_listfile.so item=user sense=allow onerr=fail file={}",
        users.display()
    ));
    let objects = ObjectRegistry::new();
    let options: AuthzOptions = qio_opts::from_option(
        &format!("authz-pam,id=authz0,service={}", service.name),
        Some("qom-type"),
    )
    .unwrap();
    objects.add("authz0", Authz::new(options).unwrap()).unwrap();
    let access = AuthzRef::new(&objects, "authz0");
    for (user, allowed) in [
        ("fred", true),
        ("CN=host1,O=Example", true),
        ("Fred", false),
        ("fre", false),
        ("fredd", false),
        ("CN=host1", false),
        ("root", false),
    ] {
        assert_eq!(access.is_allowed(user).unwrap(), allowed, "{user}");
    }

    fs::write(&users, "bob\n").unwrap();
    assert!(!access.is_allowed("fred").unwrap(), "the rules of now count");
    assert!(access.is_allowed("bob").unwrap());
}

/// A C library would see `root`, or nothing, in those with a NUL.
#[test]
fn identities_that_are_not_users_never_reach_pam() {
    let everyone = Service::account("required pam_permit.so");
    for identity in ["root\0", "root\0.example", "\0"] {
        assert!(
            matches!(everyone.asked_about(identity), Err(AuthzError::NotAUser)),
            "{identity:?}"
        );
    }
    assert!(matches!(everyone.asked_about(""), Err(AuthzError::NoIdentity)));
    let longest = "x".repeat(MAX_IDENTITY_BYTES);
    assert!(everyone.asked_about(&longest).unwrap());
    assert!(matches!(
        everyone.asked_about(&format!("{longest}x")),
        Err(AuthzError::IdentityTooLong { .. })
    ));
}

#[test]
fn a_verdict_is_told_from_a_failure() {
    for code in [
        "perm_denied",
        "auth_err",
        "user_unknown",
        "acct_expired",
        "new_authtok_reqd",
        "authtok_expired",
    ] {
        let service = Service::account(&format!("required pam_debug.so acct={code}"));
        assert!(!service.asked_about("fred").unwrap(), "{code}");
    }
    for code in [
        "system_err",
        "service_err",
        "abort",
        "authinfo_unavail",
        "conv_err",
        "module_unknown",
    ] {
        let service = Service::account(&format!("required pam_debug.so acct={code}"));
        let error = service.asked_about("fred").unwrap_err();
        assert!(matches!(error, AuthzError::Pam { .. }), "{code}: {error}");
        assert!(error.to_string().contains(&service.name), "{error}");
    }
    let service = Service::new("account required pam_qio_no_such_module.so");
    assert!(!matches!(service.asked_about("fred"), Ok(true)));
}

/// The module goes on to permit, or not, after it was refused: only what it then returns counts.
#[test]
fn what_a_module_says_is_refused() {
    let says = |exit| {
        Service::account(&format!(
            "required pam_exec.so quiet stdout /bin/sh -c [echo hello; echo world; exit {exit}]"
        ))
    };
    assert!(says(0).asked_about("fred").unwrap());
    assert!(matches!(says(1).asked_about("fred"), Err(AuthzError::Pam { .. })));
}

/// The same object answers others while a module hangs.
#[test]
fn a_question_that_hangs_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (script, pipe) = (dir.path().join("script"), dir.path().join("pipe"));
    fs::write(
        &script,
        format!("[ $PAM_USER != slow ] || read line < {}\n", pipe.display()),
    )
    .unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let service = Service::account(&format!(
        "required pam_exec.so quiet /bin/sh {}",
        script.display()
    ));
    let access = service.authz();

    let ask = |user: &'static str| {
        let access = access.clone();
        on_a_thread(move || access.is_allowed(user))
    };

    let slow = ask("slow");
    // The pipe opens once the module's script reads from it: from here on the question hangs.
    let mut release = soon(&on_a_thread(move || {
        OpenOptions::new().write(true).open(&pipe).unwrap()
    }));
    assert!(soon(&ask("quick")).unwrap());
    assert!(slow.try_recv().is_err(), "it hangs still");
    release.write_all(b"\n").unwrap();
    assert!(soon(&slow).unwrap());
}

fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told
}

/// What came of it; a test that would wait for ever fails instead.
fn soon<T>(told: &mpsc::Receiver<T>) -> T {
    told.recv_timeout(Duration::from_secs(60))
        .expect("an answer within a minute")
}
