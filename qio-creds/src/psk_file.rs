//! Reading `keys.psk`, in the format of GnuTLS's psktool: one `user:key` to a line, the key in hexadecimal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::check::Findings;
use crate::psk::SHORT_KEY;
use crate::snapshot::Contents;
use crate::{
    CredsError, Defect, Endpoint, InvalidPsk, KeyPermissions, Psk, PskIdentity, PskKey, PskUsers, Snapshot,
    TlsCredsPskOptions, pem_file,
};

const KEYS_PSK: &str = "keys.psk";

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
    if options.priority.is_some() {
        let property = "priority";
        return Err(CredsError::NotSupported { name, property });
    }
    if options.endpoint == Endpoint::Server && options.username.is_some() {
        return Err(CredsError::UsernameOfServer { name });
    }

    let file = file(options);
    let mut findings = Findings::default();
    let psk = match pem_file::psk(&file, permissions) {
        Ok(text) => match options.endpoint {
            Endpoint::Server => server(&text, &file, &mut findings).map(Psk::Server),
            Endpoint::Client => {
                client(&text, options.effective_username(), &file, &mut findings).map(Psk::Client)
            }
        },
        Err(Defect::Missing) => {
            findings.error(&file, Defect::NoPskFile);
            None
        }
        Err(defect) => {
            findings.error(&file, defect);
            None
        }
    };
    let endpoint = options.endpoint;
    let warnings = findings.into_result(&name, endpoint)?;
    let psk = psk.ok_or_else(|| CredsError::Problems {
        name,
        endpoint,
        problems: Vec::new(), // not reached: without keys there is a finding
    })?;
    Ok(Snapshot::new(endpoint, Contents::Psk(psk), warnings))
}

/// A line that is not blank, from 1, split at its colon.
struct Line<'a> {
    number: usize,
    split: Option<(&'a [u8], &'a [u8])>,
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|byte| *byte == b'\n')
        .zip(1..)
        .filter_map(|(line, number)| {
            let line = line.trim_ascii_end();
            let colon = line.iter().position(|byte| *byte == b':');
            let split = colon.and_then(|colon| Some((line.get(..colon)?, line.get(colon + 1..)?)));
            (!line.is_empty()).then_some(Line { number, split })
        })
}

fn identity(username: &[u8], key: &[u8]) -> Result<PskIdentity, InvalidPsk> {
    let username = match username.strip_prefix(b"#") {
        // As GnuTLS writes names that a line cannot hold.
        Some(digits) => PskKey::from_hex_bytes(digits)
            .map_err(|_| InvalidPsk::UsernameNotText)?
            .bytes()
            .to_vec(),
        None => username.to_vec(),
    };
    let username = String::from_utf8(username).map_err(|_| InvalidPsk::UsernameNotText)?;
    PskIdentity::new(username, PskKey::from_hex_bytes(key)?)
}

/// Every user of the file.
fn server(text: &[u8], file: &Path, findings: &mut Findings) -> Option<PskUsers> {
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
    PskUsers::new(users)
        .map_err(|error| findings.error(file, Defect::Unreadable(error)))
        .ok()
}

/// One user of the file. What others' lines hold is their business.
fn client(text: &[u8], username: &str, file: &Path, findings: &mut Findings) -> Option<PskIdentity> {
    let hex = |name: &[u8]| {
        let digits = name.strip_prefix(b"#").unwrap_or_default();
        PskKey::from_hex_bytes(digits).is_ok_and(|name| name.bytes() == username.as_bytes())
    };
    let own = lines(text).find_map(|line| {
        let (name, key) = line.split?;
        (name == username.as_bytes() || hex(name)).then_some((line.number, key))
    });
    let Some((number, key)) = own else {
        let username = username.to_owned();
        findings.error(file, Defect::NoSuchPskUser { username });
        return None;
    };
    match PskKey::from_hex_bytes(key).and_then(|key| PskIdentity::new(username, key)) {
        Ok(user) => {
            check_length(&user, number, file, findings);
            Some(user)
        }
        Err(what) => {
            findings.error(file, Defect::BadPskLine { line: number, what });
            None
        }
    }
}

fn check_length(user: &PskIdentity, line: usize, file: &Path, findings: &mut Findings) {
    let bytes = user.key().bytes().len();
    if bytes < SHORT_KEY {
        tell(&mut findings.warnings, file, Defect::ShortPsk { line, bytes });
    }
}

fn tell(warnings: &mut Vec<crate::Problem>, file: &Path, what: Defect) {
    if warnings.len() < MAX_TOLD {
        warnings.push(crate::Problem::new(PathBuf::from(file), what));
    }
}
