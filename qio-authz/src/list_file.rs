//! `authz-list-file`: rules in a file that may change.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::rule::Rules;
use crate::watch::{Prepared, Watch};
use crate::{Authorizer, AuthzError, AuthzSetupError, Policy, Rule};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The options of an `authz-list-file` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthzListFileOptions {
    /// The id by which services name the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The file: JSON with the keys `policy` and `rules` of [`AuthzListOptions`](crate::AuthzListOptions).
    pub filename: PathBuf,
    /// Whether the file is loaded again when it changes.
    #[serde(default = "on")]
    pub refresh: bool,
}

fn on() -> bool {
    true
}

/// What the file holds.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// Lets pass whom the first matching rule of a file allows: QEMU's `authz-list-file`.
///
/// With `refresh`, the file is loaded again when it was rewritten or replaced, whether directly or by a change of symbolic
/// links on its path's last component. A file that cannot be loaded leaves the old rules in force;
/// [`problem`](Self::problem) then says why, and so does a warning in the log. (QEMU lets nobody in until the file is mended.)
///
/// Cloning it makes another handle to the same list. The last one to be dropped ends the watch.
///
/// ```
/// use qio_authz::{Authorizer, AuthzListFile, AuthzListFileOptions};
///
/// # let dir = tempfile::tempdir()?;
/// let filename = dir.path().join("access.json");
/// std::fs::write(&filename, r#"{"rules": [{"match": "CN=host1", "policy": "allow"}]}"#)?;
/// let list = AuthzListFile::load(AuthzListFileOptions { id: None, filename, refresh: true })?;
/// assert!(list.is_allowed("CN=host1")?);
/// assert!(!list.is_allowed("CN=host2")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AuthzListFile {
    list: Arc<List>,
    /// Owned by the handles only: the watch's thread has `list`, and must not keep itself alive.
    _watch: Arc<Option<Watch>>,
}

#[derive(Debug)]
struct List {
    file: PathBuf,
    rules: RwLock<Arc<Rules>>,
    problem: Mutex<Option<String>>,
    /// Held over a whole reload, so that of two at once the later one's contents win.
    reloading: Mutex<()>,
}

impl AuthzListFile {
    /// Loads the file, and begins to watch it if `refresh` says so. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`AuthzSetupError`] if the file cannot be read, is not valid, or cannot be watched.
    pub fn load(options: AuthzListFileOptions) -> Result<Self, AuthzSetupError> {
        let at = |source| AuthzSetupError::Watch {
            file: options.filename.clone(),
            source,
        };
        // The process may change its working directory.
        let file = std::path::absolute(&options.filename).map_err(at)?;
        // Watched from before it is read, so that no change falls between.
        let prepared = options
            .refresh
            .then(|| Prepared::new(&file))
            .transpose()
            .map_err(at)?;
        let rules = RwLock::new(Arc::new(read(&file)?));
        let list = Arc::new(List {
            file,
            rules,
            problem: Mutex::new(None),
            reloading: Mutex::new(()),
        });
        let watched = Arc::clone(&list);
        let watch = prepared.map(|prepared| {
            prepared.start(move || {
                // What is wrong has been noted and logged.
                let _ = watched.reload();
            })
        });
        Ok(Self {
            list,
            _watch: Arc::new(watch.transpose().map_err(at)?),
        })
    }

    /// The file, as an absolute path.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.list.file
    }

    /// What holds for identities that no rule covers.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.list.current().policy
    }

    /// The rules in force, in order.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.list.current().rules.clone()
    }

    /// Why what the file holds now is not in force; none if it is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.list.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the file again, whether it has changed or not. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). The old rules then stay in force.
    pub fn reload(&self) -> Result<(), AuthzSetupError> {
        self.list.reload()
    }
}

impl Authorizer for AuthzListFile {
    fn is_allowed(&self, identity: &str) -> Result<bool, AuthzError> {
        self.list.current().is_allowed(identity)
    }
}

impl List {
    // Only whole values are ever stored behind the locks, so a panic elsewhere cannot have left half of one.
    fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn reload(&self) -> Result<(), AuthzSetupError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.display();
        let (result, problem) = match read(&self.file) {
            Ok(rules) => {
                tracing::info!(%file, rules = rules.rules.len(), "access list reloaded");
                *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                (Ok(()), None)
            }
            Err(error) => {
                let problem = with_cause(&error);
                tracing::warn!(%file, "the old rules stay in force: {problem}");
                (Err(error), Some(problem))
            }
        };
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        result
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn read(file: &Path) -> Result<Rules, AuthzSetupError> {
    let at = |source: io::Error| AuthzSetupError::Read {
        file: file.to_owned(),
        source,
    };
    let mut text = String::new();
    let read = File::open(file)
        .map_err(at)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(at)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(AuthzSetupError::TooLarge {
            file: file.to_owned(),
        });
    }
    let Contents { policy, rules } =
        qio_opts::from_json(&text).map_err(|source| AuthzSetupError::Malformed {
            file: file.to_owned(),
            source,
        })?;
    Ok(Rules { policy, rules })
}
