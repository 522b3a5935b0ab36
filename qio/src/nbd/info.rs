//! `qio nbd info`.

#![allow(clippy::print_stdout, reason = "what the command prints is what it is for")]

use anyhow::Context as _;
use clap::Args;
use qio_nbd::NbdUri;
use qio_nbd::client::ClientError;
use qio_nbd::wire::OptionReplyType;

use super::client::ClientOptions;
use super::details::{Export, Report, is_tls};

/// Say what a server tells about one export.
#[derive(Debug, Args)]
pub(super) struct InfoCommand {
    /// The export: nbd://HOST/NAME, nbds://HOST/NAME, nbd+unix:///NAME?socket=PATH, nbds+unix:///...
    uri: NbdUri,
    /// Print JSON, with the field names of nbdinfo.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

pub(super) async fn run(command: InfoCommand) -> anyhow::Result<()> {
    let InfoCommand { uri, json, client } = command;
    let mut session = client.connect(&uri).await?;
    let report = tokio::task::spawn_blocking(move || {
        let (replies, tls) = (session.replies(), is_tls(&session));
        let details = match session.info(&uri.export) {
            Ok(details) => {
                session.abort();
                details
            }
            // Servers that cannot only describe an export can still open it.
            Err(ClientError::Refused(refusal)) if refusal.kind == OptionReplyType::Unsupported => {
                go(session, &uri)?
            }
            Err(ClientError::Negotiation(qio_nbd::negotiation::NegotiationError::TooOld(_))) => {
                go(session, &uri)?
            }
            Err(error) => return Err(error).with_context(|| uri.to_string()),
        };
        Ok(Report::new(replies, tls, vec![Export::new(&uri, &details)]))
    })
    .await??;
    print(&report, json)
}

fn go(
    session: qio_nbd::client::Session,
    uri: &NbdUri,
) -> anyhow::Result<qio_nbd::negotiation::ExportDetails> {
    let client = session.go(&uri.export).with_context(|| uri.to_string())?;
    let details = client.export().clone();
    // What was asked for has been told.
    let _ = client.disconnect();
    Ok(details)
}

/// Prints a report as text or JSON.
pub(super) fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(())
}
