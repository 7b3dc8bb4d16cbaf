//! `egressctl explain`: what the enforcing matcher says.

use crate::{
    gates,
    output::{Colour, Format, json},
    policy::source::{agent_of, load_one},
    run::label,
};
use anyhow::bail;
use egressd::{
    audit::{self, Verdict},
    control::{
        Asked, Client, Known, explain,
        protocol::{ExplainRequest, Explanation},
    },
    policy::{AgentName, Occasion, Workload},
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

    #[command(flatten)]
    selected: Selected,
}

/// What a section with `select` may mean an agent by, of one that does not run.
#[derive(Debug, clap::Args)]
struct Selected {
    /// With --policy: an agent with this label; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, requires = "policy")]
    label: Vec<(String, String)>,

    /// With --policy: an agent that is adopted with this cgroup, as in `/proc/PID/cgroup`
    #[arg(long, value_name = "PATH", value_parser = cgroup, requires = "policy")]
    cgroup: Option<String>,

    /// With --policy: an agent that is started as the user with this number
    #[arg(long, value_name = "UID", requires = "policy")]
    uid: Option<u32>,
}

impl Selected {
    /// The agent that is meant, called `named`; None where nothing is said that a section could select it by.
    fn workload(self, named: Option<&str>) -> anyhow::Result<Option<Workload>> {
        let Self { label, cgroup, uid } = self;
        if label.is_empty() && cgroup.is_none() && uid.is_none() {
            return Ok(None);
        }
        let usual = || Workload::usual_name(cgroup.as_deref().map(Path::new));
        let name = named.map(AgentName::parse).transpose()?.unwrap_or_else(usual);
        let labels = label.into_iter().collect();
        Ok(Some(Workload { uid, cgroup, labels, ..Workload::named(name) }))
    }
}

fn cgroup(path: &str) -> Result<String, String> {
    match path.starts_with('/') {
        true => Ok(path.to_owned()),
        false => Err("write the path as in `/proc/PID/cgroup`".to_owned()),
    }
}

impl Explain {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let Self { host, agent, protocol, policy, selected } = self;
        let request = ExplainRequest { host, port: None, protocol, agent };
        let is_live = policy.is_none();
        let explanation = match policy {
            Some(file) => explain_offline(&file, selected, &request)?,
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

fn explain_offline(file: &Path, selected: Selected, request: &ExplainRequest) -> anyhow::Result<Explanation> {
    let policies = load_one(file)?;
    let named = request.agent.as_deref();
    let workload = match selected.workload(named)? {
        Some(workload) if policies.section_for(&workload).is_some() => workload,
        Some(Workload { name, .. }) => {
            let known: Vec<&str> = policies.names().map(AgentName::as_str).collect();
            bail!("no section selects such an agent `{name}`: there are {}", known.join(", "))
        }
        None => Workload::named(agent_of(&policies, named)?),
    };
    // As an agent would meet it that started now.
    let birth = Occasion { time: audit::Time::now().timestamp(), age: Duration::ZERO };
    let (policy, agent) = (policies.for_workload(&workload), workload.name.as_str());
    let section = policies.section_for(&workload).map(AgentName::as_str).filter(|section| *section != agent);
    let told = explain(&policy, birth, agent, &Known::default(), &Asked::of(request)?);
    Ok(Explanation { section: section.map(str::to_owned), ..told })
}
