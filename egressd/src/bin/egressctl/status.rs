//! `egressctl status`: whether the fence stands.

use crate::output::{Cell, Colour, Columns, Format, json, sanitise};
use egressd::control::{Client, protocol};
use std::{
    io::{self, Write, stdout},
    process::ExitCode,
};

/// Say whether the firewall is up and proved itself
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 healthy, 1 not healthy, or no daemon answers, 2 it could not be asked")]
pub struct Status {
    /// Say nothing: for health checks
    #[arg(short, long)]
    quiet: bool,
}

impl Status {
    pub fn act(&self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let status = match client.status() {
            Ok(status) => status,
            Err(error) => {
                if !self.quiet {
                    crate::output::complain(&error.into());
                }
                return Ok(ExitCode::FAILURE);
            }
        };
        if !self.quiet {
            let mut out = stdout().lock();
            match format {
                Format::Json => json(&mut out, &status)?,
                Format::Text => print(&mut out, Colour::of(&stdout()), &status)?,
            }
        }
        Ok(if status.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(out: &mut impl Write, colour: Colour, status: &protocol::Status) -> io::Result<()> {
    let health = if status.is_healthy() { colour.allowed("up") } else { colour.denied("NOT HEALTHY") };
    let version = sanitise(&status.version);
    writeln!(out, "egressd {version} is {health}")?;
    let mut columns = Columns::new(["               ", ""]);
    let mut line = |name: &str, text: &str| {
        let cells = [Cell::painted(name, |name| colour.heading(name)), Cell::plain(text)];
        writeln!(out, "  {}", columns.line(&cells))
    };
    line("process", &format!("{}, instance `{}`", status.pid, status.instance))?;
    line("started", &crate::tail::clock(status.started))?;
    for check in &status.checks {
        let state = if check.passed { "passed" } else { "FAILED" };
        line(&check.name, &format!("{state}: {}", check.detail))?;
    }
    if let Some(protocol::ServerNames { by, why }) = &status.server_names {
        let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        line("server names", &format!("{}{why}", by.as_str()))?;
    }
    let policies: Vec<_> = status.policies.iter().map(|path| path.display().to_string()).collect();
    let loaded = crate::tail::clock(status.policies_loaded);
    line(
        "policies",
        &format!(
            "{}, read {loaded}",
            if policies.is_empty() { "none".to_owned() } else { policies.join(", ") }
        ),
    )?;
    if let Some(source) = &status.source {
        for text in told(source) {
            line("policy source", &text)?;
        }
    }
    line("agents", &status.agents.to_string())?;
    if !status.observed.is_empty() {
        let names = status.observed.join(", ");
        line("observe mode", &format!("{names}: let out, and recorded, although denied"))?;
    }
    line("flows", &format!("{} allowed, {} denied", status.flows.allowed, status.flows.denied))?;
    let log = &status.log;
    line("audit log", &format!("{}, next line {}", log.path.display(), log.next_seq))?;
    if let Some(error) = &log.last_error {
        let losses = format!("{} octets wait, {} lines given up", log.waiting_octets, log.dropped_lines);
        line("", &format!("{error} ({losses})"))?;
    }
    if status.lost > 0 {
        line("lost", &format!("{} events left no record of their own", status.lost))?;
    }
    Ok(())
}

/// What is known of the repository, beside the check that says what is in force.
fn told(source: &protocol::PolicySource) -> Vec<String> {
    let clock = |time: &Option<_>| time.map_or_else(|| "never".to_owned(), crate::tail::clock);
    let short = |commit: &String| commit.chars().take(12).collect::<String>();
    let protocol::PolicySource { git, reference, path, revision, .. } = source;
    let signed = if source.signed { ", signed" } else { "" };
    let reference = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    let path = if path.is_empty() { "." } else { path };
    let revision = revision.as_ref().map_or_else(|| "none".to_owned(), short);
    let mut told = vec![
        format!("{git} {reference}:{path}{signed}, asked {}", clock(&source.checked)),
        format!("revision {revision} in force since {}", clock(&source.since)),
    ];
    told.extend(source.waiting.as_ref().map(|waiting| format!("{} waits", short(waiting))));
    told
}
