//! Which lines a reader asked for.

use super::{
    alert::RecordedAlert,
    change::RecordedChange,
    event::Verdict,
    record::{Line, Record},
    time::Time,
};

/// Which lines to show. Gaps always pass: they may stand for a record that would have. Alerts and changes
/// pass whatever the verdicts are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub verdicts: Verdicts,
    pub agent: Option<String>,
    /// The word of a reason.
    pub reason: Option<String>,
    /// A pid, a program's file name, or a part of the command line.
    pub process: Option<String>,
    pub since: Option<Time>,
}

/// Which verdicts to show. What is denied, or would be if it were not only observed, is of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdicts {
    #[default]
    Denied,
    All,
}

impl Filter {
    #[must_use]
    pub fn passes(&self, line: &Line) -> bool {
        match line {
            Line::Record(record) => self.passes_record(record),
            Line::Alert(alert) => self.passes_alert(alert),
            Line::Change(change) => self.passes_change(change),
            Line::Gap(gap) => {
                let may_be = |agent: &String| gap.agent.as_ref().is_none_or(|lost| lost == agent);
                self.since.is_none_or(|since| gap.time >= since) && self.agent.as_ref().is_none_or(may_be)
            }
        }
    }

    /// An alert is about no single flow: it has neither a reason nor a process.
    fn passes_alert(&self, alert: &RecordedAlert) -> bool {
        self.reason.is_none()
            && self.process.is_none()
            && self.since.is_none_or(|since| alert.time >= since)
            && self.agent.as_ref().is_none_or(|agent| *agent == alert.agent)
    }

    /// Nor is a change.
    fn passes_change(&self, change: &RecordedChange) -> bool {
        self.reason.is_none()
            && self.process.is_none()
            && self.since.is_none_or(|since| change.time >= since)
            && self.agent.as_ref().is_none_or(|agent| change.agent.as_ref() == Some(agent))
    }

    fn passes_record(&self, record: &Record) -> bool {
        let is_asked_for = match self.verdicts {
            Verdicts::All => true,
            Verdicts::Denied => record.verdict == Verdict::Deny || record.observed.is_some(),
        };
        is_asked_for
            && self.since.is_none_or(|since| record.time >= since)
            && self.agent.as_ref().is_none_or(|agent| *agent == record.agent)
            && self.reason.as_deref().is_none_or(|reason| is_reason(record, reason))
            && self.process.as_ref().is_none_or(|process| is_process(record, process))
    }
}

fn is_reason(record: &Record, wanted: &str) -> bool {
    let reason = record.reason.as_deref().or(record.observed.as_deref());
    reason == Some(wanted)
}

fn is_process(record: &Record, wanted: &str) -> bool {
    record.process.as_ref().is_some_and(|process| match wanted.parse::<u32>() {
        Ok(pid) => process.pid == pid,
        Err(_) => process.name() == wanted || process.command.contains(wanted),
    })
}
