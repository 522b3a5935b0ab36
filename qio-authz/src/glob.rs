//! Patterns as GLib's `g_pattern_match_simple` has them, which is what QEMU uses.

/// Whether `pattern` covers the whole of `text`: `*` stands for any characters, also none, `?` for exactly one, and
/// everything else for itself. There are no brackets and no escapes.
///
/// Takes at most time in proportion to the product of the lengths.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // What to go back to when a character does not fit: the pattern behind the last star, and the text it was tried
    // on. Earlier stars need no second look: whatever they could cover, the last one can as well.
    let mut retry = None;
    loop {
        let mut rest = pattern.clone();
        match (rest.next(), text.clone().next()) {
            (Some('*'), _) => {
                pattern = rest;
                retry = Some((pattern.clone(), text.clone()));
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = rest;
                text.next();
            }
            (None, None) => return true,
            _ => {
                // The star takes one character more, if there is one.
                let Some((after_star, tried)) = &mut retry else {
                    return false;
                };
                if tried.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = tried.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn the_whole_text_must_match() {
        for (pattern, text) in [
            ("", ""),
            ("abc", "abc"),
            ("*", ""),
            ("*", "anything, at all/anywhere"),
            ("**", "x"),
            ("a*", "a"),
            ("a*c", "ac"),
            ("a*c", "abcbc"),
            ("?", "x"),
            ("?", "ü"),
            ("CN=host?,O=*", "CN=host1,O=Example, Inc."),
            ("*.example.com", "a.b.example.com"),
            ("a*b*c", "a-b-b-c-c"),
            ("*aab", "aaaab"),
            ("[a]", "[a]"),
            ("\\*", "\\x"),
        ] {
            assert!(matches(pattern, text), "{pattern:?} should match {text:?}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("abc", "ABC"),
            ("abc", "abcd"),
            ("abc", "xabc"),
            ("?", ""),
            ("?", "xy"),
            ("a*c", "abcd"),
            ("[ab]", "a"),
            ("\\*", "*"),
            ("*?", ""),
            ("a?b", "ab"),
        ] {
            assert!(!matches(pattern, text), "{pattern:?} should not match {text:?}");
        }
    }

    /// All patterns and texts of up to four letters, against the definition.
    #[test]
    fn it_is_what_the_definition_says() {
        fn reference(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), None) => reference(rest, text),
                (Some((b'*', rest)), Some((_, shorter))) => {
                    reference(rest, text) || reference(pattern, shorter)
                }
                (Some((p, rest)), Some((t, shorter))) => (*p == b'?' || p == t) && reference(rest, shorter),
                _ => false,
            }
        }
        fn words(letters: &[char], longest: usize) -> Vec<String> {
            let mut words = vec![String::new()];
            let mut start = 0;
            for _ in 0..longest {
                let end = words.len();
                for i in start..end {
                    for letter in letters {
                        words.push(format!("{}{letter}", words[i]));
                    }
                }
                start = end;
            }
            words
        }
        for pattern in words(&['a', 'b', '*', '?'], 4) {
            for text in words(&['a', 'b'], 5) {
                assert_eq!(
                    matches(&pattern, &text),
                    reference(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
        }
    }

    /// An exponential matcher would not come back from this.
    #[test]
    fn many_stars_cost_no_more_than_a_product() {
        let pattern = format!("{}b", "a*".repeat(2000));
        assert!(!matches(&pattern, &"a".repeat(4096)));
    }
}
