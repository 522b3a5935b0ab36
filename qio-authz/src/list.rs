//! `authz-list`: rules in order, which can be changed while in use.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use crate::rule::Rules;
use crate::{Authorizer, AuthzError, Policy, Rule};

/// The options of an `authz-list` object. The file of an `authz-list-file` holds the same, without the id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthzListOptions {
    /// The id by which services name the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What holds for identities that no rule covers.
    #[serde(default)]
    pub policy: Policy,
    /// The rules; the first that covers an identity decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

impl AuthzListOptions {
    /// The list that these options describe.
    #[must_use]
    pub fn into_list(self) -> AuthzList {
        let list = AuthzList::new(self.policy);
        list.write().rules = self.rules;
        list
    }
}

/// Lets pass whom the first matching rule allows: QEMU's `authz-list`.
///
/// Cloning it makes another handle to the same list. Changes through any handle hold from the next question on, for
/// every service that shares the list.
///
/// ```
/// use qio_authz::{Authorizer, AuthzList, Policy, Rule};
///
/// let list = AuthzList::new(Policy::Deny);
/// list.append(Rule::exact("CN=mallory", Policy::Deny));
/// list.append(Rule::glob("CN=*", Policy::Allow));
/// assert!(list.is_allowed("CN=alice")?);
/// assert!(!list.is_allowed("CN=mallory")?);
///
/// assert_eq!(list.delete("CN=mallory"), Some(0));
/// assert!(list.is_allowed("CN=mallory")?);
/// # Ok::<(), qio_authz::AuthzError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AuthzList {
    shared: Arc<RwLock<Rules>>,
}

impl AuthzList {
    /// A list without rules, so that `policy` holds for all.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let rules = Vec::new();
        Self {
            shared: Arc::new(RwLock::new(Rules { policy, rules })),
        }
    }

    /// What holds for identities that no rule covers.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.read().policy
    }

    /// The rules as they are now, in order.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.read().rules.clone()
    }

    /// Adds a rule behind all others. Returns its position.
    pub fn append(&self, rule: Rule) -> usize {
        self.insert(usize::MAX, rule)
    }

    /// Adds a rule before the one at `position`, or behind all others if there are not as many. Returns its position.
    pub fn insert(&self, position: usize, rule: Rule) -> usize {
        let mut list = self.write();
        let position = position.min(list.rules.len());
        list.rules.insert(position, rule);
        position
    }

    /// Removes the first rule whose text is `matches`, whatever its format and policy. Returns the position it had.
    ///
    /// `None` where QEMU's function returns -1: there was no such rule.
    pub fn delete(&self, matches: &str) -> Option<usize> {
        let mut list = self.write();
        let position = list.rules.iter().position(|rule| rule.matches == matches)?;
        list.rules.remove(position);
        Some(position)
    }

    // Each change is a single call to Vec, which a panic elsewhere cannot leave half-done.
    fn read(&self) -> RwLockReadGuard<'_, Rules> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rules> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authorizer for AuthzList {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        self.read().is_allowed(identity)
    }
}
