//! Plumbing of the live part: an upstream that writes names down, what counts octets behind a tunnel, and
//! an agent that asks what a program outside of the fence wants asked.

use crate::{
    fence::Agent,
    lab::{INET_LINK, Lab},
    places,
};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The upstream of the lab, in front of its real one and of the tunnels' servers.
pub struct Upstream {
    names: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    /// Names below a zone are answered by its server on loopback, others by the lab's.
    pub fn start(lab: &Lab, zones: &'static [(&'static str, u16)]) -> Self {
        // And what is sent to a tunnel's other end comes through the tunnel, not by the link.
        let redirect = format!(
            "add table ip names; \
             add chain ip names in {{ type nat hook prerouting priority dstnat; }}; \
             add rule ip names in ip daddr {} udp dport 53 redirect to :{PORT}; \
             add chain ip names link {{ type filter hook prerouting priority raw; }}; \
             add rule ip names link iifname {} ip daddr {TUNNEL_SERVER} drop",
            places::DNS.v4,
            INET_LINK.to_str().expect("the name is ASCII"),
        );
        let status = lab.inet_command("nft").arg(redirect).status().expect("nft starts");
        assert!(status.success(), "questions to the lab's server can be redirected");
        let (names, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (its_names, its_stop) = (Arc::clone(&names), Arc::clone(&stop));
        lab.on_inet(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("the upstream can be bound");
            socket.set_read_timeout(Some(GLANCE)).expect("a socket has timeouts");
            // Threads stay in the namespace of the thread that starts them.
            thread::spawn(move || serve(&socket, zones, &its_names, &its_stop));
        });
        Self { names, stop }
    }

    /// Symbols in front of `zone`, of all names so far that are below it.
    pub fn symbols_below(&self, zone: &str) -> usize {
        let names = self.names.lock().expect("nobody panicked");
        let below = names.iter().filter(|name| is_below(name, zone));
        below.map(|name| name.len().saturating_sub(zone.len() + 1)).sum()
    }

    pub fn forget(&self) {
        self.names.lock().expect("nobody panicked").clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(
    socket: &UdpSocket,
    zones: &'static [(&'static str, u16)],
    names: &Mutex<BTreeSet<Vec<u8>>>,
    stop: &AtomicBool,
) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let message = buffer[..length].to_vec();
        let name = name(&message);
        let tunnel = zones.iter().find(|(zone, _)| is_below(&name, zone));
        names.lock().expect("nobody panicked").insert(name);
        let server = tunnel.map_or(SocketAddr::from((places::DNS.v4, 53)), |(_, port)| {
            SocketAddr::from((Ipv4Addr::LOCALHOST, *port))
        });
        let socket = socket.try_clone().expect("a socket can be cloned");
        thread::spawn(move || {
            if let Some(reply) = ask(&message, server) {
                let _ = socket.send_to(&reply, peer);
            }
        });
    }
}

fn ask(message: &[u8], server: SocketAddr) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.send_to(message, server).ok()?;
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

/// In lower case; upstream questions are spelt at random.
fn name(message: &[u8]) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while let Some(&length) = message.get(at).filter(|length| **length > 0) {
        let end = at + 1 + usize::from(length);
        labels.push(message.get(at + 1..end).unwrap_or_default().to_ascii_lowercase());
        at = end;
    }
    labels.join(&b'.')
}

fn is_below(name: &[u8], zone: &str) -> bool {
    name.strip_suffix(zone.as_bytes()).is_some_and(|rest| rest.ends_with(b"."))
}

/// Counts what comes out of a tunnel, by TCP and by UDP.
pub struct Sink(Arc<AtomicU64>);

impl Sink {
    pub fn start(lab: &Lab) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let (tcp_count, udp_count) = (Arc::clone(&count), Arc::clone(&count));
        lab.on_inet(|| {
            let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SINK)).expect("a sink can be bound");
            let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SINK)).expect("a sink can be bound");
            thread::spawn(move || {
                for mut stream in tcp.incoming().flatten() {
                    let mut buffer = [0; 4096];
                    while let Some(length) = stream.read(&mut buffer).ok().filter(|length| *length > 0) {
                        tcp_count.fetch_add(length as u64, Ordering::Relaxed);
                    }
                }
            });
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length) = udp.recv(&mut buffer) {
                    udp_count.fetch_add(length as u64, Ordering::Relaxed);
                }
            });
        });
        Self(count)
    }

    /// Octets since the last call.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An agent that asks its resolver whatever comes to [`RELAY`] on the host.
pub struct Relay {
    child: Child,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    pub fn start(lab: &Lab, agent: &Agent<'_>) -> Self {
        let mut command = agent.command(&["python3", "-c", ASKS]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the agent starts");
        let (mut to, mut from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let threads = lab.on_host(|| {
            let socket = UdpSocket::bind(RELAY).expect("the relay can be bound");
            socket.set_read_timeout(Some(GLANCE)).expect("a socket has timeouts");
            let answers = socket.try_clone().expect("a socket can be cloned");
            let asker = Arc::new(Mutex::new(None));
            let its_asker = Arc::clone(&asker);
            let asking = thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !is_over.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    *asker.lock().expect("nobody panicked") = Some(from);
                    let octets = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
                    if to.write_all(&[&octets, &buffer[..length]].concat()).is_err() {
                        return;
                    }
                }
            });
            let answering = thread::spawn(move || {
                let mut length = [0; 2];
                while from.read_exact(&mut length).is_ok() {
                    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                    let asker = *its_asker.lock().expect("nobody panicked");
                    if let (Ok(()), Some(asker)) = (from.read_exact(&mut message), asker) {
                        let _ = answers.send_to(&message, asker);
                    }
                }
            });
            vec![asking, answering]
        });
        Self { child, stop, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The agent ends with its input, and what it answers ends with the agent.
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
        let _ = self.child.wait();
    }
}

const ASKS: &str = r#"
import os, select, socket, struct
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.connect(("10.99.0.53", 53))
def whole(count):
    part = b""
    while len(part) < count:
        more = os.read(0, count - len(part))
        if not more: raise SystemExit
        part += more
    return part
while True:
    for ready in select.select([0, names], [], [])[0]:
        if ready == 0: names.send(whole(struct.unpack(">H", whole(2))[0]))
        else:
            answer = names.recv(65535)
            os.write(1, struct.pack(">H", len(answer)) + answer)
"#;

/// What iodine takes for its resolver.
pub const RELAY: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 77), 53);
/// Where tunnels lead, on the internet's side.
pub const SINK: u16 = 9100;
/// The other end of iodine's tunnel.
pub const TUNNEL_SERVER: &str = "10.53.0.1";
const PORT: u16 = 5300;
const GLANCE: Duration = Duration::from_millis(100);
/// As long as a resolver waits.
const PATIENCE: Duration = Duration::from_secs(4);
