//! What waits until a human has said yes.

use crate::{
    AGENT, fence,
    fence::{Agent, Fence},
    loans::{changes, went_to},
    places::{ALT, DB, DNS},
    policies::with,
    program::{Program, poll},
    pty::Pty,
    sniffer::mark,
    talker::Talker,
};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

#[test]
fn a_lookup_waits_for_people_and_goes_on_when_somebody_approves() {
    for mode in ["sealed", "cgroup"] {
        let fence = fence(&with(&[OK, ASK]));
        let mut shell = Shell::start(fence.agent(AGENT).with(&["--mode", mode]));
        let mark = mark();
        shell.write(&format!("dig +time=30 +tries=1 +short {mark}.alt.test A"));
        let request = request(&fence, |request| request["waiting"] == 1);
        for (field, expected) in [("group", "alt.test"), ("agent", AGENT)] {
            assert_eq!(request[field], expected, "{request:#}");
        }
        assert_eq!(request["programs"][0], "dig", "{request:#}");
        assert_eq!(
            request["rules"][0].as_str().and_then(|rule| rule.rsplit('/').next()),
            Some("policy.yaml:6")
        );
        assert_eq!(went_to(&fence, &mark), [] as [IpAddr; 0], "nothing leaves before somebody says so");
        assert!(fence.ctl(&["approvals", "approve", id(&request), "--reason", "why not"]).succeeded());
        assert!(shell.read().contains(&ALT.v4.to_string()), "the lookup goes on");
        assert_eq!(shell.ask(&format!("curl -sS -m 5 -o /dev/null https://{mark}.alt.test/")), "0\n");
        let other = self::mark();
        shell.write(&format!("curl -sS -m 1 -o /dev/null https://{other}.alt.test/"));
        self::request(&fence, |request| request["destinations"][0] == format!("{other}.alt.test"));
        assert!(!shell.read().ends_with("0\n"), "another name was approved by nobody");
        assert_eq!(went_to(&fence, &other), [] as [IpAddr; 0]);
        let change = &changes(&fence)[0];
        assert_eq!((&change["change"], &change["why"]), (&"allowed".into(), &"why not".into()), "{change:#}");
        assert_eq!((&change["detail"], &change["by"]["uid"]), (&"request 1".into(), &0.into()), "{change:#}");
    }
}

#[test]
fn what_somebody_denies_is_denied_and_the_same_is_not_asked_again() {
    let fence = fence(&with(&[OK, ASK]));
    let mut shell = Shell::start(fence.agent(AGENT));
    let [first, second] = [mark(), mark()];
    is_denied(&fence, &mut shell, &first);
    fence.agent(AGENT).denial("the no", |record| record["reason"] == "approval-denied");
    let again = shell.ask(&format!("dig +time=30 +tries=1 {second}.alt.test A"));
    assert!(again.contains("status: REFUSED"), "{again}");
    assert_eq!(fence.ctl(&["approvals"]).stdout, "nobody waits for an approval\n");
    let told = fence.ctl(&["explain", &format!("{second}.alt.test"), "--agent", AGENT, "-o", "json"]);
    let told: Value = serde_json::from_str(&told.stdout).expect("one object");
    assert_eq!((&told["reason"], &told["gates"][0]["step"]), (&"approval-denied".into(), &"denied".into()));
    for mark in [first, second] {
        assert_eq!(went_to(&fence, &mark), [] as [IpAddr; 0]);
    }
    assert_eq!(changes(&fence)[0]["change"], "denied");
    assert_eq!(shell.ask("curl -sS -m 5 -o /dev/null https://ok.test/"), "0\n", "the rest goes on");
}

#[test]
fn what_was_approved_once_is_asked_about_again_as_soon_as_it_is_used() {
    let fence = fence(&with(&[OK, ASK]));
    let mut shell = Shell::start(fence.agent(AGENT));
    let fetch = format!("curl -sS -m 50 -o /dev/null https://{}.alt.test/", mark());
    let approve = || {
        let waits = request(&fence, |_| true);
        assert!(fence.ctl(&["approvals", "approve", id(&waits), "--once"]).succeeded(), "{waits:#}");
    };
    shell.write(&fetch);
    approve();
    assert_eq!(shell.read(), "0\n");
    assert!(!shell.ask(&fetch).ends_with("0\n"), "once is not twice");
    fence.agent(AGENT).denial("the second", |record| record["reason"] == "budget-spent");
    approve();
    assert_eq!(shell.ask(&fetch), "0\n");
}

#[test]
fn a_tunnel_to_a_name_that_no_rule_knows_waits_where_a_policy_says_so() {
    let fence = fence(&format!("{}    approve_unknown: true\n", with(&[OK])));
    let mut shell = Shell::start(fence.agent(AGENT).with(&["--proxy-env"]));
    let mark = mark();
    shell.write(&format!("curl -sS -m 50 -o /dev/null https://{mark}.alt.test/"));
    let request = request(&fence, |request| request["waiting"] == 1);
    assert_eq!((&request["rules"], &request["programs"]), (&json!([]), &json!(["curl"])), "{request:#}");
    assert_eq!(request["destinations"][0], format!("{mark}.alt.test:443"), "{request:#}");
    let approved = fence.ctl(&["approvals", "approve", id(&request), "--private", "--always"]);
    assert!(approved.says(&format!("- {{host: {mark}.alt.test, private: true}}")), "{approved:#?}");
    assert_eq!(shell.read(), "0\n");
    let mut to = went_to(&fence, &mark);
    to.retain(|to| *to != IpAddr::V4(DNS.v4));
    assert!(!to.is_empty() && to.iter().all(|to| [IpAddr::V4(ALT.v4), ALT.v6.into()].contains(to)), "{to:?}");
}

#[test]
fn a_flow_to_a_network_that_needs_an_approval_is_denied_and_listed_and_passes_when_it_is_tried_again() {
    let network = "{cidr: 10.99.0.12/32, protocol: tcp, ports: [5432], approval: required}";
    let fence = fence(&with(&[OK, network]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    let (at, mark) = (SocketAddr::from((DB.v4, 5432)), mark());
    talker.fails(&format!("tcp {} 5432 {mark}", at.ip()));
    assert_eq!(went_to(&fence, &mark), [] as [IpAddr; 0]);
    let request = request(&fence, |request| request["group"] == DB.v4.to_string());
    assert_eq!(request["destinations"][0], at.to_string(), "{request:#}");
    fence.agent(AGENT).denial("the flow", |record| record["reason"] == "approval-required");
    let approved = fence.ctl(&["approvals", "approve", id(&request), "--always", "-o", "json"]);
    let approved: Value = serde_json::from_str(&approved.stdout).expect("one object, and nothing else");
    let rule = r#"- {cidr: "10.99.0.12/32", protocol: tcp, ports: [5432]}"#;
    assert_eq!((&approved["id"], &approved["rules"]), (&request["id"], &json!([rule])), "{approved:#}");
    talker.does(&format!("tcp {} 5432 {mark}", at.ip()));
}

#[test]
fn people_who_watch_on_terminals_decide_once_and_see_what_agents_call_themselves_escaped() {
    let fence = fence(&with(&[OK, ASK]));
    let [mut one, mut other] = [(); 2].map(|()| Pty::start(fence.ctl_command(&["approvals", "watch"])));
    let settings = one.settings();
    let mut shell = Shell::start(fence.agent(AGENT));
    // A screen that is cleared, a line of its own, and letters that run backwards.
    shell.ask("name=$(mktemp -d)/$'d\\e[2Ji\\ng\\xe2\\x80\\xae'; cp /usr/bin/dig \"$name\"");
    let [first, second] = [mark(), mark()];
    shell.write(&format!("\"$name\" +time=30 +tries=1 +short {first}.alt.test A"));
    for terminal in [&mut one, &mut other] {
        let shown = terminal.shows(PROMPT);
        assert!(shown.contains(": agent `tester` asks for alt.test"), "{shown:?}");
        assert!(shown.contains("  d\\u{1b}[2Ji\\ng\\u{202e}, as the agent calls them"), "{shown:?}");
        assert!(shown.contains(&format!("{first}.alt.test")) && shown.contains("policy.yaml:6"), "{shown:?}");
        assert!(!shown.contains("\u{1b}[2J") && !shown.contains('\u{202e}'), "{shown:?}");
    }
    assert_eq!(went_to(&fence, &first), [] as [IpAddr; 0], "nothing leaves before somebody says so");
    one.types("o\n");
    assert!(one.shows("for agent").contains("allowed"));
    assert!(shell.read().contains(&ALT.v4.to_string()), "the lookup goes on");
    other.types("d\n");
    other.shows("there is no request 1");
    shell.write(&format!("dig +time=30 +tries=1 {second}.alt.test A"));
    one.shows("request 2-");
    assert!(other.shows(PROMPT).contains(&format!("{second}.alt.test")));
    other.types("d\n");
    other.shows(", and the same for 1h");
    assert!(shell.read().contains("status: REFUSED"));
    assert_eq!(went_to(&fence, &second), [] as [IpAddr; 0]);
    one.types("s\n");
    one.types("\u{3}");
    assert_eq!(one.wait(), (None, Some(nix::libc::SIGINT)));
    assert_eq!(one.settings(), settings, "the terminal is as it was");
}

#[test]
fn whoever_approves_a_request_approves_what_it_was_listed_with_and_nothing_that_joined_it_since() {
    let fence = fence(&with(&[OK, ASK]));
    let mut shell = Shell::start(fence.agent(AGENT));
    let [shown, joined] = [mark(), mark()];
    let lookup = |mark: &str| format!("dig +time=50 +tries=1 +short {mark}.alt.test A");
    shell.ask(&format!("file=$(mktemp); {} > $file &", lookup(&shown)));
    let listed = request(&fence, |request| request["waiting"] == 1);
    shell.write(&lookup(&joined));
    let grown = request(&fence, |request| request["waiting"] == 2);
    assert_ne!(id(&listed), id(&grown), "{grown:#}");
    let bare = fence.ctl(&["approvals", "approve", "1"]);
    assert!(!bare.succeeded() && bare.stderr.contains("as `egressctl approvals` lists it"), "{bare:#?}");
    let approved = fence.ctl(&["approvals", "approve", id(&listed)]);
    assert!(approved.says(&format!("{shown}.alt.test")) && !approved.says(&joined), "{approved:#?}");
    assert_eq!(went_to(&fence, &joined), [] as [IpAddr; 0], "the other was shown to nobody");
    let left = request(&fence, |request| request["waiting"] == 1);
    assert_eq!(left["destinations"], json!([format!("{joined}.alt.test")]), "{left:#}");
    assert!(approved.says(id(&left)), "whoever approved is told: {approved:#?}");
    let again = fence.ctl(&["approvals", "approve", id(&listed)]);
    assert!(!again.succeeded() && again.stderr.contains("run `egressctl approvals` again"), "{again:#?}");
    assert_eq!(went_to(&fence, &joined), [] as [IpAddr; 0]);
    assert!(fence.ctl(&["approvals", "approve", id(&left)]).succeeded());
    assert!(shell.read().contains(&ALT.v4.to_string()), "once it was shown it can be approved");
    let first = shell.ask("wait; cat $file; rm $file");
    assert!(first.contains(&ALT.v4.to_string()), "what was listed went on: {first}");
}

#[test]
fn a_no_holds_whatever_a_program_is_called_and_nobody_is_flooded_with_requests() {
    let fence = fence(&format!("{}    approve_unknown: true\n", with(&[OK, ASK])));
    let mut shell = Shell::start(fence.agent(AGENT));
    let [first, second] = [mark(), mark()];
    is_denied(&fence, &mut shell, &first);
    shell.ask("folder=$(mktemp -d) && cp \"$(command -v dig)\" $folder/other");
    let renamed = format!("$folder/other +time=30 +tries=1 {second}.alt.test A; rm -r $folder");
    assert!(shell.ask(&renamed).contains("status: REFUSED"), "another name of the program asks again");
    assert_eq!(fence.ctl(&["approvals"]).stdout, "nobody waits for an approval\n");
    let lookup = format!("dig +time=1 +tries=1 {first}.n$number.test A");
    shell.ask(&format!("for number in {{1..20}}; do {lookup} & done; wait"));
    fence.agent(AGENT).denial("the flood", |record| record["reason"] == "approvals-exceeded");
    let listed = fence.ctl(&["approvals", "-o", "json"]).stdout.lines().count();
    assert!((1..=8).contains(&listed), "{listed} requests");
    for mark in [first, second] {
        assert_eq!(went_to(&fence, &mark), [] as [IpAddr; 0]);
    }
}

/// Asks for a name, and denies it.
fn is_denied(fence: &Fence, shell: &mut Shell, mark: &str) {
    shell.write(&format!("dig +time=30 +tries=1 {mark}.alt.test A"));
    let request = request(fence, |request| request["waiting"] == 1);
    assert!(fence.ctl(&["approvals", "deny", id(&request)]).succeeded());
    assert!(shell.read().contains("status: REFUSED"));
}

const PROMPT: &str = "[q]uit? ";

/// As what a request is listed.
fn id(request: &Value) -> &str {
    request["id"].as_str().expect("requests have one")
}

/// A shell in the fence that does one line after the other.
struct Shell {
    program: Program,
    answers: usize,
}

impl Shell {
    fn start(agent: Agent<'_>) -> Self {
        let script = "while read -r line; do eval \"$line\" 2>&1; echo \"$?\"; echo ==; done";
        Self { program: agent.spawn(&["bash", "-c", script]), answers: 0 }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.program.stdin(), "{line}").expect("the agent reads");
    }

    /// What it said to the last line, and its exit code.
    fn read(&mut self) -> String {
        self.answers += 1;
        let answers = self.answers;
        poll("the shell", || {
            let text = self.program.stdout();
            assert!(!self.program.has_ended(), "the agent ended: {text}{}", self.program.stderr());
            let whole = text.rfind("==\n").map(|end| text[..end + 3].to_owned())?;
            whole
                .split("==\n")
                .nth(answers - 1)
                .filter(|_| whole.matches("==\n").count() >= answers)
                .map(str::to_owned)
        })
    }

    fn ask(&mut self, line: &str) -> String {
        self.write(line);
        self.read()
    }
}

/// The first request that `is_meant`, once it is there.
fn request(fence: &Fence, is_meant: impl Fn(&Value) -> bool) -> Value {
    poll("the request", || {
        let text = fence.ctl(&["approvals", "-o", "json"]).stdout;
        let mut requests = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        requests.find(&is_meant)
    })
}

const OK: &str = "{host: ok.test, private: true}";
const ASK: &str = "{host: '*.alt.test', private: true, approval: required}";
