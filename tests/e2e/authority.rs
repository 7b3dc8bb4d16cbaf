//! A name server on the internet whose answers a scenario makes up: nsd's zones stand still.

use crate::{lab::Lab, places};
use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{RData, Record, RecordType},
};
use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Answers over UDP until it is dropped.
pub struct Authority {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Authority {
    /// Has the lab's internet own all of [`POOL`], and starts a server for `test` at [`AUTHORITY`].
    /// `addresses` says where a name is, each time it is asked; it has no IPv6 address.
    pub fn start(lab: &Lab, addresses: impl FnMut(&str) -> Vec<Ipv4Addr> + Send + 'static) -> Self {
        let routed = lab.inet_command("ip").args(["route", "add", "local", POOL, "dev", "lo"]).status();
        assert!(routed.is_ok_and(|status| status.success()), "the pool can be routed");
        let socket = lab.on_inet(|| UdpSocket::bind((AUTHORITY, 53)).expect("the address is free"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&socket, addresses, &stop)
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The flags of a daemon that asks it.
pub const FLAGS: &[&str] = &["--upstream", "10.99.16.53"];

/// Where it answers: in the pool.
const AUTHORITY: Ipv4Addr = Ipv4Addr::new(10, 99, 16, 53);

/// 4,096 addresses, of which [`address`] counts from the 256th.
const POOL: &str = "10.99.16.0/20";

/// An address of the pool; there are 3,840.
pub fn address(number: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(number % 3840 + 256).expect("the pool is small").to_be_bytes();
    let [first, second, ..] = places::GATEWAY_V4.octets();
    Ipv4Addr::new(first, second, 16 + high, low)
}

/// Whether `ip` may be one of them.
pub fn is_in_pool(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if (address(0)..=address(3839)).contains(v4))
}

fn serve(socket: &UdpSocket, mut addresses: impl FnMut(&str) -> Vec<Ipv4Addr>, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let reply =
                    Message::from_vec(&buffer[..length]).ok().map(|query| answer(&query, &mut addresses));
                let reply =
                    reply.and_then(|reply| reply.to_vec().ok()).expect("the daemon asks in plain DNS");
                let _ = socket.send_to(&reply, peer);
            }
            // Nobody asked, or an earlier answer found its port closed.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
            Err(error) => panic!("the authority failed: {error}"),
        }
    }
}

fn answer(query: &Message, addresses: &mut impl FnMut(&str) -> Vec<Ipv4Addr>) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.authoritative = true;
    for question in &query.queries {
        reply.add_query(question.clone());
        if question.query_type() == RecordType::A {
            let name = question.name().to_ascii().to_ascii_lowercase();
            for address in addresses(name.trim_end_matches('.')) {
                // As short as any CDN has it; the resolver makes it five seconds.
                reply.add_answer(Record::from_rdata(question.name().clone(), 1, RData::A(address.into())));
            }
        }
    }
    reply
}
