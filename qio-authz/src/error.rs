//! Why there is no answer.

use crate::MAX_IDENTITY_BYTES;

/// Why an access list gave no answer. Whoever asked is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthzError {
    /// The identity is longer than [`MAX_IDENTITY_BYTES`].
    #[error("the identity has {bytes} bytes, and none longer than {MAX_IDENTITY_BYTES} is let in")]
    IdentityTooLong {
        /// Its length.
        bytes: usize,
    },
    /// An authorizer outside of this crate failed.
    #[error("authorization failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
