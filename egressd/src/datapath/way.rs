//! Which way granted flows take: straight to their addresses, past the programs that read server names,
//! or through the proxy. Pure.

use super::leave::Direct;
use crate::policy::{GateChoice, Grant, Mode, Policy, Protocol, Rule, Subject};
use egress_common::{Gate, NameValue, TCP, UDP};

/// What decides which way the flows of one agent take.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    pub policy: &'a Policy,
    /// The agent has a network namespace of its own, whoever made it.
    pub is_sealed: bool,
    /// It was started with capabilities by which it makes frames beside its sockets.
    pub makes_frames: bool,
    pub kernel: KernelReader,
}

/// Whether programs read server names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelReader {
    /// This kernel does not run them.
    Missing,
    /// They are loaded, and not proven: no flow starts by them.
    Unproven,
    Proven,
}

impl Ways<'_> {
    /// The way of flows by `grant` alone. What no rule stands behind goes to the proxy, which denies it.
    pub fn of(&self, grant: &Grant) -> Gate {
        match grant.protocol {
            Protocol::Tcp | Protocol::Udp => Gate::Direct,
            Protocol::Http | Protocol::Quic => Gate::Proxy,
            Protocol::Tls => match self.rule_of(grant) {
                Some(rule) if self.kernel == KernelReader::Proven => self.of_tls(rule),
                Some(_) | None => Gate::Proxy,
            },
        }
    }

    /// What the programs are told of a flow by the name of `grant`.
    pub fn name_flags(&self, grant: &Grant) -> u32 {
        let Some(rule) = self.rule_of(grant) else { return NameValue::REFUSES_ECH | NameValue::NEEDS_PROXY };
        let ech = if rule.tls.refuses_ech(&grant.name) { NameValue::REFUSES_ECH } else { 0 };
        let proxy = if rule.tls.needs_proxy() { NameValue::NEEDS_PROXY } else { 0 };
        ech | proxy
    }

    /// Whether flows by `grant` go straight to their address, or went there while the programs were
    /// proven: such flows are open still.
    pub fn is_direct(&self, grant: &Grant) -> bool {
        match grant.protocol {
            Protocol::Tcp | Protocol::Udp => true,
            Protocol::Http | Protocol::Quic => false,
            Protocol::Tls => self.rule_of(grant).is_some_and(|rule| self.of_tls(rule) == Gate::Kernel),
        }
    }

    /// What nft must let pass straight to the addresses of `grants`.
    pub fn direct(&self, grants: &[Grant]) -> Vec<Direct> {
        let transport = |protocol| match protocol {
            Protocol::Tls | Protocol::Http | Protocol::Tcp => TCP,
            Protocol::Udp | Protocol::Quic => UDP,
        };
        let direct = grants.iter().filter(|grant| self.is_direct(grant));
        direct.map(|grant| (transport(grant.protocol), grant.address, grant.port)).collect()
    }

    /// Whether the policy lets flows go straight to their addresses.
    pub fn has_direct(&self) -> bool {
        let is_direct = |rule: &Rule| match (&rule.subject, rule.protocol) {
            (Subject::Network(_), _) | (Subject::Host(_), Some(Protocol::Tcp | Protocol::Udp)) => true,
            (Subject::Host(_), Some(Protocol::Tls)) => self.of_tls(rule) == Gate::Kernel,
            (Subject::Host(_), Some(Protocol::Http | Protocol::Quic) | None) => false,
        };
        self.policy.mode() == Mode::Observe || self.policy.allow().iter().any(is_direct)
    }

    /// The way of TLS by `rule`, where the programs are proven.
    fn of_tls(&self, rule: &Rule) -> Gate {
        // Who makes raw frames has no need of a socket whose bytes the programs read.
        match rule.tls.gate {
            // The programs read a name to pass or deny its flow, and know nothing in between.
            _ if self.policy.observes() => Gate::Proxy,
            _ if self.kernel == KernelReader::Missing || self.makes_frames => Gate::Proxy,
            _ if rule.tls.needs_proxy() => Gate::Proxy,
            GateChoice::Proxy => Gate::Proxy,
            GateChoice::Auto if self.is_sealed => Gate::Proxy,
            GateChoice::Auto | GateChoice::Kernel => Gate::Kernel,
        }
    }

    fn rule_of(&self, grant: &Grant) -> Option<&Rule> {
        self.policy.allow().iter().find(|rule| rule.id == grant.rule)
    }
}

/// The stricter of two ways. Where two names share an address and port, both take it.
pub fn stricter(left: Gate, right: Gate) -> Gate {
    match (left, right) {
        (Gate::Proxy, _) | (_, Gate::Proxy) => Gate::Proxy,
        (Gate::Kernel, _) | (_, Gate::Kernel) => Gate::Kernel,
        (Gate::Direct, Gate::Direct) => Gate::Direct,
    }
}

/// The way behind the kernel's number for it. One that nobody knows is not passed straight.
pub fn read(number: u16) -> Gate {
    match number {
        number if number == Gate::Direct as u16 => Gate::Direct,
        number if number == Gate::Kernel as u16 => Gate::Kernel,
        _ => Gate::Proxy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, Moment, NameTerms, Pattern, RuleId, Source, TlsTerms};
    use GateChoice::{Auto, Kernel, Proxy};
    use std::sync::Arc;

    #[test]
    fn tls_is_read_by_the_kernel_where_sockets_reach_the_network_by_themselves() {
        goes(CGROUP, Protocol::Tls, Auto, Gate::Kernel);
        goes(CGROUP, Protocol::Tls, Kernel, Gate::Kernel);
        goes(CGROUP, Protocol::Tls, Proxy, Gate::Proxy);
    }

    #[test]
    fn tls_of_a_sealed_agent_is_read_by_the_kernel_only_where_its_rule_says_so() {
        goes(SEALED, Protocol::Tls, Auto, Gate::Proxy);
        goes(SEALED, Protocol::Tls, Kernel, Gate::Kernel);
        goes(SEALED, Protocol::Tls, Proxy, Gate::Proxy);
    }

    #[test]
    fn tls_of_an_agent_that_makes_frames_goes_through_the_proxy() {
        for choice in [Auto, Kernel, Proxy] {
            goes(At { makes_frames: true, ..SEALED }, Protocol::Tls, choice, Gate::Proxy);
        }
    }

    #[test]
    fn tls_goes_through_the_proxy_where_the_kernel_has_no_programs_for_it() {
        for (at, choice) in [(CGROUP, Auto), (CGROUP, Kernel), (SEALED, Kernel)] {
            goes(At { kernel: KernelReader::Missing, ..at }, Protocol::Tls, choice, Gate::Proxy);
        }
    }

    #[test]
    fn while_the_programs_are_not_proven_no_flow_starts_by_them_and_none_is_cut() {
        let policy = Policy::new(vec![rule(Protocol::Tls, Auto)], Vec::new());
        let ways =
            Ways { policy: &policy, is_sealed: false, makes_frames: false, kernel: KernelReader::Unproven };
        assert_eq!(ways.of(&grant(Protocol::Tls)), Gate::Proxy);
        assert!(ways.is_direct(&grant(Protocol::Tls)));
    }

    #[test]
    fn what_is_inspected_goes_through_the_proxy_and_no_flow_by_another_name_becomes_it() {
        for is_sealed in [false, true] {
            for choice in [Auto, Kernel, Proxy] {
                let mut rule = rule(Protocol::Tls, choice);
                rule.tls.inspection = Some(Arc::default());
                let policy = Policy::new(vec![rule], Vec::new());
                let ways =
                    Ways { policy: &policy, is_sealed, makes_frames: false, kernel: KernelReader::Proven };
                assert_eq!(ways.of(&grant(Protocol::Tls)), Gate::Proxy);
                assert_eq!(ways.name_flags(&grant(Protocol::Tls)), NameValue::NEEDS_PROXY);
                assert!(!ways.has_direct());
            }
        }
    }

    #[test]
    fn what_is_no_tls_goes_where_it_went() {
        for at in [CGROUP, SEALED] {
            for choice in [Auto, Kernel, Proxy] {
                goes(at, Protocol::Http, choice, Gate::Proxy);
                goes(at, Protocol::Quic, choice, Gate::Proxy);
                goes(at, Protocol::Tcp, choice, Gate::Direct);
                goes(at, Protocol::Udp, choice, Gate::Direct);
            }
        }
    }

    #[test]
    fn what_is_inspected_goes_through_the_proxy() {
        let mut inspected = rule(Protocol::Tls, Auto);
        inspected.tls.inspection = Some(Arc::default());
        let policy = Policy::new(vec![inspected], Vec::new());
        let ways =
            Ways { policy: &policy, is_sealed: false, makes_frames: false, kernel: KernelReader::Proven };
        assert_eq!(ways.of(&grant(Protocol::Tls)), Gate::Proxy);
        assert!(!ways.is_direct(&grant(Protocol::Tls)));
    }

    #[test]
    fn a_grant_whose_rule_is_gone_goes_through_the_proxy() {
        let policy = Policy::default();
        let ways =
            Ways { policy: &policy, is_sealed: false, makes_frames: false, kernel: KernelReader::Proven };
        assert_eq!(ways.of(&grant(Protocol::Tls)), Gate::Proxy);
        assert_eq!(ways.name_flags(&grant(Protocol::Tls)), NameValue::REFUSES_ECH | NameValue::NEEDS_PROXY);
    }

    #[test]
    fn names_that_share_an_address_take_the_stricter_way() {
        let all = [Gate::Direct, Gate::Kernel, Gate::Proxy];
        for (left, loose) in all.into_iter().enumerate() {
            for (right, strict) in all.into_iter().enumerate().skip(left) {
                assert_eq!(stricter(loose, strict), all[left.max(right)]);
                assert_eq!(stricter(strict, loose), all[left.max(right)]);
            }
        }
    }

    #[test]
    fn a_way_that_nobody_knows_is_the_proxy() {
        for (number, gate) in [(0, Gate::Direct), (1, Gate::Proxy), (2, Gate::Kernel), (3, Gate::Proxy)] {
            assert_eq!(read(number), gate);
        }
    }

    #[derive(Clone, Copy)]
    struct At {
        is_sealed: bool,
        kernel: KernelReader,
        makes_frames: bool,
    }

    const CGROUP: At = At { is_sealed: false, makes_frames: false, kernel: KernelReader::Proven };
    const SEALED: At = At { is_sealed: true, ..CGROUP };

    fn goes(at: At, protocol: Protocol, choice: GateChoice, way: Gate) {
        let policy = Policy::new(vec![rule(protocol, choice)], Vec::new());
        let ways = Ways {
            policy: &policy,
            is_sealed: at.is_sealed,
            makes_frames: at.makes_frames,
            kernel: at.kernel,
        };
        assert_eq!(ways.of(&grant(protocol)), way, "{protocol} {choice:?}");
        assert_eq!(ways.has_direct(), way != Gate::Proxy, "{protocol} {choice:?}");
        assert_eq!(ways.direct(&[grant(protocol)]).is_empty(), way == Gate::Proxy, "{protocol} {choice:?}");
    }

    fn rule(protocol: Protocol, gate: GateChoice) -> Rule {
        Rule {
            id: RuleId(7),
            source: Source { file: "test.yaml".into(), line: 1 },
            subject: Subject::Host(Pattern::Exact(name())),
            ports: vec![443],
            protocol: Some(protocol),
            private: false,
            reason: None,
            names: NameTerms::default(),
            tls: TlsTerms { gate, ..TlsTerms::default() },
            term: Default::default(),
            budget: Default::default(),
            mode: Default::default(),
            risk: None,
        }
    }

    fn grant(protocol: Protocol) -> Grant {
        let address = [192, 0, 2, 7].into();
        Grant { name: name(), address, port: 443, protocol, rule: RuleId(7), expires: Moment(1) }
    }

    fn name() -> HostName {
        HostName::parse("api.test").expect("a name")
    }
}
