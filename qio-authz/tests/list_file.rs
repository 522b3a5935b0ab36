//! Lists in files, and what becomes of them when the files change.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests report by panicking"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qio_authz::{Authorizer, AuthzListFile, AuthzListFileOptions, AuthzSetupError, Policy, Rule};

/// A change that was not noticed by then will not be.
const PATIENCE: Duration = Duration::from_secs(60);

fn allow(name: &str) -> String {
    format!(r#"{{"policy": "deny", "rules": [{{"match": "{name}", "policy": "allow"}}]}}"#)
}

fn load(filename: &Path, refresh: bool) -> Result<AuthzListFile, AuthzSetupError> {
    AuthzListFile::load(AuthzListFileOptions {
        id: None,
        filename: filename.to_owned(),
        refresh,
    })
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it took too long until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn wait_for(list: &AuthzListFile, name: &str) {
    wait_until(&format!("{name} was let in"), || list.is_allowed(name).unwrap());
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn a_file_holds_what_the_options_of_a_list_hold() {
    let place = Place::new();
    let file = place.write(
        "access",
        r#"{"policy": "allow", "rules": [
            {"match": "CN=guest*", "policy": "deny", "format": "glob"}, {"match": "x", "policy": "deny"}]}"#,
    );
    let list = load(&file, false).unwrap();
    assert_eq!(list.policy(), Policy::Allow);
    assert_eq!(
        list.rules(),
        [
            Rule::glob("CN=guest*", Policy::Deny),
            Rule::exact("x", Policy::Deny)
        ]
    );
    assert!(list.is_allowed("CN=host").unwrap() && !list.is_allowed("CN=guest1").unwrap());
}

#[test]
fn what_cannot_be_loaded_is_refused_with_the_reason() {
    let place = Place::new();
    let error = |text: &str| {
        let error = load(&place.write("bad", text), false).unwrap_err();
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(error.to_string().contains("/bad'"), "{error}");
        source
    };
    assert!(error("").contains("EOF"));
    assert!(error("policy=deny").contains("expected value"));
    assert!(error(r#"{"polcy": "deny"}"#).contains("polcy"));
    assert!(error(r#"{"rules": [{"match": "x"}]}"#).contains("policy"));
    assert!(error(r#"{"rules": [{"match": "x", "policy": "maybe"}]}"#).contains("maybe"));
    let missing = load(&place.path("missing"), true).unwrap_err();
    assert!(matches!(missing, AuthzSetupError::Read { .. }), "{missing}");
    let nowhere = load(&place.path("no/where"), true).unwrap_err();
    assert!(matches!(nowhere, AuthzSetupError::Watch { .. }), "{nowhere}");
    let endless = load(Path::new("/dev/zero"), false).unwrap_err();
    assert!(matches!(endless, AuthzSetupError::TooLarge { .. }), "{endless}");
}

#[test]
fn rewriting_and_replacing_are_noticed() {
    let place = Place::new();
    let file = place.write("access", &allow("one"));
    let list = load(&file, true).unwrap();
    assert!(list.is_allowed("one").unwrap());

    place.write("access", &allow("two"));
    wait_for(&list, "two");
    assert!(!list.is_allowed("one").unwrap());

    // As careful editors and configuration management do it.
    fs::rename(place.write(".access.new", &allow("three")), &file).unwrap();
    wait_for(&list, "three");

    // As editors that keep a backup do it.
    fs::rename(&file, place.path("access~")).unwrap();
    place.write("access", &allow("four"));
    wait_for(&list, "four");

    fs::remove_file(&file).unwrap();
    fs::hard_link(place.write("other", &allow("five")), &file).unwrap();
    wait_for(&list, "five");
}

/// Kubernetes mounts configuration so: the file is a link to a link, and the inner one is replaced.
#[test]
fn a_link_in_between_may_change() {
    let place = Place::new();
    for (dir, name) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(place.path(dir)).unwrap();
        place.write(&format!("{dir}/access"), &allow(name));
    }
    symlink("v1", place.path("current")).unwrap();
    symlink("current/access", place.path("access")).unwrap();
    let list = load(&place.path("access"), true).unwrap();
    assert!(list.is_allowed("one").unwrap());

    symlink("v2", place.path("next")).unwrap();
    fs::rename(place.path("next"), place.path("current")).unwrap();
    wait_for(&list, "two");

    // And where the link leads to, in another folder than the link.
    place.write("v2/access", &allow("three"));
    wait_for(&list, "three");
    fs::rename(place.write("v2/new", &allow("four")), place.path("v2/access")).unwrap();
    wait_for(&list, "four");
}

#[test]
fn a_folder_may_go_and_come_back() {
    let place = Place::new();
    fs::create_dir(place.path("etc")).unwrap();
    let file = place.write("etc/access", &allow("one"));
    let list = load(&file, true).unwrap();

    fs::rename(place.path("etc"), place.path("old")).unwrap();
    wait_until("its absence was noticed", || list.problem().is_some());
    assert!(list.is_allowed("one").unwrap(), "the old rules stay");

    fs::create_dir(place.path("etc")).unwrap();
    place.write("etc/access", &allow("two"));
    wait_for(&list, "two");
    place.write("etc/access", &allow("three"));
    wait_for(&list, "three");
}

#[test]
fn a_broken_file_leaves_the_old_rules_in_force_and_says_so() {
    let place = Place::new();
    let file = place.write("access", &allow("one"));
    let list = load(&file, true).unwrap();
    assert_eq!(list.problem(), None);

    place.write("access", r#"{"rules": [{"match": "two", "policy": "alow"}]}"#);
    wait_until("the mistake was noticed", || list.problem().is_some());
    let problem = list.problem().unwrap();
    assert!(
        problem.contains("/access'") && problem.contains("alow"),
        "{problem}"
    );
    assert!(list.is_allowed("one").unwrap() && !list.is_allowed("two").unwrap());

    fs::remove_file(&file).unwrap();
    wait_until("its absence was noticed", || {
        list.problem()
            .is_some_and(|problem| problem.contains("cannot read"))
    });
    assert!(list.is_allowed("one").unwrap());

    place.write("access", &allow("two"));
    wait_for(&list, "two");
    wait_until("the problem was over", || list.problem().is_none());
}

#[test]
fn without_refresh_a_change_waits_for_reload() {
    let place = Place::new();
    let file = place.write("access", &allow("one"));
    let list = load(&file, false).unwrap();
    place.write("access", &allow("two"));
    assert!(list.is_allowed("one").unwrap() && !list.is_allowed("two").unwrap());
    list.reload().unwrap();
    assert!(!list.is_allowed("one").unwrap() && list.is_allowed("two").unwrap());

    place.write("access", "{");
    assert!(list.reload().is_err());
    assert!(list.is_allowed("two").unwrap() && list.problem().is_some());
}

/// Questions are answered by one version of the file or another, and never by none, while it is replaced all the time.
#[test]
fn cred_29_every_question_is_answered_while_the_file_changes() {
    let place = Place::new();
    let file = place.write("access", &allow("always"));
    let list = load(&file, true).unwrap();
    let handle = list.clone();
    let asker = std::thread::spawn(move || {
        let mut asked = 0_u64;
        while !handle.is_allowed("stop").unwrap() {
            assert!(handle.is_allowed("always").unwrap());
            assert!(!handle.is_allowed("mallory").unwrap());
            asked += 1;
        }
        asked
    });
    let version = |name: &str| {
        format!(
            r#"{{"rules": [{{"match": "{name}", "policy": "allow"}}, {{"match": "always", "policy": "allow"}}]}}"#
        )
    };
    for round in 0..200 {
        fs::rename(place.write("new", &version(&format!("user{round}"))), &file).unwrap();
    }
    fs::rename(place.write("new", &version("stop")), &file).unwrap();
    assert!(asker.join().unwrap() > 0);
}

#[test]
fn dropping_the_last_handle_ends_the_watch() {
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let place = Place::new();
    let file = place.write("access", &allow("one"));
    // Other tests of this program run beside this one, so it counts its own threads by their number.
    let lists: Vec<_> = (0..100).map(|_| load(&file, true).unwrap()).collect();
    let handles = lists.clone();
    drop(lists);
    assert!(threads() >= 100);
    drop(handles);
    wait_until("the threads had ended", || threads() < 100);
}
