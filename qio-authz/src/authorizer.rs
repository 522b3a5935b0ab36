//! The question that every kind of access list answers.

use std::fmt::Debug;

use crate::AuthzError;

/// The longest identity that is looked up, in bytes. A longer one is refused, never cut.
pub const MAX_IDENTITY_BYTES: usize = 4096;

/// Decides whether whoever has proved an identity may use a service.
///
/// The identity is what the layer below has verified: for TLS with certificates the distinguished name of the peer's
/// certificate in QEMU's spelling, for TLS with pre-shared keys and for SASL the user's name. It is compared byte by
/// byte, and never cut, folded or normalized.
///
/// ```
/// use qio_authz::{Authorizer, AuthzError};
///
/// #[derive(Debug)]
/// struct OfficeHours { open: bool }
///
/// impl Authorizer for OfficeHours {
///     fn is_allowed(&self, _identity: &str) -> Result<bool, AuthzError> {
///         Ok(self.open)
///     }
/// }
/// assert!(!OfficeHours { open: false }.is_allowed("CN=host1")?);
/// # Ok::<(), AuthzError>(())
/// ```
pub trait Authorizer: Debug + Send + Sync {
    /// Whether `identity` may pass.
    ///
    /// May block, for as long as a directory service takes to answer: event loops ask on another thread.
    ///
    /// # Errors
    ///
    /// No answer was to be had. The peer is refused then as well: only `Ok(true)` lets it pass. The error is for our
    /// log; a peer is told no more than that access is denied.
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError>;
}

/// Refuses identities that are not to be looked up: empty ones, which are nobody's, and those that are too long.
pub(crate) fn check_identity(identity: &str) -> Result<(), AuthzError> {
    if identity.is_empty() {
        return Err(AuthzError::NoIdentity);
    }
    if identity.len() > MAX_IDENTITY_BYTES {
        return Err(AuthzError::IdentityTooLong {
            bytes: identity.len(),
        });
    }
    Ok(())
}
