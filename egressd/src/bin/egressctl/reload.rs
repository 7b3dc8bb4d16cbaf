//! `egressctl reload`: every policy at once, or none.

use crate::output::{Colour, Format, json, sanitise};
use egressd::control::Client;
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Read the policy files again: all of them or, where one has a mistake, none
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 what the files say is in force, 2 what was in force still is")]
pub struct Reload {}

impl Reload {
    pub fn act(&self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let summary = client.reload()?;
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &summary)?,
            Format::Text => {
                let colour = Colour::of(&stdout());
                let (files, agents) = (summary.policies.len(), summary.changed_agents.len());
                writeln!(
                    out,
                    "read {files} policy file(s); the policy of {agents} running agent(s) changed"
                )?;
                for warning in &summary.warnings {
                    writeln!(out, "{} {}", colour.hint("warning:"), sanitise(warning))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
