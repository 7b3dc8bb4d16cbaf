//! What leaves for an upstream, octet by octet, whatever an agent sends.

use crate::{
    kernel::{Kernel, Watcher},
    lab::{PATIENCE, agent, allow, now, question, receive, serve},
    upstream::bind,
};
use egressd::{
    audit::{Event, Recorder},
    dns::{Ask, Gate, Upstream},
    policy::Policy,
};
use hickory_proto::{
    op::Message,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::UdpSocket, sync::mpsc::Receiver, task::JoinHandle, time::timeout};

#[tokio::test]
async fn a_question_upstream_is_the_same_whatever_the_agent_put_around_the_name() {
    let (udp, _tcp) = bind().await;
    let resolver = Upstream::to(&[udp.local_addr().unwrap()]).unwrap();
    let desk = Desk::start(allow(&["*.ok.test"]), resolver).await;
    for (number, nasty) in [plain, spelt, flagged, with_options].into_iter().enumerate() {
        let name = format!("name-{number}.ok.test");
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&nasty(&name), desk.address).await.unwrap();
        let mut kinds = [one_question(&udp, &name).await, one_question(&udp, &name).await];
        kinds.sort_unstable();
        assert_eq!(kinds, [1, 28], "both families, whichever was asked for");
        let answer = Message::from_vec(&receive(&socket).await).unwrap();
        assert_eq!(answer.answers.len(), 1, "{answer}");
    }
}

/// Reads one question and answers it; its type. All else of it is what it always is.
async fn one_question(udp: &UdpSocket, name: &str) -> u16 {
    let mut buffer = [0; 2048];
    let (length, peer) = timeout(PATIENCE, udp.recv_from(&mut buffer)).await.unwrap().unwrap();
    let message = &buffer[..length];
    let end = 12 + name.len() + 2;
    assert_eq!(message[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 1], "recursion is desired, and nothing else");
    let labels: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    assert!(message[12..end - 1].eq_ignore_ascii_case(&labels) && message[end - 1] == 0);
    assert_eq!(message[end + 2..end + 4], [0, 1], "class IN");
    assert_eq!(message[end + 4..], [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0], "1232 octets, and no option");
    udp.send_to(&answer(message), peer).await.unwrap();
    u16::from_be_bytes([message[end], message[end + 1]])
}

fn answer(query: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let data = if query.queries[0].query_type() == RecordType::A {
        RData::A(A::new(9, 9, 9, 1))
    } else {
        RData::AAAA(AAAA::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 9))
    };
    let mut message = query.clone().into_response();
    message.answers = vec![Record::from_rdata(query.queries[0].name().clone(), 60, data)];
    message.to_vec().unwrap()
}

fn plain(name: &str) -> Vec<u8> {
    let mut query = question(name, RecordType::A);
    query.edns = None;
    query.to_vec().unwrap()
}

fn spelt(name: &str) -> Vec<u8> {
    let mut query = question(name, RecordType::AAAA);
    query.metadata.id = 0x5345;
    query.queries[0].set_name(Name::from_ascii(name.to_uppercase() + ".").unwrap());
    query.to_vec().unwrap()
}

fn flagged(name: &str) -> Vec<u8> {
    let mut query = question(name, RecordType::A);
    query.metadata.checking_disabled = true;
    query.metadata.authentic_data = true;
    query.metadata.recursion_desired = false;
    let edns = query.edns.as_mut().unwrap();
    edns.set_max_payload(65_535).set_dnssec_ok(true);
    query.to_vec().unwrap()
}

/// A client subnet, a cookie, padding and an option that nobody knows (RFC 7871, 7873, 7830).
fn with_options(name: &str) -> Vec<u8> {
    let mut message = question(name, RecordType::A).to_vec().unwrap();
    let options = [
        &[0, 8, 0, 7, 0, 1, 24, 0, 83, 69, 67][..],
        &[0, 10, 0, 8, 83, 69, 67, 82, 69, 84, 83, 33],
        &[0, 12, 0, 2, 83, 69],
        &[0xfd, 0xe9, 0, 3, 83, 69, 67],
    ]
    .concat();
    let length = message.len();
    message[length - 2..].copy_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
    message.extend(options);
    message
}

/// A resolver of ours that asks `upstream`.
pub struct Desk {
    pub address: SocketAddr,
    pub events: Receiver<Event>,
    _serving: JoinHandle<()>,
}

impl Desk {
    pub async fn start(policy: Policy, upstream: impl Ask + 'static) -> Self {
        let (recorder, events) = Recorder::new(64);
        let kernel = Arc::new(Kernel::willing());
        let upstream = Arc::new(upstream);
        let gate = Gate::new(upstream.clone(), upstream, kernel, Arc::new(Watcher::default()), recorder, now);
        let (address, serving) = serve(&agent(1, policy), &gate).await;
        Self { address, events, _serving: serving }
    }
}
