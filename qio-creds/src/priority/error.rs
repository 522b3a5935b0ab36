//! Why a priority string cannot be honoured.

use std::io;
use std::path::PathBuf;

/// Why a priority string cannot be honoured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriorityError {
    /// Not a part of any priority string.
    #[error(
        "'{token}' is not known (a priority string is a keyword such as NORMAL and then +NAME, -NAME or %OPTION, separated by colons; gnutls-cli --list prints the names)"
    )]
    Unknown {
        /// The part.
        token: String,
    },
    /// Something that our engines cannot do.
    #[error("'{token}' cannot be honoured: {why}; leave it out")]
    Impossible {
        /// The part of the string.
        token: String,
        /// Why not.
        why: &'static str,
    },
    /// Nothing is allowed without which there is no session.
    #[error("'{text}' leaves no {what}")]
    NothingLeft {
        /// What there is none of.
        what: &'static str,
        /// The whole string.
        text: String,
    },
    /// A policy is named, and not to be found.
    #[error(
        "'@{keywords}': none of these policies is defined in {}; define one there, or name the priorities themselves, such as NORMAL",
        places(files)
    )]
    NoPolicy {
        /// The names looked for, separated by commas.
        keywords: String,
        /// The files that there are, or that were looked for if there are none.
        files: Vec<PathBuf>,
    },
    /// The file with the policies cannot be read.
    #[error("cannot read the policies in '{}'", file.display())]
    PolicyFile {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A policy refers to another, and so on without end.
    #[error("'@{keywords}' leads from policy to policy without end")]
    PolicyLoop {
        /// The names in the string.
        keywords: String,
    },
}

fn places(files: &[PathBuf]) -> String {
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    files.join(" or ")
}
