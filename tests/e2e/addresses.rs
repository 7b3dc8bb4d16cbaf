//! The second gate: addresses that no name and no network rule granted.

use crate::{
    AGENT,
    attack::{stops, works},
    fence,
    lab::Lab,
    places::{ALT, EVIL, OK},
    policies::{COMMON, with},
    program::Outcome,
};
use std::{io::ErrorKind, net::TcpListener};

#[test]
fn a_bare_address_is_denied_however_it_is_spelled() {
    let fence = fence(COMMON);
    let fetch = [
        "curl -sk -m 2 https://{v4}/",
        "curl -sk -m 2 https://[{v6}]/",
        "curl -s -m 2 http://{v4}/{mark}",
        "curl -s -m 2 http://[{v6}]/{mark}",
        "curl -s -m 2 http://[::ffff:{v4}]/{mark}",
        "curl -s -m 2 http://174260290/{mark}",
        "curl -s -m 2 http://0x0a630042/{mark}",
        "curl -sk -m 2 --resolve {host}:443:{v4} https://{host}/",
        "echo {mark} | timeout 2 socat - tcp:{v4}:22",
        "(echo {mark} > /dev/tcp/{v4}/9000) 2> /dev/null",
    ];
    stops(&fence.agent(AGENT), EVIL, &fetch);
}

#[test]
fn a_granted_name_is_denied_at_an_address_that_it_did_not_resolve_to() {
    let fence = fence(COMMON);
    let elsewhere = [
        "curl -s -m 2 https://ok.test/; curl -sk -m 2 --resolve ok.test:443:{v4} https://ok.test/",
        "curl -s -m 2 https://ok.test/; curl -sk -m 2 --resolve ok.test:443:[{v6}] https://ok.test/",
        "curl -s -m 2 https://ok.test/; curl -s -m 2 --resolve ok.test:80:{v4} http://ok.test/{mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &elsewhere);
    // Nor at an address that is open, but by another name.
    let exchanged = "curl -s -m 2 https://alt.test/; \
                     curl -sk -m 2 --resolve {mark}.ok.test:443:{v4} https://{mark}.ok.test/";
    stops(&fence.agent(AGENT), ALT, &[exchanged]);
}

#[test]
fn a_granted_address_is_denied_at_other_ports_and_protocols() {
    let fence = fence(COMMON);
    let others = [
        "curl -s -m 2 http://{host}:8080/{mark}",
        "{trick} tcp {host} 5432 {mark}",
        "{trick} udp_sendto {v4} 5432 {mark}",
        "{trick} udp_sendto {v6} 443 {mark}",
        "{trick} udp_connected {v4} 443 {mark}",
    ];
    stops(&fence.agent(AGENT), OK, &others);
}

#[test]
fn the_metadata_service_is_denied() {
    let fence = fence(COMMON);
    let fetch =
        ["curl -s -m 2 http://169.254.169.254/{mark}", "{trick} tcp_send_only 169.254.169.254 80 {mark}"];
    stops(&fence.agent(AGENT), EVIL, &fetch);
}

#[test]
fn a_rule_for_every_address_is_none_for_special_ones() {
    let everything = with(&[
        "{cidr: 0.0.0.0/0, protocol: tcp, ports: [80, 9000]}",
        "{cidr: '::/0', protocol: tcp, ports: [80, 9000]}",
        "{cidr: 10.99.0.10/32, protocol: tcp, ports: [9000]}",
    ]);
    let fence = fence(&everything);
    for mode in ["sealed", "cgroup"] {
        let flags = ["--mode", mode];
        let agent = fence.agent(AGENT).with(&flags);
        works(&agent, OK, &["{trick} tcp {v4} 9000 {mark}"]);
        stops(
            &agent,
            EVIL,
            &[
                "{trick} tcp_send_only 169.254.169.254 80 {mark}",
                "{trick} tcp_send_only {v4} 9000 {mark}",
                "{trick} tcp_send_only {v6} 9000 {mark}",
            ],
        );
    }
}

#[test]
fn services_on_the_hosts_loopback_are_denied() {
    let fence = fence(COMMON);
    let (port, listeners) = listen_on_loopback(fence.lab());
    let names = ["127.0.0.1", "127.1", "127.8.8.8", "0.0.0.0", "2130706433", "localhost"];
    let more = ["[::1]", "[::]", "[::ffff:127.0.0.1]", "10.99.0.1", "[fd99::1]"];
    for name in names.iter().chain(&more) {
        let script = format!("curl -s -m 1 http://{name}:{port}/");
        let accepted = |outcome: Outcome| (listeners.iter().any(has_accepted), outcome);
        let (reached, outcome) = accepted(fence.agent(AGENT).run(&script));
        assert!(!reached, "an agent reached the host by {name}: {outcome:#?}");
        let (reached, outcome) = accepted(fence.lab().run(&script));
        assert!(reached, "{name} proves nothing: unfenced it is not reached, {outcome:#?}");
    }
}

/// Listeners at one port of all the host's addresses, IPv4 and IPv6.
fn listen_on_loopback(lab: &Lab) -> (u16, [TcpListener; 2]) {
    lab.on_host(|| {
        let v4 = TcpListener::bind("0.0.0.0:7777").expect("the port is free");
        // The kernel refuses a second socket at that port that would also serve IPv4.
        let v6 = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None)
            .and_then(|socket| {
                socket.set_only_v6(true)?;
                socket.bind(&std::net::SocketAddr::from(([0u16; 8], 7777)).into())?;
                socket.listen(16)?;
                Ok(TcpListener::from(socket))
            })
            .expect("the port is free");
        for listener in [&v4, &v6] {
            listener.set_nonblocking(true).expect("listeners can be made to not wait");
        }
        (7777, [v4, v6])
    })
}

fn has_accepted(listener: &TcpListener) -> bool {
    match listener.accept() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("failed to accept: {error}"),
    }
}
