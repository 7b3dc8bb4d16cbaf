//! Flows that named their server to the kernel programs, and are open.

use super::{
    ebpf::{EbpfError, chain},
    tables::address,
};
use crate::policy::{Agent, AgentId, Denial, Destination, Flow, HostName, Moment, Protocol, RuleId};
use aya::maps::{HashMap, MapData};
use egress_common::{NamedFlow, NamedFlowKey};
use std::net::SocketAddr;

/// The map of them, which the programs fill and clear. No more of one agent than it may have sockets.
#[derive(Debug)]
pub struct NamedFlows {
    map: HashMap<MapData, NamedFlowKey, NamedFlow>,
}

/// A flow that its policy no longer allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutFlow {
    pub name: HostName,
    pub socket: FlowSocket,
    pub denial: Denial,
}

/// The agent's own end of a TCP flow, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowSocket {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Of this socket and no other, whoever has its ports next (socket(7), SO_COOKIE).
    pub cookie: u64,
}

impl NamedFlows {
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self, EbpfError> {
        let map = object.take_map(MAP).ok_or(EbpfError::Missing(MAP))?;
        let map =
            HashMap::try_from(map).map_err(|error| EbpfError::Map { map: MAP, error: chain(&error) })?;
        Ok(Self { map })
    }

    /// Removes the flows of `agent` that its policy denies by their names, and returns them: from its
    /// next segment on, such a flow is denied by the programs. The others go on by the rule that allows
    /// them by now.
    pub fn cut_denied(&mut self, agent: &Agent, now: Moment) -> Vec<CutFlow> {
        let own = self.map.iter().flatten().filter(|(key, _)| key.agent == agent.id().0);
        let judged: Vec<_> = own.map(|(key, flow)| (key, judge(agent, &key, &flow, now))).collect();
        let mut cut = Vec::new();
        for (key, judgement) in judged {
            // One that is not there any more has ended by itself.
            let _ = match judgement {
                Judgement::Stays => Ok(()),
                Judgement::StaysBy(flow) => self.map.insert(key, flow, EXISTS),
                Judgement::Unreadable => self.map.remove(&key),
                Judgement::Denied(denied) => {
                    cut.push(denied);
                    self.map.remove(&key)
                }
            };
        }
        cut
    }

    /// Removes every flow of an agent that is gone.
    pub fn forget(&mut self, agent: AgentId) {
        for key in self.map.keys().flatten().filter(|key| key.agent == agent.0).collect::<Vec<_>>() {
            let _ = self.map.remove(&key);
        }
    }
}

const MAP: &str = "NAMED_FLOWS";

/// include/uapi/linux/bpf.h, BPF_EXIST.
const EXISTS: u64 = 2;

/// What the policy says of a flow.
#[derive(Debug)]
enum Judgement {
    Stays,
    /// By another rule.
    StaysBy(NamedFlow),
    Denied(CutFlow),
    /// The programs never write such a name.
    Unreadable,
}

fn judge(agent: &Agent, key: &NamedFlowKey, flow: &NamedFlow, now: Moment) -> Judgement {
    let octets = usize::try_from(flow.length).ok().and_then(|length| flow.name.get(..length));
    let Some(name) = octets.and_then(|octets| HostName::from_ascii(octets).ok()) else {
        return Judgement::Unreadable;
    };
    let socket = FlowSocket {
        source: SocketAddr::new(address(key.source), key.source_port),
        destination: SocketAddr::new(address(key.address), key.port),
        cookie: flow.cookie,
    };
    let judged = Flow {
        destination: Destination::Name(name.clone()),
        port: key.port,
        protocol: Protocol::Tls,
        address: Some(socket.destination.ip()),
    };
    if let Err(denial) = agent.still_allows(&judged, RuleId(flow.rule), now) {
        return Judgement::Denied(CutFlow { name, socket, denial });
    }
    match agent.policy().successor(&name, key.port, Protocol::Tls, RuleId(flow.rule)) {
        Some(rule) if rule.0 != flow.rule => Judgement::StaysBy(NamedFlow { rule: rule.0, ..*flow }),
        Some(_) | None => Judgement::Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AgentName, NameTerms, Pattern, Policy, Reason, Rule, Source, Subject, TlsTerms};
    use egress_common::v4_mapped;
    use std::sync::Arc;

    #[test]
    fn a_flow_stays_while_a_rule_allows_its_name_though_its_grant_expired() {
        assert!(matches!(judged("api.test", 1, &["api.test"], &[]), Judgement::Stays));
        let by_another = judged("api.test", 5, &["other.test", "*.test"], &[]);
        assert!(matches!(by_another, Judgement::StaysBy(NamedFlow { rule: 2, .. })), "{by_another:?}");
    }

    #[test]
    fn a_flow_is_cut_by_its_name_when_its_rule_is_gone_or_a_deny_rule_came() {
        let reason = |judgement| match judgement {
            Judgement::Denied(cut) => Some(cut.denial.reason),
            Judgement::Stays | Judgement::StaysBy(_) | Judgement::Unreadable => None,
        };
        assert_eq!(reason(judged("api.test", 1, &["other.test"], &[])), Some(Reason::HostNotAllowed));
        let denied = judged("api.test", 1, &["*.test"], &["api.test"]);
        assert_eq!(reason(denied), Some(Reason::DeniedByRule));
    }

    #[test]
    fn a_flow_whose_name_cannot_be_read_is_cut() {
        assert!(matches!(judged("", 1, &["*.test"], &[]), Judgement::Unreadable));
    }

    fn judged(name: &str, by: u32, allow: &[&str], deny: &[&str]) -> Judgement {
        let rules = |patterns: &[&str]| (1..).zip(patterns).map(|(id, pattern)| rule(id, pattern)).collect();
        let policy = Policy::new(rules(allow), rules(deny));
        let agent = Agent::new(AgentId(7), AgentName::parse("named").expect("name"), Arc::new(policy));
        let key = NamedFlowKey {
            agent: 7,
            source_port: 40_000,
            port: 443,
            source: v4_mapped([192, 0, 2, 1]),
            address: v4_mapped([192, 0, 2, 7]),
        };
        let mut flow = NamedFlow { rule: by, length: 0, cookie: 5, name: [0; 256] };
        flow.length = u32::try_from(name.len()).expect("short");
        flow.name[..name.len()].copy_from_slice(name.as_bytes());
        judge(&agent, &key, &flow, Moment(1))
    }

    fn rule(id: u32, pattern: &str) -> Rule {
        Rule {
            id: RuleId(id),
            source: Source { file: "test.yaml".into(), line: 1 },
            subject: Subject::Host(Pattern::parse(pattern).expect("a pattern")),
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
}
