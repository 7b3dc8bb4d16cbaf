//! The figures that there are: a closed set, which docs/metrics.md lists.

use crate::control::protocol::{Metric, MetricKind, Sample};
use std::collections::BTreeMap;

macro_rules! figures {
    ($($(#[doc = $doc:literal])+ $variant:ident = $kind:ident $name:literal [$($label:literal),*],)+) => {
        /// One figure, with any number of samples.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Figure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Figure {
            /// Every figure there is, in the order of the text.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn kind(self) -> MetricKind {
                match self { $(Self::$variant => MetricKind::$kind),+ }
            }

            fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label),*]),+ }
            }

            /// One or two sentences.
            fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

figures! {
    /// 1, with the version of the daemon.
    BuildInfo = Gauge "egressd_build_info" ["version"],
    /// When the daemon started, in seconds since 1970.
    Started = Gauge "egressd_start_time_seconds" [],
    /// 1 where a check of `egressctl status` is passed, 0 where it is not.
    CheckPassed = Gauge "egressd_check_passed" ["check"],
    /// 1, with where the policies in force come from, and of git their commit.
    PolicyInfo = Gauge "egressd_policy_info" ["source", "revision"],
    /// 1 while the newest policies are refused and older ones are in force, else 0.
    PolicyRefused = Gauge "egressd_policy_refused" [],
    /// How often policies were read and refused; a commit that stays refused counts with each look.
    PolicyRefusals = Counter "egressd_policy_refusals_total" [],
    /// When the policies in force were read, in seconds since 1970.
    PolicyApplied = Gauge "egressd_policy_applied_timestamp_seconds" [],
    /// When the repository of the policies was last asked with success, in seconds since 1970; none without one.
    SourceChecked = Gauge "egressd_policy_source_checked_timestamp_seconds" [],
    /// Agents that run.
    Agents = Gauge "egressd_agents" ["boundary"],
    /// Agents that can run at once.
    AgentsCapacity = Gauge "egressd_agents_capacity" [],
    /// Agents that are let out although their policies deny.
    AgentsObserved = Gauge "egressd_agents_observed" [],
    /// Flows and lookups that were allowed.
    Permits = Counter "egressd_permits_total" ["agent"],
    /// Flows and lookups that were allowed only to be observed.
    Observed = Counter "egressd_observed_total" ["agent", "reason"],
    /// Flows and lookups that were denied, by any gate.
    Denials = Counter "egressd_denials_total" ["agent", "reason"],
    /// What the kernel programs denied agents that run, as they count it themselves: each packet of a flow by itself.
    KernelDenials = Counter "egressd_kernel_denials_total" ["agent", "reason"],
    /// Signs that names carry more than names, and that budgets are used up.
    Alerts = Counter "egressd_alerts_total" ["agent", "flag"],
    /// Addresses that lookups of an agent have earned it, and that are open still.
    Grants = Gauge "egressd_grants" ["agent"],
    /// Those that one agent can have at once.
    GrantsCapacity = Gauge "egressd_grants_capacity" [],
    /// Rules that people lent an agent for a time, and that are in force still.
    LentGrants = Gauge "egressd_lent_grants" ["agent"],
    /// Requests that wait for people.
    ApprovalsPending = Gauge "egressd_approvals_pending" [],
    /// Bytes that are used up of a budget: of a rule, of all that people lent (`lent`), or of the agent (`all`).
    BudgetBytes = Gauge "egressd_budget_used_bytes" ["agent", "rule"],
    /// Bytes of the budget.
    BudgetBytesLimit = Gauge "egressd_budget_limit_bytes" ["agent", "rule"],
    /// Connections that are used up of a budget: of a rule, of all that people lent (`lent`), or of the agent (`all`).
    BudgetConnections = Gauge "egressd_budget_used_connections" ["agent", "rule"],
    /// Connections of the budget.
    BudgetConnectionsLimit = Gauge "egressd_budget_limit_connections" ["agent", "rule"],
    /// What an agent can have let out through names of wildcards, and did not get back yet.
    LedgerUsed = Gauge "egressd_leak_ledger_used_bytes" ["agent"],
    /// What it can let out at once.
    LedgerCapacity = Gauge "egressd_leak_ledger_capacity_bytes" ["agent"],
    /// 1 where only names that rules spell out are looked up for an agent, because of what its names looked like.
    Quarantined = Gauge "egressd_quarantined" ["agent"],
    /// Lines of the audit log.
    Records = Counter "egressd_records_total" ["kind"],
    /// Events that left no record of their own; a line of the log says how many, and where they were lost.
    LostRecords = Counter "egressd_lost_records_total" ["at"],
    /// Bytes that reached the audit log.
    LogWritten = Counter "egressd_log_written_bytes_total" [],
    /// Bytes that wait for the audit log to be written again.
    LogWaiting = Gauge "egressd_log_waiting_bytes" [],
    /// Attempts to write the audit log that failed.
    LogFailures = Counter "egressd_log_failures_total" [],
    /// Connections for these figures that were hung up on: of agents, or of whom nobody knows.
    ScrapesDenied = Counter "egressd_scrapes_denied_total" [],
}

/// Figures with their samples, as they are gathered.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<Figure, BTreeMap<Vec<String>, f64>>);

impl Figures {
    /// Adds `value` to the sample of these label values, in the order of the figure's labels. So no two samples have
    /// the same, for which monitors would take none of them: as of two rules on one line.
    pub fn add<const N: usize>(&mut self, figure: Figure, labels: [&str; N], value: f64) {
        debug_assert_eq!(N, figure.labels().len(), "{}", figure.name());
        let labels = labels.map(str::to_owned).to_vec();
        *self.0.entry(figure).or_default().entry(labels).or_default() += value;
    }

    /// Every figure, also those without samples.
    pub fn into_metrics(mut self) -> Vec<Metric> {
        let metric = |figure: &Figure| Metric {
            name: figure.name().to_owned(),
            kind: figure.kind(),
            help: figure.help().to_owned(),
            samples: self
                .0
                .remove(figure)
                .unwrap_or_default()
                .into_iter()
                .map(|one| sample(*figure, one))
                .collect(),
        };
        Figure::ALL.iter().map(metric).collect()
    }
}

fn sample(figure: Figure, (values, value): (Vec<String>, f64)) -> Sample {
    let labels = figure.labels().iter().map(|label| (*label).to_owned());
    Sample { labels: labels.zip(values).collect(), value }
}

/// Exact up to 2^53, which no counter of a day comes near.
pub fn count(number: impl TryInto<u64>) -> f64 {
    number.try_into().unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_exactly_the_figures_there_are() {
        let document = include_str!("../../../../docs/metrics.md");
        let row = |figure: &Figure| {
            let labels: Vec<_> = figure.labels().iter().map(|label| format!("`{label}`")).collect();
            let (name, kind) = (figure.name(), figure.kind().as_str());
            format!("| `{name}` | {kind} | {} | {} |", labels.join(", "), figure.help())
        };
        let listed: Vec<&str> = document.lines().filter(|line| line.starts_with("| `egressd_")).collect();
        assert_eq!(listed, Figure::ALL.iter().map(row).collect::<Vec<_>>());
        let words = document.split(|character: char| !character.is_ascii_lowercase() && character != '_');
        for named in words.filter(|word| word.starts_with("egressd_")) {
            assert!(Figure::ALL.iter().any(|figure| figure.name() == named), "`{named}` is no figure");
        }
    }

    #[test]
    fn names_and_words_are_those_that_monitors_expect() {
        for figure in Figure::ALL {
            let name = figure.name();
            assert_eq!(name.ends_with("_total"), figure.kind() == MetricKind::Counter, "{name}");
            assert!(name.starts_with("egressd_"), "{name}");
            assert!(figure.help().ends_with('.') && !figure.help().contains('|'), "{name}");
        }
        let names: std::collections::BTreeSet<_> = Figure::ALL.iter().map(|figure| figure.name()).collect();
        assert_eq!(names.len(), Figure::ALL.len());
    }

    #[test]
    fn no_two_samples_have_the_same_labels() {
        let mut figures = Figures::default();
        figures.add(Figure::BudgetBytes, ["build", "p.yaml:6"], 1.0);
        figures.add(Figure::BudgetBytes, ["build", "p.yaml:6"], 2.0);
        let metrics = figures.into_metrics();
        let samples: Vec<_> = metrics.iter().flat_map(|metric| &metric.samples).collect();
        assert_eq!(samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [3.0]);
        assert_eq!(samples[0].labels["rule"], "p.yaml:6");
    }
}
