//! Mutual TLS between our server and our clients, and everything that must not work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and chooses its own sizes"
)]

mod support;

use std::sync::Arc;

use qio_authz::{Authz, AuthzList, AuthzRef, Policy, Rule};
use qio_channel::{BoxChannel, ChannelExt};
use qio_creds::pki::{Authority, AuthorityTemplate, Name, Purpose, Template};
use qio_creds::{ClientCreds, Endpoint, ServerCreds, TlsCreds};
use qio_nbd::buffer::AlignedBuf;
use qio_nbd::client::{AsyncClient, ClientError, ConnectOptions, Session, TlsSetup};
use qio_nbd::export::Durability;
use qio_nbd::negotiation::NegotiationError;
use qio_nbd::server::{ConnectionEnd, ConnectionError, Server, ServerTls};
use qio_opts::ObjectRegistry;

use support::*;

struct Pki(Authority);

impl Pki {
    fn new() -> Self {
        Pki(Authority::create(&AuthorityTemplate::new("test authority")).unwrap())
    }

    fn server(&self) -> ServerCreds {
        let template = Template::new(Purpose::Server).name("disk.example".parse::<Name>().unwrap());
        let identity = self.0.issue(&template).unwrap().into_identity();
        let creds = TlsCreds::builder(Endpoint::Server)
            .ca([self.0.certificate().clone()])
            .identity(identity);
        creds.build().unwrap().for_server().unwrap()
    }

    fn client(&self, with_identity: bool) -> ClientCreds {
        let mut creds = TlsCreds::builder(Endpoint::Client).ca([self.0.certificate().clone()]);
        if with_identity {
            let template = Template::new(Purpose::Client).common_name("a client");
            creds = creds.identity(self.0.issue(&template).unwrap().into_identity());
        }
        creds.build().unwrap().for_client().unwrap()
    }
}

fn secure(pki: &Pki) -> Server {
    let (builder, _) = builder();
    builder.tls(ServerTls::Required(pki.server())).build()
}

fn options(creds: ClientCreds, hostname: Option<&str>) -> ConnectOptions {
    let tls = TlsSetup::Require {
        creds,
        hostname: hostname.map(ToOwned::to_owned),
    };
    ConnectOptions {
        tls,
        ..ConnectOptions::default()
    }
}

/// Tries to reach `disk`, and reads its first bytes.
async fn try_client(channel: BoxChannel, options: ConnectOptions) -> Result<(), ClientError> {
    blocking(move || {
        let mut client = Session::over(channel, None, &options)?.go(&"disk".parse().unwrap())?;
        let mut buf = vec![0; 100_000];
        client.read_at(&mut buf, 5).unwrap();
        assert!(buf == pattern(5, 100_000));
        client.disconnect().unwrap();
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_carries_everything() {
    let pki = Pki::new();
    let server = secure(&pki);
    let (channel, served) = serve_one(&server);
    let options = options(pki.client(true), Some("disk.example"));
    let client = blocking(move || {
        let session = Session::over(channel, None, &options).unwrap();
        assert!(session.channel_info().tls.is_some());
        session.go(&"disk".parse().unwrap()).unwrap()
    })
    .await;
    let client = AsyncClient::new(client).unwrap();
    let mut data = AlignedBuf::zeroed(1 << 20);
    data.copy_from_slice(&pattern(3, 1 << 20));
    let (written, read) = tokio::join!(
        client.write(0, data, Durability::Forced),
        client.read(2 << 20, AlignedBuf::zeroed(3 << 20))
    );
    let _ = written.unwrap();
    assert!(*read.unwrap() == *pattern(2 << 20, 3 << 20));
    assert!(*client.read(0, AlignedBuf::zeroed(1 << 20)).await.unwrap() == *pattern(3, 1 << 20));
    client.close().await.unwrap();
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Disconnected);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_cause_on_both_sides() {
    let pki = Pki::new();
    let server = secure(&pki);

    let (channel, served) = serve_one(&server);
    let error = try_client(channel, ConnectOptions::default()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Negotiation(NegotiationError::TlsRequiredByServer(_))
        ),
        "{error}"
    );
    let error = served.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("requires TLS"), "{error}");

    let (channel, served) = serve_one(&server);
    let error = try_client(channel, options(pki.client(false), Some("disk.example")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = served.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Tls(_)), "{error}");

    let (channel, served) = serve_one(&server);
    let stranger = options(Pki::new().client(true), Some("disk.example"));
    let error = try_client(channel, stranger).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls(_)), "{error}");
    assert!(matches!(
        served.await.unwrap().unwrap_err(),
        ConnectionError::Tls(_)
    ));

    let (channel, served) = serve_one(&server);
    let error = try_client(channel, options(pki.client(true), Some("other.example")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("other.example"), "{error}");
    assert!(matches!(
        served.await.unwrap().unwrap_err(),
        ConnectionError::Tls(_)
    ));

    // No name, and credentials that verify: found out before a byte is sent.
    let (channel, _served) = serve_one(&server);
    let error = try_client(channel, options(pki.client(true), None))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NoName), "{error}");

    let (channel, served) = serve_one(&server);
    try_client(channel, options(pki.client(true), Some("disk.example")))
        .await
        .unwrap();
    assert_eq!(served.await.unwrap().unwrap(), ConnectionEnd::Disconnected);
}

#[tokio::test(flavor = "multi_thread")]
async fn cred_18_a_plain_server_gets_nothing_from_a_client_that_requires_tls() {
    let (builder, _) = builder();
    let server = builder.build();
    let (channel, served) = serve_one(&server);
    let error = try_client(channel, options(Pki::new().client(true), Some("x")))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Negotiation(NegotiationError::TlsNotOffered(Some(_)))
        ),
        "{error}"
    );
    let error = served.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("TLS is not configured"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_09_nbds_14_nothing_of_an_export_before_tls() {
    let server = secure(&Pki::new());
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut channel = channel;
        channel.read_exact(&mut [0; 18]).unwrap();
        channel
            .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk")
            .unwrap();
        assert_eq!(
            channel.read(&mut [0; 1]).unwrap(),
            0,
            "EXPORT_NAME is answered by closing"
        );
    })
    .await;
    let error = served.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("requires TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nbds_13_clear_text_glued_behind_starttls_ends_the_connection() {
    let server = secure(&Pki::new());
    let (channel, served) = serve_one(&server);
    blocking(move || {
        let mut channel = channel;
        channel.read_exact(&mut [0; 18]).unwrap();
        let starttls = b"\0\0\0\x03IHAVEOPT\0\0\0\x05\0\0\0\0";
        let list = b"IHAVEOPT\0\0\0\x03\0\0\0\0";
        channel.write_all(&[&starttls[..], list].concat()).unwrap();
        let mut rest = vec![];
        let mut buf = [0; 256];
        // However the kernel hands the two over, nothing about exports comes back.
        while let Ok(n) = channel.read(&mut buf) {
            if n == 0 {
                break;
            }
            rest.extend_from_slice(&buf[..n]);
        }
        assert!(!rest.windows(4).any(|window| window == b"disk"), "{rest:?}");
    })
    .await;
    assert!(served.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn cred_28_only_clients_on_the_access_list_get_in() {
    let pki = Pki::new();
    let objects = ObjectRegistry::new();
    let access = Arc::new(AuthzRef::new(&objects, "authz0"));
    let (builder, _) = builder();
    let tls = ServerTls::restricted(pki.server(), access).unwrap();
    let server = builder.tls(tls).build();
    let creds = pki.client(true);
    let attempt = || async {
        let (channel, served) = serve_one(&server);
        let outcome = try_client(channel, options(creds.clone(), Some("disk.example"))).await;
        (outcome, served.await.unwrap())
    };
    let denied = |(outcome, served): (Result<(), ClientError>, Result<_, ConnectionError>)| {
        let told = outcome.unwrap_err().to_string();
        assert!(told.contains("access_denied"), "{told}");
        served.unwrap_err().to_string()
    };

    let noted = denied(attempt().await);
    assert!(noted.contains("no object with id 'authz0'"), "{noted}");

    let list = AuthzList::new(Policy::Deny);
    objects.add("authz0", Authz::from(list.clone())).unwrap();
    let noted = denied(attempt().await);
    assert!(noted.contains("CN=a client"), "{noted}");

    list.append(Rule::exact("CN=a client", Policy::Allow));
    attempt().await.0.unwrap();

    objects.delete("authz0").unwrap();
    denied(attempt().await);
}

#[test]
fn an_access_list_needs_verified_clients() {
    let pki = Pki::new();
    let template = Template::new(Purpose::Server).name("disk.example".parse::<Name>().unwrap());
    let creds = TlsCreds::builder(Endpoint::Server)
        .id("tls0")
        .verify_peer(false)
        .identity(pki.0.issue(&template).unwrap().into_identity())
        .build()
        .unwrap();
    let everyone = Arc::new(AuthzList::new(Policy::Allow));
    let error = ServerTls::restricted(creds.for_server().unwrap(), everyone).unwrap_err();
    assert!(
        error.to_string().contains("'tls0'") && error.to_string().contains("verify-peer=off"),
        "{error}"
    );
}
