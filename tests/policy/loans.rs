//! Rules that somebody lends to an agent, and when they end.

use egressd::{
    config::{Wish, load_str},
    policy::{
        Agent, AgentId, AgentName, Destination, Flow, Grant, HostName, Loan, LoanError, MAX_LOANS, Moment,
        Occasion, Operator, Policy, Protocol, Reason, RuleId,
    },
};
use jiff::Timestamp;
use std::{path::Path, sync::Arc, time::Duration};

#[test]
fn what_is_lent_counts_beside_the_policy_until_its_moment_and_not_a_moment_longer() {
    let agent = agent("rules: [{host: a.example}]");
    lend(&agent, 1, "b.example", 60);
    let at = |second: u64| agent.decide(&to("b.example"), moment(second)).map_err(|denial| denial.reason);
    assert!(at(0).is_ok() && at(59).is_ok());
    assert_eq!(at(60).unwrap_err(), Reason::RuleExpired, "nobody has told the agent yet");
    assert!(live(&agent, 60));
    assert_eq!(at(60).unwrap_err(), Reason::RuleExpired);
    assert!(agent.decide(&to("a.example"), moment(60)).is_ok());
    assert_eq!(agent.take_back(|loan| loan.number == 1).len(), 1);
    assert_eq!(at(60).unwrap_err(), Reason::HostNotAllowed);
}

#[test]
fn no_grant_outlives_what_was_lent() {
    let agent = agent("rules: [{host: a.example}]");
    let loan = lend(&agent, 1, "b.example", 60);
    let own = agent.policy().allow()[0].id;
    let hour = moment(3600);
    let clamped =
        agent.within_terms(vec![grant("a.example", own, hour), grant("b.example", loan.rule.id, hour)]);
    assert_eq!([clamped[0].expires, clamped[1].expires], [hour, moment(60)]);
    live(&agent, 20);
    assert_eq!(agent.end_of(loan.rule.id), Some(moment(60)), "the end stays where it is");
    let soon = agent.within_terms(vec![grant("b.example", loan.rule.id, moment(5))]);
    assert_eq!(soon[0].expires, moment(5));
}

#[test]
fn what_is_taken_back_takes_its_grants_along_and_another_reload_gives_nothing_back() {
    let agent = agent("rules: [{host: a.example}]");
    let loan = lend(&agent, 1, "b.example", 60);
    agent.remember(&[grant("b.example", loan.rule.id, moment(30))], moment(0)).unwrap();
    agent.replace_policy(policy("rules: [{host: c.example}]"));
    assert_eq!(agent.live_grants(moment(0)).len(), 1, "a reload leaves what was lent");
    assert!(agent.decide(&to("b.example"), moment(0)).is_ok());
    agent.take_back(|_| true);
    assert_eq!(agent.live_grants(moment(0)), []);
    agent.replace_policy(policy("rules: [{host: a.example}]"));
    assert_eq!(reason(&agent, "b.example"), Some(Reason::HostNotAllowed));
}

#[test]
fn a_rule_that_denies_wins_over_what_is_lent_also_one_that_comes_later() {
    let agent = agent("rules: []");
    lend(&agent, 1, "b.example", 60);
    agent.replace_policy(policy("deny: [{host: '*.example'}]"));
    assert_eq!(reason(&agent, "b.example"), Some(Reason::DeniedByRule));
}

#[test]
fn quarantine_closes_lent_wildcards_too() {
    let agent = agent("rules: []");
    lend(&agent, 1, "*.w.example", 60);
    lend(&agent, 2, "b.example", 60);
    agent.quarantine(true);
    assert_eq!(reason(&agent, "x.w.example"), Some(Reason::AgentQuarantined));
    assert_eq!(reason(&agent, "b.example"), None);
}

#[test]
fn of_loans_for_one_destination_the_last_counts_after_rules_of_the_policy() {
    let agent = agent("rules: [{host: a.example}]");
    let first = lend(&agent, 1, "b.example", 60);
    let second = lend(&agent, 2, "b.example", 30);
    lend(&agent, 3, "a.example", 30);
    let rule = |name: &str| agent.decide(&to(name), moment(0)).unwrap().source().unwrap().to_string();
    assert_eq!((rule("b.example").as_str(), rule("a.example").as_str()), ("grant:2", "policy.yaml:4"));
    live(&agent, 30);
    assert_eq!(rule("b.example"), "grant:1");
    assert_ne!(first.rule.id, second.rule.id);
}

#[test]
fn two_loans_that_say_the_same_are_two_rules() {
    let agent = agent("rules: []");
    let ids: Vec<_> = (1..=2).map(|number| lend(&agent, number, "b.example", 60).rule.id).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_agent_is_lent_a_bounded_number_of_rules() {
    let agent = agent("rules: []");
    for number in 0..MAX_LOANS {
        lend(&agent, number.try_into().unwrap(), "b.example", 60);
    }
    assert_eq!(agent.lend(loan(1000, "b.example", 60)), Err(LoanError::TooMany));
}

#[test]
fn a_rule_knows_which_rule_denies_or_allows_all_of_it() {
    let policy = policy(
        "rules: [{host: '**.ok.example'}]\n    deny: [{host: '*.no.example'}, {cidr: 10.0.0.0/8}, \
         {host: port.example, ports: [22]}]",
    );
    for (destination, denied, allowed) in [
        ("x.no.example", true, false),
        ("*.no.example", true, false),
        ("**.no.example", false, false),
        ("no.example", false, false),
        ("10.1.2.3:22", true, false),
        ("10.1.0.0/16:22", true, false),
        ("0.0.0.0/0:22", false, false),
        ("port.example", false, false),
        ("x.y.ok.example", false, true),
        ("**.x.ok.example", false, true),
        ("*.ok.example", false, true),
        ("x.ok.example:8443", false, false),
    ] {
        let rule = loan(1, destination, 60).rule;
        let found = (policy.denier_of(&rule).is_some(), policy.allower_of(&rule).is_some());
        assert_eq!(found, (denied, allowed), "{destination}");
    }
}

fn wish(destination: &str) -> Wish {
    Wish { destination: destination.to_owned(), lasts: "1h".to_owned(), ..Wish::default() }
}

/// For so many seconds from the birth of the agent on.
fn loan(number: u32, destination: &str, seconds: u32) -> Loan {
    let wish = Wish { lasts: format!("{seconds}s"), ..wish(destination) };
    let rule = wish.compile(Timestamp::UNIX_EPOCH).unwrap();
    let lender = Operator { uid: 0, login_uid: None, pid: 1, command: "test".to_owned() };
    let rule = egressd::policy::Rule { source: Loan::source(number), ..rule };
    Loan { number, rule, lender, since: Timestamp::UNIX_EPOCH }
}

fn lend(agent: &Agent, number: u32, destination: &str, seconds: u32) -> Loan {
    agent.lend(loan(number, destination, seconds)).unwrap()
}

fn live(agent: &Agent, second: u64) -> bool {
    let time = Timestamp::from_second(second.try_into().unwrap()).unwrap();
    agent.live(Occasion { time, age: Duration::from_secs(second) }, moment(second))
}

fn moment(second: u64) -> Moment {
    Moment(1).after(Duration::from_secs(second))
}

fn grant(name: &str, rule: RuleId, expires: Moment) -> Grant {
    let name = HostName::parse(name).unwrap();
    Grant { name, address: [192, 0, 2, 1].into(), port: 443, protocol: Protocol::Tls, rule, expires }
}

fn reason(agent: &Agent, name: &str) -> Option<Reason> {
    agent.decide(&to(name), moment(0)).err().map(|denial| denial.reason)
}

fn to(name: &str) -> Flow {
    let destination = Destination::Name(HostName::parse(name).unwrap());
    Flow { destination, port: 443, protocol: Protocol::Tls, address: None }
}

/// One that was just born.
fn agent(section: &str) -> Agent {
    let agent = Agent::new(AgentId(1), AgentName::parse("build").unwrap(), policy(section));
    live(&agent, 0);
    agent
}

fn policy(section: &str) -> Arc<Policy> {
    let text = format!("version: 1\nagents:\n  build:\n    {section}\n");
    let policies = load_str("policy.yaml", &text, Path::new("/"), &[]).unwrap();
    policies.for_agent(&AgentName::parse("build").unwrap())
}
