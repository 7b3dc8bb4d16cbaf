//! `egressctl suggest`: the least policy that covers what was recorded.

mod log;

use crate::{
    addition::Addition,
    known::expect_agent,
    output::{Format, complain, json},
    policy::source::load_one,
    tail::parse_since,
};
use anyhow::anyhow;
use egressd::{
    audit::{Line, Time},
    authoring::Suggestions,
    control::{
        Client,
        protocol::{Frame, RecordsRequest},
    },
    policy::AgentName,
};
use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Write the least policy that covers what agents did, and what they were denied
///
/// Exact names at the ports that were seen, each with its evidence. What needs somebody to think about it
/// (private addresses, addresses without a name, what a rule denies) is left out, with a comment. Read it
/// before you put it in force: an agent that was talked into something asked for that, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 also where nothing was recorded, 2 it could not be done")]
pub struct Suggest {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// Start at a time, or so long ago (`10m`, `2h 30m`, `2026-11-21T10:15:00Z`)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// Read this audit log, `-` for standard input; no daemon is needed
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Write a diff instead that adds to this policy file what it lacks, for `patch -p1` or `git apply`
    #[arg(long, value_name = "FILE", requires = "agent")]
    patch: Option<PathBuf>,
}

impl Suggest {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let since = self.since.as_deref().map(|text| parse_since(text, Time::now())).transpose()?;
        let mut suggestions = Suggestions::default();
        match &self.log {
            Some(log) => log::read(log, &mut suggestions, self.agent.as_deref(), since)?.tell(log),
            None => tell_missing(ask(client, &mut suggestions, self.agent.clone(), since)?),
        }
        if suggestions.beyond > 0 {
            complain(&anyhow!("{} flows went to more destinations than are told", suggestions.beyond));
        }
        if let (Some(file), Some(agent)) = (&self.patch, &self.agent) {
            write!(stdout(), "{}", addition(file, agent, &suggestions)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        match format {
            Format::Json => json(&mut stdout(), &suggestions.all())?,
            Format::Text => write!(stdout(), "{}", suggestions.policy())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The patch of a policy file that adds what it lacks; nothing where it lacks nothing.
fn addition(file: &Path, agent: &str, suggestions: &Suggestions) -> anyhow::Result<String> {
    let name = AgentName::parse(agent)?;
    let policies = load_one(file)?;
    let missing = suggestions.missing(agent, &policies.for_agent(&name));
    let patch = match missing.as_slice() {
        [] => {
            complain(&anyhow!("`{}` lacks no rule that agent `{agent}` needs", file.display()));
            String::new()
        }
        missing => {
            let addition = Addition::to(file, &[agent], missing)?;
            addition.say_where();
            addition.patch
        }
    };
    let left_out = suggestions.all().iter().filter(|own| own.agent == agent && own.rule.is_none()).count();
    if left_out > 0 {
        complain(&anyhow!("{left_out} left out, for somebody to think about: see it without --patch"));
    }
    Ok(patch)
}

/// Says how many records the daemon holds no more.
fn tell_missing(number: u64) {
    if number > 0 {
        complain(&anyhow!("{} here: see the audit log with --log FILE", missing(number)));
    }
}

fn missing(records: u64) -> String {
    match records {
        1 => "1 record is missing".to_owned(),
        many => format!("{many} records are missing"),
    }
}

/// Takes in what the daemon holds; returns how many records it holds no more.
fn ask(
    client: &Client,
    suggestions: &mut Suggestions,
    agent: Option<String>,
    since: Option<Time>,
) -> anyhow::Result<u64> {
    if let Some(agent) = &agent {
        expect_agent(client, agent)?;
    }
    let request = RecordsRequest { agent, since, all: true, ..RecordsRequest::default() };
    let mut missing = 0;
    let mut records = client.records(&request)?;
    while let Some(frame) = records.next_frame()? {
        match frame {
            Frame::Line(Line::Record(record)) => suggestions.add(&record),
            Frame::Line(Line::Gap(gap)) => missing += gap.lost,
            Frame::Missed { missed, .. } => missing += missed,
            Frame::Line(Line::Alert(_) | Line::Change(_)) | Frame::Feed { .. } | Frame::Heartbeat { .. } => {}
        }
    }
    Ok(missing)
}
