//! Octets that try to get around the gate, or that are not those that it judged.

use super::{CGROUP, gated, leaks, said, servers, stops};
use crate::{
    AGENT,
    attack::script,
    fence::Fence,
    lab::Lab,
    places::OK,
    program::{self, Program},
    sniffer::mark,
};

#[test]
fn octets_that_wait_for_the_flow_do_not_leave_before_a_hello() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let _hold = Hold::first_syns(fence.lab());
    for how in ["plain", "corked", "hello"] {
        let name = if how == "hello" { "{mark}.evil.test" } else { "{mark}" };
        for version in ["4", "6"] {
            let trick = format!("{{trick}} gate.slept {version} ok.test 4430 {name} {how}");
            is_silent(&fence, &format!("{how}-{version}"), &trick, "hello-skipped");
        }
    }
}

#[test]
fn octets_in_the_first_segment_do_not_leave_before_a_hello() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for (how, version) in [("message", "4"), ("message", "6"), ("connect", "4"), ("connect", "6")] {
        let trick = format!("{{trick}} gate.opened_fast {version} ok.test 4430 {{mark}} {how}");
        is_silent(&fence, &format!("{how}-{version}"), &trick, "hello-skipped");
    }
}

#[test]
fn a_flow_that_both_sides_open_says_nothing_before_a_hello() {
    let fence = gated("kernel");
    let lab = fence.lab();
    let _hold = Hold::syns(lab);
    let mut command = lab.inet_command("/usr/bin/python3");
    command.args([crate::attack::TRICKS, "gate.meets", "4", "10.99.0.1", "4431", "10.99.0.10"]);
    let other = Program::start(command);
    program::poll("the other side", || other.stdout().contains("ready").then_some(()));
    stops(&fence.agent(AGENT).with(CGROUP), &["{trick} gate.opened_by_two 4 ok.test 4431 {mark}"]);
}

#[test]
fn a_flow_over_several_paths_is_denied_at_a_gated_port() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks =
        ["{trick} gate.over_paths 4 ok.test 4430 {mark}", "{trick} gate.over_paths 6 ok.test 4430 {mark}"];
    stops(&fence.agent(AGENT).with(CGROUP), &tricks);
}

#[test]
fn the_rest_of_a_hello_that_found_no_room_is_that_of_the_hello() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks = ["4 urgent", "6 urgent", "4 segments", "6 segments", "4 grown", "6 grown"].map(|way| {
        let (version, how) = way.split_once(' ').expect("two words");
        format!("{{trick}} gate.partly_pushed {version} ok.test 4433 {{mark}} {how}")
    });
    stops(&fence.agent(AGENT).with(CGROUP), &tricks.each_ref().map(String::as_str));
}

#[test]
fn pages_that_change_after_the_verdict_change_nothing_that_leaves() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    // What nobody acknowledges is sent again, from the same pages.
    let _hold = Hold::payloads(fence.lab());
    let tricks = ["file", "splice", "gift", "zero_copy"]
        .map(|how| format!("{{trick}} gate.swapped 4 ok.test 4430 {{mark}} {how}"));
    stops(&fence.agent(AGENT).with(CGROUP), &tricks.each_ref().map(String::as_str));
}

#[test]
fn nothing_follows_a_hello_before_the_server_answers_it() {
    let fence = gated("kernel");
    let [_, silent, ..] = servers(fence.lab());
    let tricks = [
        "{trick} gate.behind 4 ok.test 4431 {mark} together",
        "{trick} gate.behind 6 ok.test 4431 {mark} together",
        "{trick} gate.behind 4 ok.test 4431 {mark} apart",
        "{trick} gate.behind 4 ok.test 4431 {mark} hello",
        "{trick} gate.raced 4 ok.test 4431 {mark}",
        "{trick} gate.raced 6 ok.test 4431 {mark}",
    ];
    stops(&fence.agent(AGENT).with(CGROUP), &tricks);
    assert!(!silent.heard().is_empty(), "the hello itself arrives");
}

#[test]
fn a_socket_that_goes_elsewhere_has_to_name_its_server_again() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks = [
        "{trick} gate.reconnected 4 ok.test 4431 {mark} half",
        "{trick} gate.reconnected 6 ok.test 4431 {mark} half",
        "{trick} gate.reconnected 4 ok.test 4430 {mark} whole",
        "{trick} gate.reconnected 6 ok.test 4430 {mark} whole",
        "{trick} gate.redirected 4 ok.test 9000 4430 {mark}",
        "{trick} gate.redirected 6 ok.test 9000 4430 {mark}",
    ];
    stops(&fence.agent(AGENT).with(CGROUP), &tricks);
}

#[test]
fn a_socket_that_changes_its_functions_stays_behind_the_gate() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks = [
        "{trick} gate.reformed ok.test 4430 {mark}",
        "{trick} gate.layered 4 ok.test 4430 {mark}",
        "{trick} gate.layered 6 ok.test 4430 {mark}",
    ];
    stops(&fence.agent(AGENT).with(CGROUP), &tricks);
}

#[test]
fn a_ring_writes_nothing_to_a_gated_port() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    stops(&fence.agent(AGENT).with(CGROUP), &["{trick} gate.ringed 4 ok.test 4430 {mark}"]);
}

#[test]
fn a_flow_that_another_agent_is_handed_is_the_first_ones() {
    let own = super::policy("kernel").replace("default:", "maker:\n    host_sockets: true");
    let taker = "  taker:\n    host_sockets: true\n    rules:\n      - {host: evil.test, private: true}\n";
    let fence = crate::fence(&(own + taker));
    let _servers = servers(fence.lab());
    let (mark, path) = (mark(), fence.lab().folder().join("door"));
    let path = path.display();
    let open = std::process::Command::new("chmod").arg("777").arg(fence.lab().folder()).status();
    assert!(open.is_ok_and(|status| status.success()));
    let offer = format!("/usr/bin/python3 {} gate.offered 4 ok.test 4430 {path}", crate::attack::TRICKS);
    let maker = fence.agent("maker").with(CGROUP).spawn(&["bash", "-c", &offer]);
    program::poll("the offer", || maker.stdout().contains("ready").then_some(()));
    let position = fence.lab().sniffer().position();
    let take = format!("/usr/bin/python3 {} gate.taken {path} {mark}", crate::attack::TRICKS);
    let outcome = fence.agent("taker").with(CGROUP).run(&take);
    assert!(outcome.stdout.contains("heard"), "the flow should be handed on: {outcome:#?}");
    fence.lab().settle();
    assert_eq!(said(fence.lab(), position, 4430), "", "{outcome:#?}");
    let record = fence.agent("maker").denial("the hello", |record| record["gate"] == "server-name");
    assert_eq!(record["destination"]["name"], format!("{mark}.evil.test"), "{record:#}");
}

/// Nothing leaves, somebody hears of it, and the record says why; the next flow goes through the proxy.
fn is_silent(fence: &Fence, name: &str, trick: &str, reason: &str) {
    let (lab, agent, mark) = (fence.lab(), fence.agent(name).with(CGROUP), mark());
    let position = lab.sniffer().position();
    let outcome = agent.run(&script(trick, OK, &mark));
    lab.settle();
    assert_eq!(said(lab, position, 4430), "", "`{trick}` leaked with {outcome:#?}");
    super::heard_in_time(trick, &outcome);
    let record = agent.denial(trick, |record| record["gate"] == "server-name");
    assert_eq!(record["reason"], reason, "`{trick}`: {record:#}");
    assert_eq!(record["path"], "kernel");
    leaks(lab, 4430, trick);
}

/// What the internet's side does not take, until it is dropped. The sniffer sees it all the same.
pub struct Hold<'a>(&'a Lab);

impl<'a> Hold<'a> {
    /// The first SYN of every flow: it is sent again a second later.
    pub fn first_syns(lab: &'a Lab) -> Self {
        Self::of(lab, "tcp flags & (syn | ack) == syn tcp sport != @seen add @seen { tcp sport } drop")
    }

    /// All of them to the port that says nothing: only two sides that call each other get through.
    pub fn syns(lab: &'a Lab) -> Self {
        Self::of(lab, "tcp dport 4431 tcp flags & (syn | ack) == syn drop")
    }

    /// Segments that carry more than a few octets.
    pub fn payloads(lab: &'a Lab) -> Self {
        Self::of(lab, "tcp dport 4430 meta length > 100 drop")
    }

    fn of(lab: &'a Lab, rule: &str) -> Self {
        let table = format!(
            "table inet hold {{\nset seen {{ type inet_service; flags dynamic; size 4096; }}\nchain hold {{ type filter hook input priority 0; iifname lan {rule}; }}\n}}"
        );
        let mut nft = lab.inet_command("nft");
        let outcome = program::run({
            nft.arg(table);
            nft
        });
        assert!(outcome.succeeded(), "{outcome:#?}");
        Self(lab)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut nft = self.0.inet_command("nft");
        let _ = nft.args(["delete", "table", "inet", "hold"]).status();
    }
}
