//! What is open only once somebody has said so.

use egressd::{
    config::load_str,
    policy::{
        Agent, AgentId, AgentName, Destination, Flow, HostName, Loan, Moment, Operator, Policy, Protocol,
        Question, Reason,
    },
};
use std::{path::Path, sync::Arc};

#[test]
fn a_rule_that_needs_an_approval_opens_nothing_by_itself_and_says_why() {
    let agent = agent(
        "rules: [{host: '*.a.example', approval: required}, {host: b.example}, \
         {cidr: 192.0.2.0/24, protocol: tcp, ports: [22], approval: required}]",
    );
    assert_eq!(by_name(&agent, "x.a.example"), "approval-required policy.yaml:4");
    assert_eq!(by_name(&agent, "a.example"), "host-not-allowed -");
    assert_eq!(by_name(&agent, "b.example"), "allowed");
    assert_eq!(by_address(&agent, "192.0.2.7", 22), "approval-required policy.yaml:4");
    assert_eq!(by_address(&agent, "192.0.2.7", 23), "address-not-granted -");
    assert_eq!(by_address(&agent, "192.0.3.7", 22), "address-not-granted -");
    assert!(agent.policy().allow().iter().all(|rule| rule.subject.to_string() == "b.example"));
}

#[test]
fn another_rule_for_the_same_needs_no_approval() {
    let agent = agent("rules: [{host: '*.a.example', approval: required}, {host: x.a.example}]");
    assert_eq!(by_name(&agent, "x.a.example"), "allowed");
    let twice = self::agent("rules: [{host: x.a.example, approval: required}, {host: x.a.example}]");
    assert_eq!(by_name(&twice, "x.a.example"), "allowed", "they are two rules");
}

#[test]
fn somebody_is_asked_about_what_no_rule_knows_where_the_policy_says_so_but_not_about_what_is_denied() {
    let section = "rules: [{host: '*.b.example'}]\n    deny: [{host: c.example}, {cidr: 192.0.2.0/24}]";
    let asking = agent(&format!("approve_unknown: true\n    {section}"));
    assert_eq!(by_name(&asking, "a.example"), "approval-required -");
    assert_eq!(by_name(&asking, "c.example"), "denied-by-rule policy.yaml:6");
    assert_eq!(by_name(&asking, "dns.google"), "resolver-not-allowed -");
    assert_eq!(by_address(&asking, "198.51.100.1", 22), "approval-required -");
    assert_eq!(by_address(&asking, "192.0.2.1", 22), "denied-by-rule policy.yaml:6");
    assert_eq!(by_name(&agent(section), "a.example"), "host-not-allowed -");
}

#[test]
fn a_role_asks_for_whoever_extends_it() {
    let text = "version: 1\nroles:\n  base: {approve_unknown: true}\nagents:\n  build: {extends: [base]}\n  \
                quiet: {extends: [base], approve_unknown: false}\n";
    let policies = load_str("policy.yaml", text, Path::new("/"), &[]).unwrap();
    let asks = |name: &str| policies.for_agent(&AgentName::parse(name).unwrap()).asks_about_unknown();
    assert!(asks("build") && !asks("quiet"));
}

#[test]
fn what_somebody_approved_is_a_rule_beside_the_one_that_needs_it() {
    let agent = agent("rules: [{host: '*.a.example', approval: required}]");
    let question = Question {
        destination: Destination::Name(name("x.a.example")),
        port: None,
        protocol: None,
        process: None,
    };
    let rule = question.rule(&agent.whole_policy()).unwrap().clone();
    let wish = egressd::config::Wish {
        destination: "x.a.example".to_owned(),
        lasts: "1h".to_owned(),
        ..Default::default()
    };
    let lent = wish.compile(jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_ne!(lent.id, rule.id);
    let lender = Operator { uid: 0, login_uid: None, pid: 1, command: String::new() };
    agent.lend(Loan { number: 1, rule: lent, lender, since: jiff::Timestamp::UNIX_EPOCH }).unwrap();
    let birth =
        egressd::policy::Occasion { time: jiff::Timestamp::UNIX_EPOCH, age: std::time::Duration::ZERO };
    agent.live(birth, Moment(1));
    assert_eq!(by_name(&agent, "x.a.example"), "allowed");
    assert_eq!(by_name(&agent, "y.a.example"), "approval-required policy.yaml:4");
}

fn by_name(agent: &Agent, text: &str) -> String {
    let looked_up = agent.lookup(&name(text)).map(drop).map_err(|denial| told(&denial));
    let decided = decide(agent, Destination::Name(name(text)), 443, Protocol::Tls);
    assert_eq!(looked_up.map_or_else(|text| text, |()| "allowed".to_owned()), decided, "{text}");
    decided
}

fn by_address(agent: &Agent, address: &str, port: u16) -> String {
    decide(agent, Destination::Address(address.parse().unwrap()), port, Protocol::Tcp)
}

fn decide(agent: &Agent, destination: Destination, port: u16, protocol: Protocol) -> String {
    let flow = Flow { destination, port, protocol, address: None };
    agent.decide(&flow, Moment(1)).map_or_else(|denial| told(&denial), |_| "allowed".to_owned())
}

fn told(denial: &egressd::policy::Denial) -> String {
    let reason: Reason = denial.reason;
    let rule = denial.rule.as_ref().map_or("-".to_owned(), ToString::to_string);
    format!("{reason} {rule}")
}

fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn agent(section: &str) -> Agent {
    let text = format!("version: 1\nagents:\n  build:\n    {section}\n");
    let policies = load_str("policy.yaml", &text, Path::new("/"), &[]).unwrap();
    let policy: Arc<Policy> = policies.for_agent(&AgentName::parse("build").unwrap());
    Agent::new(AgentId(1), AgentName::parse("build").unwrap(), policy)
}
