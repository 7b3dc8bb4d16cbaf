//! `egressctl policy`: what people do with policy files, without a daemon, and with the revisions of one.

mod check;
mod diff;
mod export;
mod fmt;
mod history;
mod import;
mod links;
mod revision;
mod schema;
pub mod source;
mod test;

use crate::output::Format;
use egressd::control::Client;
use std::process::ExitCode;

/// Check, compare, try and translate policy files; look through and choose revisions
#[derive(Debug, clap::Args)]
pub struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Check(check::Check),
    Diff(diff::Diff),
    Test(test::Test),
    Fmt(fmt::Fmt),
    Import(import::Import),
    Export(export::Export),
    Schema(schema::Schema),
    History(history::History),
    Rollback(history::Rollback),
    Follow(history::Follow),
}

impl Policy {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Check(check) => check.act(format),
            Verb::Diff(diff) => diff.act(format),
            Verb::Test(test) => test.act(format),
            Verb::Fmt(fmt) => fmt.act(),
            Verb::Import(import) => import.act(format),
            Verb::Export(export) => export.act(format),
            Verb::Schema(schema) => schema.act(),
            Verb::History(history) => history.act(client, format),
            Verb::Rollback(rollback) => rollback.act(client, format),
            Verb::Follow(follow) => follow.act(client, format),
        }
    }
}
