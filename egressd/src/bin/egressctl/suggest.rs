//! `egressctl suggest`: the least policy that covers what was recorded.

use crate::{
    known::{expect_agent, known},
    output::{Format, complain, json},
    policy::source::load_one,
    tail::parse_since,
};
use anyhow::{Context, bail};
use egressd::{
    audit::{Line, Time},
    authoring::{Suggestions, patch},
    control::{
        Client,
        protocol::{Frame, RecordsRequest},
    },
    policy::AgentName,
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Write, stdin, stdout},
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
        let missed = match &self.log {
            Some(log) => read_log(log, &mut suggestions, self.agent.as_deref(), since)?,
            None => ask(client, &mut suggestions, self.agent.clone(), since)?,
        };
        if missed > 0 {
            complain(&anyhow::anyhow!(
                "{missed} records are missing here: see the audit log with --log FILE"
            ));
        }
        if suggestions.beyond > 0 {
            complain(&anyhow::anyhow!(
                "{} flows went to more destinations than are told",
                suggestions.beyond
            ));
        }
        if let (Some(file), Some(agent)) = (&self.patch, &self.agent) {
            write!(stdout(), "{}", diff(file, agent, &suggestions)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        match format {
            Format::Json => json(&mut stdout(), &suggestions.all())?,
            Format::Text => write!(stdout(), "{}", suggestions.policy())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The diff of a policy file that adds what it lacks; nothing where it lacks nothing.
fn diff(file: &Path, agent: &str, suggestions: &Suggestions) -> anyhow::Result<String> {
    let name = AgentName::parse(agent)?;
    let policies = load_one(file)?;
    let missing = suggestions.missing(agent, &policies.for_agent(&name));
    if missing.is_empty() {
        return Ok(String::new());
    }
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).with_context(|| format!("failed to read `{shown}`"))?;
    let shown = shown.trim_start_matches("./").trim_start_matches('/');
    patch(shown, &text, agent, &missing).with_context(|| format!("failed to add rules to `{shown}`"))
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

/// Takes in a file; returns how many records its gaps stand for.
fn read_log(
    path: &Path,
    suggestions: &mut Suggestions,
    agent: Option<&str>,
    since: Option<Time>,
) -> anyhow::Result<u64> {
    let failed = || format!("failed to read `{}`", path.display());
    let lines: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path).with_context(failed)?)),
    };
    let mut missing = 0;
    let mut agents = BTreeSet::new();
    for (line, number) in lines.lines().zip(1_u64..) {
        let line = line.with_context(failed)?;
        let line: Line = serde_json::from_str(&line)
            .with_context(|| format!("`{}`, line {number} is no line of an audit log", path.display()))?;
        match line {
            Line::Record(record) => {
                if agents.len() < MAX_AGENTS {
                    agents.insert(record.agent.clone());
                }
                let is_meant = agent.is_none_or(|agent| record.agent == agent)
                    && since.is_none_or(|since| record.time >= since);
                if is_meant {
                    suggestions.add(&record);
                }
            }
            Line::Gap(gap) => missing += gap.lost,
            Line::Alert(_) | Line::Change(_) => {}
        }
    }
    if let Some(agent) = agent.filter(|agent| agents.len() < MAX_AGENTS && !agents.contains(*agent)) {
        let known = known(agents.iter().map(String::as_str));
        bail!("no record in `{}` is of agent `{agent}`: {known}", path.display());
    }
    Ok(missing)
}

/// The most agents of a log that are told apart: more than anybody reads.
const MAX_AGENTS: usize = 64;
