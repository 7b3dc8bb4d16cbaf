//! Ways out that are not packets of the agent's own: deputies, descriptors, namespaces.

use super::entry::{Entry, V4, way};

pub const WAYS: &[Entry] = &[
    way(
        "B41-unshare",
        "a network namespace of its own",
        "unshare -Urn true; {trick} udp_sendto {ip} 9000 {mark}",
    ),
    way("B33-loopback", "a service of the host's loopback", "echo {mark} | socat -t 1 - tcp:127.0.0.1:7777")
        .over(V4)
        .helped_by(super::entry::Helper::Host(
            "socat tcp-listen:7777,bind=127.0.0.1,fork,reuseaddr udp-sendto:{v4}:9000 & \
             until ss -tln | grep -q 7777; do :; done; echo ready; wait",
        ))
        .works_as("echo {mark} | socat -t 1 - tcp:{ok}:9000 | grep {mark}"),
];
