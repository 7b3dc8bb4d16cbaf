//! The way of one lookup: leave, upstream, the answer's addresses, their grants, the answer.

use super::{
    answer::Answer,
    chain::{Found, FoundRecords, NEGATIVE_TTL},
    grid::Grid,
    hot::{Basis, Kept},
    ledger::{Alert, Ledger},
    local,
    lookups::{Lookups, Refused},
    people::People,
    pinned::{MAX_AT_ONCE, Pinned},
    query::{Family, Kind, QueryError, Question, parse},
    report::{Allowed, Asker, Refusal, unreadable},
    roster::Roster,
    screen::{MAX_ADDRESSES, grants, screen},
    upstream::Ask,
    warm::{Hearth, Warm},
    watch::Watch,
};
use crate::{
    audit::Recorder,
    policy::{
        Agent, AgentId, AgentName, Approvals, Denial, Grant, GrantError, GrantSink, HostName, Leave, Moment,
        Policy, Reason, RecordType, Resolve, Wildcard,
    },
};
use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The resolver that all agents share: it knows no agent but by the socket that asks.
pub struct Gate {
    pub(super) hearth: Hearth,
    pub(super) pinned: Pinned,
    grid: Arc<Grid>,
    sink: Arc<dyn GrantSink>,
    watch: Arc<dyn Watch>,
    recorder: Recorder,
    roster: Roster,
    pub(super) people: People,
}

impl Gate {
    /// A resolver that asks `exact` for the names that rules spell out, and `others` for those of wildcards:
    /// zones of an agent's choice that never answer then say nothing of the servers, and take no place, by
    /// which exact names are found.
    #[must_use]
    pub fn new(
        exact: Arc<dyn Ask>,
        others: Arc<dyn Ask>,
        sink: Arc<dyn GrantSink>,
        watch: Arc<dyn Watch>,
        recorder: Recorder,
        clock: fn() -> Moment,
    ) -> Arc<Self> {
        let hearth = |upstream| Hearth { upstream, clock, turns: Arc::new(Semaphore::new(MAX_AT_ONCE)) };
        Arc::new(Self {
            pinned: Pinned::new(hearth(exact)),
            grid: Grid::new(clock),
            hearth: hearth(others),
            sink,
            watch,
            recorder,
            roster: Roster::default(),
            people: People::default(),
        })
    }

    /// Has names that somebody must approve wait for `approvals`, from now on. Without, they are denied at
    /// once.
    pub fn ask_people(&self, approvals: Arc<dyn Approvals>) {
        self.people.are(approvals);
    }

    /// Keeps the names that the policy of `agent` spells out warm, and of those of its wildcards no others
    /// than it allows. To be called whenever it gets one.
    pub fn keep_warm(&self, agent: &Agent) {
        let policy = agent.policy();
        let names = policy.exact_leaves().map(|leave| (leave.name().clone(), record_types(&leave)));
        self.pinned.hold(agent.id(), names.collect());
        self.roster.find(agent.id()).into_iter().for_each(|lookups| lookups.hold(agent.whole_policy()));
    }

    /// Does with the ledger of `agent` what `act` says.
    pub fn with_ledger<T>(&self, agent: &Agent, act: impl FnOnce(&mut Ledger, Moment) -> T) -> T {
        self.lookups(agent).with_ledger(act)
    }

    /// Forgets what is known of an agent of this name that ended: what is remembered of it was changed.
    pub fn forget_ended(&self, name: &AgentName) {
        self.roster.forget_ended(name);
    }

    /// Looks what became of names that were looked up a while ago, and raises what they say.
    pub fn settle(&self, agent: &Agent) {
        let policy = agent.policy();
        let alerts = self.with_ledger(agent, |ledger, now| ledger.settle(policy.leaks(), now));
        self.raise(agent, alerts);
    }

    /// The reply to one message; None where there must be none.
    pub async fn reply(&self, asker: &Asker, message: &[u8]) -> Option<Vec<u8>> {
        match self.judge(asker, message) {
            Judgement::Silence => None,
            Judgement::Reply(reply) => Some(reply),
            Judgement::LookUp(lookup) => Some(self.answer(asker, lookup).await.reply),
        }
    }

    /// Judges one message, without waiting and without a byte to any upstream.
    pub(super) fn judge(&self, asker: &Asker, message: &[u8]) -> Judgement {
        let question = match parse(message) {
            Ok(question) => question,
            Err(bad) => {
                let (refusal, answer) = unreadable(&bad);
                self.recorder.record(asker.denied(&refusal, bad.error.name()));
                if let QueryError::Name { text, .. } = &bad.error {
                    self.note_denied(&asker.agent, text, Kind::Address(Family::V4).number());
                }
                let reply = bad.echo.zip(answer);
                return reply.map_or(Judgement::Silence, |(echo, answer)| {
                    Judgement::Reply(answer.write(&echo, asker.transport))
                });
            }
        };
        match self.judge_question(asker, &question) {
            Ok(Ruling::Answer(answer)) => Judgement::Reply(answer.write(&question.echo, asker.transport)),
            Ok(Ruling::LookUp(wanted, ticket)) => Judgement::LookUp(Lookup { question, wanted, ticket }),
            Err(refusal) => Judgement::Reply(self.refuse(asker, &question, &refusal)),
        }
    }

    /// Resolves what was judged, and returns the reply once its grants are in the kernel.
    pub(super) async fn answer(&self, asker: &Asker, lookup: Lookup) -> Answered {
        let Lookup { question, wanted, ticket } = lookup;
        let (agent, name) = (&asker.agent, &question.name);
        if ticket.is_none()
            && let Err(refusal) = self.people.approve(asker, name).await
        {
            return Answered { reply: self.refuse(asker, &question, &refusal), kept: None };
        }
        // Who waited for people took no place from those who wait for servers.
        let ticket = match ticket.map_or_else(|| self.admit(agent), Ok) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                return Answered { reply: self.refuse(asker, &question, &refusal), kept: None };
            }
        };
        let basis = Basis { generation: agent.generation(), moment: (self.hearth.clock)() };
        let outcome = match wanted {
            Wanted::Addresses(family) => self.look_up(agent, name, family).await.map(|granted| {
                let event = asker.allowed(name, first_address(&granted.found), granted.by);
                (Answer::from(granted.found), event)
            }),
            Wanted::Records(kind) => self
                .look_up_records(agent, name, kind)
                .await
                .map(|(found, by)| (Answer::from(found), asker.allowed(name, None, by))),
        };
        drop(ticket);
        match outcome {
            Ok((answer, event)) => {
                self.recorder.record(event.clone());
                let reply = answer.write(&question.echo, asker.transport);
                let kept = Kept { question: question.echo.question, answer, basis, event };
                Answered { reply, kept: matches!(wanted, Wanted::Addresses(_)).then_some(kept) }
            }
            Err(refusal) => Answered { reply: self.refuse(asker, &question, &refusal), kept: None },
        }
    }

    /// Records that `asker` reached a bound that is not about a single question.
    pub(super) fn exceeded(&self, asker: &Asker, bound: &str) {
        let refusal = Refusal::because(Reason::QuotaExceeded, bound.to_owned());
        self.recorder.record(asker.denied(&refusal, None));
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(super) fn clock(&self) -> fn() -> Moment {
        self.hearth.clock
    }

    /// Forgets what was kept for an agent that is gone.
    pub(super) fn forget(&self, agent: AgentId) {
        self.roster.close(agent);
        self.pinned.release(agent);
    }

    fn judge_question(&self, asker: &Asker, question: &Question) -> Result<Ruling, Refusal> {
        let name = &question.name;
        if let Some((answer, refusal)) = local::answer(&asker.agent, name) {
            self.recorder.record(asker.denied(&refusal, Some(name)));
            return Ok(Ruling::Answer(answer));
        }
        let leave = asker.agent.lookup(name);
        if leave.as_ref().is_ok_and(|leave| !leave.has_rule()) {
            self.note_denied(&asker.agent, name.as_str(), question.kind.number());
        }
        let wanted = match (question.kind, &leave) {
            (Kind::Address(family), Ok(_)) => Wanted::Addresses(family),
            (Kind::Service, Ok(_)) => return Ok(Ruling::Answer(Answer::NoData { ttl: NEGATIVE_TTL })),
            (Kind::Other(number), Ok(leave)) => match RecordType::of(number) {
                Some(kind) if leave.has_type(number) => Wanted::Records(kind),
                Some(_) | None => return Err(self.refuse_type(asker, leave, number)),
            },
            (Kind::Address(family), Err(denial)) if self.people.are_asked_about(denial) => {
                return Ok(Ruling::LookUp(Wanted::Addresses(family), None));
            }
            (kind, Err(denial)) => {
                self.note_denied(&asker.agent, name.as_str(), kind.number());
                return Err(match kind {
                    Kind::Other(number) => unusual(number),
                    Kind::Address(_) | Kind::Service => denial.clone().into(),
                });
            }
        };
        let ticket = self.admit(&asker.agent)?;
        Ok(Ruling::LookUp(wanted, Some(ticket)))
    }

    fn refuse_type(&self, asker: &Asker, leave: &Leave, number: u16) -> Refusal {
        let refusal = unusual(number);
        let agent = &asker.agent;
        if let Some(wildcard) = leave.wildcard() {
            let (policy, what) = (agent.policy(), format!("type {number}"));
            let note =
                |ledger: &mut Ledger, now| ledger.unusual(policy.leaks(), wildcard, leave.name(), &what, now);
            let alerts = self.with_ledger(agent, note);
            self.raise(agent, alerts);
        }
        refusal
    }

    /// Nothing of it leaves, but it says something of the agent.
    fn note_denied(&self, agent: &Agent, name: &str, number: u16) {
        let policy = agent.policy();
        let alerts = self.with_ledger(agent, |ledger, now| ledger.denied(policy.leaks(), name, number, now));
        self.raise(agent, alerts);
    }

    fn refuse(&self, asker: &Asker, question: &Question, refusal: &Refusal) -> Vec<u8> {
        self.recorder.record(asker.denied(refusal, Some(&question.name)));
        refusal.answer(Some(&question.name)).write(&question.echo, asker.transport)
    }

    fn admit(&self, agent: &Agent) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = || Refusal::because(Reason::QuotaExceeded, "lookups at one time".to_owned());
        self.lookups(agent).admit().ok_or_else(full)
    }

    /// Looks `name` up and grants its addresses. Whoever asks holds a permit of [`Self::admit`].
    async fn look_up(&self, agent: &Agent, name: &HostName, family: Family) -> Result<Granted, Refusal> {
        let found = self.warm(agent, name)?.find(family).await?;
        // The policy may have been replaced while upstream took its time.
        let (policy, leave) = agent.leave(name)?;
        let by = allowed_by(&policy, &leave);
        if let (Found::NoName { .. }, Some(wildcard)) = (&found, leave.wildcard()) {
            self.raise(agent, self.lookups(agent).absent(policy.leaks(), wildcard, name));
        }
        let Found::Addresses { mut addresses, ttl } = found else { return Ok(Granted { found, by }) };
        screen(&policy, &leave, &addresses)?;
        addresses.truncate(MAX_ADDRESSES);
        let now = (self.hearth.clock)();
        let earned = grants(&policy, &leave, &addresses, now.after(ttl + GRACE));
        self.grant(agent, &agent.within_terms(earned)).await?;
        let ttl = rest(agent, &leave, now).map_or(ttl, |rest| rest.min(ttl));
        // It may have been replaced while the kernel took its time, too.
        agent.lookup(name)?;
        Ok(Granted { found: Found::Addresses { addresses, ttl }, by })
    }

    /// Looks up records of another type, which open nothing.
    async fn look_up_records(
        &self,
        agent: &Agent,
        name: &HostName,
        kind: RecordType,
    ) -> Result<(FoundRecords, Allowed), Refusal> {
        let found = self.warm(agent, name)?.find_records(kind).await?;
        let (policy, leave) = agent.leave(name)?;
        if !leave.has_type(kind.number()) {
            return Err(unusual(kind.number()));
        }
        Ok((found, allowed_by(&policy, &leave)))
    }

    /// The name, kept warm: one that a rule spells out always is, others from their first use on. One that is
    /// only observed is not: there is no bound to what it lets out, and so nothing to be kept to.
    fn warm(&self, agent: &Agent, name: &HostName) -> Result<Arc<Warm>, Refusal> {
        let (policy, leave) = agent.leave(name)?;
        if !leave.has_rule() {
            return Ok(self.lookups(agent).find_once(name));
        }
        let types = record_types(&leave);
        let Some(wildcard) = leave.wildcard() else {
            return Ok(self.pinned.find(agent.id(), name, types));
        };
        match self.lookups(agent).find(&policy, wildcard, name, types) {
            Ok((warm, alerts)) => {
                self.raise(agent, alerts);
                Ok(warm)
            }
            Err(Refused { reason, detail, alerts }) => {
                let refusal = refused_by_ledger(reason, detail, wildcard, &alerts);
                self.raise(agent, alerts);
                Err(refusal)
            }
        }
    }

    fn raise(&self, agent: &Agent, alerts: impl IntoIterator<Item = Alert>) {
        alerts.into_iter().for_each(|alert| self.watch.raised(agent, alert));
        self.with_ledger(agent, |ledger, _| {
            if ledger.is_quarantined() && !agent.is_quarantined() {
                self.watch.quarantine(agent, ledger);
            }
        });
    }

    async fn grant(&self, agent: &Agent, grants: &[Grant]) -> Result<(), Refusal> {
        let refused = |error: GrantError| {
            let reason = match error {
                GrantError::Quota => Reason::QuotaExceeded,
                GrantError::Superseded | GrantError::Kernel(_) => Reason::GrantNotInstalled,
            };
            Refusal::because(reason, error.to_string())
        };
        agent.remember(grants, (self.hearth.clock)()).map_err(refused)?;
        self.sink.install(agent, grants).await.map_err(refused)
    }

    async fn resolve_both(&self, agent: &Agent, name: &HostName) -> Result<Vec<IpAddr>, Refusal> {
        let _ticket = self.admit(agent)?;
        let (v4, v6) =
            tokio::join!(self.look_up(agent, name, Family::V4), self.look_up(agent, name, Family::V6));
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok([v4.addresses(), v6.addresses()].concat()),
            // One family is enough; but an address that is denied spoils its whole name.
            (Ok(one), Err(other)) | (Err(other), Ok(one)) => {
                let is_enough = other.denial.reason == Reason::UpstreamFailed && !one.addresses().is_empty();
                if is_enough { Ok(one.addresses()) } else { Err(other) }
            }
            (Err(refusal), Err(_)) => Err(refusal),
        }
    }

    pub(super) fn lookups(&self, agent: &Agent) -> Arc<Lookups> {
        let new = || {
            let (grid, watch) = (Arc::clone(&self.grid), Arc::clone(&self.watch));
            Lookups::new(agent, self.hearth.clone(), grid, watch)
        };
        self.roster.open(agent.id(), agent.name(), new)
    }
}

impl Resolve for Gate {
    /// Empty where the name has no address. Makes no record: whoever asks judges the flow, and
    /// records that.
    fn resolve<'a>(
        &'a self,
        agent: &'a Agent,
        name: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Denial>> + Send + 'a>> {
        Box::pin(async move { self.resolve_both(agent, name).await.map_err(|refusal| refusal.denial) })
    }

    fn connected(&self, agent: &Agent, name: &HostName) {
        self.with_ledger(agent, |ledger, now| ledger.connected(name, now));
    }
}

/// What becomes of a message.
pub(super) enum Judgement {
    Silence,
    Reply(Vec<u8>),
    LookUp(Lookup),
}

/// A reply, and what it says again to who asks the same soon.
pub(super) struct Answered {
    pub reply: Vec<u8>,
    pub kept: Option<Kept>,
}

/// A question whose name may be looked up.
pub(super) struct Lookup {
    question: Question,
    wanted: Wanted,
    /// None of one that somebody is asked about.
    ticket: Option<OwnedSemaphorePermit>,
}

enum Ruling {
    Answer(Answer),
    LookUp(Wanted, Option<OwnedSemaphorePermit>),
}

/// What of a name is looked up.
#[derive(Clone, Copy)]
enum Wanted {
    Addresses(Family),
    Records(RecordType),
}

/// What was found, with every address granted.
struct Granted {
    found: Found,
    by: Allowed,
}

impl Granted {
    fn addresses(&self) -> Vec<IpAddr> {
        match &self.found {
            Found::Addresses { addresses, .. } => addresses.clone(),
            Found::NoData { .. } | Found::NoName { .. } => Vec::new(),
        }
    }
}

impl From<Found> for Answer {
    fn from(found: Found) -> Self {
        match found {
            Found::Addresses { addresses, ttl } => Self::Addresses { addresses, ttl },
            Found::NoData { ttl } => Self::NoData { ttl },
            Found::NoName { ttl } => Self::NoName { ttl },
        }
    }
}

/// How much longer than its DNS record a grant lives, so that a flow which starts at the record's
/// last moment gets through.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long every rule of `leave` counts: whoever asks again then is told what is open by then.
pub(super) fn rest(agent: &Agent, leave: &Leave, now: Moment) -> Option<Duration> {
    let ends = leave.openings().iter().filter_map(|opening| agent.end_of(opening.rule));
    Some(ends.min()?.since(now))
}

fn unusual(number: u16) -> Refusal {
    Refusal::because(Reason::QueryTypeNotAllowed, format!("type {number}"))
}

/// The types beside addresses that may be asked for.
pub(super) fn record_types(leave: &Leave) -> Vec<RecordType> {
    RecordType::ALL.iter().copied().filter(|kind| leave.has_type(kind.number())).collect()
}

pub(super) fn refused_by_ledger(
    reason: Reason,
    detail: Option<&str>,
    wildcard: &Wildcard,
    alerts: &[Alert],
) -> Refusal {
    let evidence = || alerts.first().map(|alert| format!("{}: {}", alert.flag, alert.evidence));
    let detail = detail.map(str::to_owned).or_else(evidence);
    Refusal { detail, ..Denial::by(reason, &wildcard.source).into() }
}

fn allowed_by(policy: &Policy, leave: &Leave) -> Allowed {
    if let Some(Denial { reason, rule }) = leave.observed() {
        return Allowed { rule: rule.clone(), observed: Some(*reason) };
    }
    let opening = leave.openings().first().map(|opening| opening.rule);
    let rule = policy.allow().iter().find(|held| Some(held.id) == opening);
    Allowed { rule: rule.map(|held| held.source.clone()), observed: None }
}

fn first_address(found: &Found) -> Option<IpAddr> {
    match found {
        Found::Addresses { addresses, .. } => addresses.first().copied(),
        Found::NoData { .. } | Found::NoName { .. } => None,
    }
}
