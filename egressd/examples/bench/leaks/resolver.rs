//! The resolver itself, by a clock that jumps to what happens next, in front of an upstream that writes
//! down what it is asked.

use super::{
    alone::{BOOTED, ledger},
    subject::{Query, Raised, Refused, Scene, Seen, Subject, Transcript},
};
use egressd::{
    audit::{Event, Recorder},
    dns::{
        Ask, Asker, Family, Found, FoundRecords, Gate, LookupError, Watch,
        ledger::{Alert, Ledger},
    },
    policy::{
        Agent, AgentId, AgentName, Grant, GrantError, GrantSink, HostName, Moment, Origin, OriginLookup,
        RecordType, Transport,
    },
};
use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::Receiver,
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until},
};

/// What agents really ask.
pub struct Resolver;

impl Subject for Resolver {
    fn name(&self) -> &'static str {
        "resolver"
    }

    fn play(&self, scene: &Scene, queries: &[Query]) -> Transcript {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime can be built").block_on(async {
            START.set(Some(Instant::now()));
            let mut play = Play::new(scene);
            for query in queries {
                play.ask(query).await;
            }
            play.finish().await
        })
    }
}

struct Play<'a> {
    scene: &'a Scene,
    gate: Arc<Gate>,
    agents: Vec<Arc<Agent>>,
    notes: Arc<Notes>,
    events: Receiver<Event>,
    refused: Vec<Refused>,
    asking: JoinSet<()>,
    settled: Duration,
}

impl<'a> Play<'a> {
    fn new(scene: &'a Scene) -> Self {
        let notes = Arc::new(Notes { ttl: scene.ttl, ..Notes::default() });
        let (recorder, events) = Recorder::new(EVENTS);
        let gate = Gate::new(notes.clone(), notes.clone(), Arc::new(Willing), notes.clone(), recorder, now);
        let policy = Arc::new(scene.policy());
        let agent = |number: usize| {
            let name = AgentName::parse(&format!("a{number}")).expect("it is a name");
            Arc::new(Agent::new(id(number), name, Arc::clone(&policy)))
        };
        Self {
            scene,
            gate,
            agents: (0..scene.agents).map(agent).collect(),
            notes,
            events,
            refused: Vec::new(),
            asking: JoinSet::new(),
            settled: Duration::ZERO,
        }
    }

    async fn ask(&mut self, query: &Query) {
        sleep_until(start() + query.at).await;
        if query.at >= self.settled + SETTLES {
            self.settled = query.at;
            self.agents.iter().for_each(|agent| self.gate.settle(agent));
        }
        self.notes.asked.fetch_add(1, Ordering::Relaxed);
        let agent = Arc::clone(&self.agents[query.agent]);
        let (gate, message) = (Arc::clone(&self.gate), message(query));
        let name = HostName::from_ascii(&query.name).ok().filter(|_| self.scene.connects);
        self.asking.spawn(async move {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
            let asker = Asker { agent, transport: Transport::Udp, peer, origins: Arc::new(Nobody) };
            let reply = gate.reply(&asker, &message).await;
            let is_answered = reply.is_some_and(|reply| reply.get(3).is_some_and(|flags| flags & 0xf == 0));
            if let Some(name) = name.filter(|_| is_answered) {
                gate.with_ledger(&asker.agent, |ledger, now| ledger.connected(&name, now));
            }
        });
        // What is refused is refused at once.
        yield_now().await;
        self.read_events(query);
        while self.asking.try_join_next().is_some() {}
    }

    fn read_events(&mut self, query: &Query) {
        while let Ok(event) = self.events.try_recv() {
            if let Some(reason) = event.reason {
                self.refused.push(Refused { at: query.at, reason });
            }
        }
    }

    async fn finish(mut self) -> Transcript {
        while self.asking.join_next().await.is_some() {}
        for _ in 0..8 {
            tokio::time::sleep(SETTLES).await;
            self.agents.iter().for_each(|agent| self.gate.settle(agent));
        }
        // Names may be kept warm for longer: whoever plays asks for something at the end.
        let take = |of: &Mutex<Vec<Seen>>| std::mem::take(&mut *of.lock().expect("nobody panicked"));
        let raised = std::mem::take(&mut *self.notes.raised.lock().expect("nobody panicked"));
        Transcript { seen: take(&self.notes.seen), refused: self.refused, raised, nanoseconds: Vec::new() }
    }
}

/// The upstream, and whoever hears of flags.
#[derive(Default)]
struct Notes {
    ttl: Duration,
    seen: Mutex<Vec<Seen>>,
    last: Mutex<HashMap<(HostName, Family), Duration>>,
    raised: Mutex<Vec<Raised>>,
    /// Questions of agents so far.
    asked: AtomicUsize,
}

impl Notes {
    fn note(&self, name: &HostName, family: Family) {
        let at = Instant::now() - start();
        let last = self.last.lock().expect("nobody panicked").insert((name.clone(), family), at);
        let due = last.map(|last| last + self.ttl.max(LEAST_TTL) * 9 / 10);
        let scheduled = due.is_some_and(|due| due.abs_diff(at) <= Duration::from_millis(2));
        let seen = Seen { at, name: name.clone(), family, scheduled };
        self.seen.lock().expect("nobody panicked").push(seen);
    }
}

impl Ask for Notes {
    fn ask<'a>(
        &'a self,
        name: &'a HostName,
        family: Family,
    ) -> Pin<Box<dyn Future<Output = Result<Found, LookupError>> + Send + 'a>> {
        self.note(name, family);
        let found = match family {
            Family::V4 => Found::Addresses { addresses: vec![SOMEWHERE], ttl: self.ttl },
            Family::V6 => Found::NoData { ttl: self.ttl },
        };
        Box::pin(std::future::ready(Ok(found)))
    }

    fn ask_records<'a>(
        &'a self,
        name: &'a HostName,
        _: RecordType,
    ) -> Pin<Box<dyn Future<Output = Result<FoundRecords, LookupError>> + Send + 'a>> {
        self.note(name, Family::V4);
        Box::pin(std::future::ready(Ok(FoundRecords::NoData { ttl: self.ttl })))
    }
}

impl Watch for Notes {
    fn open(&self, agent: &Agent) -> Ledger {
        ledger(u64::from(agent.id().0))
    }

    fn charged(&self, _: &AgentName, _: &Ledger) -> bool {
        true
    }

    fn raised(&self, _: &Agent, alert: Alert) {
        let at = Instant::now() - start();
        let raised = Raised { at, questions: self.asked.load(Ordering::Relaxed), alert };
        self.raised.lock().expect("nobody panicked").push(raised);
    }

    // The ledger refuses every wildcard by then.
    fn quarantine(&self, _: &Agent, _: &Ledger) {}
}

/// A kernel that takes every grant.
struct Willing;

impl GrantSink for Willing {
    fn install<'a>(
        &'a self,
        _: &'a Agent,
        _: &'a [Grant],
    ) -> Pin<Box<dyn Future<Output = Result<(), GrantError>> + Send + 'a>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Nobody;

impl OriginLookup for Nobody {
    fn origin(&self, _: AgentId, _: Transport, _: SocketAddr) -> Option<Origin> {
        None
    }
}

/// A plain question, as stub resolvers send it.
fn message(query: &Query) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in query.name.split(|octet| *octet == b'.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend_from_slice(label);
    }
    message.push(0);
    message.extend_from_slice(&query.kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn id(number: usize) -> AgentId {
    AgentId(u32::try_from(number + 1).expect("scenes are small"))
}

fn now() -> Moment {
    Moment(0).after(BOOTED + (Instant::now() - start()))
}

fn start() -> Instant {
    START.get().expect("a scene is played on this thread")
}

thread_local! {
    /// When the scene began that this thread plays.
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// As often as the daemon does.
const SETTLES: Duration = Duration::from_secs(5);
/// What the resolver takes for the least TTL.
const LEAST_TTL: Duration = Duration::from_secs(5);
/// More than one question makes.
const EVENTS: usize = 65_536;
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaks::alone::{A, Alone};

    #[test]
    fn the_resolver_and_the_ledger_alone_ask_upstream_for_the_same_names() {
        let query = |number: u64| Query {
            at: Duration::from_millis(1030 + number * 700),
            agent: 0,
            name: format!("n{}.evil.test", number % 7).into_bytes(),
            kind: A,
        };
        let queries: Vec<Query> = (0..60).map(query).collect();
        let scene = Scene { connects: true, ..Scene::of("evil.test") };
        let asked = |subject: &dyn Subject| {
            let seen = subject.play(&scene, &queries).seen;
            let asked = seen.into_iter().filter(|seen| !seen.scheduled);
            asked.map(|seen| (seen.at, seen.name, seen.family == Family::V4)).collect::<Vec<_>>()
        };
        let names = asked(&Resolver);
        assert_eq!(names.len(), 14);
        assert_eq!(names, asked(&Alone::WHOLE));
    }
}
