//! Signing requests and revocation lists.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::fs;

use common::{Pki, authority, client, server};
use qio_creds::pki::{
    Authority, AuthorityTemplate, KeyKind, Name, Overwrite, PkiError, Purpose, Request, RevocationList,
    RevocationListSummary, RevocationReason, Template, Validity, parse_date,
};
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_creds::rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer,
};
use qio_creds::{CertificateSummary, Endpoint};

// ---- requests ----

#[test]
fn a_request_becomes_a_certificate_that_fits_its_key() {
    for kind in [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::Ed25519,
        KeyKind::Rsa2048,
    ] {
        let pki = Pki::new();
        let template = server().key(kind);
        let (request, key) = Request::create(&template).unwrap();
        pki.directory
            .write_request(Purpose::Server, &request, &key, Overwrite::Refuse)
            .unwrap();
        let read = Request::read(&fs::read(pki.file("server-csr.pem")).unwrap()).unwrap();
        assert_eq!(read.summary(), request.summary());

        let names = read.summary().names.iter().cloned();
        let template = names.fold(Template::new(Purpose::Server), Template::name);
        let certificate = pki.authority.sign(&read, &template).unwrap();
        qio_creds::pki::write_certificate(&pki.file("server-cert.pem"), &certificate, Overwrite::Refuse)
            .unwrap();
        let creds = pki.load(Endpoint::Server).unwrap();
        assert!(
            creds.snapshot().warnings().is_empty(),
            "{kind}: {:?}",
            creds.snapshot().warnings()
        );
    }
}

#[test]
fn the_authority_decides_what_the_certificate_says() {
    let ca = authority("CA");
    let asked = "organization = Firm\ncn = host\ndns_name = host\ndns_name = victim.example\nuri = spiffe://x/y\n\
                 tls_www_server\ntls_www_client\nsigning_key\n";
    let template = Template::from_certtool(Purpose::Both, asked).unwrap();
    let (request, _) = Request::create(&template).unwrap();
    assert_eq!(request.summary().subject, "O=Firm,CN=host");
    assert_eq!(
        request.summary().names,
        ["host", "victim.example"].map(|name| name.parse::<Name>().unwrap())
    );
    assert_eq!(request.summary().other_names, ["uri:spiffe://x/y"]);

    let given = Template::new(Purpose::Client).validity(Validity::Days(1));
    let certificate = ca.sign(&request, &given).unwrap();
    let summary = CertificateSummary::from_der(&certificate).unwrap();
    assert_eq!(summary.subject, "O=Firm,CN=host");
    assert!(summary.dns_names.is_empty() && summary.other_names.is_empty());
    assert_eq!(summary.extended_key_usage.unwrap(), ["clientAuth"]);
    assert!(!summary.ca);

    let certificate = ca.sign(&request, &given.common_name("other")).unwrap();
    assert_eq!(
        CertificateSummary::from_der(&certificate).unwrap().subject,
        "CN=other"
    );
}

#[test]
fn a_request_that_is_forged_or_damaged_is_refused() {
    let (request, _) = Request::create(&server()).unwrap();
    let pem = request.pem();
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert!(Request::read(&der).is_ok());
    for at in 0..der.len() {
        let mut broken = der.to_vec();
        broken[at] ^= 0x01;
        match Request::read(&broken) {
            Err(PkiError::Request(_)) => {}
            // The signature does not cover how it is itself wrapped.
            Ok(_) => assert!(at + 90 > der.len(), "a changed byte at {at} went unnoticed"),
            Err(error) => panic!("{error}"),
        }
        assert!(Request::read(&der[..at]).is_err());
    }
    let mut longer = der.to_vec();
    longer.push(0);
    for wrong in [longer, b"nothing".to_vec(), Vec::new(), vec![b'x'; 1 << 20]] {
        assert!(matches!(Request::read(&wrong), Err(PkiError::Request(_))));
    }
}

// ---- revocation ----

fn crl(pki: &Pki) -> RevocationListSummary {
    let file = fs::read(pki.file("ca-crl.pem")).unwrap();
    let der = CertificateRevocationListDer::from_pem_slice(&file).unwrap();
    RevocationListSummary::from_der(&der).unwrap()
}

fn revoke(pki: &Pki, certificate: &CertificateDer<'_>, reason: RevocationReason) -> bool {
    let mut list = RevocationList::open(&pki.directory, &pki.authority).unwrap();
    let new = list.revoke(certificate, reason).unwrap();
    list.publish(30).unwrap();
    new
}

#[test]
fn the_list_grows_and_is_numbered() {
    let pki = Pki::server();
    let certificates = [(); 3].map(|()| pki.authority.issue(&client()).unwrap());
    assert!(revoke(
        &pki,
        certificates[0].certificate(),
        RevocationReason::KeyCompromise
    ));
    let first = crl(&pki);
    assert!(revoke(
        &pki,
        certificates[1].certificate(),
        RevocationReason::Unspecified
    ));
    assert!(!revoke(
        &pki,
        certificates[0].certificate(),
        RevocationReason::Superseded
    ));
    let last = crl(&pki);
    assert_eq!(
        (first.number.as_deref(), last.number.as_deref()),
        (Some("01"), Some("03"))
    );
    assert_eq!(first.revoked, last.revoked[..1], "an entry stays as it was");
    let serials: Vec<_> = last
        .revoked
        .iter()
        .map(|revoked| revoked.serial.clone())
        .collect();
    let expected: Vec<_> = certificates[..2]
        .iter()
        .map(|pair| pair.summary().unwrap().serial)
        .collect();
    assert_eq!(serials, expected);
    assert_eq!(last.revoked[0].reason, RevocationReason::KeyCompromise);
    assert_eq!(last.issuer, certificates[0].summary().unwrap().issuer);
    assert_eq!((last.next_update.unwrap() - last.this_update).whole_days(), 30);
    assert_eq!(
        pki.load(Endpoint::Server)
            .unwrap()
            .snapshot()
            .x509()
            .unwrap()
            .crls()
            .len(),
        1
    );
}

#[test]
fn only_what_the_authority_issued_can_be_revoked() {
    let pki = Pki::new();
    let namesake = Pki::of(Authority::create(&AuthorityTemplate::new("Test CA")).unwrap());
    let mut list = RevocationList::open(&pki.directory, &pki.authority).unwrap();
    for stranger in [
        authority("x").issue(&client()).unwrap().certificate().clone(),
        namesake.authority.issue(&client()).unwrap().certificate().clone(),
        pki.authority.certificate().clone(),
    ] {
        let error = list.revoke(&stranger, RevocationReason::Unspecified).unwrap_err();
        assert!(matches!(error, PkiError::NotIssued { .. }), "{error}");
    }
}

#[test]
fn a_list_that_is_not_ours_is_not_continued_and_not_lost() {
    let pki = Pki::new();
    let other = Pki::of(authority("Another"));
    let pair = other.authority.issue(&client()).unwrap();
    revoke(&other, pair.certificate(), RevocationReason::Unspecified);
    fs::copy(other.file("ca-crl.pem"), pki.file("ca-crl.pem")).unwrap();
    let ours = pki.authority.issue(&client()).unwrap();
    revoke(&pki, ours.certificate(), RevocationReason::Unspecified);
    let file = fs::read(pki.file("ca-crl.pem")).unwrap();
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&file)
        .map(|der| RevocationListSummary::from_der(&der.unwrap()).unwrap())
        .collect();
    let issuers: Vec<_> = lists.iter().map(|list| list.issuer.as_str()).collect();
    assert_eq!(issuers.len(), 2, "{issuers:?}");
    assert!(issuers.contains(&"CN=Another"));
    assert!(lists.iter().all(|list| list.revoked.len() == 1));

    // Our name, but another key.
    let namesake = Pki::of(Authority::create(&AuthorityTemplate::new("Another")).unwrap());
    fs::copy(other.file("ca-crl.pem"), namesake.file("ca-crl.pem")).unwrap();
    let error = RevocationList::open(&namesake.directory, &namesake.authority).unwrap_err();
    assert!(matches!(error, PkiError::RevocationList { .. }), "{error}");
    fs::write(namesake.file("ca-crl.pem"), "nothing").unwrap();
    assert!(RevocationList::open(&namesake.directory, &namesake.authority).is_err());
}

#[test]
fn two_at_a_time_lose_nothing() {
    let pki = Pki::new();
    let pairs: Vec<_> = (0..8).map(|_| pki.authority.issue(&client()).unwrap()).collect();
    std::thread::scope(|scope| {
        for pair in &pairs {
            let pki = &pki;
            scope.spawn(move || revoke(pki, pair.certificate(), RevocationReason::Superseded));
        }
    });
    assert_eq!(crl(&pki).revoked.len(), pairs.len());
    assert_eq!(crl(&pki).number.as_deref(), Some("08"));
}

#[test]
fn an_authority_after_qemus_recipe_can_revoke() {
    // Its key usage has no cRLSign; QEMU and qio take its lists, OpenSSL does not.
    let template =
        AuthorityTemplate::from_certtool("cn = Name of your organization\nca\ncert_signing_key\n").unwrap();
    let pki = Pki::of(Authority::create(&template).unwrap());
    let pair = pki.authority.issue(&client()).unwrap();
    assert!(revoke(&pki, pair.certificate(), RevocationReason::Unspecified));
    assert_eq!(crl(&pki).revoked.len(), 1);
}

/// hostile.md CRED-14: what we read to print it, or to go on with it, with any one byte changed or cut off anywhere.
#[test]
fn cred_14_damaged_lists_are_an_answer_and_never_a_crash() {
    let pki = Pki::new();
    for reason in [RevocationReason::Unspecified, RevocationReason::KeyCompromise] {
        revoke(
            &pki,
            pki.authority.issue(&client()).unwrap().certificate(),
            reason,
        );
    }
    let file = fs::read(pki.file("ca-crl.pem")).unwrap();
    let der = CertificateRevocationListDer::from_pem_slice(&file).unwrap();
    let mut continued = 0;
    for at in 0..der.len() {
        assert!(RevocationListSummary::from_der(&der[..at]).is_err());
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = der.to_vec();
            damaged[at] ^= change;
            let _ = RevocationListSummary::from_der(&damaged);
            pki.write("ca-crl.pem", pem_of(&damaged));
            continued += usize::from(RevocationList::open(&pki.directory, &pki.authority).is_ok());
        }
    }
    // A changed issuer makes it somebody else's list, which is kept. Everything else is under the signature.
    assert!(continued < 200, "{continued} damaged lists were gone on with");
}

fn pem_of(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("X509 CRL", der))
}

// ---- templates ----

#[test]
fn a_template_must_fit_its_purpose() {
    let fit = "cn = x\ntls_www_server\nsigning_key\nencryption_key\n";
    assert!(Template::from_certtool(Purpose::Server, fit).is_ok());
    for (purpose, text, missing) in [
        (Purpose::Client, fit, "tls_www_client"),
        (Purpose::Both, fit, "tls_www_client"),
        (
            Purpose::Server,
            "cn = x\ntls_www_client\nsigning_key\n",
            "tls_www_server",
        ),
        (Purpose::Server, "cn = x\nencryption_key\n", "signing_key"),
        (Purpose::Server, "cn = x\nca\n", "`ca`"),
    ] {
        let error = Template::from_certtool(purpose, text).unwrap_err().to_string();
        assert!(error.contains(missing), "{text}: {error}");
    }
    for (text, missing) in [
        ("cn = x\n", "`ca`"),
        ("cn = x\nca\nsigning_key\n", "cert_signing_key"),
        ("ca\ncert_signing_key\n", "cn = NAME"),
    ] {
        let error = AuthorityTemplate::from_certtool(text).unwrap_err().to_string();
        assert!(error.contains(missing), "{text}: {error}");
    }
}

#[test]
fn dates_and_days_go_together() {
    let ca = authority("CA");
    let moment = |text| parse_date(text).unwrap();
    let dates = |validity| {
        let summary = ca.issue(&server().validity(validity)).unwrap().summary().unwrap();
        (summary.not_before, summary.not_after)
    };
    let (begin, end) = (moment("2024-05-06 07:08:09"), moment("2034-05-06 07:08"));
    let exact = Validity::from_parts(Some(begin), Some(end), None).unwrap();
    assert_eq!(dates(exact), (begin, end));
    let (from, until) = dates(Validity::from_parts(Some(begin), None, Some(10)).unwrap());
    assert_eq!(from, begin);
    assert_eq!((until - time::OffsetDateTime::now_utc()).whole_days(), 9);
    let (_, until) = dates(Validity::from_parts(None, Some(end), None).unwrap());
    assert_eq!(until, end);
    assert_eq!(Validity::from_parts(None, None, None), None);
}
