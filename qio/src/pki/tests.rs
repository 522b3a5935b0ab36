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
