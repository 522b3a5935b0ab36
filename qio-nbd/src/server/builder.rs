//! Putting a server together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::buffer::BufferPool;
use crate::export::Export;
use crate::facts::ExportInfo;
use crate::name::ExportName;
use crate::wire::TransmissionFlags;

use super::{Lifetime, Limits, POOLED_BYTES, Served, Server, ServerTls, Shared};

/// Puts a [`Server`] together. A server does nothing before it has everything: there is no half-made one.
#[must_use]
pub struct ServerBuilder {
    pub(super) exports: BTreeMap<ExportName, (Arc<dyn Export>, String)>,
    pub(super) default_export: Option<ExportName>,
    pub(super) tls: ServerTls,
    pub(super) limits: Limits,
    pub(super) lifetime: Lifetime,
}

impl ServerBuilder {
    /// Adds an export, or replaces the one of that name. The description is for people, and may be empty.
    pub fn export(mut self, name: ExportName, description: &str, export: Arc<dyn Export>) -> Self {
        self.exports.insert(name, (export, description.to_owned()));
        self
    }

    /// Serves this export to clients that name none, unless there is one with the empty name.
    pub fn default_export(mut self, name: ExportName) -> Self {
        self.default_export = Some(name);
        self
    }

    /// How clients have to protect what they say; [`ServerTls::Off`] unless said otherwise.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = tls;
        self
    }

    /// What clients can make the server hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When the server has done its work; [`Lifetime::Persistent`] unless said otherwise.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The finished server.
    #[must_use]
    pub fn build(self) -> Server {
        let shared_disk = self.limits.max_connections != 1;
        let exports = self.exports.into_iter().map(|(name, (export, description))| {
            let mut flags = export.capabilities().transmission_flags();
            if !shared_disk {
                flags.remove(TransmissionFlags::CAN_MULTI_CONN);
            }
            let info = ExportInfo {
                size: export.size(),
                flags,
                description,
                block_sizes: export.block_sizes(),
            };
            (name, Served { export, info })
        });
        Server {
            shared: Arc::new(Shared {
                exports: exports.collect(),
                default_export: self.default_export,
                tls: self.tls,
                limits: self.limits,
                lifetime: self.lifetime,
                pool: BufferPool::new(POOLED_BYTES),
                held: Arc::default(),
                stop: watch::Sender::new(false),
            }),
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("exports", &self.exports.keys())
            .finish_non_exhaustive()
    }
}
