//! One flow of the agent, from its first octet to what came of it.

use crate::{
    server::{Script, Server},
    world::{HERE, Seen, World},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

/// A server, and an agent that may reach it by the names that it was granted.
pub struct Harness {
    pub world: Arc<World>,
    pub server: Server,
    // Last: the bound of silent sockets is the agent's, and so that of all tests at once.
    _turn: Turn,
}

enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

static TURNS: RwLock<()> = RwLock::new(());

/// What came of a flow.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the server got, to the last octet.
    pub arrived: Vec<u8>,
    /// What the agent read.
    pub seen_by_client: Vec<u8>,
    /// The first error of a send.
    pub error: Option<io::ErrorKind>,
    pub events: Vec<Seen>,
}

impl Outcome {
    /// The denial that was reported.
    pub fn denial(&self) -> Option<egress_common::DropReason> {
        self.events.iter().find_map(|event| event.reason)
    }

    /// Whether the agent read the alert access_denied.
    pub fn is_alerted(&self) -> bool {
        self.seen_by_client.starts_with(ALERT)
    }
}

pub const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// How long a flow may take to show what becomes of it: microseconds, but for a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

impl Harness {
    /// A server of its own, to which the agent is granted `names`.
    pub fn new(names: &[&str]) -> Self {
        Self::at(HERE, names)
    }

    /// The same, while no other test has a flow.
    pub fn alone(names: &[&str]) -> Self {
        let guard = TURNS.write().unwrap_or_else(PoisonError::into_inner);
        Self::with(Turn::Alone { _guard: guard }, server(HERE, false), names)
    }

    pub fn at(address: IpAddr, names: &[&str]) -> Self {
        let guard = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Self::with(Turn::Shared { _guard: guard }, server(address, false), names)
    }

    /// With a server that has room for little at a time.
    pub fn narrow(names: &[&str]) -> Self {
        let guard = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Self::with(Turn::Shared { _guard: guard }, server(HERE, true), names)
    }

    fn with(turn: Turn, server: Server, names: &[&str]) -> Self {
        let world = World::shared();
        for name in names {
            world.grant(name, server.address.ip(), server.address.port());
        }
        Self { world, server, _turn: turn }
    }

    /// An agent's socket that is connected to the server.
    pub fn connect(&self) -> TcpStream {
        self.socket_with(|_| {})
    }

    /// The same, after `prepare`.
    pub fn socket_with(&self, prepare: impl FnOnce(&Socket)) -> TcpStream {
        let domain = Domain::for_address(self.server.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("socket");
        prepare(&socket);
        socket.connect(&self.server.address.into()).expect("connected");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(PATIENCE)).expect("patience");
        stream
    }

    /// Sends `pieces`, each in a call of its own, over a fresh connection to a server that answers as soon as
    /// it has all of them; and ends it once it is known what came of them.
    pub fn send(&self, pieces: &[&[u8]]) -> Outcome {
        let total = pieces.iter().map(|piece| piece.len()).sum();
        self.converse(vec![(total, SERVER_HELLO.to_vec())], pieces)
    }

    /// The same, with a server of another mind.
    pub fn converse(&self, script: Script, pieces: &[&[u8]]) -> Outcome {
        self.server.answers(script);
        self.say(self.connect(), pieces)
    }

    /// Sends `pieces` over `stream`, each in a call of its own, and ends it.
    pub fn say(&self, mut stream: TcpStream, pieces: &[&[u8]]) -> Outcome {
        let mut error = None;
        for piece in pieces {
            if let Err(failure) = stream.write_all(piece) {
                error.get_or_insert(failure.kind());
                break;
            }
        }
        self.finish(stream, error)
    }

    /// Waits for what becomes of a flow, and ends it.
    pub fn finish(&self, mut stream: TcpStream, error: Option<io::ErrorKind>) -> Outcome {
        let port = stream.local_addr().expect("address").port();
        stream.set_read_timeout(Some(Duration::from_millis(5))).expect("timeout");
        let mut seen_by_client = Vec::new();
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while error.is_none() && Instant::now() < end {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    seen_by_client.extend_from_slice(&buffer[..count]);
                    break;
                }
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            if self.events(port).iter().any(|event| event.reason.is_some()) {
                break;
            }
        }
        // With a reset: what is held back must not keep the end from the server.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
        drop(stream);
        let arrived = self.arrived(port);
        Outcome { arrived, seen_by_client, error, events: self.events(port) }
    }

    /// Reads the server's next octets.
    pub fn hear(stream: &mut TcpStream) -> Vec<u8> {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut buffer = [0; 4096];
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) => panic!("no answer: {error}"),
        };
        buffer[..count].to_vec()
    }

    /// What the server got from `port`, once that flow has ended.
    pub fn arrived(&self, port: u16) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            let flow = self.server.flow(port);
            if flow.ended || Instant::now() > end {
                return flow.arrived;
            }
            std::thread::yield_now();
        }
    }

    /// What was reported of the flow from `source_port`.
    pub fn events(&self, source_port: u16) -> Vec<Seen> {
        let events = self.world.events(self.server.address.port());
        events.into_iter().filter(|event| event.source_port == source_port).collect()
    }

    pub fn gate(&self) -> u16 {
        self.world.gate(self.server.address.ip(), self.server.address.port())
    }
}

/// What an honest server may begin with: a ServerHello, as far as the programs read it.
pub const SERVER_HELLO: &[u8] = &[
    22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0x13, 1, 0, 0, 0,
];

/// Servers are made while this process is outside: by a stock that is filled before the world is made.
fn server(address: IpAddr, is_narrow: bool) -> Server {
    static STOCK: OnceLock<Mutex<Vec<Server>>> = OnceLock::new();
    let stock = STOCK.get_or_init(|| {
        let six = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
        let servers = (0..SERVERS).map(|_| Server::listen(HERE));
        let others =
            (0..4).map(|_| Server::listen(six)).chain((0..NARROW_SERVERS).map(|_| Server::narrow(HERE)));
        Mutex::new(servers.chain(others).collect())
    });
    let mut stock = crate::world::locked(stock);
    let is_one = |server: &Server| server.address.ip() == address && server.is_narrow == is_narrow;
    let at = stock.iter().position(is_one).expect("enough in stock");
    stock.swap_remove(at)
}

/// As many as there are tests, and some.
const SERVERS: usize = 96;
const NARROW_SERVERS: usize = 24;
