//! Sends or connects, in bursts, as often as it is told to.

use clap::{Parser, ValueEnum};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::{Duration, Instant},
};

/// Says that it is ready, then for each line of input, which is a number of seconds, how long an act took
#[derive(Debug, Clone, Parser)]
pub struct Pump {
    #[arg(value_enum)]
    act: Act,
    #[arg(long)]
    to: SocketAddr,
    /// Ask for its addresses first, as who is granted them by name must
    #[arg(long)]
    name: Option<String>,
    /// The processor to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Send a datagram on a connected socket
    Send,
    /// Send a datagram to an address
    SendTo,
    /// Connect by TCP
    Connect,
}

impl Pump {
    pub fn run(&self) {
        let mut set = CpuSet::new();
        set.set(self.cpu).expect("there is such a processor");
        sched_setaffinity(Pid::from_raw(0), &set).expect("a process may choose its processor");
        if let Some(name) = &self.name {
            let _ = (name.as_str(), self.to.port()).to_socket_addrs().expect("the name resolves").count();
        }
        let socket = self.socket();
        println!("{}", json!({ "ready": true }));
        for line in io::stdin().lines().map_while(Result::ok) {
            let seconds = line.parse().expect("a line is a number of seconds");
            let (nanoseconds, acts) = self.burst(&socket, Duration::from_secs_f64(seconds));
            println!("{}", json!({ "nanoseconds": nanoseconds, "acts": acts }));
        }
    }

    fn socket(&self) -> UdpSocket {
        let any = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("a socket can be bound");
        if self.act == Act::Send {
            socket.connect(self.to).expect("the address is granted");
        }
        socket
    }

    /// Nanoseconds of an act: the median of many, which is the same whatever interrupts some of them. And
    /// how many there were.
    fn burst(&self, socket: &UdpSocket, time: Duration) -> (f64, u64) {
        let (start, mut took) = (Instant::now(), Vec::new());
        while start.elapsed() < time {
            took.push(match self.act {
                Act::Connect => connect(self.to),
                Act::Send => some(|| socket.send(&PAYLOAD)),
                Act::SendTo => some(|| socket.send_to(&PAYLOAD, self.to)),
            });
        }
        took.sort_by(f64::total_cmp);
        let each = if self.act == Act::Connect { 1 } else { SOME };
        (took[took.len() / 2], took.len() as u64 * u64::from(each))
    }
}

/// Nanoseconds of a send, on average of [`SOME`].
fn some(mut send: impl FnMut() -> io::Result<usize>) -> f64 {
    let start = Instant::now();
    for _ in 0..SOME {
        send().expect("a datagram may leave");
    }
    start.elapsed().as_nanos() as f64 / f64::from(SOME)
}

/// Nanoseconds of connect(2). The flow is reset, so that nothing of it stays.
fn connect(to: SocketAddr) -> f64 {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket can be made");
    socket.set_linger(Some(Duration::ZERO)).expect("a socket can be told how to end");
    let to = SockAddr::from(to);
    let start = Instant::now();
    socket.connect(&to).expect("the flow is granted");
    start.elapsed().as_nanos() as f64
}

/// Sends between two looks at the clock.
const SOME: u32 = 16;
const PAYLOAD: [u8; 64] = [0x5a; 64];
