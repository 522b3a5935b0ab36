//! `qio nbd list`.

use anyhow::Context as _;
use clap::Args;
use qio_nbd::NbdUri;
use qio_nbd::client::ClientError;

use super::client::ClientOptions;
use super::details::{Export, Report, is_tls};
use super::info::print;

/// List a server's exports, with what it tells about each.
#[derive(Debug, Args)]
pub(super) struct ListCommand {
    /// The server, as a URI; the export's name in it does not matter.
    uri: NbdUri,
    /// Print JSON, with the field names of nbdinfo.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

pub(super) async fn run(command: ListCommand) -> anyhow::Result<()> {
    let ListCommand { uri, json, client } = command;
    let mut session = client.connect(&uri).await?;
    let report = tokio::task::spawn_blocking(move || {
        let mut exports = Vec::new();
        for listed in session.list().with_context(|| uri.to_string())? {
            exports.push(match session.info(&listed.name) {
                Ok(mut details) => {
                    if details.description.is_empty() {
                        details.description.clone_from(&listed.description);
                    }
                    Export::new(&uri, &details)
                }
                Err(ClientError::Refused(refusal)) => {
                    tracing::info!(export = %listed.name, "{refusal}");
                    Export::listed(&uri, &listed)
                }
                Err(error) => return Err(error).with_context(|| uri.to_string()),
            });
        }
        let report = Report::new(session.replies(), is_tls(&session), exports);
        session.abort();
        anyhow::Ok(report)
    })
    .await??;
    print(&report, json)
}
