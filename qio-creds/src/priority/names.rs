//! The names that GnuTLS gives to algorithms, and the numbers that IANA does.
//!
//! The names are an interface: `gnutls-cli --list` prints them, and what each keyword stands for. The tests of `interop`
//! compare these tables with it.

/// What an algorithm is for. A name is looked up in one kind after the other, since some have no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Version,
    Cipher,
    Mac,
    KeyExchange,
    Group,
    Signature,
}

impl Kind {
    pub(super) const ALL: [Kind; 6] = [
        Kind::Version,
        Kind::Cipher,
        Kind::Mac,
        Kind::KeyExchange,
        Kind::Group,
        Kind::Signature,
    ];

    /// The algorithms of this kind that an engine of ours may have.
    pub(super) fn known(self) -> &'static [Algorithm] {
        match self {
            Kind::Version => VERSIONS,
            Kind::Cipher => CIPHERS,
            Kind::Mac => MACS,
            Kind::KeyExchange => KEY_EXCHANGES,
            Kind::Group => GROUPS,
            Kind::Signature => SIGNATURES,
        }
    }

    /// Those that GnuTLS has and no engine of ours.
    fn foreign(self) -> &'static [&'static str] {
        match self {
            Kind::Version => FOREIGN_VERSIONS,
            Kind::Cipher => FOREIGN_CIPHERS,
            Kind::Mac => FOREIGN_MACS,
            Kind::KeyExchange => FOREIGN_KEY_EXCHANGES,
            Kind::Group => FOREIGN_GROUPS,
            Kind::Signature => FOREIGN_SIGNATURES,
        }
    }
}

/// An algorithm by its name in a priority string and its number on the wire, 0 where it has none of its own.
#[derive(Debug)]
pub(super) struct Algorithm {
    pub(super) name: &'static str,
    pub(super) code: u16,
}

const fn named(name: &'static str, code: u16) -> Algorithm {
    Algorithm { name, code }
}

pub(super) const VERSIONS: &[Algorithm] = &[named("VERS-TLS1.3", 0x0304), named("VERS-TLS1.2", 0x0303)];

pub(super) const CIPHERS: &[Algorithm] = &[
    named("AES-256-GCM", 0),
    named("CHACHA20-POLY1305", 0),
    named("AES-256-CCM", 0),
    named("AES-256-CCM-8", 0),
    named("AES-256-CBC", 0),
    named("AES-128-GCM", 0),
    named("AES-128-CCM", 0),
    named("AES-128-CCM-8", 0),
    named("AES-128-CBC", 0),
];

pub(super) const MACS: &[Algorithm] = &[
    named("AEAD", 0),
    named("SHA1", 0),
    named("SHA256", 0),
    named("SHA384", 0),
];

pub(super) const KEY_EXCHANGES: &[Algorithm] = &[
    named("ECDHE-ECDSA", 0),
    named("ECDHE-RSA", 0),
    named("ECDHE-PSK", 0),
    named("DHE-PSK", 0),
    named("PSK", 0),
];

pub(super) const GROUPS: &[Algorithm] = &[
    named("GROUP-X25519-MLKEM768", 0x11ec),
    named("GROUP-SECP256R1-MLKEM768", 0x11eb),
    named("GROUP-SECP384R1-MLKEM1024", 0x11ed),
    named("GROUP-SECP256R1", 23),
    named("GROUP-SECP384R1", 24),
    named("GROUP-SECP521R1", 25),
    named("GROUP-X25519", 29),
    named("GROUP-X448", 30),
    named("GROUP-FFDHE2048", 256),
    named("GROUP-FFDHE3072", 257),
    named("GROUP-FFDHE4096", 258),
    named("GROUP-FFDHE6144", 259),
    named("GROUP-FFDHE8192", 260),
];

/// TLS 1.3 ties a curve to the hash and TLS 1.2 does not, so ECDSA has two names for each number.
pub(super) const SIGNATURES: &[Algorithm] = &[
    named("SIGN-RSA-SHA256", 0x0401),
    named("SIGN-RSA-PSS-SHA256", 0x0809),
    named("SIGN-RSA-PSS-RSAE-SHA256", 0x0804),
    named("SIGN-ECDSA-SHA256", 0x0403),
    named("SIGN-ECDSA-SECP256R1-SHA256", 0x0403),
    named("SIGN-EdDSA-Ed25519", 0x0807),
    named("SIGN-RSA-SHA384", 0x0501),
    named("SIGN-RSA-PSS-SHA384", 0x080a),
    named("SIGN-RSA-PSS-RSAE-SHA384", 0x0805),
    named("SIGN-ECDSA-SHA384", 0x0503),
    named("SIGN-ECDSA-SECP384R1-SHA384", 0x0503),
    named("SIGN-EdDSA-Ed448", 0x0808),
    named("SIGN-RSA-SHA512", 0x0601),
    named("SIGN-RSA-PSS-SHA512", 0x080b),
    named("SIGN-RSA-PSS-RSAE-SHA512", 0x0806),
    named("SIGN-ECDSA-SHA512", 0x0603),
    named("SIGN-ECDSA-SECP521R1-SHA512", 0x0603),
];

const FOREIGN_VERSIONS: &[&str] = &[
    "VERS-TLS1.1",
    "VERS-TLS1.0",
    "VERS-SSL3.0",
    "VERS-DTLS0.9",
    "VERS-DTLS1.0",
    "VERS-DTLS1.2",
];

const FOREIGN_CIPHERS: &[&str] = &[
    "AES-192-CBC",
    "AES-192-GCM",
    "ARCFOUR-128",
    "ARCFOUR-40",
    "ESTREAM-SALSA20-256",
    "SALSA20-256",
    "CHACHA20-32",
    "CHACHA20-64",
    "CAMELLIA-256-CBC",
    "CAMELLIA-192-CBC",
    "CAMELLIA-128-CBC",
    "CAMELLIA-128-GCM",
    "CAMELLIA-256-GCM",
    "GOST28147-TC26Z-CFB",
    "GOST28147-CPA-CFB",
    "GOST28147-CPB-CFB",
    "GOST28147-CPC-CFB",
    "GOST28147-CPD-CFB",
    "GOST28147-TC26Z-CNT",
    "MAGMA-CTR-ACPKM",
    "KUZNYECHIK-CTR-ACPKM",
    "AES-128-CFB8",
    "AES-192-CFB8",
    "AES-256-CFB8",
    "AES-128-XTS",
    "AES-256-XTS",
    "AES-128-SIV",
    "AES-256-SIV",
    "3DES-CBC",
    "DES-CBC",
    "RC2-40",
    "NULL",
];

const FOREIGN_MACS: &[&str] = &[
    "SHA512",
    "SHA224",
    "UMAC-96",
    "UMAC-128",
    "MD5",
    "GOSTR341194",
    "STREEBOG-256",
    "STREEBOG-512",
    "AES-CMAC-128",
    "AES-CMAC-256",
    "AES-GMAC-128",
    "AES-GMAC-192",
    "AES-GMAC-256",
    "GOST28147-TC26Z-IMIT",
    "OMAC-MAGMA",
    "OMAC-KUZNYECHIK",
];

const FOREIGN_KEY_EXCHANGES: &[&str] = &[
    "RSA",
    "DHE-RSA",
    "DHE-DSS",
    "RSA-PSK",
    "SRP-DSS",
    "SRP-RSA",
    "SRP",
    "ANON-DH",
    "ANON-ECDH",
    "VKO-GOST-12",
    "RSA-EXPORT",
];

const FOREIGN_GROUPS: &[&str] = &[
    "GROUP-SECP192R1",
    "GROUP-SECP224R1",
    "GROUP-GC256A",
    "GROUP-GC256B",
    "GROUP-GC256C",
    "GROUP-GC256D",
    "GROUP-GC512A",
    "GROUP-GC512B",
    "GROUP-GC512C",
    "GROUP-GOST-ALL",
];

const FOREIGN_SIGNATURES: &[&str] = &[
    "SIGN-RSA-SHA1",
    "SIGN-ECDSA-SHA1",
    "SIGN-ECDSA-SHA3-224",
    "SIGN-ECDSA-SHA3-256",
    "SIGN-ECDSA-SHA3-384",
    "SIGN-ECDSA-SHA3-512",
    "SIGN-RSA-SHA3-224",
    "SIGN-RSA-SHA3-256",
    "SIGN-RSA-SHA3-384",
    "SIGN-RSA-SHA3-512",
    "SIGN-DSA-SHA3-224",
    "SIGN-DSA-SHA3-256",
    "SIGN-DSA-SHA3-384",
    "SIGN-DSA-SHA3-512",
    "SIGN-RSA-RAW",
    "SIGN-RSA-SHA224",
    "SIGN-RSA-RMD160",
    "SIGN-RSA-MD5",
    "SIGN-RSA-MD2",
    "SIGN-DSA-SHA1",
    "SIGN-DSA-SHA224",
    "SIGN-DSA-SHA256",
    "SIGN-DSA-SHA384",
    "SIGN-DSA-SHA512",
    "SIGN-ECDSA-SHA224",
    "SIGN-GOSTR341012-512",
    "SIGN-GOSTR341012-256",
    "SIGN-GOSTR341001",
    "SIGN-GOST-ALL",
    "SIGN-ML-DSA-44",
    "SIGN-ML-DSA-65",
    "SIGN-ML-DSA-87",
];

/// What a name stands for, whatever its case. Curves have an old prefix, too.
pub(super) fn find(name: &str) -> Option<Meaning> {
    let curve = name
        .get(.."CURVE-".len())
        .filter(|prefix| prefix.eq_ignore_ascii_case("CURVE-"))
        .and_then(|prefix| name.get(prefix.len()..))
        .map(|curve| format!("GROUP-{curve}"));
    let name = curve.as_deref().unwrap_or(name);
    if let Some((_, kind, members)) = WHOLE.iter().find(|(whole, ..)| whole.eq_ignore_ascii_case(name)) {
        return Some(Meaning::Whole(*kind, *members));
    }
    Kind::ALL.into_iter().find_map(|kind| {
        let known = kind
            .known()
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(name));
        match known {
            Some(algorithm) => Some(Meaning::One(kind, algorithm.name)),
            None => kind
                .foreign()
                .iter()
                .any(|foreign| foreign.eq_ignore_ascii_case(name))
                .then_some(Meaning::Foreign),
        }
    })
}

/// What a name stands for.
pub(super) enum Meaning {
    /// One algorithm, by its name in the table.
    One(Kind, &'static str),
    /// All of a kind, or some that have a name together.
    Whole(Kind, Members),
    /// Something that no engine here has.
    Foreign,
}

/// Which algorithms of a kind a name with `ALL` means.
#[derive(Clone, Copy)]
pub(super) enum Members {
    /// Removing: all. Adding: those of the keyword NORMAL.
    All,
    /// Those whose name starts or does not start with `GROUP-FFDHE`.
    FiniteField(bool),
    /// None that we know.
    Foreign,
}

const WHOLE: &[(&str, Kind, Members)] = &[
    ("VERS-ALL", Kind::Version, Members::All),
    ("VERS-TLS-ALL", Kind::Version, Members::All),
    ("VERS-DTLS-ALL", Kind::Version, Members::Foreign),
    ("CIPHER-ALL", Kind::Cipher, Members::All),
    ("MAC-ALL", Kind::Mac, Members::All),
    ("KX-ALL", Kind::KeyExchange, Members::All),
    ("GROUP-ALL", Kind::Group, Members::All),
    ("GROUP-DH-ALL", Kind::Group, Members::FiniteField(true)),
    ("GROUP-EC-ALL", Kind::Group, Members::FiniteField(false)),
    ("SIGN-ALL", Kind::Signature, Members::All),
];

/// A cipher suite, taken apart as priority strings do.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) code: u16,
    pub(super) version: &'static str,
    /// None in TLS 1.3, which agrees on it separately.
    pub(super) key_exchange: Option<&'static str>,
    pub(super) cipher: &'static str,
    pub(super) mac: &'static str,
}

const fn tls13(code: u16, cipher: &'static str) -> Suite {
    Suite {
        code,
        version: "VERS-TLS1.3",
        key_exchange: None,
        cipher,
        mac: "AEAD",
    }
}

const fn tls12(code: u16, key_exchange: &'static str, cipher: &'static str, mac: &'static str) -> Suite {
    Suite {
        code,
        version: "VERS-TLS1.2",
        key_exchange: Some(key_exchange),
        cipher,
        mac,
    }
}

/// The suites that an engine of ours may have: RFC 8446, 5289, 5487, 5489, 7251, 7905 and 8442.
pub(super) const SUITES: &[Suite] = &[
    tls13(0x1301, "AES-128-GCM"),
    tls13(0x1302, "AES-256-GCM"),
    tls13(0x1303, "CHACHA20-POLY1305"),
    tls13(0x1304, "AES-128-CCM"),
    tls13(0x1305, "AES-128-CCM-8"),
    tls12(0xc02b, "ECDHE-ECDSA", "AES-128-GCM", "AEAD"),
    tls12(0xc02c, "ECDHE-ECDSA", "AES-256-GCM", "AEAD"),
    tls12(0xcca9, "ECDHE-ECDSA", "CHACHA20-POLY1305", "AEAD"),
    tls12(0xc0ac, "ECDHE-ECDSA", "AES-128-CCM", "AEAD"),
    tls12(0xc0ad, "ECDHE-ECDSA", "AES-256-CCM", "AEAD"),
    tls12(0xc0ae, "ECDHE-ECDSA", "AES-128-CCM-8", "AEAD"),
    tls12(0xc0af, "ECDHE-ECDSA", "AES-256-CCM-8", "AEAD"),
    tls12(0xc02f, "ECDHE-RSA", "AES-128-GCM", "AEAD"),
    tls12(0xc030, "ECDHE-RSA", "AES-256-GCM", "AEAD"),
    tls12(0xcca8, "ECDHE-RSA", "CHACHA20-POLY1305", "AEAD"),
    tls12(0xccac, "ECDHE-PSK", "CHACHA20-POLY1305", "AEAD"),
    tls12(0xd001, "ECDHE-PSK", "AES-128-GCM", "AEAD"),
    tls12(0xd002, "ECDHE-PSK", "AES-256-GCM", "AEAD"),
    tls12(0xc035, "ECDHE-PSK", "AES-128-CBC", "SHA1"),
    tls12(0xc036, "ECDHE-PSK", "AES-256-CBC", "SHA1"),
    tls12(0xc037, "ECDHE-PSK", "AES-128-CBC", "SHA256"),
    tls12(0xc038, "ECDHE-PSK", "AES-256-CBC", "SHA384"),
    tls12(0xccad, "DHE-PSK", "CHACHA20-POLY1305", "AEAD"),
    tls12(0x00aa, "DHE-PSK", "AES-128-GCM", "AEAD"),
    tls12(0x00ab, "DHE-PSK", "AES-256-GCM", "AEAD"),
    tls12(0xccab, "PSK", "CHACHA20-POLY1305", "AEAD"),
    tls12(0x00a8, "PSK", "AES-128-GCM", "AEAD"),
    tls12(0x00a9, "PSK", "AES-256-GCM", "AEAD"),
];
