//! `egressctl adopt`: a fence around what something else started.

use crate::{
    output::{Colour, Format, json, sanitise},
    run::{label, read_policy},
};
use egressd::control::{
    Client,
    protocol::{AdoptAgent, AdoptedAgent, Consent},
};
use std::{
    io::{self, Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// Fence a cgroup that something else made, with the processes in it
///
/// It stands still while it is looked at. What it holds that the fence would not hold against is
/// listed, and then nothing is changed, unless the options below allow to deal with it. A service
/// that restarts gets a new cgroup: adopt the slice that it is in.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is fenced, 2 it is not, and was left as it is")]
pub struct Adopt {
    /// Its folder, or its path as in `/proc/PID/cgroup`
    #[arg(value_name = "CGROUP")]
    cgroup: PathBuf,

    /// Name of the agent [default: that of the cgroup]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// Policy file for this agent [default: what the daemon's own files say for its name]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// What policies may select the agent by; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,

    /// List what would have to be dealt with, and change nothing: the default
    #[arg(long, conflicts_with_all = ["kill_sockets", "kill_processes", "allow_privileges"])]
    refuse: bool,

    /// Cut the flows that are open: what follows is judged anew
    #[arg(long)]
    kill_sockets: bool,

    /// Kill processes that hold what sends past the fence: sockets that were made elsewhere, or below
    /// IP, rings of io_uring, tunnel devices
    #[arg(long)]
    kill_processes: bool,

    /// Adopt it even if its processes have privileges that reach around the fence
    #[arg(long)]
    allow_privileges: bool,
}

impl Adopt {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let policy = self.policy.as_deref().map(read_policy).transpose()?;
        let consents = self.consents();
        let labels = self.label.into_iter().collect();
        let (cgroup, name) = (self.cgroup, self.agent);
        let adopted = client.adopt_agent(&AdoptAgent { cgroup, name, policy, consents, labels })?;
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &adopted)?,
            Format::Text => print(&mut out, Colour::of(&stdout()), &adopted)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn consents(&self) -> Vec<Consent> {
        let asked = [
            (self.kill_sockets, Consent::KillSockets),
            (self.kill_processes, Consent::KillProcesses),
            (self.allow_privileges, Consent::AllowPrivileges),
        ];
        asked.into_iter().filter(|(is_given, _)| *is_given).map(|(_, consent)| consent).collect()
    }
}

fn print(out: &mut impl Write, colour: Colour, adopted: &AdoptedAgent) -> io::Result<()> {
    let AdoptedAgent { id, name, cgroup, dealt_with, not_covered } = adopted;
    writeln!(out, "{} `{name}` ({id}): {}", colour.allowed("adopted"), cgroup.display())?;
    for found in dealt_with {
        let done = match found.consent {
            Consent::KillSockets => "cut",
            Consent::KillProcesses => "killed",
            Consent::AllowPrivileges => "left",
        };
        let (command, what) = (sanitise(&found.command), sanitise(&found.what));
        writeln!(out, "  {done}: process {} `{command}`: {what}", found.pid)?;
    }
    for sentence in not_covered {
        writeln!(out, "  {} {}", colour.hint("not covered:"), sanitise(sentence))?;
    }
    Ok(())
}
