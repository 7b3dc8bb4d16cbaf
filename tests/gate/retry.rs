//! A server that asks for a second hello gets one for the same name, and nothing else.

use crate::{
    harness::{Harness, Outcome, SERVER_HELLO},
    hellos::{handshake, hello, hello_with, record, retry, server_name},
};
use egress_common::{DropReason, Gate};
use socket2::SockRef;
use std::{
    io::{Seek, SeekFrom, Write},
    os::fd::AsRawFd,
};

const CHANGE_CIPHER_SPEC: &[u8] = &[20, 3, 3, 0, 1, 1];

#[test]
fn a_second_hello_for_the_same_name_passes_however_it_is_cut() {
    let harness = Harness::new(&["ok.test"]);
    let second = [CHANGE_CIPHER_SPEC, &hello("ok.test")].concat();
    for size in [1, 6, 7, 50, second.len()] {
        let pieces: Vec<&[u8]> = second.chunks(size).collect();
        let (first, outcome) = retried(&harness, &retry(), &pieces);
        assert_eq!(outcome.arrived, [&first[..], &second].concat(), "pieces of {size}: {outcome:?}");
    }
    let bare = hello("ok.test");
    let (first, outcome) = retried(&harness, &retry(), &[&bare]);
    assert_eq!(outcome.arrived, [first, bare].concat());
    assert_eq!(harness.gate(), Gate::Kernel as u16);
}

#[test]
fn a_second_hello_for_another_name_does_not_leave() {
    let harness = Harness::new(&["ok.test", "other.test"]);
    for second in [hello("other.test"), [CHANGE_CIPHER_SPEC, &hello("evil.test")].concat()] {
        let (first, outcome) = retried(&harness, &retry(), &[&second]);
        assert_eq!(outcome.arrived, first, "{outcome:?}");
        assert_eq!(outcome.denial(), Some(DropReason::ServerNameChanged), "{outcome:?}");
        let denied = outcome.events.iter().find(|event| event.reason.is_some()).expect("reported");
        assert!(["other.test", "evil.test"].contains(&&*denied.name), "it names the second: {outcome:?}");
    }
    assert_eq!(harness.gate(), Gate::Kernel as u16);
}

#[test]
fn what_is_no_second_hello_does_not_leave() {
    let message = handshake(&[server_name("ok.test"), (13, vec![0, 2, 4, 3])]);
    let (one, two) = message.split_at(40);
    let cases = [
        b"anything".to_vec(),
        record(23, b"early data"),
        [CHANGE_CIPHER_SPEC, CHANGE_CIPHER_SPEC, &hello("ok.test")].concat(),
        [&hello("ok.test")[..], b"and more"].concat(),
        [record(22, one), record(22, two)].concat(),
    ];
    for second in cases {
        let harness = Harness::new(&["ok.test"]);
        let (first, outcome) = retried(&harness, &retry(), &[&second]);
        assert_eq!(outcome.arrived, first, "{second:?}: {outcome:?}");
        assert!(outcome.denial().is_some(), "{second:?}: {outcome:?}");
        assert_eq!(harness.gate(), Gate::Proxy as u16, "{second:?}");
    }
}

#[test]
fn a_retry_behind_a_warning_is_heard() {
    let harness = Harness::new(&["ok.test"]);
    let answer = [&[21, 3, 3, 0, 2, 1, 112][..], &retry()].concat();
    let (first, outcome) = retried(&harness, &answer, &[&hello("evil.test")]);
    assert_eq!(outcome.arrived, first);
    assert_eq!(outcome.denial(), Some(DropReason::ServerNameChanged));
}

#[test]
fn an_answer_that_does_not_tell_is_the_end_and_the_next_flow_goes_through_the_proxy() {
    for answer in [record(22, &[2, 0, 0, 40]), vec![22], vec![21, 3, 3, 0, 2, 1, 112]] {
        let harness = Harness::new(&["ok.test"]);
        let (first, outcome) = retried(&harness, &answer, &[b"anything"]);
        assert_eq!(outcome.arrived, first, "{answer:?}");
        assert_eq!(outcome.denial(), Some(DropReason::HelloUnreadable));
        assert_eq!(harness.gate(), Gate::Proxy as u16);
    }
}

#[test]
fn a_second_hello_in_memory_that_its_sender_can_change_does_not_leave() {
    let harness = Harness::new(&["ok.test"]);
    let first = hello("ok.test");
    harness.server.answers(vec![(first.len(), retry())]);
    let mut stream = harness.connect();
    stream.write_all(&first).expect("sent");
    Harness::hear(&mut stream);
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(&first).expect("written");
    file.seek(SeekFrom::Start(0)).expect("rewound");
    // SAFETY: both descriptors are open, and no offset is given.
    unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), first.len()) };
    let outcome = harness.finish(stream, None);
    assert_eq!(outcome.arrived, first, "{outcome:?}");
    assert_eq!(outcome.denial(), Some(DropReason::HelloSkipped));
    assert_eq!(harness.gate(), Gate::Proxy as u16);
}

#[test]
fn a_hello_with_encrypted_client_hello_only_in_the_second_is_denied() {
    let harness = Harness::new(&["ok.test"]);
    let second = hello_with("ok.test", &[(0xfe0d, vec![0; 40])]);
    let (first, outcome) = retried(&harness, &retry(), &[&second]);
    assert_eq!(outcome.arrived, first);
    assert_eq!(outcome.denial(), Some(DropReason::EchNotAllowed));
}

/// Says hello, hears `answer`, and sends `pieces`; returns the first hello, and what came of it.
fn retried(harness: &Harness, answer: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, Outcome) {
    let first = hello("ok.test");
    let total = first.len() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    harness.server.answers(vec![(first.len(), answer.to_vec()), (total, SERVER_HELLO.to_vec())]);
    let mut stream = harness.connect();
    SockRef::from(&stream).set_tcp_nodelay(true).expect("no delay");
    stream.write_all(&first).expect("sent");
    Harness::hear(&mut stream);
    let mut error = None;
    for piece in pieces {
        if let Err(failure) = stream.write_all(piece) {
            error.get_or_insert(failure.kind());
        }
    }
    let outcome = harness.finish(stream, error);
    (first, outcome)
}
