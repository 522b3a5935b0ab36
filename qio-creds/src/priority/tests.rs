use super::*;

const TLS13_AES_128_GCM: u16 = 0x1301;
const TLS13_AES_256_GCM: u16 = 0x1302;
const TLS13_CHACHA: u16 = 0x1303;
const ECDHE_RSA_AES_128_GCM: u16 = 0xc02f;
const ECDHE_ECDSA_AES_256_GCM: u16 = 0xc02c;
const ECDHE_PSK_CHACHA: u16 = 0xccac;
const P256: u16 = 23;
const P384: u16 = 24;
const X25519: u16 = 29;
const X25519_MLKEM768: u16 = 0x11ec;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

fn no_files() -> PolicyFiles {
    PolicyFiles::new([])
}

#[track_caller]
fn parse(text: &str) -> Priority {
    Priority::parse(text, &no_files()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn error(text: &str) -> String {
    Priority::parse(text, &no_files()).unwrap_err().to_string()
}

#[test]
fn every_name_in_a_keyword_is_in_the_tables() {
    for name in [
        "NORMAL",
        "LEGACY",
        "PFS",
        "SECURE128",
        "SECURE192",
        "SUITEB128",
        "SUITEB192",
    ] {
        let keyword = keyword::find(name).unwrap();
        for kind in Kind::ALL {
            for name in keyword.members(kind) {
                assert!(kind.known().iter().any(|known| known.name == *name), "{name}");
            }
        }
    }
    for suite in SUITES {
        let known = |kind: Kind, name| kind.known().iter().any(|known| known.name == name);
        assert!(known(Kind::Version, suite.version), "{suite:?}");
        assert!(known(Kind::Cipher, suite.cipher), "{suite:?}");
        assert!(known(Kind::Mac, suite.mac), "{suite:?}");
        assert!(
            suite
                .key_exchange
                .is_none_or(|name| known(Kind::KeyExchange, name)),
            "{suite:?}"
        );
    }
}

#[test]
fn normal_leaves_the_order_to_the_engine() {
    let normal = parse("NORMAL");
    assert_eq!(
        normal.cipher_suite(TLS13_AES_128_GCM),
        normal.cipher_suite(TLS13_CHACHA)
    );
    assert_eq!(normal.group(P256), normal.group(X25519_MLKEM768));
    assert!(normal.allows_version(TLS12) && normal.allows_version(TLS13));
    assert!(!normal.allows_version(0x0302));
    assert!(
        normal.cipher_suite(ECDHE_PSK_CHACHA).is_none(),
        "not with certificates"
    );
    assert_eq!(
        normal.cipher_suite(0x009c),
        None,
        "RSA key exchange is in no engine"
    );
    assert_eq!(normal.profile(), Profile::Low);
    for same in [
        "normal",
        "PERFORMANCE",
        "NORMAL:%COMPAT",
        "NORMAL:%SERVER_PRECEDENCE",
    ] {
        assert_eq!(parse(same).chosen, normal.chosen, "{same}");
    }
}

#[test]
fn what_is_added_by_name_is_preferred_in_that_order() {
    let priority = parse(
        "NONE:+VERS-TLS1.3:+CHACHA20-POLY1305:+AES-256-GCM:+AES-128-GCM:+AEAD:+GROUP-SECP384R1:+GROUP-X25519:+SIGN-ALL",
    );
    assert_eq!(
        priority.cipher_suites(),
        [TLS13_CHACHA, TLS13_AES_256_GCM, TLS13_AES_128_GCM]
    );
    assert_eq!(priority.groups(), [P384, X25519]);
    assert!(priority.group(P384) < priority.group(X25519));
    assert_eq!(priority.group(P256), None);

    let last = parse("NORMAL:-AES-128-GCM:+AES-128-GCM");
    assert!(last.cipher_suite(TLS13_AES_128_GCM) > last.cipher_suite(TLS13_CHACHA));
    let stays = parse("NORMAL:+AES-128-GCM");
    assert_eq!(
        stays.cipher_suite(TLS13_AES_128_GCM),
        stays.cipher_suite(TLS13_CHACHA)
    );
}

#[test]
fn minus_and_exclamation_mark_take_away() {
    for text in [
        "NORMAL:-VERS-TLS1.3",
        "NORMAL:!VERS-TLS1.3",
        "NORMAL: -vers-tls1.3",
    ] {
        let priority = parse(text);
        assert!(!priority.allows_version(TLS13), "{text}");
        assert_eq!(priority.cipher_suite(TLS13_AES_256_GCM), None, "{text}");
        assert!(priority.cipher_suite(ECDHE_RSA_AES_128_GCM).is_some(), "{text}");
    }
    let priority = parse("NORMAL:-ECDHE-RSA:-CHACHA20-POLY1305:-GROUP-X25519");
    assert_eq!(priority.cipher_suite(ECDHE_RSA_AES_128_GCM), None);
    assert!(priority.cipher_suite(ECDHE_ECDSA_AES_256_GCM).is_some());
    assert_eq!(priority.cipher_suite(TLS13_CHACHA), None);
    assert_eq!(priority.group(X25519), None);
    assert!(priority.group(P256).is_some());
}

#[test]
fn names_for_all_of_a_kind() {
    let priority = parse("NORMAL:-CURVE-ALL:+CURVE-X25519:-CIPHER-ALL:+AES-256-GCM");
    assert_eq!(priority.groups(), [X25519]);
    assert_eq!(priority.cipher_suites(), [TLS13_AES_256_GCM, 0xc02c, 0xc030]);
    let priority = parse("NORMAL:-GROUP-DH-ALL");
    assert_eq!(priority.group(256), None);
    assert!(priority.group(P256).is_some());
    let priority = parse("NORMAL:-GROUP-EC-ALL");
    assert!(priority.group(256).is_some());
    assert_eq!(priority.group(P256), None);
    let everything =
        parse("NONE:+VERS-ALL:+CIPHER-ALL:+MAC-ALL:+KX-ALL:+GROUP-ALL:+SIGN-ALL:+CTYPE-ALL:+COMP-ALL");
    assert_eq!(
        everything.cipher_suites().len(),
        parse("NORMAL").cipher_suites().len()
    );
}

#[test]
fn levels() {
    let secure = parse("SECURE256");
    assert_eq!(secure.chosen, parse("SECURE192").chosen);
    assert_eq!(secure.cipher_suite(TLS13_AES_128_GCM), None);
    assert!(secure.cipher_suite(TLS13_AES_256_GCM).is_some());
    assert_eq!(secure.group(X25519), None);
    assert_eq!(secure.signature_scheme(0x0403), None);
    assert!(secure.signature_scheme(0x0503).is_some());
    assert_eq!(secure.profile(), Profile::High);
    assert_eq!(parse("SECURE256:%PROFILE_ULTRA").profile().min_rsa_bits(), 8192);
    assert!(!parse("PFS").allows_tickets() && !parse("NORMAL:%NO_TICKETS").allows_tickets());
    assert!(parse("NORMAL").allows_tickets());
    assert!(parse("NORMAL:%FORCE_SESSION_HASH").requires_extended_master_secret());
    let suite_b = parse("SUITEB128");
    assert!(!suite_b.allows_version(TLS13));
    assert_eq!(suite_b.cipher_suites().len(), 2);

    let both = parse("SECURE256:NORMAL");
    assert!(both.cipher_suite(TLS13_AES_256_GCM) < both.cipher_suite(TLS13_AES_128_GCM));
}

#[test]
fn what_cannot_be_honoured_is_named() {
    for (text, token) in [
        ("FOO", "'FOO'"),
        ("", "''"),
        ("NORMAL:", "''"),
        ("NORMAL::+AES-128-GCM", "''"),
        ("NORMAL:NONE", "'NONE'"),
        ("NORMAL,-VERS-TLS1.3", "'NORMAL,-VERS-TLS1.3'"),
        ("NORMAL:+AES-512-GCM", "'+AES-512-GCM'"),
        ("NORMAL:-AES-512-GCM", "'-AES-512-GCM'"),
        ("NORMAL:AES-128-GCM", "'AES-128-GCM'"),
        ("NORMAL:%NEWOPTION", "'%NEWOPTION'"),
        ("NORMAL:%VERIFY_ALLOW_BROKEN", "'%VERIFY_ALLOW_BROKEN'"),
        ("NORMAL:%DISABLE_WILDCARDS", "'%DISABLE_WILDCARDS'"),
        ("NORMAL:-CTYPE-X509", "'-CTYPE-X509'"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.1", "protocol version"),
        ("NONE", "protocol version"),
        ("-VERS-TLS1.3", "protocol version"),
        ("NORMAL:-CIPHER-ALL:+3DES-CBC", "cipher suite"),
        ("NORMAL:-AEAD", "cipher suite"),
        ("NORMAL:-VERS-TLS1.3:-KX-ALL:+RSA", "cipher suite"),
        ("NORMAL:-GROUP-ALL", "group"),
        ("NORMAL:-SIGN-ALL", "signature"),
    ] {
        let error = error(text);
        assert!(error.contains(token), "{text}: {error}");
    }
}

#[test]
fn what_no_engine_has_may_come_and_go() {
    let priority =
        parse("NORMAL:-3DES-CBC:-VERS-SSL3.0:!MD5:-CAMELLIA-128-CBC:-DHE-DSS:-SIGN-RSA-SHA1:-COMP-DEFLATE");
    assert!(priority.unavailable().is_empty());
    assert_eq!(priority.chosen, parse("NORMAL").chosen);
    let priority = parse("NORMAL:+ARCFOUR-128:+VERS-TLS1.1:+ANON-ECDH:+CTYPE-OPENPGP");
    assert_eq!(
        priority.unavailable(),
        ["+ARCFOUR-128", "+VERS-TLS1.1", "+ANON-ECDH", "+CTYPE-OPENPGP"]
    );
}

#[test]
fn pre_shared_keys_bring_their_key_exchange() {
    let priority = Priority::parse_for_psk("NORMAL:-VERS-TLS1.3", &no_files()).unwrap();
    assert!(priority.cipher_suite(ECDHE_PSK_CHACHA).is_some());
    assert_eq!(priority.to_string(), "NORMAL:-VERS-TLS1.3");
}

fn with_file(contents: &str, text: &str) -> Result<Priority, PriorityError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gnutls.config");
    std::fs::write(&file, contents).unwrap();
    Priority::parse(text, &PolicyFiles::new([dir.path().join("missing"), file]))
}

#[test]
fn policies_are_looked_up_with_fall_back_in_order() {
    let file = "# a comment\nSYSTEM=NORMAL:-VERS-TLS1.3\n\nQEMU = SECURE192\n";
    let level = |text: &str| with_file(file, text).unwrap();
    assert_eq!(level("@SYSTEM").chosen, parse("NORMAL:-VERS-TLS1.3").chosen);
    assert_eq!(level("@QEMU,SYSTEM").chosen, parse("SECURE192").chosen);
    assert_eq!(
        level("@LIBVIRT,SYSTEM").chosen,
        parse("NORMAL:-VERS-TLS1.3").chosen
    );
    assert_eq!(
        level("@SYSTEM:-AES-128-GCM").chosen,
        parse("NORMAL:-VERS-TLS1.3:-AES-128-GCM").chosen
    );
    let error = with_file(file, "@LIBVIRT,NOBODY").unwrap_err().to_string();
    assert!(
        error.contains("@LIBVIRT,NOBODY") && error.contains("gnutls.config"),
        "{error}"
    );
    let error = Priority::parse("@SYSTEM", &PolicyFiles::new(["/no/file".into()])).unwrap_err();
    assert!(error.to_string().contains("/no/file"), "{error}");
    let error = with_file("A=@B\nB=@A:+AEAD\n", "@A").unwrap_err();
    assert!(matches!(error, PriorityError::PolicyLoop { .. }), "{error}");
    let psk = Priority::parse_for_psk("@SYSTEM", &PolicyFiles::new(["/no/file".into()])).unwrap_err();
    assert!(psk.to_string().contains("'@SYSTEM'"), "{psk}");
}

/// As the crypto-policies of current Fedora and RHEL write it.
#[test]
fn allow_lists_say_what_there_is() {
    let file = "[global]\noverride-mode = allowlist\n\n[overrides]\nsecure-hash = SHA256\ntls-enabled-mac = AEAD\n\
        tls-enabled-group = GROUP-SECP384R1\nsecure-sig = ECDSA-SECP384R1-SHA384\nsecure-sig-for-cert = rsa-sha256\n\
        enabled-curve = SECP384R1\ntls-enabled-cipher = AES-256-GCM\ntls-enabled-kx = ECDHE-ECDSA\n\
        enabled-version = TLS1.3\nmin-verification-profile = medium\n\n[priorities]\nSYSTEM=NONE\n";
    let priority = with_file(file, "@QEMU,SYSTEM").unwrap();
    assert_eq!(priority.cipher_suites(), [TLS13_AES_256_GCM]);
    assert_eq!(priority.groups(), [P384]);
    assert_eq!(priority.signature_schemes(), [0x0503]);
    assert_eq!(priority.profile(), Profile::Medium);

    let file = "[overrides]\ntls-disabled-cipher = AES-128-GCM\ndisabled-version = TLS1.3\n[priorities]\nSYSTEM=NORMAL\n";
    let priority = with_file(file, "@SYSTEM").unwrap();
    assert!(!priority.allows_version(TLS13));
    assert_eq!(priority.cipher_suite(ECDHE_RSA_AES_128_GCM), None);
}
