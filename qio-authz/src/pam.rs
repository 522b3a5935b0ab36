//! `authz-pam`: the accounts that the system's PAM finds in order.

use std::sync::Arc;

use nonstick::{
    AuthnFlags, Conversation, ErrorCode, LibPamTransaction, Transaction as _, TransactionBuilder,
    conv::Exchange,
};
use serde::{Deserialize, Serialize};

use crate::authorizer::check_identity;
use crate::{Authorizer, AuthzError, AuthzSetupError};

/// The options of an `authz-pam` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthzPamOptions {
    /// The id by which services name the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The PAM service whose rules decide: usually the name of a file in `/etc/pam.d`.
    pub service: String,
}

/// Lets pass whose account the system's PAM finds in order: QEMU's `authz-pam`.
///
/// The identity is the name of PAM's user. Only the `account` rules of the service are asked (`pam_acct_mgmt`): who the
/// user is has been proved already. There is nobody to talk to, so whatever a module wants to ask or tell is refused, and
/// its rules must do without.
///
/// PAM gives a service that has no rules of its own those of the service `other`. On many systems they let every local
/// account pass: see to it that the file is there.
///
/// Asking blocks for as long as the modules take, which may be the time of a directory service. Every question is a PAM
/// transaction of its own, so one that hangs keeps no other one waiting.
///
/// Cloning it makes another handle to the same service.
///
/// ```no_run
/// use qio_authz::{Authorizer, AuthzPam};
///
/// // /etc/pam.d/qio:
/// //     account required pam_listfile.so item=user sense=allow file=/etc/qio/users onerr=fail
/// let access = AuthzPam::new("qio")?;
/// assert!(access.is_allowed("fred")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthzPam {
    service: Arc<str>,
}

impl AuthzPam {
    /// Asks PAM about `service`, a plain name. Whether it has rules is found out when PAM is asked.
    ///
    /// # Errors
    ///
    /// [`AuthzSetupError::PamService`] if it is empty, or holds a `/` or a NUL.
    pub fn new(service: impl Into<String>) -> Result<Self, AuthzSetupError> {
        let service = service.into();
        if service.is_empty() || service.contains(['/', '\0']) {
            return Err(AuthzSetupError::PamService { service });
        }
        Ok(Self {
            service: service.into(),
        })
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    fn ask(&self, user: &str) -> Result<(), ErrorCode> {
        // A transaction is for one thread, and for one user: there is nothing to keep, nor to lock.
        let mut transaction: LibPamTransaction<_> = TransactionBuilder::new_with_service(&*self.service)
            .username(user)
            .build(NobodyThere {
                service: Arc::clone(&self.service),
            })?;
        transaction.account_management(AuthnFlags::SILENT)
    }
}

impl Authorizer for AuthzPam {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        check_identity(identity)?;
        if identity.contains('\0') {
            // A C string would end there: "root\0.example" must not be asked about as "root".
            return Err(AuthzError::NotAUser);
        }
        match self.ask(identity) {
            Ok(()) => Ok(true),
            Err(code) if is_verdict(code) => {
                tracing::debug!(service = %self.service, reason = %code, "PAM denies access");
                Ok(false)
            }
            Err(code) => Err(AuthzError::Pam {
                service: self.service.to_string(),
                reason: code.to_string(),
            }),
        }
    }
}

/// Whether PAM has decided against the account, by what `pam_acct_mgmt` is documented to return then. Anything else means
/// that it could not decide.
fn is_verdict(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::PermissionDenied
            | ErrorCode::AuthenticationError
            | ErrorCode::UserUnknown
            | ErrorCode::AccountExpired
            | ErrorCode::AuthTokExpired
            | ErrorCode::NewAuthTokRequired
    )
}

/// Refuses everything that PAM's modules want to ask or tell.
struct NobodyThere {
    service: Arc<str>,
}

impl Conversation for NobodyThere {
    fn communicate(&self, messages: &[Exchange<'_>]) {
        // What they say is left out: it is meant for the user, not for our log.
        tracing::debug!(
            service = %self.service,
            messages = messages.len(),
            "a PAM module wants to talk to the user and is refused"
        );
        for message in messages {
            message.set_error(ErrorCode::ConversationError);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests report by panicking")]
mod tests {
    use nonstick::conv::{InfoMsg, MaskedQAndA, QAndA};

    use super::*;
    use crate::{Authz, AuthzOptions};
    use qio_opts::Object as _;

    fn options(option: &str) -> Result<AuthzOptions, String> {
        qio_opts::from_option(option, Some("qom-type")).map_err(|error| error.to_string())
    }

    #[test]
    fn both_syntaxes_say_the_same() {
        let keyval = options("authz-pam,id=authz0,service=qio").unwrap();
        let json = options(r#"{"qom-type": "authz-pam", "id": "authz0", "service": "qio"}"#).unwrap();
        assert_eq!(keyval, json);
        assert_eq!(keyval.id(), Some("authz0"));
        assert_eq!(Authz::new(keyval).unwrap().type_name(), "authz-pam");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert!(options("authz-pam,id=a").unwrap_err().contains("'service'"));
        assert!(
            options("authz-pam,id=a,service=qio,user=x")
                .unwrap_err()
                .contains("'user'")
        );
        for service in ["", "/etc/pam.d/qio", "../qio", "qio\0"] {
            let error = AuthzPam::new(service).unwrap_err();
            assert!(matches!(&error, AuthzSetupError::PamService { service: told } if told == service));
            assert!(error.to_string().contains(&format!("{service:?}")), "{error}");
        }
    }

    #[test]
    fn every_kind_of_message_is_refused() {
        let (masked, open, told) = (
            MaskedQAndA::new("Password:".as_ref()),
            QAndA::new("login:".as_ref()),
            InfoMsg::new("Welcome".as_ref()),
        );
        let nobody = NobodyThere {
            service: "qio".into(),
        };
        nobody.communicate(&[masked.exchange(), open.exchange(), told.exchange()]);
        assert_eq!(masked.answer().unwrap_err(), ErrorCode::ConversationError);
        assert_eq!(open.answer().unwrap_err(), ErrorCode::ConversationError);
        assert_eq!(told.answer().unwrap_err(), ErrorCode::ConversationError);
    }
}
