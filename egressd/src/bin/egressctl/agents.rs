//! `egressctl agents`: who runs behind the firewall.

use crate::output::{Cell, Colour, Format, json, table};
use egressd::control::{Client, protocol::AgentStatus};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// List the agents that run
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 also where none runs, 2 it could not be asked")]
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
                let colour = Colour::of(&stdout());
                let rows: Vec<_> = agents.iter().map(|agent| row(agent, colour)).collect();
                table(&mut out, colour, TITLES, &rows)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

const TITLES: [&str; 10] =
    ["ID", "AGENT", "STARTED", "MODE", "STATE", "POLICY", "PROCESSES", "GRANTS", "ALLOWED", "DENIED"];

fn row(agent: &AgentStatus, colour: Colour) -> [Cell; 10] {
    let state = match (agent.frozen, agent.observed) {
        (true, _) => Cell::painted("frozen", |text| colour.denied(text)),
        (false, true) => Cell::painted("observed", |text| colour.warned(text)),
        (false, false) => Cell::plain("runs"),
    };
    [
        Cell::plain(&agent.id.to_string()),
        Cell::plain(&agent.name),
        Cell::plain(&crate::tail::clock(agent.started)),
        Cell::plain(agent.boundary.as_str()),
        state,
        Cell::plain(&agent.policy),
        Cell::plain(&agent.processes.to_string()),
        Cell::plain(&agent.grants.to_string()),
        Cell::plain(&agent.flows.allowed.to_string()),
        Cell::plain(&agent.flows.denied.to_string()),
    ]
}
