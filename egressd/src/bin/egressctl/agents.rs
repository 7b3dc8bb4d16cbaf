//! `egressctl agents`: who runs behind the firewall.

use crate::output::{Cell, Colour, Format, json, table};
use egressd::control::{Client, protocol::AgentStatus};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// List the agents that run
#[derive(Debug, clap::Args)]
pub struct Agents {}

impl Agents {
    pub fn act(&self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let agents = client.agents()?;
        let mut out = stdout().lock();
        match format {
            Format::Json => {
                for agent in &agents {
                    json(&mut out, agent)?;
                }
            }
            Format::Text if agents.is_empty() => writeln!(out, "no agent runs")?,
            Format::Text => {
                let rows: Vec<_> = agents.iter().map(row).collect();
                table(&mut out, Colour::of(&stdout()), TITLES, &rows)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

const TITLES: [&str; 9] =
    ["ID", "AGENT", "BOUNDARY", "STARTED", "POLICY", "PROCESSES", "GRANTS", "ALLOWED", "DENIED"];

fn row(agent: &AgentStatus) -> [Cell; 9] {
    [
        agent.id.to_string(),
        agent.name.clone(),
        agent.boundary.as_str().to_owned(),
        crate::tail::clock(agent.started),
        agent.policy.clone(),
        agent.processes.to_string(),
        agent.grants.to_string(),
        agent.flows.allowed.to_string(),
        agent.flows.denied.to_string(),
    ]
    .map(|text| Cell::plain(&text))
}
