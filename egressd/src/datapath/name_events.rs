//! What the kernel programs report of server names, as records have it.

use super::{
    events::reason,
    named::FlowSocket,
    permits::{Permit, Unreported},
    processes::process,
    tables::{address, command},
};
use crate::{
    audit::{Event, Gate, Path, Spoken, Verdict},
    policy::{
        Agent, AgentName, Denial, Destination, Flow, HostName, HostNameError, Moment, Protocol, Reason,
        Source,
    },
};
use egress_common::{DropReason, GateState, Hook, NameEvent};
use std::net::{IpAddr, SocketAddr};

/// The record of `raw`. A denial is the policy's own where it has one to give for that name.
pub fn event(agent: Option<&Agent>, raw: &NameEvent, now: Moment) -> Event {
    let wire = address(raw.event.address);
    let name = name(raw);
    let denial = denial(agent, raw, name.as_ref().and_then(|name| name.as_ref().ok()), wire, now);
    let destination = match &name {
        Some(Ok(name)) => Destination::Name(name.clone()),
        Some(Err(_)) | None => Destination::Address(wire),
    };
    Event {
        agent: agent.map_or_else(AgentName::unknown, |agent| agent.name().clone()),
        verdict: if denial.is_some() { Verdict::Deny } else { Verdict::Allow },
        gate: Gate::ServerName,
        path: Some(Path::Kernel),
        process: (raw.event.pid != 0).then(|| process(raw.event.pid, command(raw.event.command))),
        destination: Some(destination),
        address: Some(wire),
        port: Some(raw.event.port),
        protocol: Spoken::Of(Protocol::Tls),
        reason: denial.as_ref().map(|denial| denial.reason),
        observed: None,
        rule: match denial {
            Some(denial) => denial.rule,
            None => agent.and_then(|agent| source_of(agent, raw.event.rule)),
        },
        detail: detail(raw, name),
        count: u64::from(raw.flows.max(1)),
        revision: None,
    }
}

/// The record of flows that the programs counted after the last one that they reported.
pub fn rest(agent: &Agent, permit: &Permit, flows: Unreported) -> Event {
    Event {
        agent: agent.name().clone(),
        verdict: Verdict::Allow,
        gate: Gate::ServerName,
        path: Some(Path::Kernel),
        process: None,
        destination: Some(Destination::Name(permit.name.clone())),
        address: Some(permit.address),
        port: Some(permit.port),
        protocol: Spoken::Of(Protocol::Tls),
        reason: None,
        observed: None,
        rule: source_of(agent, flows.rule.0),
        detail: None,
        count: u64::from(flows.count),
        revision: None,
    }
}

/// The name that a flow was permitted by; None of a denial.
pub fn permitted(raw: &NameEvent) -> Option<HostName> {
    if raw.event.reason == ALLOWED { name(raw)?.ok() } else { None }
}

/// The socket that is to be ended, because its program would not hear of the denial: an alert was given
/// only for a ClientHello, and only in the call that sent it.
pub fn hanging(raw: &NameEvent) -> Option<FlowSocket> {
    let was_told = raw.event.hook == Hook::ServerName as u8
        && raw.state == GateState::New as u32
        && raw.event.reason != DropReason::NotTls as u32
        && raw.event.reason != DropReason::HelloSkipped as u32;
    if raw.event.reason == ALLOWED || raw.cookie == 0 || was_told {
        return None;
    }
    Some(FlowSocket {
        source: SocketAddr::new(address(raw.source), raw.source_port),
        destination: SocketAddr::new(address(raw.event.address), raw.event.port),
        cookie: raw.cookie,
    })
}

/// In place of a reason.
const ALLOWED: u32 = 0;

/// What was read of a name; None where nothing was.
fn name(raw: &NameEvent) -> Option<Result<HostName, HostNameError>> {
    let length = usize::try_from(raw.length).ok()?;
    let octets = raw.name.get(..length).filter(|octets| !octets.is_empty())?;
    Some(HostName::from_ascii(octets))
}

/// None of a flow that is allowed.
fn denial(
    agent: Option<&Agent>,
    raw: &NameEvent,
    name: Option<&HostName>,
    wire: IpAddr,
    now: Moment,
) -> Option<Denial> {
    if raw.event.reason == ALLOWED {
        return None;
    }
    let denied = DropReason::from_code(raw.event.reason);
    let rule = agent.and_then(|agent| source_of(agent, raw.event.rule));
    let own = Denial { reason: denied.map_or(Reason::PacketNotAllowed, reason), rule };
    let judged = agent.zip(name).map(|(agent, name)| {
        let destination = Destination::Name(name.clone());
        let flow = Flow { destination, port: raw.event.port, protocol: Protocol::Tls, address: Some(wire) };
        agent.decide(&flow, now)
    });
    Some(match (own.reason, judged) {
        // The programs know what is granted, and not why something is not.
        (Reason::ServerNameNotGranted | Reason::GrantExpired, Some(Err(denial))) => denial,
        (Reason::RuleRemoved, Some(Err(denial))) if denial.reason == Reason::DeniedByRule => denial,
        _ => own,
    })
}

fn source_of(agent: &Agent, rule: u32) -> Option<Source> {
    agent.policy().allow().iter().find(|held| held.id.0 == rule).map(|held| held.source.clone())
}

fn detail(raw: &NameEvent, name: Option<Result<HostName, HostNameError>>) -> Option<String> {
    match (DropReason::from_code(raw.event.reason), name) {
        (Some(DropReason::HelloUnreadable | DropReason::HelloSkipped), _) => {
            Some("the next flow to this address goes through the proxy".to_owned())
        }
        (_, Some(Err(error))) => Some(error.to_string()),
        (_, Some(Ok(_)) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AgentId, Grant, NameTerms, Pattern, Policy, Rule, RuleId, Subject, TlsTerms};
    use egress_common::v4_mapped;
    use std::sync::Arc;

    const NOW: Moment = Moment(100);

    #[test]
    fn a_permit_names_its_server_its_rule_and_how_many_flows_it_stands_for() {
        let event = event(Some(&agent()), &NameEvent { flows: 3, ..raw("api.test", ALLOWED) }, NOW);
        assert_eq!(
            (event.verdict, event.gate, event.path),
            (Verdict::Allow, Gate::ServerName, Some(Path::Kernel))
        );
        assert_eq!(event.destination, Some(Destination::Name(host("api.test"))));
        assert_eq!((event.address, event.port), (Some(SERVER.into()), Some(443)));
        assert_eq!((event.rule.map(|rule| rule.line), event.reason, event.count), (Some(1), None, 3));
        assert_eq!(permitted(&raw("api.test", ALLOWED)), Some(host("api.test")));
    }

    #[test]
    fn a_name_that_is_not_granted_is_denied_for_the_reason_that_the_policy_has() {
        let denied = |name| {
            let mut raw = raw(name, DropReason::ServerNameNotGranted as u32);
            raw.event.rule = 0;
            let event = event(Some(&agent()), &raw, NOW);
            assert_eq!(event.verdict, Verdict::Deny);
            (event.reason, event.rule.map(|rule| rule.line))
        };
        assert_eq!(denied("evil.test"), (Some(Reason::HostNotAllowed), None));
        assert_eq!(denied("gist.test"), (Some(Reason::DeniedByRule), Some(9)));
        assert_eq!(denied("late.test"), (Some(Reason::GrantExpired), Some(2)));
        assert_eq!(denied("elsewhere.test"), (Some(Reason::ServerNameNotGranted), Some(3)));
        // Granted since the programs looked.
        assert_eq!(denied("api.test"), (Some(Reason::ServerNameNotGranted), None));
    }

    #[test]
    fn what_was_read_of_a_hello_is_told_with_its_denial() {
        for (name, reason, destination) in [
            ("", DropReason::ServerNameMissing, Destination::Address(SERVER.into())),
            ("b\u{fc}cher.test", DropReason::NameInvalid, Destination::Address(SERVER.into())),
            ("api.test", DropReason::EchNotAllowed, Destination::Name(host("api.test"))),
        ] {
            let event = event(Some(&agent()), &raw(name, reason as u32), NOW);
            assert_eq!(event.reason, Some(super::reason(reason)));
            assert_eq!(event.destination, Some(destination));
            assert_eq!(event.detail.is_some(), reason == DropReason::NameInvalid);
        }
    }

    #[test]
    fn every_denial_that_no_alert_tells_ends_its_socket() {
        let state = |state, reason: DropReason| {
            let raw = NameEvent { state: state as u32, ..raw("api.test", reason as u32) };
            hanging(&raw).is_some()
        };
        assert!(!state(GateState::New, DropReason::ServerNameNotGranted));
        assert!(!state(GateState::New, DropReason::HelloUnreadable));
        assert!(state(GateState::New, DropReason::NotTls));
        assert!(state(GateState::New, DropReason::HelloSkipped));
        assert!(state(GateState::Retried, DropReason::ServerNameChanged));
        assert!(state(GateState::Open, DropReason::RuleRemoved));
        let at_egress = |cookie| {
            let mut raw = raw("api.test", DropReason::ServerNameNotGranted as u32);
            raw.event.hook = Hook::Egress as u8;
            hanging(&NameEvent { cookie, ..raw })
        };
        let socket = at_egress(5).expect("ended");
        assert_eq!((socket.cookie, socket.source.port(), socket.destination.port()), (5, 40_000, 443));
        assert_eq!(at_egress(0), None);
        assert_eq!(hanging(&raw("api.test", ALLOWED)), None);
    }

    const SERVER: [u8; 4] = [192, 0, 2, 7];

    fn agent() -> Agent {
        let allow = ["api.test", "late.test", "elsewhere.test", "gist.test"];
        let allow = (1..).zip(allow).map(|(line, name)| rule(line, name)).collect();
        let policy = Policy::new(allow, vec![rule(9, "gist.test")]);
        let agent = Agent::new(AgentId(7), AgentName::parse("named").expect("name"), Arc::new(policy));
        let grant = |name, rule, expires, last| Grant {
            name: host(name),
            address: [192, 0, 2, last].into(),
            port: 443,
            protocol: Protocol::Tls,
            rule: RuleId(rule),
            expires: Moment(expires),
        };
        let grants = [
            grant("api.test", 1, NOW.0 + 1, 7),
            grant("late.test", 2, NOW.0 - 1, 7),
            grant("elsewhere.test", 3, NOW.0 + 1, 8),
        ];
        agent.remember(&grants, Moment(0)).expect("remembered");
        agent
    }

    fn rule(line: u32, name: &str) -> Rule {
        Rule {
            id: RuleId(line),
            source: Source { file: "test.yaml".into(), line },
            subject: Subject::Host(Pattern::Exact(host(name))),
            ports: vec![443],
            protocol: Some(Protocol::Tls),
            private: false,
            reason: None,
            names: NameTerms::default(),
            tls: TlsTerms::default(),
            term: Default::default(),
            budget: Default::default(),
            mode: Default::default(),
            risk: None,
        }
    }

    fn raw(name: &str, reason: u32) -> NameEvent {
        let mut raw = NameEvent {
            event: egress_common::Event {
                time: 0,
                agent: 7,
                pid: 0,
                reason,
                rule: 1,
                port: 443,
                protocol: egress_common::TCP,
                hook: Hook::ServerName as u8,
                family: 2,
                observed: 0,
                address: v4_mapped(SERVER),
                command: [0; 16],
            },
            cookie: 5,
            source: v4_mapped([192, 0, 2, 1]),
            source_port: 40_000,
            zero: 0,
            flows: 1,
            length: u32::try_from(name.len()).expect("short"),
            state: GateState::New as u32,
            name: [0; 256],
        };
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw
    }

    fn host(name: &str) -> HostName {
        HostName::parse(name).expect("a name")
    }
}
