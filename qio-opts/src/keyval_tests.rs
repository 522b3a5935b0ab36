use super::*;

fn json(text: &str) -> Value {
    Value::from_json(text).unwrap()
}

fn parse(text: &str) -> Result<Value, OptsError> {
    Keyval::new().parse(text)
}

#[test]
fn accepted_texts() {
    for (text, expected) in [
        ("", r#"{}"#),
        ("a=b", r#"{"a":"b"}"#),
        ("a=b,", r#"{"a":"b"}"#),
        ("a=", r#"{"a":""}"#),
        ("a=,b=", r#"{"a":"","b":""}"#),
        ("a=b,c.d=e,,f", r#"{"a":"b","c":{"d":"e,f"}}"#),
        ("a=,,", r#"{"a":","}"#),
        ("a=b,,", r#"{"a":"b,"}"#),
        ("a=,,,b=c", r#"{"a":",","b":"c"}"#),
        ("a=x=y", r#"{"a":"x=y"}"#),
        (
            "a.b.c=1,a.b.d=2,a.e=3",
            r#"{"a":{"b":{"c":"1","d":"2"},"e":"3"}}"#,
        ),
        ("l.0=x,l.1=y", r#"{"l":["x","y"]}"#),
        ("l.1=y,l.0=x", r#"{"l":["x","y"]}"#),
        ("l.0.k=x,l.1.k=y", r#"{"l":[{"k":"x"},{"k":"y"}]}"#),
        ("a=ü,b={", r#"{"a":"ü","b":"{"}"#),
    ] {
        assert_eq!(parse(text).unwrap(), json(expected), "{text}");
    }
    let many: Vec<_> = (0..12).map(|i| format!("l.{i}=v{i}")).collect();
    let Value::Map(map) = parse(&many.join(",")).unwrap() else {
        panic!()
    };
    let Some(Value::List(list)) = map.get("l") else {
        panic!()
    };
    assert_eq!(
        list[10],
        Value::String("v10".into()),
        "10 sorts after 9, not after 1"
    );
}

#[test]
fn refused_texts_name_the_fault() {
    for (text, fault) in [
        ("a", "no '=' after 'a'"),
        (",", "where a key should be"),
        ("=b", "where a key should be"),
        ("a=b,=c", "where a key should be"),
        (".a=1", "nothing before or after a dot"),
        ("a.=1", "nothing before or after a dot"),
        ("a..b=1", "nothing before or after a dot"),
        ("a b=1", "'a b' is not a key"),
        ("a=1,a=2", "'a' is given more than once"),
        ("a.b=1,a.b=2", "'a.b' is given more than once"),
        ("a=1,a.b=2", "both as a value and as a group"),
        ("a.b=1,a=2", "both as a value and as a group"),
        ("l.0=a,l.2=c", "key 'l': number 1 of the list is missing"),
        ("l.1=a", "number 0 of the list is missing"),
        ("l.0=a,l.00=b", "number 1 of the list is missing"),
        ("l.0=a,l.x=b", "key 'l': some of its keys are numbers"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(fault), "{text}: {error}");
    }
}

#[test]
fn depth_and_length_of_keys_are_bounded() {
    assert!(parse(&format!("{}a=1", "a.".repeat(MAX_DEPTH))).is_ok());
    let error = parse(&format!("{}a=1", "a.".repeat(100_000))).unwrap_err();
    assert!(error.to_string().contains("levels"));
    assert!(parse(&format!("{}=1", "k".repeat(MAX_FRAGMENT))).is_ok());
    assert!(parse(&format!("{}=1", "k".repeat(MAX_FRAGMENT + 1))).is_err());
}

#[test]
fn implied_key_takes_the_first_item_only() {
    let parser = Keyval::new().implied_key("type");
    assert_eq!(
        parser.parse("inet,host=h").unwrap(),
        json(r#"{"type":"inet","host":"h"}"#)
    );
    assert_eq!(parser.parse("inet").unwrap(), json(r#"{"type":"inet"}"#));
    assert_eq!(
        parser.parse("host=h,type=inet").unwrap(),
        json(r#"{"type":"inet","host":"h"}"#)
    );
    assert!(parser.parse("inet,unix").is_err());
    assert!(matches!(
        parser.parse("inet,type=unix"),
        Err(OptsError::DuplicateKey { .. })
    ));
}

#[test]
fn bare_keys_only_when_asked_for() {
    let parser = Keyval::new().bare_keys(true);
    assert_eq!(
        parser.parse("ipv4,noipv6,to=9").unwrap(),
        json(r#"{"ipv4":"on","ipv6":"off","to":"9"}"#)
    );
    assert_eq!(parser.parse("no").unwrap(), json(r#"{"no":"on"}"#));
    assert!(parser.parse("a,,b").is_err(), "an empty item is no key");
    assert!(parse("ipv4,to=9").is_err());
}

#[test]
fn a_secret_with_a_comma_is_never_shown() {
    for text in [
        "data=hun,ter2",
        "data=hun,ter2=x",
        "id=s0,password=hun,ter 2=x",
        "a.data=hun,ter2,x=1",
    ] {
        let result: Result<OnlyData, _> = Keyval::new().bare_keys(false).parse_into(text);
        let error = result.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ter"), "{text}: {error}");
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only the refusal matters")]
struct OnlyData {
    id: Option<String>,
    data: Option<String>,
    password: Option<String>,
    a: Option<Value>,
}

/// Any text gives a value or an error, never a panic, and what is accepted is in the tree.
#[test]
fn arbitrary_text_never_panics() {
    let alphabet = ['a', '0', '1', '.', ',', '=', 'ü', ' '];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..50_000 {
        let mut text = String::new();
        for _ in 0..state % 14 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(alphabet[usize::try_from(state % 8).unwrap()]);
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let _ = Keyval::new().parse(&text);
        let _ = Keyval::new().implied_key("t").bare_keys(true).parse(&text);
    }
}
