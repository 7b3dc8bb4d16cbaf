//! Octets and flows count once, whatever sends them. What was used is compared with what the wire saw.

use crate::{
    AGENT, fence,
    fence::Agent,
    frame::{Frame, payload_octets},
    policies::with,
    program::poll,
    reload::{cut, reload},
    talker::Talker,
};

#[test]
fn octets_count_once_whatever_system_call_sends_them() {
    let rules = ["tcp", "udp"].map(|protocol| {
        [
            format!("{{host: db.test, protocol: {protocol}, ports: [9000], private: true, max_bytes: 1MB}}"),
            format!("{{cidr: 'fd99::12/128', protocol: {protocol}, ports: [9000], max_bytes: 1MB}}"),
        ]
    });
    let fence = fence(&with(&rules.as_flattened().iter().map(String::as_str).collect::<Vec<_>>()));
    let calls = ["tcp", "sendfile", "splice", "zerocopy", "pieces", "fastopen", "udp_connected"];
    for mode in [CGROUP, SEALED] {
        for call in calls.into_iter().chain(["udp_segments"]) {
            for host in ["db.test", "fd99::12"] {
                let sent = || {
                    let agent = fence.agent(AGENT).with(mode);
                    let seen = see(&agent, &format!("{SPEND} {call} {host} 9000 1 20000"));
                    assert_eq!(seen.octets(9000), 20_000, "{call} {host} {mode:?}: {}", seen.said);
                    assert!(seen.used().0 >= 20_000, "{call} {host} {mode:?}: {}", seen.told);
                    seen.used().0
                };
                // What TCP sends again counts again, and it does so where a busy host answers late.
                assert!((0..4).any(|_| sent() == 20_000), "{call} {host} {mode:?}");
            }
        }
    }
}

#[test]
fn an_agent_that_makes_frames_keeps_to_its_budgets_and_hears_of_it_at_once() {
    let fence = fence(&makes_frames(&tcp("max_bytes: 1MB, max_connections: 9")));
    let agent = fence.agent(AGENT);
    let seen = see(&agent, &format!("{SPEND} tcp db.test 9000 1 20000"));
    assert_eq!((seen.used().1, seen.octets(9000)), (1, 20_000), "{}", seen.said);
    assert!(seen.used().0 > 20_000, "its headers count, too: {}", seen.told);
    let seen = see(&agent, &format!("{SPEND} tcp db.test 9000 8 300000"));
    assert!(seen.octets(9000) <= 1_000_000 && seen.used().0 <= 1_000_000, "{}", seen.told);
    assert!(seen.says("cut") >= 5 && seen.says("slow") == 0, "{}", seen.said);
    agent.denial("the end", |record| record["reason"] == "budget-spent");
    let seen = see(&agent, &format!("{SPEND} race db.test 9000 4 5"));
    assert_eq!((seen.says("connected"), seen.says("refused"), seen.used().1), (9, 11, 9), "{}", seen.said);
    let unfenced = fence.lab().run(&format!("{SPEND} race db.test 9000 4 5"));
    assert!(unfenced.says("connected 20"), "{unfenced:#?}");
}

#[test]
fn who_has_no_octet_left_says_nothing_by_empty_datagrams_and_connections_either() {
    let [udp, tcp] = ["udp", "tcp"].map(|protocol| {
        format!("{{cidr: 10.99.0.12/32, protocol: {protocol}, ports: [9000], max_bytes: 1000}}")
    });
    let fence = fence(&with(&[&udp, &tcp]));
    for mode in [CGROUP, SEALED] {
        let seen = see(&fence.agent(AGENT).with(mode), SILENT_WORDS);
        assert_eq!(
            (seen.says("allowed"), seen.says("silent"), seen.says("refused")),
            (2, 9, 9),
            "{mode:?} {}",
            seen.said
        );
        let datagrams = seen.frames.iter().filter(|frame| frame.datagram(9000).is_some());
        assert_eq!(datagrams.count(), 2, "{mode:?}");
    }
}

/// What can be said without an octet: that something comes, when, and from which port.
const SILENT_WORDS: &str = "python3 -c '
from socket import *
to = (\"10.99.0.12\", 9000)
def fails(act, *rest):
    try: act(*rest)
    except PermissionError: return 1
    return 0
with socket(AF_INET, SOCK_DGRAM) as s:
    print(\"allowed\", 2 - fails(s.sendto, b\"\", to) - fails(s.sendto, b\"x\" * 999, to))
denied = 0
for _ in range(9):
    with socket(AF_INET, SOCK_DGRAM) as s: denied += fails(s.sendto, b\"\", to)
print(\"silent\", denied)
with socket() as s:
    s.connect(to); s.sendall(b\"x\" * 1000)
print(\"refused\", sum(fails(socket().connect, to) for _ in range(9)))'";

#[test]
fn a_port_that_is_used_again_is_another_flow() {
    for policy in [makes_frames(&tcp("max_connections: 3")), with(&[&tcp("max_connections: 3")])] {
        let fence = fence(&policy);
        let seen = see(&fence.agent(AGENT), &format!("{SPEND} same_port db.test 9000 1 5"));
        assert_eq!((seen.says("connected"), seen.says("refused")), (3, 2), "{}", seen.said);
        assert_eq!(seen.used().1, 3, "{}", seen.told);
        let unfenced = fence.lab().run(&format!("{SPEND} same_port db.test 9000 1 5"));
        assert!(unfenced.says("connected 5"), "{unfenced:#?}");
    }
}

#[test]
fn an_agent_in_observe_mode_keeps_to_its_budgets() {
    let policy = |bounds: &str| format!("version: 1\nagents:\n  default: {{mode: observe, {bounds}}}\n");
    let fence = fence(&policy("max_bytes: 50kB"));
    for mode in [CGROUP, SEALED] {
        let agent = fence.agent(AGENT).with(mode);
        let seen = see(&agent, &format!("{SPEND} tcp open.test 9000 1 20000"));
        assert_eq!((seen.used(), seen.octets(9000)), ((20_000, 1), 20_000), "{}", seen.said);
        let seen = see(&agent, &format!("{SPEND} tcp open.test 9000 1 200000"));
        assert!(seen.octets(9000) <= 50_000 && seen.says("cut") == 1, "{}", seen.said);
        agent.denial("the end", |record| record["reason"] == "budget-spent");
    }
    reload(&fence, &policy("max_connections: 2"));
    let seen = see(&fence.agent(AGENT), &format!("{SPEND} race open.test 9000 1 5"));
    assert_eq!((seen.says("connected"), seen.says("refused")), (2, 3), "{}", seen.said);
}

#[test]
fn a_rule_that_is_only_observed_keeps_to_its_budget() {
    let fence = fence(&with(&[&tcp("mode: observe, max_connections: 2")]));
    let agent = fence.agent(AGENT);
    let seen = see(&agent, &format!("{SPEND} race db.test 9000 1 5"));
    assert_eq!((seen.says("connected"), seen.says("refused")), (2, 3), "{}", seen.said);
    agent.denial("the third", |record| record["reason"] == "budget-spent");
    agent.record("the first", |record| record["observed"] == "address-not-granted");
}

#[test]
fn a_flow_that_is_open_pays_from_the_reload_on_that_bounds_it_and_no_longer_than_to_the_one_that_does_not() {
    let raw = |bounds: &str| with(&[&tcp(bounds)]);
    for mode in [CGROUP, SEALED] {
        let fence = fence(&raw(""));
        let mut talker = Talker::start(&fence.agent(AGENT).with(mode));
        talker.does("keep db.test 9000");
        talker.does("say 123456789");
        reload(&fence, &raw("max_bytes: 30"));
        talker.does("say 123456789");
        talker.does("say 123456789");
        assert_eq!(told_of(&fence.ctl(&["budgets", "-o", "json"]).stdout).used().0, 18);
        talker.does("say 123456789");
        cut(&mut talker, "say 123456789");
        talker.does("keep db.test 9000");
        talker.fails("say 123456789");
        reload(&fence, &raw(""));
        talker.does("keep db.test 9000");
        talker.does("say 123456789");
    }
}

#[test]
fn the_end_of_a_run_and_the_list_of_budgets_say_which_one_is_spent() {
    let fence = fence(&with(&[&tcp("max_bytes: 50kB")]).replace("rules:", "max_connections: 4\n    rules:"));
    let agent = fence.agent(AGENT);
    let outcome = agent.run(&format!("{SPEND} tcp db.test 9000 1 90000; {SPEND} race db.test 9000 1 5"));
    let summary: Vec<&str> =
        outcome.stderr.lines().filter(|line| line.contains("budget-spent (")).map(str::trim).collect();
    assert_eq!(summary.len(), 2, "{outcome:#?}");
    assert!(summary.iter().any(|line| line.contains("policy.yaml:6)")), "{summary:#?}");
    assert!(summary.iter().any(|line| line.contains("budget-spent (of the agent)")), "{summary:#?}");
    let seen = see(&agent, &format!("{SPEND} race db.test 9000 1 5"));
    assert!(seen.listed.contains("[##########]  4 of 4 connections"), "{}", seen.listed);
}

/// What an agent did, as it was while the agent lived.
pub struct Seen {
    pub said: String,
    /// What `egressctl budgets` told programs, and people.
    pub told: serde_json::Value,
    listed: String,
    frames: Vec<Frame>,
}

/// Has an agent run `script`, and looks before it ends.
pub fn see(agent: &Agent, script: &str) -> Seen {
    let (fence, position) = (agent.fence(), agent.fence().lab().sniffer().position());
    let mut program = agent.spawn(&["bash", "-c", &format!("{script}\necho \"= $?\"; read -r _")]);
    let said = poll(script, || {
        let said = program.stdout() + &program.stderr();
        assert!(!program.has_ended(), "the agent ended: {said}");
        said.contains("= ").then_some(said)
    });
    fence.lab().settle();
    let frames = fence.lab().sniffer().since(position);
    let listed = fence.ctl(&["budgets"]).stdout;
    let Seen { told, .. } = told_of(&fence.ctl(&["budgets", "-o", "json"]).stdout);
    program.close_stdin();
    poll("the end of the agent", || program.has_ended().then_some(()));
    Seen { said, told, listed, frames }
}

fn told_of(text: &str) -> Seen {
    let told = serde_json::from_str(text.lines().next().unwrap_or_default());
    Seen {
        said: String::new(),
        told: told.unwrap_or_else(|error| panic!("{error}: {text}")),
        listed: String::new(),
        frames: Vec::new(),
    }
}

impl Seen {
    /// Octets and flows, of all budgets.
    pub fn used(&self) -> (u64, u64) {
        let budgets = self.told["budgets"].as_array().into_iter().flatten();
        let used = budgets.map(|one| [&one["bytes"]["used"], &one["connections"]["used"]]);
        used.fold((0, 0), |sum, [octets, flows]| {
            (sum.0 + octets.as_u64().unwrap_or_default(), sum.1 + flows.as_u64().unwrap_or_default())
        })
    }

    /// The number that `spend.py` says.
    pub fn says(&self, what: &str) -> u64 {
        let mut words = self.said.split_whitespace().skip_while(|word| *word != what);
        words.nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{what}: {}", self.said))
    }

    /// Octets to `port`, over TCP and UDP.
    pub fn octets(&self, port: u16) -> u64 {
        let datagrams = self.frames.iter().filter_map(|frame| frame.datagram(port));
        payload_octets(&self.frames, port) + datagrams.map(|octets| octets.len() as u64).sum::<u64>()
    }
}

fn tcp(bounds: &str) -> String {
    format!("{{host: db.test, protocol: tcp, ports: [9000], private: true, {bounds}}}")
}

/// A policy of agents that may make packet sockets.
fn makes_frames(rule: &str) -> String {
    with(&[rule]).replace("  default:\n", "  default:\n    capabilities: [net_raw]\n")
}

pub const CGROUP: &[&str] = &["--mode", "cgroup"];
pub const SEALED: &[&str] = &["--mode", "sealed"];
pub const SPEND: &str = concat!("/usr/bin/python3 ", env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/spend.py");
