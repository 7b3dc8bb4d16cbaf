//! What is told again is what would be told anew.

use super::{
    Basis, Hot, Kept,
    plain::{Key, Plain},
};
use crate::{
    audit::{Event, Gate, Recorder, Spoken},
    dns::{
        answer::{Answer, MAX_UDP},
        query::{QueryError, parse},
    },
    policy::{AgentName, Denial, Moment, Reason, Transport},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{net::IpAddr, time::Duration};
use tokio::sync::mpsc::Receiver;

proptest! {
    #[test]
    fn what_is_told_again_is_octet_for_octet_what_would_be_told_anew(
        first in query(), flags: u16, id: u16, edns in option::of(edns()), upper: u64,
        answer in answer(), ttl in 1u64..=300, passed in 0u64..=300_000,
    ) {
        let passed = Duration::from_millis(passed % (ttl * 1000));
        let (mut shop, _events) = Shop::open();
        shop.keep(&first, with_ttl(answer.clone(), Duration::from_secs(ttl)));
        let again = message(&spell(&first, upper), id, flags & !0xfa00, edns.as_deref());
        let rest = Duration::from_secs(ttl) - passed;
        let rest = Duration::from_secs(rest.as_secs() + u64::from(rest.subsec_nanos() > 0));
        let anew = with_ttl(answer, rest).write(&parse(&again).unwrap().echo, Transport::Udp);
        prop_assert_eq!(shop.ask(&again, START.after(passed)), Some(anew));
    }

    #[test]
    fn what_the_plain_reader_reads_every_reader_reads_alike(
        question in query(), id: u16, flags: u16, edns in option::of(edns()), damage in vec((0usize..300, any::<u8>()), 0..4),
        length in 0usize..300,
    ) {
        let mut message = message(&question, id, flags & !0xfa00, edns.as_deref());
        prop_assert!(Plain::read(&message).is_some());
        for (at, octet) in damage {
            if let Some(damaged) = message.get_mut(at) {
                *damaged = octet;
            }
        }
        if length < message.len() / 8 {
            message.truncate(message.len() - length);
        }
        reads_alike(&message)?;
    }

    #[test]
    fn no_message_makes_the_plain_reader_panic(bytes: Vec<u8>, tail in vec(0u8..70, 0..300)) {
        reads_alike(&bytes)?;
        reads_alike(&[&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1][..], &tail].concat())?;
    }
}

#[test]
fn an_answer_that_was_kept_ends_with_its_time() {
    let (mut shop, _events) = Shop::open();
    shop.keep(QUESTION, addresses(1));
    let query = message(QUESTION, 7, 0x0100, None);
    assert!(shop.ask(&query, START.after(MINUTE - Duration::from_nanos(1))).is_some());
    assert_eq!(shop.ask(&query, START.after(MINUTE)), None);
}

#[test]
fn an_answer_that_was_kept_ends_with_the_policy_that_it_was_judged_by() {
    let (mut shop, _events) = Shop::open();
    shop.keep(QUESTION, addresses(1));
    let query = message(QUESTION, 7, 0x0100, None);
    assert!(shop.ask(&query, START).is_some());
    shop.generation += 1;
    assert_eq!(shop.ask(&query, START), None);
}

#[test]
fn another_type_class_or_form_is_not_told_what_was_kept() {
    let (mut shop, _events) = Shop::open();
    shop.keep(QUESTION, addresses(1));
    let plain = message(QUESTION, 7, 0x0100, None);
    assert!(shop.ask(&plain, START).is_some());
    let name = QUESTION.len() - 4;
    for (at, octet) in [(name + 1, 28), (name + 3, 3), (name + 3, 255)] {
        let mut other = QUESTION.to_vec();
        other[at] = octet;
        assert_eq!(shop.ask(&message(&other, 7, 0x0100, None), START), None);
    }
    for flags in [0x8100, 0x0900, 0x0300] {
        assert_eq!(shop.ask(&message(QUESTION, 7, flags, None), START), None, "{flags:x}");
    }
    assert_eq!(shop.ask(&[&plain[..], &[0]].concat(), START), None);
}

#[test]
fn errors_are_not_kept() {
    let (mut shop, _events) = Shop::open();
    let refusal = crate::dns::report::Refusal::because(Reason::UpstreamFailed, None);
    shop.keep(QUESTION, refusal.answer(None));
    assert_eq!(shop.ask(&message(QUESTION, 7, 0x0100, None), START), None);
}

#[test]
fn what_is_told_again_is_counted_to_the_last_time() {
    let (mut shop, mut events) = Shop::open();
    shop.keep(QUESTION, addresses(1));
    let query = message(QUESTION, 7, 0x0100, None);
    for _ in 0..5 {
        shop.ask(&query, START);
    }
    shop.hot.record();
    assert_eq!(events.try_recv().unwrap().count, 5);
    shop.ask(&query, START);
    // Whatever ends it, what it was told is recorded.
    shop.keep(QUESTION, addresses(2));
    assert_eq!(events.try_recv().unwrap().count, 1);
    shop.ask(&query, START);
    drop(shop);
    assert_eq!(events.try_recv().unwrap().count, 1);
    assert!(events.try_recv().is_err());
}

#[test]
fn what_is_kept_for_one_agent_has_a_bound() {
    let (mut shop, _events) = Shop::open();
    let question = |number: usize| {
        let label = format!("n{number:06}");
        [&[7], label.as_bytes(), &[4], b"test", &[0, 0, 28, 0, 1]].concat()
    };
    for number in 0..super::MAX_ANSWERS + 50 {
        shop.keep(&question(number), addresses(1));
    }
    assert_eq!(shop.kept(), super::MAX_ANSWERS);
    for number in 0..super::MAX_ANSWERS {
        shop.keep(&question(number), addresses(64));
    }
    assert!(shop.octets() <= super::MAX_OCTETS && shop.kept() > 200, "{}", shop.kept());
    // The last one is there.
    let last = message(&question(super::MAX_ANSWERS - 1), 7, 0x0100, None);
    assert!(shop.ask(&last, START).is_some());
}

/// Whatever the plain reader reads, the other one reads, too, and alike; but for names that are no host
/// names, which are never kept.
fn reads_alike(message: &[u8]) -> Result<(), TestCaseError> {
    let Some(plain) = Plain::read(message) else { return Ok(()) };
    let (echo, name) = match parse(message) {
        Ok(question) => (question.echo, Some(question.name)),
        Err(bad) => {
            prop_assert!(matches!(bad.error, QueryError::Name { .. }), "{:?}", bad.error);
            (bad.echo.unwrap(), None)
        }
    };
    prop_assert_eq!(u16::from_be_bytes(plain.id), echo.id);
    prop_assert_eq!((plain.flags, plain.question, plain.edns), (echo.flags, &echo.question[..], echo.edns));
    if let Some(name) = name {
        let key = Key::of(plain.question);
        let labels: Vec<_> = name.labels().map(str::as_bytes).collect();
        let wire: Vec<u8> =
            labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat()).collect();
        prop_assert_eq!(&key.as_octets()[..wire.len()], &wire[..]);
    }
    Ok(())
}

/// The answers of one agent, and the moment of asking.
struct Shop {
    hot: Hot,
    generation: u64,
}

impl Shop {
    fn open() -> (Self, Receiver<Event>) {
        let (recorder, events) = Recorder::new(64);
        (Self { hot: Hot::new(1, &recorder, || START), generation: 3 }, events)
    }

    fn keep(&mut self, question: &[u8], answer: Answer) {
        let agent = AgentName::parse("build").unwrap();
        let event = Event::denied(&agent, Gate::Name, Spoken::Dns, &Denial::because(Reason::HostNotAllowed));
        let basis = Basis { generation: self.generation, moment: START };
        self.hot.keep(Kept { question: question.to_vec(), answer, basis, event });
    }

    fn ask(&mut self, message: &[u8], now: Moment) -> Option<Vec<u8>> {
        let mut out = vec![0; usize::from(MAX_UDP)];
        let length = self.hot.shard(0).unwrap().answer(message, self.generation, now, &mut out)?;
        out.truncate(length);
        Some(out)
    }

    fn kept(&self) -> usize {
        self.hot.shard(0).unwrap().answers.len()
    }

    fn octets(&self) -> usize {
        let shard = self.hot.shard(0).unwrap();
        let sum = shard.answers.values().map(|held| held.encoded.size()).sum();
        assert_eq!(shard.octets, sum);
        sum
    }
}

const START: Moment = Moment(1_000_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const QUESTION: &[u8] = b"\x02ok\x04test\0\0\x01\0\x01";

fn addresses(count: u8) -> Answer {
    Answer::Addresses {
        addresses: (0..count).map(|last| IpAddr::from([9, 9, 9, last])).collect(),
        ttl: MINUTE,
    }
}

fn with_ttl(mut answer: Answer, rest: Duration) -> Answer {
    match &mut answer {
        Answer::Addresses { ttl, .. } | Answer::NoData { ttl } | Answer::NoName { ttl } => *ttl = rest,
        Answer::Records { .. } | Answer::Error { .. } => {}
    }
    answer
}

/// A question section of a host name.
fn query() -> impl Strategy<Value = Vec<u8>> {
    let label = "[a-z_][a-z0-9_]{0,30}";
    (vec(label, 1..8), select(vec![1u8, 28])).prop_map(|(labels, kind)| {
        let name = labels.iter().flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat());
        name.chain([0, 0, kind, 0, 1]).collect()
    })
}

/// An OPT record, with options.
fn edns() -> impl Strategy<Value = Vec<u8>> {
    let options = vec((any::<u16>(), vec(any::<u8>(), 0..20)), 0..3);
    (any::<u16>(), any::<[u8; 3]>(), options).prop_map(|(payload, [extended, high, low], options)| {
        let option = |(code, data): (u16, Vec<u8>)| {
            [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), &data].concat()
        };
        let options: Vec<u8> = options.into_iter().flat_map(option).collect();
        let length = (options.len() as u16).to_be_bytes();
        [&[0, 0, 41][..], &payload.to_be_bytes(), &[extended, 0, high, low], &length, &options].concat()
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let ttl = MINUTE;
    let v4 = vec(any::<[u8; 4]>().prop_map(IpAddr::from), 0..80);
    let v6 = vec(any::<[u8; 16]>().prop_map(IpAddr::from), 0..80);
    prop_oneof![
        v4.prop_map(move |addresses| Answer::Addresses { addresses, ttl }),
        v6.prop_map(move |addresses| Answer::Addresses { addresses, ttl }),
        Just(Answer::NoData { ttl }),
        Just(Answer::NoName { ttl }),
    ]
}

/// The same name in other letters.
fn spell(question: &[u8], upper: u64) -> Vec<u8> {
    let name = question.len() - 4;
    let letter = |(index, octet): (usize, &u8)| match index < name && upper >> (index % 64) & 1 == 1 {
        true => octet.to_ascii_uppercase(),
        false => *octet,
    };
    question.iter().enumerate().map(letter).collect()
}

fn message(question: &[u8], id: u16, flags: u16, edns: Option<&[u8]>) -> Vec<u8> {
    let header = [id, flags, 1, 0, 0, u16::from(edns.is_some())].map(u16::to_be_bytes).concat();
    [&header, question, edns.unwrap_or_default()].concat()
}
