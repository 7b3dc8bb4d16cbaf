//! What was answered once is answered again by threads that ask nobody, for as long as it would be
//! answered anew.

use crate::{
    granted::{code, until},
    kernel::Kernel,
    lab::{Lab, PATIENCE, addresses, agent, allow, public, question, receive, serve, workers},
    upstream::{Say, Upstream},
};
use egressd::{
    audit::{Event, Verdict},
    policy::{Moment, Reason},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::time::timeout;

#[tokio::test]
async fn what_was_answered_once_is_answered_again_without_another_grant() {
    let lab = lab(&["ok.test"]).await;
    let first = lab.ask("ok.test", RecordType::A).await;
    let grants = lab.kernel.granted().len();
    for name in ["ok.test", "OK.test", "oK.tESt"] {
        let again = lab.ask(name, RecordType::A).await;
        assert_eq!(addresses(&again), addresses(&first));
        assert_eq!(again.queries[0].name().to_string(), format!("{name}."));
    }
    assert_eq!(lab.kernel.granted().len(), grants);
    // The other family is another question.
    lab.ask("ok.test", RecordType::AAAA).await;
    assert_eq!(lab.kernel.granted().len(), grants);
}

#[tokio::test]
async fn a_policy_that_is_replaced_ends_what_was_answered_by_it() {
    let lab = lab(&["ok.test"]).await;
    answers_twice(&lab, "ok.test").await;
    lab.agent.replace_policy(Arc::new(allow(&["other.test"])));
    assert_eq!(lab.ask("ok.test", RecordType::A).await.response_code, ResponseCode::Refused);
    lab.agent.replace_policy(Arc::new(allow(&["ok.test"])));
    let grants = lab.kernel.granted().len();
    assert_eq!(lab.ask("ok.test", RecordType::A).await.response_code, ResponseCode::NoError);
    assert!(lab.kernel.granted().len() > grants, "it was granted anew");
}

#[tokio::test]
async fn quarantine_ends_what_was_answered_under_a_wildcard() {
    let mut lab = lab(&["*.ok.test", "ok.test"]).await;
    answers_twice(&lab, "a.ok.test").await;
    answers_twice(&lab, "ok.test").await;
    lab.agent.quarantine(true);
    assert_eq!(lab.ask("a.ok.test", RecordType::A).await.response_code, ResponseCode::Refused);
    assert_eq!(lab.ask("ok.test", RecordType::A).await.response_code, ResponseCode::NoError);
    let denial = events_until(&mut lab, |event| event.verdict == Verdict::Deny).await.pop().unwrap();
    assert_eq!(denial.reason, Some(Reason::AgentQuarantined));
}

#[tokio::test]
async fn what_is_answered_again_ends_with_its_ttl() {
    static CLOCK: AtomicU64 = AtomicU64::new(1);
    let clock = || Moment(CLOCK.load(Ordering::SeqCst));
    let upstream = Upstream::start(|_, _| Say::For(60, vec![public(1)])).await;
    let lab = Lab::with(allow(&["ok.test"]), upstream, Kernel::willing(), clock).await;
    let ttl = async || lab.ask("ok.test", RecordType::A).await.answers[0].ttl;
    assert_eq!((ttl().await, ttl().await), (60, 60));
    let grants = lab.kernel.granted().len();
    CLOCK.fetch_add(59_500_000_000, Ordering::SeqCst);
    assert_eq!(ttl().await, 1);
    assert_eq!(lab.kernel.granted().len(), grants);
    CLOCK.fetch_add(500_000_000, Ordering::SeqCst);
    assert_eq!(ttl().await, 60);
    assert_eq!(lab.kernel.granted().len(), grants * 2);
}

#[tokio::test]
async fn what_one_agent_was_answered_is_not_answered_to_another() {
    let lab = lab(&["ok.test"]).await;
    answers_twice(&lab, "ok.test").await;
    let other = agent(2, allow(&["other.test"]));
    let (resolver, _serving) = serve(&other, &lab.gate).await;
    let other = Lab { resolver, ..lab };
    assert_eq!(other.ask("ok.test", RecordType::A).await.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn every_lookup_is_recorded_once_however_it_was_answered() {
    let mut lab = lab(&["ok.test"]).await;
    for _ in 0..20 {
        lab.ask("ok.test", RecordType::A).await;
    }
    workers().record();
    let mut sum = 0;
    let events = events_until(&mut lab, |event| {
        sum += event.count;
        sum >= 20
    });
    let events = events.await;
    assert_eq!(events.iter().map(|event| event.count).sum::<u64>(), 20);
    assert!(events[0].process.is_some(), "who asked first is named");
    assert!(events.iter().all(|event| event.rule.is_some() && event.address == Some(public(1))));
    assert!(events.len() < 20, "the others are counted");
}

#[tokio::test]
async fn what_was_answered_is_recorded_though_nobody_asks_again() {
    let mut lab = lab(&["ok.test"]).await;
    answers_twice(&lab, "ok.test").await;
    lab.event().await;
    assert_eq!(lab.event().await.count, 1);
}

#[tokio::test]
async fn what_was_answered_is_recorded_when_its_agent_ends() {
    let mut lab = lab(&["ok.test"]).await;
    answers_twice(&lab, "ok.test").await;
    lab.serving.abort();
    until(|| lab.serving.is_finished()).await;
    lab.event().await;
    assert_eq!(lab.event().await.count, 1);
}

#[tokio::test]
async fn many_questions_at_once_are_all_answered() {
    let lab = lab(&["ok.test", "*.ok.test"]).await;
    lab.ask("ok.test", RecordType::A).await;
    let socket = lab.socket().await;
    // Some were answered before, some are denied, some have to be looked up, one cannot be read.
    let names = ["ok.test", "evil.test", "a.ok.test", "ok.test", "b.ok.test"];
    for (id, name) in (0..50u16).zip(names.iter().cycle()) {
        let mut message = question(name, RecordType::A);
        message.metadata.id = id;
        socket.send(&message.to_vec().unwrap()).await.unwrap();
        socket.send(&[1, 2, 3]).await.unwrap();
    }
    let mut answered = Vec::new();
    while answered.len() < 50 {
        let answer = Message::from_vec(&receive(&socket).await).unwrap();
        let is_allowed = answer.response_code == ResponseCode::NoError;
        assert_eq!(is_allowed, names[usize::from(answer.id) % 5] != "evil.test", "{answer}");
        answered.push(answer.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flood_that_has_to_be_judged_leaves_another_agents_answers_alone() {
    let lab = lab(&["ok.test"]).await;
    let quiet = agent(2, allow(&["ok.test"]));
    let (resolver, _serving) = serve(&quiet, &lab.gate).await;
    let flood = lab.socket().await;
    let denied = question("evil.test", RecordType::A).to_vec().unwrap();
    let quiet = Lab { resolver, ..lab };
    for _ in 0..200 {
        for _ in 0..100 {
            let _ = flood.try_send(&denied);
        }
        assert_eq!(quiet.ask("ok.test", RecordType::A).await.response_code, ResponseCode::NoError);
    }
}

#[tokio::test]
async fn a_message_that_is_far_too_long_is_malformed() {
    let lab = lab(&["ok.test"]).await;
    let mut message = question("ok.test", RecordType::A).to_vec().unwrap();
    for length in [4096, 4097, 60_000] {
        message.resize(length, 0);
        assert_eq!(code(&lab.udp(&message).await), ResponseCode::FormErr, "{length}");
    }
}

async fn lab(patterns: &[&str]) -> Lab {
    let zone = |_: &str, kind| match kind == RecordType::A {
        true => Say::Addresses(vec![public(1)]),
        false => Say::NoData,
    };
    Lab::start(allow(patterns), Upstream::start(zone).await).await
}

async fn answers_twice(lab: &Lab, name: &str) {
    for _ in 0..2 {
        assert_eq!(lab.ask(name, RecordType::A).await.response_code, ResponseCode::NoError);
    }
}

/// The events up to the first that `is_last`.
async fn events_until(lab: &mut Lab, mut is_last: impl FnMut(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    let read = async {
        loop {
            let event = lab.events.recv().await.unwrap();
            let ends = is_last(&event);
            events.push(event);
            if ends {
                return;
            }
        }
    };
    timeout(PATIENCE, read).await.expect("an event comes");
    events
}
