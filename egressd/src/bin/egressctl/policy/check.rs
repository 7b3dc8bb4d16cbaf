//! `egressctl policy check`: whether files are policies, and what is odd about them.

use super::source::load;
use crate::output::{Colour, Format, json, sanitise};
use egressd::authoring::{Finding, Severity, lint};
use std::{
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// Check policy files: their syntax, what they mean, and what is hardly meant
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Policy files, or folders with such
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Check {
    pub fn act(self, format: Format) -> anyhow::Result<ExitCode> {
        let policies = load(&self.files)?;
        let findings: Vec<Finding> =
            policies.names().flat_map(|agent| lint(&policies.for_agent(agent))).collect();
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &findings)?,
            Format::Text => {
                let colour = Colour::of(&stdout());
                for Finding { severity, lint, place, text, help } in &findings {
                    let word = match severity {
                        Severity::Warning => colour.denied(&severity.to_string()),
                        Severity::Note => colour.hint(&severity.to_string()),
                    };
                    writeln!(out, "{word}: {} [{lint}]\n  {}", sanitise(text), sanitise(place))?;
                    if let Some(help) = help {
                        writeln!(out, "  {}", sanitise(help))?;
                    }
                }
            }
        }
        let is_odd = findings.iter().any(|finding| finding.severity == Severity::Warning);
        Ok(if is_odd { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
