//! One agent, its resolver on loopback, a fake upstream and a fake kernel.

use crate::{
    kernel::{Kernel, OneProcess, Watcher},
    upstream::{Upstream, bind},
};
use egressd::{
    audit::{Event, Recorder},
    dns::{self, Gate, Sockets, Workers},
    policy::{
        Agent, AgentId, AgentName, HostName, LeakAction, LeakActions, LeakBudget, LeakFlag, LeakTerms,
        Moment, NameTerms, Pattern, Policy, Protocol, Rule, RuleId, Source, Subject,
    },
};
use hickory_proto::{
    op::{Message, OpCode, Query},
    rr::{Name, RecordType},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::mpsc::Receiver,
    task::JoinHandle,
    time::timeout,
};

pub struct Lab {
    pub agent: Arc<Agent>,
    pub gate: Arc<Gate>,
    pub kernel: Arc<Kernel>,
    pub watcher: Arc<Watcher>,
    pub upstream: Upstream,
    pub resolver: SocketAddr,
    pub serving: JoinHandle<()>,
    pub events: Receiver<Event>,
}

impl Lab {
    pub async fn start(policy: Policy, upstream: Upstream) -> Self {
        Self::with(policy, upstream, Kernel::willing(), now).await
    }

    pub async fn with(policy: Policy, upstream: Upstream, kernel: Kernel, clock: fn() -> Moment) -> Self {
        let kernel = Arc::new(kernel);
        let (recorder, events) = Recorder::new(4096);
        let servers = dns::Upstream::to(&[upstream.address]).unwrap();
        let watcher = Arc::new(Watcher::default());
        let servers = Arc::new(servers);
        let gate = Gate::new(servers.clone(), servers, kernel.clone(), watcher.clone(), recorder, clock);
        let agent = agent(1, policy);
        let (resolver, serving) = serve(&agent, &gate).await;
        Self { agent, gate, kernel, watcher, upstream, resolver, serving, events }
    }

    /// Asks over UDP.
    pub async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let reply = self.udp(&question(name, kind).to_vec().unwrap()).await;
        Message::from_vec(&reply).unwrap()
    }

    pub async fn udp(&self, message: &[u8]) -> Vec<u8> {
        let socket = self.socket().await;
        socket.send(message).await.unwrap();
        receive(&socket).await
    }

    /// A socket of the agent's, connected to its resolver.
    pub async fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.resolver).await.unwrap();
        socket
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.resolver).await.unwrap()
    }

    /// The record that was made next.
    pub async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("a record is made").unwrap()
    }

    /// The questions that came upstream, but for those of names that the policy spells out: nobody has
    /// to ask for these.
    pub fn asked_by_agent(&self) -> Vec<String> {
        let policy = self.agent.policy();
        let exact: Vec<HostName> = policy.exact_leaves().map(|leave| leave.name().clone()).collect();
        let mut asked = self.upstream.asked();
        asked.retain(|asked| !exact.iter().any(|name| asked.split(' ').next() == Some(name.as_str())));
        asked
    }

    /// The addresses that were granted, each once.
    pub fn granted(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.kernel.granted().iter().map(|grant| grant.address).collect();
        addresses.dedup();
        addresses
    }
}

/// Far more than anything on loopback takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn agent(id: u32, policy: Policy) -> Arc<Agent> {
    Arc::new(Agent::new(AgentId(id), AgentName::parse("build").unwrap(), Arc::new(policy)))
}

pub async fn serve(agent: &Arc<Agent>, gate: &Arc<Gate>) -> (SocketAddr, JoinHandle<()>) {
    let (udp, tcp) = bind().await;
    let resolver = udp.local_addr().unwrap();
    let sockets = Sockets { udp: vec![udp.into_std().unwrap()], tcp: vec![tcp] };
    let serving = dns::serve(agent.clone(), sockets, gate.clone(), workers(), Arc::new(OneProcess));
    (resolver, tokio::spawn(serving))
}

/// The threads that all agents of all tests share, as those of a daemon do.
pub fn workers() -> Arc<Workers> {
    static WORKERS: OnceLock<Arc<Workers>> = OnceLock::new();
    Arc::clone(WORKERS.get_or_init(|| Workers::start().unwrap()))
}

pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    Moment(1).after(START.get_or_init(Instant::now).elapsed())
}

/// A policy that allows these patterns at TCP 443 with TLS, and does not mind leaks.
pub fn allow(patterns: &[&str]) -> Policy {
    let actions = LeakFlag::ALL
        .iter()
        .fold(LeakActions::default(), |actions, flag| actions.with(*flag, LeakAction::Log));
    let leaks = LeakTerms { budget: AMPLE, actions, ..LeakTerms::default() };
    Policy::new(patterns.iter().map(|pattern| rule(pattern)).collect(), Vec::new()).with_leaks(leaks)
}

/// The same, with the usual budgets and actions.
pub fn allow_usual(patterns: &[&str]) -> Policy {
    let usual = |pattern: &&str| Rule { names: NameTerms::default(), ..rule(pattern) };
    Policy::new(patterns.iter().map(usual).collect(), Vec::new())
}

/// More than any test lets out.
const AMPLE: LeakBudget = LeakBudget::of_bytes(LeakBudget::MAX).expect("this is the most");

pub fn rule(pattern: &str) -> Rule {
    Rule {
        id: RuleId(9),
        source: Source { file: "policy.yaml".into(), line: 3 },
        subject: Subject::Host(Pattern::parse(pattern).unwrap()),
        ports: vec![443],
        protocol: Some(Protocol::Tls),
        private: false,
        reason: None,
        names: NameTerms { leak_budget: Some(AMPLE), ..NameTerms::default() },
        tls: egressd::policy::TlsTerms::default(),
        term: Default::default(),
        budget: Default::default(),
        mode: Default::default(),
        risk: None,
    }
}

pub fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

/// A public address.
pub fn public(last: u8) -> IpAddr {
    IpAddr::from([9, 9, 9, last])
}

/// A query with EDNS.
pub fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4242, hickory_proto::op::MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message.edns.get_or_insert_default().set_max_payload(1232);
    message
}

/// The addresses of an answer, in its order.
pub fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().map(|record| record.data.ip_addr().expect("only addresses are answered")).collect()
}

pub async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer comes").unwrap();
    buffer.truncate(length);
    buffer
}

pub async fn write_frame(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    // The other side may have closed: then there is nothing to read either.
    let _ = stream.write_all(&[&length, message].concat()).await;
}

pub async fn read_frame(stream: &mut TcpStream) -> Message {
    let frame = async {
        let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut message).await.unwrap();
        Message::from_vec(&message).unwrap()
    };
    timeout(PATIENCE, frame).await.expect("an answer comes")
}
