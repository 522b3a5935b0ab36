//! The properties of a `tls-creds-psk` object.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Endpoint;

/// The properties of a `tls-creds-psk` object, by the names QEMU gives them.
///
/// The same struct reads a command line (`--object tls-creds-psk,id=tls0,dir=/etc/qemu/keys,endpoint=server`), JSON
/// and configuration files. A property it does not know is refused.
///
/// ```
/// # use qio_creds::{Endpoint, TlsCredsPskOptions};
/// let options: TlsCredsPskOptions = serde_json::from_str(r#"{"dir": "/keys", "username": "alice"}"#)?;
/// assert_eq!(options.endpoint, Endpoint::Client);
/// assert_eq!(options.effective_username(), "alice");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsCredsPskOptions {
    /// The name by which services refer to the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The directory that holds `keys.psk`.
    pub dir: PathBuf,
    /// The side of the session the object is for; a client unless said otherwise.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Accepted as QEMU accepts it, and of no effect: a key proves who the peer is, or there is no session.
    #[serde(default = "on")]
    pub verify_peer: bool,
    /// A GnuTLS priority string, which says what versions and algorithms of TLS are allowed; see
    /// [`Priority::parse_for_psk`](crate::Priority::parse_for_psk).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// The user that a client is; `qemu` unless said otherwise. Refused on a server, which knows all the users of
    /// the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

fn on() -> bool {
    true
}

impl TlsCredsPskOptions {
    /// The user that a client is when nothing else is said.
    pub const DEFAULT_USERNAME: &str = "qemu";

    /// Options for `endpoint` on `dir`, everything else at its default.
    #[must_use]
    pub fn new(endpoint: Endpoint, dir: impl Into<PathBuf>) -> Self {
        Self {
            id: None,
            dir: dir.into(),
            endpoint,
            verify_peer: true,
            priority: None,
            username: None,
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

    /// The user that a client is.
    #[must_use]
    pub fn effective_username(&self) -> &str {
        self.username.as_deref().unwrap_or(Self::DEFAULT_USERNAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_has_qemus_name_and_default() {
        let read = |text| qio_opts::from_option::<TlsCredsPskOptions>(text, None);
        assert_eq!(read("dir=/d").unwrap(), TlsCredsPskOptions::client("/d"));
        let all = "id=psk0,dir=/a,,b,endpoint=client,verify-peer=off,priority=NORMAL,username=alice";
        let options = read(all).unwrap();
        assert_eq!(options.id.as_deref(), Some("psk0"));
        assert_eq!(options.dir, PathBuf::from("/a,b"));
        assert!(!options.verify_peer);
        assert_eq!(options.priority.as_deref(), Some("NORMAL"));
        assert_eq!(options.effective_username(), "alice");
        assert_eq!(TlsCredsPskOptions::client("/d").effective_username(), "qemu");
        assert!(
            read("dir=/d,sanity-check=on")
                .unwrap_err()
                .to_string()
                .contains("sanity-check")
        );
    }
}
