//! People who are asked before an agent may go somewhere.

mod book;
mod entry;

use super::{Daemon, agents::Running, loans};
use crate::{
    audit::{Act, Change, Gate, Line, Record, Time, Verdict},
    config::{ConfigError, LentRule, lasting, lent},
    control::protocol::{ApprovalRequest, Decide, Decided, Decision, Refusal, RefusalKind, RequestId},
    policy::{
        Agent, AgentId, Approvals, Budget, Denial, Destination, HostName, Loan, Operator, Policy, Protocol,
        Question, Reason, Rule, Subject, host_rule,
    },
};
use book::{Book, Waiting};
use entry::{Entry, Key, called};
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How long a lookup or a tunnel waits for people. Stub resolvers ask again meanwhile, and each of their tries
/// joins the request that is there; whoever gives up first finds the way open when it tries again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a deny is remembered, unless whoever denied says so.
const REMEMBER: &str = "1h";

/// What waits for people.
#[derive(Debug, Default)]
pub struct Desk(Mutex<Book>);

impl Desk {
    // Entries are inserted and removed whole.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an agent that ended; whatever waits for it is denied.
    pub fn forget(&self, agent: AgentId) {
        self.book().forget(agent);
    }

    /// The request as it was listed as `id`, without what joined it since.
    fn listed(&self, id: &RequestId) -> Result<Entry, Refusal> {
        let book = self.book();
        let mut entries = book.entries().iter();
        let entry = entries.find(|entry| entry.number == id.number).ok_or_else(|| unknown(id))?;
        let other =
            || format!("request {id} is not what is asked for by now: run `egressctl approvals` again");
        entry.as_listed(&id.mark).ok_or_else(|| Refusal::new(RefusalKind::Unknown, other()))
    }

    /// Lists a flow that was denied at once, if `policy` has people asked about it.
    fn note(&self, agent: AgentId, policy: &Policy, record: &Record) {
        let destination = match (&record.destination.name, record.destination.address) {
            (Some(name), _) => HostName::parse(name).ok().map(Destination::Name),
            (None, address) => address.map(Destination::Address),
        };
        let Some(destination) = destination else { return };
        let port = record.destination.port;
        // The kernel sees TCP where TLS was meant.
        let protocol = match destination {
            Destination::Name(_) if record.gate == Gate::Address => None,
            Destination::Name(_) | Destination::Address(_) => Protocol::parse(&record.protocol),
        };
        let question = Question { destination, port, protocol, process: None };
        if question.rule(policy).is_none() && !policy.asks_about_unknown() {
            return;
        }
        let program = record.process.as_ref().map_or("-", |process| process.name());
        let key = Key::of(agent, &question.destination);
        // A flow that is denied at once can be told nothing more.
        let _ = self.book().join(key, program, &question, question.source(policy), Instant::now());
    }
}

impl Approvals for Desk {
    fn ask<'a>(
        &'a self,
        agent: &'a Agent,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denial>> + Send + 'a>> {
        Box::pin(async move {
            let source = question.source(&agent.whole_policy());
            let (key, program) =
                (Key::of(agent.id(), &question.destination), called(question.process.as_ref()));
            let denied = |reason| Denial { reason, rule: source.clone() };
            let joined = self.book().wait(key, &program, &question, source.clone(), Instant::now());
            let Waiting { mut outcome, .. } = joined.map_err(denied)?;
            let decided = timeout(PATIENCE, outcome.wait_for(Option::is_some)).await;
            match decided {
                Ok(Ok(outcome)) if *outcome == Some(Ok(())) => Ok(()),
                Ok(Ok(_)) => Err(denied(Reason::ApprovalDenied)),
                // The request is gone with its agent.
                Ok(Err(_)) | Err(_) => Err(denied(Reason::ApprovalTimedOut)),
            }
        })
    }

    fn remember_no(&self, agent: AgentId, destination: &Destination) -> bool {
        self.book().has_denied(&Key::of(agent, destination), Instant::now())
    }
}

impl Daemon {
    /// Lists what is denied at once where nobody has approved it, for as long as the daemon lives.
    pub(super) async fn keep_listing(self: Arc<Self>) {
        let mut follower = self.feed.follow(self.feed.next_seq());
        while let Some(batch) = follower.next().await {
            for line in batch.lines {
                let Line::Record(record) = &*line else { continue };
                if record.verdict == Verdict::Deny && may_be_asked_about(record) {
                    let mut all = self.agents.all().into_iter();
                    let running = all.find(|running| running.agent.name().as_str() == record.agent);
                    running.iter().for_each(|running| {
                        self.desk.note(running.agent.id(), &running.agent.given_policy(), record);
                    });
                }
            }
        }
    }

    /// What waits for people, oldest first.
    pub(super) fn approvals(&self) -> Vec<ApprovalRequest> {
        let mut book = self.desk.book();
        book.tidy(Instant::now());
        let told = |entry: &Entry| {
            let running = self.agents.get(entry.key.agent)?;
            Some(told(entry, &running.agent))
        };
        book.entries().iter().filter_map(told).collect()
    }

    /// Decides about a request, on the word of `operator`.
    pub(super) async fn decide(&self, operator: Operator, request: Decide) -> Result<Decided, Refusal> {
        let entry = self.desk.listed(&request.id)?;
        let running = self.agents.get(entry.key.agent).ok_or_else(|| unknown(&request.id))?;
        match &request.decision {
            Decision::Approve { lasts, once, private } => {
                let rules = rules(&entry, &running.agent.whole_policy(), lasts, *once, *private)
                    .map_err(loans::invalid)?;
                let lines = rules.iter().filter_map(line).collect();
                let detail = Some(format!("request {}", entry.number));
                let mut grants = Vec::new();
                for mut rule in rules {
                    rule.reason = request.reason.clone();
                    let running = Arc::clone(&running);
                    grants.push(self.lend(running, rule, operator.clone(), detail.clone()).await?);
                }
                let mut book = self.desk.book();
                book.approve(&entry);
                let left = book.entries().iter().find(|left| left.number == entry.number).map(id);
                Ok(Decided { id: request.id, grants, rules: lines, left })
            }
            Decision::Deny { remember } => {
                let lasts = lasting(remember.as_deref().unwrap_or(REMEMBER)).map_err(loans::invalid)?;
                self.desk.book().deny(&entry, Instant::now() + lasts);
                self.tell_denied(&running, &entry, operator, request.reason).await;
                Ok(Decided { id: request.id, grants: Vec::new(), rules: Vec::new(), left: None })
            }
        }
    }

    async fn tell_denied(
        &self,
        running: &Running,
        entry: &Entry,
        operator: Operator,
        reason: Option<String>,
    ) {
        self.recorder.change(Change {
            agent: Some(running.agent.name().clone()),
            act: Act::Denied,
            grant: None,
            destination: entry.key.group.clone(),
            ports: Vec::new(),
            protocol: None,
            until: None,
            budget: Budget::default(),
            why: reason,
            by: Some(operator),
            detail: Some(format!("request {}", entry.number)),
        });
        self.recorder.settled().await;
    }
}

/// Whether `record` is of a denial that a yes may lift: nobody has approved it, or what somebody approved is used up.
fn may_be_asked_about(record: &Record) -> bool {
    let is_for = |reason: Reason| record.reason.as_deref() == Some(reason.as_str());
    let is_lent = || record.rule.as_deref().is_some_and(Loan::is_source);
    is_for(Reason::ApprovalRequired) || is_for(Reason::BudgetSpent) && is_lent()
}

/// The rules that a yes to `entry` lends: of each destination that was asked for, what the rule behind it
/// says, or where no rule knows it, TLS at the port.
fn rules(
    entry: &Entry,
    policy: &Policy,
    lasts: &str,
    once: bool,
    private: bool,
) -> Result<Vec<Rule>, ConfigError> {
    let until = loans::until(Time::now().timestamp(), lasts)?;
    let budget = Budget { max_connections: once.then_some(1), ..Budget::default() };
    let rule = |question: &Question| {
        let behind = question.rule(policy);
        let ports = behind.map_or_else(|| question.port.into_iter().collect(), |rule| rule.ports.clone());
        let protocol = behind.and_then(|rule| rule.protocol).or(question.protocol);
        // The kernel sees TCP where TLS was meant, and a name can always be asked for.
        let protocol = match (&question.destination, behind, protocol) {
            (Destination::Name(_), None, _) => None,
            (_, _, protocol) => protocol.map(|protocol| protocol.to_string()),
        };
        lent(&LentRule {
            host: question.destination.to_string(),
            ports,
            protocol,
            private: private || behind.is_some_and(|rule| rule.private),
            reason: None,
            until,
            budget,
        })
    };
    entry.wishes.iter().map(|wish| rule(&wish.question)).collect()
}

/// The line of `rules:` that would allow the same for ever; None of a network, which is written by hand.
fn line(rule: &Rule) -> Option<String> {
    match &rule.subject {
        Subject::Host(pattern) => Some(host_rule(pattern.name(), &rule.ports, rule.protocol?, rule.private)),
        Subject::Network(network) => {
            let (protocol, port) = (rule.protocol?, rule.ports.first()?);
            Some(format!("- {{cidr: \"{network}\", protocol: {protocol}, ports: [{port}]}}"))
        }
    }
}

fn told(entry: &Entry, agent: &Agent) -> ApprovalRequest {
    let mut rules = Vec::new();
    for rule in entry.wishes.iter().filter_map(|wish| wish.source.as_ref()).map(ToString::to_string) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    ApprovalRequest {
        id: id(entry),
        agent: agent.name().to_string(),
        group: entry.key.group.clone(),
        programs: entry.programs.clone(),
        rules,
        destinations: entry.wishes.iter().map(|wish| destination(&wish.question)).collect(),
        asked: entry.asked,
        waiting: entry.waiting(),
        first: Time::from(entry.first),
        last: Time::from(entry.last),
    }
}

/// What a yes would open, as people write it.
fn destination(question: &Question) -> String {
    match (&question.destination, question.port, question.protocol) {
        (Destination::Address(address), Some(port), None | Some(Protocol::Tcp)) => {
            SocketAddr::new(*address, port).to_string()
        }
        (Destination::Address(address), Some(port), Some(protocol)) => {
            format!("{}/{protocol}", SocketAddr::new(*address, port))
        }
        (Destination::Name(name), Some(port), _) => format!("{name}:{port}"),
        (Destination::Name(_) | Destination::Address(_), None, _) => question.destination.to_string(),
    }
}

fn id(entry: &Entry) -> RequestId {
    RequestId { number: entry.number, mark: entry.mark().to_owned() }
}

fn unknown(id: &RequestId) -> Refusal {
    Refusal::new(RefusalKind::Unknown, format!("there is no request {}", id.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AgentName;

    #[test]
    fn what_is_asked_for_is_listed_with_its_port_and_of_addresses_with_a_protocol_other_than_tcp() {
        for (host, port, protocol, listed) in [
            ("a.example", None, None, "a.example"),
            ("a.example", Some(443), Some(Protocol::Tls), "a.example:443"),
            ("192.0.2.7", Some(53), Some(Protocol::Tcp), "192.0.2.7:53"),
            ("192.0.2.7", Some(53), Some(Protocol::Udp), "192.0.2.7:53/udp"),
            ("2001:db8::7", Some(53), Some(Protocol::Udp), "[2001:db8::7]:53/udp"),
        ] {
            let name = || Destination::Name(HostName::parse(host).expect("a name"));
            let destination = host.parse().map_or_else(|_| name(), Destination::Address);
            let question = Question { destination, port, protocol, process: None };
            assert_eq!(super::destination(&question), listed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_nobody_answers_is_denied_in_time_and_stays_listed() {
        let desk = Desk::default();
        let agent = Agent::new(AgentId(1), AgentName::parse("build").expect("a name"), Arc::default());
        let name = HostName::parse("api.example.com").expect("a name");
        let destination = Destination::Name(name);
        let question = Question { destination, port: Some(443), protocol: None, process: None };
        let start = tokio::time::Instant::now();
        let denied = desk.ask(&agent, question.clone()).await.map_err(|denial| denial.reason);
        assert_eq!((denied, start.elapsed()), (Err(Reason::ApprovalTimedOut), PATIENCE));
        let (asked, decides) = tokio::join!(desk.ask(&agent, question), async {
            tokio::task::yield_now().await;
            let entry = desk.book().entries().first().cloned().expect("it is listed");
            desk.book().approve(&entry);
            entry.asked
        });
        assert_eq!((asked, decides), (Ok(()), 2), "the next try joins it");
    }
}
