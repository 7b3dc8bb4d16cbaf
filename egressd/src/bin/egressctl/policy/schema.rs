//! `egressctl policy schema`: what editors complete and check policy files by.

use egressd::config;
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Print the JSON Schema of policy files, for editors
///
/// An editor with a YAML language server finds it by the first line of a file:
///
///   # yaml-language-server: $schema=policy.schema.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "Exit codes: 0 printed, 2 there is no such kind")]
pub struct Schema {
    /// What kind of file
    #[arg(value_enum, default_value_t, value_name = "KIND")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Kind {
    #[default]
    Policy,
    Allowlist,
    /// The daemon's own `egressd.yaml`
    Daemon,
}

impl Schema {
    pub fn act(&self) -> anyhow::Result<ExitCode> {
        let schema = match self.kind {
            Kind::Policy => config::policy_schema(),
            Kind::Allowlist => config::allowlist_schema(),
            Kind::Daemon => config::daemon_schema(),
        };
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&schema)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
