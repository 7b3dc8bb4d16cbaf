//! Whatever the socket API, and whatever the layer.

use crate::{
    AGENT,
    attack::{stops, tells_apart},
    fence,
    places::{EVIL, OK},
    policies::COMMON,
};

#[test]
fn tcp_leaves_only_for_granted_addresses() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} tcp {v4} 9000 {mark}",
        "{trick} tcp {v6} 9000 {mark}",
        "{trick} tcp ::ffff:{v4} 9000 {mark}",
        "{trick} tcp_bound {v4} 9000 {mark}",
        "{trick} tcp_marked {v4} 9000 {mark}",
        "exec 3<> /dev/tcp/{v4}/9000 && echo {mark} >&3 && timeout 2 head -n 1 <&3 | grep {mark}",
    ];
    tells_apart(&fence.agent(AGENT), &flows);
}

#[test]
fn udp_leaves_only_for_granted_addresses() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} udp_sendto {v4} 9000 {mark}",
        "{trick} udp_sendto {v6} 9000 {mark}",
        "{trick} udp_sendmsg {v4} 9000 {mark}",
        "{trick} udp_sendmsg {v6} 9000 {mark}",
        "{trick} udp_sendmmsg {v4} 9000 {mark}",
        "{trick} udp_sendmmsg {v6} 9000 {mark}",
        "exec 3<> /dev/udp/{v4}/9000 && echo {mark} >&3 && timeout 2 head -n 1 <&3 | grep {mark}",
    ];
    tells_apart(&fence.agent(AGENT), &flows);
}

#[test]
fn connected_udp_leaves_only_for_granted_addresses() {
    let fence = fence(COMMON);
    let flows = ["{trick} udp_connected {v4} 9000 {mark}", "{trick} udp_connected {v6} 9000 {mark}"];
    tells_apart(&fence.agent(AGENT), &flows);
    let reconnected = [
        "{trick} udp_reconnected {v4} 9000 {mark} 10.99.0.10",
        "{trick} udp_reconnected {v6} 9000 {mark} fd99::10",
    ];
    stops(&fence.agent(AGENT), EVIL, &reconnected);
}

#[test]
fn v4_mapped_destinations_are_judged_as_the_ipv4_that_they_are() {
    let fence = fence(COMMON);
    let flows = ["{trick} udp_mapped {v4} 9000 {mark}", "{trick} udp_mapped_connected {v4} 9000 {mark}"];
    tells_apart(&fence.agent(AGENT), &flows);
}

#[test]
fn threads_and_grandchildren_are_fenced_too() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} threads {v4} 9000 {mark}",
        "(setsid bash -c 'exec > /dev/udp/{v4}/9000; echo {mark}' & wait) 2> /dev/null",
    ];
    stops(&fence.agent(AGENT), EVIL, &flows);
}

#[test]
fn what_is_for_our_own_listeners_leaves_by_no_device_of_the_agents_choice() {
    let fence = fence(COMMON);
    let flows = ["{trick} udp_by_device {v4} 53 {mark} wan", "{trick} udp_by_device {v6} 53 {mark} wan"];
    stops(&fence.agent(AGENT), EVIL, &flows);
}

#[test]
fn tcp_fast_open_carries_no_data_to_denied_addresses() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} fastopen {v4} 9000 {mark}",
        "{trick} fastopen {v6} 9000 {mark}",
        "{trick} fastopen_connect {v4} 9000 {mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &flows);
}

#[test]
fn multipath_tcp_is_denied() {
    let fence = fence(COMMON);
    stops(&fence.agent(AGENT), EVIL, &["{trick} mptcp {v4} 9000 {mark}", "{trick} mptcp {v6} 9000 {mark}"]);
}

#[test]
fn udp_lite_is_denied() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} udplite_sendto {v4} 9000 {mark}",
        "{trick} udplite_connected {v4} 9000 {mark}",
        "{trick} udplite_connected {v6} 9000 {mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &flows);
    // The address is open, but for UDP.
    stops(&fence.agent(AGENT), OK, &flows);
}

#[test]
fn icmp_is_denied() {
    let fence = fence(COMMON);
    let pings = [
        "{trick} ping {v4} {mark}",
        "{trick} ping {v6} {mark}",
        "{trick} raw_icmp {v4} {mark}",
        "{trick} raw_icmp {v6} {mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &pings);
    // An address that is open answers no ping either: an echo carries what its sender likes.
    stops(&fence.agent(AGENT), OK, &pings);
}

#[test]
fn raw_sockets_are_denied() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} raw_protocol {v4} {mark}",
        "{trick} raw_protocol {v6} {mark}",
        "{trick} raw_header {v4} {mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &flows);
    stops(&fence.agent(AGENT), OK, &flows);
}

#[test]
fn frames_below_the_ip_stack_are_denied() {
    let fence = fence(COMMON);
    let frames = [
        "{trick} packet {v4} {mark}",
        "{trick} packet_bypass {v4} {mark}",
        "{trick} packet_datagram {v4} {mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &frames);
}

#[test]
fn packets_from_a_tunnel_device_are_denied() {
    let fence = fence(COMMON);
    stops(&fence.agent(AGENT), EVIL, &["{trick} tun {v4} {mark}"]);
}

#[test]
fn a_route_inside_the_packet_is_denied() {
    let fence = fence(COMMON);
    let routes = [
        "{trick} routing_header {v6} 9000 {mark} fd99::10",
        "{trick} source_route {v4} 9000 {mark} 10.99.0.10",
    ];
    stops(&fence.agent(AGENT), EVIL, &routes);
}

#[test]
fn a_forged_source_address_is_denied() {
    let fence = fence(COMMON);
    stops(&fence.agent(AGENT), EVIL, &["{trick} forged_source {v4} 9000 {mark}"]);
}

#[test]
fn fragments_are_denied() {
    let fence = fence(COMMON);
    stops(
        &fence.agent(AGENT),
        EVIL,
        &["{trick} udp_large {v4} 9000 {mark}", "{trick} udp_large {v6} 9000 {mark}"],
    );
}

#[test]
fn io_uring_opens_no_way_out() {
    let fence = fence(COMMON);
    stops(&fence.agent(AGENT), EVIL, &["{trick} uring_socket {v4} 9000 {mark}"]);
}

#[test]
fn groups_can_be_neither_joined_nor_sent_to() {
    let fence = fence(COMMON);
    let sends = [
        "{trick} group_send 239.1.2.3 9000 {mark}",
        "{trick} group_send 224.0.0.251 5353 {mark}",
        "{trick} group_send 10.99.0.255 9000 {mark}",
        "{trick} group_send 255.255.255.255 9000 {mark}",
        "{trick} group_send ff02::fb 5353 {mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &sends);
    // The last four octets spell what must not be seen.
    let joins = [
        "{trick} igmp_join 239.118.105.108",
        "{trick} group_join 239.118.105.109",
        "{trick} mld_join ff12::6576:696c",
        "{trick} group_join ff15::6576:696c",
    ];
    stops(&fence.agent(AGENT), EVIL, &joins);
}
