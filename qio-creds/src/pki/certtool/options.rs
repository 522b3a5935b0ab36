//! What the options of a template mean.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CrlDistributionPoint, DistinguishedName, DnType,
    DnValue, ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, IsCa, KeyUsagePurpose as Usage,
    NameConstraints, OtherNameValue, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::Contents;
use crate::pki::name::{alternative_name, attribute_value};
use crate::pki::template::Name;
use crate::pki::validity::{NO_END, Validity, parse_date};

/// Options of certtool that are refused, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("dn", "write its parts with cn, organization, country and so on"),
    ("other_name", "only other_name_utf8 and xmpp_name are supported"),
    (
        "other_name_octet",
        "only other_name_utf8 and xmpp_name are supported",
    ),
    ("krb5_principal", "Kerberos names are not supported"),
    ("tls_feature", "this extension is not supported"),
    ("subject_unique_id", "unique identifiers are not supported"),
    ("issuer_unique_id", "unique identifiers are not supported"),
    ("ocsp_uri", "this extension is not supported"),
    ("ca_issuers_uri", "this extension is not supported"),
    ("inhibit_anypolicy_skip_certs", "policies are not supported"),
    ("proxy_policy_language", "proxy certificates are not supported"),
    ("add_extension", "extensions given as DER are not supported"),
    (
        "add_critical_extension",
        "extensions given as DER are not supported",
    ),
    ("honor_crq_extensions", "use `qio pki sign --honor-names`"),
    ("honor_crq_ext", "use `qio pki sign --honor-names`"),
    ("challenge_password", "requests with a password are not supported"),
    (
        "password",
        "private keys are written in clear, for their owner only",
    ),
    ("pkcs12_key_name", "PKCS #12 is not supported"),
    ("crl_next_update", "use `qio pki revoke --crl-days`"),
    ("crl_next_update_date", "use `qio pki revoke --crl-days`"),
    (
        "crl_this_update_date",
        "a list begins when `qio pki revoke` makes it",
    ),
    (
        "crl_revocation_date",
        "a certificate is revoked when `qio pki revoke` is run",
    ),
    ("crl_number", "`qio pki revoke` counts the lists"),
];

/// An option without a value.
enum Flag {
    Ca,
    Usage(Usage),
    Purpose(Purpose),
}

impl Flag {
    fn named(option: &str) -> Option<Self> {
        Some(match option {
            "ca" => Self::Ca,
            "signing_key" => Self::Usage(Usage::DigitalSignature),
            "encryption_key" => Self::Usage(Usage::KeyEncipherment),
            "cert_signing_key" => Self::Usage(Usage::KeyCertSign),
            "crl_signing_key" => Self::Usage(Usage::CrlSign),
            "key_agreement" => Self::Usage(Usage::KeyAgreement),
            "data_encipherment" => Self::Usage(Usage::DataEncipherment),
            "non_repudiation" => Self::Usage(Usage::ContentCommitment),
            "tls_www_server" => Self::Purpose(Purpose::ServerAuth),
            "tls_www_client" => Self::Purpose(Purpose::ClientAuth),
            "code_signing_key" => Self::Purpose(Purpose::CodeSigning),
            "ocsp_signing_key" => Self::Purpose(Purpose::OcspSigning),
            "time_stamping_key" => Self::Purpose(Purpose::TimeStamping),
            "email_protection_key" => Self::Purpose(Purpose::EmailProtection),
            "ipsec_ike_key" => Self::Purpose(Purpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17])),
            _ => return None,
        })
    }
}

/// Attributes of the subject, in the order in which certtool writes them whatever the template's order is. Access
/// lists compare the whole name, so the order counts.
const SUBJECT: &[(&str, &[u64])] = &[
    ("country", &[2, 5, 4, 6]),
    ("state", &[2, 5, 4, 8]),
    ("locality", &[2, 5, 4, 7]),
    ("organization", &[2, 5, 4, 10]),
    ("unit", &[2, 5, 4, 11]),
    ("cn", &[2, 5, 4, 3]),
    ("uid", &[0, 9, 2342, 19_200_300, 100, 1, 1]),
    ("dc", &[0, 9, 2342, 19_200_300, 100, 1, 25]),
    ("dn_oid", &[]),
    ("pkcs9_email", &[1, 2, 840, 113_549, 1, 9, 1]),
];

/// The options read so far.
#[derive(Debug, Default)]
pub(super) struct Options {
    params: CertificateParams,
    /// Each attribute with its place in [`SUBJECT`].
    subject: Vec<(usize, DnType, DnValue)>,
    /// Options that may be given once only, and have been.
    seen: Vec<String>,
    ca: bool,
    path_length: Option<u8>,
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
    crl_uris: Vec<String>,
    activation: Option<OffsetDateTime>,
    expiration: Option<OffsetDateTime>,
    days: Option<u32>,
}

impl Options {
    /// Takes one option, or says what is wrong with it.
    pub(super) fn take(&mut self, option: &str, value: Option<&str>) -> Result<(), String> {
        if let Some(flag) = Flag::named(option) {
            return match value {
                None => self.flag(flag),
                Some(_) => Err("it is a flag and takes no value; leave the line out to say no".to_owned()),
            };
        }
        let policy = option
            .starts_with("policy")
            .then_some("policies are not supported");
        let refused = REFUSED.iter().find(|(refused, _)| *refused == option);
        if let Some(why) = refused.map(|(_, why)| *why).or(policy) {
            return Err(format!(
                "certtool knows this option, but it cannot be honoured here: {why}"
            ));
        }
        let needed = || value.ok_or_else(|| "it needs a value".to_owned());
        if let Some(place) = SUBJECT.iter().position(|(name, _)| *name == option) {
            return self.attribute(place, needed()?);
        }
        match option {
            "dns_name" => match needed()?.parse() {
                Ok(name @ Name::Dns(_)) => self.name(alternative_name(&name).map_err(|e| e.to_string())?),
                Ok(Name::Ip(_)) => Err("this is an address; use ip_address".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            "ip_address" => {
                let text = needed()?;
                let address = text
                    .parse()
                    .map_err(|_| format!("'{text}' is not an IP address"))?;
                self.name(SanType::IpAddress(address))
            }
            "uri" => self.name(SanType::URI(ascii(needed()?)?)),
            "email" => self.name(SanType::Rfc822Name(ascii(needed()?)?)),
            "other_name_utf8" => {
                let (kind, text) = kind_and_text(needed()?)?;
                self.name(SanType::OtherName((
                    kind,
                    OtherNameValue::Utf8String(text.to_owned()),
                )))
            }
            "xmpp_name" => {
                let text = OtherNameValue::Utf8String(needed()?.to_owned());
                self.name(SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 5], text)))
            }
            "key_purpose_oid" => self.flag(Flag::Purpose(Purpose::Other(arcs(needed()?)?))),
            "crl_dist_points" => {
                self.crl_uris.push(ascii(needed()?)?.as_str().to_owned());
                Ok(())
            }
            "nc_permit_dns" | "nc_permit_email" | "nc_permit_ip" => {
                self.permitted.push(subtree(option, needed()?)?);
                Ok(())
            }
            "nc_exclude_dns" | "nc_exclude_email" | "nc_exclude_ip" => {
                self.excluded.push(subtree(option, needed()?)?);
                Ok(())
            }
            _ => self.scalar(option, needed()?),
        }
    }

    /// Options that make sense once.
    fn scalar(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "serial" => self.params.serial_number = Some(serial(value)?),
            "expiration_days" if value == "-1" => self.expiration = Some(NO_END),
            "expiration_days" => {
                let days = value.parse().ok().filter(|days| *days > 0);
                self.days = Some(days.ok_or("it is neither a number of days nor -1 for no end")?);
            }
            "activation_date" => self.activation = Some(parse_date(value).map_err(|e| e.to_string())?),
            "expiration_date" => self.expiration = Some(parse_date(value).map_err(|e| e.to_string())?),
            "path_len" if value == "-1" => self.path_length = None,
            "path_len" => {
                self.path_length = Some(value.parse().map_err(|_| "it is neither -1 nor 0 to 255")?);
            }
            _ => return Err("certtool's templates have no such option; see `man certtool`".to_owned()),
        }
        let clash = |seen: &str| {
            let end = ["expiration_days", "expiration_date"];
            seen == option || (end.contains(&seen) && end.contains(&option))
        };
        if let Some(before) = self.seen.iter().find(|seen| clash(seen)) {
            return Err(format!("{before} was given before; remove one of them"));
        }
        self.seen.push(option.to_owned());
        Ok(())
    }

    fn flag(&mut self, flag: Flag) -> Result<(), String> {
        let (usages, purposes) = (&mut self.params.key_usages, &mut self.params.extended_key_usages);
        match flag {
            Flag::Ca => self.ca = true,
            Flag::Usage(usage) if !usages.contains(&usage) => usages.push(usage),
            Flag::Purpose(purpose) if !purposes.contains(&purpose) => purposes.push(purpose),
            Flag::Usage(_) | Flag::Purpose(_) => {}
        }
        Ok(())
    }

    fn name(&mut self, name: SanType) -> Result<(), String> {
        self.params.subject_alt_names.push(name);
        Ok(())
    }

    fn attribute(&mut self, place: usize, value: &str) -> Result<(), String> {
        let fixed = SUBJECT
            .get(place)
            .map(|(_, arcs)| arcs.to_vec())
            .filter(|arcs| !arcs.is_empty());
        let (kind, text) = match fixed {
            Some(kind) => (kind, value),
            None => kind_and_text(value)?,
        };
        let kind = DnType::from_oid(&kind);
        if self.subject.iter().any(|(_, there, _)| *there == kind) {
            return Err(
                "it was given before, and the library that writes names keeps one value of each kind"
                    .to_owned(),
            );
        }
        let value = attribute_value(&kind, text).map_err(|what| what.to_string())?;
        self.subject.push((place, kind, value));
        Ok(())
    }

    /// All of it together.
    pub(super) fn finish(mut self) -> Contents {
        self.subject.sort_by_key(|(place, ..)| *place);
        self.params.distinguished_name = DistinguishedName::new();
        for (_, kind, value) in self.subject {
            self.params.distinguished_name.push(kind, value);
        }
        self.params.is_ca = match (self.ca, self.path_length) {
            (true, Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
            (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
            (false, _) => IsCa::ExplicitNoCa,
        };
        if !self.permitted.is_empty() || !self.excluded.is_empty() {
            self.params.name_constraints = Some(NameConstraints {
                permitted_subtrees: self.permitted,
                excluded_subtrees: self.excluded,
            });
        }
        if !self.crl_uris.is_empty() {
            self.params.crl_distribution_points = vec![CrlDistributionPoint { uris: self.crl_uris }];
        }
        Contents {
            params: self.params,
            validity: Validity::from_parts(self.activation, self.expiration, self.days),
        }
    }
}

fn ascii(text: &str) -> Result<Ia5String, String> {
    Ia5String::try_from(text).map_err(|_| format!("'{text}' is not ASCII"))
}

/// `OID TEXT`.
fn kind_and_text(value: &str) -> Result<(Vec<u64>, &str), String> {
    let (kind, text) = value
        .split_once(char::is_whitespace)
        .ok_or("it needs an object identifier and a text")?;
    Ok((arcs(kind)?, text.trim()))
}

/// An object identifier, of arcs that every implementation can hold.
fn arcs(text: &str) -> Result<Vec<u64>, String> {
    let wrong = || format!("'{text}' is not an object identifier");
    let arcs: Vec<u64> = text
        .split('.')
        .map(|arc| arc.parse::<u32>().map(u64::from))
        .collect::<Result<_, _>>()
        .map_err(|_| wrong())?;
    match arcs[..] {
        [0 | 1, 0..40, ..] | [2, _, ..] => Ok(arcs),
        _ => Err(wrong()),
    }
}

/// A decimal or, behind `0x`, a hexadecimal number; positive and of 20 bytes at most (RFC 5280 section 4.1.2.2).
fn serial(text: &str) -> Result<SerialNumber, String> {
    let bytes = match text.strip_prefix("0x") {
        Some(digits) => crate::pki::serial::from_hex(digits),
        None => text
            .parse()
            .ok()
            .map(|number: u128| number.to_be_bytes().to_vec()),
    };
    bytes
        .map(|bytes| {
            bytes
                .into_iter()
                .skip_while(|byte| *byte == 0)
                .collect::<Vec<_>>()
        })
        .filter(|bytes| !bytes.is_empty() && bytes.len() <= 19)
        .map(SerialNumber::from)
        .ok_or_else(|| {
            format!("'{text}' is not a serial number: a decimal one, or 0x and up to 38 hexadecimal digits")
        })
}

fn subtree(option: &str, text: &str) -> Result<GeneralSubtree, String> {
    if option.ends_with("_dns") {
        Ok(GeneralSubtree::DnsName(ascii(text)?.as_str().to_owned()))
    } else if option.ends_with("_email") {
        Ok(GeneralSubtree::Rfc822Name(ascii(text)?.as_str().to_owned()))
    } else {
        subnet(text)
            .map(GeneralSubtree::IpAddress)
            .ok_or_else(|| format!("'{text}' is not ADDRESS/BITS"))
    }
}

fn subnet(text: &str) -> Option<CidrSubnet> {
    let (address, bits) = text.split_once('/')?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let bits = bits.parse().ok()?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then(|| CidrSubnet::from_addr_prefix(address, bits))
}
