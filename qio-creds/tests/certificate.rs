//! What is read out of certificates, and that damaged ones are only errors.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::net::IpAddr;

use qio_creds::pki::{Authority, AuthorityTemplate, KeyKind, Purpose, Template};
use qio_creds::{CertificateError, CertificateSummary, KeyAlgorithm};
use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString, UniversalString};
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

fn summary_of(attributes: &[(&[u64], DnValue)]) -> CertificateSummary {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (oid, value) in attributes {
        params
            .distinguished_name
            .push(DnType::CustomDnType(oid.to_vec()), value.clone());
    }
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    CertificateSummary::from_der(certificate.der()).unwrap()
}

const CN: &[u64] = &[2, 5, 4, 3];

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.into())
}

fn subject_cn(value: DnValue) -> String {
    summary_of(&[(CN, value)]).subject
}

#[test]
fn a_summary_says_what_was_asked_for() {
    let ca = Authority::create(&AuthorityTemplate::new("Example CA").organization("Example")).unwrap();
    let template = Template::new(Purpose::Both)
        .organization("Example")
        .name("host1.example.org".parse().unwrap())
        .name("*.host1.example.org".parse().unwrap())
        .name("192.0.2.7".parse().unwrap())
        .name("[2001:db8::1]".parse().unwrap());
    let summary = ca.issue(&template).unwrap().summary().unwrap();
    assert_eq!(summary.subject, "O=Example,CN=host1.example.org");
    assert_eq!(summary.issuer, "O=Example,CN=Example CA");
    assert_eq!(summary.common_name.as_deref(), Some("host1.example.org"));
    assert_eq!(summary.dns_names, ["host1.example.org", "*.host1.example.org"]);
    let addresses: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(summary.ip_addresses, addresses);
    assert_eq!(summary.key, KeyAlgorithm::EcdsaP256);
    assert!(!summary.ca);
    assert_eq!(
        summary.key_usage.as_deref(),
        Some(["digitalSignature", "keyEncipherment"].as_slice())
    );
    assert_eq!(summary.extended_key_usage.unwrap(), ["serverAuth", "clientAuth"]);
    assert_eq!(summary.sha256.len(), 64);
    assert_eq!(summary.serial.len(), 32);

    let summary = ca.pair().summary().unwrap();
    assert!(summary.ca);
    assert_eq!(
        summary.key_usage.as_deref(),
        Some(["keyCertSign", "cRLSign"].as_slice())
    );
    assert_eq!(summary.extended_key_usage, None);
}

#[test]
fn key_kinds_and_sizes_are_told() {
    for (kind, expected) in [
        (KeyKind::EcdsaP256, "ECDSA P-256"),
        (KeyKind::EcdsaP384, "ECDSA P-384"),
        (KeyKind::Ed25519, "Ed25519"),
        (KeyKind::Rsa2048, "RSA 2048"),
        (KeyKind::Rsa3072, "RSA 3072"),
    ] {
        let ca = Authority::create(&AuthorityTemplate::new("CA").key(kind)).unwrap();
        assert_eq!(ca.pair().summary().unwrap().key.to_string(), expected);
    }
}

#[test]
fn a_name_counts_only_where_there_are_no_alternative_names() {
    assert_eq!(summary_of(&[(CN, utf8("host1"))]).names(), ["host1"]);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "host1");
    params.subject_alt_names = vec![SanType::URI("spiffe://x".try_into().unwrap())];
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let summary = CertificateSummary::from_der(certificate.der()).unwrap();
    assert!(summary.names().is_empty());
    assert_eq!(summary.other_names, ["uri:spiffe://x"]);
}

// The expected spellings are those that gnutls_x509_crt_get_dn of GnuTLS 3.7.9 gave for the same names.

#[test]
fn names_are_spelled_in_the_certificates_order_with_gnutls_words() {
    let ia5 = |text: &str| DnValue::Ia5String(Ia5String::try_from(text).unwrap());
    let printable = |text: &str| DnValue::PrintableString(PrintableString::try_from(text).unwrap());
    let summary = summary_of(&[
        (&[2, 5, 4, 6], printable("DE")),
        (&[2, 5, 4, 10], utf8("Acme, Inc.")),
        (CN, utf8("host")),
        (&[1, 2, 840, 113549, 1, 9, 1], ia5("a@b.c")),
        (&[2, 5, 4, 4], utf8("Sur")),
        (&[2, 5, 4, 44], utf8("III")),
        (&[0, 9, 2342, 19200300, 100, 1, 25], ia5("example")),
        (&[0, 9, 2342, 19200300, 100, 1, 1], utf8("u1")),
        (&[2, 5, 4, 5], printable("12")),
        (&[2, 5, 4, 97], utf8("org")),
    ]);
    assert_eq!(
        summary.subject,
        "C=DE,O=Acme\\, Inc.,CN=host,EMAIL=a@b.c,surName=Sur,generationQualifier=III,DC=example,UID=u1,\
         serialNumber=12,2.5.4.97=#0c036f7267"
    );
}

#[test]
fn special_characters_are_escaped_as_gnutls_does() {
    assert_eq!(subject_cn(utf8("#x;y<z>\"q\"\\w")), r##"CN=\#x\;y\<z\>\"q\"\\w"##);
    assert_eq!(subject_cn(utf8(" host #1 ")), r"CN=\ host #1\ ");
    assert_eq!(subject_cn(utf8(" ")), r"CN=\ ");
    assert_eq!(subject_cn(utf8("a+b=c")), r"CN=a\+b=c");
    assert_eq!(subject_cn(utf8("ünï")), "CN=ünï");
}

#[test]
fn string_types_are_shown_as_gnutls_shows_them() {
    let ia5 = DnValue::Ia5String(Ia5String::try_from("ia5").unwrap());
    assert_eq!(subject_cn(ia5), "CN=#1603696135");
    let bmp = DnValue::BmpString(BmpString::try_from("bmp").unwrap());
    assert_eq!(subject_cn(bmp), "CN=bmp");
    let t61 = DnValue::TeletexString(TeletexString::try_from("t61").unwrap());
    assert_eq!(subject_cn(t61), "CN=t61");
    let universal = DnValue::UniversalString(UniversalString::try_from("u").unwrap());
    assert_eq!(subject_cn(universal), r"CN=\#00000075");
    let country = summary_of(&[(&[2, 5, 4, 6], utf8("DE"))]).subject;
    assert_eq!(country, "C=#0c024445");
}

#[test]
fn cred_15_a_nul_in_a_name_never_ends_it() {
    assert_eq!(
        subject_cn(utf8("good.example\0.evil.example")),
        "CN=#0c1a676f6f642e6578616d706c65002e6576696c2e6578616d706c65"
    );
}

#[test]
fn control_characters_never_reach_a_terminal() {
    let summary = summary_of(&[(CN, utf8("a\nb\u{1b}[31m\u{202e}c"))]);
    let text = summary.to_string();
    assert!(!text.contains(['\n', '\u{1b}', '\u{202e}']), "{text:?}");
    assert!(text.contains(r"a\nb\u{1b}[31m"), "{text}");
}

#[test]
fn every_cut_of_a_certificate_is_an_error() {
    let ca = Authority::create(&AuthorityTemplate::new("CA")).unwrap();
    let der = ca.certificate();
    for end in 0..der.len() {
        assert_eq!(
            CertificateSummary::from_der(&der[..end]),
            Err(CertificateError::Malformed),
            "cut at {end}"
        );
    }
    let mut longer = der.to_vec();
    longer.extend([0, 0]);
    assert_eq!(
        CertificateSummary::from_der(&longer),
        Err(CertificateError::TrailingBytes(2))
    );
}

#[test]
fn no_changed_byte_of_a_certificate_panics() {
    let ca = Authority::create(&AuthorityTemplate::new("CA").organization("O")).unwrap();
    let template = Template::new(Purpose::Both)
        .name("h".parse().unwrap())
        .name("::1".parse().unwrap());
    let der = ca.issue(&template).unwrap().certificate().to_vec();
    let mut read = 0;
    for position in 0..der.len() {
        for value in [
            0x00,
            0x01,
            0x30,
            0x7f,
            0x80,
            0x84,
            0xff,
            der[position].wrapping_add(1),
        ] {
            let mut damaged = der.clone();
            damaged[position] = value;
            if let Ok(summary) = CertificateSummary::from_der(&damaged) {
                let _ = (summary.to_string(), summary.names());
                read += 1;
            }
        }
    }
    assert!(read > 0, "some changes leave it readable");
}
