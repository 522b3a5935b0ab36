//! Secrets from every place, in every form.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::io::Write as _;
use std::path::Path;

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64ct::{Base64, Encoding as _};
use qio_creds::{KeyringSecretOptions, Secret, SecretError, SecretFormat, SecretOptions};
use qio_opts::{Object, ObjectRegistry};

const KEY: [u8; 32] = *b"0123456789abcdefFEDCBA9876543210";
const IV: [u8; 16] = *b"initializationv.";

fn load(options: SecretOptions) -> Result<Secret, SecretError> {
    Secret::load(options, &ObjectRegistry::new())
}

fn encrypt(plaintext: &[u8]) -> Vec<u8> {
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &KEY).unwrap()).unwrap();
    let mut text = plaintext.to_vec();
    key.less_safe_encrypt(&mut text, EncryptionContext::Iv128(FixedLength::from(IV)))
        .unwrap();
    text
}

/// A registry that holds the master key.
fn master() -> ObjectRegistry {
    let objects = ObjectRegistry::new();
    let options = SecretOptions {
        format: SecretFormat::Base64,
        ..SecretOptions::data("master", Base64::encode_string(&KEY))
    };
    objects
        .add("master", Secret::load(options, &objects).unwrap())
        .unwrap();
    objects
}

fn encrypted(ciphertext: &[u8]) -> SecretOptions {
    SecretOptions {
        format: SecretFormat::Base64,
        keyid: Some("master".into()),
        iv: Some(Base64::encode_string(&IV)),
        ..SecretOptions::data("sec0", Base64::encode_string(ciphertext))
    }
}

#[test]
fn inline_raw_and_base64() {
    assert_eq!(
        load(SecretOptions::data("s", "swordfish")).unwrap().bytes(),
        b"swordfish"
    );
    assert_eq!(load(SecretOptions::data("s", "")).unwrap().bytes(), b"");
    let base64 = |text: &str| {
        load(SecretOptions {
            format: SecretFormat::Base64,
            ..SecretOptions::data("s", text)
        })
    };
    assert_eq!(base64("c3dvcmRmaXNo").unwrap().utf8().unwrap(), "swordfish");
    assert_eq!(base64("c3dv\ncmRm\naXNo\n").unwrap().utf8().unwrap(), "swordfish");
    for bad in ["c3dvcmRmaXN", "c3d vcmRmaXNo", "!!!!", "c3dvcmRmaXNo="] {
        let error = base64(bad).unwrap_err();
        assert!(matches!(error, SecretError::BadBase64 { .. }), "{bad}");
        assert!(!error.to_string().contains(bad));
    }
}

#[test]
fn a_file_counts_with_its_newline() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"swordfish\n").unwrap();
    let secret = load(SecretOptions::file("s", file.path())).unwrap();
    assert_eq!(secret.bytes(), b"swordfish\n");
    assert_eq!(&*secret.base64(), "c3dvcmRmaXNoCg==");

    let base64 = SecretOptions {
        format: SecretFormat::Base64,
        ..SecretOptions::file("s", file.path())
    };
    std::fs::write(file.path(), "c3dvcmRmaXNo\n").unwrap();
    assert_eq!(load(base64).unwrap().bytes(), b"swordfish");
}

#[test]
fn files_that_cannot_be_are_refused_by_name() {
    let error = load(SecretOptions::file("s", "/does/not/exist")).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
    let error = load(SecretOptions::file("s", "/dev/zero")).unwrap_err();
    assert!(matches!(error, SecretError::TooLarge { .. }), "{error}");
    assert!(matches!(
        load(SecretOptions::file("s", Path::new("/"))),
        Err(SecretError::File { .. })
    ));
}

#[test]
fn exactly_one_of_data_and_file() {
    let both = SecretOptions {
        file: Some("/f".into()),
        ..SecretOptions::data("s", "hunter2")
    };
    let error = load(both).unwrap_err().to_string();
    assert!(error.contains("both") && !error.contains("hunter2"), "{error}");
    let neither: SecretOptions = qio_opts::from_option("id=s", None).unwrap();
    assert!(load(neither).unwrap_err().to_string().contains("neither"));
}

#[test]
fn encrypted_with_another_secret() {
    let objects = master();
    for plaintext in ["", "swordfish", "exactly 16 bytes", "a little more than 16 bytes"] {
        let ciphertext = encrypt(plaintext.as_bytes());
        let secret = Secret::load(encrypted(&ciphertext), &objects).unwrap();
        assert_eq!(secret.utf8().unwrap(), plaintext);

        // As raw bytes it only fits into a file.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &ciphertext).unwrap();
        let raw = SecretOptions {
            format: SecretFormat::Raw,
            data: None,
            file: Some(file.path().to_owned()),
            ..encrypted(&ciphertext)
        };
        assert_eq!(Secret::load(raw, &objects).unwrap().utf8().unwrap(), plaintext);
    }
}

#[test]
fn every_byte_of_the_padding_counts() {
    let objects = master();
    // The first block alone, so that what stands at its end is taken for the padding.
    let ends_in = |end: &[u8]| {
        let mut block = [b'x'; 16];
        block[16 - end.len()..].copy_from_slice(end);
        Secret::load(encrypted(&encrypt(&block)[..16]), &objects)
    };
    assert_eq!(ends_in(&[1]).unwrap().bytes(), [b'x'; 15]);
    assert_eq!(ends_in(&[3, 3, 3]).unwrap().bytes(), [b'x'; 13]);
    assert_eq!(ends_in(&[16; 16]).unwrap().bytes(), b"");
    for bad in [&[0][..], &[17], &[255], &[2, 3, 3], &[3, 2, 3]] {
        assert!(
            matches!(ends_in(bad), Err(SecretError::Undecryptable { .. })),
            "{bad:?}"
        );
    }
}

#[test]
fn a_ciphertext_is_whole_blocks() {
    let objects = master();
    let ciphertext = encrypt(b"a little more than 16 bytes");
    for len in [0, 1, 15, 17, 31] {
        let error = Secret::load(encrypted(&ciphertext[..len]), &objects).unwrap_err();
        assert!(matches!(error, SecretError::Undecryptable { .. }), "{len}");
    }
}

#[test]
fn the_key_and_the_iv_are_checked() {
    let objects = master();
    let short = Secret::load(SecretOptions::data("short", "31 bytes"), &objects).unwrap();
    objects.add("short", short).unwrap();
    objects.add("tls0", NoSecret).unwrap();
    let with = |change: fn(&mut SecretOptions)| {
        let mut options = encrypted(&encrypt(b"swordfish"));
        change(&mut options);
        Secret::load(options, &objects).unwrap_err().to_string()
    };
    assert!(with(|o| o.keyid = Some("none".into())).starts_with("No secret with id 'none'"));
    assert!(with(|o| o.keyid = Some("tls0".into())).starts_with("Object with id 'tls0' is not a secret"));
    assert!(with(|o| o.keyid = Some("short".into())).contains("exactly 32"));
    assert!(with(|o| o.iv = None).contains("add iv="));
    assert!(with(|o| o.iv = Some("AAAA".into())).contains("iv has 3 bytes"));
    assert!(with(|o| o.iv = Some("*".into())).contains("its iv is not valid base64"));
    // Another iv changes every byte of the first block, and this text has but one.
    assert!(
        with(|o| o.iv = Some(Base64::encode_string(&[0; 16]))).contains("cannot be decrypted with 'master'")
    );
}

struct NoSecret;

impl Object for NoSecret {
    const KIND: &'static str = "TLS credentials";
    fn type_name(&self) -> &'static str {
        "tls-creds-x509"
    }
}

#[test]
fn look_ups_use_qemus_words_and_bind_late() {
    let objects = ObjectRegistry::new();
    let text = |error: SecretError| error.to_string();
    assert!(text(Secret::find(&objects, "sec0").unwrap_err()).starts_with("No secret with id 'sec0'"));
    objects
        .add("sec0", load(SecretOptions::data("sec0", "one")).unwrap())
        .unwrap();
    objects.delete("sec0").unwrap();
    objects
        .add("sec0", load(SecretOptions::data("sec0", "two")).unwrap())
        .unwrap();
    assert_eq!(Secret::find(&objects, "sec0").unwrap().bytes(), b"two");
}

#[test]
fn a_password_is_utf8() {
    let bytes = load(SecretOptions {
        format: SecretFormat::Base64,
        ..SecretOptions::data("s", "/w==")
    });
    let bytes = bytes.unwrap();
    assert_eq!(bytes.bytes(), [0xff]);
    let error = bytes.utf8().unwrap_err().to_string();
    assert!(
        error.starts_with("Data from secret 's' is not valid UTF-8"),
        "{error}"
    );
}

#[test]
fn nothing_prints_a_secret() {
    let options = SecretOptions::data("s", "hunter2");
    assert!(!format!("{options:?}").contains("hunter2"));
    let secret = load(options).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(s, redacted)");
    let unknown = qio_opts::from_option::<SecretOptions>("id=s,data=hunter2,colour=red", None).unwrap_err();
    assert!(!unknown.to_string().contains("hunter2"), "{unknown}");
}

#[test]
fn options_are_qemus_in_both_syntaxes() {
    let read = |text| qio_opts::from_option::<SecretOptions>(text, None).unwrap();
    let keyval = read("id=s,keyid=k,iv=aXY=,format=base64,data=Zm9v");
    let json = read(r#"{"id":"s","keyid":"k","iv":"aXY=","format":"base64","data":"Zm9v"}"#);
    assert_eq!(keyval, json);
    assert_eq!(read("id=s,data=x").format, SecretFormat::Raw);
    assert!(qio_opts::from_option::<SecretOptions>("id=s,data=x,format=hex", None).is_err());

    let ring = |text| qio_opts::from_option::<KeyringSecretOptions>(text, None);
    assert_eq!(ring("id=s,serial=-2").unwrap().serial.get(), -2);
    assert!(ring("id=s,serial=0").is_err() && ring("id=s").is_err());
}

#[test]
fn a_key_that_the_kernel_does_not_have_is_named() {
    let options: KeyringSecretOptions = qio_opts::from_option("id=s,serial=2147483646", None).unwrap();
    let error = Secret::from_keyring(options, &ObjectRegistry::new()).unwrap_err();
    assert!(error.to_string().contains("key 2147483646"), "{error}");
}

/// Needs `keyctl`-style system calls, which many containers forbid.
#[test]
fn a_key_of_the_kernel() {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    let ring = match KeyRing::from_special_id(KeyRingIdentifier::Process, true) {
        Ok(ring) => ring,
        Err(error) => {
            eprintln!("skipped: this system does not give us a keyring ({error:?})");
            return;
        }
    };
    let key = ring.add_key("qio-test", "c3dvcmRmaXNo").unwrap();
    let serial = key.get_id().as_raw_id();
    for (format, expected) in [("raw", "c3dvcmRmaXNo"), ("base64", "swordfish")] {
        let options = format!("id=s,serial={serial},format={format}");
        let options = qio_opts::from_option(&options, None).unwrap();
        let secret = Secret::from_keyring(options, &ObjectRegistry::new()).unwrap();
        assert_eq!(
            (secret.utf8().unwrap(), secret.type_name()),
            (expected, "secret_keyring")
        );
    }
}
