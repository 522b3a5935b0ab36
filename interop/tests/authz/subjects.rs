//! The subjects whose spelling is compared with QEMU's.

use x509_cert::der::Tag;

use super::certificates::{Attribute, Subject};

const CN: &str = "2.5.4.3";
const O: &str = "2.5.4.10";
const OU: &str = "2.5.4.11";
const C: &str = "2.5.4.6";
const UID: &str = "0.9.2342.19200300.100.1.1";
const DC: &str = "0.9.2342.19200300.100.1.25";
const EMAIL: &str = "1.2.840.113549.1.9.1";

/// Every attribute that GnuTLS or anybody else may have a name for, and some that nobody has.
const ATTRIBUTES: &[&str] = &[
    "2.5.4.0",
    "2.5.4.2",
    CN,
    "2.5.4.4",
    "2.5.4.5",
    C,
    "2.5.4.7",
    "2.5.4.8",
    "2.5.4.9",
    O,
    OU,
    "2.5.4.12",
    "2.5.4.13",
    "2.5.4.14",
    "2.5.4.15",
    "2.5.4.16",
    "2.5.4.17",
    "2.5.4.18",
    "2.5.4.19",
    "2.5.4.20",
    "2.5.4.23",
    "2.5.4.31",
    "2.5.4.34",
    "2.5.4.41",
    "2.5.4.42",
    "2.5.4.43",
    "2.5.4.44",
    "2.5.4.45",
    "2.5.4.46",
    "2.5.4.51",
    "2.5.4.54",
    "2.5.4.65",
    "2.5.4.72",
    "2.5.4.97",
    "2.5.4.98",
    "2.5.4.200",
    UID,
    "0.9.2342.19200300.100.1.3",
    DC,
    EMAIL,
    "1.2.840.113549.1.9.2",
    "1.2.840.113549.1.9.8",
    "1.2.840.113556.1.4.656",
    "1.2.643.3.131.1.1",
    "1.2.643.100.1",
    "1.2.643.100.3",
    "1.3.6.1.4.1.311.60.2.1.1",
    "1.3.6.1.4.1.311.60.2.1.2",
    "1.3.6.1.4.1.311.60.2.1.3",
    "1.3.6.1.4.1.311.20.2.3",
    "1.3.6.1.5.5.7.8.5",
    "1.3.6.1.5.5.7.9.1",
    "1.3.6.1.5.5.7.9.2",
    "1.3.6.1.5.5.7.9.3",
    "1.3.6.1.5.5.7.9.4",
    "1.3.6.1.5.5.7.9.5",
    "1.3.6.1.4.1.99999.1.2.3",
];

/// Writes ASCII text in a string type.
type Writer = fn(&str) -> Vec<u8>;

/// String types, each with a way to write ASCII text in it.
const TYPES: &[(Tag, Writer)] = &[
    (Tag::Utf8String, narrow),
    (Tag::PrintableString, narrow),
    (Tag::Ia5String, narrow),
    (Tag::TeletexString, narrow),
    (Tag::BmpString, |text| {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }),
    (Tag::NumericString, narrow),
    (Tag::VisibleString, narrow),
    (Tag::GeneralString, narrow),
    (Tag::OctetString, narrow),
];

fn narrow(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn utf8(oid: &'static str, text: &str) -> Attribute {
    (oid, Tag::Utf8String, text.as_bytes().to_vec())
}

fn cn(text: &str) -> Subject {
    vec![vec![utf8(CN, text)]]
}

/// Names that QEMU cannot spell: it refuses the client whatever the list says. For us they are names like others.
pub(crate) fn has_no_spelling(subject: &Subject) -> bool {
    subject
        .iter()
        .flatten()
        .any(|(oid, tag, value)| [CN, O].contains(oid) && (*tag == Tag::Null || value.is_empty()))
}

/// Names that QEMU spells with octets that are not UTF-8, which no rule can hold: JSON and command lines are text. We
/// spell such a value in hexadecimal.
pub(crate) fn is_not_text(subject: &Subject) -> bool {
    subject.iter().flatten().any(|(oid, tag, value)| {
        let shown = match *oid {
            CN => [Tag::Utf8String, Tag::PrintableString].contains(tag),
            EMAIL => *tag == Tag::Ia5String,
            _ => false,
        };
        shown && std::str::from_utf8(value).is_err()
    })
}

/// Subjects, each with a number in it so that no two are spelled alike.
pub(crate) fn all() -> Vec<Subject> {
    let mut subjects = Vec::new();

    // Every attribute as the string types that certificates usually have.
    for (i, oid) in ATTRIBUTES.iter().enumerate() {
        // A country has two letters, and GnuTLS insists.
        let text = if *oid == C {
            "DE".to_owned()
        } else {
            format!("attribute {i}")
        };
        for tag in [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String] {
            let mark = format!("mark {i} {tag}");
            subjects.push(vec![vec![(*oid, tag, narrow(&text))], vec![utf8(CN, &mark)]]);
        }
    }

    // Every string type, for attributes that take any of five, exactly one, and for an unknown one.
    for (i, (tag, write)) in TYPES.iter().enumerate() {
        for oid in [
            CN,
            O,
            DC,
            EMAIL,
            "2.5.4.5",
            "1.2.643.3.131.1.1",
            "1.2.643.100.1",
            "1.2.643.100.3",
            "1.3.6.1.4.1.99999.4",
        ] {
            let text = if *tag == Tag::NumericString {
                "0815 4711"
            } else {
                "plain, text"
            };
            subjects.push(vec![
                vec![(oid, *tag, write(text))],
                vec![utf8(OU, &format!("type {i}"))],
            ]);
        }
    }

    // Characters that are escaped, or might be, at the beginning, in the middle and at the end.
    for c in [
        ' ', '#', ',', '+', '"', '\\', '<', '>', ';', '=', '/', '\'', '*', '?', '\t', '\n', '\r', '\x01',
        '\x1b', '\x7f', '(', ')', '&', '|', ':', '@', 'é', 'ß', '漢', '🦀', '\u{a0}', '\u{202e}', '\u{feff}',
        'İ',
    ] {
        for text in [
            format!("{c}begin"),
            format!("mid{c}dle"),
            format!("end{c}"),
            format!("{c}{c}both{c}{c}"),
        ] {
            subjects.push(cn(&text));
        }
    }
    for text in [
        "#",
        " ",
        "  ",
        "+",
        ",",
        "\\",
        "\"quoted\"",
        "\\2C",
        "#04024869",
        "a,b+c=d",
        "CN=x,O=y",
        " # ",
        "#  #",
        "tr ailing  ",
    ] {
        subjects.push(cn(text));
    }

    // Text that is not ASCII in types that are not UTF-8.
    for (tag, octets) in [
        (Tag::TeletexString, b"caf\xe9".to_vec()),
        (Tag::TeletexString, b"\xe9".to_vec()),
        (Tag::TeletexString, b"caf\xc3\xa9".to_vec()),
        (Tag::TeletexString, b"tab\tulator".to_vec()),
        (Tag::TeletexString, b"escape\x1b\x7f".to_vec()),
        (Tag::TeletexString, vec![]),
        (Tag::BmpString, vec![]),
        (Tag::Ia5String, vec![]),
        (Tag::PrintableString, vec![]),
        (Tag::BmpString, vec![0x6f, 0x22, 0x5b, 0x57]),
        (Tag::BmpString, vec![0x00, 0xe9, 0x00, b'x']),
        (Tag::BmpString, vec![0x00, b',', 0x00, b' ']),
        (Tag::BmpString, vec![0xd8, 0x3e, 0xdd, 0x80]),
        (Tag::BmpString, vec![0xd8, 0x3e]),
        (Tag::BmpString, vec![0x00, b'o', b'd']),
        (Tag::BmpString, vec![0x00, 0x00, 0x00, b'x']),
        (Tag::Ia5String, b"caf\xe9".to_vec()),
        (Tag::PrintableString, b"caf\xc3\xa9!".to_vec()),
        (Tag::PrintableString, b"caf\xe9".to_vec()),
        (Tag::PrintableString, b"not@printable*".to_vec()),
        (Tag::Utf8String, b"broken \xff\xfe".to_vec()),
        (Tag::Utf8String, b"cut \xc3".to_vec()),
        (Tag::Utf8String, b"over\xc0\xaflong".to_vec()),
        (Tag::Utf8String, b"surrogate \xed\xa0\x80".to_vec()),
        (Tag::Utf8String, b"a\0b".to_vec()),
        (Tag::Utf8String, b"ends\0".to_vec()),
        (Tag::Utf8String, b"\0begins".to_vec()),
        (Tag::PrintableString, b"a\0c".to_vec()),
        (Tag::Ia5String, b"a\0d".to_vec()),
        (Tag::TeletexString, b"a\0e".to_vec()),
        (Tag::Integer, vec![5]),
        (Tag::Null, vec![]),
        (Tag::Sequence, vec![4, 1, 65]),
    ] {
        for oid in [CN, EMAIL, "1.3.6.1.4.1.99999.5"] {
            subjects.push(vec![vec![(oid, tag, octets.clone())], vec![utf8(OU, "odd")]]);
        }
    }

    // Order, repetition, groups, and values that are empty, short or long.
    let named = |oid: &'static str, text: &str| vec![utf8(oid, text)];
    subjects.extend([
        vec![named(C, "XX"), named(O, "first"), named(CN, "ordered")],
        vec![named(CN, "ordered"), named(O, "first"), named(C, "XX")],
        vec![named(CN, "one"), named(CN, "two"), named(CN, "three")],
        vec![named(DC, "com"), named(DC, "example"), named(UID, "jdoe")],
        vec![
            vec![("0.9.2342.19200300.100.1.25", Tag::Ia5String, narrow("com"))],
            vec![("0.9.2342.19200300.100.1.25", Tag::Ia5String, narrow("example"))],
            named(UID, "jdoe"),
        ],
        vec![vec![utf8(CN, "grouped"), utf8(UID, "4711")]],
        vec![vec![
            utf8(UID, "4711"),
            utf8(CN, "grouped"),
            utf8(O, "z"),
            utf8(OU, "aa"),
        ]],
        vec![
            named(O, "Example, Inc."),
            vec![utf8(OU, "a+b"), utf8(CN, "x+y")],
            named(OU, "last"),
        ],
        vec![vec![utf8(CN, "same"), utf8(CN, "sames")]],
        vec![named(O, ""), named(CN, "empty organization")],
        vec![named(CN, ""), named(O, "empty common name")],
        vec![named(CN, "")],
        vec![named("1.3.6.1.4.1.99999.6", ""), named(CN, "empty unknown")],
        vec![
            vec![(EMAIL, Tag::Ia5String, narrow("root@example.com"))],
            named(CN, "mail"),
        ],
        vec![vec![(EMAIL, Tag::Ia5String, narrow("a,b@example.com"))]],
        vec![
            vec![(C, Tag::PrintableString, narrow("D"))],
            named(CN, "short country"),
        ],
        vec![
            vec![(C, Tag::PrintableString, narrow("DEU"))],
            named(CN, "long country"),
        ],
        vec![vec![(C, Tag::PrintableString, vec![])], named(CN, "no country")],
        vec![named(C, "DE"), named(CN, "country as UTF-8")],
        vec![
            vec![("2.5.4.45", Tag::BitString, vec![0, 0xa5])],
            named(CN, "unique identifier"),
        ],
    ]);
    for length in [1, 63, 64, 65, 127, 128, 200, 255, 256, 300] {
        for oid in [CN, O, "1.3.6.1.4.1.99999.7"] {
            subjects.push(vec![named(oid, &"l".repeat(length)), named(OU, "length")]);
        }
    }
    subjects
}
