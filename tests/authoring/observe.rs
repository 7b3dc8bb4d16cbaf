//! What modes change of what is decided, and what they do not.

use crate::{
    policy,
    random::{flow, grants, section},
};
use egressd::policy::{Denial, Destination, Flow, Mode, Moment, Policy, Reason, special_purpose};
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_allowed_is_allowed_alike_by_a_policy_in_observe_mode(section in section(), flows in vec(flow(), 40)) {
        let policy = policy(&section);
        let observing = (*policy).clone().in_mode(Mode::Observe);
        for flow in &flows {
            let grants = grants(&policy, flow);
            if let Ok(permit) = policy.decide(flow, &grants, Moment(1)) {
                prop_assert_eq!(permit.observed(), None);
                prop_assert_eq!(observing.decide(flow, &grants, Moment(1)), Ok(permit));
            }
        }
    }

    #[test]
    fn what_is_denied_is_let_out_with_its_denial_but_for_special_addresses(
        section in section(), flows in vec(flow(), 40)
    ) {
        let policy = policy(&section);
        let observing = (*policy).clone().in_mode(Mode::Observe);
        for flow in &flows {
            let grants = grants(&policy, flow);
            let Err(denial) = policy.decide(flow, &grants, Moment(1)) else { continue };
            let judged = observing.decide(flow, &grants, Moment(1));
            if Mode::lifts(denial.reason) && !is_special(flow) {
                let permit = judged.unwrap();
                prop_assert_eq!(permit.observed(), Some(&denial));
                prop_assert_eq!(permit.source(), None);
            } else {
                prop_assert!(judged.is_err(), "{flow:?}");
            }
        }
    }

    #[test]
    fn rules_on_trial_change_nothing_of_what_is_enforced(section in section(), flows in vec(flow(), 40)) {
        let tried = policy(&on_trial(&section));
        let enforced = tried.enforced();
        prop_assert!(!enforced.observes());
        for flow in &flows {
            let grants = grants(&tried, flow);
            let strict = enforced.decide(flow, &grants, Moment(1));
            match (tried.decide(flow, &grants, Moment(1)), strict) {
                (Ok(permit), Ok(strict)) => prop_assert_eq!(permit, strict),
                (Ok(permit), Err(denial)) => prop_assert_eq!(permit.observed(), Some(&denial)),
                (Err(_), Err(_)) => {}
                (Err(denial), Ok(permit)) => prop_assert!(false, "{denial:?} {permit:?}"),
            }
        }
    }
}

#[test]
fn a_rule_on_trial_permits_with_the_denial_that_there_would_be_without_it() {
    let policy = policy(
        "rules: [{host: a.test}, {host: b.test, mode: observe}]\ndeny: [{host: a.test, mode: observe}]",
    );
    let would = |host: &str| judged(&policy, host).map(|denial| denial.map(|denial| denial.reason));
    assert_eq!(would("a.test"), Ok(Some(Reason::DeniedByRule)));
    assert_eq!(would("b.test"), Ok(Some(Reason::HostNotAllowed)));
    assert_eq!(would("c.test"), Err(Denial::because(Reason::HostNotAllowed)));
}

#[test]
fn a_resolver_is_reached_in_observe_mode_and_never_by_its_port() {
    let policy = policy("mode: observe\nrules: []");
    let denial = judged(&policy, "dns.google").unwrap().unwrap();
    assert_eq!(denial.reason, Reason::ResolverNotAllowed);
    let flow = Flow { port: 53, ..flow_to("1.1.1.1") };
    assert!(policy.decide(&flow, &Default::default(), Moment(1)).is_err());
    assert!(policy.decide(&Flow { port: 54, ..flow }, &Default::default(), Moment(1)).is_ok());
}

#[test]
fn an_agent_in_quarantine_is_not_let_out() {
    let policy = policy("mode: observe\nrules: []").exact_only();
    assert!(judged(&policy, "a.test").is_err() && policy.lookup(&host("a.test")).is_err());
}

#[test]
fn a_name_that_no_rule_opens_is_looked_up_in_observe_mode_without_a_rule_and_without_a_schedule() {
    let policy = policy("mode: observe\nrules: [{host: a.test}]\ndeny: [{host: b.test}]");
    let leave = policy.lookup(&host("b.test")).unwrap();
    assert_eq!(leave.observed().unwrap().reason, Reason::DeniedByRule);
    assert!(!leave.has_rule() && leave.wildcard().is_none() && !leave.private());
    let kept: Vec<String> = policy.exact_leaves().map(|leave| leave.name().to_string()).collect();
    assert_eq!(kept, ["a.test"]);
}

fn judged(policy: &Policy, host: &str) -> Result<Option<Denial>, Denial> {
    let permit = policy.decide(&flow_to(host), &Default::default(), Moment(1));
    permit.map(|permit| permit.observed().cloned())
}

fn flow_to(host: &str) -> Flow {
    let (destination, protocol) = match host.parse() {
        Ok(address) => (Destination::Address(address), egressd::policy::Protocol::Tcp),
        Err(_) => (Destination::Name(self::host(host)), egressd::policy::Protocol::Tls),
    };
    Flow { destination, port: 443, protocol, address: None }
}

fn host(text: &str) -> egressd::policy::HostName {
    egressd::policy::HostName::parse(text).unwrap()
}

fn is_special(flow: &Flow) -> bool {
    let address = match &flow.destination {
        Destination::Address(address) => Some(*address),
        Destination::Name(_) => flow.address,
    };
    // As a packet carries it.
    address.and_then(|address| special_purpose(address.to_canonical())).is_some()
}

/// The same section, with every second rule for a name in observe mode.
fn on_trial(section: &str) -> String {
    let tried =
        |(line, number): (&str, usize)| match line.trim_start().starts_with("- {host") && number % 2 == 0 {
            true => format!("{}, mode: observe}}\n", line.trim_end().trim_end_matches('}')),
            false => format!("{line}\n"),
        };
    section.lines().zip(0..).map(tried).collect()
}
