//! Every kind of rule, as it is enforced.

use crate::{
    AGENT,
    attack::{stops, works},
    fence,
    places::{ALT, DB, OK},
    policies::{self, COMMON, EMPTY},
};

#[test]
fn an_empty_policy_allows_nothing() {
    let fence = fence(EMPTY);
    let flows = [
        "curl -s -m 2 https://{mark}.{host}/",
        "curl -s -m 2 http://{host}/{mark}",
        "curl -s -m 2 http://{v4}/{mark}",
        "{trick} udp_sendto {v6} 9000 {mark}",
        "dig +short +time=2 +tries=1 {mark}.{host}",
    ];
    stops(&fence.agent(AGENT), OK, &flows);
}

#[test]
fn an_agent_without_a_policy_may_do_nothing() {
    let fence =
        fence("version: 1\nagents:\n  other:\n    rules:\n      - {host: '*.ok.test', private: true}\n");
    stops(&fence.agent(AGENT), OK, &["curl -s -m 2 https://{mark}.{host}/"]);
    works(&fence.agent("other"), OK, &["curl -sSf -m 5 https://www.{host}/"]);
}

#[test]
fn a_tcp_rule_opens_its_port_of_a_name_and_no_other() {
    let fence = fence(COMMON);
    let query = "echo {mark} | socat -t 2 - tcp:{host}:5432 | grep {mark}";
    works(&fence.agent(AGENT), DB, &[query, "{trick} tcp {host} 5432 {mark}"]);
    let denied = ["echo {mark} | timeout 2 socat - tcp:{host}:9000", "{trick} udp_sendto {v4} 5432 {mark}"];
    stops(&fence.agent(AGENT), DB, &denied);
}

#[test]
fn a_tcp_rule_opens_nothing_before_its_name_was_asked_for() {
    let fence = fence(COMMON);
    stops(&fence.agent(AGENT), DB, &["{trick} tcp {v4} 5432 {mark}", "{trick} tcp {v6} 5432 {mark}"]);
}

#[test]
fn a_udp_rule_opens_its_port_of_a_name_and_no_other() {
    let fence = fence(COMMON);
    let echo = "echo {mark} | socat -t 2 - udp:{host}:9000 | grep {mark}";
    let sendto = "getent hosts {host}; {trick} udp_sendto {v6} 9000 {mark}";
    works(&fence.agent(AGENT), DB, &[echo, sendto]);
    stops(&fence.agent(AGENT), DB, &["getent hosts {host}; {trick} udp_sendto {v6} 5432 {mark}"]);
}

#[test]
fn a_network_rule_opens_its_addresses_at_once() {
    let fence = fence(&policies::with(&["{cidr: 10.99.0.8/29, protocol: tcp, ports: [9000]}"]));
    let flow = "{trick} tcp {v4} 9000 {mark}";
    works(&fence.agent(AGENT), OK, &[flow]);
    works(&fence.agent(AGENT), ALT, &[flow]);
    stops(&fence.agent(AGENT), crate::places::SHARED, &[flow]);
    stops(&fence.agent(AGENT), OK, &["{trick} tcp {v6} 9000 {mark}", "{trick} tcp {v4} 5432 {mark}"]);
}

#[test]
fn a_deny_rule_wins() {
    let fence = fence(
        "
version: 1
agents:
  default:
    rules:
      - {host: '**.ok.test', private: true}
      - {host: alt.test, private: true}
      - {cidr: 10.99.0.0/24, protocol: tcp, ports: [9000]}
    deny:
      - {host: '**.secret.ok.test'}
      - {cidr: 10.99.0.11/32}
      - {cidr: 'fd99::11/128'}
",
    );
    works(&fence.agent(AGENT), OK, &["curl -sSf -m 5 https://www.{host}/", "{trick} tcp {v4} 9000 {mark}"]);
    stops(&fence.agent(AGENT), OK, &["curl -sk -m 2 https://{mark}.secret.{host}/"]);
    stops(&fence.agent(AGENT), ALT, &["{trick} tcp {v4} 9000 {mark}"]);
    let denied = fence.agent(AGENT).run("curl -sS -m 2 https://alt.test/");
    assert!(!denied.succeeded(), "a network that is denied is denied by name too: {denied:#?}");
}

#[test]
fn a_wildcard_is_exactly_as_wide_as_it_says() {
    let fence = fence(&policies::with(&["{host: '*.ok.test', private: true}"]));
    works(&fence.agent(AGENT), OK, &["curl -sSf -m 5 https://www.{host}/"]);
    let outside = ["dig +short +time=2 +tries=1 a.{mark}.{host}", "dig +short +time=2 +tries=1 {mark}{host}"];
    stops(&fence.agent(AGENT), OK, &outside);
    let apex = fence.agent(AGENT).run("dig +short +time=2 +tries=1 ok.test");
    assert_eq!(apex.stdout, "", "the apex is not implied: {apex:#?}");
}
