//! What people can read afterwards, or meanwhile.

use crate::{
    AGENT, fence,
    fence::Fence,
    policies::{self, COMMON},
    program::{self, Program, poll_for},
    talker::Talker,
};
use serde_json::Value;
use std::{fs, time::Duration};

#[test]
fn a_denial_shows_within_a_second_with_process_reason_and_remedy() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    agent.run("curl -s https://evil.test/");
    let record = agent.denial("the lookup", |record| record["destination"]["name"] == "evil.test");
    assert_eq!(record["v"], 1, "{record:#}");
    assert_eq!(record["agent"], AGENT, "{record:#}");
    assert_eq!(record["gate"], "name", "{record:#}");
    assert_eq!(record["reason"], "host-not-allowed", "{record:#}");
    assert_eq!(record["remedy"], "- host: evil.test", "{record:#}");
    assert!(names(&record, "curl"), "{record:#}");

    agent.run("curl -s https://10.99.0.66/");
    let record = agent.denial("the connect", |record| record["destination"]["address"] == "10.99.0.66");
    assert_eq!(record["gate"], "address", "{record:#}");
    assert_eq!(record["reason"], "address-not-granted", "{record:#}");
    assert_eq!(record["destination"]["port"], 443, "{record:#}");
    assert!(names(&record, "curl"), "{record:#}");

    agent.run("timeout 2 openssl s_client -connect ok.test:443 -servername evil.test < /dev/null");
    let record = agent.denial("the hello", |record| record["gate"] == "server-name");
    assert_eq!(record["reason"], "host-not-allowed", "{record:#}");
    assert_eq!(record["destination"]["name"], "evil.test", "{record:#}");
    assert!(names(&record, "openssl"), "{record:#}");
}

#[test]
fn the_tail_follows_denials_as_they_happen() {
    let fence = fence(COMMON);
    let tail = Program::start(fence.ctl_command(&["tail", "-f", "-n", "0"]));
    let shown = || {
        fence.agent(AGENT).run("curl -s https://evil.test/");
        poll_for(Duration::from_secs(1), || tail.stdout().contains("evil.test").then_some(()))
    };
    program::poll("the tail", shown);
    let text = tail.stdout();
    for word in [AGENT, "curl", "evil.test", "host-not-allowed"] {
        assert!(text.contains(word), "the tail should say {word}: {text}");
    }
}

#[test]
fn the_tail_survives_a_daemon_that_comes_back() {
    let mut fence = fence(COMMON);
    let tail = Program::start(fence.ctl_command(&["tail", "-f", "-n", "0"]));
    let shows = |fence: &Fence, name: &str| {
        program::poll("the tail", || {
            fence.agent(AGENT).run(&format!("curl -s https://{name}/"));
            poll_for(Duration::from_secs(1), || tail.stdout().contains(name).then_some(()))
        });
    };
    shows(&fence, "before.evil.test");
    fence.kill();
    fence.restart();
    shows(&fence, "after.evil.test");
}

#[test]
fn every_denial_is_in_the_log_with_a_number_that_only_grows() {
    let mut fence = fence(COMMON);
    fence.agent(AGENT).run("dig +time=1 +tries=1 one.evil.test; dig +time=1 +tries=1 two.evil.test");
    fence.kill();
    fence.restart();
    fence.agent(AGENT).run("dig +time=1 +tries=1 three.evil.test");
    let log = || fs::read_to_string(fence.audit_log()).unwrap_or_default();
    program::poll("the third denial", || log().contains("three.evil.test").then_some(()));
    let records: Vec<Value> = log()
        .lines()
        .map(|line| serde_json::from_str(line).expect("the log holds a JSON object a line"))
        .collect();
    for name in ["one.evil.test", "two.evil.test", "three.evil.test"] {
        assert!(records.iter().any(|record| record["destination"]["name"] == name), "{name} is missing");
    }
    let numbers: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

#[test]
fn what_is_denied_while_the_daemon_is_dead_is_recorded_when_it_is_back() {
    let mut fence = fence(COMMON);
    let mut talkers = ["left", "right"].map(|name| Talker::start(&fence.agent(name)));
    for talker in &mut talkers {
        talker.fails("tcp 10.99.0.66 9000 before");
    }
    for name in ["left", "right"] {
        fence.agent(name).denial("what was denied before", |record| goes_to(record, 9000));
    }
    fence.kill();
    for talker in &mut talkers {
        talker.fails("tcp 10.99.0.66 5432 meanwhile");
        talker.fails("udp_connected fd99::66 5432 meanwhile");
    }
    fence.restart();
    for name in ["left", "right"] {
        let agent = fence.agent(name);
        let record = agent.denial("the connect", |record| {
            goes_to(record, 5432) && record["destination"]["address"] == "10.99.0.66"
        });
        assert_eq!(record["reason"], "address-not-granted", "{record:#}");
        assert!(names(&record, "python"), "{record:#}");
        agent.denial("the datagram", |record| {
            goes_to(record, 5432) && record["destination"]["address"] == "fd99::66"
        });
        let earlier = agent.denials().iter().filter(|record| goes_to(record, 9000)).count();
        assert_eq!(earlier, 1, "what was recorded is recorded once: {:#?}", agent.denials());
    }
}

#[test]
fn explain_says_what_enforcement_does() {
    let fence = fence(&policies::with(&[
        "{host: ok.test, private: true}",
        "{host: '*.alt.test', private: true}",
        "{host: db.test, protocol: tcp, ports: [5432], private: true}",
    ]));
    let agent = fence.agent(AGENT);
    let cases = [
        ("ok.test", "curl -sf -m 2 https://ok.test/"),
        ("www.ok.test", "curl -sf -m 2 https://www.ok.test/"),
        ("www.alt.test", "curl -sf -m 2 https://www.alt.test/"),
        ("alt.test", "curl -sf -m 2 https://alt.test/"),
        ("evil.test", "curl -sf -m 2 https://evil.test/"),
        ("ok.test:853", "curl -sf -m 2 https://ok.test:853/"),
        ("db.test:5432", "echo x | timeout 2 socat -t 1 - tcp:db.test:5432"),
        ("db.test:9000", "echo x | timeout 2 socat -t 1 - tcp:db.test:9000"),
    ];
    for (destination, script) in cases {
        let explained = fence.ctl(&["explain", destination, "--agent", AGENT]);
        let (outcome, unfenced) = (agent.run(script), fence.lab().run(script));
        assert!(unfenced.succeeded(), "{destination} proves nothing: {unfenced:#?}");
        assert!([0, 1].contains(&explained.code), "{destination}: {explained:#?}");
        assert_eq!(explained.succeeded(), outcome.succeeded(), "{destination}: {explained:#?} {outcome:#?}");
    }
}

#[test]
fn an_agent_cannot_forge_lines_of_the_tail() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    // A program whose name and arguments hold a line break and an escape sequence.
    let forger = r"cp /usr/bin/dig $'/tmp/egressd-\n\e[31mforged' 2> /dev/null; \
                   $'/tmp/egressd-\n\e[31mforged' +time=1 +tries=1 evil.test $'\n\e[31mforged.evil.test'; \
                   rm -f $'/tmp/egressd-\n\e[31mforged'";
    agent.run(forger);
    agent.denial("the forger", |record| record["destination"]["name"] == "evil.test");
    let tail = fence.ctl(&["tail", "-n", "100"]);
    assert!(tail.says("evil.test"), "{tail:#?}");
    assert!(!tail.stdout.contains('\u{1b}'), "the tail shows an escape sequence: {tail:?}");
    let forged = tail.stdout.lines().any(|line| line.trim_start().starts_with("forged"));
    assert!(!forged, "the tail shows a line that an agent wrote: {tail:?}");
}

#[test]
fn agents_and_status_tell_who_is_fenced() {
    let fence = fence(COMMON);
    let agent = fence.agent("listed").spawn(&["bash", "-c", "echo up; read -r"]);
    program::poll("the agent", || agent.stdout().contains("up").then_some(()));
    let agents = fence.ctl(&["agents"]);
    assert!(agents.succeeded() && agents.says("listed"), "{agents:#?}");
    drop(agent);
    assert!(fence.ctl(&["status"]).succeeded());
}

fn goes_to(record: &Value, port: u16) -> bool {
    record["destination"]["port"] == port
}

/// Whether the process of `record` shows `program` as its executable or command.
fn names(record: &Value, program: &str) -> bool {
    record["process"].to_string().contains(program)
}
