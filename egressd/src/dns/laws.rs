//! What holds for all messages, not only for those that somebody thought of.

use super::{
    answer::{Answer, MAX_UDP},
    chain::{Chain, Found, FoundRecords, MAX_LINKS, MAX_OTHER_OCTETS, MAX_OTHER_RECORDS, MAX_RECORDS, Step},
    hot::{Basis, Hot, Kept},
    query::{self, Echo, Edns, Family, HEADER, Kind, Question},
    report::unreadable,
    warm::TTL,
};
use crate::{
    audit::{Event, Gate, Recorder, Spoken},
    policy::{AgentName, Denial, HostName, Moment, Reason, RecordType, Transport},
};
use hickory_proto::{
    op::Message,
    rr::{DNSClass, Name},
};
use std::{net::IpAddr, time::Duration};

/// A message is a question that every reader reads alike, or it is refused in a reply that can be
/// sent.
pub fn query(message: &[u8]) {
    match query::parse(message) {
        Ok(question) => {
            reads_alike(message, &question);
            is_told_alike(message, &question.echo);
            stands_alone(message);
            let ttl = Duration::from_secs(u64::from(question.echo.id));
            let addresses =
                (0..=question.echo.id as u8).map(|last| IpAddr::from([198, 51, 100, last])).collect();
            for answer in
                [Answer::NoData { ttl }, Answer::NoName { ttl }, Answer::Addresses { addresses, ttl }]
            {
                can_be_sent(&answer, &question.echo);
            }
        }
        Err(bad) => {
            is_told_nothing(message);
            let (_, answer) = unreadable(&bad);
            if let Some((answer, echo)) = answer.zip(bad.echo) {
                can_be_sent(&answer, &echo);
            }
        }
    }
}

/// Whatever an upstream sends, what is handed on stands in its answer section, under the names of
/// the chain; a chain ends, and so do its addresses and records.
pub fn answer(bytes: &[u8]) {
    addresses(bytes);
    records(bytes);
}

fn addresses(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let Ok(response) = Message::from_vec(bytes) else { return };
    let family = if first & 1 == 0 { Family::V4 } else { Family::V6 };
    let asked = response.queries.first().map_or_else(Name::root, |query| query.name().clone());
    let mut chain = Chain::new(asked, family);
    for _ in 0..=MAX_LINKS {
        match chain.follow(&response) {
            Ok(Step::Alias(_)) => {}
            Ok(Step::Found(found)) => return is_in(&found, &response, family),
            Err(_) => return,
        }
    }
    panic!("the chain of {response} does not end");
}

/// What is handed on is bounded, stands alone, and can be read again under the name that was asked
/// for.
fn records(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let Ok(response) = Message::from_vec(bytes) else { return };
    let kind = RecordType::ALL[usize::from(*first) % RecordType::ALL.len()];
    let asked = response.queries.first().map_or_else(Name::root, |query| query.name().clone());
    let mut chain = Chain::of_records(asked, kind);
    for _ in 0..=MAX_LINKS {
        match chain.follow_records(&response) {
            Ok(Step::Alias(_)) => {}
            Ok(Step::Found(found)) => return stand_alone(found),
            Err(_) => return,
        }
    }
    panic!("the chain of {response} does not end");
}

fn stand_alone(found: FoundRecords) {
    let FoundRecords::Records { kind, data, .. } = &found else { return };
    assert!((1..=MAX_OTHER_RECORDS).contains(&data.len()));
    assert!(data.iter().map(Vec::len).sum::<usize>() <= MAX_OTHER_OCTETS);
    let (kind, count) = (kind.number(), data.len());
    let question = [&b"\x02ok\x04test\0"[..], &kind.to_be_bytes(), &[0, 1]].concat();
    let echo = Echo { id: 0, flags: 0, question, edns: None };
    let bytes = Answer::from(found).write(&echo, Transport::Tcp);
    // What the other reader wrote, it may still refuse to read.
    if let Ok(parsed) = Message::from_vec(&bytes) {
        assert_eq!(parsed.answers.len(), count);
        assert!(parsed.answers.iter().all(|record| u16::from(record.record_type()) == kind));
    }
}

/// The name that `message` asks for, if it can be read.
pub fn name_in(message: &[u8]) -> Option<HostName> {
    query::parse(message).ok().map(|question| question.name)
}

fn reads_alike(message: &[u8], question: &Question) {
    let wire: Vec<u8> = question
        .name
        .labels()
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .chain([0])
        .collect();
    let spelt = &question.echo.question[..question.echo.question.len() - 4];
    assert!(spelt.eq_ignore_ascii_case(&wire), "the name is the question's");
    assert_eq!(question.echo.question, message[HEADER..HEADER + question.echo.question.len()]);
    // Another reader may refuse what it finds in EDNS, but not read another question.
    if let Ok(other) = Message::from_vec(message) {
        let [other] = other.queries.as_slice() else { panic!("there is one question") };
        assert_eq!(other.name().to_ascii().to_ascii_lowercase(), format!("{}.", question.name));
        assert_eq!(other.query_class(), DNSClass::IN);
        let kind = match question.kind {
            Kind::Address(Family::V4) => vec![1],
            Kind::Address(Family::V6) => vec![28],
            Kind::Service => vec![64, 65],
            Kind::Other(number) => vec![number],
        };
        assert!(kind.contains(&u16::from(other.query_type())));
    }
}

/// What was answered once is told again as it would be answered.
fn is_told_alike(message: &[u8], echo: &Echo) {
    let ttl = Duration::from_secs(u64::from(echo.id).clamp(TTL.start().as_secs(), TTL.end().as_secs()));
    let addresses = (0..=echo.id as u8).map(|last| IpAddr::from([198, 51, 100, last])).collect();
    for answer in [Answer::NoData { ttl }, Answer::NoName { ttl }, Answer::Addresses { addresses, ttl }] {
        if let Some(told) = told(&echo.question, answer.clone(), message) {
            assert_eq!(told, answer.write(echo, Transport::Udp));
        }
    }
}

/// A message that is refused is not told what one with the same question was.
fn is_told_nothing(message: &[u8]) {
    let Some(body) = message.get(HEADER..) else { return };
    let plain = |length: usize| [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &body[..length]].concat();
    let mut root = 0;
    while let Some(length @ 1..) = body.get(root).copied().map(usize::from) {
        root += 1 + length;
    }
    if body.len() >= root + 5 && query::parse(&plain(root + 5)).is_ok() {
        let answer = Answer::NoData { ttl: *TTL.start() };
        assert_eq!(told(&body[..root + 5], answer, message), None);
    }
}

/// What an agent is told from memory that asked `question` before, was given `answer`, and sends
/// `message`.
fn told(question: &[u8], answer: Answer, message: &[u8]) -> Option<Vec<u8>> {
    let (recorder, _records) = Recorder::new(1);
    let hot = Hot::new(1, &recorder, || Moment(0));
    let denial = Denial::because(Reason::QueryMalformed);
    let event = Event::denied(&AgentName::unknown(), Gate::Name, Spoken::Dns, &denial);
    let basis = Basis { generation: 1, moment: Moment(0) };
    hot.keep(Kept { question: question.to_vec(), answer, basis, event });
    let mut out = [0; MAX_UDP as usize];
    let length = hot.shard(0)?.answer(message, 1, Moment(0), &mut out)?;
    Some(out[..length].to_vec())
}

fn stands_alone(message: &[u8]) {
    assert!(query::parse(&message[..message.len() - 1]).is_err(), "nothing can be left out");
    assert!(query::parse(&[message, &[0]].concat()).is_err(), "nothing can be added");
}

fn can_be_sent(answer: &Answer, echo: &Echo) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let bytes = answer.write(echo, transport);
        let bound = match transport {
            Transport::Udp => echo.edns.map_or(512, |edns| edns.payload.clamp(512, MAX_UDP)).into(),
            Transport::Tcp => usize::from(u16::MAX),
        };
        assert!(bytes.len() <= bound, "{} octets, {bound} are allowed", bytes.len());
        assert_eq!(bytes[..2], echo.id.to_be_bytes());
        // A name that our reader refuses may be one that the other reader cannot read either.
        if let Ok(parsed) = Message::from_vec(&bytes) {
            let Answer::Addresses { addresses, .. } = answer else { continue };
            let told: Vec<IpAddr> =
                parsed.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
            assert_eq!(told, addresses[..told.len()], "what fits is told in order");
            assert_eq!(parsed.truncation, told.len() < addresses.len(), "what does not fit is said");
        }
    }
}

fn is_in(found: &Found, response: &Message, family: Family) {
    let Found::Addresses { addresses, ttl } = found else { return };
    assert!((1..=MAX_RECORDS).contains(&addresses.len()));
    for address in addresses {
        assert_eq!(address.is_ipv4(), family == Family::V4);
        let stands = |ttl: u64| {
            response
                .answers
                .iter()
                .any(|record| record.data.ip_addr() == Some(*address) && u64::from(record.ttl) >= ttl)
        };
        assert!(stands(ttl.as_secs()), "{address} stands in the answer, for as long at least");
    }
    let echo = Echo { id: 0, flags: 0, question: Vec::new(), edns: Some(Edns { payload: MAX_UDP }) };
    let length = Answer::from(found.clone()).write(&echo, Transport::Udp).len();
    assert!(length <= usize::from(MAX_UDP));
}
