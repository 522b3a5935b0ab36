//! Who may connect: QEMU's authorization objects.

mod authorizer;
mod error;

pub use authorizer::{Authorizer, MAX_IDENTITY_BYTES};
pub use error::AuthzError;
