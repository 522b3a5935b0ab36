//! What the keywords of a priority string stand for.

use super::Profile;
use super::names::Kind;

/// A keyword, and the algorithms that it stands for where they differ from all there are.
pub(super) struct Keyword {
    pub(super) name: &'static str,
    versions: &'static [&'static str],
    ciphers: &'static [&'static str],
    macs: &'static [&'static str],
    key_exchanges: &'static [&'static str],
    groups: &'static [&'static str],
    signatures: &'static [&'static str],
    pub(super) profile: Profile,
    pub(super) tickets: bool,
}

impl Keyword {
    pub(super) fn members(&self, kind: Kind) -> &'static [&'static str] {
        match kind {
            Kind::Version => self.versions,
            Kind::Cipher => self.ciphers,
            Kind::Mac => self.macs,
            Kind::KeyExchange => self.key_exchanges,
            Kind::Group => self.groups,
            Kind::Signature => self.signatures,
        }
    }
}

/// The keyword of this name, whatever its case.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    let name = ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name))
        .map_or(name, |(_, name)| name);
    KEYWORDS
        .iter()
        .find(|keyword| keyword.name.eq_ignore_ascii_case(name))
}

/// Keywords that differ from others in what our engines do not have, or in an order that is the engine's here.
const ALIASES: &[(&str, &str)] = &[
    ("PERFORMANCE", "NORMAL"),
    ("SECURE", "SECURE128"),
    ("SECURE256", "SECURE192"),
];

/// What `ALL` of a kind means when it is added.
pub(super) const NORMAL: &Keyword = &Keyword {
    name: "NORMAL",
    versions: &["VERS-TLS1.3", "VERS-TLS1.2"],
    ciphers: &[
        "AES-256-GCM",
        "CHACHA20-POLY1305",
        "AES-256-CCM",
        "AES-256-CBC",
        "AES-128-GCM",
        "AES-128-CCM",
        "AES-128-CBC",
    ],
    macs: &["SHA1", "AEAD"],
    key_exchanges: &["ECDHE-ECDSA", "ECDHE-RSA"],
    groups: &[
        "GROUP-X25519-MLKEM768",
        "GROUP-SECP256R1-MLKEM768",
        "GROUP-SECP384R1-MLKEM1024",
        "GROUP-SECP256R1",
        "GROUP-SECP384R1",
        "GROUP-SECP521R1",
        "GROUP-X25519",
        "GROUP-X448",
        "GROUP-FFDHE2048",
        "GROUP-FFDHE3072",
        "GROUP-FFDHE4096",
        "GROUP-FFDHE6144",
        "GROUP-FFDHE8192",
    ],
    signatures: &[
        "SIGN-RSA-SHA256",
        "SIGN-RSA-PSS-SHA256",
        "SIGN-RSA-PSS-RSAE-SHA256",
        "SIGN-ECDSA-SHA256",
        "SIGN-ECDSA-SECP256R1-SHA256",
        "SIGN-EdDSA-Ed25519",
        "SIGN-RSA-SHA384",
        "SIGN-RSA-PSS-SHA384",
        "SIGN-RSA-PSS-RSAE-SHA384",
        "SIGN-ECDSA-SHA384",
        "SIGN-ECDSA-SECP384R1-SHA384",
        "SIGN-EdDSA-Ed448",
        "SIGN-RSA-SHA512",
        "SIGN-RSA-PSS-SHA512",
        "SIGN-RSA-PSS-RSAE-SHA512",
        "SIGN-ECDSA-SHA512",
        "SIGN-ECDSA-SECP521R1-SHA512",
    ],
    profile: Profile::Low,
    tickets: true,
};

const KEYWORDS: &[Keyword] = &[
    Keyword { ..*NORMAL },
    Keyword {
        name: "LEGACY",
        profile: Profile::None,
        ..*NORMAL
    },
    Keyword {
        name: "PFS",
        tickets: false,
        ..*NORMAL
    },
    Keyword {
        name: "SECURE128",
        ..*NORMAL
    },
    Keyword {
        name: "SECURE192",
        ciphers: &["AES-256-GCM", "CHACHA20-POLY1305", "AES-256-CBC", "AES-256-CCM"],
        macs: &["AEAD"],
        groups: &["GROUP-SECP384R1", "GROUP-SECP521R1", "GROUP-FFDHE8192"],
        signatures: &[
            "SIGN-RSA-SHA384",
            "SIGN-RSA-PSS-SHA384",
            "SIGN-RSA-PSS-RSAE-SHA384",
            "SIGN-ECDSA-SHA384",
            "SIGN-ECDSA-SECP384R1-SHA384",
            "SIGN-EdDSA-Ed448",
            "SIGN-RSA-SHA512",
            "SIGN-RSA-PSS-SHA512",
            "SIGN-RSA-PSS-RSAE-SHA512",
            "SIGN-ECDSA-SHA512",
            "SIGN-ECDSA-SECP521R1-SHA512",
        ],
        profile: Profile::High,
        ..*NORMAL
    },
    Keyword {
        name: "SUITEB128",
        versions: &["VERS-TLS1.2"],
        ciphers: &["AES-256-GCM", "AES-128-GCM"],
        macs: &["AEAD"],
        key_exchanges: &["ECDHE-ECDSA"],
        groups: &["GROUP-SECP256R1", "GROUP-SECP384R1"],
        signatures: &[
            "SIGN-ECDSA-SHA256",
            "SIGN-ECDSA-SECP256R1-SHA256",
            "SIGN-ECDSA-SHA384",
            "SIGN-ECDSA-SECP384R1-SHA384",
        ],
        profile: Profile::High,
        ..*NORMAL
    },
    Keyword {
        name: "SUITEB192",
        versions: &["VERS-TLS1.2"],
        ciphers: &["AES-256-GCM"],
        macs: &["AEAD"],
        key_exchanges: &["ECDHE-ECDSA"],
        groups: &["GROUP-SECP384R1"],
        signatures: &["SIGN-ECDSA-SHA384", "SIGN-ECDSA-SECP384R1-SHA384"],
        profile: Profile::Ultra,
        ..*NORMAL
    },
];
