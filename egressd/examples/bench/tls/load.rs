//! A load of TLS flows, made by this same program wherever a bench starts it: on the host, or inside an agent.

use super::{
    handshake::Handshaker,
    hello,
    server::{CHUNK, DOWN, UP},
};
use clap::{Parser, ValueEnum};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Says that it is ready; when it is told to, makes flows to a server, says how it went, and waits for the end of its
/// input
#[derive(Debug, Clone, Parser)]
pub struct Load {
    #[arg(value_enum)]
    act: Act,
    #[arg(long)]
    name: String,
    #[arg(long)]
    port: u16,
    /// Dial this instead of what the name resolves to
    #[arg(long)]
    via: Option<SocketAddr>,
    /// Ask there by CONNECT first
    #[arg(long, requires = "via")]
    connect: bool,
    #[arg(long)]
    seconds: f64,
    /// Before that, not measured
    #[arg(long, default_value_t = 0.1)]
    warm_up: f64,
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Flows a second; else as many as there can be
    #[arg(long)]
    rate: Option<u64>,
    /// Flows that are held open
    #[arg(long, default_value_t = 0)]
    count: usize,
    /// Whom to trust, where handshakes are real
    #[arg(long)]
    authority: Option<PathBuf>,
}

/// What is done with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Act {
    /// A ClientHello, an answer, the end
    Greet,
    /// A real handshake, a request, its answer, the end
    Fetch,
    /// One flow, to the server
    Up,
    /// One flow, from the server
    Down,
    /// Many flows, until there is no more input
    Idle,
}

impl Load {
    pub fn run(&self) {
        let target = Target::of(self);
        println!("{}", json!({ "ready": true }));
        let _ = io::stdin().read(&mut [0]);
        let (outcome, held) = match self.act {
            Act::Greet | Act::Fetch => (self.many(&target), Vec::new()),
            Act::Up | Act::Down => (self.bulk(&target), Vec::new()),
            Act::Idle => self.idle(&target),
        };
        println!("{outcome}");
        let _ = io::stdin().read(&mut [0]);
        drop(held);
    }

    fn many(&self, target: &Target) -> Value {
        let threads = if self.rate.is_some() { 1 } else { self.threads };
        let (start, made, failed) = (Barrier::new(threads), AtomicU64::new(0), AtomicU64::new(0));
        let before = processor_time();
        let latencies: Vec<Vec<u64>> = thread::scope(|scope| {
            let run = || {
                start.wait();
                self.line(target, &made, &failed)
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread of the load ends")).collect()
        });
        let mut latencies = latencies.concat();
        let took = processor_time() - before;
        latencies.sort_unstable();
        let at = |part: f64| {
            let index = latencies.len().saturating_sub(1) as f64 * part;
            latencies.get(index.round() as usize).map(|nanoseconds| *nanoseconds as f64 / 1e3)
        };
        json!({
            "rate": latencies.len() as f64 / self.seconds, "p50": at(0.5), "p99": at(0.99),
            "flows": made.into_inner(), "nanoseconds": took, "failed": failed.into_inner(),
        })
    }

    /// Nanoseconds of each flow of one thread, within the time that is measured.
    fn line(&self, target: &Target, made: &AtomicU64, failed: &AtomicU64) -> Vec<u64> {
        let every = self.rate.map(|rate| Duration::from_nanos(1_000_000_000 / rate));
        let start = Instant::now();
        let measured_from = start + Duration::from_secs_f64(self.warm_up);
        let end = measured_from + Duration::from_secs_f64(self.seconds);
        let (mut latencies, mut next) = (Vec::new(), start);
        loop {
            let begun = Instant::now();
            if begun >= end {
                return latencies;
            }
            match target.flow(self.act) {
                Ok(took) => {
                    made.fetch_add(1, Ordering::Relaxed);
                    if begun >= measured_from {
                        latencies.push(took.as_nanos() as u64);
                    }
                }
                Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
            }
            if let Some(every) = every {
                next += every;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn bulk(&self, target: &Target) -> Value {
        let mut stream = target.greeted().expect("the server can be reached");
        let mut chunk = vec![0; CHUNK];
        let is_up = self.act == Act::Up;
        stream.write_all(&[if is_up { UP } else { DOWN }]).expect("the server takes a word");
        let measured_from = Instant::now() + Duration::from_secs_f64(self.warm_up);
        let end = measured_from + Duration::from_secs_f64(self.seconds);
        let mut octets = 0;
        loop {
            let moved = if is_up { stream.write(&chunk) } else { stream.read(&mut chunk) };
            let moved = moved.expect("the flow goes on");
            let now = Instant::now();
            if now >= end || moved == 0 {
                break;
            }
            octets += if now >= measured_from { moved } else { 0 };
        }
        json!({ "rate": octets as f64 * 8.0 / 1e9 / self.seconds, "failed": 0, "flows": 1 })
    }

    fn idle(&self, target: &Target) -> (Value, Vec<TcpStream>) {
        let flows: Vec<_> = (0..self.count).filter_map(|_| target.greeted().ok()).collect();
        (json!({ "held": flows.len() }), flows)
    }
}

/// Where flows go, and what they say.
struct Target {
    address: SocketAddr,
    connect: Option<String>,
    hello: Vec<u8>,
    handshaker: Option<Handshaker>,
}

impl Target {
    fn of(load: &Load) -> Self {
        let destination = format!("{}:{}", load.name, load.port);
        let resolved = || destination.to_socket_addrs().ok()?.find(SocketAddr::is_ipv4);
        let address = load.via.or_else(resolved).expect("the name resolves");
        let request = format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n\r\n");
        Self {
            address,
            connect: load.connect.then_some(request),
            hello: hello::client(&load.name),
            handshaker: load.authority.as_deref().map(|path| Handshaker::new(&load.name, path)),
        }
    }

    /// A flow from its start to its answer: how long that took.
    fn flow(&self, act: Act) -> io::Result<Duration> {
        let start = Instant::now();
        match (act, &self.handshaker) {
            (Act::Fetch, Some(handshaker)) => handshaker.fetch(self.connected()?)?,
            _ => drop(self.greeted()?),
        }
        Ok(start.elapsed())
    }

    fn greeted(&self) -> io::Result<TcpStream> {
        let mut stream = self.connected()?;
        stream.write_all(&self.hello)?;
        match stream.read(&mut [0; 512])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            1..HELLO => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(stream),
        }
    }

    fn connected(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOST))?;
        if let Some(request) = &self.connect {
            stream.write_all(request.as_bytes())?;
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer)?;
            if !answer[..length].starts_with(b"HTTP/1.1 200") {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        }
        Ok(stream)
    }
}

/// Octets of an answer that is not an alert.
const HELLO: usize = 64;

/// After so long, an answer is taken for lost.
const LOST: Duration = Duration::from_secs(5);

/// Nanoseconds that this process has had a processor.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("there is such a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
