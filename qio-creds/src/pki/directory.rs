//! Writing the files of a credentials directory.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::pair::{key_pem, pem};
use super::{Authority, Pair, PkiError, Purpose, Request};
use crate::{Endpoint, PrivateKey};

/// What to do where a file is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Write nothing at all, and say which file it is.
    #[default]
    Refuse,
    /// Put the new file in its place, in one step each: whoever reads sees the old file or the new one.
    Replace,
}

/// A directory of PEM files with QEMU's names.
///
/// Private keys are readable by their owner only from the moment they exist. Every file appears whole or not at
/// all.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, made if it is not there, for its owner only (mode 0700).
    ///
    /// # Errors
    ///
    /// [`PkiError::Write`] if it cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, PkiError> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(PkiError::write(&path))?;
        Ok(Self { path })
    }

    /// The directory at `path`, which is there already or is only read.
    #[must_use]
    pub fn existing(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's certificate, `ca-cert.pem`.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.path.join("ca-cert.pem")
    }

    /// The authority's private key, `ca-key.pem`. Only issuing needs it; it belongs on no other machine.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.path.join("ca-key.pem")
    }

    /// The certificate of an endpoint, `server-cert.pem` or `client-cert.pem`.
    #[must_use]
    pub fn certificate(&self, endpoint: Endpoint) -> PathBuf {
        self.path.join(format!("{endpoint}-cert.pem"))
    }

    /// The private key of an endpoint, `server-key.pem` or `client-key.pem`.
    #[must_use]
    pub fn key(&self, endpoint: Endpoint) -> PathBuf {
        self.path.join(format!("{endpoint}-key.pem"))
    }

    /// The authority's revocation list, `ca-crl.pem`.
    #[must_use]
    pub fn revocation_list(&self) -> PathBuf {
        self.path.join("ca-crl.pem")
    }

    /// The request for an endpoint's certificate, `server-csr.pem` or `client-csr.pem`.
    #[must_use]
    pub fn request(&self, endpoint: Endpoint) -> PathBuf {
        self.path.join(format!("{endpoint}-csr.pem"))
    }

    /// Writes an authority's certificate and private key. Returns the files written.
    ///
    /// # Errors
    ///
    /// [`PkiError::Exists`] or [`PkiError::Write`].
    pub fn write_authority(
        &self,
        authority: &Authority,
        overwrite: Overwrite,
    ) -> Result<Vec<PathBuf>, PkiError> {
        let files = vec![
            NewFile::key(self.ca_key(), authority.pair().key_pem()),
            NewFile::public(self.ca_certificate(), authority.pair().certificate_pem()),
        ];
        self.write(files, overwrite)
    }

    /// Writes the authority's certificate alone, for a directory whose authority lives elsewhere. Where the same
    /// certificate is there already, nothing is written.
    ///
    /// # Errors
    ///
    /// [`PkiError::Exists`] if another certificate is there, or [`PkiError::Write`].
    pub fn write_ca_certificate(
        &self,
        ca: &CertificateDer<'_>,
        overwrite: Overwrite,
    ) -> Result<Vec<PathBuf>, PkiError> {
        let path = self.ca_certificate();
        let there = crate::pem_file::certificates(&path);
        if there.is_ok_and(|there| there.iter().any(|certificate| certificate == ca)) {
            return Ok(Vec::new());
        }
        self.write(vec![NewFile::public(path, pem("CERTIFICATE", ca))], overwrite)
    }

    /// Writes a certificate and its private key under the names of its purpose; a certificate for both ends is
    /// written under both. Returns the files written.
    ///
    /// # Errors
    ///
    /// [`PkiError::Exists`] or [`PkiError::Write`].
    pub fn write_pair(
        &self,
        purpose: Purpose,
        pair: &Pair,
        overwrite: Overwrite,
    ) -> Result<Vec<PathBuf>, PkiError> {
        let files = purpose.endpoints().iter().flat_map(|endpoint| {
            [
                NewFile::key(self.key(*endpoint), pair.key_pem()),
                NewFile::public(self.certificate(*endpoint), pair.certificate_pem()),
            ]
        });
        self.write(files.collect(), overwrite)
    }

    /// Writes a request and its private key under the names of its purpose. Returns the files written.
    ///
    /// # Errors
    ///
    /// [`PkiError::Exists`] or [`PkiError::Write`].
    pub fn write_request(
        &self,
        purpose: Purpose,
        request: &Request,
        key: &PrivateKey,
        overwrite: Overwrite,
    ) -> Result<Vec<PathBuf>, PkiError> {
        let files = purpose.endpoints().iter().flat_map(|endpoint| {
            [
                NewFile::key(self.key(*endpoint), key_pem(key)),
                NewFile::public(self.request(*endpoint), request.pem()),
            ]
        });
        self.write(files.collect(), overwrite)
    }

    /// Puts these revocation lists in place of what `ca-crl.pem` was.
    pub(super) fn write_revocation_lists<'c>(
        &self,
        lists: impl Iterator<Item = &'c CertificateRevocationListDer<'static>>,
    ) -> Result<PathBuf, PkiError> {
        let text = lists.map(|list| pem("X509 CRL", list)).collect();
        let path = self.revocation_list();
        let file = NewFile::public(path.clone(), text);
        self.write(vec![file], Overwrite::Replace)?;
        Ok(path)
    }

    /// Refuses if any file that the purpose would write is there, before a key is made for nothing.
    ///
    /// # Errors
    ///
    /// [`PkiError::Exists`].
    pub fn expect_room(&self, purpose: Purpose) -> Result<(), PkiError> {
        let files = purpose
            .endpoints()
            .iter()
            .flat_map(|end| [self.key(*end), self.certificate(*end)]);
        expect_absent(files)
    }

    /// Refuses if an authority is there.
    ///
    /// # Errors
    ///
    /// [`PkiError::Exists`].
    pub fn expect_no_authority(&self) -> Result<(), PkiError> {
        expect_absent([self.ca_key(), self.ca_certificate()])
    }

    fn write(&self, files: Vec<NewFile>, overwrite: Overwrite) -> Result<Vec<PathBuf>, PkiError> {
        if overwrite == Overwrite::Refuse {
            expect_absent(files.iter().map(|file| file.path.clone()))?;
        }
        // All of them are on the disk before the first gets its name, so that a full disk leaves nothing behind.
        let staged: Vec<_> = files
            .into_iter()
            .map(|file| Ok((file.stage(&self.path)?, file.path)))
            .collect::<Result<_, PkiError>>()?;
        let mut written: Vec<PathBuf> = Vec::with_capacity(staged.len());
        for (file, path) in staged {
            if let Err(error) = publish(file, &path, overwrite) {
                if overwrite == Overwrite::Refuse {
                    // These are ours: each was published under a name that was free.
                    written.iter().for_each(|path| drop(std::fs::remove_file(path)));
                }
                return Err(error);
            }
            written.push(path);
        }
        Ok(written)
    }
}

/// Writes a certificate alone to a file, for a key that lives elsewhere.
///
/// # Errors
///
/// [`PkiError::Exists`] or [`PkiError::Write`].
pub fn write_certificate(
    path: &Path,
    certificate: &CertificateDer<'_>,
    overwrite: Overwrite,
) -> Result<(), PkiError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = Directory::existing(parent.unwrap_or(Path::new(".")));
    let file = NewFile::public(path.to_owned(), pem("CERTIFICATE", certificate));
    directory.write(vec![file], overwrite).map(drop)
}

fn expect_absent(files: impl IntoIterator<Item = PathBuf>) -> Result<(), PkiError> {
    // A dangling symbolic link counts as being there.
    match files.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(PkiError::Exists(path)),
        None => Ok(()),
    }
}

fn publish(file: NamedTempFile, path: &Path, overwrite: Overwrite) -> Result<(), PkiError> {
    let result = match overwrite {
        Overwrite::Refuse => file.persist_noclobber(path),
        Overwrite::Replace => file.persist(path),
    };
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(PkiError::Exists(path.to_owned()))
        }
        Err(error) => Err(PkiError::Write {
            path: path.to_owned(),
            source: error.error,
        }),
    }
}

struct NewFile {
    path: PathBuf,
    contents: Zeroizing<String>,
    mode: u32,
}

impl NewFile {
    fn key(path: PathBuf, contents: Zeroizing<String>) -> Self {
        Self {
            path,
            contents,
            mode: 0o600,
        }
    }

    fn public(path: PathBuf, contents: String) -> Self {
        Self {
            path,
            contents: Zeroizing::new(contents),
            mode: 0o644,
        }
    }

    /// Writes the contents under a temporary name beside the final one. The file has its mode from the start.
    fn stage(&self, directory: &Path) -> Result<NamedTempFile, PkiError> {
        let write = || {
            let mut file = tempfile::Builder::new()
                .prefix(".qio-pki-")
                .permissions(Permissions::from_mode(self.mode))
                .tempfile_in(directory)?;
            file.write_all(self.contents.as_bytes())?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        write().map_err(PkiError::write(&self.path))
    }
}
