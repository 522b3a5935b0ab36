//! One type for all kinds of access lists, so that a registry can hold and find them.

use qio_opts::{Object, Value};
use serde::{Deserialize, Serialize};

use crate::{
    Authorizer, AuthzError, AuthzList, AuthzListFile, AuthzListFileOptions, AuthzListOptions,
    AuthzSetupError, AuthzSimple, AuthzSimpleOptions,
};
#[cfg(feature = "pam")]
use crate::{AuthzPam, AuthzPamOptions};

/// An access list of any kind: what `--object authz-...` makes and `--tls-authz` names.
///
/// Cloning it makes another handle to the same list.
#[derive(Debug, Clone)]
pub struct Authz {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Simple(AuthzSimple),
    List(AuthzList),
    ListFile(AuthzListFile),
    #[cfg(feature = "pam")]
    Pam(AuthzPam),
}

impl Authz {
    /// Makes the object that `options` describe. Blocks on the file system for a list in a file.
    ///
    /// # Errors
    ///
    /// [`AuthzSetupError`] if a file cannot be loaded or watched, or a name cannot be that of a PAM service.
    pub fn new(options: AuthzOptions) -> Result<Self, AuthzSetupError> {
        Ok(match options {
            AuthzOptions::Simple(options) => AuthzSimple::from(options).into(),
            AuthzOptions::List(options) => options.into_list().into(),
            AuthzOptions::ListFile(options) => AuthzListFile::load(options)?.into(),
            #[cfg(feature = "pam")]
            AuthzOptions::Pam(options) => AuthzPam::new(options.service)?.into(),
        })
    }

    /// The list behind it, to change its rules at run time; none if it is of another kind.
    #[must_use]
    pub fn as_list(&self) -> Option<&AuthzList> {
        match &self.kind {
            Kind::List(list) => Some(list),
            _ => None,
        }
    }

    /// The list in a file behind it; none if it is of another kind.
    #[must_use]
    pub fn as_list_file(&self) -> Option<&AuthzListFile> {
        match &self.kind {
            Kind::ListFile(list) => Some(list),
            _ => None,
        }
    }
}

impl Authorizer for Authz {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        match &self.kind {
            Kind::Simple(simple) => simple.is_allowed(identity),
            Kind::List(list) => list.is_allowed(identity),
            Kind::ListFile(list) => list.is_allowed(identity),
            #[cfg(feature = "pam")]
            Kind::Pam(pam) => pam.is_allowed(identity),
        }
    }
}

impl Object for Authz {
    const KIND: &'static str = "access list";

    fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Simple(_) => "authz-simple",
            Kind::List(_) => "authz-list",
            Kind::ListFile(_) => "authz-list-file",
            #[cfg(feature = "pam")]
            Kind::Pam(_) => "authz-pam",
        }
    }
}

impl From<AuthzSimple> for Authz {
    fn from(simple: AuthzSimple) -> Self {
        Self {
            kind: Kind::Simple(simple),
        }
    }
}

impl From<AuthzList> for Authz {
    fn from(list: AuthzList) -> Self {
        Self {
            kind: Kind::List(list),
        }
    }
}

impl From<AuthzListFile> for Authz {
    fn from(list: AuthzListFile) -> Self {
        Self {
            kind: Kind::ListFile(list),
        }
    }
}

#[cfg(feature = "pam")]
impl From<AuthzPam> for Authz {
    fn from(pam: AuthzPam) -> Self {
        Self { kind: Kind::Pam(pam) }
    }
}

/// The options of an access list, with its type in the key `qom-type`.
///
/// ```
/// use qio_authz::{Authorizer, Authz, AuthzOptions};
///
/// let options: AuthzOptions =
///     qio_opts::from_option("authz-simple,id=authz0,identity=CN=host1,,O=Example", Some("qom-type"))?;
/// assert_eq!(options.id(), Some("authz0"));
/// assert!(Authz::new(options)?.is_allowed("CN=host1,O=Example")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "qom-type")]
#[non_exhaustive]
pub enum AuthzOptions {
    /// One identity.
    #[serde(rename = "authz-simple", deserialize_with = "qio_opts::lenient")]
    Simple(AuthzSimpleOptions),
    /// Rules.
    #[serde(rename = "authz-list", deserialize_with = "qio_opts::lenient")]
    List(AuthzListOptions),
    /// Rules in a file.
    #[serde(rename = "authz-list-file", deserialize_with = "qio_opts::lenient")]
    ListFile(AuthzListFileOptions),
    /// The system's PAM.
    #[cfg(feature = "pam")]
    #[serde(rename = "authz-pam", deserialize_with = "qio_opts::lenient")]
    Pam(AuthzPamOptions),
}

impl AuthzOptions {
    /// Options of which the type is known already, and is not among `value`'s keys any more.
    ///
    /// # Errors
    ///
    /// [`AuthzSetupError::UnknownType`], [`AuthzSetupError::Options`], or [`AuthzSetupError::NoPam`] without the
    /// feature `pam`.
    pub fn of_type(type_name: &str, value: Value) -> Result<Self, AuthzSetupError> {
        Ok(match type_name {
            "authz-simple" => Self::Simple(value.into_type()?),
            "authz-list" => Self::List(value.into_type()?),
            "authz-list-file" => Self::ListFile(value.into_type()?),
            #[cfg(feature = "pam")]
            "authz-pam" => Self::Pam(value.into_type()?),
            #[cfg(not(feature = "pam"))]
            "authz-pam" => return Err(AuthzSetupError::NoPam),
            other => return Err(AuthzSetupError::UnknownType(other.to_owned())),
        })
    }

    /// The id by which services name the object, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Simple(options) => options.id.as_deref(),
            Self::List(options) => options.id.as_deref(),
            Self::ListFile(options) => options.id.as_deref(),
            #[cfg(feature = "pam")]
            Self::Pam(options) => options.id.as_deref(),
        }
    }
}
