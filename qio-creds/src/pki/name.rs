//! Distinguished and alternative names in the form that the library which writes certificates takes.

use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString, UniversalString};
use rcgen::{DistinguishedName, DnType, DnValue, SanType};
use x509_parser::asn1_rs::Tag;
use x509_parser::x509::X509Name;

use super::PkiError;
use super::template::Name;

/// The longest common name that X.509 allows (`ub-common-name`), in characters.
const MAX_COMMON_NAME: usize = 64;

/// pkcs9_email and DC are ASCII by definition.
const ASCII_ATTRIBUTES: [&[u64]; 2] = [
    &[1, 2, 840, 113_549, 1, 9, 1],
    &[0, 9, 2342, 19_200_300, 100, 1, 25],
];

pub(super) fn alternative_name(name: &Name) -> Result<SanType, PkiError> {
    Ok(match name {
        Name::Dns(name) => SanType::DnsName(
            Ia5String::try_from(name.as_str()).map_err(PkiError::generate("writing a DNS name"))?,
        ),
        Name::Ip(address) => SanType::IpAddress(*address),
    })
}

/// The value of an attribute in the string type that GnuTLS and OpenSSL give it, and expect of it.
pub(super) fn attribute_value(kind: &DnType, text: &str) -> Result<DnValue, PkiError> {
    let unfit = |what| PkiError::Attribute {
        value: text.to_owned(),
        what,
    };
    if text.is_empty() || text.contains('\0') {
        return Err(unfit("it is empty, or has a NUL in it"));
    }
    match kind {
        DnType::CountryName if text.len() != 2 || !text.bytes().all(|b| b.is_ascii_alphabetic()) => {
            return Err(unfit("a country is its code of two letters, for instance GB"));
        }
        DnType::CommonName if text.chars().count() > MAX_COMMON_NAME => {
            return Err(PkiError::LongCommonName(text.to_owned()));
        }
        DnType::CustomDnType(arcs) if ASCII_ATTRIBUTES.contains(&arcs.as_slice()) => {
            return Ia5String::try_from(text)
                .map(DnValue::Ia5String)
                .map_err(|_| unfit("it must be ASCII"));
        }
        _ => {}
    }
    Ok(match PrintableString::try_from(text) {
        Ok(text) => DnValue::PrintableString(text),
        Err(_) => DnValue::Utf8String(text.to_owned()),
    })
}

/// A name out of a certificate or a request. None if the library cannot hold it: it keeps one attribute for each
/// step of a name, and one value for each kind of attribute.
pub(super) fn read(name: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut copy = DistinguishedName::new();
    for step in name.iter() {
        let mut attributes = step.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return None;
        };
        let kind = DnType::from_oid(&attribute.attr_type().iter()?.collect::<Vec<_>>());
        if copy.get(&kind).is_some() {
            return None;
        }
        let data = attribute.attr_value().data;
        let text = || std::str::from_utf8(data).ok();
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => DnValue::PrintableString(PrintableString::try_from(text()?).ok()?),
            Tag::Utf8String => DnValue::Utf8String(text()?.to_owned()),
            Tag::Ia5String => DnValue::Ia5String(Ia5String::try_from(text()?).ok()?),
            Tag::T61String => DnValue::TeletexString(TeletexString::try_from(text()?).ok()?),
            Tag::BmpString => DnValue::BmpString(BmpString::from_utf16be(data.to_vec()).ok()?),
            Tag::UniversalString => {
                DnValue::UniversalString(UniversalString::from_utf32be(data.to_vec()).ok()?)
            }
            _ => return None,
        };
        copy.push(kind, value);
    }
    Some(copy)
}
