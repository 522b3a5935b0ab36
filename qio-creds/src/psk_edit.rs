//! Adding users to `keys.psk` and removing them, as psktool does.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::psk_file::{KEYS_PSK, lines, username};
use crate::{Defect, KeyPermissions, Problem, PskIdentity, pem_file};

/// Why a file of pre-shared keys could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PskFileError {
    /// The file is there, and cannot be read.
    #[error("{0}")]
    Unreadable(Problem),
    /// The file could not be written; the old one is unchanged.
    #[error("{} cannot be written ({source}); the file is as it was", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file `keys.psk` of a directory, for changing it.
///
/// Nothing is written before [`write`](Self::write), and lines that are not changed stay as they are.
///
/// ```
/// use qio_creds::{KeyPermissions, PskFile, PskIdentity, PskKey};
///
/// let dir = tempfile::tempdir()?;
/// let mut file = PskFile::open(dir.path(), KeyPermissions::Private)?;
/// file.set(&PskIdentity::new("alice", PskKey::generate()?)?);
/// file.write()?;
/// assert_eq!(file.users(), ["alice"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PskFile {
    path: PathBuf,
    text: Zeroizing<Vec<u8>>,
}

impl PskFile {
    /// The file in `dir`, as if it were empty where there is none. Blocks on the file system, as does
    /// [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// [`PskFileError::Unreadable`], also for a file that others can read, unless `permissions` allow it.
    pub fn open(dir: &Path, permissions: KeyPermissions) -> Result<Self, PskFileError> {
        let path = dir.join(KEYS_PSK);
        let text = match pem_file::psk(&path, permissions) {
            Ok(text) => text,
            Err(Defect::Missing) => Zeroizing::default(),
            Err(defect) => return Err(PskFileError::Unreadable(Problem::new(&path, defect))),
        };
        Ok(Self { path, text })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the users, in the order of the file. Lines that cannot be used are left out.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        lines(&self.text)
            .filter_map(|line| username(line.split?.0).ok())
            .collect()
    }

    /// Is there a line for the user?
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        self.users().iter().any(|known| known == user)
    }

    /// Adds a user at the end, in place of every line that the user had.
    pub fn set(&mut self, user: &PskIdentity) {
        self.remove(user.username());
        let name = user.username();
        let is_plain = !name.starts_with('#') && !name.contains(':') && !name.chars().any(char::is_control);
        let mut text = Zeroizing::new(Vec::with_capacity(self.text.len() + 1024));
        text.extend_from_slice(&self.text);
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        if is_plain {
            text.extend_from_slice(name.as_bytes());
        } else {
            // A line cannot hold such a name otherwise; GnuTLS reads it so.
            text.push(b'#');
            for byte in name.bytes() {
                text.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
        }
        text.push(b':');
        text.extend_from_slice(user.key().to_hex().as_bytes());
        text.push(b'\n');
        self.text = text;
    }

    /// Removes every line of the user, and says whether there was one.
    pub fn remove(&mut self, user: &str) -> bool {
        let mut kept = Zeroizing::new(Vec::with_capacity(self.text.len()));
        for line in self.text.split_inclusive(|byte| *byte == b'\n') {
            let own = lines(line)
                .next()
                .and_then(|line| username(line.split?.0).ok())
                .is_some_and(|name| name == user);
            if !own {
                kept.extend_from_slice(line);
            }
        }
        let removed = kept.len() != self.text.len();
        self.text = kept;
        removed
    }

    /// Puts the file in place, for its owner only (mode 0600), in one step: whoever reads sees the old file or the
    /// new one.
    ///
    /// # Errors
    ///
    /// [`PskFileError::Write`]; the old file is then unchanged.
    pub fn write(&self) -> Result<(), PskFileError> {
        let failed = |source| PskFileError::Write {
            path: self.path.clone(),
            source,
        };
        let stage = || -> io::Result<NamedTempFile> {
            let mut file = tempfile::Builder::new()
                .prefix(".qio-psk-")
                .permissions(Permissions::from_mode(0o600))
                .tempfile_in(self.path.parent().unwrap_or(Path::new(".")))?;
            file.write_all(&self.text)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = stage().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl std::fmt::Debug for PskFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PskFile")
            .field("path", &self.path)
            .field("users", &self.users().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Psk, PskKey, PskParty, TlsCreds, TlsCredsPskOptions};

    fn user(name: &str, key: u8) -> PskIdentity {
        PskIdentity::new(name, PskKey::from_bytes(&[key; 32]).unwrap()).unwrap()
    }

    #[test]
    fn users_come_and_go_and_other_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEYS_PSK);
        std::fs::write(&path, "odd line\nbob:aabb").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let mut file = PskFile::open(dir.path(), KeyPermissions::Private).unwrap();
        file.set(&user("alice", 1));
        file.set(&user("a:b", 3));
        file.set(&user("bob", 2));
        assert!(file.contains("alice") && !file.contains("odd line"));
        assert_eq!(file.users(), ["alice", "a:b", "bob"]);
        assert!(file.remove("alice") && !file.remove("alice"));
        file.write().unwrap();
        let expected = format!("odd line\n#613a62:{}\nbob:{}\n", "03".repeat(32), "02".repeat(32));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!format!("{file:?}").contains("0202"));
    }

    #[test]
    fn what_is_written_can_be_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = PskFile::open(dir.path(), KeyPermissions::Private).unwrap();
        for name in ["qemu", "#hash", "a:b", "\u{fc}ml\u{e4}ut"] {
            file.set(&PskIdentity::new(name, PskKey::generate().unwrap()).unwrap());
        }
        file.write().unwrap();
        let load = |options| {
            TlsCreds::load_psk(options, KeyPermissions::Private)
                .unwrap()
                .snapshot()
        };
        let server = load(TlsCredsPskOptions::server(dir.path()));
        let Some(PskParty::Server(users)) = server.psk().map(Psk::party) else {
            panic!()
        };
        assert_eq!(users.len(), 4);
        for name in file.users() {
            let mut options = TlsCredsPskOptions::client(dir.path());
            options.username = Some(name.clone());
            assert!(
                matches!(users.find(name.as_bytes()), crate::PskMatch::Known(_)),
                "{name}"
            );
            load(options);
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_not_silently_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEYS_PSK);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = PskFile::open(dir.path(), KeyPermissions::Private).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert!(PskFile::open(dir.path(), KeyPermissions::Insecure).is_ok());
    }
}
