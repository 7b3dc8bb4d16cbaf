//! Who pays: the rule of the destination, whatever a socket does meanwhile, and whoever makes the frames.

use crate::{
    AGENT, fence,
    fence::Agent,
    lab::Lab,
    places::{DB, OK},
    policies::with,
    program::{self, Outcome, Program},
    reload::reload,
    sniffer::mark,
};
use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

#[test]
fn a_datagram_is_paid_for_by_its_destination_whatever_its_socket_connects_to_meanwhile() {
    let bounded = network(DB.v4, 9000, ", max_bytes: 1000");
    let fence = fence(&with(&[&bounded, &network(DB.v4, 5432, "")]));
    let race = format!("{} there {} 9000 {} 5432", compile(fence.lab()), DB.v4, DB.v4);
    for mode in [CGROUP, SEALED] {
        let octets = octets_to(fence.lab(), DB.v4, 9000, || {
            fence.agent(AGENT).with(mode).run(&format!("{race} {TURNS}"))
        });
        assert_eq!(octets, 1000, "{mode:?}");
    }
    let octets = octets_to(fence.lab(), DB.v4, 9000, || fence.lab().run(&format!("{race} {SEEN}")));
    assert!(octets > 1000, "{octets}");
}

#[test]
fn half_of_a_destination_and_half_of_another_is_none_that_is_allowed() {
    let fence = fence(&with(&[&network(OK.v4, 9000, ""), &network(DB.v4, 5432, "")]));
    let race = format!("{} connected {} 9000 {} 5432 {SEEN}", compile(fence.lab()), OK.v4, DB.v4);
    let allowed = format!("echo x > /dev/udp/{}/9000; echo x > /dev/udp/{}/5432", OK.v4, DB.v4);
    let position = fence.lab().sniffer().position();
    let agent = fence.agent(AGENT).with(CGROUP);
    let octets = octets_to(fence.lab(), DB.v4, 9000, || agent.run(&format!("{race}; {allowed}")));
    assert_eq!(octets + octets_since(fence.lab(), position, OK.v4, 5432), 0);
    for (address, port) in [(OK.v4, 9000), (DB.v4, 5432)] {
        assert!(octets_since(fence.lab(), position, address, port) > 0, "{address}:{port} is allowed");
    }
}

#[test]
fn each_segment_that_opens_a_flow_is_a_flow_of_who_makes_frames() {
    let fence = fence(&makes_frames(&host("tcp", "max_connections: 3")));
    let agent = fence.agent(AGENT);
    let mut frames = Frames::start(&agent);
    assert_eq!(
        frames.send(fence.lab(), "opening", 10),
        3,
        "the same segment again may open what was closed meanwhile"
    );
    agent.denial("the fourth", |record| record["reason"] == "budget-spent");
    reload(&fence, &makes_frames(&host("tcp", "max_connections: 5")));
    assert_eq!(frames.send(fence.lab(), "opening", 10), 2);
    assert_eq!(Frames::unfenced(fence.lab()).send(fence.lab(), "opening", 10), 10);
}

#[test]
fn headers_count_of_who_writes_them() {
    for (protocol, how, fit) in [("tcp", "idle", 2000 / (20 + 60)), ("udp", "datagram", 2000 / (28 + LONG))] {
        let fence = fence(&makes_frames(&host(protocol, "max_bytes: 2000")));
        let agent = fence.agent(AGENT);
        assert_eq!(Frames::start(&agent).send(fence.lab(), how, 100), fit, "{how}");
        agent.denial("the next", |record| record["reason"] == "budget-spent");
        assert_eq!(Frames::unfenced(fence.lab()).send(fence.lab(), how, 100), 100, "{how}");
    }
}

#[test]
fn an_agent_that_was_started_to_make_frames_pays_for_them_whatever_becomes_of_its_policy() {
    let rule = |bounds: &str| host("udp", bounds);
    let mut fence = fence(&makes_frames(&rule("max_bytes: 2000")));
    let fit = 2000 / (28 + LONG);
    let mut frames = Frames::start(&fence.agent(AGENT));
    assert_eq!(frames.send(fence.lab(), "datagram", 100), fit);
    reload(&fence, &with(&[&rule("max_bytes: 2000")]));
    assert_eq!(frames.send(fence.lab(), "datagram", 100), 0, "without the capabilities of the policy");
    fence.kill();
    fence.restart();
    assert_eq!(frames.send(fence.lab(), "datagram", 100), 0, "with another daemon");
    reload(&fence, &with(&[&rule("max_bytes: 4000")]));
    assert_eq!(frames.send(fence.lab(), "datagram", 100), 4000 / (28 + LONG) - fit, "with a higher bound");
}

/// `frames.py`, which makes frames when it is told to.
struct Frames {
    program: Program,
    told: usize,
}

impl Frames {
    fn start(agent: &Agent) -> Self {
        Self { program: agent.spawn(&["/usr/bin/python3", FRAMES]), told: 0 }
    }

    fn unfenced(lab: &Lab) -> Self {
        let mut command = lab.command(&["/usr/bin/python3", FRAMES]);
        command.stdin(Stdio::piped());
        Self { program: Program::start(command), told: 0 }
    }

    /// Has it send `count` frames to the sinks, and counts those that were on the wire.
    fn send(&mut self, lab: &Lab, how: &str, count: usize) -> usize {
        let (position, mark) = (lab.sniffer().position(), format!("{:.<LONG$}", mark()));
        self.told += 1;
        writeln!(self.program.stdin(), "{how} db.test 9000 {count} {mark}").expect("it reads");
        program::poll("frames that are sent", || {
            let (said, failed) = (self.program.stdout(), self.program.stderr());
            assert!(!self.program.has_ended(), "it ended: {said}{failed}");
            (said.lines().count() == self.told).then_some(())
        });
        lab.settle();
        lab.sniffer().since(position).iter().filter(|frame| frame.carries(mark.as_bytes())).count()
    }
}

/// Octets of datagrams to (`address`, `port`) that are on the wire while `act` lasts.
fn octets_to(lab: &Lab, address: Ipv4Addr, port: u16, act: impl FnOnce() -> Outcome) -> usize {
    let position = lab.sniffer().position();
    let outcome = act();
    assert!(outcome.succeeded(), "{outcome:#?}");
    lab.settle();
    octets_since(lab, position, address, port)
}

fn octets_since(lab: &Lab, position: usize, address: Ipv4Addr, port: u16) -> usize {
    let frames = lab.sniffer().since(position);
    let there = frames.iter().filter(|frame| frame.destination() == Some(address.into()));
    there.filter_map(|frame| frame.datagram(port)).map(<[u8]>::len).sum()
}

/// The program of `payers.c`.
fn compile(lab: &Lab) -> String {
    let program = lab.folder().join("payers");
    let compiled =
        Program::status(Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(PAYERS));
    assert!(compiled, "`cc` (Debian package build-essential) compiles {PAYERS}");
    program.display().to_string()
}

fn network(address: Ipv4Addr, port: u16, bounds: &str) -> String {
    format!("{{cidr: {address}/32, protocol: udp, ports: [{port}]{bounds}}}")
}

fn host(protocol: &str, bounds: &str) -> String {
    format!("{{host: db.test, protocol: {protocol}, ports: [9000], private: true, {bounds}}}")
}

/// A policy of agents that may make packet sockets.
fn makes_frames(rule: &str) -> String {
    with(&[rule]).replace("  default:\n", "  default:\n    capabilities: [net_raw]\n")
}

/// How often a socket connects.
const TURNS: usize = 200_000;
/// The same where all that is sent meanwhile is on the wire, and the sniffer has to see it.
const SEEN: usize = 5000;
/// Octets of a mark, as long as options of TCP may be.
const LONG: usize = 40;
const CGROUP: &[&str] = &["--mode", "cgroup"];
const SEALED: &[&str] = &["--mode", "sealed"];
const PAYERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/payers.c");
const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/frames.py");
