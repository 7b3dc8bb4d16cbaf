//! What agents may let out through names, as operators see it and lift it.

use crate::{AGENT, fence, fence::Fence, frame::reassemble, program::poll, talker::Talker};

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
