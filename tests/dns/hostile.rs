//! Messages made to break a reader: each has one outcome, and leaves nothing behind.

use crate::{
    granted::code,
    kernel::OneProcess,
    lab::{Lab, addresses, allow, public, read_frame, write_frame},
    upstream::{Say, Upstream},
};
use egressd::{
    dns::Asker,
    policy::{Moment, Reason, Transport},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use std::sync::Arc;

#[tokio::test]
async fn a_name_that_loops_or_runs_over_is_a_format_error_over_either_transport() {
    let mut lab = lab().await;
    let long = [&[63; 64][..], &[63; 64], &[63; 64], &[63; 64], &[0]].concat();
    let names: [&[u8]; 13] = [
        // Pointers (RFC 1035, section 4.1.4): to itself, on, back into the header, and in a circle.
        &[0xc0, 12],
        &[0xc0, 14, 0],
        &[0xc0, 0],
        &[0xc0, 14, 0xc0, 12],
        &[0xff, 0xff],
        b"\x02ok\xc0\x0c",
        b"\x02ok\x04test\xc0\x0c",
        // Label types that are reserved (RFC 6891, section 5), and one of the past (RFC 2673).
        &[0x40, 1, 0],
        &[0x80, 1, 0],
        &[0x41, 0x20, 0xff, 0],
        // Labels beyond the end, and beyond 255 octets.
        &[63, b'a'],
        b"\x02ok\x05test",
        &long,
    ];
    let mut stream = lab.tcp().await;
    for name in names {
        let message = [&HEADER[..], name, &[0, 1, 0, 1]].concat();
        let reply = lab.udp(&message).await;
        assert_eq!((&reply[..2], code(&reply)), (&HEADER[..2], ResponseCode::FormErr), "{name:?}");
        assert_eq!(reply.len(), 12, "what cannot be read is not repeated: {name:?}");
        assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed), "{name:?}");
        write_frame(&mut stream, &message).await;
        assert_eq!(read_frame(&mut stream).await.response_code, ResponseCode::FormErr, "{name:?}");
        assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed), "{name:?}");
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn edns_is_answered_as_rfc_6891_says_or_is_a_format_error() {
    let mut lab = lab().await;
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let fine: [(&str, Vec<u8>); 7] = [
        ("no options", opt(1232, 0, &[])),
        ("a payload of less than 512 octets, which stands for 512", opt(0, 0, &[])),
        ("the most", opt(65_535, 0, &[])),
        ("a cookie (RFC 7873)", opt(1232, 0, &cookie)),
        (
            "a cookie of a length that is none, for nobody here bakes any",
            opt(1232, 0, &[0, 10, 0, 3, 1, 2, 3]),
        ),
        ("an option that nobody knows, twice", opt(1232, 0, &[255, 254, 0, 1, 9, 255, 254, 0, 1, 9])),
        ("an empty option", opt(1232, 0, &[0, 15, 0, 0])),
    ];
    for (what, record) in fine {
        let reply = lab.udp(&with_additional(&[&record])).await;
        assert_eq!(code(&reply), ResponseCode::NoError, "{what}");
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(addresses(&reply), [public(1)], "{what}");
        assert!(reply.edns.is_some_and(|edns| edns.options().as_ref().is_empty()), "{what} is not repeated");
        lab.event().await;
    }
    let bad: [(&str, Vec<u8>); 6] = [
        ("options that end within a header", with_additional(&[&opt(1232, 0, &[0, 10, 0])])),
        ("an option that is longer than the options", with_additional(&[&opt(1232, 0, &[0, 10, 0, 9, 1])])),
        (
            "options that are longer than the message",
            with_additional(&[&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 9]]),
        ),
        ("a name", with_additional(&[&[&[1, b'a'][..], &opt(1232, 0, &[])].concat()])),
        ("two records", with_additional(&[&opt(1232, 0, &[]), &opt(1232, 0, &[])])),
        ("a signature (RFC 8945) in its place", with_additional(&[&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]])),
    ];
    for (what, message) in bad {
        assert_eq!(code(&lab.udp(&message).await), ResponseCode::FormErr, "{what}");
        assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed), "{what}");
    }
    // The extended code is the OPT record's, and so is the version that is spoken here.
    let reply = lab.udp(&with_additional(&[&opt(1232, 1, &[])])).await;
    let reply = Message::from_vec(&reply).unwrap();
    // BADVERS, which shares its number with BADSIG.
    assert_eq!(u16::from(reply.response_code), 16);
    assert!(reply.answers.is_empty() && reply.edns.is_some_and(|edns| edns.version() == 0));
}

#[tokio::test]
async fn a_long_query_is_answered_and_one_beyond_its_bound_is_a_format_error() {
    let mut lab = lab().await;
    let plain = with_additional(&[&opt(1232, 0, &[])]).len();
    // Padding (RFC 7830), up to the most that is read of a datagram and beyond.
    for length in [513, 1233, 4096, 4097, 16_384, 65_000] {
        let padding = length - plain - 4;
        let option =
            [&[0, 12][..], &u16::try_from(padding).unwrap().to_be_bytes(), &vec![0; padding]].concat();
        let reply = lab.udp(&with_additional(&[&opt(1232, 0, &option)])).await;
        assert!(reply.len() < 200, "what pads a query does not pad its answer");
        let expected = if length <= 4096 { ResponseCode::NoError } else { ResponseCode::FormErr };
        assert_eq!(code(&reply), expected, "{length}");
        lab.event().await;
    }
}

#[tokio::test]
async fn of_two_questions_neither_is_answered() {
    let mut lab = lab().await;
    let one = question_section();
    for second in [&one[..], b"\x04evil\x04test\0\0\x01\0\x01", &[0xc0, 12, 0, 28, 0, 1]] {
        let message = [&[7, 7, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0], &one[..], second].concat();
        let reply = lab.udp(&message).await;
        assert_eq!((code(&reply), reply.len()), (ResponseCode::FormErr, 12));
        assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed));
    }
}

#[tokio::test]
async fn what_is_told_from_memory_is_octet_for_octet_what_the_gate_says() {
    let upstream = Upstream::start(|_, kind| {
        if kind == RecordType::A { Say::Addresses((1..=40).map(public).collect()) } else { Say::NoData }
    });
    let still = || Moment(1_000_000_000_000);
    let lab = Lab::with(allow(&["ok.test"]), upstream.await, crate::kernel::Kernel::willing(), still).await;
    let asker = Asker {
        agent: lab.agent.clone(),
        transport: Transport::Udp,
        peer: ([127, 0, 0, 1], 9).into(),
        origins: Arc::new(OneProcess),
    };
    let mut messages = Vec::new();
    for plain in [
        with_additional(&[]),
        with_additional(&[&opt(600, 0, &[])]),
        with_additional(&[&opt(4096, 0, &[0, 10, 0, 0])]),
    ] {
        for at in 0..plain.len() {
            for octet in [0, 1, 2, 28, 41, 64, 65, 0x80, 0xc0, 0xff, plain[at] ^ 0x20, plain[at] ^ 1] {
                messages.push([&plain[..at], &[octet], &plain[at + 1..]].concat());
            }
            messages.push(plain[..at].to_vec());
            messages.push([&plain[..], &plain[..at]].concat());
        }
        messages.push(plain);
    }
    // So that they are told from memory, if at all.
    for kind in [RecordType::A, RecordType::AAAA] {
        lab.ask("ok.test", kind).await;
    }
    let mut told = 0;
    for message in messages {
        let Some(said) = lab.gate.reply(&asker, &message).await else { continue };
        assert_eq!(lab.udp(&message).await, said, "{message:?}");
        told += usize::from(code(&said) == ResponseCode::NoError);
    }
    assert!(told > 200, "{told} answers prove little");
}

#[tokio::test]
async fn noise_asks_nobody_and_earns_nothing() {
    let lab = lab().await;
    lab.ask("ok.test", RecordType::A).await;
    let socket = lab.socket().await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_be_bytes()
    };
    for number in 0..5000 {
        let noise: Vec<u8> = (0..next()[0] % 20).flat_map(|_| next()).collect();
        let message = match number % 3 {
            0 => noise,
            // With a header that is in order, so that more of it is read.
            1 => [&HEADER[..], &noise].concat(),
            _ => [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1], &question_section()[..], &noise].concat(),
        };
        socket.send(&message).await.unwrap();
        if number % 100 == 0 {
            assert_eq!(addresses(&lab.ask("ok.test", RecordType::A).await), [public(1)]);
        }
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
    assert_eq!(lab.granted(), [public(1)]);
}

async fn lab() -> Lab {
    let upstream = Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await;
    Lab::start(allow(&["ok.test"]), upstream).await
}

/// Of a message with one question and nothing else.
const HEADER: [u8; 12] = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

fn question_section() -> Vec<u8> {
    b"\x02ok\x04test\0\0\x01\0\x01".to_vec()
}

/// A question for the address of `ok.test`, with these records behind it.
fn with_additional(records: &[&[u8]]) -> Vec<u8> {
    let mut header = HEADER;
    header[11] = u8::try_from(records.len()).unwrap();
    [&header[..], &question_section(), &records.concat()].concat()
}

/// An OPT record (RFC 6891, section 6.1.2).
fn opt(payload: u16, version: u8, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).unwrap().to_be_bytes();
    [&[0, 0, 41][..], &payload.to_be_bytes(), &[0, version, 0, 0], &length, options].concat()
}
