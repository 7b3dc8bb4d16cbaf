//! The daemon proves the fence, and lets nobody run while it cannot.

use crate::{
    AGENT,
    attack::violations,
    bpf, fence,
    fence::Fence,
    places::EVIL,
    policies::COMMON,
    program::{Outcome, poll_for},
    sniffer::mark,
    talker::Talker,
};
use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};

#[test]
fn a_program_that_is_detached_freezes_every_agent_until_it_is_put_back() {
    let mut fence = fence(COMMON);
    let mut talkers = ["left", "right"].map(|name| Talker::start(&fence.agent(name)));
    for talker in &mut talkers {
        talker.does("fetch https://ok.test/");
    }
    bpf::detach_link(&pins(&fence).join("links/sock_create"));
    falls(&fence, "not attached: sock_create");
    assert_eq!(frozen(&fence), [true, true]);
    no_agent_starts(&fence);
    fence.kill();
    fence.restart();
    assert_eq!(frozen(&fence), [false, false]);
    for talker in &mut talkers {
        talker.does("fetch https://ok.test/");
        talker.fails("fetch https://evil.test/");
    }
}

#[test]
fn a_program_that_is_replaced_by_another_freezes_every_agent() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    let pass = bpf::load(bpf::CGROUP_SKB, bpf::EGRESS, bpf::PASS);
    bpf::replace_program(&pins(&fence).join("links/egress"), &pass);
    falls(&fence, "not attached: egress");
    assert_eq!(frozen(&fence), [true]);
    fence.kill();
    fence.restart();
    talker.does("fetch https://ok.test/");
}

#[test]
fn a_link_that_nothing_judges_freezes_every_agent() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT).with(&["--mode", "sealed"]));
    talker.does("fetch https://ok.test/");
    let devices = fs::read_dir(pins(&fence).join("devices")).expect("it is there").flatten();
    // The agent's own, and one that is kept ready for the next.
    devices.for_each(|link| bpf::detach_link(&link.path()));
    falls(&fence, "not attached: frames at `eg");
    assert_eq!(frozen(&fence), [true]);
    fence.kill();
    fence.restart();
    assert_eq!(frozen(&fence), [false]);
    talker.does("fetch https://ok.test/");
}

#[test]
fn a_program_that_judges_no_frames_is_found_by_what_it_lets_pass() {
    let fence = fence(COMMON);
    let pass = bpf::load(bpf::SCHED_CLS, 0, bpf::PASS_FRAMES);
    bpf::replace_pin(&pins(&fence).join("programs/frames"), &pass);
    // The next one takes the program that it finds.
    fs::write(fence.cgroup().join(".canary/cgroup.kill"), "1").expect("the canary can be killed");
    falls(&fence, "got out: a frame to an address without a grant (ipv4)");
}

#[test]
fn what_gets_out_of_the_canary_freezes_agents_though_every_program_is_attached() {
    let fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    let hole = Hole::in_the_fence_of(&fence);
    falls(&fence, "udp to an address without a grant (ipv4)");
    let status = fence.ctl(&["status"]).stdout;
    assert!(status.contains("hooks are attached"), "{status}");
    assert_eq!(frozen(&fence), [true]);
    drop(hole);
    rises(&fence);
    assert_eq!(frozen(&fence), [false]);
    talker.does("fetch https://ok.test/");
}

#[test]
fn a_daemon_that_cannot_prove_the_fence_does_not_become_ready() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    fence.kill();
    let hole = Hole::in_the_fence_of(&fence);
    let outcome = fence.restart_in_vain();
    assert!(!outcome.succeeded(), "it became ready: {outcome:#?}");
    assert!(outcome.says("the self-proof failed: what must be denied got out: "), "{outcome:#?}");
    let cgroups = fence.agent_cgroups();
    let events =
        cgroups.iter().map(|cgroup| fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default());
    let events: Vec<String> = events.collect();
    assert!(!events.is_empty() && events.iter().all(|text| text.contains("frozen 1")), "{events:?}");
    drop(hole);
    fence.restart();
    assert_eq!(frozen(&fence), [false]);
    talker.does("fetch https://ok.test/");
}

#[test]
fn a_foreign_program_on_our_cgroup_is_an_alarm_and_opens_nothing() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("tcp 10.99.0.10 9000 before");
    let redirector = bpf::redirector([10, 99, 0, 10], EVIL.v4.octets());
    let foreign = bpf::load(bpf::CGROUP_SOCK_ADDR, bpf::CONNECT4, &redirector);
    let link = bpf::attach(&fence.cgroup(), &foreign, bpf::CONNECT4);
    assert!(!fence.ctl(&["status", "-q"]).succeeded(), "the status is red");
    let status = fence.ctl(&["status"]).stdout;
    assert!(status.contains("not ours: program") && status.contains("at connect4"), "{status}");
    let mark = mark();
    let (answer, frames) =
        violations(fence.lab(), &mark, || talker.tell(&format!("tcp 10.99.0.10 9000 {mark}")));
    assert_ne!(answer, "ok", "it was redirected");
    assert!(frames.is_empty(), "a flow that was redirected after our program leaked: {frames:#?}");
    fence.kill();
    let outcome = fence.restart_in_vain();
    assert!(outcome.says("programs of somebody else are on the cgroup of our agents"), "{outcome:#?}");
    drop(link);
    fence.restart();
    talker.does("tcp 10.99.0.10 9000 after");
}

#[test]
fn a_program_above_our_cgroup_is_told_and_is_no_alarm() {
    let fence = fence(COMMON);
    let above = fence.cgroup();
    let above = above.parent().expect("a cgroup is below the root of its hierarchy");
    // On a cgroup of this machine's that every lab shares, so one that changes nothing.
    let foreign = bpf::load(bpf::CGROUP_SKB, bpf::EGRESS, bpf::PASS);
    let link = bpf::attach(above, &foreign, bpf::EGRESS);
    let status = fence.ctl(&["status"]);
    drop(link);
    assert!(status.succeeded() && status.stdout.contains("above our cgroup run: program"), "{status:#?}");
}

#[test]
fn a_canary_that_dies_is_replaced() {
    let fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    let canary = fence.cgroup().join(".canary");
    let processes = || fs::read_to_string(canary.join("cgroup.procs")).unwrap_or_default();
    let first = processes();
    fs::write(canary.join("cgroup.kill"), "1").expect("the canary can be killed");
    let replaced = poll_for(ROUND, || (!processes().is_empty() && processes() != first).then_some(()));
    assert!(replaced.is_some(), "there is no other canary");
    rises(&fence);
    assert_eq!(frozen(&fence), [false]);
    talker.does("fetch https://ok.test/");
}

#[test]
fn the_canary_is_no_agent_and_leaves_no_record() {
    let fence = fence(COMMON);
    let status: Value = serde_json::from_str(&fence.ctl(&["status", "-o", "json"]).stdout).expect("JSON");
    let proof = &status["checks"][0];
    assert_eq!(
        (proof["name"].as_str(), proof["passed"].as_bool()),
        (Some("self-proof"), Some(true)),
        "{proof}"
    );
    assert_eq!(status["flows"]["denied"], 0, "{status}");
    assert_eq!(fence.ctl(&["agents"]).stdout, "no agent runs\n");
    assert_eq!(fence.ctl(&["tail", "-n", "1000", "-o", "json"]).stdout, "");
}

#[test]
fn canaries_of_earlier_daemons_take_no_room_from_agents() {
    let mut fence = fence(COMMON);
    for _ in 0..2 {
        fence.shut_down();
        fence.restart();
    }
    assert_eq!(bpf::count_entries(&pins(&fence).join("maps/CGROUPS")), 1);
}

/// Waits for a proof that fails and says `why`.
fn falls(fence: &Fence, why: &str) {
    let fell = poll_for(ROUND, || (!fence.ctl(&["status", "-q"]).succeeded()).then_some(()));
    assert!(fell.is_some(), "the daemon notices nothing");
    // The programs are looked at whenever somebody asks, the proof has its own time.
    let told = poll_for(ROUND, || {
        let status = fence.ctl(&["status"]);
        let is_told = status.stdout.lines().any(|line| line.contains("self-proof") && line.contains(why));
        (is_told && status.code == 1 && status.stdout.contains("NOT HEALTHY")).then_some(())
    });
    assert!(told.is_some(), "it should say `{why}`: {}", fence.ctl(&["status"]).stdout);
    let frozen = poll_for(ROUND, || self::frozen(fence).iter().all(|frozen| *frozen).then_some(()));
    assert!(frozen.is_some(), "agents run on");
}

/// Waits for a proof that passes.
fn rises(fence: &Fence) {
    let rose = poll_for(ROUND, || fence.ctl(&["status", "-q"]).succeeded().then_some(()));
    assert!(rose.is_some(), "{}", fence.ctl(&["status"]).stdout);
    let thawed = poll_for(ROUND, || self::frozen(fence).iter().all(|frozen| !frozen).then_some(()));
    assert!(thawed.is_some(), "agents stay frozen");
}

fn no_agent_starts(fence: &Fence) {
    let outcome: Outcome = fence.agent("late").run("true");
    assert_eq!(outcome.code, 125, "{outcome:#?}");
    assert!(outcome.says("the self-proof failed, so no agent runs"), "{outcome:#?}");
}

/// Whether each agent is frozen, by the daemon's word, which must be the kernel's.
fn frozen(fence: &Fence) -> Vec<bool> {
    let agents = fence.ctl(&["agents", "-o", "json"]).stdout;
    let agents = agents.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let is_frozen = |agent: Value| {
        let cgroup = PathBuf::from(agent["cgroup"].as_str().expect("a path"));
        let told = agent["frozen"].as_bool().expect("a word");
        let events = poll_for(Duration::from_secs(1), || {
            let events = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
            events.contains(&format!("frozen {}", u8::from(told))).then_some(())
        });
        assert!(events.is_some(), "the kernel says otherwise of {agent}");
        told
    };
    agents.map(is_frozen).collect()
}

/// A grant that no name earned, of the canary, to where its probes must not get.
struct Hole {
    map: PathBuf,
}

/// Agent, port, transport, address (struct `GrantKey`): UDP to 192.0.2.66, port 4666.
const KEY: [u8; 24] = {
    let [low, high] = 4666_u16.to_ne_bytes();
    [255, 255, 255, 255, low, high, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 66]
};

impl Hole {
    fn in_the_fence_of(fence: &Fence) -> Self {
        let map = pins(fence).join("maps/GRANTS");
        // Expires at the end of time, by rule 1, direct (struct `GrantValue`).
        let value = [&u64::MAX.to_ne_bytes()[..], &1_u32.to_ne_bytes(), &0_u32.to_ne_bytes()].concat();
        bpf::write_map(&map, &KEY, &value);
        Self { map }
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        bpf::erase_map(&self.map, &KEY);
    }
}

fn pins(fence: &Fence) -> PathBuf {
    fence.lab().folder().join("run/bpf")
}

/// How long the daemon may take to notice: a few rounds of the proof, on a busy machine.
const ROUND: Duration = Duration::from_secs(20);
