//! Which names pass, and in which form.

use crate::{
    harness::Harness,
    hellos::{handshake, hello, hello_of, hello_with, record, server_name},
};
use egress_common::{DropReason, Gate, NameValue};
use std::io::ErrorKind;

#[test]
fn a_granted_name_passes_and_another_is_answered_with_an_alert() {
    let harness = Harness::new(&["ok.test"]);
    let hello = hello("ok.test");
    let outcome = harness.send(&[&hello]);
    assert_eq!(outcome.arrived, hello, "{outcome:?}");
    assert!(!outcome.seen_by_client.is_empty() && outcome.denial().is_none(), "{outcome:?}");
    let outcome = harness.send(&[&crate::hellos::hello("evil.test")]);
    denied(&outcome, DropReason::ServerNameNotGranted);
    assert!(outcome.is_alerted(), "{outcome:?}");
    assert_eq!(outcome.events[0].name, "evil.test");
    assert_eq!(outcome.events[0].pid, std::process::id());
    assert_eq!(harness.gate(), Gate::Kernel as u16, "a denied name says nothing of the kernel");
}

#[test]
fn a_name_passes_in_any_case_and_in_pieces_of_any_size() {
    let harness = Harness::new(&["ok.test"]);
    for size in [1, 4, 5, 6, 50, 200] {
        let hello = hello("OK.Test");
        let pieces: Vec<&[u8]> = hello.chunks(size).collect();
        let outcome = harness.send(&pieces);
        assert_eq!(outcome.arrived, hello, "pieces of {size}: {outcome:?}");
        let evil = crate::hellos::hello("evil.test");
        let pieces: Vec<&[u8]> = evil.chunks(size).collect();
        denied(&harness.send(&pieces), DropReason::ServerNameNotGranted);
    }
}

#[test]
fn a_long_hello_passes() {
    let harness = Harness::new(&["ok.test"]);
    for length in [1_200, 2_700, 14_000, 16_000] {
        let hello = hello_with("ok.test", &[(51, vec![7; length])]);
        let outcome = harness.send(&[&hello]);
        assert_eq!(outcome.arrived.len(), hello.len(), "{length}: {:?}", outcome.events);
        assert_eq!(outcome.arrived, hello);
    }
}

#[test]
fn a_hello_that_names_no_granted_server_is_denied_with_its_reason() {
    let harness = Harness::new(&["ok.test", "refused.test"]);
    let port = harness.server.address.port();
    let ip = harness.server.address.ip();
    harness.world.grant_with("refused.test", ip, port, NameValue::REFUSES_ECH);
    let signatures = || (13, vec![0, 2, 4, 3]);
    let ech = || (0xfe0d, vec![0; 40]);
    let outcome = harness.send(&[b"GET / HTTP/1.1\r\n\r\n"]);
    denied(&outcome, DropReason::NotTls);
    assert_eq!(outcome.error, Some(ErrorKind::PermissionDenied));
    denied(&harness.send(&[b"S"]), DropReason::NotTls);
    denied(&harness.send(&[&hello_of(&[signatures()])]), DropReason::ServerNameMissing);
    denied(&harness.send(&[&hello("ok..test")]), DropReason::NameInvalid);
    denied(&harness.send(&[&hello("ok.test\0.evil.test")]), DropReason::NameInvalid);
    let twice = hello_of(&[server_name("ok.test"), signatures(), server_name("ok.test")]);
    denied(&harness.send(&[&twice]), DropReason::HelloMalformed);
    denied(&harness.send(&[&hello_with("refused.test", &[ech()])]), DropReason::EchNotAllowed);
    let passes = hello_with("ok.test", &[ech()]);
    assert_eq!(harness.send(&[&passes]).arrived, passes);
    assert_eq!(harness.gate(), Gate::Kernel as u16);
}

#[test]
fn a_name_that_is_granted_elsewhere_does_not_pass() {
    let (here, there) = (Harness::new(&["ok.test"]), Harness::new(&["other.test"]));
    denied(&here.send(&[&hello("other.test")]), DropReason::ServerNameNotGranted);
    denied(&there.send(&[&hello("ok.test")]), DropReason::ServerNameNotGranted);
}

#[test]
fn what_the_kernel_cannot_read_is_denied_and_the_next_flow_goes_through_the_proxy() {
    let harness = Harness::new(&["ok.test"]);
    let message = handshake(&[server_name("ok.test"), (13, vec![0, 2, 4, 3])]);
    let (first, second) = message.split_at(40);
    let split = [record(22, first), record(22, second)].concat();
    denied(&harness.send(&[&split]), DropReason::HelloUnreadable);
    assert_eq!(harness.gate(), Gate::Proxy as u16);
}

#[track_caller]
pub fn denied(outcome: &crate::harness::Outcome, reason: DropReason) {
    assert!(outcome.arrived.is_empty(), "leaked: {outcome:?}");
    assert_eq!(outcome.denial(), Some(reason), "{outcome:?}");
}
