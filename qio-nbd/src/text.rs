//! Strings from and for peers: cut to size, and made safe to print.

use crate::limits::{MAX_ECHO, MAX_STRING};

/// Cuts `text` to at most `limit` bytes, on a character boundary.
pub(crate) fn truncate(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// A peer's string as a log line or an error message may repeat it: control characters escaped, and at
/// most [`MAX_ECHO`] bytes of it.
pub(crate) fn echo(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        let before = shown.len();
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        if shown.len() > MAX_ECHO - 3 {
            shown.truncate(before);
            shown.push_str("...");
            break;
        }
    }
    shown
}

/// The human text of a peer's refusal: at most [`MAX_STRING`] bytes, control characters escaped.
pub(crate) fn peer_text(bytes: &[u8]) -> String {
    let kept = bytes.get(..bytes.len().min(MAX_STRING)).unwrap_or_default();
    let mut shown = String::with_capacity(kept.len());
    for character in String::from_utf8_lossy(kept).chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nbds_06_echo_is_short_whole_and_printable() {
        assert_eq!(echo("disk"), "disk");
        assert_eq!(echo("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        for length in 0..300 {
            let shown = echo(&"ä".repeat(length));
            assert!(shown.len() <= MAX_ECHO, "{length}: {}", shown.len());
            assert!(echo(&"\u{7}".repeat(length)).len() <= MAX_ECHO);
        }
        assert!(echo(&"x".repeat(4096)).ends_with("..."));
    }

    #[test]
    fn truncation_keeps_characters_whole() {
        assert_eq!(truncate("aä", 2), "a");
        assert_eq!(truncate("aä", 3), "aä");
        assert_eq!(truncate("", 5), "");
    }

    #[test]
    fn nbdc_11_peer_text_is_bounded_and_escaped() {
        assert_eq!(peer_text(b"no\x00\xff"), "no\\u{0}\u{fffd}");
        assert_eq!(peer_text(&[b'x'; 9000]).len(), MAX_STRING);
    }
}
