//! The properties of a `tls-creds-x509` object.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Endpoint;

/// The properties of a `tls-creds-x509` object, by the names QEMU gives them.
///
/// The same struct reads a command line (`--object tls-creds-x509,id=tls0,dir=/etc/pki/qemu,endpoint=server`),
/// JSON and configuration files. A property it does not know is refused.
///
/// ```
/// # use qio_creds::{Endpoint, TlsCredsX509Options};
/// let options: TlsCredsX509Options =
///     serde_json::from_str(r#"{"id": "tls0", "dir": "/etc/pki/qemu", "verify-peer": false}"#)?;
/// assert_eq!(options.endpoint, Endpoint::Client);
/// assert!(!options.verify_peer);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsCredsX509Options {
    /// The name by which services refer to the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The directory that holds the PEM files.
    pub dir: PathBuf,
    /// The side of the session the object is for; a client unless said otherwise.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Whether the peer must present a certificate that verifies; on unless said otherwise.
    ///
    /// Switched off, a server takes clients without a certificate, and a client takes any server at all: the
    /// session is encrypted, but nobody knows with whom.
    #[serde(default = "on")]
    pub verify_peer: bool,
    /// Whether the object's own certificates are checked when it is loaded; on unless said otherwise.
    #[serde(default = "on")]
    pub sanity_check: bool,
    /// A GnuTLS priority string, which says what versions and algorithms of TLS are allowed; see
    /// [`Priority`](crate::Priority).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// The id of the [`Secret`](crate::Secret) that unlocks the private keys. Keys that need no password are taken as
    /// they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passwordid: Option<String>,
    /// Whether `ca-crl.pem` is read; on unless said otherwise. Not QEMU's: its servers always read it, its clients
    /// never.
    #[serde(default = "on", skip_serializing_if = "is_on")]
    pub crl: bool,
}

fn on() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_on(value: &bool) -> bool {
    *value
}

impl TlsCredsX509Options {
    /// Options for `endpoint` on `dir`, everything else at its default.
    #[must_use]
    pub fn new(endpoint: Endpoint, dir: impl Into<PathBuf>) -> Self {
        Self {
            id: None,
            dir: dir.into(),
            endpoint,
            verify_peer: true,
            sanity_check: true,
            priority: None,
            passwordid: None,
            crl: true,
        }
    }

    /// Options for a server on `dir`, everything else at its default.
    #[must_use]
    pub fn server(dir: impl Into<PathBuf>) -> Self {
        Self::new(Endpoint::Server, dir)
    }

    /// Options for a client on `dir`, everything else at its default.
    #[must_use]
    pub fn client(dir: impl Into<PathBuf>) -> Self {
        Self::new(Endpoint::Client, dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<TlsCredsX509Options, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_qemus() {
        let options = parse(r#"{"dir": "/d"}"#).unwrap();
        assert_eq!(options, TlsCredsX509Options::client("/d"));
        assert!(options.verify_peer && options.sanity_check && options.crl);
    }

    #[test]
    fn every_property_has_qemus_name_and_crl_is_ours() {
        let options = parse(
            r#"{"id":"tls0","dir":"/d","endpoint":"server","verify-peer":false,"sanity-check":false,
                "priority":"NORMAL","passwordid":"sec0","crl":false}"#,
        )
        .unwrap();
        assert!(!options.crl);
        assert_eq!(options.endpoint, Endpoint::Server);
        assert!(!options.verify_peer && !options.sanity_check);
        assert_eq!(options.priority.as_deref(), Some("NORMAL"));
        assert_eq!(options.passwordid.as_deref(), Some("sec0"));
    }

    #[test]
    fn a_command_line_says_the_same_as_json() {
        let keyval = "id=tls0,dir=/a,,b,endpoint=server,verify-peer=off,sanity-check=on";
        let json =
            r#"{"id":"tls0","dir":"/a,b","endpoint":"server","verify-peer":false,"sanity-check":true}"#;
        let read = |text| qio_opts::from_option::<TlsCredsX509Options>(text, None).unwrap();
        assert_eq!(read(keyval), read(json));
        assert_eq!(read(keyval).dir, PathBuf::from("/a,b"));
        assert!(qio_opts::from_keyval::<TlsCredsX509Options>("dir=/d,endpoint=both", None).is_err());
    }

    #[test]
    fn unknown_and_missing_properties_are_named() {
        assert!(
            parse(r#"{"dir": "/d", "verify_peer": true}"#)
                .unwrap_err()
                .contains("verify_peer")
        );
        assert!(parse(r#"{"endpoint": "server"}"#).unwrap_err().contains("dir"));
        assert!(
            parse(r#"{"dir": "/d", "endpoint": "both"}"#)
                .unwrap_err()
                .contains("both")
        );
    }
}
