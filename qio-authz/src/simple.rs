//! `authz-simple`: one identity.

use serde::{Deserialize, Serialize};

use crate::authorizer::check_identity;
use crate::{Authorizer, AuthzError};

/// The options of an `authz-simple` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthzSimpleOptions {
    /// The id by which services name the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The identity that passes.
    pub identity: String,
}

/// Lets exactly one identity pass: QEMU's `authz-simple`.
///
/// ```
/// use qio_authz::{Authorizer, AuthzSimple};
///
/// let access = AuthzSimple::new("fred");
/// assert!(access.is_allowed("fred")?);
/// assert!(!access.is_allowed("Fred")?);
/// # Ok::<(), qio_authz::AuthzError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthzSimple {
    identity: String,
}

impl AuthzSimple {
    /// Lets `identity` pass.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
        }
    }
}

impl From<AuthzSimpleOptions> for AuthzSimple {
    fn from(options: AuthzSimpleOptions) -> Self {
        Self::new(options.identity)
    }
}

impl Authorizer for AuthzSimple {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        check_identity(identity)?;
        Ok(self.identity == identity)
    }
}
