//! Pre-shared keys: what a `tls-creds-psk` object holds.

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::{Endpoint, Priority};

/// The longest user name, in bytes of UTF-8. OpenSSL keeps 256 with the NUL at their end.
pub(crate) const MAX_USERNAME: usize = 255;

/// The longest key, in bytes: what OpenSSL takes. RFC 4279 asks for 64.
pub(crate) const MAX_KEY: usize = 256;

/// A key shorter than this, in bytes, can be guessed by whoever records a handshake (RFC 9257, section 6).
pub(crate) const SHORT_KEY: usize = 16;

/// How long a generated key is, in bytes; psktool's own choice.
const GENERATED_KEY: usize = 32;

/// The contents of a `tls-creds-psk` object.
#[derive(Debug)]
pub struct Psk {
    party: PskParty,
    priority: Option<Priority>,
}

/// What one end of a session proves who it is with.
///
/// A server knows many users, a client is one of them, so the endpoint is part of the type.
#[derive(Debug)]
#[non_exhaustive]
pub enum PskParty {
    /// The users that a server knows.
    Server(PskUsers),
    /// The user that a client is.
    Client(PskIdentity),
}

impl Psk {
    /// A server that knows `users`.
    #[must_use]
    pub fn server(users: PskUsers) -> Self {
        Self {
            party: PskParty::Server(users),
            priority: None,
        }
    }

    /// A client that is `user`.
    #[must_use]
    pub fn client(user: PskIdentity) -> Self {
        Self {
            party: PskParty::Client(user),
            priority: None,
        }
    }

    /// With the versions and algorithms of TLS that `priority` allows; see [`Priority::parse_for_psk`].
    #[must_use]
    pub fn with_priority(mut self, priority: Option<Priority>) -> Self {
        self.priority = priority;
        self
    }

    /// The users or the user.
    #[must_use]
    pub fn party(&self) -> &PskParty {
        &self.party
    }

    /// Which versions and algorithms of TLS the object's `priority` allows; none if it leaves that to the engine.
    #[must_use]
    pub fn priority(&self) -> Option<&Priority> {
        self.priority.as_ref()
    }

    /// The side of the session that these keys are for.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        match self.party {
            PskParty::Server(_) => Endpoint::Server,
            PskParty::Client(_) => Endpoint::Client,
        }
    }
}

/// Why something cannot be a user or a key. Never says what the key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPsk {
    /// No colon separates a user from a key.
    #[error("it is not of the form user:key")]
    NoColon,
    /// There is nothing before the colon.
    #[error("the user name is empty")]
    NoUsername,
    /// The user name is too long to be sent.
    #[error("the user name is longer than {MAX_USERNAME} bytes")]
    LongUsername,
    /// The user name has a byte that C programs take for its end, or that a line cannot hold.
    #[error("the user name contains a NUL or a line break")]
    ControlInUsername,
    /// The user name is not text.
    #[error("the user name is not UTF-8")]
    UsernameNotText,
    /// There is no key.
    #[error("the key is empty")]
    NoKey,
    /// The key is longer than the engine takes.
    #[error("the key is longer than {MAX_KEY} bytes")]
    LongKey,
    /// The key is not hexadecimal.
    #[error("the key is not an even number of hexadecimal digits")]
    KeyNotHex,
}

/// A pre-shared key: wiped when dropped, and never printed.
#[derive(Clone)]
pub struct PskKey(Zeroizing<Vec<u8>>);

impl PskKey {
    /// A new random key of 32 bytes.
    ///
    /// # Errors
    /// The system has no randomness to give, which it does not recover from.
    pub fn generate() -> std::io::Result<Self> {
        let mut key = Zeroizing::new(vec![0; GENERATED_KEY]);
        aws_lc_rs::rand::fill(&mut key)
            .map_err(|_| std::io::Error::other("the random number generator failed"))?;
        Ok(Self(key))
    }

    /// A key of these bytes.
    ///
    /// # Errors
    /// It is empty, or longer than 256 bytes.
    pub fn from_bytes(key: &[u8]) -> Result<Self, InvalidPsk> {
        Self::of(Zeroizing::new(key.to_vec()))
    }

    /// A key written as hexadecimal digits of either case, as in `keys.psk`.
    ///
    /// ```
    /// # use qio_creds::PskKey;
    /// assert_eq!(PskKey::from_hex("c0ffee")?.bytes(), [0xc0, 0xff, 0xee]);
    /// assert!(PskKey::from_hex("coffee").is_err());
    /// # Ok::<(), qio_creds::InvalidPsk>(())
    /// ```
    ///
    /// # Errors
    /// It is not hexadecimal, empty, or longer than 256 bytes.
    pub fn from_hex(digits: &str) -> Result<Self, InvalidPsk> {
        Self::from_hex_bytes(digits.as_bytes())
    }

    pub(crate) fn from_hex_bytes(digits: &[u8]) -> Result<Self, InvalidPsk> {
        if digits.len() / 2 > MAX_KEY {
            return Err(InvalidPsk::LongKey);
        }
        // Room for all of it at once: a vector that grows would leave pieces of the key behind.
        let mut key = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        let (pairs, rest) = digits.as_chunks::<2>();
        for [high, low] in pairs {
            let byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low);
            key.push(byte.ok_or(InvalidPsk::KeyNotHex)?);
        }
        if !rest.is_empty() {
            return Err(InvalidPsk::KeyNotHex);
        }
        Self::of(key)
    }

    fn of(key: Zeroizing<Vec<u8>>) -> Result<Self, InvalidPsk> {
        match key.len() {
            0 => Err(InvalidPsk::NoKey),
            1..=MAX_KEY => Ok(Self(key)),
            _ => Err(InvalidPsk::LongKey),
        }
    }

    /// The key itself. Copies made from it are the caller's to wipe.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key in lower-case hexadecimal, as `keys.psk` has it.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 2));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
        text
    }
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

impl fmt::Debug for PskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PskKey(redacted)")
    }
}

/// A user and the user's key.
#[derive(Debug, Clone)]
pub struct PskIdentity {
    username: String,
    key: PskKey,
}

impl PskIdentity {
    /// The user `username` with the key `key`.
    ///
    /// # Errors
    /// The name is empty, longer than 255 bytes, or has a NUL or a line break in it.
    pub fn new(username: impl Into<String>, key: PskKey) -> Result<Self, InvalidPsk> {
        let username = username.into();
        if username.is_empty() {
            return Err(InvalidPsk::NoUsername);
        }
        if username.len() > MAX_USERNAME {
            return Err(InvalidPsk::LongUsername);
        }
        if username.contains(['\0', '\n', '\r']) {
            return Err(InvalidPsk::ControlInUsername);
        }
        Ok(Self { username, key })
    }

    /// The name, which goes over the wire in clear text.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PskKey {
        &self.key
    }
}

/// The users that a server knows, however many: finding one takes the same time whatever the name, and whether it is
/// there or not.
pub struct PskUsers {
    // The standard map's hash is keyed at random, so a peer cannot choose names that collide.
    users: HashMap<Box<[u8]>, PskKey>,
    decoy: PskKey,
}

/// The key that a handshake is to be judged by: see [`PskUsers::find`].
#[derive(Debug, Clone, Copy)]
pub enum PskMatch<'a> {
    /// The user is known, and this is the key.
    Known(&'a PskKey),
    /// There is no such user. With this random key, the handshake fails as it does for a wrong key.
    Unknown(&'a PskKey),
}

impl<'a> PskMatch<'a> {
    /// The key to go on with, whichever it is.
    #[must_use]
    pub fn key(self) -> &'a PskKey {
        match self {
            Self::Known(key) | Self::Unknown(key) => key,
        }
    }
}

impl PskUsers {
    /// Users by their names. Of two with the same name the first one counts.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn new(users: impl IntoIterator<Item = PskIdentity>) -> std::io::Result<Self> {
        let mut by_name = HashMap::new();
        for PskIdentity { username, key } in users {
            by_name
                .entry(username.into_bytes().into_boxed_slice())
                .or_insert(key);
        }
        Ok(Self {
            users: by_name,
            decoy: PskKey::generate()?,
        })
    }

    /// The key of the user that a peer says it is. Names compare as full byte strings.
    ///
    /// Whoever guesses names learns nothing: for an unknown user there is a random key, with which the handshake goes
    /// its way and fails like any with a wrong key.
    #[must_use]
    pub fn find(&self, identity: &[u8]) -> PskMatch<'_> {
        self.users
            .get(identity)
            .map_or(PskMatch::Unknown(&self.decoy), PskMatch::Known)
    }

    /// The random key that stands in for that of an unknown user.
    #[must_use]
    pub fn decoy(&self) -> &PskKey {
        &self.decoy
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Is nobody known?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl fmt::Debug for PskUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PskUsers({})", self.users.len())
    }
}
