//! `egressctl policy export`: a policy of ours as other enforcers read it.

use super::{
    import::report,
    source::{agent_of, load_one},
};
use crate::output::{Format, json};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use egressd::authoring::export::{Target, export};
use std::{
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// Translate a policy for another enforcer; it never allows more, and what it cannot say is reported
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Export {
    /// What the policy is written for
    #[arg(long, value_name = "KIND", value_parser = targets())]
    to: Target,

    /// Whose policy is written [default: `default`, or the only one there is]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// The policy file, or a folder with such
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const EXIT_CODES: &str = "\
The result goes to standard output, the report of what is not exact to standard error, and into the result as comments.

Exit codes:
  0  nothing was lost
  1  something was lost
  2  it could not be done";

impl Export {
    pub fn act(self, format: Format) -> anyhow::Result<ExitCode> {
        let policies = load_one(&self.file)?;
        let agent = agent_of(&policies, self.agent.as_deref())?;
        let exported = export(self.to, &policies.for_agent(&agent), &agent);
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &exported)?,
            Format::Text => {
                out.write_all(exported.text.as_bytes())?;
                report(&exported.report)?;
            }
        }
        Ok(if exported.needs_a_look() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn targets() -> impl TypedValueParser<Value = Target> {
    let words = PossibleValuesParser::new(Target::ALL.map(Target::as_str));
    words.try_map(|word| Target::parse(&word).ok_or("no such kind"))
}
