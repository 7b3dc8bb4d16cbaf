//! What two policies decide differently.

use crate::{
    lint::now,
    policies, policy,
    random::{allows, flow, section},
};
use egressd::{
    authoring::{
        Change, Difference, Place,
        diff::{diff, diff_policies},
    },
    policy::{Destination, Flow, HostName, Pattern, Protocol},
};
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_flow_that_is_decided_differently_is_in_the_difference(
        old in section(), new in section(), flows in vec(flow(), 40)
    ) {
        let (old, new) = (policy(&old), policy(&new));
        let differences = diff_policies(&old, &new, now());
        // At the start of an agent, and after all terms are over.
        for (old, new) in [((*old).clone(), (*new).clone()), (old.at(None), new.at(None))] {
            for flow in &flows {
                let changes: &[Change] = match (allows(&old, flow), allows(&new, flow)) {
                    (true, false) => &[Change::Denied, Change::Changed],
                    (false, true) => &[Change::Allowed, Change::Changed],
                    (true, true) | (false, false) => continue,
                };
                let is_told =
                    |line: &&Difference| changes.contains(&line.change) && covers(line, flow);
                let told: Vec<&Difference> = differences.iter().filter(is_told).collect();
                // A change tells of it by the end of a rule.
                let is_told = |line: &&Difference| {
                    line.change != Change::Changed || line.terms.iter().any(|term| term.starts_with("ends"))
                };
                prop_assert!(told.iter().any(is_told), "{flow:?}\n{differences:#?}");
            }
        }
    }

    #[test]
    fn what_the_difference_says_of_a_name_is_true(old in section(), new in section(), flows in vec(flow(), 40)) {
        // What is told of the time after a term is not true before.
        let (old, new) = (policy(&old).at(None), policy(&new).at(None));
        let differences = diff_policies(&old, &new, now());
        let by_name = |flow: &Flow| Flow { address: None, ..flow.clone() };
        for flow in flows.iter().map(by_name) {
            for line in differences.iter().filter(|line| !is_about_addresses_of_names(line) && covers(line, &flow)) {
                let told = (line.change != Change::Allowed, line.change != Change::Denied);
                let decided = (allows(&old, &flow), allows(&new, &flow));
                prop_assert!(decided == told || is_special(&flow), "{line:#?}\n{flow:?}");
            }
        }
    }

    #[test]
    fn of_every_name_the_difference_says_what_is_decided(old in patterns(), new in patterns()) {
        let (old, new) = (policy(&old), policy(&new));
        let differences = diff_policies(&old, &new, now());
        for name in every_name() {
            let (port, protocol) = (443, Protocol::Tls);
            let flow = Flow { destination: Destination::Name(name), port, protocol, address: None };
            let told = |change| {
                differences.iter().filter(|line| line.change == change && covers(line, &flow)).count()
            };
            let (before, after) = (allows(&old, &flow), allows(&new, &flow));
            prop_assert_eq!(told(Change::Denied), usize::from(before && !after), "{:?}\n{:#?}", flow, differences);
            prop_assert_eq!(told(Change::Allowed), usize::from(!before && after), "{:?}\n{:#?}", flow, differences);
        }
    }

    #[test]
    fn a_policy_does_not_differ_from_itself_wherever_it_stands(section in section()) {
        let (one, other) = (policy(&section), policy(&format!("# moved\n\n{section}")));
        prop_assert_eq!(diff_policies(&one, &other, now()), []);
    }
}

#[test]
fn a_wildcard_that_becomes_a_name_is_told_by_what_is_lost() {
    says(
        "rules: [{host: \"*.example.com\"}]",
        "rules: [{host: a.example.com}]",
        &[
            "- *.example.com, but for a.example.com: 443/tls (policy.yaml:4)",
            "~ a.example.com: 443/tls leak_budget: 4096 -> not needed (policy.yaml:4)",
        ],
    );
}

#[test]
fn a_deny_is_told_by_what_it_takes_away() {
    says(
        "rules: [{host: \"**.example.com\", ports: [443, 8443]}]",
        "rules: [{host: \"**.example.com\", ports: [443, 8443]}]\ndeny: [{host: \"*.ads.example.com\", ports: [443]}]",
        &["- *.ads.example.com: 443/tls (policy.yaml:5)"],
    );
    says("rules: [{host: a.test}]", "rules: [{host: a.test}]\ndeny: [{host: b.test}]", &[]);
}

#[test]
fn a_deny_of_a_network_is_told_by_the_names_that_may_be_there() {
    let rules = "rules: [{host: a.test}, {cidr: 192.0.2.0/24, protocol: udp, ports: [123]}]";
    says(
        rules,
        &format!("{rules}\ndeny: [{{cidr: 192.0.2.0/25}}]"),
        &[
            "- 192.0.2.0/25: 123/udp (policy.yaml:4)",
            "- names at addresses of 192.0.2.0/25: 443/tls (policy.yaml:5)",
        ],
    );
}

#[test]
fn wider_and_narrower_wildcards_are_told_apart() {
    says(
        "rules: [{host: \"*.a.test\"}]",
        "rules: [{host: \"**.a.test\"}]",
        &["+ **.a.test, but for *.a.test: 443/tls (policy.yaml:4)"],
    );
    says(
        "rules: [{host: \"**.a.test\"}]",
        "rules: [{host: \"**.a.test\"}]\ndeny: [{host: \"**.b.a.test\"}, {host: b.a.test}]",
        &["- b.a.test: 443/tls (policy.yaml:5)", "- **.b.a.test: 443/tls (policy.yaml:5)"],
    );
}

#[test]
fn terms_that_change_are_told_by_their_keys() {
    says(
        "rules: [{host: a.test, inspect: true, allow: [GET /x]}]",
        "rules: [{host: a.test, inspect: true, allow: [GET /x, POST /y], private: true, types: [TXT]}]",
        &["~ a.test: 443/tls private: false -> true, types: none -> TXT, \
           allow: [GET /x] -> [GET /x, POST /y] (policy.yaml:4)"],
    );
    says(
        "rules: [{host: a.test}]",
        "rules: [{host: a.test, ech: allow, gate: proxy}]",
        &["~ a.test: 443/tls gate: auto -> proxy, ech: grease -> allow (policy.yaml:4)"],
    );
}

#[test]
fn the_end_of_a_rule_is_told_unless_another_goes_on() {
    let ends = "rules: [{host: a.test, expires: 2030-01-01}]";
    says(
        "rules: [{host: a.test}]",
        ends,
        &["~ a.test: 443/tls ends: never -> 2030-01-02T00:00:00Z (policy.yaml:4)"],
    );
    says("rules: []", ends, &["+ a.test: 443/tls ends: 2030-01-02T00:00:00Z (policy.yaml:4)"]);
    says("rules: [{host: a.test}]", "rules: [{host: a.test, for: 1h}, {host: a.test}]", &[]);
    // What a rule that ends hides is told, too.
    says(
        "rules: [{host: a.test, ech: refuse}]",
        "rules: [{host: a.test, ech: refuse, for: 1h}, {host: a.test}]",
        &["~ a.test: 443/tls ech: refuse -> grease (policy.yaml:4)"],
    );
}

#[test]
fn a_rule_that_is_over_opens_nothing() {
    let [over, open] = ["2026-01-01", "2027-01-01"]
        .map(|end| format!("rules: [{{host: a.test, expires: {end}}}, {{host: b.test}}]"));
    let none = "rules: [{host: b.test}]";
    says(none, &over, &[]);
    says(&over, none, &[]);
    says(&over, &open, &["+ a.test: 443/tls ends: 2027-01-02T00:00:00Z (policy.yaml:4)"]);
    says(&open, &over, &["- a.test: 443/tls (policy.yaml:4)"]);
}

#[test]
fn what_opens_comes_before_what_closes_and_names_of_one_domain_stand_together() {
    says(
        "rules: [{host: z.test}, {host: a.z.test, ech: allow}]",
        "rules: [{cidr: 192.0.2.0/24, protocol: tcp, ports: [22]}, {host: b.z.test}, {host: c.test, for: 1h}, \
         {host: b.test}, {host: a.z.test}, {host: y.test, approval: required}]",
        &[
            "+ b.test: 443/tls (policy.yaml:4)",
            "+ c.test: 443/tls ends: 3600s after the start (policy.yaml:4)",
            "+ y.test: 443/tls approval: required (policy.yaml:4)",
            "+ b.z.test: 443/tls (policy.yaml:4)",
            "+ 192.0.2.0/24: 22/tcp (policy.yaml:4)",
            "- z.test: 443/tls (policy.yaml:4)",
            "~ a.z.test: 443/tls ech: allow -> grease (policy.yaml:4)",
        ],
    );
}

#[test]
fn that_somebody_is_asked_is_told_unless_another_rule_opens_it_without() {
    let asks = "rules: [{host: a.test, approval: required}]";
    says(
        "rules: [{host: a.test}]",
        asks,
        &["~ a.test: 443/tls approval: not needed -> required (policy.yaml:4)"],
    );
    says("rules: []", asks, &["+ a.test: 443/tls approval: required (policy.yaml:4)"]);
    says("rules: [{host: a.test}]", "rules: [{host: a.test, approval: required}, {host: a.test}]", &[]);
    says("rules: []", "rules: []\napprove_unknown: true", &["~ the agent:  approve_unknown: false -> true"]);
}

#[test]
fn what_is_said_of_an_agent_as_a_whole_is_told() {
    says(
        "rules: []",
        "rules: []\nhost_sockets: true\ncapabilities: [net_raw]\nleak_budget: 10\nleak_actions: {slow-drip: freeze}",
        &[
            "~ the agent:  capabilities: none -> net_raw, host_sockets: false -> true, leak_budget: 8192 -> 10, \
           leak_actions.slow-drip: flag -> freeze",
        ],
    );
}

#[test]
fn an_agent_that_comes_into_observe_mode_is_told_as_one_that_reaches_everything() {
    let [enforced, observed] = ["rules: [{host: a.test}]", "mode: observe\nrules: [{host: a.test}]"];
    let line = "the agent: mode: enforce -> observe: whatever else the policy denies, and records";
    let told = |change: char, line: &str| format!("{change} {line}");
    let lines =
        |old, new| diff_policies(&policy(old), &policy(new), now()).iter().map(plain).collect::<Vec<_>>();
    assert_eq!(lines(enforced, observed), [told('+', line)]);
    let line = "the agent: mode: observe -> enforce: whatever else the policy denies, and records";
    assert_eq!(lines(observed, enforced), [told('-', line)]);
    let tried = "rules: [{host: a.test, mode: observe}]";
    assert_eq!(lines(enforced, tried), ["~ a.test: mode: enforce -> observe"]);
}

#[test]
fn a_rule_of_deny_on_trial_is_told_by_what_it_has_only_observed() {
    let rules = "rules: [{host: a.test}]";
    let tried = "rules: [{host: a.test}]\ndeny: [{host: a.test, mode: observe}]";
    says(rules, tried, &["~ a.test: 443/tls mode: enforce -> observe (policy.yaml:4)"]);
    says(tried, rules, &["~ a.test: 443/tls mode: observe -> enforce (policy.yaml:4)"]);
}

fn plain(line: &Difference) -> String {
    format!("{} {}: {}", line.change.sign(), line.place, line.terms.join(", "))
}

#[test]
fn the_order_of_rules_says_nothing_where_they_ask_the_same() {
    says("rules: [{host: a.test}, {host: b.test}]", "rules: [{host: b.test}, {host: a.test}]", &[]);
    says("rules: [{host: a.test, reason: x}]", "rules: [{host: a.test, reason: y}]", &[]);
    says(
        "rules: [{host: a.test}, {host: \"*.test\", danger_public_suffix: true, ech: allow}]",
        "rules: [{host: \"*.test\", danger_public_suffix: true, ech: allow}, {host: a.test}]",
        &["~ a.test: 443/tls ech: grease -> allow (policy.yaml:4)"],
    );
}

#[test]
fn an_agent_that_comes_is_compared_with_what_it_had_by_default() {
    let old = policies("version: 1\nagents: {default: {rules: [{host: a.test}]}}");
    let new = policies(
        "version: 1\nagents: {default: {rules: [{host: a.test}]}, build: {rules: [{host: b.test}]}}",
    );
    let found = diff(&old, &new, now());
    let lines: Vec<String> =
        found.iter().map(|line| format!("{} {}{}", line.agent, line.change.sign(), line.place)).collect();
    assert_eq!(lines, ["build +b.test", "build -a.test"]);
}

#[test]
fn whom_a_section_selects_is_told() {
    let agents = |select: &str| policies(&format!("version: 1\nagents: {{a: {{{select}rules: []}}}}"));
    let found = diff(&agents(""), &agents("select: {uid: 1000, labels: {team: x}}, "), now());
    let lines: Vec<String> = found.iter().map(|line| line.terms.join(", ")).collect();
    assert_eq!(lines, ["select: none -> uid 1000 team=x"]);
    assert_eq!(diff(&agents("select: {uid: 1}, "), &agents("select: {uid: 1}, "), now()), []);
}

#[test]
fn all_that_is_told_of_an_agent_stands_together() {
    let agents = |uid: u32, host: &str| {
        let agent =
            |name| format!("  {name}: {{select: {{uid: {uid}, name: {name}}}, rules: [{{host: {host}}}]}}\n");
        policies(&format!("version: 1\nagents:\n{}{}", agent("a"), agent("b")))
    };
    let found = diff(&agents(1, "one.test"), &agents(2, "two.test"), now());
    let told: Vec<String> = found.iter().map(|line| format!("{} {}", line.agent, line.place)).collect();
    assert_eq!(told, ["a the agent", "a two.test", "a one.test", "b the agent", "b two.test", "b one.test"]);
}

/// Rules that differ in nothing but their patterns, which meet often.
fn patterns() -> impl Strategy<Value = String> {
    let pattern = ("(\\*\\*?\\.)?", vec("[ab]", 0..3)).prop_map(|(stars, labels)| {
        format!("{{host: \"{stars}{}z.test\"}}", labels.iter().map(|l| format!("{l}.")).collect::<String>())
    });
    (vec(pattern.clone(), 0..4), vec(pattern, 0..3))
        .prop_map(|(allow, deny)| format!("rules: [{}]\ndeny: [{}]", allow.join(", "), deny.join(", ")))
}

/// All names with up to four labels below the zone of [`patterns`], one of them in no pattern.
fn every_name() -> Vec<HostName> {
    let mut names = vec!["z.test".to_owned()];
    let mut last = names.clone();
    for _ in 0..4 {
        last = last.iter().flat_map(|name| ["a", "b", "c"].map(|label| format!("{label}.{name}"))).collect();
        names.extend(last.iter().cloned());
    }
    names.iter().map(|name| HostName::parse(name).unwrap()).collect()
}

fn says(old: &str, new: &str, expected: &[&str]) {
    let lines: Vec<String> = diff_policies(&policy(old), &policy(new), now()).iter().map(show).collect();
    assert_eq!(lines, expected);
}

fn show(line: &Difference) -> String {
    let Difference { change, place, openings, terms, rule, .. } = line;
    let openings: Vec<String> =
        openings.iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect();
    let terms = if terms.is_empty() { String::new() } else { format!(" {}", terms.join(", ")) };
    let rule = rule.as_ref().map_or_else(String::new, |rule| format!(" ({rule})"));
    format!("{} {place}: {}{terms}{rule}", change.sign(), openings.join(", "))
}

/// By the texts of the difference alone.
fn covers(line: &Difference, flow: &Flow) -> bool {
    let matches = |pattern: &String, name| Pattern::parse(pattern).unwrap().matches(name);
    let is_place = match (&line.place, &flow.destination) {
        (Place::Names { pattern, except }, Destination::Name(name)) => {
            matches(pattern, name) && !except.iter().any(|pattern| matches(pattern, name))
        }
        (Place::Network { network, except }, Destination::Address(address)) => {
            let address = address.to_canonical();
            network.contains(&address) && !except.iter().any(|network| network.contains(&address))
        }
        (Place::NamesAt { network, except }, Destination::Name(_)) => flow.address.is_some_and(|address| {
            let address = address.to_canonical();
            network.contains(&address) && !except.iter().any(|network| network.contains(&address))
        }),
        (Place::Names { .. } | Place::NamesAt { .. }, Destination::Address(_))
        | (Place::Network { .. }, Destination::Name(_))
        | (Place::Agent, _) => false,
    };
    is_place && line.openings.contains(&(flow.port, flow.protocol))
}

fn is_about_addresses_of_names(line: &Difference) -> bool {
    matches!(line.place, Place::NamesAt { .. })
}

/// Whether the flow goes where no wider network and no wildcard is meant.
fn is_special(flow: &Flow) -> bool {
    match &flow.destination {
        Destination::Address(address) => egressd::policy::special_purpose(*address).is_some(),
        Destination::Name(name) => name.as_str().ends_with("dns.google"),
    }
}
