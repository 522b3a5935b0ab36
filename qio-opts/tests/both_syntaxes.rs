//! One struct, both syntaxes: what is accepted, what is refused and how the refusal reads.

use qio_opts::{OptsError, Size, from_json, from_keyval, from_option, lenient, to_keyval};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Export {
    name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
    offset: Option<u64>,
    level: Option<i8>,
    ratio: Option<f64>,
    mode: Option<Mode>,
    limit: Option<Size>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bitmaps: Vec<String>,
    server: Option<Address>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Unmap,
    IgnoreAll,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Address {
    #[serde(deserialize_with = "lenient")]
    Inet(Inet),
    Unix {
        path: String,
        #[serde(rename = "abstract", default, deserialize_with = "lenient")]
        is_abstract: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Inet {
    host: String,
    port: String,
    to: Option<u16>,
    ipv4: Option<bool>,
}

fn full() -> Export {
    Export {
        name: "a,b".into(),
        read_only: true,
        offset: Some(4096),
        level: Some(-3),
        ratio: Some(0.5),
        mode: Some(Mode::IgnoreAll),
        limit: Some(Size(10 << 20)),
        bitmaps: vec!["b0".into(), "b1".into()],
        server: Some(Address::Inet(Inet {
            host: "::1".into(),
            port: "10809".into(),
            to: Some(10820),
            ipv4: Some(false),
        })),
    }
}

#[test]
fn keyval_and_json_give_the_same() {
    let keyval = "name=a,,b,read-only=yes,offset=0x1000,level=-3,ratio=0.5,mode=ignore-all,limit=10M,\
                  bitmaps.0=b0,bitmaps.1=b1,\
                  server.type=inet,server.host=::1,server.port=10809,server.to=10820,server.ipv4=off";
    let json = r#"{"name":"a,b","read-only":true,"offset":4096,"level":-3,"ratio":0.5,"mode":"ignore-all",
                   "limit":10485760,"bitmaps":["b0","b1"],
                   "server":{"type":"inet","host":"::1","port":10809,"to":10820,"ipv4":false}}"#;
    assert_eq!(from_keyval::<Export>(keyval, None).unwrap(), full());
    assert_eq!(from_json::<Export>(json).unwrap(), full());
    assert_eq!(
        from_option::<Export>(keyval, None).unwrap(),
        from_option::<Export>(json, None).unwrap()
    );
}

#[test]
fn what_is_printed_reads_back() {
    let printed = to_keyval(&full(), Some("name")).unwrap();
    assert!(printed.starts_with("name=a,,b,read-only=on,"), "{printed}");
    assert_eq!(from_keyval::<Export>(&printed, Some("name")).unwrap(), full());

    let small = Export {
        name: "disk".into(),
        ..from_keyval("name=x", None).unwrap()
    };
    assert_eq!(to_keyval(&small, Some("name")).unwrap(), "disk");
    assert_eq!(to_keyval(&small, None).unwrap(), "name=disk");

    let json = serde_json::to_string(&full()).unwrap();
    assert_eq!(from_json::<Export>(&json).unwrap(), full());
}

#[test]
fn tagged_enums_convert_inside_both_kinds_of_variant() {
    let unix: Address = from_keyval("type=unix,path=/run/x,abstract=on", None).unwrap();
    assert_eq!(
        unix,
        Address::Unix {
            path: "/run/x".into(),
            is_abstract: true
        }
    );
    let inet: Address = from_keyval("inet,host=h,port=1,to=0x10,ipv4=on", Some("type")).unwrap();
    let Address::Inet(inet) = inet else {
        panic!("{inet:?}")
    };
    assert_eq!((inet.to, inet.ipv4), (Some(16), Some(true)));
}

/// serde's own JSON deserializer sees the same enum, so configuration files of any format work.
#[test]
fn lenient_works_under_other_formats() {
    let text = r#"{"type":"inet","host":"h","port":"1","ipv4":"on","to":7}"#;
    let Address::Inet(inet) = serde_json::from_str(text).unwrap() else {
        panic!()
    };
    assert_eq!((inet.to, inet.ipv4), (Some(7), Some(true)));
    let error =
        serde_json::from_str::<Address>(r#"{"type":"inet","host":"h","port":"1","ipv5":"on"}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `ipv5`"), "{error}");
}

#[test]
fn refusals_name_the_key_and_what_was_expected() {
    for (text, message) in [
        (
            "name=x,nmae=y",
            "unknown key 'nmae' (known keys: name, read-only, offset",
        ),
        (
            "offset=1",
            "key 'name' is missing: add 'name=...' (known keys: name, read-only",
        ),
        (
            "name=x,read-only=maybe",
            "key 'read-only': 'maybe' is not valid, expected 'on' or 'off'",
        ),
        (
            "name=x,offset=-1",
            "key 'offset': '-1' is not valid, expected an integer from 0 to 18446744073709551615",
        ),
        ("name=x,offset=010", "key 'offset': '010' is not valid"),
        ("name=x,offset=+1", "key 'offset': '+1'"),
        ("name=x,offset=0x", "key 'offset': '0x'"),
        ("name=x,offset=", "key 'offset': ''"),
        (
            "name=x,level=128",
            "key 'level': '128' is not valid, expected an integer from -128 to 127",
        ),
        (
            "name=x,level=999999999999999999999999999999999999999999",
            "from -128 to 127",
        ),
        (
            "name=x,ratio=inf",
            "key 'ratio': 'inf' is not valid, expected a number",
        ),
        (
            "name=x,mode=maybe",
            "key 'mode': 'maybe' is not valid, expected one of: unmap, ignore-all",
        ),
        (
            "name=x,limit=10Q",
            "key 'limit': '10Q' is not valid, expected a size in bytes",
        ),
        (
            "name=x,bitmaps=b0",
            "key 'bitmaps': 'b0' is not valid, expected a sequence",
        ),
        (
            "name.a=x",
            "key 'name': a group of keys is not valid, expected a string",
        ),
        ("name=x,server=h", "key 'server': 'h' is not valid"),
        ("name=x,server.host=h", "key 'server.type' is missing"),
        (
            "name=x,server.type=inte",
            "key 'server.type': 'inte' is not valid, expected one of: inet, unix",
        ),
        (
            "name=x,server.type=inet,server.host=h",
            "key 'server.port' is missing",
        ),
        (
            "name=x,server.type=inet,server.host=h,server.port=1,server.ipv4=2",
            "ipv4",
        ),
        (
            "name=x,server.type=inet,server.hots=h",
            "unknown key 'server.hots' (known keys: host, port, to, ipv4)",
        ),
        ("name=x,name=y", "key 'name' is given more than once"),
        (
            r#"{"name":7.5}"#,
            "key 'name': '7.5' is not valid, expected a string",
        ),
        (
            r#"{"name":"x","read-only":1}"#,
            "key 'read-only': '1' is not valid, expected 'on' or 'off'",
        ),
        (r#"{"name":"x""#, "as JSON, line 1"),
        (r#"{"name":"x","name":"y"}"#, "'name' is given more than once"),
        (r#"{"name":"x"} x"#, "as JSON"),
    ] {
        let error = from_option::<Export>(text, None).expect_err(text).to_string();
        assert!(
            error.contains(message),
            "{text}\n  said: {error}\n  want: {message}"
        );
    }
}

#[test]
fn null_is_absent() {
    assert_eq!(
        from_json::<Export>(r#"{"name":"x","offset":null}"#)
            .unwrap()
            .offset,
        None
    );
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code, reason = "only the refusals matter")]
struct Secret {
    data: Option<u32>,
    password_length: Option<bool>,
    password: Option<Size>,
}

#[test]
fn values_of_secret_keys_are_not_shown() {
    for text in [
        "data=hunter2",
        "password-length=hunter2",
        "password=hunter2",
        r#"{"data":"hunter2"}"#,
        r#"{"data":["hunter2"]}"#,
        r#"{"password":"hunter2"}"#,
    ] {
        let error = from_option::<Secret>(text, None).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{text}: {error:?}"
        );
        assert!(error.to_string().contains("(hidden)"), "{text}: {error}");
    }
}

#[test]
fn what_keyval_cannot_say_is_refused() {
    #[derive(Serialize)]
    struct Empty {
        list: Vec<u8>,
    }
    let error = to_keyval(&Empty { list: vec![] }, None).unwrap_err();
    assert!(
        matches!(&error, OptsError::Unwritable { key, .. } if key == "list"),
        "{error}"
    );
    assert!(matches!(to_keyval("x", None), Err(OptsError::Unwritable { .. })));
    let map = std::collections::BTreeMap::from([("a=b", "c")]);
    assert!(matches!(to_keyval(&map, None), Err(OptsError::Unwritable { .. })));
}
