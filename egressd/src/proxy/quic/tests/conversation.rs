//! What the reader makes of Initials.

use super::client::{ACK, Client, crypto, hello, hello_with};
use crate::{
    policy::Reason,
    proxy::quic::{
        connection::{Number, Standing},
        conversation::{Conversation, Heard, MAX_CONNECTIONS, MEMORY},
        packet::{Version, initials},
        stream::MAX_HELLO,
    },
};
use std::time::Duration;
use tokio::time::Instant;

const CLIENT: Client = Client::new(b"original");
const FIRST: Number = Number(0);

#[test]
fn the_initials_of_the_rfcs_name_their_server() {
    let sent = [
        include_str!("../../../../../tests/fixtures/quic/rfc9001-client-initial.hex"),
        include_str!("../../../../../tests/fixtures/quic/rfc9369-client-initial.hex"),
    ];
    for text in sent {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let datagram: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        let heard = Conversation::default().hear(&datagram, Instant::now());
        assert!(matches!(heard, Ok(Heard::Whole(FIRST, hello)) if hello.name.as_str() == "example.com"));
    }
}

#[test]
fn a_hello_is_read_in_two_pieces_cut_at_every_octet_in_either_order_in_one_datagram_or_two() {
    let hello = hello("ok.test");
    for cut in 1..hello.len() {
        let (head, tail) = (crypto(0, &hello[..cut]), crypto(cut, &hello[cut..]));
        for (one, two) in [(&head, &tail), (&tail, &head)] {
            let mut talk = Conversation::default();
            names(&mut talk, &CLIENT.says(0, &[one.clone(), two.clone()]), "ok.test");
            let mut talk = Conversation::default();
            is_part(&mut talk, &CLIENT.says(0, std::slice::from_ref(one)));
            names(&mut talk, &CLIENT.says(1, std::slice::from_ref(two)), "ok.test");
        }
    }
}

#[test]
fn a_hello_is_read_in_overlapping_pieces_among_what_else_an_initial_holds() {
    let hello = hello("ok.test");
    let frames = [
        vec![1],
        crypto(100, &hello[100..]),
        ACK.to_vec(),
        crypto(20, &hello[20..150]),
        vec![0; 7],
        crypto(0, &hello[..50]),
    ];
    names(&mut Conversation::default(), &CLIENT.says(0, &frames), "ok.test");
    let mut octets = Conversation::default();
    for at in (1..hello.len()).rev() {
        let frame = crypto(at, &hello[at..=at]);
        is_part(&mut octets, &CLIENT.says(at as u16, &[frame]));
    }
    names(&mut octets, &CLIENT.says(0, &[crypto(0, &hello[..1])]), "ok.test");
}

#[test]
fn a_hello_of_several_kilobytes_is_read_and_one_above_the_bound_is_denied() {
    let large = |length| hello_with("ok.test", &[(0xaaaa, vec![0; length])]);
    let mut talk = Conversation::default();
    let hello = large(14_000);
    let pieces: Vec<_> = hello.chunks(1100).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let datagram = CLIENT.says(at as u16, &[crypto(at * 1100, piece)]);
        match at + 1 == pieces.len() {
            true => names(&mut talk, &datagram, "ok.test"),
            false => is_part(&mut talk, &datagram),
        }
    }
    let mut talk = Conversation::default();
    let hello = large(MAX_HELLO);
    for (at, piece) in hello[..MAX_HELLO].chunks(1024).enumerate() {
        is_part(&mut talk, &CLIENT.says(at as u16, &[crypto(at * 1024, piece)]));
    }
    let last = [&[6, 0x80, 0, 0x40, 0, 1][..], &hello[MAX_HELLO..=MAX_HELLO]].concat();
    denies(&mut talk, &CLIENT.says(99, &[last]), Reason::HelloTooLarge);
    let far = CLIENT.says(0, &[[&[6, 0x80, 1, 0, 0, 1][..], b"x"].concat()]);
    denies(&mut Conversation::default(), &far, Reason::HelloTooLarge);
}

#[test]
fn the_keys_of_a_connection_outlive_the_answer_of_its_server() {
    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.hello("ok.test"), "ok.test");
    let answered = Client { to: b"server's own", ..CLIENT };
    names(&mut talk, &answered.says(1, &[ACK.to_vec()]), "ok.test");
    let nameless = Client { to: b"", ..CLIENT };
    names(&mut talk, &nameless.says(2, &[ACK.to_vec(), crypto(0, &[1, 0])]), "ok.test");
    // A server that answers in another version, and a client that goes on in that one.
    let other_version = Client { version: Version::V2, to: b"server's own", ..CLIENT };
    names(&mut talk, &other_version.says(3, &[ACK.to_vec()]), "ok.test");
}

#[test]
fn a_retry_brings_new_keys_and_the_hello_again() {
    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.hello("ok.test"), "ok.test");
    let retried = Client::new(b"chosen by retry");
    assert_eq!(whole(&mut talk, &retried.hello("evil.test")), (Number(1), "evil.test".to_owned()));
    let hello = hello("ok.test");
    is_part(&mut talk, &Client::new(b"another").says(1, &[crypto(0, &hello[..99])]));
    let rest = Client::new(b"another").says(2, &[crypto(99, &hello[99..])]);
    assert_eq!(whole(&mut talk, &rest), (Number(2), "ok.test".to_owned()));
}

#[test]
fn what_was_said_of_a_name_cannot_be_unsaid() {
    let hello = hello("ok.test");
    let evil = hello.iter().position(|octet| *octet == b'k').unwrap();
    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.says(0, &[crypto(0, &hello)]), "ok.test");
    denies(&mut talk, &CLIENT.says(1, &[crypto(evil, b"x")]), Reason::InitialMalformed);
    talk.settle(FIRST, Standing::Denied(Reason::InitialMalformed));
    let again = talk.hear(&CLIENT.says(2, &[crypto(0, &hello)]), Instant::now());
    assert_eq!(again, Ok(Heard::Denied(FIRST, Reason::InitialMalformed)));
    // The other version's keys are another way to say it, and no other connection.
    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.says(0, &[crypto(0, &hello)]), "ok.test");
    let other_version = Client { version: Version::V2, ..CLIENT };
    denies(&mut talk, &other_version.says(1, &[crypto(evil, b"x")]), Reason::InitialMalformed);
}

#[test]
fn a_second_hello_must_be_whole_and_name_the_same_server_and_there_is_no_third() {
    let (first, second) = (hello("ok.test"), hello("ok.test"));
    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.says(0, &[crypto(0, &first)]), "ok.test");
    is_part(&mut talk, &CLIENT.says(1, &[crypto(first.len() + 50, &second[50..])]));
    is_part(&mut talk, &CLIENT.says(2, &[ACK.to_vec()]));
    names(&mut talk, &CLIENT.says(3, &[crypto(first.len(), &second[..50])]), "ok.test");
    let third = CLIENT.says(4, &[crypto(first.len() + second.len(), &first)]);
    denies(&mut talk, &third, Reason::InitialMalformed);

    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.says(0, &[crypto(0, &first)]), "ok.test");
    let other = CLIENT.says(1, &[crypto(first.len(), &hello("evil.test"))]);
    denies(&mut talk, &other, Reason::ServerNameChanged);

    let mut talk = Conversation::default();
    names(&mut talk, &CLIENT.says(0, &[crypto(0, &first)]), "ok.test");
    let hidden = CLIENT.says(1, &[crypto(first.len(), &hello_with("ok.test", &[(0xfe0d, vec![0; 40])]))]);
    denies(&mut talk, &hidden, Reason::EchNotAllowed);
}

#[test]
fn connections_of_one_flow_are_told_apart_and_bounded() {
    let mut talk = Conversation::default();
    let ids: [&'static [u8]; 17] = [
        b"a0", b"a1", b"a2", b"a3", b"a4", b"a5", b"a6", b"a7", b"a8", b"a9", b"b0", b"b1", b"b2", b"b3",
        b"b4", b"b5", b"b6",
    ];
    let start = Instant::now();
    for (at, id) in ids[..MAX_CONNECTIONS].iter().enumerate() {
        let heard = talk.hear(&Client::new(id).hello("ok.test"), start);
        assert!(matches!(heard, Ok(Heard::Whole(number, _)) if number == Number(at as u64)));
    }
    let one_more = Client::new(ids[MAX_CONNECTIONS]).hello("ok.test");
    denies(&mut talk, &one_more, Reason::QuotaExceeded);
    let later = talk.hear(&one_more, start + MEMORY + Duration::from_secs(1));
    assert!(matches!(later, Ok(Heard::Whole(Number(16), _))));
}

#[test]
fn an_initial_that_no_client_sends_is_malformed() {
    let hello = hello("ok.test");
    let denied: [Vec<u8>; 6] = [
        CLIENT.says(0, &[crypto(0, &hello), vec![8, 1]]),
        CLIENT.says(0, &[vec![0x1d, 0, 0]]),
        CLIENT.says_exactly(0, &crypto(0, &hello)),
        Client { to: b"not theirs", ..CLIENT }.hello("ok.test"),
        broken(CLIENT.hello("ok.test")),
        [CLIENT.hello("ok.test"), Client::new(b"another").hello("evil.test")].concat(),
    ];
    for (at, datagram) in denied.iter().enumerate() {
        if at == 2 {
            assert!(datagram.len() < 1200);
        }
        denies(&mut Conversation::default(), datagram, Reason::InitialMalformed);
    }
    let no_hello = CLIENT.says(0, &[crypto(0, &[2, 0, 0, 1, 0])]);
    denies(&mut Conversation::default(), &no_hello, Reason::HelloMalformed);
}

#[test]
fn a_second_initial_in_a_datagram_is_read_like_the_first() {
    let mut both = CLIENT.hello("ok.test");
    both.extend(CLIENT.says(1, &[crypto(400, b"nothing like it")]));
    is_part(&mut Conversation::default(), &both);
    let mut both = CLIENT.hello("ok.test");
    both.extend(CLIENT.says(1, &[crypto(10, b"contradiction")]));
    denies(&mut Conversation::default(), &both, Reason::InitialMalformed);
}

#[test]
fn a_hello_that_does_not_become_whole_is_overdue_after_five_seconds_in_all() {
    let mut talk = Conversation::default();
    let (start, hello) = (Instant::now(), hello("ok.test"));
    let after = |seconds| start + Duration::from_millis(seconds * 1000);
    for second in 0..5_usize {
        let datagram = CLIENT.says(second as u16, &[crypto(second, &hello[second..=second])]);
        assert_eq!(talk.hear(&datagram, after(second as u64)), Ok(Heard::Part(FIRST)));
        assert!(talk.overdue(after(second as u64)).is_none());
    }
    let (number, hail) = talk.overdue(after(5)).unwrap();
    assert_eq!((number, hail.to), (FIRST, &b"original"[..]));
    talk.settle(FIRST, Standing::Denied(Reason::HelloTimeout));
    assert!(talk.overdue(after(6)).is_none());
}

fn names(talk: &mut Conversation, datagram: &[u8], name: &str) {
    assert_eq!(whole(talk, datagram), (FIRST, name.to_owned()));
}

fn whole(talk: &mut Conversation, datagram: &[u8]) -> (Number, String) {
    match talk.hear(datagram, Instant::now()) {
        Ok(Heard::Whole(number, hello)) => (number, hello.name.to_string()),
        other => panic!("{other:?}"),
    }
}

fn is_part(talk: &mut Conversation, datagram: &[u8]) {
    let heard = talk.hear(datagram, Instant::now());
    assert!(matches!(heard, Ok(Heard::Part(_))), "{heard:?}");
}

fn denies(talk: &mut Conversation, datagram: &[u8], reason: Reason) {
    let heard = talk.hear(datagram, Instant::now());
    assert_eq!(heard.map_err(|misheard| misheard.misread.reason), Err(reason));
}

fn broken(mut datagram: Vec<u8>) -> Vec<u8> {
    let last = datagram.len() - 1;
    datagram[last] ^= 1;
    assert_eq!(initials(&datagram).unwrap().len(), 1);
    datagram
}
