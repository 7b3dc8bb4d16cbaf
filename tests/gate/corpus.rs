//! The whole corpus of hellos, and variants of it, through real sockets: the programs come to the verdict
//! that their parser comes to in user space, and of what they deny no octet arrives.

use crate::{
    cases::{
        Case, Verdict, all,
        mutate::{Random, mutate},
    },
    harness::{Harness, Outcome, SERVER_HELLO},
};
use egress_common::{
    DropReason,
    hello::{Unread, read_slice},
};
use std::{io::Write, net::Shutdown};

#[test]
fn every_hello_of_the_corpus_meets_its_verdict_in_the_loaded_programs() {
    for cases in all().chunks(60) {
        let harness = Harness::new(&["ok.test"]);
        for Case { title, bytes, kernel, .. } in cases {
            let outcome = meets(&harness, title, &[bytes], kernel);
            // Shorter ones have no room for it; longer ones are no handshake's.
            let is_tls =
                *kernel != Verdict::Denied("not-tls".to_owned()) && (8..20_000).contains(&bytes.len());
            if is_tls && matches!(kernel, Verdict::Denied(_)) {
                assert!(outcome.is_alerted(), "{title}: {outcome:?}");
            }
        }
    }
}

#[test]
fn the_pieces_in_which_a_hello_is_sent_do_not_matter_to_the_programs() {
    let short: Vec<Case> = all().into_iter().filter(|case| (2..400).contains(&case.bytes.len())).collect();
    for cases in short.chunks(20) {
        let harness = Harness::new(&["ok.test"]);
        for Case { title, bytes, kernel, .. } in cases {
            let octets: Vec<&[u8]> = bytes.chunks(1).collect();
            meets(&harness, &format!("{title}: in single octets"), &octets, kernel);
            for at in [4, 5, 44, bytes.len() - 1] {
                if let Some((first, second)) = bytes.split_at_checked(at) {
                    meets(&harness, &format!("{title}: split at {at}"), &[first, second], kernel);
                }
            }
        }
    }
}

#[test]
fn hellos_changed_at_random_meet_in_the_programs_the_verdict_of_user_space() {
    let seeds = all();
    let mut random = Random::new(3);
    for chunk in 0..VARIANTS / 100 {
        let harness = Harness::new(&[]);
        for round in 0..100 {
            let bytes = mutate(&seeds[random.below(seeds.len())].bytes, &mut random);
            meets(&harness, &format!("variant {chunk}.{round}"), &[&bytes], &in_user_space(&bytes));
        }
    }
}

/// Sends `pieces` to a server that is granted the name that is expected, if one is.
fn meets(harness: &Harness, title: &str, pieces: &[&[u8]], expected: &Verdict) -> Outcome {
    let (address, port) = (harness.server.address.ip(), harness.server.address.port());
    let sent = pieces.concat();
    match expected {
        Verdict::Named(name) => {
            harness.world.grant(name, address, port);
            let hello = 5 + usize::from(u16::from_be_bytes([sent[3], sent[4]]));
            let outcome = harness.converse(vec![(hello, SERVER_HELLO.to_vec())], pieces);
            assert!(
                outcome.arrived.len() >= hello && sent.starts_with(&outcome.arrived),
                "{title}: {outcome:?}"
            );
            assert_eq!(outcome.denial(), None, "{title}");
            outcome
        }
        Verdict::Denied(reason) => {
            // What cannot be read would send the next flow to the proxy.
            harness.world.grant("ok.test", address, port);
            let outcome = harness.converse(Vec::new(), pieces);
            let denial = outcome.denial().map(name_of);
            assert_eq!(denial, Some(reason.as_str()), "{title}: {outcome:?}");
            assert_eq!(outcome.arrived, b"", "{title}");
            outcome
        }
        Verdict::Waits => {
            harness.world.grant("ok.test", address, port);
            let outcome = give_up(harness, pieces);
            assert_eq!((outcome.denial(), &outcome.arrived[..]), (None, &b""[..]), "{title}");
            outcome
        }
    }
}

/// Sends `pieces`, and ends: else nobody would know when to stop waiting.
fn give_up(harness: &Harness, pieces: &[&[u8]]) -> Outcome {
    harness.server.answers(Vec::new());
    let mut stream = harness.connect();
    for piece in pieces {
        stream.write_all(piece).expect("is held");
    }
    stream.shutdown(Shutdown::Write).expect("ended");
    harness.finish(stream, None)
}

/// What the parser of the programs makes of `bytes` here.
fn in_user_space(bytes: &[u8]) -> Verdict {
    let denied = |reason: &str| Verdict::Denied(reason.to_owned());
    match read_slice(bytes) {
        Ok((_, name, folded)) if folded.is_valid => {
            let name = &name[..folded.length as usize];
            Verdict::Named(String::from_utf8(name.to_vec()).expect("a valid name is ASCII"))
        }
        Ok(_) | Err(Unread::NotOneName) => denied("name-invalid"),
        Err(Unread::More(_)) => Verdict::Waits,
        Err(Unread::NotTls) => denied("not-tls"),
        Err(Unread::Malformed) => denied("hello-malformed"),
        Err(Unread::Unreadable) => denied("hello-unreadable"),
        Err(Unread::Nameless) => denied("server-name-missing"),
        Err(Unread::Cut) => panic!("a hello that is whole is not cut: {bytes:02x?}"),
    }
}

/// As records have it.
fn name_of(reason: DropReason) -> &'static str {
    let found = NAMES.iter().find(|(known, _)| *known == reason);
    found.map_or("none that a hello alone has", |(_, name)| name)
}

const NAMES: [(DropReason, &str); 7] = [
    (DropReason::NotTls, "not-tls"),
    (DropReason::HelloMalformed, "hello-malformed"),
    (DropReason::HelloUnreadable, "hello-unreadable"),
    (DropReason::ServerNameMissing, "server-name-missing"),
    (DropReason::NameInvalid, "name-invalid"),
    (DropReason::ServerNameNotGranted, "server-name-not-granted"),
    (DropReason::HelloSkipped, "hello-skipped"),
];

/// Each takes a connection; most of what changes do is the parser's business, which is tried with millions.
const VARIANTS: usize = 500;
