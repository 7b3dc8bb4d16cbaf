//! The daemon's figures, for those who watch from afar.

mod figure;
mod scrape;

use super::{Daemon, agents::Running, source::Source};
use crate::{
    audit::{AgentTally, Time},
    control::protocol::{Boundary, Metric},
    datapath::{self, BudgetLevel, Level},
    policy::{Agent, Loan, MAX_GRANTS, Mode, Policy, RuleId},
};
use figure::{Figure, Figures, count};
pub use scrape::Scrapes;
use tokio::task::block_in_place;

impl Daemon {
    /// Every figure there is. Takes as long as the checks of the status.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        block_in_place(|| {
            let mut figures = Figures::default();
            self.add_daemon(&mut figures);
            self.add_policies(&mut figures);
            self.add_log(&mut figures);
            self.add_agents(&mut figures);
            self.add_tally(&mut figures);
            self.add_bounds(&mut figures);
            figures.into_metrics()
        })
    }

    fn add_daemon(&self, figures: &mut Figures) {
        figures.add(Figure::BuildInfo, [env!("CARGO_PKG_VERSION")], 1.0);
        figures.add(Figure::Started, [], seconds(self.started));
        for check in self.checks() {
            figures.add(Figure::CheckPassed, [&check.name], is(check.passed));
        }
        figures.add(Figure::ScrapesDenied, [], count(self.scrapes.denied()));
    }

    fn add_policies(&self, figures: &mut Figures) {
        let loaded = self.policies.load();
        let source = self.source.as_ref().map(Source::status);
        let revision = source.as_ref().and_then(|source| source.revision.as_deref());
        let word = if source.is_some() { "git" } else { "files" };
        figures.add(Figure::PolicyInfo, [word, revision.unwrap_or_default()], 1.0);
        // A repository that cannot be asked refuses nothing: when it was last asked says that.
        let failure = source.as_ref().and_then(|source| source.failure.as_ref());
        let is_refused = failure.is_some_and(|failure| failure.commit.is_some());
        figures.add(Figure::PolicyRefused, [], is(is_refused || self.files.are_refused()));
        let refusals = self.files.refusals() + self.source.as_ref().map_or(0, Source::refusals);
        figures.add(Figure::PolicyRefusals, [], count(refusals));
        figures.add(Figure::PolicyApplied, [], seconds(loaded.time));
        if let Some(checked) = source.and_then(|source| source.checked) {
            figures.add(Figure::SourceChecked, [], seconds(checked));
        }
    }

    fn add_log(&self, figures: &mut Figures) {
        let health = self.log_health.read();
        figures.add(Figure::LogWritten, [], count(health.written));
        figures.add(Figure::LogWaiting, [], count(health.waiting));
        figures.add(Figure::LogFailures, [], count(health.failures));
    }

    fn add_agents(&self, figures: &mut Figures) {
        for boundary in [Boundary::Cgroup, Boundary::Sealed, Boundary::Adopted] {
            figures.add(Figure::Agents, [boundary.as_str()], 0.0);
        }
        // One is the daemon's own, which proves the fence.
        figures.add(Figure::AgentsCapacity, [], count(egress_common::MAX_AGENTS.saturating_sub(1)));
        figures.add(Figure::AgentsObserved, [], 0.0);
        for running in self.agents.all() {
            figures.add(Figure::Agents, [running.home.boundary.as_str()], 1.0);
            let is_observed = running.agent.policy().mode() == Mode::Observe;
            figures.add(Figure::AgentsObserved, [], is(is_observed));
            self.add_agent(figures, &running);
        }
    }

    fn add_agent(&self, figures: &mut Figures, running: &Running) {
        let (agent, name) = (&running.agent, running.agent.name().as_str());
        figures.add(Figure::Grants, [name], count(agent.live_grants(datapath::now()).len()));
        figures.add(Figure::LentGrants, [name], count(agent.loans().len()));
        figures.add(Figure::Quarantined, [name], is(agent.is_quarantined()));
        for (reason, denials) in self.fence.denials(agent.id()) {
            figures.add(Figure::KernelDenials, [name, reason.as_str()], count(denials));
        }
        self.add_budgets(figures, agent);
    }

    fn add_budgets(&self, figures: &mut Figures, agent: &Agent) {
        let (policy, loans) = (agent.whole_policy(), agent.loans());
        for BudgetLevel { rule, bytes, flows, .. } in self.fence.budgets().levels(agent.id()) {
            // Of a rule that is gone, nobody waits for the end.
            let Some(rule) = label(rule, &policy, &loans) else { continue };
            let mut add = |figure, limit, of: Level| {
                if let Some(most) = of.most {
                    figures.add(figure, [agent.name().as_str(), &rule], count(of.used));
                    figures.add(limit, [agent.name().as_str(), &rule], count(most));
                }
            };
            add(Figure::BudgetBytes, Figure::BudgetBytesLimit, bytes);
            add(Figure::BudgetConnections, Figure::BudgetConnectionsLimit, flows);
        }
    }

    fn add_tally(&self, figures: &mut Figures) {
        let tally = self.feed.tally();
        for (agent, AgentTally { permits, denials, observed, alerts }) in tally.agents() {
            figures.add(Figure::Permits, [agent], count(*permits));
            for (figure, by_reason) in [(Figure::Denials, denials), (Figure::Observed, observed)] {
                for (reason, flows) in by_reason {
                    figures.add(figure, [agent, reason.as_str()], count(*flows));
                }
            }
            for (flag, alerts) in alerts {
                figures.add(Figure::Alerts, [agent, flag], count(*alerts));
            }
        }
        for (at, events) in tally.lost() {
            figures.add(Figure::LostRecords, [at.as_str()], count(events));
        }
        for (kind, lines) in tally.lines() {
            figures.add(Figure::Records, [kind], count(lines));
        }
    }

    fn add_bounds(&self, figures: &mut Figures) {
        figures.add(Figure::GrantsCapacity, [], count(MAX_GRANTS));
        figures.add(Figure::ApprovalsPending, [], count(self.approvals().len()));
        for (agent, report) in self.leaks(None) {
            let bytes = |bits: u32| f64::from(bits) / 8.0;
            figures.add(Figure::LedgerUsed, [agent.as_str()], bytes(report.total.used));
            figures.add(Figure::LedgerCapacity, [agent.as_str()], bytes(report.total.capacity));
        }
    }
}

/// What a rule is called: the same for as long as it stands where it stands. Each commit has another revision, and each
/// grant another number, which monitors would keep for ever.
fn label(rule: Option<RuleId>, policy: &Policy, loans: &[Loan]) -> Option<String> {
    let Some(rule) = rule else { return Some("all".to_owned()) };
    if loans.iter().any(|loan| loan.rule.id == rule) {
        return Some("lent".to_owned());
    }
    let rule = policy.allow().iter().find(|held| held.id == rule)?;
    Some(format!("{}:{}", &*rule.source.file, rule.source.line))
}

fn is(fact: bool) -> f64 {
    f64::from(u8::from(fact))
}

/// Since 1970.
fn seconds(time: Time) -> f64 {
    time.timestamp().as_millisecond() as f64 / 1000.0
}
