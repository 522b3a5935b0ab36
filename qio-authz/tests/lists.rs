//! Simple identities and lists, by their options and at run time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests report by panicking"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use qio_authz::{
    Authorizer, Authz, AuthzError, AuthzList, AuthzListOptions, AuthzOptions, AuthzRef, AuthzSetupError,
    AuthzSimple, MAX_IDENTITY_BYTES, Policy, Rule,
};
use qio_opts::{Object, ObjectRegistry, RegistryError};

fn object(option: &str) -> Authz {
    Authz::new(qio_opts::from_option::<AuthzOptions>(option, Some("qom-type")).unwrap()).unwrap()
}

fn error(option: &str) -> String {
    qio_opts::from_option::<AuthzOptions>(option, Some("qom-type"))
        .unwrap_err()
        .to_string()
}

#[test]
fn both_syntaxes_say_the_same() {
    let keyval = "authz-list,id=authz0,policy=deny,\
        rules.0.match=CN=host1,,O=Example,rules.0.policy=allow,rules.0.format=exact,\
        rules.1.match=CN=guest*,rules.1.policy=allow,rules.1.format=glob";
    let json = r#"{"qom-type": "authz-list", "id": "authz0", "rules": [
        {"match": "CN=host1,O=Example", "policy": "allow"},
        {"match": "CN=guest*", "policy": "allow", "format": "glob"}]}"#;
    for option in [keyval, json] {
        let object = object(option);
        assert_eq!(object.type_name(), "authz-list");
        assert_eq!(
            object.as_list().unwrap().rules(),
            [
                Rule::exact("CN=host1,O=Example", Policy::Allow),
                Rule::glob("CN=guest*", Policy::Allow)
            ],
            "{option}"
        );
        assert!(object.is_allowed("CN=host1,O=Example").unwrap());
        assert!(object.is_allowed("CN=guest7").unwrap());
        assert!(!object.is_allowed("CN=host1").unwrap());
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    assert!(error("authz-simple,id=a").contains("'identity'"));
    assert!(error("authz-list,id=a,rules.0.match=x").contains("policy"));
    assert!(error("authz-list,id=a,rules.0.policy=allow").contains("match"));
    assert!(error("authz-list,id=a,policy=perhaps").contains("perhaps"));
    assert!(
        error("authz-list,id=a,rules.0.match=x,rules.0.policy=allow,rules.0.format=regex").contains("regex")
    );
    assert!(error("authz-list,id=a,default=deny").contains("'default'"));
    assert!(error("authz-list-file,id=a").contains("'filename'"));

    let of_type = |name| AuthzOptions::of_type(name, qio_opts::parse_option("id=a", None).unwrap());
    assert!(matches!(
        of_type("authz-lists"),
        Err(AuthzSetupError::UnknownType(_))
    ));
    #[cfg(not(feature = "pam"))]
    assert!(matches!(of_type("authz-pam"), Err(AuthzSetupError::NoPam)));
    #[cfg(feature = "pam")]
    assert!(
        of_type("authz-pam")
            .unwrap_err()
            .to_string()
            .contains("'service'")
    );
}

#[test]
fn the_first_matching_rule_decides_else_the_policy() {
    let list = object(
        "authz-list,id=a,policy=allow,\
        rules.0.match=bob,rules.0.policy=allow,\
        rules.1.match=b*,rules.1.policy=deny,rules.1.format=glob,\
        rules.2.match=bill,rules.2.policy=allow",
    );
    for (identity, allowed) in [("bob", true), ("bill", false), ("b", false), ("fred", true)] {
        assert_eq!(list.is_allowed(identity).unwrap(), allowed, "{identity}");
    }
    assert!(
        !AuthzList::default().is_allowed("anyone").unwrap(),
        "deny is the default"
    );
    assert!(
        !object("authz-list,id=a").is_allowed("anyone").unwrap(),
        "deny is the default"
    );
}

#[test]
fn a_simple_identity_is_compared_whole() {
    let simple = object("authz-simple,id=a,identity=fred");
    assert_eq!(simple.type_name(), "authz-simple");
    for (identity, allowed) in [
        ("fred", true),
        ("Fred", false),
        ("fre", false),
        ("fredd", false),
        ("fred\0", false),
    ] {
        assert_eq!(simple.is_allowed(identity).unwrap(), allowed, "{identity:?}");
    }
}

/// The numbers that QEMU's functions return.
#[test]
fn edits_return_positions_as_qemus_do() {
    let list = AuthzList::new(Policy::Deny);
    let rule = |name: &str| Rule::exact(name, Policy::Allow);
    assert_eq!(list.append(rule("fred")), 0);
    assert_eq!(list.append(Rule::glob("b*", Policy::Deny)), 1);
    assert_eq!(list.insert(0, rule("dan")), 0);
    assert_eq!(list.insert(2, rule("bob")), 2);
    assert_eq!(
        list.insert(100, rule("late")),
        4,
        "past the end clamps to the end"
    );
    let names = || {
        list.rules()
            .into_iter()
            .map(|rule| rule.matches)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["dan", "fred", "bob", "b*", "late"]);

    assert!(list.is_allowed("bob").unwrap() && !list.is_allowed("bill").unwrap());
    assert_eq!(list.delete("bob"), Some(2));
    assert!(
        !list.is_allowed("bob").unwrap(),
        "a handle sees changes through another"
    );
    assert_eq!(list.delete("bob"), None);
    assert_eq!(
        list.delete("b?"),
        None,
        "the text of the rule counts, not what it covers"
    );
    list.append(rule("fred"));
    assert_eq!(list.delete("fred"), Some(1), "the first of several");
    assert_eq!(names(), ["dan", "b*", "late", "fred"]);
}

/// QEMU refuses certificates without a subject, whatever the list says.
#[test]
fn nobody_has_the_empty_identity() {
    let everyone = AuthzList::new(Policy::Allow);
    assert!(matches!(everyone.is_allowed(""), Err(AuthzError::NoIdentity)));
    assert!(matches!(
        AuthzSimple::new("").is_allowed(""),
        Err(AuthzError::NoIdentity)
    ));
}

#[test]
fn cred_26_long_identities_are_refused_and_never_cut() {
    let longest = "x".repeat(MAX_IDENTITY_BYTES);
    let longer = format!("{longest}y");
    let everyone = AuthzList::new(Policy::Allow);
    everyone.append(Rule::glob("*", Policy::Allow));
    let one = AuthzSimple::new(longest.clone());
    let same = AuthzSimple::new(longer.clone());
    assert!(everyone.is_allowed(&longest).unwrap() && one.is_allowed(&longest).unwrap());
    for list in [&everyone as &dyn Authorizer, &one, &same] {
        let error = list.is_allowed(&longer).unwrap_err();
        assert!(
            matches!(error, AuthzError::IdentityTooLong { bytes: 4097 }),
            "{error}"
        );
    }
}

/// The spelling itself is proved against QEMU in interop/tests/authz.rs.
#[test]
fn cred_27_another_spelling_is_another_name() {
    let list = AuthzList::new(Policy::Deny);
    list.append(Rule::exact(
        r"C=DE,O=Example\, Inc.,CN=host1+UID=7",
        Policy::Allow,
    ));
    assert!(list.is_allowed(r"C=DE,O=Example\, Inc.,CN=host1+UID=7").unwrap());
    for other in [
        r"CN=host1+UID=7,O=Example\, Inc.,C=DE",
        r"C=DE,O=Example\, Inc.,UID=7+CN=host1",
        r"C=DE,O=Example\2C Inc.,CN=host1+UID=7",
        r"C=DE,O=example\, inc.,CN=host1+UID=7",
        r"C=DE, O=Example\, Inc., CN=host1+UID=7",
        r"C=DE,O=Example, Inc.,CN=host1+UID=7",
    ] {
        assert!(!list.is_allowed(other).unwrap(), "{other}");
    }
}

#[test]
fn cred_28_a_list_that_is_not_there_denies() {
    struct Secret;
    impl Object for Secret {
        const KIND: &'static str = "secret";
        fn type_name(&self) -> &'static str {
            "secret"
        }
    }
    let objects = ObjectRegistry::new();
    let access = AuthzRef::new(&objects, "authz0");
    let refusal = || match access.is_allowed("CN=host1") {
        Err(AuthzError::Unresolved(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refusal(), RegistryError::NotFound { .. }));

    objects
        .add("authz0", Authz::from(AuthzList::new(Policy::Allow)))
        .unwrap();
    assert!(access.is_allowed("CN=host1").unwrap(), "late binding");
    objects.delete("authz0").unwrap();
    assert!(matches!(refusal(), RegistryError::NotFound { .. }));
    objects.add("authz0", Secret).unwrap();
    assert!(matches!(refusal(), RegistryError::WrongKind { .. }));

    objects.delete("authz0").unwrap();
    objects
        .add("authz0", Authz::from(AuthzList::new(Policy::Deny)))
        .unwrap();
    assert!(!access.is_allowed("CN=host1").unwrap(), "the new object counts");
}

/// Deleting and replacing the object while questions are asked never lets anyone in whom no list allowed, and does
/// not disturb a question that has begun.
#[test]
fn cred_29_questions_and_changes_may_race() {
    let objects = ObjectRegistry::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let access = AuthzRef::new(&objects, "authz0");
                while !done.load(Ordering::Relaxed) {
                    assert!(!matches!(access.is_allowed("mallory"), Ok(true)));
                }
            });
        }
        for round in 0..2000 {
            let list = AuthzList::new(Policy::Deny);
            objects.add("authz0", Authz::from(list.clone())).unwrap();
            list.append(Rule::exact(format!("user{round}"), Policy::Allow));
            list.insert(0, Rule::glob("m*", Policy::Deny));
            list.delete("m*");
            objects.delete("authz0").unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn options_survive_a_round_trip() {
    let options = AuthzListOptions {
        id: Some("a".into()),
        policy: Policy::Allow,
        rules: vec![Rule::glob("CN=*", Policy::Deny)],
    };
    let json = serde_json::to_string(&options).unwrap();
    assert_eq!(qio_opts::from_json::<AuthzListOptions>(&json).unwrap(), options);
}
