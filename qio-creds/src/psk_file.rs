//! Reading `keys.psk`, in the format of GnuTLS's psktool: one `user:key` to a line, the key in hexadecimal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::check::Findings;
use crate::psk::SHORT_KEY;
use crate::snapshot::Contents;
use crate::{
    CredsError, Defect, Endpoint, InvalidPsk, KeyPermissions, PolicyFiles, Priority, Problem, Psk,
    PskIdentity, PskKey, PskUsers, Snapshot, TlsCredsPskOptions, pem_file,
};

pub(crate) const KEYS_PSK: &str = "keys.psk";

/// How many bad lines are told one by one; after that a mistake in the file's format is told, not its every line.
const MAX_TOLD: usize = 50;

/// The object as errors name it.
pub(crate) fn name_of(options: &TlsCredsPskOptions) -> String {
    match &options.id {
        Some(id) => format!("'{id}'"),
        None => format!("in {}", options.dir.display()),
    }
}

/// The file that is read.
pub(crate) fn file(options: &TlsCredsPskOptions) -> PathBuf {
    options.dir.join(KEYS_PSK)
}

/// Reads the file and checks what is in it; every problem is reported at once.
pub(crate) fn directory(
    options: &TlsCredsPskOptions,
    permissions: KeyPermissions,
) -> Result<Snapshot, CredsError> {
    let name = name_of(options);
    if options.endpoint == Endpoint::Server && options.username.is_some() {
        return Err(CredsError::UsernameOfServer { name });
    }
    let priority = options
        .priority
        .as_deref()
        .map(|text| Priority::parse_for_psk(text, &PolicyFiles::system()))
        .transpose()
        .map_err(|source| CredsError::Priority {
            name: name.clone(),
            source,
        })?;

    let file = file(options);
    let (psk, warnings) = match options.endpoint {
        Endpoint::Server => {
            let (users, warnings) = read(&name, Endpoint::Server, &file, permissions, |text, findings| {
                server(text, &file, findings)
            })?;
            (Psk::server(users), warnings)
        }
        Endpoint::Client => {
            let (user, warnings) = load_identity(&name, &file, options.effective_username(), permissions)?;
            (Psk::client(user), warnings)
        }
    };
    let psk = psk.with_priority(priority);
    Ok(Snapshot::new(options.endpoint, Contents::Psk(psk), warnings))
}

impl PskIdentity {
    /// Finds a user in a file of pre-shared keys, wherever it is; for programs that are told a file and not a
    /// directory. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`CredsError::Problems`] if the file cannot be read, or has no such user, or no usable key.
    pub fn load(file: &Path, username: &str, permissions: KeyPermissions) -> Result<Self, CredsError> {
        let name = format!("in {}", file.display());
        load_identity(&name, file, username, permissions).map(|(identity, _)| identity)
    }
}

fn load_identity(
    name: &str,
    file: &Path,
    username: &str,
    permissions: KeyPermissions,
) -> Result<(PskIdentity, Vec<Problem>), CredsError> {
    read(name, Endpoint::Client, file, permissions, |text, findings| {
        client(text, username, file, findings)
    })
}

/// Reads a file, and has `parse` make of it what it can; every problem is reported at once.
fn read<T>(
    name: &str,
    endpoint: Endpoint,
    file: &Path,
    permissions: KeyPermissions,
    parse: impl FnOnce(&[u8], &mut Findings) -> Result<T, Problem>,
) -> Result<(T, Vec<Problem>), CredsError> {
    let mut findings = Findings::default();
    let parsed = match pem_file::psk(file, permissions) {
        Ok(text) => parse(&text, &mut findings),
        Err(Defect::Missing) => Err(Problem::new(file, Defect::NoPskFile)),
        Err(defect) => Err(Problem::new(file, defect)),
    };
    match parsed {
        Ok(parsed) => Ok((parsed, findings.into_result(name, endpoint)?)),
        Err(problem) => {
            findings.errors.push(problem);
            Err(CredsError::Problems {
                name: name.to_owned(),
                endpoint,
                problems: findings.errors,
            })
        }
    }
}

/// A line that is not blank, from 1, split at its colon.
pub(crate) struct Line<'a> {
    number: usize,
    pub(crate) split: Option<(&'a [u8], &'a [u8])>,
}

pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|byte| *byte == b'\n')
        .zip(1..)
        .filter_map(|(line, number)| {
            let line = line.trim_ascii_end();
            let colon = line.iter().position(|byte| *byte == b':');
            let split = colon.and_then(|colon| Some((line.get(..colon)?, line.get(colon + 1..)?)));
            (!line.is_empty()).then_some(Line { number, split })
        })
}

/// The user name of a line, which GnuTLS writes as `#` and hexadecimal digits where a line could not hold it.
pub(crate) fn username(name: &[u8]) -> Result<String, InvalidPsk> {
    let name = match name.strip_prefix(b"#") {
        Some(digits) => PskKey::from_hex_bytes(digits)
            .map_err(|_| InvalidPsk::UsernameNotText)?
            .bytes()
            .to_vec(),
        None => name.to_vec(),
    };
    String::from_utf8(name).map_err(|_| InvalidPsk::UsernameNotText)
}

fn identity(name: &[u8], key: &[u8]) -> Result<PskIdentity, InvalidPsk> {
    PskIdentity::new(username(name)?, PskKey::from_hex_bytes(key)?)
}

/// Every user of the file.
fn server(text: &[u8], file: &Path, findings: &mut Findings) -> Result<PskUsers, Problem> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut users = Vec::new();
    let mut bad = 0;
    for Line { number, split } in lines(text) {
        let read = split
            .ok_or(InvalidPsk::NoColon)
            .and_then(|(user, key)| identity(user, key));
        match read {
            Ok(user) => {
                if let Some(first) = seen.get(user.username()) {
                    let (username, first) = (user.username().to_owned(), *first);
                    let what = Defect::PskUserTwice {
                        username,
                        line: number,
                        first,
                    };
                    tell(&mut findings.warnings, file, what);
                    continue;
                }
                seen.insert(user.username().to_owned(), number);
                check_length(&user, number, file, findings);
                users.push(user);
            }
            Err(what) => {
                bad += 1;
                if bad <= MAX_TOLD {
                    findings.error(file, Defect::BadPskLine { line: number, what });
                }
            }
        }
    }
    if bad > MAX_TOLD {
        findings.error(
            file,
            Defect::MoreBadPskLines {
                count: bad - MAX_TOLD,
            },
        );
    }
    if users.is_empty() && bad == 0 {
        findings.error(file, Defect::NoPskUsers);
    }
    PskUsers::new(users).map_err(|error| Problem::new(file, Defect::Unreadable(error)))
}

/// One user of the file. What others' lines hold is their business.
fn client(text: &[u8], username: &str, file: &Path, findings: &mut Findings) -> Result<PskIdentity, Problem> {
    let own = lines(text).find_map(|line| {
        let (name, key) = line.split?;
        let own = self::username(name).is_ok_and(|name| name == username);
        own.then_some((line.number, key))
    });
    let (line, key) = own.ok_or_else(|| {
        let username = username.to_owned();
        Problem::new(file, Defect::NoSuchPskUser { username })
    })?;
    let user = PskKey::from_hex_bytes(key)
        .and_then(|key| PskIdentity::new(username, key))
        .map_err(|what| Problem::new(file, Defect::BadPskLine { line, what }))?;
    check_length(&user, line, file, findings);
    Ok(user)
}

fn check_length(user: &PskIdentity, line: usize, file: &Path, findings: &mut Findings) {
    let bytes = user.key().bytes().len();
    if bytes < SHORT_KEY {
        tell(&mut findings.warnings, file, Defect::ShortPsk { line, bytes });
    }
}

fn tell(warnings: &mut Vec<Problem>, file: &Path, what: Defect) {
    if warnings.len() < MAX_TOLD {
        warnings.push(Problem::new(file, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    fn parse(text: &str) -> (Result<PskUsers, Problem>, Findings) {
        let mut findings = Findings::default();
        (
            server(text.as_bytes(), Path::new("keys.psk"), &mut findings),
            findings,
        )
    }

    fn own(text: &str, username: &str) -> Result<PskIdentity, String> {
        client(
            text.as_bytes(),
            username,
            Path::new("keys.psk"),
            &mut Findings::default(),
        )
        .map_err(|problem| problem.to_string())
    }

    #[test]
    fn lines_as_psktool_and_people_write_them() {
        let text = format!("alice:{KEY}\n\nbob:{}\r\n#6361726f6c:{KEY}", KEY.to_uppercase());
        let (users, findings) = parse(&text);
        assert!(findings.errors.is_empty() && findings.warnings.is_empty());
        let users = users.unwrap();
        assert_eq!(users.len(), 3);
        for user in ["alice", "bob", "carol"] {
            assert!(
                matches!(users.find(user.as_bytes()), crate::PskMatch::Known(key) if key.bytes()[15] == 15)
            );
            assert_eq!(own(&text, user).unwrap().username(), user);
        }
        for user in ["alic", "alice\0", "dave", "", "#6361726f6c"] {
            assert!(matches!(users.find(user.as_bytes()), crate::PskMatch::Unknown(_)));
        }
    }

    #[test]
    fn every_bad_line_is_told_and_no_key() {
        let text = format!(
            "alice\n:{KEY}\nbob:\ncarol:{KEY}0\ndave:zz{KEY}\n{}:{KEY}\nok:{KEY}\n",
            "x".repeat(300)
        );
        let (_, findings) = parse(&text);
        let told: Vec<_> = findings.errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 6, "{told:#?}");
        for (line, told) in (1..).zip(&told) {
            assert!(
                told.starts_with(&format!("keys.psk: line {line} cannot be used: ")),
                "{told}"
            );
            assert!(!told.contains(KEY), "{told}");
        }
        let (_, findings) = parse(&"nonsense\n".repeat(1000));
        assert_eq!(findings.errors.len(), MAX_TOLD + 1);
        assert!(findings.errors[MAX_TOLD].to_string().contains("950 more"));
    }

    #[test]
    fn cred_01_a_name_with_a_nul_is_refused() {
        let (_, findings) = parse(&format!("admin\0x:{KEY}\n#61646d696e0078:{KEY}\n"));
        assert_eq!(findings.errors.len(), 2);
    }

    #[test]
    fn short_keys_and_second_lines_earn_a_warning() {
        let (users, findings) = parse(&format!("alice:00ff\nbob:{KEY}\nbob:ff{KEY}\n"));
        assert_eq!(
            users.unwrap().find(b"bob").key().bytes().len(),
            16,
            "the first line counts"
        );
        let warnings: Vec<_> = findings.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings[0].contains("line 1 has only 2 bytes"), "{warnings:?}");
        assert!(
            warnings[1].contains("line 3 names the user bob of line 2 again"),
            "{warnings:?}"
        );
    }

    #[test]
    fn an_empty_file_lets_nobody_in_and_says_so() {
        assert!(parse("\n").1.errors[0].to_string().contains("holds no users"));
    }

    #[test]
    fn a_client_looks_at_its_own_line_only() {
        let text = format!("nonsense\nalice:{KEY}\nbob:xyz\n");
        assert!(own(&text, "alice").is_ok());
        assert!(own(&text, "bob").unwrap_err().contains("line 3"));
        let error = own(&text, "qemu").unwrap_err();
        assert!(error.contains("Username qemu not found in PSK file"), "{error}");
    }
}
