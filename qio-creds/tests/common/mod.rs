//! Directories of certificates for the tests, good and bad.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use qio_creds::pki::{Authority, AuthorityTemplate, Directory, Overwrite, Pair, Purpose, Template, Validity};
use qio_creds::{CredsError, Defect, Endpoint, KeyPermissions, TlsCreds, TlsCredsX509Options};
use time::{Duration, OffsetDateTime};

/// A directory that goes away with the test, and the authority whose certificate is in it.
pub struct Pki {
    tmp: tempfile::TempDir,
    pub directory: Directory,
    pub authority: Authority,
}

pub fn authority(name: &str) -> Authority {
    Authority::create(&AuthorityTemplate::new(name)).unwrap()
}

pub fn past() -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity::Between {
        not_before: now - Duration::days(20),
        not_after: now - Duration::days(10),
    }
}

pub fn future() -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity::Between {
        not_before: now + Duration::days(10),
        not_after: now + Duration::days(20),
    }
}

pub fn server() -> Template {
    Template::new(Purpose::Server).name("localhost".parse().unwrap())
}

pub fn client() -> Template {
    Template::new(Purpose::Client)
}

impl Pki {
    /// With nothing but the authority's certificate in it.
    pub fn new() -> Self {
        Self::of(authority("Test CA"))
    }

    pub fn of(authority: Authority) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let directory = Directory::create(tmp.path()).unwrap();
        directory
            .write_ca_certificate(authority.certificate(), Overwrite::Refuse)
            .unwrap();
        Self {
            tmp,
            directory,
            authority,
        }
    }

    /// With a good server's pair in it.
    pub fn server() -> Self {
        Self::new().with(Purpose::Server, &server())
    }

    pub fn with(self, purpose: Purpose, template: &Template) -> Self {
        let pair = self.authority.issue(template).unwrap();
        self.put(purpose, &pair);
        self
    }

    pub fn put(&self, purpose: Purpose, pair: &Pair) {
        self.directory
            .write_pair(purpose, pair, Overwrite::Replace)
            .unwrap();
    }

    pub fn path(&self) -> &Path {
        self.tmp.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.file(name), contents).unwrap();
        if name.contains("key") {
            self.chmod(name, 0o600);
        }
    }

    pub fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    pub fn load(&self, endpoint: Endpoint) -> Result<TlsCreds, CredsError> {
        TlsCreds::load(
            TlsCredsX509Options::new(endpoint, self.path()),
            KeyPermissions::Private,
        )
    }

    /// The one thing that is wrong with it, and with which file.
    #[track_caller]
    pub fn only_problem(&self, endpoint: Endpoint) -> (String, Defect) {
        match self.load(endpoint) {
            Err(CredsError::Problems { mut problems, .. }) if problems.len() == 1 => {
                let problem = problems.remove(0);
                (
                    problem.file.file_name().unwrap().to_str().unwrap().to_owned(),
                    problem.what,
                )
            }
            other => panic!("expected one problem, got {other:?}"),
        }
    }
}
