//! `egressctl explain`: what the enforcing matcher says.

use crate::{
    gates,
    output::{Colour, Format, json},
    policy::source::{agent_of, load_one},
};
use egressd::{
    audit::{self, Verdict},
    control::{
        Asked, Client, Known, explain,
        protocol::{ExplainRequest, Explanation},
    },
    policy::Occasion,
};
use std::{
    io::stdout,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Say whether a destination is allowed, and by which rule
///
/// Walks the gates in the order of a flow: what the resolver would say (nobody is asked for it), the address with
/// the grants that live, who reads the server name, and what is left of budgets. Where it is denied: at which gate,
/// and the smallest change that would allow it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 allowed, 1 denied, also because nothing is left or somebody has to approve it, 2 it cannot be said"
)]
pub struct Explain {
    /// Host name, address or URL; without a port, 443 is meant
    #[arg(value_name = "HOST[:PORT]")]
    host: String,

    /// Agent whose policy is asked [default: `default`; of a file with one agent, this one]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// What the flow would speak [default: what rules open at that port]
    #[arg(long, value_parser = ["tls", "http", "tcp", "udp", "quic"])]
    protocol: Option<String>,

    /// Ask this policy file, or folder with such; no daemon is needed
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Explain {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let Self { host, agent, protocol, policy } = self;
        let request = ExplainRequest { host, port: None, protocol, agent };
        let is_live = policy.is_none();
        let explanation = match policy {
            Some(file) => explain_offline(&file, &request)?,
            None => client.explain(&request)?,
        };
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &explanation)?,
            Format::Text => {
                // Nobody can be lent anything before they run.
                let is_lent = is_live && runs(client, request.agent.as_deref())?;
                gates::print(&mut out, Colour::of(&stdout()), &explanation, is_lent)?;
            }
        }
        Ok(match explanation.verdict {
            Verdict::Allow => ExitCode::SUCCESS,
            Verdict::Deny => ExitCode::FAILURE,
        })
    }
}

fn runs(client: &Client, agent: Option<&str>) -> anyhow::Result<bool> {
    let Some(agent) = agent else { return Ok(false) };
    Ok(client.agents()?.iter().any(|running| running.name == agent))
}

fn explain_offline(file: &Path, request: &ExplainRequest) -> anyhow::Result<Explanation> {
    let policies = load_one(file)?;
    let agent = agent_of(&policies, request.agent.as_deref())?;
    // As an agent would meet it that started now.
    let birth = Occasion { time: audit::Time::now().timestamp(), age: Duration::ZERO };
    let policy = policies.for_agent(&agent);
    Ok(explain(&policy, birth, agent.as_str(), &Known::default(), &Asked::of(request)?))
}
