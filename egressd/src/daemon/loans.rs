//! What people allow an agent for a time.

use super::{Daemon, agents::Running};
use crate::{
    audit::{Act, Change, RecordedOperator, Time},
    config::{ConfigError, Wish, lasting},
    control::protocol::{AllowRequest, GrantsRequest, HumanGrant, Refusal, RefusalKind, RevokeRequest},
    datapath::Fence,
    policy::{
        Agent, Budget, Loan, LoanError, MAX_LOANS, Operator, Rule, SpecialPurpose, Subject, special_purpose,
    },
};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::task::block_in_place;

impl Daemon {
    /// Lends the rule that `request` describes, on the word of `operator`.
    pub(super) async fn allow(
        &self,
        operator: Operator,
        request: AllowRequest,
    ) -> Result<HumanGrant, Refusal> {
        let running = self.one_agent(request.agent.as_deref())?;
        let rule = wish(request).compile(Time::now().timestamp()).map_err(invalid)?;
        self.lend(running, rule, operator, None).await
    }

    /// Lends `rule` to an agent, on the word of `operator`; `detail` says in the log what it answers.
    pub(super) async fn lend(
        &self,
        running: Arc<Running>,
        rule: Rule,
        operator: Operator,
        detail: Option<String>,
    ) -> Result<HumanGrant, Refusal> {
        let _turn = self.changes.lock().await;
        if self.agents.get(running.agent.id()).is_none() {
            return Err(Refusal::new(RefusalKind::Unknown, "the agent has ended"));
        }
        let now = Time::now().timestamp();
        let given = running.agent.given_policy();
        if let Some(deny) = given.denier_of(&rule) {
            let (what, place) = (&rule.subject, &deny.source);
            return Err(invalid(format!(
                "`{what}` is denied by {place}, which no grant overrides: change that"
            )));
        }
        let notes = notes(&running.agent, &rule);
        let number = self.memory().next_grant().map_err(failed)?;
        let rule = Rule { source: Loan::source(number), ..rule };
        let loan = Loan { number, rule, lender: operator.clone(), since: now };
        Fence::holds(&given.lending(std::slice::from_ref(&loan))).map_err(invalid)?;
        if running.agent.loans().len() >= MAX_LOANS {
            return Err(invalid(LoanError::TooMany));
        }
        // Nothing is in force that is not in the log.
        self.tell(&running, Act::Allowed, &loan, Some(operator), detail).await;
        let lent = running.agent.lend(loan.clone()).map_err(anyhow::Error::from);
        if let Err(error) = lent.and_then(|_| block_in_place(|| self.enforce_loans(&running))) {
            running.agent.take_back(|held| held.number == number);
            let detail = Some(format!("it could not be put in force: {error:#}"));
            self.tell(&running, Act::Revoked, &loan, None, detail).await;
            self.enforce_or_deny(&running);
            return Err(failed(error));
        }
        Ok(HumanGrant { notes, ..told(&running.agent, &loan) })
    }

    /// What is lent, by number.
    pub(super) fn grants(&self, request: &GrantsRequest) -> Result<Vec<HumanGrant>, Refusal> {
        let agents = match &request.agent {
            Some(agent) => vec![self.one_agent(Some(agent))?],
            None => self.agents.all(),
        };
        let of = |running: &Arc<Running>| {
            let loans = running.agent.loans();
            let levels = self.fence.budgets().levels(running.agent.id());
            let with_rest = |loan: &Loan| {
                let level = levels.iter().find(|level| level.rule == Some(loan.rule.id));
                HumanGrant {
                    uses_left: level.and_then(|level| level.flows.left()),
                    bytes_left: level.and_then(|level| level.bytes.left()),
                    ..told(&running.agent, loan)
                }
            };
            loans.iter().map(with_rest).collect::<Vec<_>>()
        };
        let mut grants: Vec<HumanGrant> = agents.iter().flat_map(of).collect();
        grants.sort_by_key(|grant| grant.id);
        Ok(grants)
    }

    /// Takes back the loan of that number, or all of an agent, and cuts what is open by it.
    pub(super) async fn revoke(
        &self,
        operator: Operator,
        request: RevokeRequest,
    ) -> Result<Vec<HumanGrant>, Refusal> {
        let _turn = self.changes.lock().await;
        let agents = match (request.id, &request.agent) {
            (None, None) => return Err(invalid("say which grant, or all of which agent")),
            (_, Some(agent)) => vec![self.one_agent(Some(agent))?],
            (Some(_), None) => self.agents.all(),
        };
        let mut revoked = Vec::new();
        for running in agents {
            let is_meant = |loan: &Loan| request.id.is_none_or(|id| id == loan.number);
            let taken = running.agent.take_back(is_meant);
            if taken.is_empty() {
                continue;
            }
            self.enforce_or_deny(&running);
            for loan in taken {
                let (by, why) = (Some(operator.clone()), request.reason.clone());
                self.tell(&running, Act::Revoked, &loan, by, why).await;
                revoked.push(told(&running.agent, &loan));
            }
        }
        match (request.id, revoked.is_empty()) {
            (Some(id), true) => Err(Refusal::new(RefusalKind::Unknown, format!("there is no grant {id}"))),
            (Some(_) | None, _) => Ok(revoked),
        }
    }

    /// Forgets the loans of an agent whose time is over, once they are out of force.
    pub(super) async fn end_loans(&self, running: &Running) {
        let now = Timestamp::now();
        let is_over = |loan: &Loan| loan.rule.term.until.is_none_or(|until| until <= now);
        let ended = running.agent.take_back(is_over);
        if ended.is_empty() {
            return;
        }
        // What is remembered still is over for the next daemon, too.
        if let Err(error) = block_in_place(|| self.memory().write(&running.remembered())) {
            tracing::warn!(agent = %running.agent.name(), "ended grants are remembered: {error:#}");
        }
        for loan in ended {
            self.tell(running, Act::Ended, &loan, None, None).await;
        }
    }

    /// Has kernel, resolver, proxy and the next daemon obey what is lent by now.
    fn enforce_loans(&self, running: &Running) -> anyhow::Result<()> {
        self.memory().write(&running.remembered())?;
        self.names.keep_warm(&running.agent);
        self.apply(running)
    }

    /// The same; what cannot be enforced is denied.
    fn enforce_or_deny(&self, running: &Running) {
        if let Err(error) = block_in_place(|| self.enforce_loans(running)) {
            tracing::error!(agent = %running.agent.name(), "is denied everything: {error:#}");
            self.deny_all(running.agent.id(), running.home.cgroup.id());
        }
    }

    /// Records what became of a loan, and waits until the log has it.
    async fn tell(
        &self,
        running: &Running,
        act: Act,
        loan: &Loan,
        by: Option<Operator>,
        detail: Option<String>,
    ) {
        let agent = running.agent.name().clone();
        tracing::info!(%agent, grant = loan.number, destination = %loan.rule.subject, act = act.as_str(), "grant");
        self.recorder.change(Change { by, detail, ..Change::of(&agent, act, loan) });
        self.recorder.settled().await;
    }

    /// The agent of that name or number; where none is said, the only one.
    fn one_agent(&self, asked: Option<&str>) -> Result<Arc<Running>, Refusal> {
        let mut all = self.agents.all();
        let names = |all: &[Arc<Running>]| {
            all.iter().map(|running| format!("`{}`", running.agent.name())).collect::<Vec<_>>().join(", ")
        };
        match asked {
            Some(asked) => {
                let is_meant = |running: &&Arc<Running>| {
                    let agent = &running.agent;
                    agent.name().as_str() == asked || agent.id().to_string() == asked
                };
                let found = all.iter().find(is_meant).cloned();
                found
                    .ok_or_else(|| Refusal::new(RefusalKind::Unknown, format!("there is no agent `{asked}`")))
            }
            None if all.len() > 1 => {
                Err(invalid(format!("several agents run, say which one is meant: {}", names(&all))))
            }
            None => all.pop().ok_or_else(|| Refusal::new(RefusalKind::Unknown, "no agent runs")),
        }
    }
}

fn wish(request: AllowRequest) -> Wish {
    let AllowRequest { agent: _, destination, protocol, lasts, uses, bytes, private, reason } = request;
    Wish { destination, protocol, lasts, uses, bytes, private, reason }
}

/// What whoever lends `rule` should know of where it leads, and of what is in force.
fn notes(agent: &Agent, rule: &Rule) -> Vec<String> {
    let (what, policy) = (&rule.subject, agent.policy());
    let held = policy.allower_of(rule).map(|held| {
        // Of loans the last comes first.
        let is_lent = agent.loans().iter().any(|loan| loan.rule.source == held.source);
        let order = if is_lent { "before which this one comes" } else { "which comes first" };
        format!("`{what}` is allowed already by {}, {order}", held.source)
    });
    let special = is_never_a_names(what).then(|| {
        format!(
            "`{what}` is special: this host, its link, a metadata service or the like, which no name opens"
        )
    });
    held.into_iter().chain(special).collect()
}

/// Whether it is an address that no answer for a name may hold.
fn is_never_a_names(subject: &Subject) -> bool {
    match subject {
        Subject::Network(network) => special_purpose(network.addr()) == Some(SpecialPurpose::Never),
        Subject::Host(_) => false,
    }
}

fn told(agent: &Agent, loan: &Loan) -> HumanGrant {
    let rule = &loan.rule;
    let Budget { max_bytes, max_connections, rate: _ } = rule.budget;
    HumanGrant {
        id: loan.number,
        agent: agent.name().to_string(),
        destination: rule.subject.to_string(),
        ports: rule.ports.clone(),
        protocol: rule.protocol.map_or("any", |protocol| protocol.as_str()).to_owned(),
        since: Time::from(loan.since),
        until: Time::from(rule.term.until.unwrap_or(loan.since)),
        uses: max_connections,
        bytes: max_bytes,
        uses_left: max_connections,
        bytes_left: max_bytes,
        reason: rule.reason.clone(),
        by: RecordedOperator::of(&loan.lender),
        notes: Vec::new(),
    }
}

/// The end of what is lent at `now` for so long.
pub(super) fn until(now: Timestamp, lasts: &str) -> Result<Timestamp, ConfigError> {
    let lasts = lasting(lasts)?;
    Ok(now.checked_add(lasts).unwrap_or(Timestamp::MAX))
}

pub(super) fn invalid(message: impl ToString) -> Refusal {
    Refusal::new(RefusalKind::Invalid, message)
}

fn failed(error: anyhow::Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::load_str,
        daemon::terms,
        datapath,
        policy::{AgentId, AgentName},
    };
    use std::path::Path;

    #[test]
    fn whoever_lends_is_told_what_is_allowed_already_and_which_of_both_counts() {
        let text = "version: 1\nagents:\n  default:\n    rules:\n      - host: a.example\n";
        let policies = load_str("policy.yaml", text, Path::new("/"), &[]).expect("a policy");
        let name = AgentName::parse("build").expect("a name");
        let agent = Agent::new(AgentId(1), name.clone(), policies.for_agent(&name));
        assert_eq!(
            told(&agent, "a.example"),
            ["`a.example` is allowed already by policy.yaml:5, which comes first"]
        );
        let source = Loan::source(7);
        let rule = Rule { source, ..rule("b.example") };
        let lender = Operator { uid: 0, login_uid: None, pid: 1, command: String::new() };
        agent.lend(Loan { number: 7, rule, lender, since: Timestamp::now() }).expect("room");
        agent.live(terms::occasion(None), datapath::now());
        let held = "`b.example` is allowed already by grant:7, before which this one comes";
        assert_eq!(told(&agent, "b.example"), [held]);
        assert_eq!(told(&agent, "c.example"), [] as [&str; 0]);
    }

    #[test]
    fn whoever_lends_a_special_address_is_told_so() {
        let name = AgentName::parse("build").expect("a name");
        let agent = Agent::new(AgentId(1), name, Arc::default());
        for (address, is_special) in [("169.254.169.254", true), ("127.0.0.1", true), ("192.0.2.7", false)] {
            let told = told(&agent, &format!("{address}:80"));
            assert_eq!(told.iter().any(|note| note.contains("is special")), is_special, "{told:?}");
        }
    }

    fn told(agent: &Agent, destination: &str) -> Vec<String> {
        notes(agent, &rule(destination))
    }

    fn rule(destination: &str) -> Rule {
        let is_address = destination.ends_with(":80");
        let protocol = is_address.then(|| "tcp".to_owned());
        let destination = destination.to_owned();
        let lasts = "1h".to_owned();
        let wish =
            Wish { destination, protocol, lasts, uses: None, bytes: None, private: false, reason: None };
        wish.compile(Timestamp::now()).expect("a rule")
    }
}
