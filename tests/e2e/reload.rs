//! A policy that changes while agents live.

use crate::{
    AGENT, fence,
    fence::Fence,
    policies::with,
    program::{poll, poll_for},
    talker::Talker,
};
use std::time::Duration;

#[test]
fn a_rule_that_is_added_opens_at_once() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.fails("fetch https://alt.test/");
    reload(&fence, &with(&[OK, "{host: alt.test, private: true}"]));
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
fn a_rule_that_stays_keeps_its_live_flows() {
    let fence = fence(&with(&["{host: alt.test, private: true}", OK, DB]));
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
    fence.write_policy(&with(&[OK, "{host: alt.test, private: true}"]));
    fence.daemon().signal(nix::sys::signal::Signal::SIGHUP);
    poll("the rule that was added", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
}

fn reload(fence: &Fence, policy: &str) {
    let outcome = fence.reload(policy);
    assert!(outcome.succeeded(), "the policy should be taken: {outcome:#?}");
}

/// Fails unless the flow that the talker keeps is cut within a second; a trick that gets no
/// answer takes two seconds to say so.
fn cut(talker: &mut Talker, say: &str) {
    let cut = poll_for(Duration::from_secs(1), || (talker.tell(say) != "ok").then_some(()));
    assert!(cut.is_some(), "the flow lives on without its rule");
}

const OK: &str = "{host: ok.test, private: true}";
const DB: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true}";
