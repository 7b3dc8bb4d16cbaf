//! Exports to Cilium, judged as Cilium does: by name, network and port, and what is denied first.

use crate::world::{allows, compile, options};
use egressd::{
    authoring::{
        Fate,
        export::{Exported, Target, export},
    },
    policy::{Policy, Subject},
};
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

#[test]
fn a_name_with_private_addresses_keeps_its_ports_beside_a_rule_for_their_network() {
    let rules = ["{cidr: 10.0.0.0/8, protocol: tcp, ports: [3306]}", "{host: priv.test, private: true}"];
    let (policy, exported) = of(&rules);
    assert!(!exported.needs_a_look(), "{:#?}", exported.report);
    for flow in [flow("priv.test", "10.0.0.1", 443), flow("priv.test", "10.0.0.1", 3306)] {
        assert!(passes(&exported, &flow) && is_allowed(&policy, &flow), "{flow:?}\n{}", exported.text);
    }
    let metadata = flow("priv.test", "169.254.169.254", 443);
    assert!(!passes(&exported, &metadata), "{}", exported.text);
}

#[test]
fn a_network_within_another_keeps_its_ports() {
    let rules = [
        "{cidr: 10.0.0.0/8, protocol: tcp, ports: [3306]}",
        "{cidr: 10.1.0.0/16, protocol: tcp, ports: [22]}",
        "{host: ok.test}",
    ];
    let (_, exported) = of(&rules);
    for (address, port, is_open) in [
        ("10.0.0.1", 3306, true),
        ("10.1.0.1", 3306, true),
        ("10.1.0.1", 22, true),
        ("10.0.0.1", 22, false),
        ("10.1.0.1", 443, false),
    ] {
        let flow = flow("ok.test", address, port);
        assert_eq!(passes(&exported, &flow), is_open, "{flow:?}\n{}", exported.text);
    }
    let text = &exported.text;
    assert!(text.contains("- cidr: \"10.0.0.0/8\"\n          except: [\"10.1.0.0/16\"]\n"), "{text}");
}

#[test]
fn no_network_is_denied_with_all_of_itself_excepted() {
    let (_, exported) = of(&["{cidr: 203.0.113.0/24, protocol: tcp, ports: [22]}", "{host: ok.test}"]);
    assert!(!exported.text.contains("except: [\"203.0.113.0/24\"]"), "{}", exported.text);
}

#[test]
fn no_list_of_ports_is_longer_than_cilium_reads() {
    let ports: Vec<String> = (0..64).map(|number| (1000 + 2 * number).to_string()).collect();
    let ports = ports.join(", ");
    let rules = [
        format!("{{cidr: 10.0.0.0/8, protocol: tcp, ports: [{ports}]}}"),
        format!("{{host: ok.test, ports: [{ports}]}}"),
    ];
    let (_, exported) = of(&rules.each_ref().map(String::as_str));
    for key in ["egress", "egressDeny"] {
        let spec = spec(&exported);
        let lists = list(&spec[key]).iter().flat_map(|rule| list(&rule["toPorts"]));
        assert!(lists.clone().count() > 1);
        lists.for_each(|ports| assert!(list(&ports["ports"]).len() <= 40, "{}", exported.text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn cilium_lets_through_what_the_policy_does_and_no_more(rules in prop::collection::vec(rule(), 0..6)) {
        let (policy, exported) = of(&rules);
        let is_exact = exported.report.iter().all(|line| line.fate == Fate::Exact);
        for flow in flows() {
            let (before, after) = (is_allowed(&policy, &flow), passes(&exported, &flow));
            prop_assert!(before || !after, "allows {flow:?}\n{rules:#?}\n{}", exported.text);
            prop_assert!(!is_exact || before == after, "loses {flow:?}\n{rules:#?}\n{}", exported.text);
        }
    }
}

fn rule() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{host: ok.test}",
        "{host: \"*.ok.test\"}",
        "{host: ok.test, protocol: tcp, ports: [22]}",
        "{host: priv.test, private: true}",
        "{cidr: 0.0.0.0/0, protocol: tcp, ports: [22]}",
        "{cidr: 10.0.0.0/8, protocol: tcp, ports: [3306]}",
        "{cidr: 10.1.0.0/16, protocol: tcp, ports: [22, 443]}",
        "{cidr: 10.1.2.0/24, protocol: udp, ports: [443]}",
        "{cidr: 10.1.2.0/24, protocol: tcp, ports: [3306]}",
        "{cidr: 100.64.0.0/10, protocol: tcp, ports: [443]}",
        "{cidr: 192.0.2.0/24, protocol: tcp, ports: [22]}",
    ])
}

fn flows() -> Vec<Reached> {
    let addresses = ["10.0.0.1", "10.1.0.1", "10.1.2.1", "169.254.169.254", "100.100.100.200", "100.64.0.1"];
    let addresses = addresses.into_iter().chain(["192.0.2.1", "9.9.9.9"]);
    let named = addresses.flat_map(|address| {
        ["ok.test", "a.ok.test", "priv.test", "x.test"].map(|name| flow(name, address, 443))
    });
    named.flat_map(|named| [22, 443, 3306].map(|port| Reached { port, ..named })).collect()
}

/// A flow over TCP to an address that a name was looked up to.
#[derive(Debug, Clone, Copy)]
struct Reached {
    name: &'static str,
    address: IpAddr,
    port: u16,
}

fn flow(name: &'static str, address: &str, port: u16) -> Reached {
    Reached { name, address: address.parse().unwrap(), port }
}

/// Whether the policy lets a flow through, by its name or by its address.
fn is_allowed(policy: &Policy, flow: &Reached) -> bool {
    let Reached { name, address, port } = flow;
    let is_private = |address: &IpAddr| {
        ["10.0.0.0/8", "100.64.0.0/10", "192.0.2.0/24"]
            .iter()
            .any(|network| network.parse::<IpNet>().unwrap().contains(address))
    };
    let is_never = ["169.254.169.254", "100.100.100.200"].contains(&&*address.to_string());
    let has_leave = match (is_never, is_private(address)) {
        (true, _) => false,
        (false, true) => policy.allow().iter().any(|rule| {
            rule.private && matches!(&rule.subject, Subject::Host(pattern) if pattern.to_string() == *name)
        }),
        (false, false) => true,
    };
    let by_name = ["tls", "tcp"].map(|protocol| allows(policy, &format!("{name}:{port}/{protocol}")));
    allows(policy, &format!("{address}:{port}/tcp")) || has_leave && by_name.contains(&true)
}

/// Whether Cilium does.
fn passes(exported: &Exported, flow: &Reached) -> bool {
    let spec = spec(exported);
    let covers =
        |key: &str| list(&spec[key]).iter().any(|rule| reaches(rule, flow) && is_at_ports(rule, flow));
    covers("egress") && !covers("egressDeny")
}

fn reaches(rule: &Value, flow: &Reached) -> bool {
    let holds = |network: &Value| network.as_str().unwrap().parse::<IpNet>().unwrap().contains(&flow.address);
    let is_within = |set: &Value| holds(&set["cidr"]) && !list(&set["except"]).iter().any(holds);
    let is_named =
        |selector: &Value| match (selector["matchName"].as_str(), selector["matchPattern"].as_str()) {
            (Some(name), _) => name == flow.name,
            (None, Some(pattern)) => {
                let zone = pattern.strip_prefix("*.").unwrap();
                flow.name.split_once('.').is_some_and(|(_, rest)| rest == zone)
            }
            (None, None) => panic!("{selector}"),
        };
    list(&rule["toCIDRSet"]).iter().any(is_within) || list(&rule["toFQDNs"]).iter().any(is_named)
}

fn is_at_ports(rule: &Value, flow: &Reached) -> bool {
    let Some(lists) = rule["toPorts"].as_array() else { return true };
    lists.iter().flat_map(|ports| list(&ports["ports"])).any(|port| {
        let first: u64 = port["port"].as_str().unwrap().parse().unwrap();
        let last = port["endPort"].as_u64().unwrap_or(first);
        port["protocol"] != "UDP" && (first == 0 || (first..=last).contains(&flow.port.into()))
    })
}

fn spec(exported: &Exported) -> Value {
    let document: Value = serde_saphyr::from_str(&exported.text).unwrap();
    document["spec"].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn of(rules: &[&str]) -> (Arc<Policy>, Exported) {
    let lines: String = rules.iter().map(|rule| format!("\n      - {rule}")).collect();
    let lines = if lines.is_empty() { " []".to_owned() } else { lines };
    let agent = options().agent;
    let policy = compile(&format!("version: 1\nagents:\n  default:\n    rules:{lines}\n"), &agent);
    let exported = export(Target::Cilium, &policy, &agent);
    (policy, exported)
}
