//! The rules of a list, and what they say of an identity.

use serde::{Deserialize, Serialize};

use crate::authorizer::check_identity;
use crate::{AuthzError, glob};

/// Whether whoever is meant may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// No.
    #[default]
    Deny,
    /// Yes.
    Allow,
}

/// How a rule's text is compared with an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// They must be equal.
    #[default]
    Exact,
    /// The text is a pattern for the whole identity: `*` stands for any characters, also none, `?` for exactly one.
    /// There are no brackets and no escapes, and `/` and `,` are characters like any other.
    Glob,
}

/// One rule of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// The identity meant, or a pattern for it.
    #[serde(rename = "match")]
    pub matches: String,
    /// Whether it may pass.
    pub policy: Policy,
    /// How `matches` is compared.
    #[serde(default)]
    pub format: Format,
}

impl Rule {
    /// A rule for one identity.
    pub fn exact(identity: impl Into<String>, policy: Policy) -> Self {
        Self {
            matches: identity.into(),
            policy,
            format: Format::Exact,
        }
    }

    /// A rule for all identities that a pattern covers.
    pub fn glob(pattern: impl Into<String>, policy: Policy) -> Self {
        Self {
            matches: pattern.into(),
            policy,
            format: Format::Glob,
        }
    }

    /// Whether the rule speaks of this identity.
    #[must_use]
    pub fn covers(&self, identity: &str) -> bool {
        match self.format {
            Format::Exact => self.matches == identity,
            Format::Glob => glob::matches(&self.matches, identity),
        }
    }
}

/// Rules in order, and what holds where none speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) rules: Vec<Rule>,
}

impl Rules {
    pub(crate) fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        check_identity(identity)?;
        let first = self.rules.iter().find(|rule| rule.covers(identity));
        Ok(first.map_or(self.policy, |rule| rule.policy) == Policy::Allow)
    }
}
