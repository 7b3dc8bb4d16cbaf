//! One agent behind a gate, one upstream on 127.0.0.2, and what the kernel and the resolver say.

use crate::{
    audit::{Event, Recorder, Verdict},
    policy::*,
    proxy::{Gate, Listeners, listen::serve_at_most},
};
use std::{
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
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc::Receiver,
    task::JoinSet,
    time::timeout,
};

pub const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
pub const NOW: Moment = Moment(1_000);
const LATER: Moment = Moment(2_000);

pub struct Lab {
    pub agent: Arc<Agent>,
    pub gate: Arc<Gate>,
    pub upstream: TcpListener,
    pub port: u16,
    pub server: JoinSet<()>,
    kernel: Arc<Kernel>,
    resolver: Arc<Resolver>,
    events: Receiver<Event>,
    transparent: SocketAddr,
    explicit: SocketAddr,
    /// Where QUIC is redirected to.
    pub quic: SocketAddr,
}

impl Lab {
    /// The most QUIC flows, and connections.
    pub const QUIC_FLOWS: usize = 10;

    /// `rules` gets the upstream's port.
    pub async fn start(rules: impl FnOnce(u16) -> Vec<Rule>) -> Self {
        Self::start_with(Self::QUIC_FLOWS, rules).await
    }

    pub async fn start_with(connections: usize, rules: impl FnOnce(u16) -> Vec<Rule>) -> Self {
        let upstream = TcpListener::bind((UPSTREAM, 0)).await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let policy = Arc::new(Policy::new(rules(port), Vec::new()));
        let agent = Arc::new(Agent::new(AgentId(1), AgentName::parse("test").unwrap(), policy));
        let kernel = Arc::new(Kernel(Mutex::new(Some(SocketAddr::new(UPSTREAM, port)))));
        let resolver = Arc::new(Resolver::default());
        let (recorder, events) = Recorder::new(100);
        let gate = Gate::new(recorder, || NOW, resolver.clone(), kernel.clone());
        let listen = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let quic = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let quic_door = quic.local_addr().unwrap();
        let listeners =
            Listeners { transparent: vec![listen().await], quic: vec![quic], explicit: vec![listen().await] };
        let transparent = listeners.transparent[0].local_addr().unwrap();
        let explicit = listeners.explicit[0].local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(serve_at_most(connections, agent.clone(), listeners, gate.clone()));
        Self {
            agent,
            gate,
            upstream,
            port,
            server,
            kernel,
            resolver,
            events,
            transparent,
            explicit,
            quic: quic_door,
        }
    }

    /// What the resolver would have granted for `name`.
    pub fn grant(&self, name: &str, address: IpAddr, protocol: Protocol) {
        self.grant_until(LATER, name, address, protocol);
    }

    pub fn grant_until(&self, expires: Moment, name: &str, address: IpAddr, protocol: Protocol) {
        let (name, port) = (HostName::parse(name).unwrap(), self.port);
        let rule = self.agent.lookup(&name).map_or(RuleId(99), |leave| leave.openings()[0].rule);
        self.agent.remember(&[Grant { name, address, port, protocol, rule, expires }], NOW).unwrap();
    }

    pub fn resolves(&self, name: &str, addresses: &[IpAddr]) {
        self.resolver.names.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }

    pub fn lookups(&self) -> usize {
        self.resolver.asked.load(Ordering::SeqCst)
    }

    /// What the resolver heard of flows, by name.
    pub fn connected(&self) -> Vec<String> {
        self.resolver.connected.lock().unwrap().clone()
    }

    pub fn redirects_from(&self, original: Option<SocketAddr>) {
        *self.kernel.0.lock().unwrap() = original;
    }

    /// Where the kernel redirects connections to.
    pub fn transparent(&self) -> SocketAddr {
        self.transparent
    }

    /// A connection that the kernel redirected.
    pub async fn redirected(&self) -> TcpStream {
        TcpStream::connect(self.transparent).await.unwrap()
    }

    /// A connection to the proxy that has sent `bytes`.
    pub async fn proxied(&self, bytes: &str) -> TcpStream {
        self.proxied_with(bytes.as_bytes()).await
    }

    pub async fn proxied_with(&self, bytes: &[u8]) -> TcpStream {
        let mut tcp = TcpStream::connect(self.explicit).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        tcp
    }

    pub async fn accept(&self) -> TcpStream {
        within(self.upstream.accept()).await.unwrap().0
    }

    /// That nobody has knocked at the upstream.
    pub async fn upstream_is_untouched(&self) {
        let poll = std::future::poll_fn(|context| std::task::Poll::Ready(self.upstream.poll_accept(context)));
        assert!(poll.await.is_pending(), "something was dialled");
    }

    pub async fn event(&mut self) -> Event {
        within(self.events.recv()).await.unwrap()
    }

    pub async fn denies(&mut self, reason: Reason) -> Event {
        let event = self.event().await;
        assert_eq!((event.verdict, event.reason), (Verdict::Deny, Some(reason)), "{event:?}");
        self.upstream_is_untouched().await;
        event
    }

    pub async fn allows(&mut self, destination: &str) -> Event {
        let event = self.event().await;
        assert_eq!((event.verdict, event.reason), (Verdict::Allow, None), "{event:?}");
        assert_eq!(event.destination.as_ref().unwrap().to_string(), destination);
        event
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("happens within 20 seconds")
}

/// Everything until the end, or until the reset.
pub async fn read_all(tcp: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(tcp.read_to_end(&mut bytes)).await;
    bytes
}

pub async fn read_text(tcp: &mut TcpStream) -> String {
    String::from_utf8(read_all(tcp).await).unwrap()
}

pub async fn reads(tcp: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    within(tcp.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
}

pub fn host(pattern: &str, port: u16, protocol: Protocol) -> Rule {
    rule(Subject::Host(Pattern::parse(pattern).unwrap()), port, protocol)
}

pub fn network(network: &str, port: u16, protocol: Protocol) -> Rule {
    rule(Subject::Network(network.parse().unwrap()), port, protocol)
}

fn rule(subject: Subject, port: u16, protocol: Protocol) -> Rule {
    let source = Source { file: "test.yaml".into(), line: 7 };
    let id = RuleId(subject.to_string().bytes().map(u32::from).sum());
    Rule {
        id,
        source,
        subject,
        ports: vec![port],
        protocol: Some(protocol),
        private: false,
        reason: None,
        names: NameTerms::default(),
        tls: TlsTerms::default(),
        term: Default::default(),
        budget: Default::default(),
        mode: Default::default(),
        risk: None,
    }
}

struct Kernel(Mutex<Option<SocketAddr>>);

impl OriginLookup for Kernel {
    fn origin(&self, _agent: AgentId, _transport: Transport, _peer: SocketAddr) -> Option<Origin> {
        let original = Some(OriginalDestination((*self.0.lock().unwrap())?));
        Some(Origin {
            process: Some(Process { pid: 42, executable: None, command: "curl".to_owned() }),
            original,
        })
    }
}

#[derive(Default)]
struct Resolver {
    names: Mutex<HashMap<String, Vec<IpAddr>>>,
    asked: AtomicUsize,
    connected: Mutex<Vec<String>>,
}

impl Resolve for Resolver {
    fn resolve<'a>(
        &'a self,
        agent: &'a Agent,
        name: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Denial>> + Send + 'a>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = self.names.lock().unwrap().get(name.as_str()).cloned().unwrap_or_default();
        Box::pin(async move {
            for address in &addresses {
                for Opening { port, protocol, rule } in agent.lookup(name)?.openings().iter().copied() {
                    let (name, address) = (name.clone(), *address);
                    let grant = Grant { name, address, port, protocol, rule, expires: LATER };
                    agent.remember(&[grant], NOW).unwrap();
                }
            }
            Ok(addresses)
        })
    }

    fn connected(&self, _agent: &Agent, name: &HostName) {
        self.connected.lock().unwrap().push(name.to_string());
    }
}
