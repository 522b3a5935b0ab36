//! `--object`: what the user makes on the command line, for other options to refer to.

use anyhow::{Context as _, bail};
use qio_creds::{KeyPermissions, TlsCreds, TlsCredsX509Options};
use qio_opts::{ObjectRegistry, Value, parse_option};

/// The key of an object's type, which may go without saying.
const TYPE: &str = "qom-type";

/// Makes every object that `--object` options describe.
pub(crate) fn load(options: &[String], permissions: KeyPermissions) -> anyhow::Result<ObjectRegistry> {
    let objects = ObjectRegistry::new();
    for option in options {
        // The option itself is not repeated in errors: it may hold a secret.
        let value = parse_option(option, Some(TYPE)).context("--object")?;
        add(&objects, value, permissions)?;
    }
    Ok(objects)
}

fn add(objects: &ObjectRegistry, mut value: Value, permissions: KeyPermissions) -> anyhow::Result<()> {
    let kind = value.take_string(TYPE).context("--object")?;
    match kind.as_str() {
        "tls-creds-x509" => {
            let options: TlsCredsX509Options = value.into_type().context("--object tls-creds-x509")?;
            let id = options
                .id
                .clone()
                .context("--object tls-creds-x509: key 'id' is missing: add 'id=NAME'")?;
            let creds = TlsCreds::load(options, permissions)?;
            objects.add(&id, creds).context("--object tls-creds-x509")?;
        }
        "tls-creds-psk" | "secret" | "authz-simple" | "authz-list" | "authz-list-file" | "authz-pam" => {
            bail!("--object {kind}: this version of qio does not support it yet (known: tls-creds-x509)")
        }
        "tls-creds-anon" => {
            bail!(
                "--object tls-creds-anon: anonymous TLS protects against nobody who can change what is sent; use tls-creds-x509"
            )
        }
        _ => bail!("--object: there is no object type '{kind}' (known: tls-creds-x509)"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(option: &str) -> String {
        format!(
            "{:#}",
            load(&[option.to_owned()], KeyPermissions::Private).unwrap_err()
        )
    }

    #[test]
    fn errors_name_the_object_and_the_remedy() {
        assert!(error("tls-creds-psk,id=a,dir=/x").contains("not support"));
        assert!(error("tls-creds-x590,id=a").contains("'tls-creds-x590'"));
        assert!(error("tls-creds-x509,dir=/x").contains("'id' is missing"));
        assert!(error("tls-creds-x509,id=a").contains("'dir'"));
        assert!(error("tls-creds-x509,id=a,dir=/does/not/exist").contains("/does/not/exist"));
        assert!(error("{\"qom-type\":\"tls-creds-anon\",\"id\":\"a\"}").contains("tls-creds-x509"));
        assert!(!error("secret,id=a,data=hunter2").contains("hunter2"));
    }
}
