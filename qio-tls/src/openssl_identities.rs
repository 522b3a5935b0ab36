//! The PSK identities that a client names in clear text, as whole byte strings.
//!
//! OpenSSL hands identities to its callback as C strings, cut at the first NUL: `admin\0x` would arrive as `admin`
//! (hostile.md CRED-01). So a server reads them from the wire itself, beside OpenSSL, and lets a user in only under a
//! name that stands there in full. Whatever this reader does not understand leaves it without identities, and then
//! nobody is let in.

/// A ClientHello names one identity, perhaps a few; more are an attempt to search for users.
const MAX_IDENTITIES: usize = 16;

/// The longest handshake message looked at: a header and the greatest ClientHello there is a use for.
const MAX_MESSAGE: usize = 128 << 10;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const PRE_SHARED_KEY: u16 = 41;

/// Reads a client's part of a handshake as far as it is in clear text.
#[derive(Debug, Default)]
pub(crate) struct IdentityReader {
    state: State,
    /// The handshake messages that are not complete.
    message: Vec<u8>,
    identities: Vec<Vec<u8>>,
    /// The client named something that no honest client names.
    spoiled: bool,
}

#[derive(Debug)]
enum State {
    /// In the header of a record; so much of it is there.
    Header([u8; RECORD_HEADER], usize),
    /// In the content of a record; so many bytes of it are to come.
    Content { is_handshake: bool, left: usize },
    /// No more clear text is to come, or nothing that is understood.
    Over,
}

impl Default for State {
    fn default() -> Self {
        State::Header([0; RECORD_HEADER], 0)
    }
}

impl IdentityReader {
    /// Takes what has come in, in pieces of any size.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Over => return,
                State::Header(header, filled) => {
                    let (now, later) = bytes.split_at(bytes.len().min(RECORD_HEADER - *filled));
                    for (to, from) in header.iter_mut().skip(*filled).zip(now) {
                        *to = *from;
                    }
                    *filled += now.len();
                    bytes = later;
                    if *filled == RECORD_HEADER {
                        self.state = content_of(*header);
                    }
                }
                State::Content { is_handshake, left } => {
                    let (now, later) = bytes.split_at(bytes.len().min(*left));
                    if *is_handshake {
                        self.message.extend_from_slice(now);
                    }
                    *left -= now.len();
                    bytes = later;
                    if *left == 0 {
                        self.state = State::default();
                    }
                    if !now.is_empty() {
                        self.take_messages();
                    }
                }
            }
        }
    }

    fn take_messages(&mut self) {
        while let Some((kind, body)) = split_message(&self.message) {
            let end = MESSAGE_HEADER + body.len();
            let (identities, over) = match kind {
                CLIENT_HELLO => (in_hello(body), false),
                CLIENT_KEY_EXCHANGE => (in_key_exchange(body), true),
                _ => (None, true),
            };
            if let Some(identities) = identities {
                self.spoiled |= identities.len() > MAX_IDENTITIES
                    || identities.iter().any(|identity| identity.contains(&0));
                self.identities = identities
                    .into_iter()
                    .take(MAX_IDENTITIES)
                    .map(<[u8]>::to_vec)
                    .collect();
            }
            self.message.drain(..end);
            if over {
                self.stop();
                return;
            }
        }
        if self.message.len() > MAX_MESSAGE {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.state = State::Over;
        self.message = Vec::new();
    }

    /// Whether the client named `identity`, in full and without tricks.
    pub(crate) fn has_named(&self, identity: &[u8]) -> bool {
        !self.spoiled && self.identities.iter().any(|named| named == identity)
    }

    /// The identity to tell of when `identity` is what OpenSSL made of it.
    pub(crate) fn in_full<'a>(&'a self, identity: &'a [u8]) -> &'a [u8] {
        self.identities
            .iter()
            .find(|named| named.split(|byte| *byte == 0).next() == Some(identity))
            .map_or(identity, Vec::as_slice)
    }

    /// Whether the client named anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }
}

fn content_of(header: [u8; RECORD_HEADER]) -> State {
    let [kind, _, _, high, low] = header;
    let left = usize::from(u16::from_be_bytes([high, low]));
    match kind {
        HANDSHAKE | CHANGE_CIPHER_SPEC | ALERT if left > 0 => State::Content {
            is_handshake: kind == HANDSHAKE,
            left,
        },
        _ => State::Over,
    }
}

/// The first message, if all of it is there: its kind and its body.
fn split_message(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<MESSAGE_HEADER>()?;
    let [kind, a, b, c] = *header;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    Some((kind, rest.get(..length)?))
}

/// The identities of the pre_shared_key extension (RFC 8446, section 4.2.11); none if there is no such extension.
fn in_hello(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut body = Fields(body);
    body.take(2 + 32)?; // legacy_version, random
    body.short_vector()?; // legacy_session_id
    body.vector()?; // cipher_suites
    body.short_vector()?; // legacy_compression_methods
    let mut extensions = Fields(body.vector()?);
    while let Some(kind) = extensions.number() {
        let content = extensions.vector()?;
        if kind == PRE_SHARED_KEY {
            let mut offered = Fields(Fields(content).vector()?);
            let mut identities = Vec::new();
            while let Some(identity) = offered.vector() {
                offered.take(4)?; // obfuscated_ticket_age
                identities.push(identity);
                if identities.len() > MAX_IDENTITIES {
                    break;
                }
            }
            return Some(identities);
        }
    }
    Some(Vec::new())
}

/// The identity that begins a ClientKeyExchange with pre-shared keys (RFC 4279, section 2; RFC 5489, section 2).
fn in_key_exchange(body: &[u8]) -> Option<Vec<&[u8]>> {
    Some(vec![Fields(body).vector()?])
}

/// What is left of a structure.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(n)?;
        self.0 = later;
        Some(now)
    }

    fn number(&mut self) -> Option<u16> {
        let (now, later) = self.0.split_first_chunk::<2>()?;
        self.0 = later;
        Some(u16::from_be_bytes(*now))
    }

    /// Behind two bytes of length.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// Behind one byte of length.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let (length, later) = self.0.split_first()?;
        self.0 = later;
        self.take((*length).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(content: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(content);
        bytes
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes[0] = kind;
        bytes.extend(body);
        bytes
    }

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3][..], &vector(content)].concat()
    }

    fn hello(identities: &[&[u8]]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector(&[0x13, 0x01]));
        body.extend([1, 0]);
        let mut extensions = [0, 43].to_vec();
        extensions.extend(vector(&[2, 3, 4]));
        if !identities.is_empty() {
            let offered: Vec<u8> = identities
                .iter()
                .flat_map(|identity| [vector(identity), vec![0; 4]].concat())
                .collect();
            let binders = vector(&[33; 33]);
            extensions.extend([0, 41]);
            extensions.extend(vector(&[vector(&offered), binders].concat()));
        }
        body.extend(vector(&extensions));
        message(CLIENT_HELLO, &body)
    }

    fn read(bytes: &[u8], step: usize) -> IdentityReader {
        let mut reader = IdentityReader::default();
        bytes.chunks(step).for_each(|chunk| reader.feed(chunk));
        reader
    }

    #[test]
    fn a_hello_in_pieces_of_any_size_and_several_records() {
        let hello = hello(&[b"alice", b"bob"]);
        let (a, b) = hello.split_at(50);
        let stream = [record(22, a), record(22, b)].concat();
        for step in [1, 2, 3, 7, stream.len()] {
            let reader = read(&stream, step);
            assert!(reader.has_named(b"alice") && reader.has_named(b"bob"), "{step}");
            assert!(!reader.has_named(b"alic") && !reader.has_named(b"alice\0") && !reader.has_named(b""));
        }
        let cut = read(&stream[..stream.len() - 1], 4);
        assert!(cut.is_empty());
    }

    #[test]
    fn cred_01_an_identity_with_a_nul_spoils_all_of_them() {
        for identities in [
            &[&b"admin\0x"[..]][..],
            &[b"admin\0x", b"admin"],
            &[b"admin", b"\0"],
        ] {
            let reader = read(&record(22, &hello(identities)), 64);
            assert!(!reader.has_named(b"admin"));
            assert!(!reader.has_named(identities[0]));
        }
        let reader = read(&record(22, &hello(&[b"admin\0x"])), 64);
        assert_eq!(reader.in_full(b"admin"), b"admin\0x");
        assert_eq!(reader.in_full(b"carol"), b"carol");
    }

    #[test]
    fn cred_01_the_key_exchange_of_tls_1_2_as_well() {
        let exchange =
            |identity: &[u8]| message(CLIENT_KEY_EXCHANGE, &[vector(identity), vec![1, 4]].concat());
        let stream = |identity: &[u8]| {
            [
                record(22, &hello(&[])),
                record(22, &exchange(identity)),
                record(20, &[1]),
                record(22, &[0; 40]),
            ]
            .concat()
        };
        assert!(read(&stream(b"alice"), 5).has_named(b"alice"));
        let spoiled = read(&stream(b"alice\0"), 5);
        assert!(!spoiled.has_named(b"alice") && !spoiled.has_named(b"alice\0"));
    }

    #[test]
    fn the_second_hello_of_a_retry_counts() {
        let stream = [
            record(22, &hello(&[b"alice"])),
            record(20, &[1]),
            record(22, &hello(&[b"bob"])),
        ]
        .concat();
        let reader = read(&stream, 11);
        assert!(reader.has_named(b"bob") && !reader.has_named(b"alice"));
    }

    #[test]
    fn clear_text_ends_at_what_is_not_understood() {
        for first in [
            record(23, b"x"),
            vec![0x80, 46, 1, 3, 3],
            b"GET / HTTP/1.1\r\n".to_vec(),
            record(22, &message(11, b"a certificate")),
        ] {
            let stream = [first, record(22, &hello(&[b"alice"]))].concat();
            assert!(read(&stream, 3).is_empty());
        }
    }

    #[test]
    fn a_flood_of_identities_is_not_searched() {
        let names: Vec<Vec<u8>> = (0..2000u32).map(|n| n.to_string().into_bytes()).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let hello = hello(&names);
        let stream: Vec<u8> = hello.chunks(16000).flat_map(|part| record(22, part)).collect();
        let reader = read(&stream, 4096);
        assert!(!reader.is_empty() && !reader.has_named(b"0"));
    }

    #[test]
    fn no_garbage_upsets_it() {
        let whole = record(22, &hello(&[b"alice", b"bob"]));
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let reader = read(&bytes, 13);
                assert!(reader.identities.len() <= MAX_IDENTITIES);
            }
            let _ = read(&whole[at..], 13);
        }
    }
}
