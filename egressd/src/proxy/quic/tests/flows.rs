//! Flows of crafted datagrams through the gate.

use super::client::{ACK, Client, crypto, hello, hello_with};
use crate::{
    policy::{
        AgentId, Denial, Ech, HostName, Permit, Protocol::Quic, Reason, Rule, RuleId, Spend, TlsTerms,
        Transport, Usage,
    },
    proxy::{
        origin::Caller,
        quic::{flow::Flow, open::Door},
        tests::lab::{Lab, UPSTREAM, host, within},
    },
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::UdpSocket, sync::Semaphore, time::Instant};

const CLIENT: Client = Client::new(b"original");

/// A 0-RTT packet.
const EARLY_DATA: [&[u8]; 4] = [&[0xd0, 0, 0, 0, 1, 8], b"original", &[0, 4], b"0rtt"];

#[tokio::test]
async fn what_came_before_its_name_was_judged_is_passed_on_as_it_came() {
    let mut lab = Flows::start().await;
    let hello = hello("ok.test");
    let sent = [
        CLIENT.says(0, &[crypto(70, &hello[70..])]),
        EARLY_DATA.concat(),
        CLIENT.says(1, &[crypto(0, &hello[..70])]),
        Client { to: b"server", ..CLIENT }.says(2, &[ACK.to_vec()]),
        b"\x40short header".to_vec(),
    ];
    for datagram in &sent {
        lab.send(datagram).await;
    }
    for datagram in &sent {
        assert_eq!(&lab.arrives().await, datagram);
    }
    lab.lab.allows("ok.test").await;
    lab.upstream.send_to(b"answer", lab.from).await.unwrap();
    assert_eq!(lab.answer().await, b"answer");
}

#[tokio::test]
async fn a_version_that_nobody_knows_is_told_those_that_there_are() {
    let mut lab = Flows::start().await;
    let mut draft = CLIENT.hello("ok.test");
    draft[1..5].copy_from_slice(&0xff00_001d_u32.to_be_bytes());
    lab.send(&draft).await;
    let expected =
        [&[0xc0, 0, 0, 0, 0, 6][..], b"client", &[8], b"original", &[0, 0, 0, 1], &[0x6b, 0x33, 0x43, 0xcf]];
    assert_eq!(lab.answer().await, expected.concat());
    let event = lab.lab.denies(Reason::InitialMalformed).await;
    assert_eq!(event.detail.unwrap(), "QUIC version 0xff00001d is not known here");
}

#[tokio::test]
async fn what_is_no_quic_is_denied_once_and_nothing_leaves() {
    let mut lab = Flows::start().await;
    lab.send(b"\x16\xfe\xfd hello, datagrams of TLS").await;
    lab.lab.denies(Reason::InitialMalformed).await;
    lab.send(b"\x40again").await;
    // The flow begins all the same once it does as it should.
    let hello = CLIENT.hello("ok.test");
    lab.send(&hello).await;
    assert_eq!(lab.arrives().await, hello);
    lab.lab.allows("ok.test").await;
}

#[tokio::test]
async fn encrypted_client_hello_is_judged_by_the_terms_of_the_rule() {
    for (ech, passes) in [(Ech::Refuse, false), (Ech::Grease, true), (Ech::Allow, true)] {
        let mut lab = Flows::start_with(|rule| rule.tls = TlsTerms { ech, ..TlsTerms::default() }).await;
        // Outer; HKDF-SHA256, AES-128-GCM; configuration 9; key of 32 octets; payload of 16.
        let hidden = [&[0, 0, 1, 0, 1, 9, 0, 32][..], &[5; 32], &[0, 16], &[6; 16]].concat();
        let datagram = CLIENT.says(0, &[crypto(0, &hello_with("ok.test", &[(0xfe0d, hidden)]))]);
        lab.send(&datagram).await;
        match passes {
            true => assert_eq!(lab.arrives().await, datagram),
            false => {
                lab.answer().await;
                lab.lab.denies(Reason::EchNotAllowed).await;
            }
        }
    }
}

#[tokio::test]
async fn what_a_socket_sends_is_paid_for_by_the_rules_of_all_names_that_it_has_named_or_does_not_leave() {
    let mut lab =
        Flows::start_by(|port| ["ok.test", "dear.test"].map(|name| host(name, port, Quic)).into()).await;
    lab.lab.grant("dear.test", UPSTREAM, Quic);
    let [ok, dear] = ["ok.test", "dear.test"].map(|name| lab.rule(name));
    let tolls = Arc::new(Tolls::default());
    lab.lab.gate.spend_by(tolls.clone());
    let sent =
        [CLIENT.hello("ok.test"), Client::new(b"another!").hello("dear.test"), b"\x40of either".to_vec()];
    for datagram in &sent {
        lab.send(datagram).await;
        assert_eq!(&lab.arrives().await, datagram);
    }
    let paid = |rule| tolls.paid.lock().unwrap().get(&rule).copied();
    let sum = |sent: &[Vec<u8>]| Some(sent.iter().map(|datagram| datagram.len() as u64).sum::<u64>());
    assert_eq!((paid(ok), paid(dear)), (sum(&sent), sum(&sent[1..])));
    *tolls.broke.lock().unwrap() = Some(dear);
    lab.send(b"\x40too dear").await;
    lab.lab.allows("ok.test").await;
    lab.lab.allows("dear.test").await;
    lab.lab.denies(Reason::BudgetSpent).await;
    assert_eq!((paid(ok), paid(dear)), (sum(&sent), sum(&sent[1..])), "what did not leave was paid for");
    *tolls.broke.lock().unwrap() = None;
    lab.send(b"").await;
    lab.send(b"\x40paid").await;
    assert_eq!(lab.arrives().await, b"\x40paid");
}

#[tokio::test]
async fn one_agents_flood_ends_at_its_own_bound() {
    let mut lab = Flows::start().await;
    let mut others = Vec::new();
    for _ in 0..Lab::QUIC_FLOWS {
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        other.send_to(&CLIENT.hello("evil.test"), lab.lab.quic).await.unwrap();
        lab.lab.denies(Reason::HostNotAllowed).await;
        others.push(other);
    }
    lab.send(&CLIENT.hello("ok.test")).await;
    lab.answer().await;
    lab.lab.denies(Reason::QuotaExceeded).await;
}

#[tokio::test]
async fn a_flow_that_the_kernel_did_not_redirect_is_denied() {
    let mut lab = Flows::start().await;
    lab.lab.redirects_from(None);
    lab.send(&CLIENT.hello("ok.test")).await;
    lab.lab.denies(Reason::OriginalDestinationUnknown).await;
}

#[tokio::test]
async fn a_flow_that_names_nobody_is_denied_after_five_seconds_and_ends_after_a_minute_of_silence() {
    let mut lab = Flows::start().await;
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut flow = lab.flow().await;
    flow.take(&CLIENT.says(0, &[crypto(9, b"part")]), start);
    assert!(flow.deny_overdue(after(4)).is_empty());
    assert_eq!(flow.deny_overdue(after(5)).len(), 1);
    lab.lab.denies(Reason::HelloTimeout).await;
    assert!(flow.deny_overdue(after(6)).is_empty());
    assert!(!flow.is_over(after(59)));
    assert!(flow.take(&CLIENT.says(1, &[ACK.to_vec()]), after(50)).is_some(), "is told again");
    assert!(!flow.is_over(after(109)));
    assert!(flow.is_over(after(110)));

    let mut flow = lab.flow().await;
    flow.take(&EARLY_DATA.concat(), Instant::now());
    assert!(flow.deny_overdue(Instant::now() + Duration::from_secs(5)).is_empty(), "nobody to tell");
    lab.lab.denies(Reason::HelloTimeout).await;
}

/// A lab with one socket of the agent, and one at the upstream.
struct Flows {
    lab: Lab,
    agent: UdpSocket,
    upstream: UdpSocket,
    /// Whence the gate speaks to the upstream.
    from: std::net::SocketAddr,
}

impl Flows {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl Fn(&mut Rule)) -> Self {
        Self::start_by(|port| {
            let mut rule = host("ok.test", port, Quic);
            change(&mut rule);
            vec![rule]
        })
        .await
    }

    async fn start_by(rules: impl FnOnce(u16) -> Vec<Rule>) -> Self {
        let lab = Lab::start(rules).await;
        lab.grant("ok.test", UPSTREAM, Quic);
        let upstream = UdpSocket::bind((UPSTREAM, lab.port)).await.unwrap();
        let agent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        agent.connect(lab.quic).await.unwrap();
        let from = lab.quic;
        Self { lab, agent, upstream, from }
    }

    /// The rule that opens `name`.
    fn rule(&self, name: &str) -> RuleId {
        let name = HostName::parse(name).unwrap();
        self.lab.agent.lookup(&name).unwrap().openings()[0].rule
    }

    /// A flow of its own to the upstream.
    async fn flow(&self) -> Flow {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let peer = self.agent.local_addr().unwrap();
        let (agent, gate) = (Arc::clone(&self.lab.agent), Arc::clone(&self.lab.gate));
        let caller = Caller::identify(agent, gate, Transport::Udp, peer);
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Flow::new(caller, (UPSTREAM, self.lab.port).into(), Door { socket, peer }, slot)
    }

    async fn send(&self, datagram: &[u8]) {
        self.agent.send(datagram).await.unwrap();
    }

    /// The next datagram that reaches the upstream.
    async fn arrives(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 0xffff];
        let (length, from) = within(self.upstream.recv_from(&mut buffer)).await.unwrap();
        self.from = from;
        buffer.truncate(length);
        buffer
    }

    /// The next datagram that the agent gets.
    async fn answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 0xffff];
        let length = within(self.agent.recv(&mut buffer)).await.unwrap();
        buffer.truncate(length);
        buffer
    }
}

/// What each rule has paid, and which one cannot.
#[derive(Default)]
struct Tolls {
    paid: Mutex<HashMap<RuleId, u64>>,
    broke: Mutex<Option<RuleId>>,
}

impl Spend for Tolls {
    fn spend(&self, _: AgentId, permit: &Permit, usage: Usage) -> Result<(), Denial> {
        if *self.broke.lock().unwrap() == Some(permit.rule()) {
            return Err(Denial::because(Reason::BudgetSpent));
        }
        *self.paid.lock().unwrap().entry(permit.rule()).or_default() += usage.octets;
        Ok(())
    }

    fn give_back(&self, _: AgentId, permit: &Permit, usage: Usage) {
        *self.paid.lock().unwrap().entry(permit.rule()).or_default() -= usage.octets;
    }
}
