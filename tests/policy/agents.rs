//! What an agent keeps when its policy is replaced, and the bounds on what it may hold.

use egressd::{
    config::load_str,
    policy::{
        Agent, AgentId, AgentName, Destination, Flow, Grant, GrantError, Grants, HostName, MAX_GRANTS,
        Moment, Occasion, Policy, Protocol, Reason,
    },
};
use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

const RULES: &str = "rules: [{host: a.example}, {host: b.example, protocol: tcp, ports: [22]}]";

#[test]
fn a_reload_that_keeps_a_rule_keeps_its_grants() {
    let agent = agent(RULES);
    remember(&agent, "a.example", 1).unwrap();
    remember(&agent, "b.example", 2).unwrap();
    agent.replace_policy(policy("rules: [{host: c.example}, {host: a.example}]"));
    let held: Vec<_> = agent.live_grants(Moment(0)).into_iter().map(|grant| grant.name.to_string()).collect();
    assert_eq!(held, ["a.example"]);
}

#[test]
fn a_reload_that_adds_a_deny_rule_takes_the_grants_away() {
    for deny in [
        "{host: a.example}",
        "{host: '*.example'}",
        "{cidr: 192.0.2.1/32}",
        "{cidr: 0.0.0.0/0, ports: [443]}",
    ] {
        let agent = agent(RULES);
        remember(&agent, "a.example", 1).unwrap();
        agent.replace_policy(policy(&format!("{RULES}\n    deny: [{deny}]")));
        assert_eq!(agent.live_grants(Moment(0)), [], "{deny}");
    }
}

#[test]
fn a_reload_that_makes_a_rule_narrower_takes_the_grants_away() {
    let agent = agent(RULES);
    remember(&agent, "b.example", 2).unwrap();
    agent.replace_policy(policy("rules: [{host: b.example, protocol: tcp, ports: [23]}]"));
    assert_eq!(agent.live_grants(Moment(0)), []);
}

#[test]
fn a_lookup_that_a_reload_overtook_earns_nothing() {
    let agent = agent(RULES);
    let grant = grant(&agent, "a.example", 1);
    agent.replace_policy(policy("rules: []"));
    assert_eq!(agent.remember(&[grant], Moment(0)), Err(GrantError::Superseded));
    assert_eq!(agent.live_grants(Moment(0)), []);
}

#[test]
fn the_next_flow_is_judged_by_the_policy_of_that_moment() {
    let agent = agent(RULES);
    assert!(agent.decide(&to("a.example"), Moment(0)).is_ok());
    agent.replace_policy(policy("rules: []"));
    assert_eq!(agent.decide(&to("a.example"), Moment(0)).unwrap_err().reason, Reason::HostNotAllowed);
}

#[test]
fn what_quarantine_closed_is_denied_for_quarantine_and_the_rest_for_what_it_is() {
    let agent = agent("rules: [{host: '*.w.example'}, {host: a.example}]");
    agent.quarantine(true);
    let reason = |name: &str| agent.decide(&to(name), Moment(0)).map_err(|denial| denial.reason);
    assert_eq!(reason("x.w.example").unwrap_err(), Reason::AgentQuarantined);
    assert_eq!(reason("evil.example").unwrap_err(), Reason::HostNotAllowed);
    assert!(reason("a.example").is_ok());
    let elsewhere = Flow { port: 80, ..to("a.example") };
    assert_eq!(agent.decide(&elsewhere, Moment(0)).unwrap_err().reason, Reason::PortNotAllowed);
    agent.quarantine(false);
    assert!(reason("x.w.example").is_ok());
}

#[test]
fn a_rule_with_a_term_counts_from_when_the_moment_is_known_until_it_is_over() {
    let rules = "rules: [{host: a.example}, {host: b.example, for: 1m}, \
                 {host: c.example, expires: 2026-12-31}]";
    let agent = agent(rules);
    let reason = |name: &str| agent.decide(&to(name), Moment(0)).map_err(|denial| denial.reason);
    let live = |time: &str, age| {
        agent.live(Occasion { time: time.parse().unwrap(), age: Duration::from_secs(age) }, Moment(0))
    };
    assert!(reason("a.example").is_ok());
    assert_eq!(reason("b.example").unwrap_err(), Reason::RuleExpired, "nobody said how old it is");
    assert!(live("2026-12-31T23:59:59Z", 59));
    assert!(!live("2026-12-31T23:59:59Z", 59), "nothing changed");
    assert!(reason("b.example").is_ok() && reason("c.example").is_ok());
    remember(&agent, "c.example", 3).unwrap();
    assert!(live("2026-12-31T23:59:59Z", 60));
    assert_eq!(reason("b.example").unwrap_err(), Reason::RuleExpired);
    assert!(reason("c.example").is_ok());
    assert!(live("2027-01-01T00:00:00Z", 61));
    assert_eq!(reason("c.example").unwrap_err(), Reason::RuleExpired);
    assert_eq!(agent.live_grants(Moment(0)), []);
    agent.replace_policy(policy("rules: [{host: b.example, for: 2m}]"));
    assert!(reason("b.example").is_ok());
    assert_eq!(reason("c.example").unwrap_err(), Reason::HostNotAllowed);
}

#[test]
fn a_network_that_is_denied_at_one_port_of_a_name_is_not_granted_there() {
    let policy = policy(
        "rules: [{host: a.example, ports: [443, 8443]}]\n    deny: [{cidr: 10.0.0.0/8, ports: [443]}, {cidr: 10.9.0.0/16}]",
    );
    let leave = policy.lookup(&HostName::parse("a.example").unwrap()).unwrap();
    let at = |address: &str| {
        policy.openings_at(address.parse().unwrap(), &leave).map(|opening| opening.port).collect::<Vec<_>>()
    };
    assert_eq!(at("192.0.2.1"), [443, 8443]);
    assert_eq!(at("10.1.0.1"), [8443]);
    assert_eq!(at("::ffff:10.1.0.1"), [8443]);
    assert!(at("10.9.0.1").is_empty());
    assert_eq!(policy.denies_address("10.1.0.1".parse().unwrap(), &leave), None);
    let denial = policy.denies_address("10.9.0.1".parse().unwrap(), &leave).unwrap();
    assert_eq!(denial.reason, Reason::DeniedByRule);
}

#[test]
fn a_name_may_be_private_by_any_of_its_rules() {
    let policy = policy("rules: [{host: '*.corp.example'}, {host: db.corp.example, private: true}]");
    let private = |name| policy.lookup(&HostName::parse(name).unwrap()).unwrap().private();
    assert!(private("db.corp.example") && !private("web.corp.example"));
}

#[test]
fn an_agent_holds_a_bounded_number_of_grants_and_expired_ones_make_room() {
    let agent = agent(RULES);
    let mut grants = Grants::default();
    let many = |from: u32, expires| {
        let one = grant(&agent, "a.example", 1);
        let addresses = (from..).map(|nth| Ipv4Addr::from(0xc612_0000 + nth).into());
        addresses
            .take(MAX_GRANTS)
            .map(|address| Grant { address, expires, ..one.clone() })
            .collect::<Vec<_>>()
    };
    grants.insert(&many(0, Moment(10)), Moment(0)).unwrap();
    grants.insert(&many(0, Moment(20)), Moment(0)).expect("these are held already");
    let more = many(MAX_GRANTS.try_into().unwrap(), Moment(30));
    assert_eq!(grants.insert(&more[..1], Moment(0)), Err(GrantError::Quota));
    assert_eq!(grants.live(Moment(0)).count(), MAX_GRANTS);
    grants.insert(&more, Moment(20)).expect("all others have expired");
    assert_eq!(grants.live(Moment(20)).count(), MAX_GRANTS);
}

#[test]
fn a_grant_is_never_shortened() {
    let agent = agent(RULES);
    let long = grant(&agent, "a.example", 1);
    let short = Grant { expires: Moment(5), ..long.clone() };
    agent.remember(std::slice::from_ref(&long), Moment(0)).unwrap();
    agent.remember(&[short], Moment(0)).unwrap();
    assert_eq!(agent.live_grants(Moment(0)), [long]);
}

fn remember(agent: &Agent, name: &str, host: u8) -> Result<(), GrantError> {
    agent.remember(&[grant(agent, name, host)], Moment(0))
}

fn grant(agent: &Agent, name: &str, host: u8) -> Grant {
    let leave = agent.lookup(&HostName::parse(name).unwrap()).unwrap();
    let opening = leave.openings()[0];
    Grant {
        name: leave.name().clone(),
        address: Ipv4Addr::new(192, 0, 2, host).into(),
        port: opening.port,
        protocol: opening.protocol,
        rule: opening.rule,
        expires: Moment(100),
    }
}

fn to(name: &str) -> Flow {
    let destination = Destination::Name(HostName::parse(name).unwrap());
    Flow { destination, port: 443, protocol: Protocol::Tls, address: None }
}

fn agent(section: &str) -> Agent {
    Agent::new(AgentId(1), AgentName::parse("default").unwrap(), policy(section))
}

fn policy(section: &str) -> Arc<Policy> {
    let text = format!("version: 1\nagents:\n  default:\n    {section}\n");
    let policies =
        load_str("agents.yaml", &text, Path::new(""), &[]).unwrap_or_else(|error| panic!("{error}"));
    policies.for_agent(&AgentName::parse("default").unwrap())
}
