//! What agents and rules may use up. What left is counted on the wire.

use crate::{
    AGENT, fence,
    fence::{Agent, Fence},
    gate::server::{Manner, Server},
    lab::Lab,
    policies::with,
    program::{self, poll_for},
    reload::reload,
    talker::Talker,
};
use nix::sys::signal::Signal;
use std::time::Duration;

#[test]
fn no_more_octets_leave_than_a_rule_may_let_out_however_many_flows_race() {
    let fence = fence(&with(&[&tcp("max_bytes: 1MB")]));
    for mode in [CGROUP, SEALED] {
        let agent = fence.agent(AGENT).with(mode);
        let (spent, on_wire) = spend(&agent, "tcp db.test 9000 8 300000", TCP);
        is_near(on_wire, 1_000_000, 8);
        assert!(spent.cut >= 4 && spent.slow == 0, "whoever is cut hears of it at once: {spent:?}");
        let denial = agent.denial("the end", |record| record["reason"] == "budget-spent");
        assert_eq!(denial["destination"]["name"], "db.test", "{denial:#}");
        assert!(denial["rule"].to_string().contains("policy.yaml:5"), "{denial:#}");
    }
    let (spent, on_wire) = unfenced(fence.lab(), "tcp db.test 9000 8 300000", TCP);
    assert_eq!((spent.sent, spent.cut), (2_400_000, 0), "{spent:?}");
    assert!(on_wire >= 2_400_000, "{on_wire}");
}

#[test]
fn an_agent_has_one_budget_for_all_that_it_sends() {
    let fence = fence(&own("max_bytes: 500kB", &[&tcp(""), &udp("")]));
    let agent = fence.agent(AGENT);
    let both = "spend udp db.test 9000 4 100000; spend tcp db.test 9000 4 200000";
    let (_, on_wire) = spend_all(&agent, both);
    assert!(on_wire <= 500_000 && on_wire > 500_000 - 4 * SEGMENT, "{on_wire}");
    let denial = agent.denial("the end", |record| record["reason"] == "budget-spent");
    assert_eq!(denial["rule"], serde_json::Value::Null, "{denial:#}");
    let (spent, _) = spend(&agent, "udp db.test 9000 1 10000", UDP);
    assert_eq!(spent.sent, 10_000, "the next agent has what the first one had: {spent:?}");
}

#[test]
fn exactly_so_many_flows_start_however_many_race() {
    let fence = fence(&own("max_connections: 90", &[&tcp("max_connections: 37")]));
    for mode in [CGROUP, SEALED] {
        let agent = fence.agent(AGENT).with(mode);
        let (spent, _) = spend(&agent, "race db.test 9000 16 10", TCP);
        assert_eq!((spent.connected, spent.refused), (37, 123), "{spent:?}");
        agent.denial("the last", |record| record["reason"] == "budget-spent");
    }
    let (spent, _) = unfenced(fence.lab(), "race db.test 9000 16 10", TCP);
    assert_eq!(spent.connected, 160, "{spent:?}");
}

#[test]
fn flows_start_no_faster_than_their_rate() {
    let fence = fence(&with(&[&tcp("rate: 9/h")]));
    let agent = fence.agent(AGENT);
    let (spent, _) = spend(&agent, "race db.test 9000 8 5", TCP);
    assert_eq!((spent.connected, spent.refused), (9, 31), "{spent:?}");
    agent.denial("the rate", |record| record["reason"] == "rate-exceeded");
}

#[test]
fn datagrams_to_one_place_are_a_flow_and_their_octets_count() {
    let fence = fence(&with(&[&udp("max_bytes: 50kB, max_connections: 3")]));
    let agent = fence.agent(AGENT);
    let (spent, on_wire) = spend(&agent, "udp db.test 9000 8 10000", UDP);
    assert_eq!((spent.sent, spent.refused, on_wire), (30_000, 5, 30_000), "three sockets: {spent:?}");
    let (spent, on_wire) = spend(&agent, "udp db.test 9000 1 90000", UDP);
    assert_eq!((spent.sent, on_wire, spent.refused), (50_000, 50_000, 1), "{spent:?}");
}

#[test]
fn octets_count_of_flows_whose_server_name_the_kernel_reads() {
    spends_by_tls("kernel", CGROUP, 8 * SEGMENT);
}

#[test]
fn octets_count_of_flows_that_go_through_the_proxy() {
    // A reset takes back what waits for its server to read.
    spends_by_tls("proxy", SEALED, 1_000_000);
}

/// Eight flows of TLS by `gate` keep to a budget together, of which all but `lost` arrives, and no more of them
/// start than may.
fn spends_by_tls(gate: &str, mode: &'static [&'static str], lost: u64) {
    let rule = |bounds: &str| {
        with(&[&format!("{{host: ok.test, ports: [4430], private: true, gate: {gate}, {bounds}}}")])
    };
    let fence = fence(&rule("max_bytes: 1MB"));
    let server = Server::start(fence.lab(), Manner::Answers);
    let agent = fence.agent(AGENT).with(mode);
    let (spent, _) = spend(&agent, "tls ok.test 4430 8 300000", TCP);
    let heard = server.heard().len() as u64;
    assert!(heard <= 1_000_000 && heard >= 1_000_000 - lost, "{heard}");
    // There is enough for three. Who comes so late that not even the hello can be paid for is refused.
    assert!(
        spent.cut + spent.refused >= 5 && spent.slow == 0,
        "whoever is cut hears of it at once: {spent:?}"
    );
    let denial = agent.denial("the end", |record| record["reason"] == "budget-spent");
    assert_eq!(denial["destination"]["name"], "ok.test", "{denial:#}");
    // Another one, for the first may have something left to read.
    drop(server);
    let server = Server::start(fence.lab(), Manner::Answers);
    reload(&fence, &rule("max_connections: 5"));
    let (spent, _) = spend(&agent, "tls ok.test 4430 8 100", TCP);
    assert_eq!((spent.cut, spent.refused), (0, 3), "{spent:?}");
    assert_eq!(server.heard().len() as u64, 5 * (hello(&server) + 100), "{spent:?}");
    let (spent, _) = unfenced(fence.lab(), "tls ok.test 4430 8 300000", TCP);
    assert_eq!((spent.sent, spent.cut), (2_400_000, 0), "{spent:?}");
}

/// Octets of the first hello that it heard.
fn hello(server: &Server) -> u64 {
    let heard = server.heard();
    (u64::from(heard[3]) << 8 | u64::from(heard[4])) + 5
}

#[test]
fn a_bound_that_a_reload_raises_adds_to_what_is_used() {
    let fence = fence(&with(&[&tcp("max_connections: 2")]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("tcp db.test 9000 one");
    talker.does("keep db.test 9000");
    talker.fails("tcp db.test 9000 three");
    reload(&fence, &with(&[&tcp("max_connections: 3")]));
    talker.does("say that flows go on");
    talker.does("tcp db.test 9000 three");
    talker.fails("tcp db.test 9000 four");
    reload(&fence, &with(&[&tcp("max_connections: 1")]));
    talker.fails("tcp db.test 9000 five");
    reload(&fence, &with(&[&tcp("")]));
    talker.does("tcp db.test 9000 six");
}

#[test]
fn what_is_used_stays_used_whatever_becomes_of_the_daemon() {
    let mut fence = fence(&with(&[&tcp("max_connections: 3")]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("tcp db.test 9000 one");
    fence.kill();
    // No name is looked up, and grants are held: the kernel goes on by itself.
    talker.does("tcp 10.99.0.12 9000 two");
    fence.restart();
    assert_eq!(used(&fence), 2);
    talker.does("tcp db.test 9000 three");
    talker.fails("tcp db.test 9000 four");
}

#[test]
fn a_term_ends_in_the_kernel_though_no_daemon_acts() {
    let fence = fence(&with(&[&tcp("for: 12s")]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 9000");
    talker.does("say before");
    fence.daemon().signal(Signal::SIGSTOP);
    let ended =
        poll_for(Duration::from_secs(30), || (talker.tell("tcp 10.99.0.12 9000 x") != "ok").then_some(()));
    let is_cut = poll_for(Duration::from_secs(5), || (talker.tell("say after") != "ok").then_some(()));
    fence.daemon().signal(Signal::SIGCONT);
    assert!(ended.is_some(), "new flows start after the end");
    assert!(is_cut.is_some(), "the flow outlives the term");
    fence.agent(AGENT).denial("the end", |record| record["reason"] == "rule-expired");
}

#[test]
fn what_is_used_is_shown_and_explained() {
    let fence = fence(&own("max_connections: 10", &[&tcp("max_bytes: 10kB")]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("tcp db.test 9000 four");
    let shown = fence.ctl(&["budgets", "--agent", AGENT]);
    assert!(shown.says("1 of 10 connections  9 left"), "{shown:#?}");
    let explained = fence.ctl(&["explain", "db.test:9000", "--agent", AGENT]);
    assert!(explained.says("budget") && explained.says("9 left"), "{explained:#?}");
    assert_eq!(fence.ctl(&["budgets", "--agent", "nobody"]).code, 2);
}

#[test]
fn a_budget_is_told_when_half_of_it_is_used_up_and_most_and_all() {
    let fence = fence(&with(&[&tcp("max_connections: 10")]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    for (flows, flag) in [(5, "budget-half"), (3, "budget-most"), (2, "budget-all")] {
        for _ in 0..flows {
            talker.does("tcp db.test 9000 x");
        }
        let is_told = || {
            let told = fence.ctl(&["tail", "-n", "1000", "-o", "json"]);
            told.stdout.lines().find(|line| line.contains(flag)).map(str::to_owned)
        };
        let line = poll_for(Duration::from_secs(10), is_told).unwrap_or_else(|| panic!("no {flag}"));
        assert!(line.contains("policy.yaml:5") && line.contains("of 10 connections"), "{line}");
    }
}

/// Connections of the only rule that has a budget.
fn used(fence: &Fence) -> u64 {
    let shown = fence.ctl(&["budgets", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_str(shown.stdout.trim()).expect("JSON");
    told["budgets"][0]["connections"]["used"].as_u64().unwrap_or_else(|| panic!("{told:#}"))
}

/// What `spend.py` says.
#[derive(Debug, Clone, Copy)]
struct Spent {
    sent: u64,
    connected: u64,
    refused: u64,
    cut: u64,
    slow: u64,
}

impl Spent {
    fn of(outcome: &program::Outcome) -> Self {
        let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
        let count = |what: &str| {
            let at = words.iter().position(|word| *word == what).unwrap_or_else(|| panic!("{outcome:#?}"));
            words[at + 1].parse().unwrap_or_else(|_| panic!("{outcome:#?}"))
        };
        let [sent, connected, refused, cut, slow] =
            ["sent", "connected", "refused", "cut", "slow"].map(count);
        Self { sent, connected, refused, cut, slow }
    }
}

/// Has `agent` spend, and counts the octets that were on the wire.
fn spend(agent: &Agent, how: &str, transport: u8) -> (Spent, u64) {
    let (lab, position) = (agent.fence().lab(), agent.fence().lab().sniffer().position());
    let outcome = agent.run(&format!("{SPEND} {how}"));
    lab.settle();
    (Spent::of(&outcome), on_wire(lab, position, transport))
}

/// The same of several, in which `spend` stands for the program; of what they say, the last.
fn spend_all(agent: &Agent, script: &str) -> (program::Outcome, u64) {
    let (lab, position) = (agent.fence().lab(), agent.fence().lab().sniffer().position());
    let outcome = agent.run(&script.replace("spend ", &format!("{SPEND} ")));
    lab.settle();
    (outcome, on_wire(lab, position, TCP) + on_wire(lab, position, UDP))
}

/// The same without the fence.
fn unfenced(lab: &Lab, how: &str, transport: u8) -> (Spent, u64) {
    let position = lab.sniffer().position();
    let outcome = lab.run(&format!("{SPEND} {how}"));
    lab.settle();
    (Spent::of(&outcome), on_wire(lab, position, transport))
}

/// Octets of payload to the sinks.
fn on_wire(lab: &Lab, position: usize, transport: u8) -> u64 {
    let frames = lab.sniffer().since(position);
    let octets = frames.iter().filter_map(|frame| match transport {
        UDP => frame.datagram(9000),
        _ => frame.payload(9000),
    });
    octets.map(|octets| octets.len() as u64).sum()
}

/// Not more, and not less than what each of `flows` could not send in one piece.
fn is_near(octets: u64, most: u64, flows: u64) {
    assert!(octets <= most && octets > most - flows * SEGMENT, "{octets} of {most}");
}

fn tcp(bounds: &str) -> String {
    format!("{{host: db.test, protocol: tcp, ports: [9000], private: true, {bounds}}}")
}

fn udp(bounds: &str) -> String {
    format!("{{host: db.test, protocol: udp, ports: [9000], private: true, {bounds}}}")
}

/// A policy of an agent with bounds of its own.
fn own(bounds: &str, rules: &[&str]) -> String {
    with(rules).replace("  default:\n", &format!("  default:\n    {bounds}\n"))
}

/// What the kernel hands to a link at once.
const SEGMENT: u64 = 64 * 1024;
const TCP: u8 = 6;
const UDP: u8 = 17;
const CGROUP: &[&str] = &["--mode", "cgroup"];
const SEALED: &[&str] = &["--mode", "sealed"];
const SPEND: &str = concat!("/usr/bin/python3 ", env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/spend.py");
