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

#[path = "cred_chains/authority.rs"]
mod authority;
#[path = "cred_chains/revocation.rs"]
mod revocation;
mod support;

use authority::{Ca, leaf, named};
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::{Endpoint, Identity, TlsCreds};
use qio_tls::{CertificateProblem, Handshake, TlsError};
use rcgen::{CertificateParams, CustomExtension, SanType};
use support::{HOST, shake};

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
