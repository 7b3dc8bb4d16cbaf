//! The daemon's figures: right, on this host alone, and of no use to an agent.

use crate::{
    AGENT, fence,
    fence::{Agent, Fence},
    job::Job,
    lab::Lab,
    policies::with,
    program::poll,
    programs,
    talker::Talker,
};
use std::fs;

#[test]
fn every_denial_is_counted_once_and_policies_that_are_refused_are_told() {
    let fence = fence(&with(&[OK]));
    let agent = fence.agent(AGENT).with(CGROUP);
    let mut talker = Talker::start(&agent);
    talker.does("fetch https://ok.test/");
    let denied = |reason: &str| format!("egressd_denials_total{{agent=\"{AGENT}\",reason=\"{reason}\"}}");
    assert_eq!(figure(&fence, &denied("host-not-allowed")), None);
    for lookup in 1..=3 {
        let outcome = fence.agent("asker").with(CGROUP).run("dig +tries=1 +time=5 evil.test A");
        assert!(outcome.says("REFUSED"), "{outcome:#?}");
        let asked = "egressd_denials_total{agent=\"asker\",reason=\"host-not-allowed\"}";
        figure_becomes(&fence, asked, f64::from(lookup));
    }
    for flow in 1..=5 {
        talker.fails("tcp 10.99.0.66 9000 x");
        figure_becomes(&fence, &denied("address-not-granted"), f64::from(flow));
    }
    let kernel = format!("egressd_kernel_denials_total{{agent=\"{AGENT}\",reason=\"address-not-granted\"}}");
    assert_eq!(figure(&fence, &kernel), Some(5.0), "as the programs count");
    assert_eq!(figure(&fence, "egressd_agents{boundary=\"cgroup\"}"), Some(1.0));
    assert!(figure(&fence, &format!("egressd_grants{{agent=\"{AGENT}\"}}")) >= Some(1.0));
    assert_eq!(figure(&fence, "egressd_lost_records_total{at=\"queue\"}"), Some(0.0));

    assert_eq!(refused(&fence), (0.0, 0.0));
    let applied = figure(&fence, "egressd_policy_applied_timestamp_seconds");
    assert!(!fence.reload(&with(&[OK, "{host: alt.test, privat: true}"])).succeeded());
    assert_eq!(refused(&fence).0, 1.0);
    let before = refused(&fence).1;
    assert!(!fence.ctl(&["reload"]).succeeded());
    assert_eq!(refused(&fence), (1.0, before + 1.0));
    assert_eq!(figure(&fence, "egressd_check_passed{check=\"policy files\"}"), Some(0.0));
    assert_eq!(figure(&fence, "egressd_policy_applied_timestamp_seconds"), applied);
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://alt.test/");
    assert!(fence.reload(&with(&[OK, "{host: alt.test, private: true}"])).succeeded());
    assert_eq!(refused(&fence).0, 0.0);
    assert!(figure(&fence, "egressd_policy_applied_timestamp_seconds") > applied);
    talker.does("fetch https://alt.test/");
}

#[test]
fn processes_of_this_host_read_figures_and_agents_do_not_whatever_their_policies_say() {
    let fence = monitored(WIDE);
    let host = fence.lab().run(READ);
    assert!(host.succeeded() && host.says("egressd_build_info{version="), "{host:#?}");
    // Its policy does let an agent have this host's loopback.
    let neighbour =
        fence.lab().on_host(|| std::net::TcpListener::bind("127.0.0.1:9465")).expect("a listener");
    let reach = "exec 3<>/dev/tcp/127.0.0.1/9465";
    assert!(fence.agent(AGENT).with(CGROUP).run(reach).succeeded(), "what else is there may be reached");
    drop(neighbour);
    for (flags, tricks) in [
        (
            CGROUP,
            &[READ, "exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET /metrics HTTP/1.0\\n\\n' >&3 && cat <&3"]
                [..],
        ),
        (&["--mode", "cgroup", "--proxy-env"], &TUNNELS),
        (&["--mode", "sealed", "--proxy-env"], &TUNNELS),
        (&["--mode", "sealed"], &[READ, "curl -sS -m 3 http://10.99.0.1:9464/metrics"]),
        (&["--mode", "cgroup", "--observe"], &[READ]),
    ] {
        for trick in tricks {
            reads_nothing(&fence.agent(AGENT).with(flags), trick);
        }
    }
    let told = format!("{}{}", fence.daemon().stdout(), fence.daemon().stderr());
    for why in ["its socket is an agent's", "it is relayed by this daemon"] {
        assert!(told.contains(why), "a policy let some of it come as far as the listener: {told}");
    }
    assert!(figure(&fence, "egressd_scrapes_denied_total") >= Some(5.0));
    assert!(fence.lab().run(READ).succeeded(), "it answers others as ever");
}

#[test]
fn an_adopted_agent_reads_no_figure_not_even_by_a_socket_from_a_cgroup_that_is_gone() {
    let fence = monitored(WIDE);
    let job = Job::new(&fence);
    let path = job.path().display().to_string();
    let gone = format!(
        "mkdir {path}/below; echo $$ > {path}/below/cgroup.procs; exec /usr/bin/python3 -c '
import os, socket
flow = socket.socket()
open(\"{path}/cgroup.procs\", \"w\").write(str(os.getpid()))
os.rmdir(\"{path}/below\")
flow.connect((\"127.0.0.1\", 9464))
flow.sendall(b\"GET /metrics HTTP/1.0\\r\\n\\r\\n\")
print(flow.makefile().read())'"
    );
    let before = job.run_privileged(&fence, READ);
    assert!(before.says("egressd_build_info"), "it is no agent yet: {before:#?}");
    let adopted = job.adopt(&fence, &["--allow-privileges"]);
    assert!(adopted.succeeded(), "{adopted:#?}");
    for trick in [READ, &gone] {
        let outcome = job.run_privileged(&fence, trick);
        assert!(!outcome.succeeded() && !outcome.says("egressd_"), "`{trick}`: {outcome:#?}");
    }
    let told = format!("{}{}", fence.daemon().stdout(), fence.daemon().stderr());
    for why in ["its socket is an agent's", "the cgroup of its socket is gone"] {
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn what_is_used_up_lent_and_only_observed_is_told() {
    let db = "{host: db.test, protocol: tcp, ports: [5432], private: true, max_connections: 3}";
    let observed = "{host: open.test, protocol: tcp, ports: [9000], mode: observe}";
    let fence = fence(&with(&[OK, db, observed]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    for _ in 0..2 {
        talker.does("tcp db.test 5432 x");
    }
    talker.does("tcp open.test 9000 x");
    assert!(fence.ctl(&["allow", "alt.test", "--private", "--for", "1h", "--reason", "a look"]).succeeded());
    let metrics = || fence.ctl(&["metrics"]).stdout;
    for (figure, value) in [("egressd_budget_used_connections", 2), ("egressd_budget_limit_connections", 3)] {
        let begin = format!("{figure}{{agent=\"{AGENT}\",rule=\"");
        let end = format!("policy.yaml:6\"}} {value}");
        let text = metrics();
        assert!(text.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end)), "{end}: {text}");
    }
    let lent = ["allow", "db.test:9000", "--private", "--for", "1h", "--uses", "4"];
    assert!(fence.ctl(&[&lent[..], &["--reason", "a look"]].concat()).succeeded());
    let uses = format!("egressd_budget_limit_connections{{agent=\"{AGENT}\",rule=\"lent\"}}");
    figure_becomes(&fence, &uses, 4.0);
    figure_becomes(&fence, &format!("egressd_lent_grants{{agent=\"{AGENT}\"}}"), 2.0);
    let seen = format!("egressd_observed_total{{agent=\"{AGENT}\",reason=\"");
    poll("what was observed", || metrics().contains(&seen).then_some(()));
    let json = fence.ctl(&["metrics", "-o", "json"]);
    assert!(json.says("{\"name\":\"egressd_leak_ledger_capacity_bytes\",\"kind\":\"gauge\""), "{json:#?}");
}

#[test]
fn a_listener_whose_address_is_taken_keeps_no_fence_from_standing() {
    let mut fence = monitored(&with(&[OK]));
    fence.kill();
    let taken = fence.lab().on_host(|| std::net::TcpListener::bind("127.0.0.1:9464")).expect("a listener");
    fence.launch();
    let told = "failed to listen on `127.0.0.1:9464`";
    poll("the check", || fence.ctl(&["status"]).says(told).then_some(()));
    Talker::start(&fence.agent(AGENT)).does("fetch https://ok.test/");
    drop(taken);
    poll("the listener", || fence.lab().run(READ).succeeded().then_some(()));
    poll("a good status", || fence.ctl(&["status", "-q"]).succeeded().then_some(()));
}

/// Gets the agent no figure, whatever it gets.
fn reads_nothing(agent: &Agent, trick: &str) {
    let outcome = agent.run(trick);
    assert!(!outcome.says("egressd_"), "`{trick}`: {outcome:#?}");
    assert!(!outcome.stdout.contains("200 OK"), "`{trick}`: {outcome:#?}");
}

/// Whether a policy is refused, and how often one was.
fn refused(fence: &Fence) -> (f64, f64) {
    let read = |name| figure(fence, name).expect("it is always told");
    (read("egressd_policy_refused"), read("egressd_policy_refusals_total"))
}

/// The sample that begins so.
fn figure(fence: &Fence, sample: &str) -> Option<f64> {
    let told = fence.ctl(&["metrics"]);
    assert!(told.succeeded(), "{told:#?}");
    let value = told.stdout.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

fn figure_becomes(fence: &Fence, sample: &str, value: f64) {
    poll(sample, || (figure(fence, sample) == Some(value)).then_some(()));
}

/// A fence that answers monitors.
fn monitored(policy: &str) -> Fence {
    let lab = Lab::new();
    let config = lab.folder().join("egressd.yaml");
    fs::write(&config, "version: 1\nmetrics: 127.0.0.1:9464\n").expect("a file of the lab");
    let flags: &'static [&'static str] = vec!["--config", &*config.display().to_string().leak()].leak();
    Fence::start_with(lab, programs(), policy, flags)
}

const READ: &str = "curl -sSf -m 5 --noproxy '*' http://127.0.0.1:9464/metrics";
/// What a client does that was told of a proxy.
const TUNNELS: [&str; 3] = [
    "curl -sS -m 5 --noproxy '' -p http://127.0.0.1:9464/metrics",
    "curl -sS -m 5 --noproxy '' http://127.0.0.1:9464/metrics",
    "curl -sS -m 5 --noproxy '' -x socks5h://${http_proxy#http://} http://127.0.0.1:9464/metrics",
];
const CGROUP: &[&str] = &["--mode", "cgroup"];
const OK: &str = "{host: ok.test, private: true}";

/// As wide as a policy can be.
const WIDE: &str = "
version: 1
agents:
  default:
    rules:
      - {cidr: 127.0.0.0/8, protocol: tcp, ports: [9464, 9465]}
      - {cidr: 0.0.0.0/0, protocol: tcp, ports: [9464]}
      - {cidr: 10.99.0.1/32, protocol: tcp, ports: [9464]}
      - {host: '**.ok.test', protocol: http, ports: [9464], private: true}
";
