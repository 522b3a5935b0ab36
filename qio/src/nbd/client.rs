//! What the commands that connect to a server share: credentials and connecting.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use qio_creds::{
    ClientCreds, KeyPermissions, Psk, PskIdentity, PskParty, TlsCreds, TlsCredsPskOptions,
    TlsCredsX509Options,
};
use qio_nbd::NbdUri;
use qio_nbd::client::{ConnectOptions, Session, TlsSetup};
use qio_nbd::negotiation::ClientTls;

use crate::objects;

#[derive(Debug, Args, Clone)]
pub(super) struct ClientOptions {
    /// Make an object for other options to refer to, such as TLS credentials.
    #[arg(long = "object", value_name = "TYPE,id=ID,...")]
    objects: Vec<String>,
    /// Use TLS, with the credentials of this --object, for every server this command connects to.
    #[arg(long, value_name = "ID")]
    tls_creds: Option<String>,
    /// The name to look for in the server's certificate, instead of the host that is connected to.
    #[arg(long, value_name = "NAME")]
    tls_hostname: Option<String>,
    /// Use private keys even if others can read their files.
    #[arg(long)]
    insecure: bool,
}

impl ClientOptions {
    /// Connects to the server of a URI. Does not block the runtime.
    pub(super) async fn connect(&self, uri: &NbdUri) -> anyhow::Result<Session> {
        let (this, uri) = (self.clone(), uri.clone());
        tokio::task::spawn_blocking(move || {
            let options = ConnectOptions {
                tls: this.tls(&uri)?,
                ..ConnectOptions::default()
            };
            Session::connect(&uri.address, &options).with_context(|| uri.to_string())
        })
        .await?
    }

    /// Never plain where TLS was asked for: by the URI's scheme, or by naming credentials.
    fn tls(&self, uri: &NbdUri) -> anyhow::Result<TlsSetup> {
        if uri.tls == ClientTls::Off && self.tls_creds.is_none() {
            if self.tls_hostname.is_some() {
                bail!("--tls-hostname needs TLS: use an nbds:// address, or --tls-creds");
            }
            return Ok(TlsSetup::Off);
        }
        let creds = self.creds(uri)?;
        let hostname = self.tls_hostname.clone().or_else(|| uri.tls_hostname.clone());
        Ok(TlsSetup::Require { creds, hostname })
    }

    fn creds(&self, uri: &NbdUri) -> anyhow::Result<ClientCreds> {
        let permissions = if self.insecure {
            KeyPermissions::Insecure
        } else {
            KeyPermissions::Private
        };
        let objects = objects::load(&self.objects, permissions)?;
        if let Some(id) = &self.tls_creds {
            if uri.tls_certificates.is_some() || uri.tls_psk_file.is_some() {
                bail!("{uri} names credentials of its own: leave them out, or --tls-creds");
            }
            let creds = objects
                .get::<TlsCreds>(id)
                .with_context(|| format!("--tls-creds {id}"))?;
            let creds = creds.for_client().with_context(|| format!("--tls-creds {id}"))?;
            if uri
                .tls_verify_peer
                .is_some_and(|verify| verify != creds.snapshot().authenticates_peer())
            {
                bail!("tls-verify-peer of {uri} contradicts verify-peer of the object '{id}'");
            }
            let snapshot = creds.snapshot();
            if let Some(PskParty::Client(own)) = snapshot.psk().map(Psk::party)
                && uri.username.as_deref().is_some_and(|user| user != own.username())
            {
                bail!(
                    "the user of {uri} contradicts the user {:?} of the object '{id}'",
                    own.username()
                );
            }
            return Ok(creds);
        }
        if let Some(file) = &uri.tls_psk_file {
            let username = uri.username.as_deref();
            let username = username.unwrap_or(TlsCredsPskOptions::DEFAULT_USERNAME);
            let user = PskIdentity::load(file, username, permissions)?;
            return Ok(TlsCreds::from_psk(None, Psk::client(user)).for_client()?);
        }
        let dir = match &uri.tls_certificates {
            Some(dir) => dir.clone(),
            None => find_directory(&default_directories())?,
        };
        let mut options = TlsCredsX509Options::client(dir);
        options.verify_peer = uri.tls_verify_peer.unwrap_or(true);
        Ok(TlsCreds::load(options, permissions)?.for_client()?)
    }
}

/// Where libnbd looks for certificates that nobody named.
fn default_directories() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = home
        .into_iter()
        .flat_map(|home| [home.join(".pki/libnbd"), home.join(".config/pki/libnbd")]);
    own.chain([PathBuf::from("/etc/pki/libnbd")]).collect()
}

fn find_directory(candidates: &[PathBuf]) -> anyhow::Result<PathBuf> {
    match candidates.iter().find(|dir| dir.join("ca-cert.pem").exists()) {
        Some(dir) => Ok(dir.clone()),
        None => {
            let list: Vec<String> = candidates.iter().map(|dir| dir.display().to_string()).collect();
            bail!(
                "TLS needs certificates, and none were named: add ?tls-certificates=DIR to the URI, or use --object and --tls-creds, or put ca-cert.pem (and client-cert.pem, client-key.pem) into one of {}",
                list.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ClientOptions {
        ClientOptions {
            objects: vec![],
            tls_creds: None,
            tls_hostname: None,
            insecure: false,
        }
    }

    #[test]
    fn naming_credentials_is_asking_for_tls() {
        let uri: NbdUri = "nbd://localhost/x".parse().unwrap();
        assert!(matches!(options().tls(&uri), Ok(TlsSetup::Off)));
        let named = ClientOptions {
            tls_creds: Some("tls0".into()),
            ..options()
        };
        let error = format!("{:#}", named.tls(&uri).unwrap_err());
        assert!(error.contains("no object with id 'tls0'"), "{error}");
        let named = ClientOptions {
            tls_hostname: Some("h".into()),
            ..options()
        };
        assert!(named.tls(&uri).unwrap_err().to_string().contains("nbds://"));
    }

    #[test]
    fn places_that_were_searched_are_listed() {
        let error = find_directory(&["/a".into(), "/b".into()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/a, /b") && error.contains("tls-certificates"),
            "{error}"
        );
    }
}
