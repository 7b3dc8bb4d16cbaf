//! The daemon: see `egressd --help`.

mod arguments;

use anyhow::{Context, Result};
use arguments::Arguments;
use clap::{CommandFactory, Parser};
use egressd::{
    config::{DaemonConfig, Upstream},
    daemon::{self, Lifetime, Options},
    datapath::{UseSecurityHooks, canary},
    manual,
    proxy::Bulk,
};
use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some([cgroup, frames]) = arguments.canary.as_deref() {
        return report(canary::live(cgroup, frames).map_err(anyhow::Error::from));
    }
    if let Some(folder) = arguments.man {
        let page = manual::generate_to(Arguments::command(), &folder);
        return report(page.context("failed to write the manual page"));
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
