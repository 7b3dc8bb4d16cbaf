//! Budgets of flows that go through the proxy, by every way into it.

use crate::{
    AGENT, fence,
    fence::Fence,
    fence_in,
    lab::Lab,
    octets::{CGROUP, SEALED, SPEND, see},
    places::OK,
    policies::with,
    program::{poll, poll_for},
    programs,
    quic_server::{QuicServer, Visit},
    reload::reload,
    talker::Talker,
};
use std::{fs, net::IpAddr, time::Duration};

#[test]
fn tunnels_keep_to_the_budget_of_their_rule_to_the_octet() {
    let name = "{host: db.test, protocol: tcp, ports: [9000], private: true, BOUNDS}";
    let network = "{cidr: 10.99.0.12/32, protocol: tcp, ports: [9000], BOUNDS}";
    let network_v6 = "{cidr: 'fd99::12/128', protocol: tcp, ports: [9000], BOUNDS}";
    for (tunnel, host, rule) in [
        ("connect", "db.test", name),
        ("connect", "10.99.0.12", network),
        ("socks", "db.test", name),
        ("socks", "10.99.0.12", network),
        ("socks", "fd99::12", network_v6),
    ] {
        let fence = fence(&with(&[&rule.replace("BOUNDS", "max_bytes: 100kB, max_connections: 4")]));
        for mode in ["sealed", "cgroup"] {
            let flags = ["--mode", mode, "--proxy-env"];
            let agent = fence.agent(AGENT).with(&flags);
            let seen = see(&agent, &format!("VIA={tunnel} {SPEND} tcp {host} 9000 1 30000"));
            assert_eq!((seen.used(), seen.octets(9000)), ((30_000, 1), 30_000), "{}", seen.said);
            let seen = see(&agent, &format!("VIA={tunnel} {SPEND} tcp {host} 9000 5 40000"));
            // None begins once no octet is left.
            let (octets, flows) = seen.used();
            assert!(
                octets == 100_000 && (3..=4).contains(&flows),
                "{tunnel} {host}: {} {}",
                seen.said,
                seen.told
            );
            assert!(seen.octets(9000) <= 100_000, "{tunnel} {host}: {}", seen.octets(9000));
            let refused = (seen.says("refused"), seen.says("slow"));
            assert_eq!(refused, (5 - flows, 0), "{tunnel} {host}: {}", seen.said);
            let denial = agent.denial("the end", |record| record["reason"] == "budget-spent");
            assert!(denial["rule"].to_string().contains("policy.yaml:5"), "{denial:#}");
        }
    }
}

#[test]
fn each_name_of_a_connection_of_plain_http_pays_for_itself() {
    let rule = |host: &str, flows: u64| {
        format!("{{host: {host}, protocol: http, private: true, max_bytes: 5kB, max_connections: {flows}}}")
    };
    let fence = fence(&with(&[&rule("ok2.test", 2), &rule("evil2.test", 5)]));
    let ask = |hosts: &str, length: usize| {
        format!(
            "/usr/bin/python3 -c \"
import http.client, socket
[socket.getaddrinfo(host, 80) for host in ('ok2.test', 'evil2.test')]
flow = http.client.HTTPConnection('ok2.test', 80, timeout=10)
for host in '{hosts}'.split():
    try:
        flow.request('POST' if {length} else 'GET', '/', 'x' * {length} or None, {{'Host': host}})
        answer = flow.getresponse()
        print(answer.status, answer.getheader('x-egressd-reason'), len(answer.read()) > 0)
    except OSError as error:
        print('cut', type(error).__name__)
\""
        )
    };
    for mode in [CGROUP, SEALED] {
        let agent = fence.agent(AGENT).with(mode);
        let hosts = "ok2.test ok2.test evil2.test ok2.test evil2.test ok2.test";
        let seen = see(&agent, &ask(hosts, 0));
        assert!(
            seen.said.starts_with(&("200 None True\n".repeat(5) + "429 budget-spent True\n")),
            "{}",
            seen.said
        );
        let flows: Vec<_> =
            (0..2).map(|rule| seen.told["budgets"][rule]["connections"]["used"].clone()).collect();
        assert_eq!(flows, [2, 2], "{}", seen.told);
        assert_eq!(seen.used().0, seen.octets(80), "{}", seen.told);
        agent.denial("the third", |record| {
            record["reason"] == "budget-spent" && record["destination"]["name"] == "ok2.test"
        });
        // The server answers before it has read all.
        let seen = see(&agent, &ask("ok2.test", 100_000));
        assert!(seen.octets(80) <= 5_000, "{} {}", seen.said, seen.told);
        let seen = see(&agent, &ask("ok2.test", 4_700));
        assert!(seen.said.starts_with("200") && seen.used().0 == seen.octets(80), "{}", seen.said);
    }
}

#[test]
fn a_request_whose_head_cannot_be_paid_for_is_answered_with_why() {
    let fence = fence(&with(&["{host: ok.test, protocol: http, private: true, max_bytes: 20}"]));
    let fetch = "curl -s -m 10 -i http://ok.test/";
    for fetch in [fetch.to_owned(), format!("env -u http_proxy {fetch}")] {
        let seen = see(&fence.agent(AGENT).with(&["--proxy-env"]), &fetch);
        assert!(seen.said.starts_with("HTTP/1.1 429") && seen.said.contains("budget-spent"), "{}", seen.said);
        assert!(seen.said.contains("policy.yaml:5"), "{}", seen.said);
        assert_eq!((seen.octets(80), seen.used().0), (0, 0), "{}", seen.told);
    }
}

#[test]
fn of_what_is_inspected_the_octets_of_our_tls_count() {
    let rule = |bound: &str| {
        with(&[&format!("{{host: ok.test, private: true, inspect: true, max_bytes: {bound}}}")])
    };
    let lab = Lab::new();
    let config = lab.folder().join("egressd.yaml");
    let authority = lab.folder().join("authority.pem");
    fs::write(&config, format!("version: 1\ninspection_ca: {}\n", authority.display())).expect("written");
    // As long as the process of the tests lives.
    let flags = vec!["--config", &*config.display().to_string().leak()].leak();
    let fence = Fence::start_with(lab, programs(), &rule("60kB"), flags);
    let url = "https://ok.test/";
    for (mode, version) in WAYS {
        let seen = see(
            &fence.agent(AGENT).with(mode),
            &format!("curl -sS -m 10 {version} {url} {url} {url} -d 12345"),
        );
        assert_eq!(seen.said.matches("hello from ok.test").count(), 3, "{}", seen.said);
        assert_eq!(seen.used(), (seen.octets(443), 1), "{version}: {}", seen.told);
    }
    // Enough for the handshake, and not for this head: no server answers a part of one.
    reload(&fence, &rule("2kB"));
    let long = "x".repeat(4000);
    for (mode, version) in WAYS {
        let agent = fence.agent(AGENT).with(mode);
        let seen = see(&agent, &format!("curl -sS -m 10 {version} -H 'X-Long: {long}' {url}"));
        assert!(!seen.said.contains("hello") && seen.octets(443) <= 2_000, "{version}: {}", seen.said);
        assert!(!seen.said.contains("= 28"), "curl hears of it at once: {}", seen.said);
        agent.denial("the end", |record| record["reason"] == "budget-spent");
    }
}

const WAYS: [(&[&str], &str); 4] =
    [(CGROUP, "--http1.1"), (SEALED, "--http2"), (SEALED, "--http1.1"), (CGROUP, "--http2")];

#[test]
fn datagrams_of_quic_pay_and_the_denial_is_on_record() {
    let rule = |bounds: &str| with(&[&format!("{{host: ok.test, protocol: quic, private: true, {bounds}}}")]);
    let lab = Lab::new();
    let server = QuicServer::start(&lab);
    let fence = fence_in(lab, &rule("max_bytes: 1MB, max_connections: 9"));
    let visit = |stays: bool| {
        let address = IpAddr::V4(OK.v4);
        Visit { looks_up: OK.name, address, asks_for: OK.name, stays }.command().join(" ")
    };
    for mode in [CGROUP, SEALED] {
        let seen = see(&fence.agent(AGENT).with(mode), &visit(false));
        let records = fence.agent(AGENT).records();
        assert!(seen.said.contains("answer: hello from ok.test"), "{} {} {records:#?}", seen.said, seen.told);
        assert_eq!(seen.used(), (seen.octets(443), 1), "{}", seen.told);
    }
    reload(&fence, &rule("max_bytes: 1kB"));
    let agent = fence.agent(AGENT);
    let seen = see(&agent, &visit(false));
    assert!(
        seen.said.contains("egressd: budget-spent"),
        "{} {} {:#?}",
        seen.said,
        seen.told,
        agent.records()
    );
    assert_eq!(seen.octets(443), 0, "{}", seen.told);
    agent.denial("the first", |record| record["reason"] == "budget-spent" && record["protocol"] == "quic");
    // It stays, and says that it does until it may not any more.
    reload(&fence, &rule("max_bytes: 5kB"));
    let agent = fence.agent(AGENT);
    let seen = see(&agent, &visit(true));
    assert!(seen.said.contains("lost: ") && seen.octets(443) <= 5_000, "{}", seen.said);
    agent.denial("the cut", |record| record["reason"] == "budget-spent" && record["protocol"] == "quic");
    drop(server);
}

#[test]
fn a_flow_of_tls_that_is_open_pays_from_the_reload_on_that_bounds_it() {
    for (gate, mode) in [("kernel", CGROUP), ("proxy", CGROUP), ("proxy", SEALED)] {
        let rule =
            |bounds: &str| with(&[&format!("{{host: ok.test, private: true, gate: {gate}, {bounds}}}")]);
        let fence = fence(&rule(""));
        let mut talker = Talker::start(&fence.agent(AGENT).with(mode));
        talker.does("keep_tls ok.test 443");
        talker.does("say_tls ok.test");
        reload(&fence, &rule("max_bytes: 1kB"));
        talker.does("say_tls ok.test");
        let is_cut =
            poll_for(Duration::from_secs(20), || (talker.tell("say_tls ok.test") != "ok").then_some(()));
        assert!(is_cut.is_some(), "{gate}: it says more than it may");
        talker.fails("keep_tls ok.test 443");
        // Whoever takes a bound away opens the way again.
        reload(&fence, &rule(""));
        poll("the way", || (talker.tell("keep_tls ok.test 443") == "ok").then_some(()));
        for _ in 0..20 {
            talker.does("say_tls ok.test");
        }
    }
}
