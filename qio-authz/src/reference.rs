//! An access list by its id.

use qio_opts::ObjectRegistry;

use crate::{Authorizer, Authz, AuthzError};

/// An access list by its id, looked up for every question.
///
/// An object that is deleted and made anew is thus found; while there is none, or one of another kind, nobody passes.
#[derive(Debug, Clone)]
pub struct AuthzRef {
    registry: ObjectRegistry,
    id: String,
}

impl AuthzRef {
    /// Refers to `id` among `registry`'s objects. It need not be there yet.
    pub fn new(registry: &ObjectRegistry, id: impl Into<String>) -> Self {
        Self {
            registry: registry.clone(),
            id: id.into(),
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Authorizer for AuthzRef {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        self.registry.get::<Authz>(&self.id)?.is_allowed(identity)
    }
}
