//! `egressctl tail`: what was denied, as it happens.

mod follow;
mod line;

use crate::{
    known::expect_agent,
    output::{Colour, Format, json},
    summary::Summary,
};
use anyhow::Context;
use egressd::{
    audit::Time,
    control::{Client, protocol::RecordsRequest},
    policy::Reason,
};
pub use line::{clock, destination, operator};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Show the flows that were denied, or would be if they were not only observed, one a line
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 also where there is nothing to show, 2 it could not be shown")]
pub struct Tail {
    /// Go on with what comes, also when the daemon restarts
    #[arg(short, long)]
    follow: bool,

    /// Start with the last N [default: 20, with --since all]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,

    /// Start at a time, or so long ago (`10m`, `2h 30m`, `2026-11-21T10:15:00Z`)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// Show the flows that were allowed, too
    #[arg(long)]
    all: bool,

    /// Count by destination, and say which rules would allow it
    #[arg(long, conflicts_with_all = ["follow", "all"])]
    summary: bool,

    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// Only for this reason, such as `host-not-allowed`
    #[arg(long, value_parser = reasons())]
    reason: Option<String>,

    /// Only of this process: a pid, a program's name, or a part of its command line
    #[arg(long, value_name = "PROCESS")]
    process: Option<String>,
}

impl Tail {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let since = self.since.as_deref().map(|text| parse_since(text, Time::now())).transpose()?;
        let last = match (self.lines, since) {
            (None, None) if !self.summary => Some(DEFAULT_LINES),
            (lines, _) => lines,
        };
        // Who follows may wait for one that starts later.
        if let (false, Some(agent)) = (self.follow, &self.agent) {
            expect_agent(client, agent)?;
        }
        let request = RecordsRequest {
            agent: self.agent,
            reason: self.reason,
            process: self.process,
            since,
            after_seq: None,
            last,
            all: self.all,
            follow: self.follow,
        };
        if self.summary {
            let summary = Summary::read(client, &request)?;
            match format {
                Format::Json => json(&mut stdout(), &summary)?,
                Format::Text => {
                    let colour = Colour::of(&stdout());
                    summary.print(&mut stdout(), colour)?;
                    if summary.has_observed() {
                        let command = colour.hint("egressctl suggest --agent NAME");
                        writeln!(stdout(), "for a policy that covers what was observed: {command}")?;
                    }
                    if summary.has_remedies() {
                        let command = colour.hint("egressctl allow HOST --agent NAME --for 1h");
                        writeln!(stdout(), "or, for a time and a running agent: {command}")?;
                    }
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        follow::follow(client, request, format)?;
        Ok(ExitCode::SUCCESS)
    }
}

const DEFAULT_LINES: usize = 20;

fn reasons() -> clap::builder::PossibleValuesParser {
    let reason =
        |reason: &Reason| clap::builder::PossibleValue::new(reason.as_str()).help(reason.explanation());
    Reason::ALL.iter().map(reason).collect::<Vec<_>>().into()
}

/// Reads a time, or how long it was before `now`.
pub fn parse_since(text: &str, now: Time) -> anyhow::Result<Time> {
    if let Ok(time) = text.parse::<Time>() {
        return Ok(time);
    }
    let wrong = || format!("`{text}` is not a time: try `10m`, `2h 30m` or `2026-11-21T10:15:00Z`");
    let ago: jiff::Span = text.parse().ok().with_context(wrong)?;
    // A day is 24 hours here: nobody asks for records by daylight saving.
    let time =
        now.timestamp().to_zoned(jiff::tz::TimeZone::UTC).checked_sub(ago.abs()).with_context(wrong)?;
    Ok(time.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago_it_was() {
        let now: Time = "2026-11-21T10:15:00Z".parse().unwrap();
        for (text, expected) in [
            ("10m", "2026-11-21T10:05:00.000Z"),
            ("2h 30m", "2026-11-21T07:45:00.000Z"),
            ("1d", "2026-11-20T10:15:00.000Z"),
            ("10m ago", "2026-11-21T10:05:00.000Z"),
            ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00.000Z"),
            ("2026-11-21T09:00:00+01:00", "2026-11-21T08:00:00.000Z"),
            ("yesterday", ""),
            ("", ""),
        ] {
            let parsed = parse_since(text, now).map(|time| time.to_string()).unwrap_or_default();
            assert_eq!(parsed, expected, "{text:?}");
        }
    }
}
