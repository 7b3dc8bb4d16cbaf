//! Socket options that change where a frame comes from, or what carries it.

use crate::{
    AGENT,
    attack::{TRICKS, stops},
    fence,
    places::OK,
    policies::COMMON,
};

#[test]
fn a_source_that_is_not_the_agents_own_is_denied() {
    let fence = fence(COMMON);
    // To where it may send: it is the source that says what it likes.
    let sends = [
        "{trick} foreign_source {v6} 9000 {mark} 2001:db8::6576:696c",
        "{trick} foreign_source_of_one_packet {v6} 9000 {mark} 2001:db8::6576:696c",
    ];
    for mode in ["cgroup", "sealed"] {
        stops(&fence.agent(AGENT).with(&["--mode", mode]), OK, &sends);
    }
}

#[test]
fn options_that_give_a_flow_another_carrier_are_denied() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    for (what, option) in [
        ("IP_FREEBIND", "4 0 15 01000000"),
        ("IP_IPSEC_POLICY", "4 0 16 00"),
        ("IP_XFRM_POLICY", "4 0 17 00"),
        ("IPV6_FLOWLABEL_MGR", "6 41 32 00"),
        ("IPV6_IPSEC_POLICY", "6 41 34 00"),
        ("IPV6_XFRM_POLICY", "6 41 35 00"),
        ("IPV6_FREEBIND", "6 41 78 01000000"),
        ("TCP_MD5SIG", "4 6 14 00"),
        ("TCP_MD5SIG_EXT", "4 6 32 00"),
        ("TCP_AO_ADD_KEY", "4 6 38 00"),
        ("TCP_ULP smc", "4 6 31 736d6300"),
        ("TCP_ULP espintcp", "4 6 31 657370696e746370"),
    ] {
        let script = set(option);
        let fenced = agent.run(&script);
        assert!(fenced.says("PermissionError"), "{what} is not denied: {fenced:#?}");
        let unfenced = fence.lab().run(&script);
        assert!(!unfenced.says("PermissionError"), "{what} proves nothing: {unfenced:#?}");
    }
    let record = agent.denial("TCP_ULP", |record| record["detail"] == "socket option 31 of level 6");
    assert_eq!(record["reason"], "socket-type-not-allowed", "{record:#}");
}

#[test]
fn options_that_programs_need_are_set() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    for (what, option) in [
        ("SO_REUSEADDR", "4 1 2 01000000"),
        ("SO_KEEPALIVE", "4 1 9 01000000"),
        ("IP_TOS", "4 0 1 10000000"),
        ("IPV6_V6ONLY", "6 41 26 01000000"),
        ("IPV6_RECVPKTINFO", "6 41 49 01000000"),
        ("TCP_NODELAY", "4 6 1 01000000"),
        ("TCP_USER_TIMEOUT", "4 6 18 10270000"),
    ] {
        let fenced = agent.run(&set(option));
        assert!(fenced.succeeded(), "{what} should be set: {fenced:#?}");
    }
    // TLS by the kernel: it may not have it, or want a connection first.
    for name in ["746c73", "746c7300"] {
        let fenced = agent.run(&set(&format!("4 6 31 {name}")));
        assert!(!fenced.says("PermissionError"), "{fenced:#?}");
    }
}

fn set(option: &str) -> String {
    format!("/usr/bin/python3 {TRICKS} set_option {option}")
}
