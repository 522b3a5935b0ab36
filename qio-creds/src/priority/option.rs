//! The options of a priority string, those with a percent sign.

use super::Profile;

/// What an option asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Something that is so anyway, or that makes no difference to our engines.
    Nothing,
    Profile(Profile),
    NoTickets,
    ExtendedMasterSecret,
    /// Something that our engines cannot do, and why.
    Impossible(&'static str),
}

/// What the option of this name asks for, whatever its case; none if there is no such option.
pub(super) fn find(name: &str) -> Option<Asked> {
    OPTIONS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, asked)| *asked)
}

const LOOSER: Asked = Asked::Impossible("certificates are verified as strictly with every setting");

const OPTIONS: &[(&str, Asked)] = &[
    ("PROFILE_VERY_WEAK", Asked::Profile(Profile::None)),
    ("PROFILE_LOW", Asked::Profile(Profile::Low)),
    ("PROFILE_LEGACY", Asked::Profile(Profile::Legacy)),
    ("PROFILE_MEDIUM", Asked::Profile(Profile::Medium)),
    ("PROFILE_HIGH", Asked::Profile(Profile::High)),
    ("PROFILE_ULTRA", Asked::Profile(Profile::Ultra)),
    ("PROFILE_FUTURE", Asked::Profile(Profile::Future)),
    ("PROFILE_SUITEB128", Asked::Profile(Profile::High)),
    ("PROFILE_SUITEB192", Asked::Profile(Profile::Ultra)),
    ("NO_TICKETS", Asked::NoTickets),
    ("NO_TICKETS_TLS12", Asked::NoTickets),
    ("FORCE_SESSION_HASH", Asked::ExtendedMasterSecret),
    // Our servers choose by their own order.
    ("SERVER_PRECEDENCE", Asked::Nothing),
    // They matter to CBC, compression, padding or record headers only.
    ("COMPAT", Asked::Nothing),
    ("NO_ETM", Asked::Nothing),
    ("FORCE_ETM", Asked::Nothing),
    ("STATELESS_COMPRESSION", Asked::Nothing),
    ("DUMBFW", Asked::Nothing),
    ("SSL3_RECORD_VERSION", Asked::Nothing),
    ("LATEST_RECORD_VERSION", Asked::Nothing),
    ("ALLOW_SMALL_RECORDS", Asked::Nothing),
    ("DISABLE_TLS13_COMPAT_MODE", Asked::Nothing),
    ("NO_SHUFFLE_EXTENSIONS", Asked::Nothing),
    ("NO_STATUS_REQUEST", Asked::Nothing),
    // Nobody renegotiates here.
    ("SAFE_RENEGOTIATION", Asked::Nothing),
    ("PARTIAL_RENEGOTIATION", Asked::Nothing),
    ("UNSAFE_RENEGOTIATION", Asked::Nothing),
    ("DISABLE_SAFE_RENEGOTIATION", Asked::Nothing),
    // GnuTLS does nothing about it either.
    ("VERIFY_ALLOW_X509_V1_CA_CRT", Asked::Nothing),
    ("VERIFY_ALLOW_SIGN_RSA_MD5", LOOSER),
    ("VERIFY_ALLOW_SIGN_WITH_SHA1", LOOSER),
    ("VERIFY_ALLOW_BROKEN", LOOSER),
    ("DEBUG_ALLOW_KEY_USAGE_VIOLATIONS", LOOSER),
    (
        "VERIFY_DISABLE_CRL_CHECKS",
        Asked::Impossible("remove ca-crl.pem instead"),
    ),
    (
        "DISABLE_WILDCARDS",
        Asked::Impossible("certificates with wildcards cannot be told apart here"),
    ),
    (
        "NO_EXTENSIONS",
        Asked::Impossible("secure sessions need extensions"),
    ),
    (
        "NO_SESSION_HASH",
        Asked::Impossible("the extended master secret cannot be turned off"),
    ),
    (
        "FALLBACK_SCSV",
        Asked::Impossible("there is no falling back to older versions here"),
    ),
];
