//! Revocation lists: hostile.md CRED-14.

use qio_creds::rustls_pki_types::CertificateRevocationListDer;
use qio_creds::{Endpoint, Identity, TlsCreds};
use qio_tls::{CertificateProblem, Handshake, TlsError};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint,
    ExtendedKeyUsagePurpose, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::authority::{Ca, leaf};
use super::support::{HOST, shake};
use super::{problem, unfit};

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
