//! Ways out by socket calls and by packets, whatever the layer.

use super::entry::{Entry, way};

pub const WAYS: &[Entry] = &[
    way("B8-sendto", "udp by sendto(2)", "{trick} udp_sendto {ip} 9000 {mark}"),
    way("B8-sendmsg", "udp by sendmsg(2)", "{trick} udp_sendmsg {ip} 9000 {mark}"),
    way("B8-sendmmsg", "udp by sendmmsg(2)", "{trick} udp_sendmmsg {ip} 9000 {mark}"),
];
