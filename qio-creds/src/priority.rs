//! Which versions and algorithms of TLS a credentials object allows: GnuTLS's priority strings.
//!
//! The syntax is that of the GnuTLS manual, section "Priority strings", and what each keyword stands for is what
//! `gnutls-cli --list --priority KEYWORD` prints.

mod error;
mod keyword;
mod names;
mod option;
mod policy;
mod profile;

use std::fmt;
use std::str::FromStr;

use keyword::{Keyword, NORMAL};
use names::{Kind, Meaning, Members, SUITES, Suite};
use option::Asked;

pub use error::PriorityError;
pub use policy::PolicyFiles;
pub use profile::Profile;

/// What GnuTLS-based programs put before a priority string of their own for pre-shared keys.
const PSK_KEY_EXCHANGES: &str = ":+ECDHE-PSK:+DHE-PSK:+PSK";

/// Which versions and algorithms of TLS are allowed, and in which order they are preferred.
///
/// Algorithms go by their numbers in IANA's registries, so that any engine can ask about those that it has. A priority
/// string may allow more than any engine offers, such as ciphers of the past; [`unavailable`](Self::unavailable) lists what it
/// added in vain.
///
/// # Order
///
/// What was added by name is preferred in the order of the string. What a keyword added, or a name with `ALL`, is one
/// [`Rank`] together: within it the engine's own order holds, which puts first what is fast on the machine at hand.
///
/// ```
/// use qio_creds::Priority;
///
/// const TLS_1_3: u16 = 0x0304;
/// const TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: u16 = 0xc030;
///
/// let priority: Priority = "SECURE192:-VERS-TLS1.3".parse()?;
/// assert!(!priority.allows_version(TLS_1_3));
/// assert!(priority.cipher_suite(TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384).is_some());
///
/// let error = "NORMAL:+AES-257-GCM".parse::<Priority>().unwrap_err();
/// assert!(error.to_string().contains("'+AES-257-GCM'"));
/// # Ok::<(), qio_creds::PriorityError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priority {
    text: String,
    chosen: Vec<Chosen>,
    profile: Profile,
    tickets: bool,
    extended_master_secret: bool,
    unavailable: Vec<String>,
}

/// A place in an order of preference: the lower, the better. Equal ranks leave it to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank([usize; 3]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chosen {
    kind: Kind,
    name: &'static str,
    step: usize,
}

impl Priority {
    /// Reads a priority string, for certificates.
    ///
    /// # Errors
    ///
    /// [`PriorityError`], which names the part of the string that cannot be honoured.
    pub fn parse(text: &str, policies: &PolicyFiles) -> Result<Self, PriorityError> {
        Self::build(text, text, policies)
    }

    /// Reads a priority string, for pre-shared keys: their key exchange methods are added, as QEMU does.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_for_psk(text: &str, policies: &PolicyFiles) -> Result<Self, PriorityError> {
        Self::build(text, &format!("{text}{PSK_KEY_EXCHANGES}"), policies)
    }

    fn build(given: &str, text: &str, policies: &PolicyFiles) -> Result<Self, PriorityError> {
        let mut priority = Priority {
            text: given.to_owned(),
            chosen: Vec::new(),
            profile: Profile::None,
            tickets: true,
            extended_master_secret: false,
            unavailable: Vec::new(),
        };
        let expanded = policies.expand(text)?;
        for (step, token) in expanded.split(':').enumerate() {
            priority.apply(token.trim(), step)?;
        }
        priority.check()?;
        Ok(priority)
    }

    fn apply(&mut self, token: &str, step: usize) -> Result<(), PriorityError> {
        let unknown = || PriorityError::Unknown {
            token: token.to_owned(),
        };
        match token.chars().next() {
            Some('+') => self.add(token, token.get(1..).unwrap_or_default(), step),
            Some('-' | '!') => self.remove(token, token.get(1..).unwrap_or_default()),
            Some('%') => self.ask(token, token.get(1..).unwrap_or_default()),
            // "NONE" is what everything starts from.
            Some(_) if step == 0 && token.eq_ignore_ascii_case("NONE") => Ok(()),
            Some(_) => {
                let keyword = keyword::find(token).ok_or_else(unknown)?;
                self.add_members(keyword, Kind::ALL, step);
                self.profile = keyword.profile;
                self.tickets &= keyword.tickets;
                Ok(())
            }
            None => Err(unknown()),
        }
    }

    fn add(&mut self, token: &str, name: &str, step: usize) -> Result<(), PriorityError> {
        if let Some(keyword) = keyword::find(name) {
            let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Version);
            self.add_members(keyword, kinds, step);
            return Ok(());
        }
        match names::find(name) {
            Some(Meaning::One(kind, name)) => self.add_one(kind, name, step),
            Some(Meaning::Whole(kind, Members::All)) => self.add_members(NORMAL, [kind], step),
            Some(Meaning::Whole(kind, members)) => {
                for name in NORMAL.members(kind) {
                    if members.include(name) {
                        self.add_one(kind, name, step);
                    }
                }
            }
            Some(Meaning::Foreign) => self.unavailable.push(token.to_owned()),
            None => match other_name(name) {
                Some(Other::Implied) => {}
                Some(Other::Foreign) => self.unavailable.push(token.to_owned()),
                None => {
                    return Err(PriorityError::Unknown {
                        token: token.to_owned(),
                    });
                }
            },
        }
        Ok(())
    }

    fn add_members(&mut self, keyword: &Keyword, kinds: impl IntoIterator<Item = Kind>, step: usize) {
        for kind in kinds {
            for name in keyword.members(kind) {
                self.add_one(kind, name, step);
            }
        }
    }

    /// Adds an algorithm behind what is there; one that is there already keeps its place.
    fn add_one(&mut self, kind: Kind, name: &'static str, step: usize) {
        if self.step(kind, name).is_none() {
            self.chosen.push(Chosen { kind, name, step });
        }
    }

    fn remove(&mut self, token: &str, name: &str) -> Result<(), PriorityError> {
        match names::find(name) {
            Some(Meaning::One(kind, name)) => {
                self.chosen
                    .retain(|chosen| (chosen.kind, chosen.name) != (kind, name));
            }
            Some(Meaning::Whole(kind, members)) => self
                .chosen
                .retain(|chosen| chosen.kind != kind || !members.include(chosen.name)),
            Some(Meaning::Foreign) => {}
            None => match other_name(name) {
                Some(Other::Implied) if !is_all(name) => {
                    return Err(PriorityError::Impossible {
                        token: token.to_owned(),
                        why: "there is nothing to take its place",
                    });
                }
                Some(_) => {}
                None => {
                    return Err(PriorityError::Unknown {
                        token: token.to_owned(),
                    });
                }
            },
        }
        Ok(())
    }

    fn ask(&mut self, token: &str, name: &str) -> Result<(), PriorityError> {
        match option::find(name) {
            Some(Asked::Nothing) => {}
            Some(Asked::Profile(profile)) => self.profile = profile,
            Some(Asked::NoTickets) => self.tickets = false,
            Some(Asked::ExtendedMasterSecret) => self.extended_master_secret = true,
            Some(Asked::Impossible(why)) => {
                return Err(PriorityError::Impossible {
                    token: token.to_owned(),
                    why,
                });
            }
            None => {
                return Err(PriorityError::Unknown {
                    token: token.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), PriorityError> {
        let nothing = |what| {
            Err(PriorityError::NothingLeft {
                what,
                text: self.text.clone(),
            })
        };
        let has = |kind| self.chosen.iter().any(|chosen| chosen.kind == kind);
        if !has(Kind::Version) {
            nothing("protocol version (TLS 1.2 and 1.3 are there)")
        } else if self.cipher_suites().is_empty() {
            nothing(
                "cipher suite (its cipher, its MAC, which is AEAD for most, and its key exchange must all be allowed)",
            )
        } else if !has(Kind::Group) {
            nothing("group for the key exchange")
        } else if !has(Kind::Signature) {
            nothing("signature algorithm")
        } else {
            Ok(())
        }
    }

    fn step(&self, kind: Kind, name: &str) -> Option<usize> {
        self.chosen
            .iter()
            .find(|chosen| chosen.kind == kind && chosen.name == name)
            .map(|chosen| chosen.step)
    }

    fn best(&self, kind: Kind, code: u16) -> Option<Rank> {
        kind.known()
            .iter()
            .filter(|algorithm| algorithm.code == code)
            .filter_map(|algorithm| self.step(kind, algorithm.name))
            .min()
            .map(|step| Rank([step, 0, 0]))
    }

    fn rank_suite(&self, suite: &Suite) -> Option<Rank> {
        let version = self.step(Kind::Version, suite.version)?;
        let key_exchange = match suite.key_exchange {
            Some(name) => self.step(Kind::KeyExchange, name)?,
            None => 0,
        };
        self.step(Kind::Mac, suite.mac)?;
        Some(Rank([
            version,
            key_exchange,
            self.step(Kind::Cipher, suite.cipher)?,
        ]))
    }

    /// Whether a protocol version is allowed: 0x0304 is TLS 1.3, 0x0303 is TLS 1.2.
    #[must_use]
    pub fn allows_version(&self, version: u16) -> bool {
        self.best(Kind::Version, version).is_some()
            && self.suites().any(|suite| suite.version_code() == version)
    }

    /// The rank of a cipher suite; none if it is not allowed.
    #[must_use]
    pub fn cipher_suite(&self, suite: u16) -> Option<Rank> {
        SUITES
            .iter()
            .find(|known| known.code == suite)
            .and_then(|suite| self.rank_suite(suite))
    }

    /// All cipher suites that are allowed, the most preferred first, whether an engine has them or not.
    #[must_use]
    pub fn cipher_suites(&self) -> Vec<u16> {
        let mut suites: Vec<_> = self
            .suites()
            .filter_map(|suite| Some((self.rank_suite(suite)?, suite.code)))
            .collect();
        suites.sort_by_key(|(rank, _)| *rank);
        suites.into_iter().map(|(_, code)| code).collect()
    }

    fn suites(&self) -> impl Iterator<Item = &'static Suite> {
        SUITES.iter().filter(|suite| self.rank_suite(suite).is_some())
    }

    /// The rank of a group for the key exchange (IANA's "TLS Supported Groups"); none if it is not allowed.
    #[must_use]
    pub fn group(&self, group: u16) -> Option<Rank> {
        self.best(Kind::Group, group)
    }

    /// All groups that are allowed, the most preferred first, whether an engine has them or not.
    #[must_use]
    pub fn groups(&self) -> Vec<u16> {
        self.in_order(Kind::Group)
    }

    /// The rank of a signature algorithm (IANA's "TLS SignatureScheme"); none if it is not allowed.
    #[must_use]
    pub fn signature_scheme(&self, scheme: u16) -> Option<Rank> {
        self.best(Kind::Signature, scheme)
    }

    /// All signature algorithms that are allowed, the most preferred first, whether an engine has them or not.
    #[must_use]
    pub fn signature_schemes(&self) -> Vec<u16> {
        self.in_order(Kind::Signature)
    }

    fn in_order(&self, kind: Kind) -> Vec<u16> {
        let mut codes = Vec::new();
        for chosen in self.chosen.iter().filter(|chosen| chosen.kind == kind) {
            let algorithm = kind.known().iter().find(|known| known.name == chosen.name);
            codes.extend(
                algorithm
                    .map(|algorithm| algorithm.code)
                    .filter(|code| !codes.contains(code)),
            );
        }
        codes
    }

    /// How strong the keys of the peer's certificates must be.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether sessions may be resumed by tickets.
    #[must_use]
    pub fn allows_tickets(&self) -> bool {
        self.tickets
    }

    /// Whether peers that speak TLS 1.2 must know the extended master secret (RFC 7627).
    #[must_use]
    pub fn requires_extended_master_secret(&self) -> bool {
        self.extended_master_secret
    }

    /// The parts of the string that add what no engine here has. For a warning: all the rest is in force.
    #[must_use]
    pub fn unavailable(&self) -> &[String] {
        &self.unavailable
    }
}

/// As [`Priority::parse`] with the policies of this system.
impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, PriorityError> {
        Self::parse(text, &PolicyFiles::system())
    }
}

/// The string as it was given.
impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Suite {
    fn version_code(&self) -> u16 {
        names::VERSIONS
            .iter()
            .find(|version| version.name == self.version)
            .map_or(0, |version| version.code)
    }
}

impl Members {
    fn include(self, name: &str) -> bool {
        match self {
            Members::All => true,
            Members::FiniteField(finite) => name.starts_with("GROUP-FFDHE") == finite,
            Members::Foreign => false,
        }
    }
}

/// Names that are about neither versions nor algorithms.
enum Other {
    /// What every session here has.
    Implied,
    /// What none has.
    Foreign,
}

fn other_name(name: &str) -> Option<Other> {
    let name = name.to_ascii_uppercase();
    let certificate_type = ["CTYPE-CLI-", "CTYPE-SRV-", "CTYPE-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix));
    match (certificate_type, name.strip_prefix("COMP-")) {
        (Some("X509" | "X.509" | "ALL"), _) | (_, Some("NULL" | "ALL")) => Some(Other::Implied),
        (Some("OPENPGP" | "RAWPK"), _) | (_, Some("DEFLATE" | "LZO" | "ZLIB" | "BROTLI" | "ZSTD")) => {
            Some(Other::Foreign)
        }
        _ => None,
    }
}

/// Removing all of something is how a string begins to say what it wants instead.
fn is_all(name: &str) -> bool {
    name.to_ascii_uppercase().ends_with("-ALL")
}

#[cfg(test)]
mod tests;
