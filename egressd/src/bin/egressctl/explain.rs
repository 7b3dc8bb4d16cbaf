//! `egressctl explain`: what the enforcing matcher says.

use crate::{
    allow::suggestion,
    output::{Colour, Format, json, sanitise},
};
use egressd::{
    audit::{self, Verdict},
    config::{self, DaemonConfig},
    control::{
        Asked, Client, Earned, explain,
        protocol::{ExplainRequest, Explanation, InspectionBounds, LeakBounds, LiveGrant, TlsBounds},
    },
    policy::{AgentName, Ech, GateChoice, Occasion, Policy},
};
use std::{
    io::{self, Write, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// Say whether a destination is allowed, and by which rule
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 allowed, 1 denied, 2 it cannot be said")]
pub struct Explain {
    /// Host name, address or URL; without a port, 443 is meant
    #[arg(value_name = "HOST[:PORT]")]
    host: String,

    /// Agent whose policy is asked
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// What the flow would speak [default: what rules open at that port]
    #[arg(long, value_parser = ["tls", "http", "tcp", "udp", "quic"])]
    protocol: Option<String>,

    /// Ask this policy file; no daemon is needed
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Explain {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let Self { host, agent, protocol, policy } = self;
        let request = ExplainRequest { host, port: None, protocol, agent };
        let is_live = policy.is_none() && request.agent.is_some();
        let explanation = match policy {
            Some(file) => explain_offline(&file, &request)?,
            None => client.explain(&request)?,
        };
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &explanation)?,
            Format::Text => {
                print(&mut out, Colour::of(&stdout()), &explanation)?;
                if is_live {
                    print_command(&mut out, Colour::of(&stdout()), &explanation)?;
                }
            }
        }
        Ok(match explanation.verdict {
            Verdict::Allow => ExitCode::SUCCESS,
            Verdict::Deny => ExitCode::FAILURE,
        })
    }
}

fn explain_offline(file: &Path, request: &ExplainRequest) -> anyhow::Result<Explanation> {
    let agent = AgentName::parse(request.agent.as_deref().unwrap_or("default"))?;
    let policy = compile(file, &agent)?;
    // As an agent would meet it that started now.
    let birth = Occasion { time: audit::Time::now().timestamp(), age: Duration::ZERO };
    Ok(explain(&policy, birth, agent.as_str(), &Earned::default(), &Asked::of(request)?))
}

/// The policy of `agent` by the file at `file`, compiled as the daemon would.
fn compile(file: &Path, agent: &AgentName) -> anyhow::Result<Arc<Policy>> {
    let policies = config::load(&[file.to_owned()], &DaemonConfig::default().allowlist_dirs)?;
    Ok(policies.for_agent(agent))
}

fn print(out: &mut impl Write, colour: Colour, explanation: &Explanation) -> io::Result<()> {
    let Explanation { verdict, agent, destination, port, protocol, .. } = explanation;
    let host = if destination.contains(':') { format!("[{destination}]") } else { destination.clone() };
    let word = match (verdict, &explanation.observed) {
        (Verdict::Allow, Some(_)) => colour.warned("only observed"),
        (Verdict::Allow, None) => colour.allowed("allowed"),
        (Verdict::Deny, _) => colour.denied("denied"),
    };
    let (host, protocol, agent) = (sanitise(&host), sanitise(protocol), sanitise(agent));
    writeln!(out, "{word}: {host}:{port}, {protocol}, agent `{agent}`")?;
    if let (Some(reason), Some(sentence)) = (&explanation.reason, &explanation.explanation) {
        writeln!(out, "  reason  {}: {}", sanitise(reason), sanitise(sentence))?;
    }
    if let (Some(reason), Some(sentence)) = (&explanation.observed, &explanation.explanation) {
        writeln!(out, "  would be denied  {}: {}", sanitise(reason), sanitise(sentence))?;
    }
    if let Some(rule) = &explanation.rule {
        writeln!(out, "  rule    {}", sanitise(rule))?;
    }
    if let Some(term) = &explanation.term {
        writeln!(out, "  term    {}", sanitise(term))?;
    }
    if let Some(risk) = &explanation.risk {
        writeln!(out, "  risk    {}", sanitise(risk))?;
    }
    if let Some(remedy) = &explanation.remedy {
        writeln!(out, "  remedy  {}", colour.hint(&sanitise(remedy)))?;
    }
    if !explanation.open.is_empty() {
        writeln!(out, "  open    {}", sanitise(&explanation.open.join(", ")))?;
    }
    for (networks, words) in [
        (&explanation.networks, "is open at addresses in"),
        (&explanation.denied_networks, "is denied at addresses in"),
    ] {
        for network in networks {
            writeln!(out, "  but     {words} {}", sanitise(network))?;
        }
    }
    for LiveGrant { address, port, protocol, seconds_left, .. } in &explanation.grants {
        let at = SocketAddr::new(*address, *port);
        writeln!(out, "  granted {at}/{} for {seconds_left} more seconds", sanitise(protocol))?;
    }
    if !explanation.types.is_empty() {
        writeln!(out, "  types   A, AAAA, {}", sanitise(&explanation.types.join(", ")))?;
    }
    if let Some(LeakBounds { zone, rule, bytes_a_day, agent_bytes_a_day }) = &explanation.leak {
        let (zone, rule) = (sanitise(zone), sanitise(rule));
        writeln!(out, "  leak    {bytes_a_day} bytes a day at most through names below {zone} ({rule}),")?;
        writeln!(out, "          {agent_bytes_a_day} through names of all wildcards")?;
    }
    explanation.tls.as_ref().map_or(Ok(()), |tls| print_tls(out, tls))?;
    crate::budgets::explain(out, &explanation.budgets)
}

/// What would allow it until its policy does.
fn print_command(out: &mut impl Write, colour: Colour, explanation: &Explanation) -> io::Result<()> {
    let Explanation { agent, destination, port, protocol, .. } = explanation;
    // Where a rule would help, so does a grant.
    let Some(remedy) = &explanation.remedy else { return Ok(()) };
    let private = if remedy.contains("private: true") { " --private" } else { "" };
    let command = suggestion(destination, Some(*port), protocol, agent) + private;
    writeln!(out, "  for now {}", colour.hint(&sanitise(&command)))
}

fn print_tls(out: &mut impl Write, TlsBounds { gate, ech, inspection }: &TlsBounds) -> io::Result<()> {
    // What a rule says unless it says something else is not worth a line.
    if let Some(gate) = gate.as_ref().filter(|gate| *gate != GateChoice::default().as_str()) {
        writeln!(out, "  gate    {}", sanitise(gate))?;
    }
    if ech != Ech::default().as_str() {
        writeln!(out, "  ech     {}", sanitise(ech))?;
    }
    let Some(InspectionBounds { allow, max_body, max_bodies, inject }) = inspection else { return Ok(()) };
    let allow = allow.as_ref().map_or_else(|| "every request".to_owned(), |allow| allow.join(", "));
    writeln!(out, "  inspect {}", sanitise(&allow))?;
    for (bound, of) in [(max_body, "the body of a request"), (max_bodies, "the bodies of a connection")] {
        if let Some(octets) = bound {
            writeln!(out, "          {octets} bytes at most in {of}")?;
        }
    }
    for field in inject {
        writeln!(out, "  inject  {}", sanitise(field))?;
    }
    Ok(())
}
