//! Ways out by time: what is done before, after, very often, or by whoever is left.

use super::entry::{Entry, way};

pub const WAYS: &[Entry] = &[
    // Who is left, and what they have become.
    way("N70-orphan", "whoever outlives the command", "{trick} lifecycle.orphan {ip} 9000 {mark}")
        .never_works(ENDS_WITH_IT),
    way("N70-stubborn", "one that ignores every signal", "{trick} lifecycle.stubborn {ip} 9000 {mark}")
        .never_works(ENDS_WITH_IT),
    way(
        "N70-executed",
        "a socket that an executed program finds",
        "{trick} lifecycle.executed {ip} 9000 {mark}",
    ),
    way("N70-cgroup", "a cgroup namespace", "unshare -UrC {trick} udp_sendto {ip} 9000 {mark}").works_as(UDP),
    way("N70-pid", "a process namespace", "unshare -Urpf {trick} udp_sendto {ip} 9000 {mark}").works_as(UDP),
    way("N70-vfork", "the oldest of the calls that fork", "{trick} lifecycle.cloned {ip} 9000 {mark}"),
    way("N70-root", "another user id", "{trick} lifecycle.changed_user {ip} 9000 {mark}"),
    way("N70-memory", "a program that is no file", "{trick} lifecycle.from_memory {ip} 9000 {mark}"),
    // What was allowed before.
    way(
        "N71-port",
        "the source port of what is allowed",
        "{trick} lifecycle.same_port {ip} 9000 {mark} {ok}",
    )
    .works_as(UDP),
    way("N71-name", "an address after a name", "{trick} lifecycle.after_name {ip} 9000 {mark} ok.test")
        .works_as(UDP),
    way("N71-closed", "a stream that was closed", "{trick} lifecycle.after_stream {ip} 9000 {mark} {ok}")
        .works_as(TCP),
    // What is done very often.
    way(
        "N72-sockets",
        "hundreds of sockets that are allowed first",
        "{trick} lifecycle.crowded {ip} 9000 {mark} {ok}",
    )
    .works_as(UDP),
    way("N72-denials", "thousands of denials first", "{trick} lifecycle.insistent {ip} 9000 {mark}")
        .works_as(UDP),
    way("N72-connects", "thousands of denied streams first", "{trick} lifecycle.knocking {ip} 9000 {mark}")
        .works_as(TCP),
    way("N72-ports", "every port", "{trick} lifecycle.every_port {ip} {mark}").works_as(UDP),
    way("N72-forks", "from hundreds of processes", "{trick} lifecycle.many {ip} 9000 {mark}").works_as(UDP),
    way("N72-clones", "threads that race a socket's end", "{trick} lifecycle.closing {ip} 9000 {mark} {ok}")
        .works_as(UDP),
];

const UDP: &str = "{trick} udp_sendto {ip} 9000 {mark}";
const TCP: &str = "{trick} tcp {ip} 9000 {mark}";
const ENDS_WITH_IT: &str = "what an agent leaves behind ends with it";
