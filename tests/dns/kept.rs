//! What upstream sees of an agent: of names that rules spell out nothing, of others as little as can be.
//!
//! Time stands still in these tests, and jumps to whatever comes next.

use crate::{
    kernel::{Kernel, OneProcess, Watcher},
    lab::{agent, allow, allow_usual, public, question, rule},
};
use egressd::{
    audit::{Event, Recorder},
    dns::{self, Ask, Asker, Family, Found, FoundRecords, Gate, LookupError, Sockets, Workers},
    policy::{Agent, HostName, Moment, Policy, Reason, Transport},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use std::{
    cell::Cell,
    future::{Future, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc::Receiver, time::Instant};

#[tokio::test(start_paused = true)]
async fn a_use_of_a_name_that_a_rule_spells_out_is_not_seen_upstream() {
    let desk = Desk::open(allow(&["ok.test"]), 60);
    desk.gate.keep_warm(&desk.agent);
    desk.pass(1).await;
    let before = desk.zone.asked();
    assert_eq!(sorted(before.clone()), ["0 ok.test V4", "0 ok.test V6"]);
    for _ in 0..50 {
        assert_eq!(desk.code("ok.test", RecordType::A).await, ResponseCode::NoError);
        assert_eq!(desk.code("ok.test", RecordType::AAAA).await, ResponseCode::NoError);
    }
    assert_eq!(desk.zone.asked(), before);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_a_rule_spells_out_is_asked_for_on_a_schedule_whoever_uses_it() {
    let (idle, busy) = (Desk::open(allow(&["ok.test"]), 60), Desk::open(allow(&["ok.test"]), 60));
    idle.gate.keep_warm(&idle.agent);
    busy.gate.keep_warm(&busy.agent);
    for _ in 0..300 {
        busy.code("ok.test", RecordType::A).await;
        busy.pass(1000).await;
    }
    idle.pass(1000).await;
    let rounds = idle.zone.asked().len() / 2;
    assert_eq!(rounds, 1 + 300 / 54, "every 54 seconds, before a TTL of 60 ends");
    assert_eq!(idle.zone.asked(), busy.zone.asked());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_spells_out_any_more_is_not_asked_for() {
    let desk = Desk::open(allow(&["ok.test"]), 60);
    desk.gate.keep_warm(&desk.agent);
    desk.pass(1).await;
    desk.agent.replace_policy(Arc::new(Policy::default()));
    desk.gate.keep_warm(&desk.agent);
    desk.pass(3_600_000).await;
    assert_eq!(desk.zone.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn names_of_a_wildcard_leave_at_the_next_tenth_of_a_second_in_their_own_order() {
    let desk = Desk::open(allow(&["*.ok.test"]), 60);
    desk.pass(33).await;
    let asked = ["c", "a", "b"].map(|label| format!("{label}.ok.test"));
    let [c, a, b] = &asked;
    tokio::join!(desk.code(c, RecordType::A), desk.code(a, RecordType::AAAA), desk.code(b, RecordType::A));
    let left =
        ["a", "b", "c"].map(|label| [format!("100 {label}.ok.test V4"), format!("100 {label}.ok.test V6")]);
    assert_eq!(desk.zone.asked(), left.concat(), "and both families, whichever was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_wildcard_is_kept_warm_for_whole_hours_so_that_its_last_use_does_not_show() {
    let mut asked = Vec::new();
    for last_use in [7_300_000, 9_000_000, 10_700_000] {
        let desk = Desk::open(allow(&["*.ok.test"]), 300);
        desk.code("a.ok.test", RecordType::A).await;
        desk.pass(1_000_000).await;
        desk.code("a.ok.test", RecordType::A).await;
        desk.pass(4_000_000).await;
        desk.code("a.ok.test", RecordType::A).await;
        desk.pass(last_use - 5_000_000).await;
        desk.code("a.ok.test", RecordType::A).await;
        desk.pass(8 * 3_600_000).await;
        asked.push(desk.zone.asked());
        assert_eq!(desk.known_names(), 1);
    }
    let [first, rest @ ..] = &asked[..] else { panic!("there are three") };
    assert!(rest.iter().all(|asked| asked == first));
    let rounds = first.len() / 2;
    assert!((4 * 3600 / 270..=4 * 3600 / 270 + 2).contains(&rounds), "{rounds} rounds in four hours");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_wildcard_that_is_used_once_is_kept_warm_for_an_hour() {
    let desk = Desk::open(allow(&["*.ok.test"]), 300);
    desk.code("a.ok.test", RecordType::A).await;
    desk.pass(9 * 3_600_000).await;
    let rounds = desk.zone.asked().len() / 2;
    assert!((3600 / 270..=3600 / 270 + 2).contains(&rounds), "{rounds} rounds in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_wildcard_that_is_refused_does_not_leave() {
    let mut desk = Desk::open(allow_usual(&["**.ok.test"]), 60);
    let long = |number: u32| format!("{number:0>60}.{number:0>60}.{number:0>60}.ok.test");
    assert_eq!(desk.code(&long(1), RecordType::A).await, ResponseCode::Refused, "it looks like a leak");
    assert_eq!(desk.zone.asked(), [""; 0]);
    let event = desk.events.recv().await.unwrap();
    assert_eq!(event.reason, Some(Reason::NamesFrozen));
    assert_eq!(event.rule.unwrap().to_string(), "policy.yaml:3");
    assert!(event.detail.unwrap().starts_with("long-name: "), "the record says why");
    assert_eq!(desk.watcher.alerts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_upstream_is_tried_again_on_a_schedule_and_never_an_allow() {
    let desk = Desk::open(allow(&["down.test"]), 60);
    desk.gate.keep_warm(&desk.agent);
    for _ in 0..120 {
        assert_eq!(desk.code("down.test", RecordType::A).await, ResponseCode::ServFail);
        desk.pass(1000).await;
    }
    let rounds = desk.zone.asked().len() / 2;
    assert_eq!(rounds, 8, "after 1, 2, 4, 8, 16, 30, 30 seconds");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_still_good_outlives_a_refresh_that_fails() {
    let mut asked = Vec::new();
    for is_used in [false, true] {
        let desk = Desk::open(allow(&["ok.test"]), 300);
        desk.gate.keep_warm(&desk.agent);
        desk.pass(1000).await;
        desk.zone.is_down.store(true, Ordering::SeqCst);
        desk.pass(290_000).await;
        assert!(desk.zone.asked().len() > 2, "it was tried, in vain");
        assert_eq!(desk.code("ok.test", RecordType::A).await, ResponseCode::NoError);
        for _ in 0..60 {
            desk.pass(1000).await;
            if is_used {
                desk.code("ok.test", RecordType::A).await;
            }
        }
        assert_eq!(desk.code("ok.test", RecordType::A).await, ResponseCode::ServFail);
        desk.zone.is_down.store(false, Ordering::SeqCst);
        desk.pass(31_000).await;
        assert_eq!(desk.code("ok.test", RecordType::A).await, ResponseCode::NoError);
        asked.push(desk.zone.asked());
    }
    assert_eq!(asked[0], asked[1], "nobody's use of it hastens the next try");
}

#[tokio::test(start_paused = true)]
async fn a_family_that_nobody_answers_for_does_not_hold_up_the_other() {
    let desk = Desk::open(allow(&["*.ok.test"]), 60);
    assert_eq!(desk.code("half.ok.test", RecordType::A).await, ResponseCode::NoError);
    assert_eq!(clock().since(Moment(1)), Duration::from_millis(100));
    assert_eq!(desk.code("half.ok.test", RecordType::AAAA).await, ResponseCode::ServFail);
}

#[tokio::test(start_paused = true)]
async fn names_beyond_the_bound_are_refused_so_that_no_other_is_given_up_for_them() {
    let mut desk = Desk::open(allow(&["*.ok.test"]), 300);
    for number in 0..1024 {
        let code = desk.code(&format!("n{number}.ok.test"), RecordType::A).await;
        assert_eq!(code, ResponseCode::NoError);
        desk.events.recv().await.unwrap();
    }
    let asked = desk.zone.asked();
    assert_eq!(desk.code("more.ok.test", RecordType::A).await, ResponseCode::ServFail);
    let event = desk.events.recv().await.unwrap();
    assert_eq!(event.reason, Some(Reason::QuotaExceeded));
    assert_eq!(event.detail.as_deref(), Some("names that are kept warm"));
    assert_eq!(desk.code("n0.ok.test", RecordType::A).await, ResponseCode::NoError);
    assert_eq!(desk.zone.asked(), asked);
    // Those that nobody used any more make room.
    desk.pass(3 * 3_600_000).await;
    assert_eq!(desk.code("more.ok.test", RecordType::A).await, ResponseCode::NoError);
}

#[tokio::test(start_paused = true)]
async fn a_name_leaves_only_where_what_it_let_out_is_remembered() {
    let mut desk = Desk::open(allow(&["*.ok.test"]), 60);
    desk.watcher.forgets.store(true, Ordering::SeqCst);
    assert_eq!(desk.code("a.ok.test", RecordType::A).await, ResponseCode::ServFail);
    let event = desk.events.recv().await.unwrap();
    assert_eq!(event.detail.as_deref(), Some("the ledger cannot be written to disk"));
    assert_eq!(desk.zone.asked(), [""; 0]);
    desk.watcher.forgets.store(false, Ordering::SeqCst);
    assert_eq!(desk.code("a.ok.test", RecordType::A).await, ResponseCode::NoError);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_refused_again_and_again_are_no_work_for_the_disk() {
    let desk = Desk::open(allow_usual(&["**.ok.test"]), 60);
    let long = |number: u32| format!("{number:0>60}.{number:0>60}.{number:0>60}.ok.test");
    for number in 0..100 {
        assert_eq!(desk.code(&long(number), RecordType::A).await, ResponseCode::Refused);
    }
    assert_eq!(desk.watcher.charged(), 1, "that names are frozen");
}

#[tokio::test(start_paused = true)]
async fn a_type_that_a_rule_allows_from_now_on_is_asked_for_at_names_that_are_warm_already() {
    let desk = Desk::open(allow(&["*.ok.test"]), 60);
    desk.code("a.ok.test", RecordType::A).await;
    assert_eq!(desk.code("a.ok.test", RecordType::TXT).await, ResponseCode::Refused);
    let mut rule = rule("*.ok.test");
    rule.names.types.push(u16::from(RecordType::TXT));
    desk.agent.replace_policy(Arc::new(Policy::new(vec![rule], Vec::new())));
    assert_eq!(desk.code("a.ok.test", RecordType::TXT).await, ResponseCode::NoError);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_wildcard_allows_any_more_is_not_asked_for_and_quarantine_does_not_show() {
    let rounds = async |change: &dyn Fn(&Desk)| {
        let desk = Desk::open(allow(&["*.ok.test", "*.also.test"]), 300);
        desk.code("a.ok.test", RecordType::A).await;
        desk.pass(1_000_000).await;
        change(&desk);
        desk.pass(8 * 3_600_000).await;
        desk.zone.asked().len() / 2
    };
    let reload = |desk: &Desk, patterns: &[&str]| {
        desk.agent.replace_policy(Arc::new(allow(patterns)));
        desk.gate.keep_warm(&desk.agent);
    };
    let usual = rounds(&|_| {}).await;
    assert_eq!(rounds(&|desk| reload(desk, &["*.ok.test"])).await, usual);
    assert_eq!(rounds(&|desk| reload(desk, &["*.also.test"])).await, 1 + 1_000_000 / 270_000);
    assert_eq!(rounds(&|desk| desk.agent.quarantine(true)).await, usual);
    let both = |desk: &Desk| {
        desk.agent.quarantine(true);
        reload(desk, &["*.ok.test"]);
    };
    assert_eq!(rounds(&both).await, usual);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_quarantine_overtakes_is_told_so() {
    let mut desk = Desk::open(allow(&["*.ok.test"]), 60);
    let (code, ()) = tokio::join!(desk.code("a.ok.test", RecordType::A), async {
        desk.pass(10).await;
        desk.agent.quarantine(true);
    });
    assert_eq!(code, ResponseCode::Refused);
    assert_eq!(desk.events.recv().await.unwrap().reason, Some(Reason::AgentQuarantined));
}

/// Two upstreams: what becomes of the questions of one is nothing to the other.
#[tokio::test(start_paused = true)]
async fn names_that_rules_spell_out_are_asked_of_servers_that_no_wildcard_wears_out() {
    let (exact, others) = (Zone::new(60), Zone::new(60));
    let policy = allow(&["ok.test", "*.ok.test"]);
    let desk = Desk::with(policy, exact.clone(), others.clone());
    desk.code("ok.test", RecordType::A).await;
    desk.code("a.ok.test", RecordType::A).await;
    let named = |zone: &Zone, name| zone.asked().iter().all(|asked| asked.contains(name));
    assert!(named(&exact, " ok.test ") && named(&others, " a.ok.test "));
    assert_eq!((exact.asked().len(), others.asked().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_again_goes_on_with_what_was_known_of_it() {
    let desk = Desk::open(allow_usual(&["*.ok.test"]), 60);
    desk.code("some.ok.test", RecordType::A).await;
    let used = |agent: &Agent| desk.gate.with_ledger(agent, |ledger, now| ledger.report(now).total.used);
    let first = used(&desk.agent);
    desk.end(&desk.agent).await;
    let again = agent(2, allow_usual(&["*.ok.test"]));
    assert_eq!(used(&again), first, "it is the ledger of its name");
    desk.code_for(&again, "some.ok.test", RecordType::A).await;
    let cost = used(&again) - first;
    assert!(cost < first, "a known name costs {cost} bits, and a new one {first}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_after_the_next_of_its_name_began_is_not_gone_back_to() {
    for is_first_late in [false, true] {
        let desk = Desk::open(allow_usual(&["*.ok.test"]), 60);
        desk.code("some.ok.test", RecordType::A).await;
        let next = agent(2, allow_usual(&["*.ok.test"]));
        for name in ["one.ok.test", "two.ok.test"] {
            desk.code_for(&next, name, RecordType::A).await;
        }
        let used = |agent: &Agent| desk.gate.with_ledger(agent, |ledger, now| ledger.report(now).total.used);
        let last = used(&next);
        let order = if is_first_late { [&next, &desk.agent] } else { [&desk.agent, &next] };
        for agent in order {
            desk.end(agent).await;
        }
        assert_eq!(used(&agent(3, allow_usual(&["*.ok.test"]))), last, "{is_first_late}");
    }
}

/// An agent and its resolver, without sockets.
struct Desk {
    gate: Arc<Gate>,
    agent: Arc<Agent>,
    zone: Arc<Zone>,
    watcher: Arc<Watcher>,
    events: Receiver<Event>,
}

impl Desk {
    /// Whatever is asked for has an address, for so many seconds.
    fn open(policy: Policy, ttl: u64) -> Self {
        let zone = Zone::new(ttl);
        Self::with(policy, zone.clone(), zone)
    }

    fn with(policy: Policy, zone: Arc<Zone>, others: Arc<Zone>) -> Self {
        START.set(Some(Instant::now()));
        let watcher = Arc::new(Watcher::default());
        let (recorder, events) = Recorder::new(4096);
        let gate =
            Gate::new(zone.clone(), others, Arc::new(Kernel::willing()), watcher.clone(), recorder, clock);
        Self { gate, agent: agent(1, policy), zone, watcher, events }
    }

    async fn code(&self, name: &str, kind: RecordType) -> ResponseCode {
        self.code_for(&self.agent, name, kind).await
    }

    async fn code_for(&self, agent: &Arc<Agent>, name: &str, kind: RecordType) -> ResponseCode {
        let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
        let asker = Asker {
            agent: Arc::clone(agent),
            transport: Transport::Udp,
            peer,
            origins: Arc::new(OneProcess),
        };
        let reply = self.gate.reply(&asker, &question(name, kind).to_vec().unwrap()).await;
        Message::from_vec(&reply.expect("there is a reply")).unwrap().response_code
    }

    async fn end(&self, agent: &Arc<Agent>) {
        let none = Sockets { udp: Vec::new(), tcp: Vec::new() };
        let workers = Workers::start().unwrap();
        dns::serve(agent.clone(), none, self.gate.clone(), workers, Arc::new(OneProcess)).await;
    }

    /// Lets so many milliseconds pass.
    async fn pass(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    fn known_names(&self) -> u32 {
        let report = self.gate.with_ledger(&self.agent, |ledger, now| ledger.report(now));
        report.accounts.iter().map(|account| account.known_names).sum()
    }
}

/// Knows every name but `down.test`, and remembers what it was asked, after how many milliseconds.
struct Zone {
    ttl: Duration,
    asked: Mutex<Vec<String>>,
    is_down: AtomicBool,
}

impl Zone {
    fn new(ttl: u64) -> Arc<Self> {
        let ttl = Duration::from_secs(ttl);
        Arc::new(Self { ttl, asked: Mutex::default(), is_down: AtomicBool::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Ask for Zone {
    fn ask<'a>(
        &'a self,
        name: &'a HostName,
        family: Family,
    ) -> Pin<Box<dyn Future<Output = Result<Found, LookupError>> + Send + 'a>> {
        let after = clock().since(Moment(1)).as_millis();
        self.asked.lock().unwrap().push(format!("{after} {name} {family:?}"));
        let is_down = self.is_down.load(Ordering::SeqCst);
        let found = match (name.as_str(), family) {
            ("down.test", _) => Err(LookupError::Deadline),
            (_, Family::V4 | Family::V6) if is_down => Err(LookupError::Deadline),
            ("half.ok.test", Family::V6) => {
                return Box::pin(async {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Err(LookupError::Deadline)
                });
            }
            (_, Family::V4) => Ok(Found::Addresses { addresses: vec![public(1)], ttl: self.ttl }),
            (_, Family::V6) => Ok(Found::NoData { ttl: self.ttl }),
        };
        Box::pin(ready(found))
    }

    fn ask_records<'a>(
        &'a self,
        _: &'a HostName,
        _: egressd::policy::RecordType,
    ) -> Pin<Box<dyn Future<Output = Result<FoundRecords, LookupError>> + Send + 'a>> {
        Box::pin(ready(Ok(FoundRecords::NoData { ttl: self.ttl })))
    }
}

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn clock() -> Moment {
    Moment(1).after(START.get().map_or(Duration::ZERO, |start| start.elapsed()))
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
