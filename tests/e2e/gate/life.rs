//! Flows that named their server, while policies and daemons come and go; and what is left of them.

use super::{CGROUP, SEALED, gated, server::Manner, servers};
use crate::{
    AGENT, bpf,
    fence::Fence,
    policies::{with, with_denied},
    program::{self, Program, poll_for},
    reload::{cut, reload},
    talker::Talker,
};
use std::time::Duration;

#[test]
fn a_rule_that_is_removed_cuts_its_live_flows_and_no_others() {
    let fence = crate::fence(&with(&[OK, WILD]));
    let _servers = servers(fence.lab());
    let mut talker = two_names(&fence);
    reload(&fence, &with(&[WILD]));
    cut(&mut talker, "gate.say_gated ok.test after");
    talker.does("gate.say_gated www.ok.test after");
    talker.fails("gate.keep_gated ok.test 4430 ok.test");
    let record = fence
        .agent(AGENT)
        .denial("the flow", |record| record["gate"] == "server-name" && record["reason"] == "rule-removed");
    assert_eq!(record["destination"]["name"], "ok.test", "{record:#}");
}

#[test]
fn a_deny_rule_that_is_added_cuts_live_flows_of_its_name_and_no_others() {
    let fence = crate::fence(&with(&[OK, WILD]));
    let _servers = servers(fence.lab());
    let mut talker = two_names(&fence);
    reload(&fence, &with_denied(&[OK, WILD], &["{host: www.ok.test}"]));
    cut(&mut talker, "gate.say_gated www.ok.test after");
    talker.does("gate.say_gated ok.test after");
    talker.fails("gate.keep_gated www.ok.test 4430 www.ok.test");
    let record = fence.agent(AGENT).denial("the flow", |record| record["reason"] == "denied-by-rule");
    assert_eq!(record["destination"]["name"], "www.ok.test", "{record:#}");
}

#[test]
fn a_flow_that_is_cut_hears_of_it_without_a_word_of_its_own() {
    let fence = crate::fence(&with(&[OK, WILD]));
    let _servers = servers(fence.lab());
    let mut talker = two_names(&fence);
    reload(&fence, &with(&[WILD]));
    talker.does("gate.hears_the_end ok.test");
}

#[test]
fn a_rule_that_stays_keeps_its_live_gated_flows() {
    let fence = crate::fence(&with(&["{host: alt.test, private: true}", OK, WILD]));
    let _servers = servers(fence.lab());
    let mut talker = two_names(&fence);
    // On another line by then, and another rule's words.
    reload(&fence, &with(&[WILD, "{host: ok.test, ports: [4430], private: true, reason: other}"]));
    for flow in ["gate.say_gated ok.test after", "gate.say_gated www.ok.test after"] {
        talker.does(flow);
    }
}

#[test]
fn live_gated_flows_outlive_the_daemon_and_no_flow_begins_unread() {
    let mut fence = gated("kernel");
    let _servers = servers(fence.lab());
    let mut talker = two_names(&fence);
    fence.kill();
    for trick in ["gate.say_gated ok.test meanwhile", "gate.say_gated www.ok.test meanwhile"] {
        talker.does(trick);
    }
    let (mark, position) = (crate::sniffer::mark(), fence.lab().sniffer().position());
    talker.fails(&format!("gate.say whole 4 10.99.0.10 4430 {mark}.evil.test"));
    talker.fails(&format!("gate.say_raw 4 10.99.0.10 4430 {mark}"));
    fence.lab().settle();
    assert!(!super::shows(fence.lab(), position, &mark), "a flow that named no granted server leaked");
    fence.restart();
    for trick in ["gate.say_gated ok.test after", "gate.say_gated www.ok.test after"] {
        talker.does(trick);
    }
    talker.does("gate.say whole 4 ok.test 4430 ok.test");
    talker.fails("gate.say whole 4 ok.test 4430 evil.test");
    reload(&fence, &with(&[WILD]));
    cut(&mut talker, "gate.say_gated ok.test cut");
    talker.does("gate.say_gated www.ok.test cut");
}

#[test]
fn a_rule_that_goes_while_the_daemon_is_dead_cuts_gated_flows_when_it_is_back() {
    let mut fence = crate::fence(&with(&[OK, WILD]));
    let _servers = servers(fence.lab());
    let mut talker = two_names(&fence);
    fence.kill();
    fence.write_policy(&with(&[WILD]));
    fence.restart();
    cut(&mut talker, "gate.say_gated ok.test after");
    talker.does("gate.say_gated www.ok.test after");
}

#[test]
fn a_sealed_agents_gated_flows_are_cut_with_their_rule_and_outlive_the_daemon() {
    let wild = "{host: '*.ok.test', ports: [4430], private: true, gate: kernel}";
    let own = "{host: ok.test, ports: [4430], private: true, gate: kernel}";
    let mut fence = crate::fence(&with(&[own, wild]));
    let _servers = servers(fence.lab());
    let mut talker = two_names_of(&fence, "sealed");
    fence.kill();
    talker.does("gate.say_gated ok.test meanwhile");
    fence.restart();
    talker.does("gate.say_gated ok.test restarted");
    reload(&fence, &with(&[wild]));
    cut(&mut talker, "gate.say_gated ok.test after");
    talker.does("gate.say_gated www.ok.test after");
}

#[test]
fn nothing_is_left_of_an_agent_that_ended() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for (mode, end) in [("cgroup", "end"), ("cgroup", "kill"), ("sealed", "end"), ("sealed", "kill")] {
        let counted = || bpf::count_entries(&fence.lab().folder().join("run/bpf/maps/SILENT_COUNTS"));
        let before = counted();
        let agent = fence.agent(AGENT).with(if mode == "cgroup" { CGROUP } else { SEALED });
        let command = format!("/usr/bin/python3 {} gate.hold 4 ok.test 4430 30", crate::attack::TRICKS);
        let mut holder = agent.spawn(&["bash", "-c", &command]);
        program::poll("the flows", || {
            assert!(!holder.has_ended(), "{}{}", holder.stdout(), holder.stderr());
            holder.stdout().contains("holding").then_some(())
        });
        assert_eq!(Left::of(&fence), Left { named: 10, silent: 20 }, "{mode}");
        match end {
            "end" => holder.close_stdin(),
            _ => holder.signal(nix::sys::signal::Signal::SIGKILL),
        }
        is_empty(&fence, &format!("{mode}, {end}"));
        // Of one that was killed, the daemon learns by and by.
        if end == "end" {
            program::poll("the count to go", || (counted() <= before).then_some(()));
        }
    }
}

#[test]
fn nothing_is_left_of_fifty_thousand_gated_flows() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    storm(&fence, "mixed", FLOWS);
    is_empty(&fence, "the storm");
    // And the gate still tells names apart.
    let agent = fence.agent(AGENT).with(CGROUP);
    super::works(&agent, crate::places::OK, &["{trick} gate.say whole 4 {host} 4430 {host}"]);
    super::stops(&agent, &["{trick} gate.say whole 4 ok.test 4430 {mark}.evil.test"]);
}

#[test]
fn agents_that_come_and_go_cut_no_flow_of_another() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let mut clients = connectors(&fence, "answered", FLOWS / 10);
    let mut count = 0;
    while !clients.iter_mut().any(Program::has_ended) {
        let passer_by = fence.agent(AGENT).with(CGROUP).run("true");
        assert!(passer_by.succeeded(), "{passer_by:#?}");
        count += 1;
    }
    assert!(count > 5, "only {count} agents came and went meanwhile");
    for client in clients {
        let outcome = client.finish();
        assert_eq!(outcome.stdout.trim(), (FLOWS / 10).to_string(), "{outcome:#?}");
    }
}

#[test]
fn clients_that_are_killed_in_the_middle_leave_nothing() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for _ in 0..10 {
        let mut clients = connectors(&fence, "mixed", 100_000);
        program::poll("some flows", || (Left::of(&fence).named > 0).then_some(()));
        for client in &mut clients {
            client.signal(nix::sys::signal::Signal::SIGKILL);
        }
        drop(clients);
    }
    is_empty(&fence, "clients that were killed");
}

/// Four agents that make `flows` between them. All that should be answered are.
fn storm(fence: &Fence, how: &str, flows: usize) {
    let clients = connectors(fence, how, flows / CONNECTORS);
    for mut client in clients {
        let ended = poll_for(Duration::from_secs(300), || client.has_ended().then_some(()));
        assert!(ended.is_some(), "the storm does not end: {}{}", client.stdout(), client.stderr());
        let outcome = client.finish();
        let served: usize = outcome.stdout.trim().parse().unwrap_or_default();
        assert_eq!(served, flows / CONNECTORS * 8 / 10, "{outcome:#?}");
    }
}

fn connectors(fence: &Fence, how: &str, flows: usize) -> Vec<Program> {
    let port = Manner::Answers.port();
    let start = |number: usize| {
        let version = ["4", "6"][number % 2];
        let (port, flows) = (port.to_string(), flows.to_string());
        let arguments = ["/usr/bin/python3", crate::attack::TRICKS, "gate.storm", version, "ok.test"];
        let arguments = [&arguments[..], &[&port, &flows, how]].concat();
        fence.agent(AGENT).with(CGROUP).spawn(&arguments)
    };
    (0..CONNECTORS).map(start).collect()
}

/// What the kernel holds of gated flows.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// Flows that named their server.
    named: usize,
    /// Sockets that have said no name yet.
    silent: usize,
}

impl Left {
    fn of(fence: &Fence) -> Self {
        let map = |name: &str| fence.lab().folder().join("run/bpf/maps").join(name);
        Self { named: bpf::count_entries(&map("NAMED_FLOWS")), silent: bpf::count_entries(&map("SILENT")) }
    }
}

fn is_empty(fence: &Fence, whose: &str) {
    let nothing = Left { named: 0, silent: 0 };
    let gone = poll_for(program::DEADLINE, || (Left::of(fence) == nothing).then_some(()));
    assert!(gone.is_some(), "{whose} left {:?}", Left::of(fence));
}

/// An agent with a live flow to the same address by each of two names.
fn two_names(fence: &Fence) -> Talker {
    two_names_of(fence, "cgroup")
}

fn two_names_of(fence: &Fence, mode: &str) -> Talker {
    let mut talker = Talker::start(&fence.agent(AGENT).with(if mode == "cgroup" { CGROUP } else { SEALED }));
    for name in ["ok.test", "www.ok.test"] {
        talker.does(&format!("gate.keep_gated {name} 4430 {name}"));
        talker.does(&format!("gate.say_gated {name} before"));
    }
    talker
}

const OK: &str = "{host: ok.test, ports: [4430], private: true}";
const WILD: &str = "{host: '*.ok.test', ports: [4430], private: true}";
const CONNECTORS: usize = 4;
const FLOWS: usize = 50_000;
