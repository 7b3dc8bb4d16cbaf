//! What agents may let out through names, as operators see it and lift it.

use crate::{AGENT, fence, fence::Fence, frame::reassemble, program::poll, reload::cut, talker::Talker};
use serde_json::Value;

#[test]
fn a_honeytoken_in_a_name_leaves_not_a_byte_and_is_told_until_somebody_approves() {
    let fence = fence(POLICY);
    let agent = fence.agent(AGENT);
    // It holds the agent, whose ledger is shown as long as it runs.
    let mut talker = Talker::of(agent.spawn(&["bash", "-c", LOOK_UP]));
    talker.does("db.alt.test");
    let position = fence.lab().sniffer().position();
    talker.fails("feed-me-seymour.alt.test");
    fence.lab().settle();
    let frames = reassemble(fence.lab().sniffer().since(position));
    assert!(!frames.iter().any(|frame| frame.carries(b"seymour")), "{frames:#?}");

    let leaks = poll("the flag", || shown(&fence, "QUARANTINED"));
    for text in ["alt.test", "E10 secret", "canary", "egressctl leaks approve tester"] {
        assert!(leaks.contains(text), "{text}: {leaks}");
    }
    assert!(!leaks.contains("seymour"), "{leaks}");
    let tail = fence.ctl(&["tail", "-o", "json", "--agent", AGENT]);
    assert!(tail.says("\"flag\":\"secret\"") && tail.says("\"verdict\":\"deny\""), "{tail:#?}");
    talker.fails("other.alt.test");
    talker.does("ok.test");

    assert!(fence.ctl(&["leaks", "approve", AGENT]).succeeded());
    assert!(shown(&fence, "QUARANTINED").is_none());
    talker.does("db.alt.test");
    assert!(!fence.ctl(&["leaks", "approve", AGENT, "slip.test"]).succeeded(), "nothing was let out there");
}

#[test]
fn quarantine_cuts_the_flows_of_wildcards_and_leaves_those_of_exact_names() {
    let fence = fence(QUARANTINE);
    let [mut direct, mut guarded, mut exact] = [(); 3].map(|()| Talker::start(&fence.agent(AGENT)));
    direct.does("keep a.db.test 5432");
    guarded.does("keep_tls a.ok.test 443");
    exact.does("keep db.test 5432");
    for (talker, say) in
        [(&mut direct, "say before"), (&mut guarded, "say_tls a.ok.test"), (&mut exact, "say before")]
    {
        talker.does(say);
    }
    // One that is not in quarantine.
    let mut other = Talker::start(&fence.agent("other"));
    other.does("keep a.db.test 5432");
    for talker in [&mut direct, &mut guarded, &mut exact] {
        talker.fails("tcp feed-me-seymour.db.test 5432 mark");
    }
    cut(&mut direct, "say after");
    cut(&mut guarded, "say_tls a.ok.test");
    direct.fails("tcp a.db.test 5432 again");
    for talker in [&mut exact, &mut other] {
        talker.does("say after");
    }
    exact.does("tcp db.test 5432 again");
}

#[test]
fn what_was_let_out_stays_counted_whatever_becomes_of_daemon_policy_and_agent() {
    let mut fence = fence(QUARANTINE);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("tcp some-name.db.test 5432 mark");
    talker.does("tcp another-name.db.test 5432 mark");
    let before = used(&fence);
    assert!(before > 100, "two names cost {before} bits");
    fence.kill();
    fence.restart();
    // A few bits come back in the seconds that this takes.
    assert!(used(&fence) + 8 > before, "a restart gives nothing back");
    assert!(fence.reload(QUARANTINE).succeeded());
    assert!(fence.reload(&QUARANTINE.replace("'*.db.test'", "'**.db.test'")).succeeded());
    assert!(used(&fence) + 8 > before, "a reload gives nothing back");
    talker.end();
    poll("the end of the agent", || (leaks_of(&fence) == Value::Null).then_some(()));
    let _talker = Talker::start(&fence.agent(AGENT));
    poll("the agent that starts again", || (leaks_of(&fence) != Value::Null).then_some(()));
    assert!(used(&fence) + 8 > before, "an agent that starts again goes on where it was");
}

#[test]
fn an_agent_that_ended_in_quarantine_starts_in_it_until_somebody_approves() {
    let fence = fence(QUARANTINE);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.fails("tcp feed-me-seymour.db.test 5432 mark");
    talker.end();
    poll("the end of the agent", || (leaks_of(&fence) == Value::Null).then_some(()));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.fails("tcp a.db.test 5432 mark");
    talker.does("tcp db.test 5432 mark");
    talker.end();
    poll("its end again", || (leaks_of(&fence) == Value::Null).then_some(()));
    assert!(!fence.ctl(&["leaks", "approve", "nobody"]).succeeded());
    assert!(fence.ctl(&["leaks", "approve", AGENT]).succeeded());
    Talker::start(&fence.agent(AGENT)).does("tcp a.db.test 5432 mark");
}

/// Bits that `egressctl` says are used of what the agent may let out.
fn used(fence: &Fence) -> u64 {
    leaks_of(fence)["total"]["used_bits"].as_u64().expect("a number of bits")
}

fn leaks_of(fence: &Fence) -> Value {
    let outcome = fence.ctl(&["leaks", "-o", "json"]);
    serde_json::from_str(outcome.stdout.lines().next().unwrap_or("null")).expect("a line of JSON")
}

const QUARANTINE: &str = "version: 1
agents:
  default:
    honeytokens: [{name: canary, value: feed-me-seymour}]
    rules:
      - {host: db.test, protocol: tcp, ports: [5432], private: true}
      - {host: '*.db.test', protocol: tcp, ports: [5432], private: true}
      - {host: '*.ok.test', private: true}
";

const POLICY: &str = "version: 1
agents:
  default:
    honeytokens: [{name: canary, value: feed-me-seymour}]
    rules:
      - {host: ok.test, private: true}
      - {host: '*.alt.test', private: true}
";

/// Looks up each line of its input.
const LOOK_UP: &str = "while read -r name; do \
                       getent ahosts \"$name\" > /dev/null && echo ok || echo 'error: no address'; done";

/// What `egressctl leaks` says, once it says `text`.
fn shown(fence: &Fence, text: &str) -> Option<String> {
    let outcome = fence.ctl(&["leaks", "--agent", AGENT]);
    assert!(outcome.succeeded(), "{outcome:#?}");
    outcome.says(text).then_some(outcome.stdout)
}
