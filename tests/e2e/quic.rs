//! QUIC: denied where no rule speaks of it, and judged by the name in its Initial where one does.

use crate::{
    AGENT,
    attack::{stops, violations},
    fence,
    fence::{Agent, Fence},
    fence_in,
    lab::Lab,
    places::{OK, Place, SHARED, SHARED_EVIL},
    policies::{COMMON, common_and, with},
    program::Outcome,
    quic_server::{QuicServer, Visit},
    sniffer::mark,
};
use std::{net::IpAddr, time::Duration};

#[test]
fn udp_to_the_port_of_quic_is_denied_at_once_where_no_rule_speaks_of_it() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    let sends = [
        "{trick} udp_sendto {v4} 443 {mark}",
        "{trick} udp_sendto {v6} 443 {mark}",
        "{trick} udp_connected {v4} 443 {mark}",
        "{trick} udp_connected {v6} 443 {mark}",
    ];
    // Its address is granted for TLS, which makes clients try.
    stops(&agent, OK, &sends);
    for send in sends {
        let send = crate::attack::script(&format!("getent ahosts {{host}}; {send}"), OK, "text");
        let outcome = agent.run(&send);
        assert!(outcome.says("PermissionError"), "{send}: {outcome:#?}");
        assert!(outcome.took < Duration::from_secs(5), "{outcome:#?}");
    }
}

#[test]
fn quic_reaches_the_granted_names_over_ipv4_and_ipv6_in_every_mode() {
    let (fence, server) = served();
    for flags in [&["--mode", "cgroup"], &["--mode", "sealed"]] {
        for address in [IpAddr::V4(OK.v4), IpAddr::V6(OK.v6)] {
            let agent = fence.agent(AGENT).with(flags);
            let outcome = run(&agent, Visit { address, ..VISIT });
            assert!(outcome.says("answer: hello from ok.test"), "{flags:?} {address}: {outcome:#?}");
        }
    }
    assert_eq!(server.visits(), 4);
    let tail = fence.ctl(&["tail", "--all", "-n", "100", "-o", "json"]);
    let records = tail.stdout.lines().filter(|line| line.contains(r#""protocol":"quic""#));
    let records: Vec<serde_json::Value> = records.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4, "{}", tail.stdout);
    for record in records {
        let said = ["verdict", "gate", "path"].map(|key| record[key].as_str().unwrap_or(""));
        assert_eq!(said, ["allow", "server-name", "proxy"], "{record:#}");
        assert_eq!(record["destination"]["name"], OK.name, "{record:#}");
    }
}

#[test]
fn quic_that_names_another_server_at_a_granted_address_is_denied_with_words() {
    let (fence, server) = served();
    let agent = fence.agent(AGENT);
    for (name, reason) in [(SHARED_EVIL, "host-not-allowed"), (OK.name, "server-name-not-granted")] {
        let visit = Visit { looks_up: SHARED.name, address: SHARED.v4.into(), asks_for: name, ..VISIT };
        let (outcome, frames) = violations(fence.lab(), &mark(), || run(&agent, visit));
        assert!(outcome.says(&format!("egressd: {reason}: ")), "{outcome:#?}");
        assert!(frames.is_empty(), "{frames:#?}");
        let record = agent.denial("a denied name", |record| record["reason"] == reason);
        let said = ["gate", "path", "protocol"].map(|key| record[key].as_str().unwrap_or(""));
        assert_eq!(said, ["server-name", "proxy", "quic"], "{record:#}");
        assert_eq!(record["destination"]["name"], name, "{record:#}");
    }
    assert_eq!(server.visits(), 0);
}

#[test]
fn a_socket_whose_quic_was_redirected_sees_its_server_and_is_held_to_it() {
    let (fence, server) = served();
    let agent = fence.agent(AGENT);
    // A version that nobody speaks is answered, and that answer comes from where it was sent to.
    let script = "
import socket
addresses = {place: socket.getaddrinfo(place, 443, socket.AF_INET)[0][4] for place in ('ok.test', 'ok2.test')}
strange = bytes([0xc0, 0xff, 0, 0, 0x1d, 8]) + b'original' + bytes([2]) + b'me' + bytes(1200)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(5)
one.sendto(strange, addresses['ok.test'])
answer, peer = one.recvfrom(2048)
assert peer == addresses['ok.test'], peer
assert answer[1:5] == bytes(4), answer
for act in (one.sendto, lambda _, to: one.connect(to)):
    for to in (addresses['ok2.test'], ('10.99.0.53', 53)):
        try:
            act(strange, to)
            print('mixed up', to)
        except PermissionError:
            pass
two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
two.settimeout(5)
two.connect(addresses['ok.test'])
two.connect(addresses['ok2.test'])
assert two.getpeername() == addresses['ok2.test'], two.getpeername()
two.send(strange)
assert two.recv(2048)[1:5] == bytes(4)
print('done')
";
    let outcome = agent.run(&format!("/usr/bin/python3 -c \"{script}\""));
    assert!(outcome.says("done") && !outcome.says("mixed up"), "{outcome:#?}");
    agent.denial("a second destination", |record| record["reason"] == "quota-exceeded");
    assert_eq!(server.visits(), 0);
}

#[test]
fn a_removed_rule_cuts_live_quic() {
    let (fence, server) = served();
    let agent = fence.agent(AGENT);
    let visit = Visit { stays: true, ..VISIT };
    let mut client = agent.spawn(&visit.command().each_ref().map(String::as_str));
    crate::program::poll("an answer", || client.stdout().contains("answer: hello").then_some(()));
    assert!(fence.reload(&with(&[])).succeeded());
    crate::program::poll("the end of the connection", || client.has_ended().then_some(()));
    assert!(client.stdout().contains("lost: "), "{}", client.stdout());
    agent.denial("the cut", |record| record["reason"] == "rule-removed" && record["protocol"] == "quic");
    assert_eq!(server.visits(), 1);
}

/// To the first of those who may be visited.
const VISIT: Visit = Visit { looks_up: OK.name, address: IpAddr::V4(OK.v4), asks_for: OK.name, stays: false };

/// A lab whose web servers speak QUIC too, and an agent that may.
fn served() -> (Fence, QuicServer) {
    let lab = Lab::new();
    let server = QuicServer::start(&lab);
    let rules =
        [OK, SHARED].map(|Place { name, .. }| format!("{{host: {name}, protocol: quic, private: true}}"));
    (fence_in(lab, &common_and(&rules.each_ref().map(String::as_str))), server)
}

fn run(agent: &Agent, visit: Visit) -> Outcome {
    crate::program::run(agent.command(&visit.command().each_ref().map(String::as_str)))
}
