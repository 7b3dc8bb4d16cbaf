//! A policy that changes while agents live.

use crate::{
    AGENT, fence,
    fence::Fence,
    places::EVIL as DENIED,
    policies::{EMPTY, with, with_denied},
    program::{poll, poll_for},
    talker::Talker,
};
use std::{fs, time::Duration};

#[test]
fn a_rule_that_is_added_opens_at_once() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.fails("fetch https://alt.test/");
    reload(&fence, &with(&[OK, ALT]));
    poll("the rule that was added", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
}

#[test]
fn a_rule_that_is_removed_cuts_its_live_tcp_flows() {
    let fence = fence(&with(&[OK, DB]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    talker.does("say before");
    reload(&fence, &with(&[OK]));
    cut(&mut talker, "say after");
    talker.fails("keep db.test 5432");
}

#[test]
fn a_rule_that_is_removed_cuts_its_live_tls_flows() {
    let fence = fence(&with(&[OK, DB]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep_tls ok.test 443");
    talker.does("say_tls ok.test");
    reload(&fence, &with(&[DB]));
    cut(&mut talker, "say_tls ok.test");
    talker.fails("keep_tls ok.test 443");
}

#[test]
fn a_rule_whose_term_ends_cuts_its_live_flows_and_no_others() {
    let fence = fence(&with(&[OK, BRIEF]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    for flow in ["keep db.test 5432", "say before", "keep_tls ok.test 443", "say_tls ok.test"] {
        talker.does(flow);
    }
    ends(&mut talker);
    talker.fails("keep db.test 5432");
    talker.does("say_tls ok.test");
    let denial = fence.agent(AGENT).denial("the end", |record| record["reason"] == "rule-expired");
    assert_eq!(denial["destination"]["name"], "db.test", "{denial:#}");
    let explained = fence.ctl(&["explain", "db.test:5432", "--agent", AGENT]);
    assert!(explained.says("rule-expired"), "{explained:#?}");
}

#[test]
fn an_agent_is_no_younger_for_the_next_daemon() {
    let mut fence = fence(&with(&[BRIEF]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    let born = born(&fence);
    fence.kill();
    fence.restart();
    reload(&fence, &with(&[OK, BRIEF]));
    assert_eq!(self::born(&fence), born);
    ends(&mut talker);
}

#[test]
fn an_agent_keeps_the_policy_of_its_name_and_labels_whatever_number_it_was_given() {
    let policy = |extra: &str| {
        format!(
            "version: 1\nagents:\n  twin:\n    rules:\n      - {OK}\n  \
             marked:\n    select: {{labels: {{team: web}}}}\n    rules:\n      - {OK}\n{extra}"
        )
    };
    let mut fence = fence(&policy(""));
    let mut first = Talker::start(&fence.agent("twin"));
    let mut second = Talker::start(&fence.agent("twin"));
    let labelled = &["--label", "team=web"];
    let mut third = Talker::start(&fence.agent("stranger").with(labelled));
    let mut fourth = Talker::start(&fence.agent("stranger"));
    let mut all_are_as_they_were = || {
        for talker in [&mut first, &mut second, &mut third] {
            talker.does("fetch https://ok.test/");
        }
        fourth.fails("fetch https://ok.test/");
    };
    all_are_as_they_were();
    reload(&fence, &policy("      - {host: ok2.test, private: true}\n"));
    all_are_as_they_were();
    fence.kill();
    fence.restart();
    all_are_as_they_were();
}

#[test]
fn what_two_policies_deny_is_denied_while_one_takes_the_place_of_the_other() {
    // What both deny: by a rule, and as special addresses.
    let wide = "{cidr: 0.0.0.0/0, protocol: tcp, ports: [9000]}";
    let around = "{cidr: 10.99.0.64/28, protocol: tcp, ports: [9000]}";
    let elsewhere = "{cidr: 10.99.0.12/32, protocol: tcp, ports: [9000]}";
    let denies = |rules: &[&str], deny: &str| with_denied(rules, &[deny]);
    let denied = format!("{{cidr: {}/32}}", DENIED.v4);
    let other = "{cidr: 10.99.0.13/32}";
    let pairs = [
        [EMPTY.to_owned(), denies(&[around], &denied)],
        [denies(&[elsewhere], other), denies(&[around], &denied)],
        [EMPTY.to_owned(), with(&[wide])],
    ];
    for mode in ["cgroup", "sealed"] {
        let fence = fence(EMPTY);
        let flags = ["--mode", mode];
        let (to, port) = (DENIED.v4, 9000);
        let mut hammer = fence.agent(AGENT).with(&flags).spawn(&["/usr/bin/python3", "-c", &format!(
            "import socket, sys, threading\n\
             sys.stdout.write('ready\\n'); sys.stdout.flush()\n\
             threading.Thread(target=lambda: (sys.stdin.read(), done.append(1))).start(); done, begun = [], 0\n\
             while not done:\n  \
               for to in ['{to}', '169.254.169.254']:\n    \
                 with socket.socket() as s:\n      \
                   s.setblocking(False)\n      \
                   begun += s.connect_ex((to, {port})) not in (1, 13)\n\
             print('begun', begun)"
        )]);
        poll("the hammer", || hammer.stdout().contains("ready").then_some(()));
        for pair in &pairs {
            for policy in pair.iter().cycle().take(20) {
                reload(&fence, policy);
            }
        }
        hammer.close_stdin();
        poll("its end", || hammer.has_ended().then_some(()));
        assert_eq!(hammer.stdout(), "ready\nbegun 0\n", "{mode}: {}", hammer.stderr());
    }
}

/// When the agent was born, as the next daemon is to learn it.
fn born(fence: &Fence) -> u64 {
    let folder = fs::read_dir(fence.lab().folder().join("run/agents")).expect("a folder");
    let mut paths = folder.flatten().map(|entry| entry.path());
    let file = paths.find(|path| path.extension().is_some_and(|extension| extension == "json"));
    let text = fs::read(file.expect("an agent is remembered")).expect("it can be read");
    let remembered: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    remembered["born"].as_u64().expect("it was born")
}

#[test]
fn a_rule_that_stays_keeps_its_live_flows() {
    let fence = fence(&with(&[ALT, OK, DB]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    for flow in ["keep db.test 5432", "say before", "keep_tls ok.test 443", "say_tls ok.test"] {
        talker.does(flow);
    }
    reload(&fence, &with(&[OK, DB, "{host: ok2.test, private: true}"]));
    for flow in ["say after", "say_tls ok.test", "fetch https://ok2.test/"] {
        talker.does(flow);
    }
}

#[test]
fn a_deny_rule_that_is_added_cuts_live_tcp_flows() {
    for denied in [&["{host: db.test}"][..], &["{cidr: 10.99.0.12/32}", "{cidr: 'fd99::12/128'}"]] {
        let fence = fence(&with(&[OK, DB]));
        let mut talker = Talker::start(&fence.agent(AGENT));
        talker.does("keep db.test 5432");
        talker.does("say before");
        reload(&fence, &with_denied(&[OK, DB], denied));
        cut(&mut talker, "say after");
        talker.fails("keep db.test 5432");
        talker.does("fetch https://ok.test/");
    }
}

#[test]
fn a_deny_rule_that_is_added_cuts_live_tls_flows() {
    for denied in [&["{host: ok.test}"][..], &["{cidr: 10.99.0.10/32}", "{cidr: 'fd99::10/128'}"]] {
        let fence = fence(&with(&[OK, DB]));
        let mut talker = Talker::start(&fence.agent(AGENT));
        talker.does("keep_tls ok.test 443");
        talker.does("say_tls ok.test");
        reload(&fence, &with_denied(&[OK, DB], denied));
        cut(&mut talker, "say_tls ok.test");
        talker.fails("keep_tls ok.test 443");
        talker.does("tcp db.test 5432 other");
    }
}

#[test]
fn a_deny_rule_that_is_added_cuts_live_flows_of_networks() {
    let (network, narrow) = ("{cidr: 10.99.0.0/24, protocol: tcp, ports: [5432]}", "{cidr: 10.99.0.12/32}");
    let fence = fence(&with(&[OK, network]));
    let [mut denied, mut kept] = [(); 2].map(|()| Talker::start(&fence.agent(AGENT)));
    denied.does("keep 10.99.0.12 5432");
    kept.does("keep 10.99.0.11 5432");
    reload(&fence, &with_denied(&[OK, network], &[narrow]));
    cut(&mut denied, "say after");
    denied.fails("keep 10.99.0.12 5432");
    kept.does("say after");
}

#[test]
fn a_direct_flow_outlives_its_grant_whatever_the_daemon_does() {
    let short = with(&["{host: short.test, protocol: tcp, ports: [5432], private: true}"]);
    let mut fence = fence(&short);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep short.test 5432");
    // Of five seconds, the least that a name is answered for, and thirty of grace.
    let denied = poll_for(Duration::from_secs(60), || {
        (talker.tell("until_denied 10.99.0.10 5432") == "ok").then_some(())
    });
    assert!(denied.is_some(), "the grant never expires");
    fence.agent(AGENT).denial("the expired grant", |record| record["reason"] == "grant-expired");
    talker.does("say expired");
    reload(&fence, &short);
    talker.does("say reloaded");
    fence.kill();
    talker.does("say meanwhile");
    fence.restart();
    talker.does("say restarted");
    talker.does("until_denied 10.99.0.10 5432");
    talker.does("tcp short.test 5432 again");
    reload(&fence, &with(&[OK]));
    cut(&mut talker, "say removed");
}

#[test]
fn a_rule_that_is_removed_from_an_agents_own_policy_stays_removed_after_a_crash() {
    let mut fence = fence(EMPTY);
    let policy = fence.lab().folder().join("own.yaml");
    let write = |rules: &[&str]| fs::write(&policy, with(rules)).expect("the policy can be written");
    write(&[ALT, OK]);
    let flags = ["--uid", "nobody", "--policy", policy.to_str().expect("the path is UTF-8")];
    let mut talker = Talker::start(&fence.agent(AGENT).with(&flags));
    talker.does("fetch https://ok.test/");
    talker.does("fetch https://alt.test/");
    write(&[OK]);
    assert!(fence.ctl(&["reload"]).succeeded());
    talker.fails("fetch https://alt.test/");
    // What holds is what was reloaded, whether or not its file is there still.
    fs::remove_file(&policy).expect("the policy can be removed");
    fence.kill();
    fence.restart();
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://alt.test/");
}

#[test]
fn a_policy_that_cannot_be_read_changes_nothing() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    let broken = [
        "",
        "version: 1\nagents: [",
        "version: 2\nagents: {}\n",
        &with(&[OK, "{host: alt.test, privat: true}"]),
        &with(&[OK, "{host: 'al t.test'}"]),
        &with(&[OK, "{cidr: 10.99.0.11/24, protocol: tcp, ports: [1]}"]),
    ];
    for policy in broken {
        let outcome = fence.reload(policy);
        assert!(!outcome.succeeded(), "`{policy}` should not be taken: {outcome:#?}");
        assert!(outcome.says("policy.yaml"), "the error names the file: {outcome:#?}");
        talker.does("fetch https://ok.test/");
        talker.fails("fetch https://alt.test/");
    }
    let outcome = fence.reload(&with(&[OK, "{host: alt.test, privat: true}"]));
    assert!(outcome.says("policy.yaml:6") && outcome.says("privat"), "file, line and word: {outcome:#?}");
}

#[test]
fn a_signal_reloads_as_the_command_does() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.fails("fetch https://alt.test/");
    fence.write_policy(&with(&[OK, ALT]));
    fence.daemon().signal(nix::sys::signal::Signal::SIGHUP);
    poll("the rule that was added", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
}

pub fn reload(fence: &Fence, policy: &str) {
    let outcome = fence.reload(policy);
    assert!(outcome.succeeded(), "the policy should be taken: {outcome:#?}");
}

/// Fails unless the flow that the talker keeps is cut within a second; a trick that gets no
/// answer takes two seconds to say so.
pub fn cut(talker: &mut Talker, say: &str) {
    let cut = poll_for(Duration::from_secs(1), || (talker.tell(say) != "ok").then_some(()));
    assert!(cut.is_some(), "the flow lives on without its rule");
}

/// Says something until nobody hears it.
fn ends(talker: &mut Talker) {
    let end = poll_for(TERM * 4, || (talker.tell("say then") != "ok").then_some(()));
    assert!(end.is_some(), "the flow lives on after the term of its rule");
}

/// Longer than what it takes to open flows, whatever else the machine does.
const TERM: Duration = Duration::from_secs(15);
const BRIEF: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true, for: 15s}";
const OK: &str = "{host: ok.test, private: true}";
const DB: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true}";
const ALT: &str = "{host: alt.test, private: true}";
