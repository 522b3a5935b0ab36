//! Distinguished names, spelled as QEMU spells them.
//!
//! QEMU's access lists compare text, so the spelling is an interface: it is that of GnuTLS's
//! `gnutls_x509_crt_get_dn`, found by experiment. Attributes stand in the order of the certificate (not reversed as
//! RFC 4514 has it), attribute names are GnuTLS's own, and what GnuTLS cannot show as text is `#` and the
//! hexadecimal of its DER.

use std::borrow::Cow;
use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// How GnuTLS expects the value of an attribute to be encoded.
#[derive(Clone, Copy)]
enum Encoding {
    /// A DirectoryString: any of its five string types.
    Directory,
    /// Exactly this string type; any other is shown in hexadecimal.
    Only(Tag),
}

use Encoding::{Directory, Only};

/// The attributes that GnuTLS knows by name.
const ATTRIBUTES: &[(&str, &str, Encoding)] = &[
    ("2.5.4.3", "CN", Directory),
    ("2.5.4.4", "surName", Directory),
    ("2.5.4.5", "serialNumber", Only(Tag::PrintableString)),
    ("2.5.4.6", "C", Only(Tag::PrintableString)),
    ("2.5.4.7", "L", Directory),
    ("2.5.4.8", "ST", Directory),
    ("2.5.4.9", "street", Directory),
    ("2.5.4.10", "O", Directory),
    ("2.5.4.11", "OU", Directory),
    ("2.5.4.12", "title", Directory),
    ("2.5.4.13", "description", Directory),
    ("2.5.4.15", "businessCategory", Directory),
    ("2.5.4.17", "postalCode", Directory),
    ("2.5.4.20", "telephoneNumber", Only(Tag::PrintableString)),
    ("2.5.4.41", "name", Directory),
    ("2.5.4.42", "givenName", Directory),
    ("2.5.4.43", "initials", Directory),
    ("2.5.4.44", "generationQualifier", Directory),
    ("2.5.4.46", "dnQualifier", Only(Tag::PrintableString)),
    ("2.5.4.65", "pseudonym", Directory),
    ("0.9.2342.19200300.100.1.1", "UID", Directory),
    ("0.9.2342.19200300.100.1.25", "DC", Only(Tag::Ia5String)),
    ("1.2.840.113549.1.9.1", "EMAIL", Only(Tag::Ia5String)),
    ("1.2.840.113556.1.4.656", "userPrincipalName", Directory),
    (
        "1.3.6.1.4.1.311.60.2.1.1",
        "jurisdictionOfIncorporationLocalityName",
        Directory,
    ),
    (
        "1.3.6.1.4.1.311.60.2.1.2",
        "jurisdictionOfIncorporationStateOrProvinceName",
        Directory,
    ),
    (
        "1.3.6.1.4.1.311.60.2.1.3",
        "jurisdictionOfIncorporationCountryName",
        Only(Tag::PrintableString),
    ),
    ("1.2.643.3.131.1.1", "INN", Only(Tag::NumericString)),
    ("1.2.643.100.1", "OGRN", Only(Tag::NumericString)),
    ("1.2.643.100.3", "SNILS", Only(Tag::NumericString)),
    ("1.3.6.1.5.5.7.8.5", "XmppAddr", Only(Tag::Utf8String)),
    ("1.3.6.1.5.5.7.9.2", "placeOfBirth", Directory),
    ("1.3.6.1.5.5.7.9.3", "gender", Only(Tag::PrintableString)),
    (
        "1.3.6.1.5.5.7.9.4",
        "countryOfCitizenship",
        Only(Tag::PrintableString),
    ),
    (
        "1.3.6.1.5.5.7.9.5",
        "countryOfResidence",
        Only(Tag::PrintableString),
    ),
];

/// The whole name, as QEMU hands it to an access list. May hold any character that the certificate holds.
pub(crate) fn spell(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for (i, rdn) in name.iter_rdn().enumerate() {
        for (j, attribute) in rdn.iter().enumerate() {
            match (i, j) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            spell_attribute(&mut text, attribute);
        }
    }
    text
}

/// The last common name of a subject, as text.
pub(crate) fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name()
        .last()
        .and_then(|cn| directory_string(cn.attr_value()))
        .map(Cow::into_owned)
}

fn spell_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let known = ATTRIBUTES.iter().find(|(known, ..)| *known == oid);
    text.push_str(known.map_or(&oid, |(_, name, _)| name));
    text.push('=');

    let decoded = match known {
        Some((.., Directory)) => directory_string(value),
        Some((.., Only(tag))) if value.tag() == *tag && !value.data.is_empty() => utf8(value.data),
        _ => None,
    };
    match decoded {
        // GnuTLS shows no value that a C string could not hold.
        Some(decoded) if !decoded.contains('\0') => escape(text, &decoded),
        _ => match value.to_der_vec() {
            Ok(der) => hex(text, &der),
            Err(_) => hex(text, value.data),
        },
    }
}

/// The text of a DirectoryString; none if it is another type, or is not what its type promises.
fn directory_string<'a>(value: &Any<'a>) -> Option<Cow<'a, str>> {
    match value.tag() {
        Tag::PrintableString | Tag::Utf8String => utf8(value.data),
        Tag::BmpString => {
            // GnuTLS passes over half a unit at the end.
            let units: Vec<u16> = value
                .data
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)))
                .collect();
            Some(String::from_utf16(&units).map_or_else(|_| hexadecimal_text(value.data), Cow::Owned))
        }
        Tag::T61String if value.data.iter().all(|byte| (b' '..=b'~').contains(byte)) => utf8(value.data),
        Tag::T61String | Tag::UniversalString => Some(hexadecimal_text(value.data)),
        _ => None,
    }
}

/// GnuTLS shows some values in hexadecimal and then takes that for the text.
fn hexadecimal_text(data: &[u8]) -> Cow<'static, str> {
    let mut text = String::new();
    hex(&mut text, data);
    Cow::Owned(text)
}

fn utf8(data: &[u8]) -> Option<Cow<'_, str>> {
    std::str::from_utf8(data).ok().map(Cow::Borrowed)
}

fn hex(text: &mut String, bytes: &[u8]) {
    text.push('#');
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (i == 0 && matches!(c, '#' | ' '))
            || (i == last && c == ' ');
        if special {
            text.push('\\');
        }
        text.push(c);
    }
}
