//! The lines that `qio pki show` prints: a label, and a value that may hold any character. Empty ones are left out.

use qio_creds::CertificateSummary;
use qio_creds::pki::{RequestSummary, RevocationListSummary, Revoked};
use time::OffsetDateTime;
use time::macros::format_description;

type Lines = Vec<(&'static str, String)>;

pub(super) fn certificate(certificate: &CertificateSummary, days_left: i64, valid_now: bool) -> Lines {
    let names = if certificate.ca {
        Vec::new()
    } else {
        certificate.names()
    };
    let kind = if certificate.ca {
        "certificate authority"
    } else {
        "end certificate"
    };
    let key_usage = certificate.key_usage.as_ref();
    let purpose = certificate.extended_key_usage.as_ref();
    vec![
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("names", names.join(", ")),
        ("other names", certificate.other_names.join(", ")),
        ("valid", validity(certificate, days_left, valid_now)),
        ("kind", kind.to_owned()),
        ("key", certificate.key.to_string()),
        (
            "key usage",
            key_usage.map_or("any".to_owned(), |usage| usage.join(", ")),
        ),
        (
            "purpose",
            purpose.map_or("any".to_owned(), |usage| usage.join(", ")),
        ),
        ("serial", certificate.serial.clone()),
        ("SHA-256", certificate.sha256.clone()),
    ]
}

pub(super) fn request(request: &RequestSummary) -> Lines {
    let names: Vec<_> = request.names.iter().map(ToString::to_string).collect();
    let kind = if request.ca {
        "signing request, for a certificate authority"
    } else {
        "signing request"
    };
    vec![
        ("subject", request.subject.clone()),
        ("names", names.join(", ")),
        ("other names", request.other_names.join(", ")),
        ("kind", kind.to_owned()),
        ("key", request.key.to_string()),
    ]
}

pub(super) fn revocation_list(list: &RevocationListSummary) -> Lines {
    let overdue = list
        .next_update
        .is_some_and(|next| next < OffsetDateTime::now_utc());
    let next = list.next_update.map_or_else(
        || "not said".to_owned(),
        |next| print(next) + if overdue { " (OVERDUE)" } else { "" },
    );
    let count = match list.revoked.len() {
        0 => "no certificate".to_owned(),
        1 => "1 certificate".to_owned(),
        n => format!("{n} certificates"),
    };
    let entry = |revoked: &Revoked| {
        let text = format!(
            "{} since {}, {}",
            revoked.serial,
            print(revoked.since),
            revoked.reason
        );
        ("", text)
    };
    let mut lines = vec![
        ("issuer", list.issuer.clone()),
        ("kind", "revocation list".to_owned()),
        ("number", list.number.clone().unwrap_or_default()),
        ("made", print(list.this_update)),
        ("next list", next),
        ("revoked", count),
    ];
    lines.extend(list.revoked.iter().map(entry));
    lines
}

fn validity(certificate: &CertificateSummary, days_left: i64, valid_now: bool) -> String {
    let state = match (valid_now, days_left) {
        (true, 1) => "1 day left".to_owned(),
        (true, days) => format!("{days} days left"),
        (false, _) if certificate.not_before > OffsetDateTime::now_utc() => "NOT YET VALID".to_owned(),
        (false, _) => "EXPIRED".to_owned(),
    };
    format!(
        "{} to {} ({state})",
        print(certificate.not_before),
        print(certificate.not_after)
    )
}

fn print(moment: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    moment.format(format).unwrap_or_else(|_| moment.to_string())
}
