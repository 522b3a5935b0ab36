//! Certificate revocation lists (RFC 5280 section 5).
//!
//! The list is its own database: revoking reads `ca-crl.pem`, adds to it and signs it anew.

mod reason;
mod summary;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rcgen::{CertificateRevocationListParams, RevokedCertParams, SerialNumber};
use rustix::fs::FlockOperation;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::pair::signer;
use super::{Authority, Directory, PkiError};
use crate::certificate::{parse, printable};
use crate::{distinguished_name, pem_file};

pub use reason::{RevocationReason, UnknownReason};
pub use summary::{RevocationListSummary, Revoked};

/// How far before now a list begins, for peers whose clock is slow.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// The list of an authority's revoked certificates, open for change.
///
/// While it is open no other process can open it: a lock on the directory sees to that.
#[derive(Debug)]
pub struct RevocationList<'a> {
    directory: &'a Directory,
    authority: &'a Authority,
    /// The number of the list in force, in big-endian bytes; empty if there is none.
    number: Vec<u8>,
    revoked: Vec<RevokedCertParams>,
    /// Lists of other authorities in the same file.
    foreign: Vec<CertificateRevocationListDer<'static>>,
    _lock: File,
}

impl<'a> RevocationList<'a> {
    /// Reads `ca-crl.pem` beside the authority; without that file the list is empty. Waits while another process has
    /// it open.
    ///
    /// # Errors
    ///
    /// [`PkiError::RevocationList`] if the file is damaged, or holds what could not be written back;
    /// [`PkiError::Write`] if the directory cannot be locked.
    pub fn open(directory: &'a Directory, authority: &'a Authority) -> Result<Self, PkiError> {
        let lock = lock(directory).map_err(PkiError::write(directory.path()))?;
        let path = directory.revocation_list();
        let unusable = |what: String| PkiError::RevocationList {
            path: path.clone(),
            what,
        };
        let mut list = Self {
            directory,
            authority,
            number: Vec::new(),
            revoked: Vec::new(),
            foreign: Vec::new(),
            _lock: lock,
        };
        for der in pem_file::crls(&path).map_err(|defect| unusable(defect.to_string()))? {
            if !list.absorb(&der).map_err(|what| unusable(what.to_owned()))? {
                list.foreign.push(der);
            }
        }
        Ok(list)
    }

    /// Takes over what a list says, if it is the authority's.
    fn absorb(&mut self, der: &[u8]) -> Result<bool, &'static str> {
        let Ok(([], crl)) = CertificateRevocationList::from_der(der) else {
            return Err("it holds something that is no revocation list");
        };
        let authority = self
            .authority
            .parsed()
            .map_err(|_| "the authority cannot be read")?;
        if crl.issuer().as_raw() != authority.subject().as_raw() {
            return Ok(false);
        }
        crl.verify_signature(authority.public_key())
            .map_err(|_| "its list has the authority's name, but not its signature")?;
        let plain = |extension: &ParsedExtension<'_>| {
            matches!(
                extension,
                ParsedExtension::AuthorityKeyIdentifier(_) | ParsedExtension::CRLNumber(_)
            )
        };
        if !crl
            .extensions()
            .iter()
            .all(|extension| plain(extension.parsed_extension()))
        {
            return Err("its list is of a special kind, for instance for a part of the certificates only");
        }
        // Longer is greater: big-endian without leading zeros.
        let number = crl
            .crl_number()
            .map(x509_parser::num_bigint::BigUint::to_bytes_be);
        self.number = number
            .into_iter()
            .chain([std::mem::take(&mut self.number)])
            .max_by(|a, b| (a.len(), a).cmp(&(b.len(), b)))
            .unwrap_or_default();
        for entry in crl.iter_revoked_certificates() {
            let entry = copy(entry).ok_or("an entry of its list says what could not be written back")?;
            if !self.contains(&entry.serial_number) {
                self.revoked.push(entry);
            }
        }
        Ok(true)
    }

    fn contains(&self, serial: &SerialNumber) -> bool {
        self.revoked.iter().any(|entry| entry.serial_number == *serial)
    }

    /// Revokes a certificate, from now on. Returns false if it has been revoked before; it then stays as it was.
    ///
    /// # Errors
    ///
    /// [`PkiError::NotIssued`] if the authority has not issued it, or it is the authority itself.
    pub fn revoke(
        &mut self,
        certificate: &CertificateDer<'_>,
        reason: RevocationReason,
    ) -> Result<bool, PkiError> {
        let parsed = parse(certificate).map_err(PkiError::generate("reading the certificate to revoke"))?;
        let refused = |what| PkiError::NotIssued {
            subject: printable(&distinguished_name::spell(parsed.subject())),
            what,
        };
        let authority = self.authority.parsed()?;
        if certificate == self.authority.certificate() {
            return Err(refused(
                "it is the authority itself; take it out of the ca-cert.pem of every peer instead",
            ));
        }
        let issued = parsed.issuer().as_raw() == authority.subject().as_raw()
            && parsed.verify_signature(Some(authority.public_key())).is_ok();
        if !issued {
            return Err(refused(
                "it was issued by another authority, which alone can revoke it",
            ));
        }
        let serial_number = own_serial(&parsed)
            .ok_or_else(|| refused("its serial number is negative and cannot be listed"))?;
        if self.contains(&serial_number) {
            return Ok(false);
        }
        self.revoked.push(RevokedCertParams {
            serial_number,
            revocation_time: now(),
            reason_code: reason.for_library(),
            invalidity_date: None,
        });
        Ok(true)
    }

    /// Signs the list and writes it to `ca-crl.pem`, in one step: whoever reads sees the old list or the new one. It
    /// announces the next list in so many days.
    ///
    /// # Errors
    ///
    /// [`PkiError`] if the library cannot write the list, or the file cannot be written.
    pub fn publish(mut self, days: u32) -> Result<(PathBuf, RevocationListSummary), PkiError> {
        let now = now();
        let this_update = now.checked_sub(CLOCK_SKEW).ok_or(PkiError::Validity)?;
        let next_update = now
            .checked_add(Duration::days(days.into()))
            .filter(|next| next.year() <= 9999)
            .ok_or(PkiError::Validity)?;
        increment(&mut self.number);
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs: self.revoked,
            key_identifier_method: self.authority.key_identifier()?,
        };
        let signer = signer(self.authority.pair().key())?;
        let list = params
            .signed_by(&self.authority.issuer(&signer)?)
            .map_err(PkiError::generate("signing the revocation list"))?;
        let (_, parsed) = CertificateRevocationList::from_der(list.der())
            .map_err(PkiError::generate("reading the list just made"))?;
        self.authority.expect_own_name(parsed.issuer().as_raw())?;
        let path = self
            .directory
            .write_revocation_lists([list.der()].into_iter().chain(&self.foreign))?;
        Ok((path, RevocationListSummary::of(&parsed)))
    }
}

/// An entry as the library writes it; none if something of it would be lost.
fn copy(entry: &RevokedCertificate<'_>) -> Option<RevokedCertParams> {
    let known = |extension: &ParsedExtension<'_>| {
        matches!(
            extension,
            ParsedExtension::ReasonCode(_) | ParsedExtension::InvalidityDate(_)
        )
    };
    if !entry
        .extensions()
        .iter()
        .all(|extension| known(extension.parsed_extension()))
    {
        return None;
    }
    Some(RevokedCertParams {
        serial_number: positive(entry.raw_serial())?,
        revocation_time: entry.revocation_date.to_datetime(),
        reason_code: RevocationReason::of_entry(entry)?.for_library(),
        invalidity_date: entry.invalidity_date().map(|(_, date)| date.to_datetime()),
    })
}

fn own_serial(certificate: &X509Certificate<'_>) -> Option<SerialNumber> {
    positive(certificate.raw_serial())
}

/// A serial number without the zero byte that keeps it positive in DER; none if it is negative.
fn positive(raw: &[u8]) -> Option<SerialNumber> {
    if raw.first().is_some_and(|first| *first >= 0x80) {
        return None;
    }
    let start = raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len());
    raw.get(start..).map(SerialNumber::from_slice)
}

/// Adds one to a big-endian number.
fn increment(number: &mut Vec<u8>) {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
    number.insert(0, 1);
}

/// In whole seconds, as lists count.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

fn lock(directory: &Directory) -> io::Result<File> {
    let handle = File::open(directory.path())?;
    rustix::fs::flock(&handle, FlockOperation::LockExclusive)?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_on_across_bytes() {
        let mut number = Vec::new();
        for expected in [&[1][..], &[2]] {
            increment(&mut number);
            assert_eq!(number, expected);
        }
        let mut number = vec![0x12, 0xff, 0xff];
        increment(&mut number);
        assert_eq!(number, [0x13, 0, 0]);
        let mut number = vec![0xff, 0xff];
        increment(&mut number);
        assert_eq!(number, [1, 0, 0]);
    }

    #[test]
    fn serial_numbers_lose_their_padding_only() {
        assert_eq!(positive(&[0, 0x80, 1]).unwrap().to_bytes(), [0x80, 1]);
        assert_eq!(positive(&[0x40, 0]).unwrap().to_bytes(), [0x40, 0]);
        assert!(positive(&[0x80, 1]).is_none());
    }
}
