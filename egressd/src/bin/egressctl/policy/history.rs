//! `egressctl policy history`, `rollback` and `follow`: the revisions of a daemon whose policies come from git.

use crate::output::{Cell, Colour, Format, json, sanitise, table};
use egressd::control::{
    Client,
    protocol::{PastRevision, ReloadSummary, RevisionOutcome, Rollback as Request},
};
use std::{
    io::{self, Write, stdout},
    process::ExitCode,
};

/// List the commits that were put in force, or refused
#[derive(Debug, clap::Args)]
#[command(after_help = LISTED)]
pub struct History {
    /// At most so many, the newest
    #[arg(short, long, value_name = "COUNT", default_value_t = 20)]
    number: usize,
}

/// Put an older commit in force; newer ones wait until `egressctl policy follow`
#[derive(Debug, clap::Args)]
#[command(after_help = PUT_IN_FORCE)]
pub struct Rollback {
    /// The first digits of a commit that was in force; without, the one before the one in force
    #[arg(value_name = "REVISION")]
    revision: Option<String>,
}

/// Put the newest commit in force, and those to come: the end of a rollback
#[derive(Debug, clap::Args)]
#[command(after_help = PUT_IN_FORCE)]
pub struct Follow {}

const LISTED: &str = "\
Exit codes:
  0  they were listed, and the newest was put in force
  1  they were listed, and the newest was refused
  2  policies do not come from git, or no daemon answers";

const PUT_IN_FORCE: &str = "\
Exit codes:
  0  it is in force
  2  it is not, and policies stay as they were";

impl History {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let mut history = client.history()?;
        history.truncate(self.number);
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &history)?,
            Format::Text => print(&mut out, Colour::of(&stdout()), &history)?,
        }
        let is_refused = history.first().is_some_and(|newest| newest.outcome == RevisionOutcome::Refused);
        Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Rollback {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let summary = client.roll_back(&Request { revision: self.revision })?;
        tell(format, &summary, "rolled back; newer commits wait for `egressctl policy follow`")
    }
}

impl Follow {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        tell(format, &client.follow()?, "the newest commit is in force")
    }
}

fn tell(format: Format, summary: &ReloadSummary, done: &str) -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    match format {
        Format::Json => json(&mut out, summary)?,
        Format::Text => {
            let agents = summary.changed_agents.len();
            writeln!(out, "{done}; the policy of {agents} running agent(s) changed")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, colour: Colour, history: &[PastRevision]) -> io::Result<()> {
    let rows: Vec<[Cell; 5]> = history.iter().map(|past| row(colour, past)).collect();
    table(out, colour, ["COMMIT", "TIME", "OUTCOME", "SIGNED BY", "SUBJECT"], &rows)?;
    // Of what is older, somebody knows already.
    for past in history.iter().take_while(|past| !past.in_force) {
        if let Some(why) = &past.why {
            writeln!(out, "\n{}", colour.denied(&format!("{} was refused:", short(&past.commit))))?;
            why.lines().try_for_each(|line| writeln!(out, "  {}", sanitise(line)))?;
        }
    }
    Ok(())
}

fn row(colour: Colour, past: &PastRevision) -> [Cell; 5] {
    let outcome = match (past.in_force, past.outcome) {
        (true, RevisionOutcome::RolledBack) => "in force, rolled back",
        (true, RevisionOutcome::Entered | RevisionOutcome::Refused) => "in force",
        (false, outcome) => outcome.as_str(),
    };
    let paint = |text: &str| match past.outcome {
        RevisionOutcome::Refused => colour.denied(text),
        RevisionOutcome::RolledBack => colour.warned(text),
        RevisionOutcome::Entered if past.in_force => colour.allowed(text),
        RevisionOutcome::Entered => text.to_owned(),
    };
    [
        Cell::plain(&short(&past.commit)),
        Cell::plain(&crate::tail::clock(past.time)),
        Cell::painted(outcome, paint),
        Cell::plain(past.signer.as_deref().unwrap_or("-")),
        Cell::plain(&past.subject),
    ]
}

/// As many digits as records have.
fn short(commit: &str) -> String {
    commit.chars().take(egressd::policy::Revision::SHOWN).collect()
}
