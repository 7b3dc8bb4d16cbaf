//! `egressctl revoke`: the end of what somebody allowed.

use crate::{
    grants::destination,
    output::{Format, complain, json, sanitise},
};
use egressd::control::{
    Client, ClientError,
    protocol::{RefusalKind, RevokeRequest},
};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Take back what was allowed for a time, and cut the flows that are open by it
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is taken back, 1 there was nothing to take back, 2 it is not")]
pub struct Revoke {
    /// Number of the grant, as `egressctl grants` lists it
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    id: Option<u32>,

    /// All grants of `--agent`
    #[arg(long, requires = "agent")]
    all: bool,

    /// Name or number of the agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// Why, for whoever reads the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Revoke {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let Self { id, all: _, agent, reason } = self;
        let revoked = match client.revoke(&RevokeRequest { id, agent, reason }) {
            Ok(revoked) => revoked,
            Err(ClientError::Refused(refusal)) if id.is_some() && refusal.kind == RefusalKind::Unknown => {
                complain(&anyhow::anyhow!("{refusal}"));
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        };
        let mut out = stdout().lock();
        match format {
            Format::Json => revoked.iter().try_for_each(|grant| json(&mut out, grant))?,
            Format::Text if revoked.is_empty() => writeln!(out, "there was nothing to take back")?,
            Format::Text => {
                for grant in &revoked {
                    let (id, what) = (grant.id, destination(grant));
                    let (what, agent) = (sanitise(&what), sanitise(&grant.agent));
                    writeln!(out, "revoked grant {id}: {what}, of agent `{agent}`")?;
                }
            }
        }
        Ok(if revoked.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
