//! The policies of a system's administrator, by name: `@QEMU,SYSTEM`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::PriorityError;

/// Policies may refer to each other; more steps than this are a mistake.
const MAX_STEPS: usize = 8;

/// Names GnuTLS's variable for the file, as GnuTLS does.
const VARIABLE: &str = "GNUTLS_SYSTEM_PRIORITY_FILE";

/// Where crypto-policies and GnuTLS itself put their file.
const USUAL: [&str; 2] = [
    "/etc/crypto-policies/back-ends/gnutls.config",
    "/etc/gnutls/config",
];

/// Files in which `@KEYWORD` is looked up; the first that exists counts.
///
/// Both forms of the file are read: lines `KEYWORD=PRIORITIES`, and the sections of GnuTLS 3.7 and later, including the
/// allow-lists and deny-lists of its section `[overrides]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFiles(Vec<PathBuf>);

impl PolicyFiles {
    /// Those of this system: what the environment variable `GNUTLS_SYSTEM_PRIORITY_FILE` names, or else the usual places.
    #[must_use]
    pub fn system() -> Self {
        match std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
            Some(file) => Self(vec![file.into()]),
            None => Self(USUAL.map(PathBuf::from).to_vec()),
        }
    }

    /// These files.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().collect())
    }

    /// Replaces a policy's name at the beginning of a priority string by what it stands for.
    pub(super) fn expand(&self, text: &str) -> Result<String, PriorityError> {
        let mut text = text.trim().to_owned();
        let mut policies = None;
        for _ in 0..MAX_STEPS {
            let Some(named) = text.strip_prefix('@') else {
                return Ok(text);
            };
            let (keywords, rest) = match named.split_once(':') {
                Some((keywords, rest)) => (keywords, Some(rest)),
                None => (named, None),
            };
            let policies = match &mut policies {
                Some(policies) => policies,
                none => none.insert(self.read()?),
            };
            let found = keywords
                .split(',')
                .find_map(|keyword| policies.find(keyword.trim()));
            let Some(mut expanded) = found else {
                return Err(PriorityError::NoPolicy {
                    keywords: keywords.to_owned(),
                    files: policies.read_from.clone(),
                });
            };
            if let Some(rest) = rest {
                expanded.push(':');
                expanded.push_str(rest);
            }
            text = expanded;
        }
        Err(PriorityError::PolicyLoop {
            keywords: text.trim_start_matches('@').to_owned(),
        })
    }

    fn read(&self) -> Result<Policies, PriorityError> {
        for file in &self.0 {
            match fs::read_to_string(file) {
                Ok(text) => {
                    let mut policies = Policies::parse(&text);
                    policies.read_from = vec![file.clone()];
                    return Ok(policies);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(PriorityError::PolicyFile {
                        file: file.clone(),
                        source,
                    });
                }
            }
        }
        Ok(Policies {
            read_from: self.0.clone(),
            ..Policies::default()
        })
    }
}

/// What a file holds.
#[derive(Default)]
struct Policies {
    read_from: Vec<PathBuf>,
    priorities: BTreeMap<String, String>,
    /// The overrides, as parts of a priority string.
    overrides: Vec<String>,
    allow_list: bool,
}

impl Policies {
    fn parse(text: &str) -> Self {
        let mut policies = Policies::default();
        let mut section = "priorities".to_owned();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.trim().to_ascii_lowercase();
                continue;
            }
            // Lines that say nothing are passed over, as GnuTLS does.
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            match section.as_str() {
                "priorities" => {
                    policies.priorities.insert(key.to_owned(), value.to_owned());
                }
                "overrides" => policies.overrides.extend(override_as_token(key, value)),
                "global" if key == "override-mode" => {
                    policies.allow_list = value.eq_ignore_ascii_case("allowlist");
                }
                _ => {}
            }
        }
        policies
    }

    fn find(&self, keyword: &str) -> Option<String> {
        let mut found = self.priorities.get(keyword)?.clone();
        // Allow-lists say what there is instead of the policy; deny-lists take away from it.
        let tokens = self.overrides.iter().filter(|token| {
            token.starts_with('%') || token.starts_with(if self.allow_list { '+' } else { '-' })
        });
        for token in tokens {
            found.push(':');
            found.push_str(token);
        }
        Some(found)
    }
}

/// An override as a part of a priority string; none if it is about something else than sessions.
fn override_as_token(key: &str, value: &str) -> Option<String> {
    let prefixed = |sign: &str, prefix: &str| {
        let has = value
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        Some(if has {
            format!("{sign}{value}")
        } else {
            format!("{sign}{prefix}{value}")
        })
    };
    match key {
        "tls-enabled-cipher" => prefixed("+", ""),
        "tls-disabled-cipher" => prefixed("-", ""),
        "tls-enabled-mac" => prefixed("+", ""),
        "tls-disabled-mac" => prefixed("-", ""),
        "tls-enabled-kx" => prefixed("+", ""),
        "tls-disabled-kx" => prefixed("-", ""),
        "tls-enabled-group" => prefixed("+", "GROUP-"),
        "tls-disabled-group" => prefixed("-", "GROUP-"),
        "enabled-version" => prefixed("+", "VERS-"),
        "disabled-version" => prefixed("-", "VERS-"),
        "secure-sig" => prefixed("+", "SIGN-"),
        "insecure-sig" => prefixed("-", "SIGN-"),
        "min-verification-profile" => prefixed("%", "PROFILE_"),
        _ => None,
    }
}
