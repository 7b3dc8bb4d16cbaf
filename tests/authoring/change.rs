//! The smallest change that `explain` offers, made in the file and judged again.

use crate::{file, policies, random};
use egressd::{
    audit::Verdict,
    control::{
        Asked, Known, explain,
        protocol::{Explanation, Step},
    },
    policy::{AgentName, Destination, Flow, Grants, Moment, Occasion, Policy, Reason},
};
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use std::{cell::Cell, collections::BTreeSet, sync::Arc, time::Duration};

#[test]
fn the_smallest_change_allows_what_was_asked_for_and_nothing_beside_it() {
    let seen = Seen::default();
    let case = (random::section(), vec(random::flow(), 24));
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&case, |(section, flows)| {
        let flows: Vec<Flow> = flows.into_iter().map(|flow| Flow { address: None, ..flow }).collect();
        let (asked, others) = flows.split_at(4);
        asked.iter().try_for_each(|flow| is_smallest(&file(&section), flow, others, &seen))
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(seen.added.get() > 100 && seen.removed.get() > 0, "it proves nothing: {seen:?}");
}

/// The same flow, with its address as the wire has it: an IPv4 address that is written as IPv6 is one.
fn plain(flow: &Flow) -> Flow {
    let destination = match &flow.destination {
        Destination::Address(address) => Destination::Address(address.to_canonical()),
        Destination::Name(name) => Destination::Name(name.clone()),
    };
    Flow { destination, ..flow.clone() }
}

/// What was offered.
#[derive(Debug, Default)]
struct Seen {
    added: Cell<usize>,
    removed: Cell<usize>,
}

/// Makes the change that is offered for `flow` in the policy `text`, and judges all again.
fn is_smallest(text: &str, flow: &Flow, others: &[Flow], seen: &Seen) -> Result<(), TestCaseError> {
    let mut denies: Vec<&str> = text.lines().skip_while(|line| !line.contains("deny:")).collect();
    denies.sort_unstable();
    if denies.windows(2).any(|pair| pair[0] == pair[1]) {
        // Of rules that are alike one is kept in mind: the other is told when the first was removed.
        return Ok(());
    }
    let before = compile(text);
    let told = told(&before, flow);
    let Some(change) = &told.change else {
        prop_assert_eq!(told.verdict, Verdict::Allow, "{:#?}", told);
        return Ok(());
    };
    prop_assert_eq!(told.verdict, Verdict::Deny, "{:#?}", told);
    if change.add.is_none() && change.remove.is_empty() {
        prop_assert!(change.note.is_some() && is_beyond_rules(flow), "{:#?}", told);
        return Ok(());
    }
    seen.added.set(seen.added.get() + usize::from(change.add.is_some()));
    seen.removed.set(seen.removed.get() + change.remove.len());
    let lines: BTreeSet<usize> = change.remove.iter().map(|place| line_of(place)).collect();
    let changed = edited(text, &lines, change.add.as_deref());
    let after = compile(&changed);
    let again = self::told(&after, flow);
    prop_assert_eq!(again.verdict, Verdict::Allow, "{:#?}\n{}\n{}", again, text, changed);
    prop_assert!(again.change.is_none() && again.observed.is_none(), "{:#?}", again);
    let gone = before.deny().iter().filter(|deny| lines.contains(&(deny.source.line as usize)));
    let gone = Policy::new(Vec::new(), gone.cloned().collect());
    let is_another = |other: &&Flow| plain(other) != plain(flow);
    for other in others.iter().filter(is_another).filter(|other| !is_denied_by(&gone, other)) {
        let [was, is] = [&before, &after].map(|policy| self::told(policy, other).verdict);
        prop_assert_eq!(was, is, "{:?}\n{}\n{}", other, text, changed);
    }
    Ok(())
}

#[test]
fn what_no_rule_can_allow_is_said_to_be_so() {
    let policy = compile(&file("rules: []\ndeny:\n  - cidr: 127.0.0.0/8\n"));
    for text in ["169.254.169.254:80", "127.0.0.1:8080", "9.9.9.9:53", "a.test:53", "9.9.9.9:443/tls"] {
        let asked = Asked::parse(text).unwrap();
        let told = explain(&policy, BIRTH, "default", &Known::default(), &asked);
        let change = told.change.unwrap_or_else(|| panic!("{text}"));
        assert_eq!((change.add, change.remove, told.remedy), (None, Vec::new(), None), "{text}");
        assert!(change.note.is_some(), "{text}");
    }
}

#[test]
fn what_a_rule_denies_is_allowed_once_it_is_removed() {
    let text = "rules:\n  - host: \"*.ok.test\"\ndeny:\n  - host: a.ok.test\n  - host: b.test\n";
    let policy = compile(&file(text));
    let change = |name| {
        let asked = Asked::parse(name).unwrap();
        let change = explain(&policy, BIRTH, "default", &Known::default(), &asked).change.unwrap();
        (change.remove, change.add)
    };
    assert_eq!(change("a.ok.test"), (vec!["policy.yaml:7".to_owned()], None));
    assert_eq!(change("b.test"), (vec!["policy.yaml:8".to_owned()], Some("- host: b.test".to_owned())));
}

#[test]
fn a_rule_of_deny_that_only_observes_is_in_the_way_of_nothing_that_is_denied() {
    let text = "rules:\n  - host: a.test\ndeny:\n  - {host: a.test, mode: observe}\n  - {host: b.test, mode: observe}\n";
    let policy = compile(&file(text));
    let told = |name| explain(&policy, BIRTH, "default", &Known::default(), &Asked::parse(name).unwrap());
    let denied = told("b.test");
    let change = denied.change.unwrap();
    assert_eq!((denied.verdict, change.remove), (Verdict::Deny, Vec::<String>::new()));
    assert_eq!(change.add.as_deref(), Some("- host: b.test"));
    let observed = told("a.test");
    assert_eq!((observed.verdict, observed.observed.as_deref()), (Verdict::Allow, Some("denied-by-rule")));
    assert_eq!(observed.change.unwrap().remove, ["policy.yaml:7"]);
}

#[test]
fn a_url_that_its_rule_does_not_list_is_denied_at_the_name_gate_and_the_line_that_lists_it_is_offered() {
    let policy = compile(&file(
        "rules:\n  - {host: a.test, inspect: true, allow: [GET /public/**]}\n  - host: b.test\n",
    ));
    let told = |url| explain(&policy, BIRTH, "default", &Known::default(), &Asked::parse(url).unwrap());
    let denied = told("https://a.test/x/../private?y=z");
    assert_eq!((denied.verdict, denied.reason.as_deref()), (Verdict::Deny, Some("request-not-allowed")));
    assert_eq!((denied.request.as_deref(), denied.remedy), (Some("GET /x/../private?y=z"), None));
    let steps: Vec<Step> = denied.gates.iter().map(|state| state.step).collect();
    assert_eq!(steps, [Step::Passed, Step::Passed, Step::Denied, Step::NotReached]);
    let note = |url| told(url).change.and_then(|change| change.note);
    let line = "add `GET /private` to `allow` of the rule at policy.yaml:5";
    assert_eq!(note("https://a.test/x/../private?y=z").as_deref(), Some(line));
    for url in ["https://a.test/a%2fb", "wss://a.test/public/x"] {
        assert_eq!(note(url).as_deref(), Some("no rule that inspects lets it pass"), "{url}");
    }
    for url in ["https://a.test/public/x", "https://a.test", "https://b.test/private"] {
        let told = told(url);
        assert_eq!((told.verdict, told.change), (Verdict::Allow, None), "{url}");
    }
}

/// Whether nothing is offered on purpose: of ports, addresses and protocols that no rule can name.
fn is_beyond_rules(flow: &Flow) -> bool {
    match &flow.destination {
        Destination::Name(_) => false,
        Destination::Address(address) => {
            !matches!(flow.protocol.as_str(), "tcp" | "udp")
                || egressd::policy::special_purpose(address.to_canonical()).is_some()
        }
    }
}

fn is_denied_by(policy: &Policy, flow: &Flow) -> bool {
    let judged = policy.decide(flow, &Grants::default(), Moment::default());
    judged.is_err_and(|denial| denial.reason == Reason::DeniedByRule)
}

fn told(policy: &Policy, flow: &Flow) -> Explanation {
    let Flow { destination, port, protocol, .. } = flow.clone();
    let asked = Asked { destination, port: Some(port), protocol: Some(protocol), request: None };
    explain(policy, BIRTH, "default", &Known::default(), &asked)
}

fn compile(text: &str) -> Arc<Policy> {
    policies(text).for_agent(&AgentName::parse("default").unwrap())
}

fn line_of(place: &str) -> usize {
    place.strip_prefix("policy.yaml:").and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{place}"))
}

/// `text` without these lines, and with this one among the rules.
fn edited(text: &str, without: &BTreeSet<usize>, with: Option<&str>) -> String {
    let with = with.map_or_else(String::new, |line| format!("      {line}\n"));
    let mut lines: Vec<String> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line {
            _ if without.contains(&number) => {}
            "    rules: []" if !with.is_empty() => lines.push(format!("    rules:\n{with}")),
            "    rules:" => lines.push(format!("{line}\n{with}")),
            line => lines.push(format!("{line}\n")),
        }
    }
    lines.concat().replace("    deny:\n    leak_budget", "    deny: []\n    leak_budget")
}

const BIRTH: Occasion = Occasion { time: Timestamp::UNIX_EPOCH, age: Duration::ZERO };
