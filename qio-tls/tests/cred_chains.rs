//! Chains and revocation lists made to hurt: hostile.md CRED-09 to CRED-14.
//!
//! Budgets are seen by the error that they end in, not by a clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use qio_creds::rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use qio_creds::{Endpoint, Identity, PrivateKey, TlsCreds};
use qio_tls::{CertificateProblem, Handshake, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, RevokedCertParams,
    SanType, SerialNumber,
};
use support::{HOST, shake};
use time::{Duration, OffsetDateTime};

// ---- making them ----

/// An authority, or somebody who acts like one.
struct Ca {
    params: CertificateParams,
    key: KeyPair,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    fn constrained(name: &str, permitted: &[&str], excluded: &[&str]) -> Self {
        let subtrees = |names: &[&str]| {
            names
                .iter()
                .map(|name| GeneralSubtree::DnsName((*name).to_owned()))
                .collect()
        };
        let mut ca = Self::new(name);
        ca.params.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtrees(permitted),
            excluded_subtrees: subtrees(excluded),
        });
        ca
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Its certificate, signed by itself.
    fn root(&self) -> CertificateDer<'static> {
        self.params.self_signed(&self.key).unwrap().der().clone()
    }

    /// Its certificate, signed by another.
    fn under(&self, other: &Ca) -> CertificateDer<'static> {
        self.params
            .signed_by(&self.key, &other.issuer())
            .unwrap()
            .der()
            .clone()
    }

    fn issue(&self, params: &CertificateParams) -> (CertificateDer<'static>, PrivateKey) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (
            certificate.der().clone(),
            PrivateKey::from(PrivateKeyDer::from(key)),
        )
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// A server's certificate with these names.
fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("leaf");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = names.iter().map(|name| dns(name)).collect();
    params
}

/// What a client that trusts `anchors` says of a server with `issuer`'s certificate and this chain.
fn verdict(
    issuer: &Ca,
    params: &CertificateParams,
    intermediates: &[CertificateDer<'static>],
    anchors: &[CertificateDer<'static>],
    name: &str,
) -> Result<(), TlsError> {
    let (certificate, key) = issuer.issue(params);
    let chain = [&[certificate], intermediates].concat();
    let server = TlsCreds::builder(Endpoint::Server)
        .sanity_check(false)
        .verify_peer(false)
        .ca(anchors.to_vec())
        .identity(Identity::new(chain, key))
        .build()
        .unwrap();
    let client = TlsCreds::builder(Endpoint::Client)
        .sanity_check(false)
        .ca(anchors.to_vec())
        .build()
        .unwrap();
    let client = Handshake::client(&client.for_client().unwrap(), Some(name)).unwrap();
    let server = Handshake::server(&server.for_server().unwrap()).unwrap();
    shake(client, server, usize::MAX).client.map(drop)
}

#[track_caller]
fn problem(result: Result<(), TlsError>) -> CertificateProblem {
    match result {
        Err(TlsError::PeerCertificate { problem, .. }) => problem,
        other => panic!("expected a refused certificate, got {other:?}"),
    }
}

#[track_caller]
fn unfit(result: Result<(), TlsError>, reason: &str) {
    match problem(result) {
        CertificateProblem::Unfit(what) if what.contains(reason) => {}
        other => panic!("expected {reason}, got {other:?}"),
    }
}

// ---- budgets ----

/// hostile.md CRED-09: the cost of name constraints is constraints times names. It ends at webpki's budget of 250,000
/// comparisons. One certificate has room for some five thousand, so this chain has two such authorities.
#[test]
fn cred_09_huge_constraint_lists_end_at_the_budget() {
    let trees: Vec<_> = (0..5_000).map(|n| format!("n{n}")).collect();
    let trees: Vec<_> = trees.iter().map(String::as_str).collect();
    let root = Ca::constrained("root", &[], &trees);
    let middle = Ca::constrained("middle", &[], &trees);
    let chain = [middle.under(&root)];
    let ask = |names: &[&str]| verdict(&middle, &leaf(names), &chain, &[root.root()], HOST);
    // One name is looked up in all of them, and passes.
    ask(&[HOST]).unwrap();
    // A hundred are too many.
    let names: Vec<_> = (0..100).map(|n| format!("h{n}.example.com")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).chain([HOST]).collect();
    unfit(ask(&names), "MaximumNameConstraintComparisonsExceeded");
}

/// hostile.md CRED-10: fifteen authorities of one name, each of which might have signed each other. The search for a
/// path ends at webpki's budget of 100 signatures.
#[test]
fn cred_10_a_maze_of_cross_signatures_ends_at_the_budget() {
    let anchor = Ca::new("maze");
    let authorities: Vec<_> = (0..15).map(|_| Ca::new("maze")).collect();
    let signed_by_another = |(n, ca): (usize, &Ca)| ca.under(&authorities[(n + 1) % authorities.len()]);
    let maze: Vec<_> = authorities.iter().enumerate().map(signed_by_another).collect();
    let result = verdict(&authorities[0], &leaf(&[HOST]), &maze, &[anchor.root()], HOST);
    unfit(result, "MaximumSignatureChecksExceeded");
}

// ---- shapes ----

/// hostile.md CRED-11: authorities that have signed each other.
#[test]
fn cred_11_cycles_end() {
    let (root, a, b) = (Ca::new("root"), Ca::new("a"), Ca::new("b"));
    let stranger = Ca::new("stranger");
    let cycle = [a.under(&b), b.under(&a)];
    let nowhere = verdict(&a, &leaf(&[HOST]), &cycle, &[stranger.root()], HOST);
    assert!(matches!(
        problem(nowhere),
        CertificateProblem::UnknownIssuer { .. }
    ));
    let itself = verdict(&a, &leaf(&[HOST]), &[a.root()], &[stranger.root()], HOST);
    assert!(matches!(
        problem(itself),
        CertificateProblem::UnknownIssuer { .. }
    ));
    // A way out of the cycle is found, wherever it stands.
    let way_out = [a.under(&b), b.under(&a), a.under(&root)];
    verdict(&a, &leaf(&[HOST]), &way_out, &[root.root()], HOST).unwrap();
}

/// hostile.md CRED-11: long chains are refused; none is a crash.
#[test]
fn cred_11_long_chains_are_refused() {
    let root = Ca::new("root");
    let mut authorities = vec![root];
    let mut chain: Vec<CertificateDer<'static>> = Vec::new();
    let mut accepted = 0;
    for n in 1..=200 {
        let ca = Ca::new(&format!("{n}"));
        chain.insert(0, ca.under(authorities.last().unwrap()));
        authorities.push(ca);
        if n > 20 && n % 30 != 0 && n != 200 {
            continue;
        }
        let anchors = [authorities[0].root()];
        match verdict(
            authorities.last().unwrap(),
            &leaf(&[HOST]),
            &chain,
            &anchors,
            HOST,
        ) {
            Ok(()) => accepted = n,
            Err(TlsError::PeerCertificate { .. }) => {}
            // More than a handshake may have.
            Err(error) => assert!(n > 100, "{n} should fit into a handshake: {error}"),
        }
    }
    assert!((1..16).contains(&accepted), "chains of {accepted} are accepted");
}

// ---- name constraints ----

/// hostile.md CRED-12: names are compared without regard to case.
#[test]
fn cred_12_excluded_names_are_excluded_in_any_case() {
    let root = Ca::new("root");
    for (tree, name) in [
        ("example.com", "EXAMPLE.com"),
        ("EXAMPLE.COM", "vmhost.example.com"),
        ("example.com", "VMHOST.Example.Com"),
    ] {
        let middle = Ca::constrained("middle", &[], &[tree]);
        let result = verdict(
            &middle,
            &leaf(&[name]),
            &[middle.under(&root)],
            &[root.root()],
            name,
        );
        unfit(result, "NameConstraintViolation");
    }
    let middle = Ca::constrained("middle", &[], &["other.com"]);
    let chain = [middle.under(&root)];
    verdict(
        &middle,
        &leaf(&["EXAMPLE.com"]),
        &chain,
        &[root.root()],
        "example.com",
    )
    .unwrap();
}

/// hostile.md CRED-12: what one authority permits is enforced although another above it only excludes.
#[test]
fn cred_12_permitted_names_count_below_an_authority_that_only_excludes() {
    let root = Ca::constrained("root", &[], &["secret.com"]);
    let middle = Ca::constrained("middle", &["example.com"], &[]);
    let chain = [middle.under(&root)];
    let ask = |names: &[&str], name| verdict(&middle, &leaf(names), &chain, &[root.root()], name);
    ask(&[HOST], HOST).unwrap();
    unfit(ask(&["evil.org"], "evil.org"), "NameConstraintViolation");
    unfit(ask(&[HOST, "secret.com"], HOST), "NameConstraintViolation");
}

/// Near hostile.md CRED-12: the common name stands in for alternative names, so it must not be a way around
/// constraints on them.
#[test]
fn cred_12_a_common_name_does_not_evade_constraints() {
    let root = Ca::new("root");
    let mut params = leaf(&[]);
    params.distinguished_name = named("evil.org");
    let free = Ca::new("middle");
    verdict(&free, &params, &[free.under(&root)], &[root.root()], "evil.org").unwrap();
    for middle in [
        Ca::constrained("middle", &["example.com"], &[]),
        Ca::constrained("middle", &[], &["evil.org"]),
    ] {
        let result = verdict(
            &middle,
            &params,
            &[middle.under(&root)],
            &[root.root()],
            "evil.org",
        );
        assert!(result.is_err(), "an intermediate's constraint was evaded");
        let result = verdict(&middle, &params, &[], &[middle.root()], "evil.org");
        assert!(result.is_err(), "an anchor's constraint was evaded");
    }
}

/// hostile.md CRED-13: a wildcard reaches out of a subtree that is narrower than itself.
#[test]
fn cred_13_wildcards_do_not_leave_their_subtree() {
    let root = Ca::new("root");
    let narrow = Ca::constrained("middle", &["vmhost.example.com"], &[]);
    let chain = [narrow.under(&root)];
    let result = verdict(&narrow, &leaf(&["*.example.com"]), &chain, &[root.root()], HOST);
    unfit(result, "NameConstraintViolation");
    let excluding = Ca::constrained("middle", &[], &["vmhost.example.com"]);
    let chain = [excluding.under(&root)];
    let result = verdict(
        &excluding,
        &leaf(&["*.example.com"]),
        &chain,
        &[root.root()],
        HOST,
    );
    unfit(result, "NameConstraintViolation");
    let wide = Ca::constrained("middle", &["example.com"], &[]);
    let chain = [wide.under(&root)];
    verdict(&wide, &leaf(&["*.example.com"]), &chain, &[root.root()], HOST).unwrap();
}

/// A constraint that permits the URIs of `.example.com` only, as `openssl req -addext nameConstraints=...` writes it:
/// rcgen has no constraints on URIs.
const PERMITTED_URI: [u8; 20] = *b"\x30\x12\xa0\x10\x30\x0e\x86\x0c.example.com";

/// hostile.md CRED-13: constraints on URIs are not ignored. webpki does not know what they say, so it takes no
/// certificate below them that has a URI, and any that has none.
#[test]
fn cred_13_constraints_on_uris_are_not_ignored() {
    let root = Ca::new("root");
    let mut middle = Ca::new("middle");
    let mut constraint = CustomExtension::from_oid_content(&[2, 5, 29, 30], PERMITTED_URI.to_vec());
    constraint.set_criticality(true);
    middle.params.custom_extensions = vec![constraint];
    let chain = [middle.under(&root)];
    let mut params = leaf(&[HOST]);
    verdict(&middle, &params, &chain, &[root.root()], HOST).unwrap();
    params
        .subject_alt_names
        .push(SanType::URI("https://evil.org/".try_into().unwrap()));
    let result = verdict(&middle, &params, &chain, &[root.root()], HOST);
    unfit(result, "NameConstraintViolation");
}

// ---- revocation lists ----

struct Revoking {
    ca: Ca,
    client: CertificateParams,
    serial: SerialNumber,
}

impl Revoking {
    fn new() -> Self {
        let mut ca = Ca::new("revoking");
        ca.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let serial = SerialNumber::from(0x1234_5678_u64);
        let mut client = leaf(&[]);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        client.serial_number = Some(serial.clone());
        Self { ca, client, serial }
    }

    fn list(&self, point: Option<&str>, others: u64) -> CertificateRevocationListDer<'static> {
        let now = OffsetDateTime::now_utc();
        let entry = |serial_number| RevokedCertParams {
            serial_number,
            revocation_time: now - Duration::days(1),
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let others = (1..=others).map(|n| entry(SerialNumber::from(n)));
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(1),
            next_update: now + Duration::days(30),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: point.map(|uri| CrlIssuingDistributionPoint {
                distribution_point: at([uri]),
                scope: None,
            }),
            revoked_certs: others.chain([entry(self.serial.clone())]).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.ca.issuer()).unwrap().der().clone()
    }

    /// What a server with this list says of the client.
    fn verdict(
        &self,
        client: &CertificateParams,
        list: CertificateRevocationListDer<'static>,
    ) -> Result<(), TlsError> {
        let root = self.ca.root();
        let identity = |params: &CertificateParams| {
            let (certificate, key) = self.ca.issue(params);
            Identity::new(vec![certificate], key)
        };
        let server = TlsCreds::builder(Endpoint::Server)
            .sanity_check(false)
            .ca([root.clone()])
            .crls([list])
            .identity(identity(&leaf(&[HOST])))
            .build()
            .unwrap();
        let client = TlsCreds::builder(Endpoint::Client)
            .sanity_check(false)
            .ca([root])
            .identity(identity(client))
            .build()
            .unwrap();
        let server = Handshake::server(&server.for_server().unwrap())?;
        let client = Handshake::client(&client.for_client().unwrap(), Some(HOST)).unwrap();
        shake(client, server, usize::MAX).server.map(drop)
    }
}

fn at<const N: usize>(uris: [&str; N]) -> CrlDistributionPoint {
    CrlDistributionPoint {
        uris: uris.map(str::to_owned).to_vec(),
    }
}

/// hostile.md CRED-14: the list of the second distribution point counts as well.
#[test]
fn cred_14_a_certificate_with_two_distribution_points_is_revoked_by_either() {
    let mut site = Revoking::new();
    let mut honest = site.client.clone();
    honest.serial_number = Some(SerialNumber::from(0x7777_u64));
    let (first, second) = ("http://a.example/crl", "http://b.example/crl");
    site.client.crl_distribution_points = vec![at([first]), at([second])];
    honest.crl_distribution_points = site.client.crl_distribution_points.clone();
    for point in [None, Some(first), Some(second)] {
        let refused = site.verdict(&site.client, site.list(point, 3));
        assert_eq!(problem(refused), CertificateProblem::Revoked, "{point:?}");
        site.verdict(&honest, site.list(point, 3)).unwrap();
    }
}

/// hostile.md CRED-14: a list whose signature does not fit is not believed, and lets nobody in.
#[test]
fn cred_14_a_forged_list_lets_nobody_in() {
    let site = Revoking::new();
    let mut der = site.list(None, 3).to_vec();
    let serial = site.serial.to_bytes();
    let serial = &serial[4..];
    let at = der
        .windows(serial.len())
        .position(|window| window == serial)
        .unwrap();
    der[at] ^= 1; // somebody else is revoked now, says the list
    let result = site.verdict(&site.client, CertificateRevocationListDer::from(der));
    unfit(result, "InvalidCrlSignature");
}

/// hostile.md CRED-14: ten thousand lists with bytes changed, cut off, doubled and put in. Each is refused, or taken
/// and then judged; none is a crash.
#[test]
fn cred_14_mutated_lists_are_an_answer_and_never_a_crash() {
    let site = Revoking::new();
    let seeds = [site.list(None, 0), site.list(Some("http://a.example/crl"), 20)];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut refused, mut judged) = (0, 0, 0);
    for round in 0..10_000 {
        let mut der = seeds[round % seeds.len()].to_vec();
        for _ in 0..=random.below(3) {
            mutate(&mut der, &mut random);
        }
        let list = CertificateRevocationListDer::from(der);
        let creds = TlsCreds::builder(Endpoint::Client)
            .sanity_check(false)
            .ca([site.ca.root()])
            .crls([list.clone()])
            .build();
        let parsed =
            creds.is_ok_and(|creds| Handshake::client(&creds.for_client().unwrap(), Some(HOST)).is_ok());
        if !parsed {
            refused += 1;
            continue;
        }
        taken += 1;
        if judged < 300 {
            judged += 1;
            match site.verdict(&site.client, list) {
                Ok(()) | Err(TlsError::PeerCertificate { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

/// xorshift64: the same corpus every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

fn mutate(der: &mut Vec<u8>, random: &mut Random) {
    if der.len() < 2 {
        return;
    }
    let at = random.below(der.len());
    match random.below(6) {
        0 => der[at] = random.byte(),
        1 => der[at] ^= 1 << random.below(8),
        2 => der.truncate(at),
        3 => der.insert(at, random.byte()),
        4 => drop(der.remove(at)),
        _ => {
            // A piece of it once more, somewhere else.
            let end = (at + 1 + random.below(32)).min(der.len());
            let piece = der[at..end].to_vec();
            let to = random.below(der.len());
            der.splice(to..to, piece);
        }
    }
}
