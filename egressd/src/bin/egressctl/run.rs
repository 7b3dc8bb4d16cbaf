//! `egressctl run`: a program as an agent, from its first instruction to its last.

mod foreground;
mod own_daemon;
pub mod usage;

use crate::{
    output::{Colour, Format, complain, json},
    summary::Summary,
};
use anyhow::{Context, anyhow, bail};
use egressd::{
    config::names_in,
    control::{
        Client, ClientError,
        protocol::{self, Boundary, PolicyText, RecordsRequest, StartAgent, StartedAgent},
    },
    datapath::launch::{self, Launch, Reap, Signals},
    policy::Capability,
};
use foreground::Foreground;
use nix::unistd::{Uid, User};
use own_daemon::OwnDaemon;
use std::{
    ffi::OsString,
    io::{self, Write, stderr},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Run a program with its egress fenced
///
/// Exits as the program does; with 128 and the signal's number if a signal ended it, 125 if the
/// fence could not be built, 126 if the program is not executable, 127 if there is none.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Policy file for this agent [default: what the daemon's own files say for its name]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Name of the agent [default: of `--policy` with one agent its name, else `agent`]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// What stands between the agent and the network
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    mode: Mode,

    /// Let the program out whatever the policy denies, and record it: `egressctl suggest` then writes the policy
    #[arg(long)]
    observe: bool,

    /// Set HTTP_PROXY and its kin, for programs that speak to proxies better than to the network
    #[arg(long)]
    proxy_env: bool,

    /// An upstream resolver, for a daemon that is started for this command
    #[arg(long, value_name = "ADDRESS")]
    upstream: Vec<String>,

    /// User to run the program as, by number or name [default: who runs this]
    #[arg(long, value_name = "USER")]
    uid: Option<String>,

    /// What policies may select the agent by; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,

    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// [`Boundary`], as the command line says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Namespaces of its own, behind a link whose other end judges every frame
    #[default]
    Sealed,
    /// Programs on its cgroup, and the launcher's precautions, which both modes have
    Cgroup,
}

impl From<Mode> for Boundary {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Cgroup => Self::Cgroup,
            Mode::Sealed => Self::Sealed,
        }
    }
}

/// Reads `KEY=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// Exit code of what is our fault and not the program's.
pub const OURS: u8 = 125;

impl Run {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let user = self.uid.as_deref().map(find_user).transpose()?;
        let policy = self.policy.as_deref().map(read_policy).transpose()?;
        let name = name(self.agent.as_deref(), policy.as_ref())?;
        let own = OwnDaemon::unless_one_answers(client, &self.upstream)?;
        let (client, log) = own.as_ref().map_or((client, None), |own| (&own.client, Some(&own.log)));
        let agent = client.start_agent(&StartAgent {
            name: Some(name),
            policy,
            explicit_proxy: self.proxy_env,
            boundary: self.mode.into(),
            uid: Some(user.as_ref().map_or_else(Uid::effective, |user| user.uid).as_raw()),
            labels: self.label.iter().cloned().collect(),
            observe: self.observe,
        })?;
        let status = self.run_fenced(&agent, user);
        // The program is gone or never was; what it left in the background goes with it.
        let stopped = client.stop_agent(agent.id);
        let summary = Summary::read(client, &records_of(&agent));
        let code = status?;
        // From here on, nothing may take the place of the program's own exit code.
        let told =
            summary.context("what was denied is not known").and_then(|summary| print(&summary, format));
        let ended = stopped.or_else(ignore_unknown).context("failed to end the agent");
        for error in [told.err(), ended.err()].into_iter().flatten() {
            complain(&error);
        }
        if self.observe && format == Format::Text {
            learn(&agent.name, log)?;
        }
        Ok(ExitCode::from(code))
    }

    fn run_fenced(&self, agent: &StartedAgent, user: Option<User>) -> anyhow::Result<u8> {
        let signals = Signals::block()?;
        let _foreground = Foreground::keep();
        let child = launch::launch(&Launch {
            cgroup: agent.cgroup.clone(),
            command: self.command.clone(),
            hidden: agent.hidden.clone(),
            kept: agent.kept.clone(),
            host_sockets: agent.host_sockets,
            resolv_conf: agent.resolv_conf.clone(),
            authorities: agent.authorities.clone(),
            seal: agent.seal.as_ref().map(seal).transpose()?,
            recorded: recorded(agent),
            withheld: agent.withheld.clone(),
            environment: self.variables(agent),
            user,
        })?;
        Ok(signals.forward_until_exit(child, Reap::Child)?)
    }
}

impl Run {
    fn variables(&self, agent: &StartedAgent) -> Vec<(String, String)> {
        let mut variables = if self.proxy_env { proxy_variables(agent) } else { Vec::new() };
        if agent.authorities.is_some() {
            variables.extend(launch::trust_variables());
        }
        variables
    }
}

/// What the agent is called: as somebody said, or as the one agent of its policy is.
fn name(said: Option<&str>, policy: Option<&PolicyText>) -> anyhow::Result<String> {
    let names = policy.map(|policy| names_in(&policy.text)).unwrap_or_default();
    let file = policy.map_or("", |policy| &policy.file);
    match (said, names.as_slice()) {
        (Some(said), []) => Ok(said.to_owned()),
        (Some(said), known) => {
            if !known.iter().any(|name| name == said) {
                let known = known.join(", ");
                complain(&anyhow!("agent `{said}` may do nothing: `{file}` is for agent {known}"));
            }
            Ok(said.to_owned())
        }
        (None, []) => Ok("agent".to_owned()),
        (None, [only]) => Ok(only.clone()),
        (None, several) => {
            bail!("`{file}` is for several agents: choose one with --agent: {}", several.join(", "))
        }
    }
}

fn recorded(agent: &StartedAgent) -> launch::Recorded {
    let protocol::Recorded { sockets, rings, bpf, abstract_sockets } = agent.recorded;
    launch::Recorded { sockets, rings, bpf, abstract_sockets }
}

fn seal(seal: &protocol::Seal) -> anyhow::Result<launch::Seal> {
    let known = |word: &String| {
        Capability::parse(word).with_context(|| format!("the daemon names an unknown capability: `{word}`"))
    };
    Ok(launch::Seal {
        network: seal.network.clone(),
        user: seal.user.clone(),
        capabilities: seal.capabilities.iter().map(known).collect::<Result<_, _>>()?,
    })
}

fn find_user(text: &str) -> anyhow::Result<User> {
    let found = match text.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(text),
    };
    found
        .with_context(|| format!("failed to look up user `{text}`"))?
        .with_context(|| format!("there is no user `{text}`"))
}

pub fn read_policy(path: &Path) -> anyhow::Result<PolicyText> {
    let failed = || format!("failed to read policy `{}`", path.display());
    // The daemon has another working folder.
    let file = path.canonicalize().with_context(failed)?;
    let text = std::fs::read_to_string(&file).with_context(failed)?;
    let base_dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(PolicyText { file: file.display().to_string(), text, base_dir })
}

fn records_of(agent: &StartedAgent) -> RecordsRequest {
    RecordsRequest {
        agent: Some(agent.name.clone()),
        after_seq: agent.next_seq.checked_sub(1),
        ..RecordsRequest::default()
    }
}

/// The variables that curl, Python, Node and Go read; each by its own spelling.
fn proxy_variables(agent: &StartedAgent) -> Vec<(String, String)> {
    let Some(proxy) = agent.proxy_v4.or(agent.proxy_v6) else { return Vec::new() };
    let names = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    names.map(|name| (name.to_owned(), format!("http://{proxy}"))).to_vec()
}

fn print(summary: &Summary, format: Format) -> anyhow::Result<()> {
    let mut out = stderr().lock();
    match format {
        Format::Json if !summary.is_empty() => json(&mut out, summary)?,
        Format::Json => {}
        Format::Text => summary.print(&mut out, Colour::of(&stderr()))?,
    }
    Ok(out.flush()?)
}

/// Says how to come from what was observed to a policy.
fn learn(agent: &str, log: Option<&PathBuf>) -> io::Result<()> {
    let log = log.map(|log| format!(" --log {}", log.display())).unwrap_or_default();
    writeln!(stderr(), "for a policy that covers it: egressctl suggest --agent {agent}{log}")
}

/// The daemon ends agents whose last process is gone; it may have been faster.
fn ignore_unknown(error: ClientError) -> Result<(), ClientError> {
    use egressd::control::protocol::RefusalKind;
    let is_unknown = matches!(&error, ClientError::Refused(refusal) if refusal.kind == RefusalKind::Unknown);
    if is_unknown { Ok(()) } else { Err(error) }
}
