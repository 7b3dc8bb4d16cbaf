//! The daemon: see `egressd --help`.

use anyhow::{Context, Result};
use clap::Parser;
use egressd::{
    config::{DaemonConfig, Upstream},
    daemon::{self, Lifetime, Options},
    datapath::{UseSecurityHooks, canary},
    proxy::Bulk,
};
use std::{path::PathBuf, process::ExitCode};

/// Egress firewall for AI agents: nothing leaves an agent except to the names that its policy grants.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The daemon's own file; it may be missing where it is not named
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A policy file, instead of those in the policy folder; may be given more than once
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// A folder of allowlists, searched before the configured ones; may be given more than once
    #[arg(long, value_name = "FOLDER")]
    allowlists: Vec<PathBuf>,
    /// An upstream resolver, as the file writes them, instead of the configured ones
    #[arg(long, value_name = "ADDRESS")]
    upstream: Vec<String>,
    /// Folder of the control socket, the pins and what the next daemon must know
    #[arg(long, value_name = "FOLDER")]
    run_dir: Option<PathBuf>,
    /// Where the audit log is written, one JSON object a line
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Tells daemons on one host apart
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = daemon::instance_name)]
    instance: String,
    /// End with the process that started this one, and leave nothing behind
    #[arg(long, hide = true)]
    for_command: bool,
    /// Do as on a kernel that runs no programs on its security hooks
    #[arg(long, hide = true)]
    no_security_hooks: bool,
    /// Carry bulk through buffers, to be measured beside splice(2)
    #[arg(long, hide = true)]
    copy_bulk: bool,
    /// Be the canary of a daemon: below this cgroup, with frames judged by this pinned program
    #[arg(long, hide = true, num_args = 2, value_names = ["FOLDER", "PIN"])]
    canary: Option<Vec<PathBuf>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some([cgroup, frames]) = arguments.canary.as_deref() {
        return report(canary::live(cgroup, frames).map_err(anyhow::Error::from));
    }
    egressd::telemetry::start();
    report(start(arguments))
}

fn report(outcome: Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("egressd: {error:#}");
    ExitCode::FAILURE
}

fn start(arguments: Arguments) -> Result<()> {
    let options = options(arguments)?;
    if options.lifetime == Lifetime::Command {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)
            .context("failed to bind this daemon to the command that started it")?;
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(daemon::run(options))
}

fn options(arguments: Arguments) -> Result<Options> {
    let default = PathBuf::from("/etc/egressd/egressd.yaml");
    let mut config = match arguments.config {
        Some(path) => DaemonConfig::load(&path)?,
        None if default.exists() => DaemonConfig::load(&default)?,
        None => DaemonConfig::default(),
    };
    if !arguments.upstream.is_empty() {
        config.upstreams = arguments.upstream.iter().map(|text| upstream(text)).collect::<Result<_>>()?;
    }
    config.allowlist_dirs.splice(0..0, arguments.allowlists);
    config.run_dir = arguments.run_dir.unwrap_or(config.run_dir);
    config.audit_log = arguments.audit_log.unwrap_or(config.audit_log);
    let lifetime = if arguments.for_command { Lifetime::Command } else { Lifetime::Service };
    let security_hooks = UseSecurityHooks::unless(arguments.no_security_hooks);
    let bulk = if arguments.copy_bulk { Bulk::Copied } else { Bulk::Spliced };
    let (policies, instance) = (arguments.policy, arguments.instance);
    Ok(Options { config, policies, instance, lifetime, security_hooks, bulk })
}

fn upstream(text: &str) -> Result<Upstream> {
    Upstream::parse(text).with_context(|| format!("`{text}` is not an upstream resolver"))
}
