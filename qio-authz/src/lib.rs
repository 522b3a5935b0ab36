//! Who may connect: QEMU's authorization objects.
//!
//! A service that has verified who its peer is asks an [`Authorizer`] whether that identity may pass. The kinds there are:
//!
//! | `--object` | who passes |
//! |---|---|
//! | `authz-simple,id=ID,identity=NAME` | exactly one identity ([`AuthzSimple`]) |
//! | `authz-list,id=ID,policy=deny,rules.0.match=...` | whom the first matching rule allows ([`AuthzList`]) |
//! | `authz-list-file,id=ID,filename=PATH` | the same, from a JSON file that may change ([`AuthzListFile`]) |
//! | `authz-pam,id=ID,service=NAME` | whose account the system's PAM finds in order (`AuthzPam`, with the cargo feature `pam`) |
//!
//! All of them are an [`Authz`], which is what an [`ObjectRegistry`](qio_opts::ObjectRegistry) holds. Services name it by
//! its id and look it up for every peer, with an [`AuthzRef`].
//!
//! ```
//! use qio_authz::{Authorizer, Authz, AuthzListOptions, AuthzRef};
//! use qio_opts::ObjectRegistry;
//!
//! let options: AuthzListOptions = qio_opts::from_option(
//!     "id=authz0,policy=deny,rules.0.match=CN=host?,,O=Example,rules.0.format=glob,rules.0.policy=allow",
//!     None,
//! )?;
//! let objects = ObjectRegistry::new();
//! objects.add("authz0", Authz::from(options.into_list()))?;
//!
//! let access = AuthzRef::new(&objects, "authz0");
//! assert!(access.is_allowed("CN=host1,O=Example")?);
//! assert!(!access.is_allowed("CN=host12,O=Example")?);
//!
//! objects.delete("authz0")?;
//! assert!(access.is_allowed("CN=host1,O=Example").is_err(), "nobody passes without the list");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What always holds
//!
//! Only `Ok(true)` lets a peer pass. Identities are compared as they are, byte by byte; longer ones than
//! [`MAX_IDENTITY_BYTES`] are refused, not cut.
//!
//! # What this crate deliberately does not know
//!
//! How an identity was proved, and TLS, SASL or certificates altogether. It needs no async runtime.

mod authorizer;
mod error;
mod glob;
mod list;
mod list_file;
mod object;
#[cfg(feature = "pam")]
mod pam;
mod reference;
mod rule;
mod simple;
#[cfg_attr(not(target_os = "linux"), path = "watch_unsupported.rs")]
mod watch;

pub use authorizer::{Authorizer, MAX_IDENTITY_BYTES};
pub use error::{AuthzError, AuthzSetupError};
pub use list::{AuthzList, AuthzListOptions};
pub use list_file::{AuthzListFile, AuthzListFileOptions, MAX_FILE_BYTES};
pub use object::{Authz, AuthzOptions};
#[cfg(feature = "pam")]
pub use pam::{AuthzPam, AuthzPamOptions};
pub use reference::AuthzRef;
pub use rule::{Format, Policy, Rule};
pub use simple::{AuthzSimple, AuthzSimpleOptions};
