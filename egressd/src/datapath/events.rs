//! What the kernel programs judged, on its way to the audit log.

use super::{
    canary::CANARY,
    clock::now,
    destroy::Doomed,
    detail,
    fence::Fence,
    name_events,
    named::FlowSocket,
    permits::Permits,
    processes::process,
    tables::{address, command},
};
use crate::{
    audit::{Event, Gate, Recorder, Spoken, Verdict},
    policy::{Agent, AgentId, AgentName, Denial, Destination, Flow, Protocol, Reason, Resolve, Source},
};
use aya::maps::{MapData, RingBuf};
use egress_common::{CutEvent, DropReason, Hook, NameEvent};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{MissedTickBehavior, interval},
};

/// Finds the agents that events name by number.
pub trait Names: Send + Sync {
    fn agent(&self, id: AgentId) -> Option<Arc<Agent>>;
}

/// Who hears of what the programs judged.
pub struct Reporter {
    pub agents: Arc<dyn Names>,
    pub recorder: Recorder,
    /// Hears of the names that flows were permitted by.
    pub resolve: Arc<dyn Resolve>,
    pub doomed: Arc<Doomed>,
    pub fence: Arc<Fence>,
}

/// Hands every event of the ring buffer to `reporter`, until it is dropped.
///
/// # Errors
/// The ring buffer cannot be polled.
pub async fn report(ring: RingBuf<MapData>, reporter: Reporter) -> io::Result<()> {
    // SAFETY: the ring buffer owns its descriptor, and keeps it for as long as the AsyncFd keeps
    // the ring buffer.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? };
    let mut permits = Permits::default();
    let mut rest = interval(REST);
    rest.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut guard = tokio::select! {
            guard = ring.readable_mut() => guard?,
            _ = rest.tick() => {
                reporter.tell_rest(&mut permits);
                continue;
            }
        };
        let ring = guard.get_inner_mut();
        let mut taken = 0;
        while taken < BATCH
            && let Some(item) = ring.next()
        {
            taken += 1;
            reporter.tell(&item, &mut permits);
        }
        if taken < BATCH {
            guard.clear_ready();
        } else {
            // A flood of denials must not keep this thread from whoever else waits for it.
            tokio::task::yield_now().await;
        }
    }
}

impl Reporter {
    fn tell(&self, item: &[u8], permits: &mut Permits) {
        // What the canary is denied is no agent's doing.
        let Some(raw) = read::<egress_common::Event>(item).filter(|raw| raw.agent != CANARY.0) else {
            return;
        };
        let agent = self.agents.agent(AgentId(raw.agent));
        match read::<NameEvent>(item) {
            Some(raw) => self.tell_name(agent.as_deref(), &raw, permits),
            None => {
                if let Some(cut) = read::<CutEvent>(item) {
                    self.doomed.add(AgentId(raw.agent), socket_of(&cut));
                }
                self.recorder.record(event(agent.as_deref(), &raw));
            }
        }
    }

    fn tell_name(&self, agent: Option<&Agent>, raw: &NameEvent, permits: &mut Permits) {
        if let (Some(name), Some(agent)) = (name_events::permitted(raw), agent) {
            self.resolve.connected(agent, &name);
            permits.note(agent.id(), name, address(raw.event.address), raw.event.port);
        }
        if let (Some(socket), Some(agent)) = (name_events::hanging(raw), agent) {
            self.doomed.add(agent.id(), socket);
        }
        self.recorder.record(name_events::event(agent, raw, now()));
    }

    /// Tells of flows that the programs counted and did not report, for none came after them.
    fn tell_rest(&self, permits: &mut Permits) {
        for (agent, permit, flows) in permits.rest(|permit| self.fence.take_unreported(permit)) {
            if let Some(agent) = self.agents.agent(agent) {
                self.recorder.record(name_events::rest(&agent, &permit, flows));
            }
        }
    }
}

/// How often flows are asked for that were counted and not reported.
const REST: Duration = Duration::from_secs(1);

/// Events that are taken before others have their turn.
const BATCH: usize = 64;

/// The event in a ring buffer item, by its length; None if it holds another one. Those of names begin as
/// all others do, and are longer.
pub(super) fn read<T: aya::Pod>(item: &[u8]) -> Option<T> {
    if item.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough octets, the type is plain old data, and the read is unaligned.
    Some(unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) })
}

/// The socket of a flow that is cut.
fn socket_of(cut: &CutEvent) -> FlowSocket {
    FlowSocket {
        source: SocketAddr::new(address(cut.source), cut.source_port),
        destination: SocketAddr::new(address(cut.event.address), cut.event.port),
        cookie: cut.cookie,
    }
}

/// `agent` is None for a cgroup below ours that no agent has: its daemon forgot it, or never knew.
pub(super) fn event(agent: Option<&Agent>, raw: &egress_common::Event) -> Event {
    let denied = DropReason::from_code(raw.reason).map_or(Reason::PacketNotAllowed, reason);
    let is_observed = raw.observed != 0;
    let place = place(raw);
    let wire = place.and_then(|(wire, _)| wire);
    let name = wire.zip(agent).and_then(|(wire, agent)| agent.name_granted_at(wire));
    let denial = Denial { reason: denied, rule: agent.and_then(|agent| source_of(agent, raw.rule)) };
    let port = place.and_then(|(_, port)| port);
    let denial = match (agent, wire, spoken(raw)) {
        (Some(agent), Some(wire), Spoken::Of(protocol)) => why(agent, denial, wire, port, protocol),
        (Some(_) | None, _, _) => denial,
    };
    Event {
        agent: agent.map_or_else(AgentName::unknown, |agent| agent.name().clone()),
        verdict: if is_observed { Verdict::Allow } else { Verdict::Deny },
        gate: Gate::Address,
        path: None,
        process: (raw.pid != 0).then(|| process(raw.pid, command(raw.command))),
        destination: name.map(Destination::Name).or(wire.map(Destination::Address)),
        address: wire,
        port,
        protocol: spoken(raw),
        reason: (!is_observed).then_some(denial.reason),
        observed: is_observed.then_some(denial.reason),
        rule: denial.rule,
        detail: detail::of(raw),
        count: 1,
        revision: None,
    }
}

/// Where the rule of that number is written; None of 0. Also of one that was lent, or whose term is over.
fn source_of(agent: &Agent, number: u32) -> Option<Source> {
    let policy = agent.whole_policy();
    let mut rules = policy.deny().iter().chain(policy.allow());
    rules.find(|rule| rule.id.0 == number && number != 0).map(|rule| rule.source.clone())
}

/// What the policy has to say to a denial of the programs, which find no grant and look no further.
fn why(agent: &Agent, own: Denial, wire: IpAddr, port: Option<u16>, protocol: Protocol) -> Denial {
    let destination = Destination::Address(wire);
    let flow =
        Flow { destination: destination.clone(), port: port.unwrap_or(0), protocol, address: Some(wire) };
    match agent.decide(&flow, now()) {
        Err(denial) if own.reason == Reason::AddressNotGranted && denial.reason == Reason::DeniedByRule => {
            denial
        }
        // To somewhere that people are asked about: what the kernel denies can't wait, but be told.
        Ok(_) | Err(_) => agent.or_asked(own, &destination, port, Some(protocol)),
    }
}

/// Address and port on the wire; None where those fields hold something else.
fn place(raw: &egress_common::Event) -> Option<(Option<IpAddr>, Option<u16>)> {
    let is_ip = match Hook::from_code(raw.hook) {
        Some(Hook::SetSocketOption | Hook::Device | Hook::IoUring | Hook::Bpf) => false,
        Some(Hook::Connect | Hook::SendMessage) => raw.family != AF_UNIX,
        // Of a frame that is no IP, the port is its EtherType.
        Some(Hook::Frame) => raw.family != 0,
        Some(Hook::SocketCreate | Hook::Egress | Hook::Ingress | Hook::ServerName) | None => true,
    };
    let wire = (raw.address != [0; 16]).then(|| address(raw.address));
    is_ip.then_some((wire, (raw.port != 0).then_some(raw.port)))
}

fn spoken(raw: &egress_common::Event) -> Spoken {
    match (Hook::from_code(raw.hook), raw.family, raw.protocol, raw.port) {
        (Some(Hook::Device | Hook::IoUring | Hook::Bpf), ..) => Spoken::None,
        (_, family, ..) if !matches!(family, 0 | AF_INET | AF_INET6) => Spoken::Family(family),
        (_, _, egress_common::TCP, port) if port != 0 => Spoken::Of(Protocol::Tcp),
        (_, _, egress_common::UDP, port) if port != 0 => Spoken::Of(Protocol::Udp),
        (_, family, 0, _) => Spoken::Family(family),
        (_, _, number, _) => Spoken::Ip(number),
    }
}

pub(super) fn reason(denied: DropReason) -> Reason {
    match denied {
        DropReason::AgentUnknown => Reason::AgentUnknown,
        DropReason::AddressNotGranted => Reason::AddressNotGranted,
        DropReason::GrantExpired => Reason::GrantExpired,
        DropReason::DeniedByRule => Reason::DeniedByRule,
        DropReason::SocketTypeNotAllowed => Reason::SocketTypeNotAllowed,
        DropReason::PacketNotAllowed => Reason::PacketNotAllowed,
        DropReason::InboundNotAllowed => Reason::InboundNotAllowed,
        DropReason::QuotaExceeded => Reason::QuotaExceeded,
        DropReason::RuleRemoved => Reason::RuleRemoved,
        DropReason::SourceForged => Reason::SourceForged,
        DropReason::AddressSpecial => Reason::AddressSpecialPurpose,
        DropReason::BudgetSpent => Reason::BudgetSpent,
        DropReason::RateExceeded => Reason::RateExceeded,
        DropReason::RuleExpired => Reason::RuleExpired,
        DropReason::DeviceNotAllowed => Reason::DeviceNotAllowed,
        DropReason::SystemCallNotAllowed => Reason::SystemCallNotAllowed,
        DropReason::UnixSocketNotAllowed => Reason::UnixSocketNotAllowed,
        DropReason::NotTls => Reason::NotTls,
        DropReason::HelloMalformed => Reason::HelloMalformed,
        DropReason::HelloUnreadable => Reason::HelloUnreadable,
        DropReason::ServerNameMissing => Reason::ServerNameMissing,
        DropReason::NameInvalid => Reason::NameInvalid,
        DropReason::ServerNameNotGranted => Reason::ServerNameNotGranted,
        DropReason::EchNotAllowed => Reason::EchNotAllowed,
        DropReason::ServerNameChanged => Reason::ServerNameChanged,
        DropReason::HelloSkipped => Reason::HelloSkipped,
    }
}

// include/linux/socket.h.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Budget, Loan, NameTerms, Operator, Policy, Rule, RuleId, Subject, Term, TlsTerms};
    use egress_common::v4_mapped;

    #[test]
    fn a_denial_by_a_rule_names_it_also_where_no_rule_allows_the_network() {
        let policy = Policy::new(Vec::new(), vec![rule(9, "192.0.2.0/24")]);
        let agent = agent(policy);
        let denied = |address, reason| event(Some(&agent), &raw(address, reason, 0));
        let by_rule = denied([192, 0, 2, 7], DropReason::AddressNotGranted);
        assert_eq!(
            (by_rule.reason, by_rule.rule.map(|rule| rule.line)),
            (Some(Reason::DeniedByRule), Some(9))
        );
        let elsewhere = denied([198, 51, 100, 7], DropReason::AddressNotGranted);
        assert_eq!((elsewhere.reason, elsewhere.rule), (Some(Reason::AddressNotGranted), None));
        let forged = denied([192, 0, 2, 7], DropReason::SourceForged);
        assert_eq!((forged.reason, forged.rule), (Some(Reason::SourceForged), None));
    }

    #[test]
    fn a_denial_by_what_was_lent_names_the_grant() {
        let agent = agent(Policy::default());
        let lender = Operator { uid: 0, login_uid: None, pid: 1, command: String::new() };
        let rule = Rule { source: Loan::source(7), ..rule(1, "192.0.2.7/32") };
        let since = "2026-11-22T10:15:14Z".parse().expect("a time");
        let loan = agent.lend(Loan { number: 7, rule, lender, since }).expect("room");
        let denied = event(Some(&agent), &raw([192, 0, 2, 7], DropReason::BudgetSpent, loan.rule.id.0));
        assert_eq!(denied.reason, Some(Reason::BudgetSpent));
        assert_eq!(denied.rule.expect("named").to_string(), "grant:7");
    }

    fn agent(policy: Policy) -> Agent {
        Agent::new(AgentId(7), AgentName::parse("told").expect("name"), Arc::new(policy))
    }

    fn rule(line: u32, network: &str) -> Rule {
        Rule {
            id: RuleId(line),
            source: crate::policy::Source { file: "test.yaml".into(), line },
            subject: Subject::Network(network.parse().expect("a network")),
            ports: vec![80],
            protocol: Some(Protocol::Tcp),
            private: false,
            reason: None,
            names: NameTerms::default(),
            tls: TlsTerms::default(),
            term: Term::default(),
            budget: Budget::default(),
            mode: Default::default(),
            risk: None,
        }
    }

    fn raw(address: [u8; 4], reason: DropReason, rule: u32) -> egress_common::Event {
        egress_common::Event {
            time: 0,
            agent: 7,
            pid: 0,
            reason: reason as u32,
            rule,
            port: 80,
            protocol: egress_common::TCP,
            hook: Hook::Connect as u8,
            family: AF_INET,
            observed: 0,
            address: v4_mapped(address),
            command: [0; 16],
        }
    }
}
