//! What people allow an agent for a time.

use crate::{
    AGENT, fence,
    fence::Fence,
    frame::Frame,
    places::{ALT, DB, DNS},
    policies::{with, with_denied},
    program::{Outcome, Program, poll, poll_for},
    reload::cut,
    sniffer::mark,
    talker::Talker,
};
use serde_json::Value;
use std::{fs, io::Write, net::IpAddr, time::Duration};

#[test]
fn a_destination_that_somebody_allows_is_open_until_it_is_taken_back() {
    for mode in ["sealed", "cgroup"] {
        let fence = fence(&with(&[OK]));
        let mut curl = Curl::start(&fence, &["--mode", mode]);
        curl.fails(&fence);
        allow(&fence, &["*.alt.test", "--private", "--reason", "a look at #12"]);
        curl.works(&fence);
        assert!(fence.ctl(&["revoke", "1"]).succeeded());
        curl.fails(&fence);
        assert_eq!(fence.ctl(&["grants"]).stdout, "nothing is allowed beside the policies\n");
        let [allowed, revoked] = changes(&fence).try_into().expect("two changes");
        assert_eq!((&allowed["change"], &revoked["change"]), (&"allowed".into(), &"revoked".into()));
        assert_eq!((&allowed["why"], &allowed["grant"]), (&"a look at #12".into(), &1.into()));
        for change in [&allowed, &revoked] {
            assert_eq!((&change["by"]["uid"], &change["agent"]), (&0.into(), &AGENT.into()), "{change:#}");
        }
        let command = allowed["by"]["command"].as_str().unwrap_or_default();
        assert!(command.contains("egressctl") && command.contains("allow *.alt.test"), "{command}");
    }
}

#[test]
fn what_was_allowed_so_often_is_open_so_often() {
    for mode in ["sealed", "cgroup"] {
        let fence = fence(&with(&[OK]));
        let mut curl = Curl::start(&fence, &["--mode", mode]);
        curl.fails(&fence);
        allow(&fence, &["*.alt.test", "--private", "--uses", "2"]);
        curl.works(&fence);
        assert!(fence.ctl(&["grants"]).says("1 of 2 uses"), "{:#?}", fence.ctl(&["grants"]));
        curl.works(&fence);
        let third = mark();
        assert_ne!(curl.ask(&third), "0");
        // Its name is looked up.
        assert!(went_to(&fence, &third).iter().all(|to| *to == IpAddr::V4(DNS.v4)));
        assert!(fence.ctl(&["grants"]).says("0 of 2 uses"));
    }
}

#[test]
fn a_flow_that_is_open_by_what_somebody_allowed_is_cut_when_it_is_taken_back() {
    let fence = fence(&with(&[OK]));
    let mut talker = talker(&fence);
    talker.does("keep_tls ok.test 443");
    for (destination, protocol, keep, say) in [
        ("db.test:5432", "tcp", "keep db.test 5432", "say on"),
        ("10.99.0.12:5432", "tcp", "keep 10.99.0.12 5432", "say on"),
        ("alt.test", "tls", "keep_tls alt.test 443", "say_tls alt.test"),
    ] {
        let private: &[&str] = if destination.starts_with("10.") { &[] } else { &["--private"] };
        allow(&fence, &[&[destination, "--protocol", protocol], private].concat());
        talker.does(keep);
        talker.does(say);
        assert!(fence.ctl(&["revoke", "--all", "--agent", AGENT]).succeeded());
        cut(&mut talker, say);
        talker.fails(keep);
    }
    talker.does("keep_tls ok.test 443");
    talker.does("say_tls ok.test");
}

#[test]
fn what_was_allowed_for_a_time_ends_with_it_though_its_dns_record_lives_on() {
    let fence = fence(&with(&[OK]));
    let mut talker = talker(&fence);
    allow(&fence, &[&DB_FOR_A_WHILE[..], &["--for", "15s"]].concat());
    talker.does("keep db.test 5432");
    talker.does("say before");
    let end = poll_for(PATIENCE, || (talker.tell("say then") != "ok").then_some(()));
    assert!(end.is_some(), "the flow outlives what allowed it");
    let late = mark();
    for host in ["db.test".to_owned(), DB.v4.to_string()] {
        talker.fails(&format!("tcp {host} 5432 {late}"));
    }
    assert_eq!(went_to(&fence, &late), [] as [IpAddr; 0]);
    talker.does("fetch https://ok.test/");
    let ended = |change: &Value| change["change"] == "ended" && change["by"].is_null();
    poll("the end in the log", || changes(&fence).iter().any(ended).then_some(()));
    assert!(!fence.ctl(&["grants"]).says("db.test"));
}

#[test]
fn what_was_allowed_for_a_time_ends_in_the_kernel_where_no_daemon_is_left_to_end_it() {
    let mut fence = fence(&with(&[OK, "{host: db.test, protocol: tcp, ports: [9000], private: true}"]));
    let mut talker = talker(&fence);
    allow(&fence, &[&DB_FOR_A_WHILE[..], &["--for", "15s"]].concat());
    talker.does("keep db.test 5432");
    fence.kill();
    let address = DB.v4;
    let denied =
        poll_for(PATIENCE, || (talker.tell(&format!("until_denied {address} 5432")) == "ok").then_some(()));
    assert!(denied.is_some(), "the grant outlives what allowed it");
    let late = mark();
    talker.fails(&format!("tcp {address} 5432 {late}"));
    assert_eq!(went_to(&fence, &late), [] as [IpAddr; 0]);
    // Its twin by the policy lives as long as its record.
    talker.does(&format!("tcp {address} 9000 {}", mark()));
    fence.restart();
    cut(&mut talker, "say after");
    talker.fails("tcp db.test 5432 again");
    assert!(!fence.ctl(&["grants"]).says("db.test"));
    assert!(changes(&fence).iter().any(|change| change["change"] == "ended"));
}

#[test]
fn what_was_allowed_survives_a_daemon_that_is_killed_and_a_reload() {
    let mut fence = fence(&with(&[OK]));
    let mut talker = talker(&fence);
    allow(&fence, &[&DB_FOR_A_WHILE[..], &["--uses", "1000", "--bytes", "10MB"]].concat());
    talker.does("keep db.test 5432");
    talker.does("say before");
    let before = fence.ctl(&["grants", "-o", "json"]).stdout;
    fence.kill();
    fence.restart();
    assert_eq!(fence.ctl(&["grants", "-o", "json"]).stdout, before);
    assert!(before.contains("\"uses\":1000,\"bytes\":10000000"), "{before}");
    for trick in ["say after", "tcp db.test 5432 again"] {
        talker.does(trick);
    }
    assert!(fence.reload(&with(&[OK, "{host: ok2.test, private: true}"])).succeeded());
    for trick in ["say reloaded", "tcp db.test 5432 again"] {
        talker.does(trick);
    }
    assert!(fence.reload(&with_denied(&[OK], &["{host: db.test}"])).succeeded());
    cut(&mut talker, "say denied");
    talker.fails("tcp db.test 5432 again");
    assert!(fence.reload(&with(&[OK])).succeeded());
    talker.does("tcp db.test 5432 again");
    assert!(fence.ctl(&["revoke", "1"]).succeeded());
    fence.kill();
    fence.restart();
    talker.fails("tcp db.test 5432 again");
}

#[test]
fn what_a_policy_denies_nobody_allows_by_a_command() {
    let fence = fence(&with_denied(&[OK], &["{host: alt.test}"]));
    let mut talker = talker(&fence);
    let refused = fence.ctl(&["allow", "alt.test", "--private"]);
    assert!(!refused.succeeded() && refused.says("policy.yaml:7"), "{refused:#?}");
    assert!(!fence.ctl(&["allow", "*.com"]).succeeded());
    assert!(!fence.ctl(&["allow", "ok2.test", "--agent", "nobody"]).succeeded());
    talker.fails("fetch https://alt.test/");
    assert_eq!(changes(&fence), [] as [Value; 0]);
}

#[test]
fn an_agent_allows_itself_nothing() {
    let fence = fence(&with(&[OK]));
    let mut talker = talker(&fence);
    let [egressctl, socket] = [fence.egressctl(), &fence.socket()].map(|path| path.display().to_string());
    let asks = format!("{egressctl} --socket {socket} allow alt.test --private --agent {AGENT}");
    for mode in ["sealed", "cgroup"] {
        let outcome = fence.agent("other").with(&["--mode", mode]).run(&asks);
        assert!(!outcome.succeeded(), "{outcome:#?}");
    }
    assert_eq!(fence.ctl(&["grants"]).stdout, "nothing is allowed beside the policies\n");
    talker.fails("fetch https://alt.test/");
}

/// An agent that runs.
fn talker(fence: &Fence) -> Talker {
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    talker
}

/// An agent that asks for a name below `alt.test` with curl for each line that it reads.
struct Curl(Program);

impl Curl {
    fn start(fence: &Fence, flags: &[&str]) -> Self {
        let script = "while read -r mark; do curl -sS -m 5 -o /dev/null https://$mark.alt.test/; \
                      echo \"$mark $?\"; done";
        Self(fence.agent(AGENT).with(flags).spawn(&["bash", "-c", script]))
    }

    fn works(&mut self, fence: &Fence) {
        let mark = mark();
        assert_eq!(self.ask(&mark), "0", "{}", self.0.stderr());
        let mut to = went_to(fence, &mark);
        to.retain(|to| *to != IpAddr::V4(DNS.v4));
        assert!(
            !to.is_empty() && to.iter().all(|to| [IpAddr::V4(ALT.v4), ALT.v6.into()].contains(to)),
            "{to:?}"
        );
    }

    fn fails(&mut self, fence: &Fence) {
        let mark = mark();
        assert_ne!(self.ask(&mark), "0");
        assert_eq!(went_to(fence, &mark), [] as [IpAddr; 0]);
    }

    /// The exit code of curl.
    fn ask(&mut self, mark: &str) -> String {
        writeln!(self.0.stdin(), "{mark}").expect("the agent reads");
        poll("curl", || {
            let text = self.0.stdout();
            assert!(!self.0.has_ended(), "the agent ended: {text}{}", self.0.stderr());
            let code = text.lines().find_map(|line| line.strip_prefix(mark)?.strip_prefix(' '));
            code.map(str::to_owned)
        })
    }
}

fn allow(fence: &Fence, arguments: &[&str]) -> Outcome {
    let outcome = fence.ctl(&[&["allow"], arguments].concat());
    assert!(outcome.succeeded(), "it should be allowed: {outcome:#?}");
    outcome
}

/// The lines of the log that say what somebody changed.
pub fn changes(fence: &Fence) -> Vec<Value> {
    let text = fs::read_to_string(fence.audit_log()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["change"].is_string()).collect()
}

/// Where the frames went that carry `mark`.
pub fn went_to(fence: &Fence, mark: &str) -> Vec<IpAddr> {
    fence.lab().settle();
    let frames = fence.lab().sniffer().since(0);
    let frames = frames.iter().filter(|frame| frame.carries(mark.as_bytes()));
    let mut to: Vec<_> = frames.filter_map(Frame::destination).collect();
    to.dedup();
    to
}

const OK: &str = "{host: ok.test, private: true}";
const DB_FOR_A_WHILE: [&str; 4] = ["db.test:5432", "--protocol", "tcp", "--private"];
/// Far more than what was allowed for some seconds lasts.
const PATIENCE: Duration = Duration::from_secs(60);
