//! `--object`: what the user makes on the command line, for other options to refer to.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use qio_authz::{Authz, AuthzOptions};
use qio_creds::{
    CredsWatcher, KeyPermissions, KeyringSecretOptions, Secret, SecretOptions, TlsCreds, TlsCredsPskOptions,
    TlsCredsX509Options, WatchOptions,
};
use qio_opts::{ObjectRegistry, from_option, parse_option};
use serde::Deserialize;

/// The key of an object's type, which may go without saying.
const TYPE: &str = "qom-type";

/// What there is, for errors.
const KNOWN: &str = "tls-creds-x509, tls-creds-psk, secret, secret_keyring, authz-simple, authz-list, authz-list-file, authz-pam";

/// Makes every object that `--object` options describe, those first that others need.
pub(crate) fn load(options: &[String], permissions: KeyPermissions) -> anyhow::Result<ObjectRegistry> {
    let objects = ObjectRegistry::new();
    for spec in Spec::parse_all(options)? {
        spec.make(permissions, &objects)?;
    }
    Ok(objects)
}

/// Keeps the credentials among the objects up to date with their files, for a service that runs for long.
#[derive(Debug)]
pub(crate) struct Watching {
    _watchers: Vec<CredsWatcher>,
    /// Passwords of private keys are looked up again at each reload.
    _objects: ObjectRegistry,
}

/// Begins to watch the files of every credentials object.
pub(crate) fn watch(objects: &ObjectRegistry) -> anyhow::Result<Watching> {
    let ids = objects.list().into_iter().map(|object| object.id);
    let creds = ids.filter_map(|id| objects.get::<TlsCreds>(&id).ok());
    let start = |creds: std::sync::Arc<TlsCreds>| {
        CredsWatcher::start(&creds, WatchOptions::default())
            .with_context(|| format!("cannot watch the files of {}", creds.name()))
    };
    Ok(Watching {
        _watchers: creds.map(start).collect::<anyhow::Result<_>>()?,
        _objects: objects.clone(),
    })
}

/// An object that is yet to be made.
#[derive(Debug)]
pub(crate) struct Spec {
    id: String,
    type_name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    X509(TlsCredsX509Options),
    Psk(TlsCredsPskOptions),
    Secret(SecretOptions),
    Keyring(KeyringSecretOptions),
    Authz(AuthzOptions),
}

/// Secrets go from the text to their type in one step: only so is the rest of a secret behind a comma that was not
/// doubled known for what it is, and kept out of errors.
#[derive(Deserialize)]
#[serde(tag = "qom-type")]
enum SecretKind {
    #[serde(rename = "secret", deserialize_with = "qio_opts::lenient")]
    Secret(SecretOptions),
    #[serde(rename = "secret_keyring", deserialize_with = "qio_opts::lenient")]
    Keyring(KeyringSecretOptions),
}

impl Spec {
    /// Reads every option, and puts what others need before them.
    pub(crate) fn parse_all(options: &[String]) -> anyhow::Result<Vec<Self>> {
        // The option itself is not repeated in errors: it may hold a secret.
        let specs = options.iter().map(|option| Self::parse(option));
        in_order(specs.collect::<anyhow::Result<_>>()?)
    }

    fn parse(option: &str) -> anyhow::Result<Self> {
        let mut value = parse_option(option, Some(TYPE)).context("--object")?;
        let type_name = value.take_string(TYPE).context("--object")?;
        let about = || format!("--object {type_name}");
        let kind = match type_name.as_str() {
            "tls-creds-x509" => Kind::X509(value.into_type().with_context(about)?),
            "tls-creds-psk" => Kind::Psk(value.into_type().with_context(about)?),
            "secret" | "secret_keyring" => {
                match from_option::<SecretKind>(option, Some(TYPE)).with_context(about)? {
                    SecretKind::Secret(options) => Kind::Secret(options),
                    SecretKind::Keyring(options) => Kind::Keyring(options),
                }
            }
            "authz-simple" | "authz-list" | "authz-list-file" | "authz-pam" => {
                Kind::Authz(AuthzOptions::of_type(&type_name, value).with_context(about)?)
            }
            "tls-creds-anon" => bail!(
                "--object tls-creds-anon: anonymous TLS protects against nobody who can change what is sent; use tls-creds-x509"
            ),
            _ => bail!("--object: there is no object type '{type_name}' (known: {KNOWN})"),
        };
        let id = match &kind {
            Kind::X509(options) => options.id.clone(),
            Kind::Psk(options) => options.id.clone(),
            Kind::Authz(options) => options.id().map(str::to_owned),
            Kind::Secret(options) => Some(options.id.clone()),
            Kind::Keyring(options) => Some(options.id.clone()),
        };
        let id = id.with_context(|| format!("{}: key 'id' is missing: add 'id=NAME'", about()))?;
        Ok(Self { id, type_name, kind })
    }

    /// The name of the object.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The type, as it is written in the option.
    pub(crate) fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The id of the object that must be there before this one.
    fn needs(&self) -> Option<&str> {
        match &self.kind {
            Kind::X509(options) => options.passwordid.as_deref(),
            Kind::Secret(options) => options.keyid.as_deref(),
            Kind::Keyring(options) => options.keyid.as_deref(),
            Kind::Psk(_) | Kind::Authz(_) => None,
        }
    }

    /// Makes the object. Blocks on the file system.
    pub(crate) fn make(self, permissions: KeyPermissions, objects: &ObjectRegistry) -> anyhow::Result<()> {
        let id = self.id;
        let added = match self.kind {
            Kind::X509(options) => {
                let creds = TlsCreds::load_with(options, permissions, objects)?;
                objects.add(&id, creds).map(drop)
            }
            Kind::Psk(options) => objects
                .add(&id, TlsCreds::load_psk(options, permissions)?)
                .map(drop),
            Kind::Secret(options) => objects.add(&id, Secret::load(options, objects)?).map(drop),
            Kind::Keyring(options) => objects
                .add(&id, Secret::from_keyring(options, objects)?)
                .map(drop),
            Kind::Authz(options) => objects.add(&id, Authz::new(options)?).map(drop),
        };
        added.context("--object")
    }
}

/// Puts objects behind those that they need, and leaves the order as it is otherwise. What is needed and not among
/// them is for the one that needs it to say.
fn in_order(mut specs: Vec<Spec>) -> anyhow::Result<Vec<Spec>> {
    let mut ordered = Vec::with_capacity(specs.len());
    while !specs.is_empty() {
        let ahead: BTreeSet<String> = specs.iter().map(|spec| spec.id.clone()).collect();
        let (ready, waiting): (Vec<_>, Vec<_>) = specs
            .into_iter()
            .partition(|spec| spec.needs().is_none_or(|id| !ahead.contains(id)));
        if ready.is_empty() {
            let ids: Vec<_> = waiting.iter().map(Spec::id).collect();
            bail!(
                "--object: {} need each other in a circle; one of them must do without",
                ids.join(", ")
            );
        }
        ordered.extend(ready);
        specs = waiting;
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_load(options: &[&str]) -> anyhow::Result<ObjectRegistry> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        load(&options, KeyPermissions::Private)
    }

    fn error(option: &str) -> String {
        format!("{:#}", try_load(&[option]).unwrap_err())
    }

    #[test]
    fn errors_name_the_object_and_the_remedy() {
        assert!(error("tls-creds-x590,id=a").contains("'tls-creds-x590'"));
        assert!(error("tls-creds-x509,dir=/x").contains("'id' is missing"));
        assert!(error("tls-creds-x509,id=a").contains("'dir'"));
        assert!(error("tls-creds-x509,id=a,dir=/does/not/exist").contains("/does/not/exist"));
        assert!(error("tls-creds-psk,id=a,dir=/does/not/exist").contains("/does/not/exist"));
        assert!(error("{\"qom-type\":\"tls-creds-anon\",\"id\":\"a\"}").contains("tls-creds-x509"));
        assert!(error("secret,data=x").contains("'id'"));
        assert!(error("secret,id=1a,data=x").contains("'1a' cannot be an id"));
        assert!(error("tls-creds-x509,id=a,dir=/x,passwordid=s").starts_with("No secret with id 's'"));
    }

    #[test]
    fn pam_is_there_or_it_is_said_why_not() {
        let option = "authz-pam,id=a,service=qio";
        if cfg!(feature = "pam") {
            assert!(try_load(&[option]).unwrap().get::<Authz>("a").is_ok());
            assert!(error("authz-pam,id=a,service=/etc/pam.d/qio").contains("\"/etc/pam.d/qio\""));
        } else {
            let error = error(option);
            assert!(error.starts_with("--object authz-pam: "), "{error}");
            assert!(error.contains("the cargo feature 'pam'"), "{error}");
        }
    }

    #[test]
    fn errors_never_show_a_secret() {
        for option in [
            "secret,id=a,data=hunter2,file=/f",
            "secret,id=a,data=x,hunter2",
            "secret,id=a,data=x,hunter2=y",
            "secret,id=a,data=hunter2,format=base64",
            "{\"qom-type\":\"secret\",\"id\":\"a\",\"data\":[\"hunter2\"]}",
        ] {
            let error = error(option);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn objects_are_made_before_those_that_need_them() {
        let key = "secret,id=key,data=MDEyMzQ1Njc4OWFiY2RlZkZFRENCQTk4NzY1NDMyMTA=,format=base64";
        // Encrypted by `openssl enc -aes-256-cbc -a` with that key and an iv of zeros.
        let text = "secret,id=text,keyid=key,iv=AAAAAAAAAAAAAAAAAAAAAA==,format=base64,data=Bhu0/O0Ysps4qxXiT9kgcQ==";
        for options in [[key, text], [text, key]] {
            let objects = try_load(&options).unwrap();
            assert_eq!(
                objects.get::<Secret>("text").unwrap().utf8().unwrap(),
                "swordfish"
            );
        }
        let error = try_load(&[text]).unwrap_err().to_string();
        assert!(error.starts_with("No secret with id 'key'"), "{error}");
    }

    #[test]
    fn a_circle_is_told() {
        let one = "secret,id=one,keyid=two,data=x";
        let two = "secret,id=two,keyid=one,data=x";
        let other = "secret,id=other,data=x";
        let error = try_load(&[one, other, two]).unwrap_err().to_string();
        assert!(error.contains("one, two need each other"), "{error}");
        assert!(try_load(&["secret,id=one,keyid=one,data=x"]).is_err());
    }

    #[test]
    fn an_id_is_given_once() {
        let error = format!(
            "{:#}",
            try_load(&["secret,id=a,data=x", "authz-simple,id=a,identity=x"]).unwrap_err()
        );
        assert!(
            error.contains("already an object with id 'a' (a secret)"),
            "{error}"
        );
    }
}
