//! The command as a user types it.

use super::*;

use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    pki: PkiCommand,
}

fn parse(words: &[&str]) -> Result<PkiCommand, clap::Error> {
    Line::try_parse_from(["pki"].iter().chain(words)).map(|line| line.pki)
}

fn pki(words: &[&str]) -> anyhow::Result<()> {
    run(parse(words)?)
}

#[test]
fn a_newcomer_makes_a_whole_directory() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("pki");
    let dir_word = dir.to_str().unwrap();
    pki(&["init", dir_word, "--cn", "Test CA", "--org", "Firm"]).unwrap();
    pki(&[
        "server",
        dir_word,
        "--name",
        "host.example",
        "--name",
        "192.0.2.1",
        "--days",
        "30",
    ])
    .unwrap();
    pki(&["client", dir_word, "--cn", "alice", "--key-type", "ed25519"]).unwrap();
    for name in ["ca", "server", "client"] {
        assert!(
            dir.join(format!("{name}-cert.pem")).is_file() && dir.join(format!("{name}-key.pem")).is_file()
        );
    }
    let text = show::text(&dir, false).unwrap();
    assert!(text.contains("host.example, 192.0.2.1"), "{text}");
    assert!(text.contains("(29 days left)"), "{text}");
    assert!(text.contains("O=Firm,CN=Test CA"), "{text}");

    let json: serde_json::Value = serde_json::from_str(&show::text(&dir, true).unwrap()).unwrap();
    let subjects: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|shown| shown["subject"].clone())
        .collect();
    assert_eq!(subjects, ["O=Firm,CN=Test CA", "CN=alice", "CN=host.example"]);
}

#[test]
fn what_is_there_stays_unless_forced() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().to_str().unwrap();
    pki(&["init", dir]).unwrap();
    let before = fs::read(tmp.path().join("ca-key.pem")).unwrap();
    let error = pki(&["init", dir]).unwrap_err().to_string();
    assert!(
        error.contains("ca-key.pem") && error.contains("--force"),
        "{error}"
    );
    assert_eq!(fs::read(tmp.path().join("ca-key.pem")).unwrap(), before);
    pki(&["init", dir, "--force"]).unwrap();
    assert_ne!(fs::read(tmp.path().join("ca-key.pem")).unwrap(), before);
}

#[test]
fn an_authority_elsewhere_lends_its_certificate_only() {
    let tmp = tempfile::tempdir().unwrap();
    let (ca, host) = (tmp.path().join("ca"), tmp.path().join("host"));
    let (ca_word, host_word) = (ca.to_str().unwrap(), host.to_str().unwrap());
    pki(&["init", ca_word]).unwrap();
    pki(&["both", host_word, "--ca", ca_word]).unwrap();
    assert_eq!(
        fs::read(ca.join("ca-cert.pem")).unwrap(),
        fs::read(host.join("ca-cert.pem")).unwrap()
    );
    assert!(!host.join("ca-key.pem").exists());
    assert!(
        show::text(&host.join("server-cert.pem"), false)
            .unwrap()
            .contains("localhost, 127.0.0.1, ::1")
    );
}

#[test]
fn without_an_authority_nothing_is_made() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("new");
    let error = pki(&[
        "server",
        dir.to_str().unwrap(),
        "--ca",
        tmp.path().to_str().unwrap(),
    ])
    .unwrap_err();
    assert!(
        error.to_string().contains("ca-cert.pem: the file does not exist"),
        "{error}"
    );
    assert!(!dir.exists());
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_template_of_certtool_says_what_is_in_the_certificate() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("pki");
    let dir_word = dir.to_str().unwrap();
    let ca = write(
        &tmp.path().join("ca.info"),
        "cn = Name of your organization\nca\ncert_signing_key\n",
    );
    pki(&["init", dir_word, "--template", &ca]).unwrap();
    let server = write(
        &tmp.path().join("server.info"),
        "organization = Name of your organization\ncn = host.example\ndns_name = host\nip_address = 10.0.1.87\n\
         tls_www_server\nencryption_key\nsigning_key\nexpiration_days = 12\n",
    );
    pki(&["server", dir_word, "--template", &server, "--name", "localhost"]).unwrap();
    let text = show::text(&dir.join("server-cert.pem"), false).unwrap();
    assert!(
        text.contains("O=Name of your organization,CN=host.example"),
        "{text}"
    );
    assert!(text.contains("host, localhost, 10.0.1.87"), "{text}");
    assert!(text.contains("(11 days left)"), "{text}");
    // The command line prevails.
    pki(&[
        "server",
        dir_word,
        "--template",
        &server,
        "--days",
        "5",
        "--force",
    ])
    .unwrap();
    assert!(
        show::text(&dir.join("server-cert.pem"), false)
            .unwrap()
            .contains("(4 days left)")
    );

    let before = fs::read(dir.join("server-cert.pem")).unwrap();
    let bad = write(&tmp.path().join("bad.info"), "cn = x\ntls_feature = 5\n");
    let error = format!(
        "{:#}",
        pki(&["server", dir_word, "--template", &bad, "--force"]).unwrap_err()
    );
    assert!(
        error.contains("bad.info") && error.contains("line 2: tls_feature"),
        "{error}"
    );
    assert_eq!(fs::read(dir.join("server-cert.pem")).unwrap(), before);
}

#[test]
fn a_key_stays_where_it_is_and_its_certificate_comes_to_it() {
    let tmp = tempfile::tempdir().unwrap();
    let (ca, host) = (tmp.path().join("ca"), tmp.path().join("host"));
    let (ca_word, host_word) = (ca.to_str().unwrap(), host.to_str().unwrap());
    pki(&["init", ca_word]).unwrap();
    pki(&[
        "request",
        host_word,
        "--name",
        "host.example",
        "--name",
        "192.0.2.1",
        "--org",
        "Firm",
    ])
    .unwrap();
    assert!(!host.join("server-cert.pem").exists());
    let shown = show::text(&host.join("server-csr.pem"), false).unwrap();
    assert!(
        shown.contains("O=Firm,CN=host.example") && shown.contains("host.example, 192.0.2.1"),
        "{shown}"
    );

    let csr = host.join("server-csr.pem");
    let csr = csr.to_str().unwrap();
    // The operator says which names, not the request alone.
    let error = pki(&["sign", ca_word, "--csr", csr, "--for", "server"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("host.example, 192.0.2.1") && error.contains("--honor-names"),
        "{error}"
    );
    pki(&[
        "sign",
        ca_word,
        "--csr",
        csr,
        "--for",
        "server",
        "--honor-names",
        "--days",
        "9",
    ])
    .unwrap();
    let shown = show::text(&host.join("server-cert.pem"), false).unwrap();
    assert!(
        shown.contains("O=Firm,CN=host.example") && shown.contains("host.example, 192.0.2.1"),
        "{shown}"
    );
    assert!(
        shown.contains("(8 days left)") && shown.contains("serverAuth"),
        "{shown}"
    );

    fs::copy(ca.join("ca-cert.pem"), host.join("ca-cert.pem")).unwrap();
    let options = qio_creds::TlsCredsX509Options::server(&host);
    qio_creds::TlsCreds::load(options, KeyPermissions::Private).unwrap();

    let out = tmp.path().join("other.pem");
    let words = [
        "sign",
        ca_word,
        "--csr",
        csr,
        "--for",
        "server",
        "--name",
        "only.example",
        "--out",
    ];
    pki(&[&words[..], &[out.to_str().unwrap()]].concat()).unwrap();
    let shown = show::text(&out, false).unwrap();
    assert!(
        shown.contains("only.example") && !shown.contains("192.0.2.1"),
        "{shown}"
    );
}

#[test]
fn revoked_certificates_are_listed() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().to_str().unwrap();
    let crl = tmp.path().join("ca-crl.pem");
    pki(&["init", dir]).unwrap();
    pki(&["client", dir, "--cn", "alice"]).unwrap();
    pki(&["revoke", dir]).unwrap();
    assert!(show::text(&crl, false).unwrap().contains("no certificate"));
    let certificate = tmp.path().join("client-cert.pem");
    let certificate = certificate.to_str().unwrap();
    pki(&[
        "revoke",
        dir,
        certificate,
        "--reason",
        "keyCompromise",
        "--crl-days",
        "7",
    ])
    .unwrap();
    let text = show::text(&crl, false).unwrap();
    assert!(
        text.contains("1 certificate\n") && text.contains("keyCompromise"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&show::text(&crl, true).unwrap()).unwrap();
    assert_eq!(json[0]["type"], "revocation-list");
    assert_eq!(json[0]["number"], "02");
    assert_eq!(json[0]["revoked"][0]["reason"], "keyCompromise");
    // A directory shows all of it.
    assert_eq!(
        show::text(tmp.path(), false).unwrap().matches(" kind ").count(),
        3
    );
    assert!(pki(&["revoke", dir, &format!("{dir}/ca-cert.pem")]).is_err());
}

#[test]
fn dates_are_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().to_str().unwrap();
    pki(&[
        "init",
        dir,
        "--not-before",
        "2020-01-02",
        "--not-after",
        "2051-02-03 04:05",
    ])
    .unwrap();
    let text = show::text(tmp.path(), false).unwrap();
    assert!(
        text.contains("2020-01-02 00:00 UTC to 2051-02-03 04:05 UTC"),
        "{text}"
    );
    assert!(parse(&["init", dir, "--not-after", "2051-02-03", "--days", "3"]).is_err());
    assert!(parse(&["init", dir, "--not-after", "soon"]).is_err());
}

#[test]
fn mistakes_are_usage_errors_with_the_word_in_them() {
    for words in [
        ["server", "d", "--name", "a b"],
        ["server", "d", "--days", "0"],
        ["init", "d", "--key-type", "dsa"],
        ["client", "d", "--nmae", "x"],
    ] {
        let error = parse(&words).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(words[2]), "{error}");
    }
    assert!(parse(&["show"]).is_err());
}

#[test]
fn the_object_line_survives_commas_and_spaces() {
    assert_eq!(
        object(Endpoint::Server, Path::new("/d")),
        "tls-creds-x509,id=tls0,endpoint=server,dir=/d"
    );
    assert_eq!(
        object(Endpoint::Client, Path::new("/a,b c")),
        "'tls-creds-x509,id=tls0,endpoint=client,dir=/a,,b c'"
    );
}
