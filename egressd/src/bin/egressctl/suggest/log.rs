//! An audit log as a file, with what is missing in it.

use super::missing;
use crate::{known::known, output::complain};
use anyhow::{Context, anyhow, bail};
use egressd::{
    audit::{Line, LostAt, Record, Time, Unread, read_line},
    authoring::Suggestions,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, stdin},
    path::Path,
};

/// Takes in the log at `path`, `-` for standard input, of `agent` and from `since` on.
pub fn read(
    path: &Path,
    suggestions: &mut Suggestions,
    agent: Option<&str>,
    since: Option<Time>,
) -> anyhow::Result<Missing> {
    let failed = || format!("failed to read `{}`", path.display());
    let lines: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path).with_context(failed)?)),
    };
    let (mut missing, mut agents) = (Missing::default(), BTreeSet::new());
    let is_meant = |record: &Record| {
        agent.is_none_or(|agent| record.agent == agent) && since.is_none_or(|since| record.time >= since)
    };
    for line in lines.split(b'\n') {
        let Some(record) = missing.sift(&line.with_context(failed)?) else { continue };
        if agents.len() < MAX_AGENTS {
            agents.insert(record.agent.clone());
        }
        if is_meant(&record) {
            suggestions.add(&record);
        }
    }
    if missing.lines == 0 && missing.torn > 0 {
        bail!("`{}` holds no line of an audit log", path.display());
    }
    if let Some(agent) = agent.filter(|agent| agents.len() < MAX_AGENTS && !agents.contains(*agent)) {
        let known = known(agents.iter().map(String::as_str));
        bail!("no record in `{}` is of agent `{agent}`: {known}", path.display());
    }
    Ok(missing)
}

/// The most agents of a log that are told apart: more than anybody reads.
const MAX_AGENTS: usize = 64;

/// What a log does not say.
#[derive(Debug, Default)]
pub struct Missing {
    /// Lines that are whole, known or not.
    lines: u64,
    /// Lines of kinds, or with words, that are not known.
    unknown: u64,
    torn: u64,
    /// Torn lines that no gap stands for yet.
    untold: u64,
    /// Records that gaps stand for, without those that are torn lines.
    lost: u64,
}

impl Missing {
    /// The record that a line is; anything else is counted, or nothing is missing in it.
    fn sift(&mut self, octets: &[u8]) -> Option<Record> {
        let line = read_line(octets);
        self.lines += u64::from(line != Err(Unread::Torn));
        match line {
            Ok(Line::Record(record)) => return Some(record),
            Ok(Line::Gap(gap)) if gap.at == LostAt::Torn && self.untold > 0 => self.untold -= 1,
            Ok(Line::Gap(gap)) => self.lost = self.lost.saturating_add(gap.lost),
            Ok(Line::Alert(_) | Line::Change(_)) => {}
            Err(Unread::Unknown { .. }) => self.unknown += 1,
            Err(Unread::Torn) if octets.trim_ascii().is_empty() => {}
            Err(Unread::Torn) => {
                self.torn += 1;
                self.untold += 1;
            }
        }
        None
    }

    /// Says on stderr what the log at `path` does not say.
    pub fn tell(&self, path: &Path) {
        if self.lost > 0 {
            complain(&anyhow!("{} in `{}`, which has gaps for them", missing(self.lost), path.display()));
        }
        let skipped = [(self.torn, "torn"), (self.unknown, "of a kind that is not known")];
        let skipped: Vec<String> = skipped
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        if !skipped.is_empty() {
            complain(&anyhow!("lines that were skipped in `{}`: {}", path.display(), skipped.join(", ")));
        }
    }
}
