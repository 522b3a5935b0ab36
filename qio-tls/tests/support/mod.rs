//! Credentials made in memory, and two ends without a transport.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests report by panicking"
)]

use qio_creds::pki::{Authority, AuthorityTemplate, Name, Pair, Purpose, Template};
use qio_creds::{ClientCreds, Endpoint, ServerCreds, TlsCreds};
use qio_tls::{Handshake, HandshakeStep, Session, TlsError, Transport};

pub const HOST: &str = "vmhost.example.com";

pub fn authority(name: &str) -> Authority {
    Authority::create(&AuthorityTemplate::new(name)).unwrap()
}

pub fn server_template() -> Template {
    Template::new(Purpose::Server).name(Name::Dns(HOST.to_owned()))
}

pub fn client_template() -> Template {
    Template::new(Purpose::Client).common_name("tester")
}

/// Credentials of one side: an identity, the authorities it trusts. Unfit ones are the point of many tests, so the
/// checks at load are off.
pub fn creds(endpoint: Endpoint, identity: Option<Pair>, trusts: &[&Authority]) -> TlsCreds {
    let mut builder = TlsCreds::builder(endpoint)
        .id("test0")
        .sanity_check(false)
        .ca(trusts.iter().map(|authority| authority.certificate().clone()));
    if let Some(identity) = identity {
        builder = builder.identity(identity.into_identity());
    }
    builder.build().unwrap()
}

pub fn server_creds(identity: Pair, trusts: &[&Authority]) -> ServerCreds {
    creds(Endpoint::Server, Some(identity), trusts)
        .for_server()
        .unwrap()
}

pub fn client_creds(identity: Option<Pair>, trusts: &[&Authority]) -> ClientCreds {
    creds(Endpoint::Client, identity, trusts).for_client().unwrap()
}

/// One authority, and both ends with certificates of it.
pub fn good_creds() -> (ClientCreds, ServerCreds) {
    let ca = authority("Test CA");
    let client = client_creds(Some(ca.issue(&client_template()).unwrap()), &[&ca]);
    let server = server_creds(ca.issue(&server_template()).unwrap(), &[&ca]);
    (client, server)
}

/// Moves what `from` has to send into `to`, at most `chunk` bytes at a time.
pub fn carry(from: &mut impl Transport, to: &mut impl Transport, chunk: usize) -> usize {
    let n = from.to_send().len().min(chunk);
    let space = to.receive_space();
    let n = n.min(space.len());
    space[..n].copy_from_slice(&from.to_send()[..n]);
    if n > 0 {
        to.received(n);
        from.sent(n);
    }
    n
}

/// What a handshake came to at each end.
pub struct Outcome {
    pub client: Result<Session, TlsError>,
    pub server: Result<Session, TlsError>,
}

impl Outcome {
    pub fn both(self) -> (Session, Session) {
        (
            self.client.expect("the client's side"),
            self.server.expect("the server's side"),
        )
    }
}

/// Runs a handshake to its end, in chunks of at most `chunk` bytes. Under TLS 1.3 a client is done before the server
/// has judged its certificate, so each side's verdict is what its first read or its handshake says.
pub fn shake(mut client: Handshake, mut server: Handshake, chunk: usize) -> Outcome {
    let (mut client_done, mut server_done) = (None, None);
    for _ in 0..1_000_000 {
        if client_done.is_none() {
            client_done = verdict(client.step());
        }
        if server_done.is_none() {
            server_done = verdict(server.step());
        }
        let moved = carry(&mut client, &mut server, chunk) + carry(&mut server, &mut client, chunk);
        if moved == 0 && client_done.is_some() && server_done.is_some() {
            break;
        }
        assert!(
            moved > 0 || client_done.is_none() || server_done.is_none(),
            "the handshake does not get on"
        );
        if moved == 0 && (client_done.is_some() || server_done.is_some()) {
            // One side is over and has nothing more to say.
            if client_done.is_none() {
                client.received_end();
            }
            if server_done.is_none() {
                server.received_end();
            }
        }
    }
    let session = |done: Option<Result<(), TlsError>>, handshake: Handshake| {
        done.expect("an outcome")
            .map(|()| handshake.into_session().expect("it is done"))
    };
    let mut outcome = Outcome {
        client: session(client_done, client),
        server: session(server_done, server),
    };
    if let (Ok(session), Err(_)) = (&mut outcome.client, &outcome.server) {
        let mut byte = [0];
        match session.readv(&mut [std::io::IoSliceMut::new(&mut byte)]) {
            Ok(_) => {}
            Err(error) => outcome.client = Err(error),
        }
    }
    outcome
}

fn verdict(step: Result<HandshakeStep, TlsError>) -> Option<Result<(), TlsError>> {
    match step {
        Ok(HandshakeStep::Done) => Some(Ok(())),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }
}
