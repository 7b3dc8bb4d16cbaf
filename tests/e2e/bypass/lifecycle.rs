//! Ways out by time: what was allowed, or is made to look so, before it is used.

use super::entry::{Entry, way};

pub const WAYS: &[Entry] = &[way(
    "N70-reconnect",
    "connected to what is allowed, then sent elsewhere",
    "{trick} udp_reconnected {ip} 9000 {mark} {ok}",
)];
