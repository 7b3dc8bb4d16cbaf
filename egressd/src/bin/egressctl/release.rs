//! `egressctl release`: the end of an adoption.

use crate::output::{Format, json};
use anyhow::Context;
use egressd::control::{
    Client,
    protocol::{AgentStatus, Boundary},
};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Take the fence away from an adopted agent; its processes run on
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing judges it any more, 2 it is as it was")]
pub struct Release {
    /// Name or number of the agent
    #[arg(value_name = "AGENT")]
    agent: String,

    /// Also while processes are in it, which may then send what they like
    #[arg(long)]
    yes: bool,
}

impl Release {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let agents = client.agents()?;
        let agent = self.find(&agents)?;
        let (name, processes) = (&agent.name, agent.processes);
        anyhow::ensure!(
            agent.boundary == Boundary::Adopted,
            "`{name}` was started as an agent: it is released by its end"
        );
        anyhow::ensure!(
            self.yes || processes == 0,
            "{processes} process(es) of `{name}` would run on without a fence: say `--yes`, or end them first"
        );
        client.release_agent(agent.id)?;
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, agent)?,
            Format::Text => writeln!(out, "released `{name}`: nothing judges its packets")?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn find<'a>(&self, agents: &'a [AgentStatus]) -> anyhow::Result<&'a AgentStatus> {
        let is_meant = |agent: &&AgentStatus| agent.name == self.agent || agent.id.to_string() == self.agent;
        agents.iter().find(is_meant).with_context(|| format!("there is no agent `{}`", self.agent))
    }
}
