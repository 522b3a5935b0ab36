//! What is told about exports, as text and as JSON. The names are those of nbdinfo, whose readers this serves.

use std::fmt::Write as _;

use qio_nbd::NbdUri;
use qio_nbd::client::Session;
use qio_nbd::facts::ReplyMode;
use qio_nbd::negotiation::{ExportDetails, ListedExport};
use qio_nbd::wire::TransmissionFlags;
use serde::Serialize;

/// What a server told.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    protocol: &'static str,
    #[serde(rename = "TLS")]
    tls: bool,
    structured: bool,
    extended: bool,
    exports: Vec<Export>,
}

/// What a server told about one export. Where it told nothing but the name, `facts` is missing.
#[derive(Debug, Serialize)]
pub(super) struct Export {
    #[serde(rename = "export-name")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    uri: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
}

#[derive(Debug, Serialize)]
struct Facts {
    is_rotational: bool,
    is_read_only: bool,
    can_cache: bool,
    can_df: bool,
    can_fast_zero: bool,
    can_flush: bool,
    can_fua: bool,
    can_multi_conn: bool,
    can_trim: bool,
    can_zero: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    block_size: Option<BlockSize>,
    #[serde(rename = "export-size")]
    size: u64,
    #[serde(rename = "export-size-str")]
    size_text: String,
}

#[derive(Debug, Serialize)]
struct BlockSize {
    #[serde(rename = "block_size_minimum")]
    minimum: u32,
    #[serde(rename = "block_size_preferred")]
    preferred: u32,
    #[serde(rename = "block_size_maximum")]
    maximum: u32,
}

impl Report {
    pub(super) fn new(replies: ReplyMode, tls: bool, exports: Vec<Export>) -> Self {
        Report {
            protocol: "newstyle-fixed",
            tls,
            structured: replies == ReplyMode::Structured,
            extended: false,
            exports,
        }
    }

    pub(super) fn to_text(&self) -> String {
        let tls = if self.tls { "with" } else { "without" };
        let packets = if self.structured { "structured" } else { "simple" };
        let mut text = format!("protocol: {} {tls} TLS, using {packets} packets\n", self.protocol);
        for export in &self.exports {
            export.write(&mut text);
        }
        text
    }
}

impl Export {
    pub(super) fn new(uri: &NbdUri, details: &ExportDetails) -> Self {
        let has = |flag| details.flags.contains(flag);
        let writable = !has(TransmissionFlags::READ_ONLY);
        let facts = Facts {
            is_rotational: has(TransmissionFlags::ROTATIONAL),
            is_read_only: !writable,
            can_cache: has(TransmissionFlags::SEND_CACHE),
            can_df: has(TransmissionFlags::SEND_DF),
            can_fast_zero: writable && has(TransmissionFlags::SEND_FAST_ZERO),
            can_flush: has(TransmissionFlags::SEND_FLUSH),
            can_fua: has(TransmissionFlags::SEND_FUA),
            can_multi_conn: has(TransmissionFlags::CAN_MULTI_CONN),
            can_trim: writable && has(TransmissionFlags::SEND_TRIM),
            can_zero: writable && has(TransmissionFlags::SEND_WRITE_ZEROES),
            block_size: details.block_sizes.map(|sizes| BlockSize {
                minimum: sizes.minimum(),
                preferred: sizes.preferred(),
                maximum: sizes.maximum(),
            }),
            size: details.size,
            size_text: size_text(details.size),
        };
        Export {
            name: details.name.as_str().to_owned(),
            description: details.description.clone(),
            uri: NbdUri {
                export: details.name.clone(),
                ..uri.clone()
            }
            .to_string(),
            facts: Some(facts),
        }
    }

    /// An export of which only the name is known: some servers list more than they describe.
    pub(super) fn listed(uri: &NbdUri, export: &ListedExport) -> Self {
        Export {
            name: export.name.as_str().to_owned(),
            description: export.description.clone(),
            uri: NbdUri {
                export: export.name.clone(),
                ..uri.clone()
            }
            .to_string(),
            facts: None,
        }
    }

    fn write(&self, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "export={:?}:", self.name);
        if !self.description.is_empty() {
            let _ = writeln!(text, "\tdescription: {}", self.description);
        }
        if let Some(facts) = &self.facts {
            let _ = writeln!(text, "\texport-size: {} ({})", facts.size, facts.size_text);
        }
        let _ = writeln!(text, "\turi: {}", self.uri);
        let Some(facts) = &self.facts else { return };
        for (name, value) in [
            ("is_rotational", facts.is_rotational),
            ("is_read_only", facts.is_read_only),
            ("can_cache", facts.can_cache),
            ("can_df", facts.can_df),
            ("can_fast_zero", facts.can_fast_zero),
            ("can_flush", facts.can_flush),
            ("can_fua", facts.can_fua),
            ("can_multi_conn", facts.can_multi_conn),
            ("can_trim", facts.can_trim),
            ("can_zero", facts.can_zero),
        ] {
            let _ = writeln!(text, "\t{name}: {value}");
        }
        if let Some(sizes) = &facts.block_size {
            let _ = writeln!(text, "\tblock_size_minimum: {}", sizes.minimum);
            let _ = writeln!(text, "\tblock_size_preferred: {}", sizes.preferred);
            let _ = writeln!(text, "\tblock_size_maximum: {}", sizes.maximum);
        }
    }
}

/// Whether a session is under TLS.
pub(super) fn is_tls(session: &Session) -> bool {
    session.channel_info().tls.is_some()
}

/// The largest unit of which it is a whole number: `10M`, but `10485761`.
fn size_text(size: u64) -> String {
    let mut unit = 0_usize;
    let mut number = size;
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    while number != 0 && number.is_multiple_of(1024) {
        number /= 1024;
        unit = unit.saturating_add(1);
    }
    format!("{number}{}", UNITS.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people_are_exact() {
        for (size, text) in [
            (0, "0"),
            (1, "1"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1536"),
            (10 << 20, "10M"),
            ((10 << 20) + 1, "10485761"),
            (1 << 62, "4E"),
        ] {
            assert_eq!(size_text(size), text);
        }
    }

    #[test]
    fn json_has_nbdinfos_names() {
        let uri: NbdUri = "nbd://h/x".parse().unwrap();
        let details = ExportDetails {
            name: "x".parse().unwrap(),
            description: String::new(),
            size: 1 << 20,
            flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH,
            block_sizes: Some(qio_nbd::facts::BlockSizes::DEFAULT),
        };
        let report = Report::new(ReplyMode::Structured, true, vec![Export::new(&uri, &details)]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["TLS"], &json["protocol"]),
            (&true.into(), &"newstyle-fixed".into())
        );
        let export = &json["exports"][0];
        assert_eq!(export["export-name"], "x");
        assert_eq!(export["uri"], "nbd://h/x");
        assert_eq!(export["export-size"], 1 << 20);
        assert_eq!(export["export-size-str"], "1M");
        assert_eq!(
            (&export["can_flush"], &export["can_trim"]),
            (&true.into(), &false.into())
        );
        assert_eq!(export["block_size_preferred"], 4096);
        assert!(export.get("description").is_none());
    }
}
