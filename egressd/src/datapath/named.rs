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
    map: Option<HashMap<MapData, NamedFlowKey, NamedFlow>>,
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
        let map = object.take_map(MAP).map(HashMap::try_from).transpose();
        Ok(Self { map: map.map_err(|error| EbpfError::Map { map: MAP, error: chain(&error) })? })
    }

    /// Removes the flows of `agent` that its policy denies by their names, and returns them: from its
    /// next segment on, such a flow is denied by the programs.
    pub fn cut_denied(&mut self, agent: &Agent, now: Moment) -> Vec<CutFlow> {
        let Some(map) = &mut self.map else { return Vec::new() };
        let flows = map.iter().flatten().filter(|(key, _)| key.agent == agent.id().0);
        let denied: Vec<_> =
            flows.filter_map(|(key, flow)| Some((key, denied(agent, &key, &flow, now)?))).collect();
        for (key, _) in &denied {
            // One that is gone has ended by itself.
            let _ = map.remove(key);
        }
        denied.into_iter().filter_map(|(_, cut)| cut).collect()
    }

    /// Removes every flow of an agent that is gone.
    pub fn forget(&mut self, agent: AgentId) {
        let Some(map) = &mut self.map else { return };
        for key in map.keys().flatten().filter(|key| key.agent == agent.0).collect::<Vec<_>>() {
            let _ = map.remove(&key);
        }
    }
}

const MAP: &str = "NAMED_FLOWS";

/// What the policy says against a flow; None where it says nothing. A name that cannot be read, which
/// the programs never write, goes without a word.
fn denied(agent: &Agent, key: &NamedFlowKey, flow: &NamedFlow, now: Moment) -> Option<Option<CutFlow>> {
    let octets = usize::try_from(flow.length).ok().and_then(|length| flow.name.get(..length));
    let Some(name) = octets.and_then(|octets| HostName::from_ascii(octets).ok()) else { return Some(None) };
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
    let denial = agent.still_allows(&judged, RuleId(flow.rule), now).err()?;
    Some(Some(CutFlow { name, socket, denial }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AgentName, NameTerms, Pattern, Policy, Reason, Rule, Source, Subject, TlsTerms};
    use egress_common::v4_mapped;
    use std::sync::Arc;

    #[test]
    fn a_flow_stays_while_a_rule_allows_its_name_though_its_grant_expired() {
        assert_eq!(judged("api.test", &["api.test"], &[]), None);
        assert_eq!(judged("api.test", &["*.test"], &[]), None);
    }

    #[test]
    fn a_flow_is_cut_by_its_name_when_its_rule_is_gone_or_a_deny_rule_came() {
        let reason = |cut: Option<Option<CutFlow>>| cut.flatten().map(|cut| cut.denial.reason);
        assert_eq!(reason(judged("api.test", &["other.test"], &[])), Some(Reason::HostNotAllowed));
        assert_eq!(reason(judged("api.test", &["*.test"], &["api.test"])), Some(Reason::DeniedByRule));
    }

    #[test]
    fn a_flow_whose_name_cannot_be_read_is_cut() {
        assert_eq!(judged("", &["*.test"], &[]), Some(None));
    }

    fn judged(name: &str, allow: &[&str], deny: &[&str]) -> Option<Option<CutFlow>> {
        let rules = |patterns: &[&str]| patterns.iter().map(|pattern| rule(pattern)).collect();
        let policy = Policy::new(rules(allow), rules(deny));
        let agent = Agent::new(AgentId(7), AgentName::parse("named").expect("name"), Arc::new(policy));
        let key = NamedFlowKey {
            agent: 7,
            source_port: 40_000,
            port: 443,
            source: v4_mapped([192, 0, 2, 1]),
            address: v4_mapped([192, 0, 2, 7]),
        };
        let mut flow = NamedFlow { rule: 1, length: 0, cookie: 5, name: [0; 256] };
        flow.length = u32::try_from(name.len()).expect("short");
        flow.name[..name.len()].copy_from_slice(name.as_bytes());
        denied(&agent, &key, &flow, Moment(1))
    }

    fn rule(pattern: &str) -> Rule {
        Rule {
            id: RuleId(1),
            source: Source { file: "test.yaml".into(), line: 1 },
            subject: Subject::Host(Pattern::parse(pattern).expect("a pattern")),
            ports: vec![443],
            protocol: Some(Protocol::Tls),
            private: false,
            reason: None,
            names: NameTerms::default(),
            tls: TlsTerms::default(),
        }
    }
}
