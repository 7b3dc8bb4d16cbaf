//! What the verdict costs each packet and each connect(2): ours, and those of nftables and iptables.

mod aims;
mod crowd;
mod empty;
mod filters;
mod lines;
pub mod pump;

use crate::{
    fence::Fence,
    lab::Lab,
    leaks::random::Random,
    measures::Measures,
    places::{DB, Place},
    programs, runs, storm,
    tls::stage::quick_lab,
};
pub use crowd::fill_networks;
use filters::Filter;
use lines::{Line, Place as At};
use pump::Act;
use socket2::{Domain, Socket, Type};
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// How full the maps are.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Beside those that are measured, with [`Self::grants`] each.
    pub agents: u32,
    pub grants: u32,
    /// Of the agent that is granted networks.
    pub networks: u32,
}

/// Every act by everyone, in an order that differs from round to round, so that what else the machine does falls on
/// all of them alike.
pub fn bench(rounds: usize, seconds: f64, crowd: Crowd) -> Measures {
    let Crowd { agents, grants, networks } = crowd;
    let mut measures = Measures::new(format!(
        "datapath: {rounds} bursts of {seconds} s, in random order; in egressd's maps {agents} agents with \
         {grants} grants each, and {networks} networks"
    ));
    let stage = Stage::set(crowd);
    let lines = stage.lines(crowd);
    let mut random = Random::of("datapath");
    for _ in 0..rounds {
        let order = random.shuffled(lines.iter().enumerate().collect());
        let mut took: Vec<_> =
            order.into_iter().map(|(place, line)| (place, line, line.burst(seconds).0)).collect();
        took.sort_by_key(|(place, ..)| *place);
        for (_, line, nanoseconds) in took {
            measures.add(line.case, line.subject, "time", "ns", nanoseconds);
        }
    }
    for line in lines.iter().filter(|line| line.is_of(&stage.alone)) {
        let case = format!("{}, {}", line.case, line.subject);
        runs::measure(&stage.alone, &case, || line.burst(seconds).1, &mut measures);
    }
    measures.aims = aims::judge(&measures);
    measures
}

const SEND: &str = "a datagram on a connected socket";
const SEND_TO: &str = "a datagram to an address";
const SEND_V6: &str = "a datagram on a connected socket, IPv6";
const CONNECT: &str = "connect(2), TCP";

const NOTHING: &str = "nothing";
const EMPTY: &str = "an empty program";
const ALONE: &str = "egressd, its programs alone";
const WHOLE: &str = "egressd, with its second deny";
const BESIDE: &str = "who is no agent, beside egressd";
const NETWORKS: &str = "egressd, by a network";
const BUDGETS: &str = "egressd, with budgets of agent and rule";

/// Who takes what is sent.
const SINK: Place = DB;
const PORT: u16 = 7777;

/// Hosts alike, each with an internet behind it: what a fence adds to one is not on the way of the others.
struct Stage {
    whole: Fence,
    alone: Fence,
    bare: lines::Bare,
    _sinks: Vec<UdpSocket>,
    _folder: TempDir,
}

impl Stage {
    fn set(crowd: Crowd) -> Self {
        let labs = [quick_lab(), quick_lab(), quick_lab()];
        let sinks = labs.iter().flat_map(sink).collect();
        let [bare, alone, whole] = labs;
        Filter::prepare(&bare);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let without = storm::without_second_deny(programs(), folder.path());
        let alone = Fence::start(alone, without, POLICY);
        let whole = Fence::start(whole, programs(), POLICY);
        for fence in [&alone, &whole] {
            crowd::fill_grants(fence, crowd.agents, crowd.grants).expect("the map has room for the crowd");
        }
        Self { whole, alone, bare: lines::Bare::new(bare), _sinks: sinks, _folder: folder }
    }

    /// All that is measured; in each case first what the others are compared with.
    fn lines(&self, crowd: Crowd) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        for (case, act, v6) in [
            (SEND, Act::Send, false),
            (SEND_TO, Act::SendTo, false),
            (SEND_V6, Act::Send, true),
            (CONNECT, Act::Connect, false),
        ] {
            let mut add = |subject, at| lines.push(Line::start(case, subject, at, act, v6));
            add(NOTHING, At::Bare(&self.bare, None));
            add(EMPTY, At::Empty(&self.bare));
            add(ALONE, At::Agent(&self.alone, "grants"));
            add(WHOLE, At::Agent(&self.whole, "grants"));
            add(BESIDE, At::Beside(&self.whole));
            if matches!(case, SEND | SEND_TO | CONNECT) {
                add(BUDGETS, At::Agent(&self.alone, "budgets"));
            }
            if matches!(case, SEND | SEND_TO) {
                add(NETWORKS, At::Agent(&self.alone, "networks"));
            }
            if matches!(case, SEND | CONNECT) {
                Filter::ALL
                    .into_iter()
                    .for_each(|filter| add(filter.name(), At::Bare(&self.bare, Some(filter))));
            }
        }
        let filled = crowd::fill_networks(&self.alone, "networks", crowd.networks);
        filled.expect("the map has room for networks");
        lines
    }
}

/// Sockets that take datagrams and read none, and a thread that takes connections and drops them.
fn sink(lab: &Lab) -> Vec<UdpSocket> {
    let at = |ip: IpAddr| SocketAddr::new(ip, PORT);
    let (sockets, listener) = lab.on_inet(|| {
        let socket = |ip| UdpSocket::bind(at(ip)).expect("a sink can be bound");
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        listener.bind(&at(SINK.v4.into()).into()).expect("a sink can be bound");
        listener.listen(BACKLOG).expect("it can listen");
        ([SINK.v4.into(), SINK.v6.into()].map(socket), listener)
    });
    listener.set_nonblocking(true).expect("a socket can be told not to wait");
    // It ends with the program. It does not wait for connections, for to wake it would cost more than all that is
    // measured.
    thread::spawn(move || {
        loop {
            while listener.accept().is_ok() {}
            thread::sleep(Duration::from_millis(1));
        }
    });
    sockets.into()
}

/// Many more connections than can be made while nobody takes them.
const BACKLOG: i32 = 4096;

const POLICY: &str = "
version: 1
agents:
  grants:
    rules:
      - {host: db.test, protocol: udp, ports: [7777], private: true}
      - {host: db.test, protocol: tcp, ports: [7777], private: true}
  budgets:
    max_bytes: 1000000000GB
    max_connections: 1000000000000
    rules:
      - {host: db.test, protocol: udp, ports: [7777], private: true, max_bytes: 1000000000GB, max_connections: 1000000000000, rate: 1000000/s}
      - {host: db.test, protocol: tcp, ports: [7777], private: true, max_bytes: 1000000000GB, max_connections: 1000000000000, rate: 1000000/s}
  networks:
    rules:
      - {cidr: 10.99.0.0/24, protocol: udp, ports: [7777]}
";
