//! What a flow may use up: nothing beyond it goes upstream, by whatever way.

use super::{bytes::client_hello, lab::*};
use crate::policy::{AgentId, Denial, Permit, Protocol, Protocol::*, Reason, Spend, Usage};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_redirected_flow_carries_no_octet_more_than_it_may() {
    for most in [100_000, 5_000_000] {
        let (mut lab, budget) = lab_with(Tls, most, 1).await;
        let mut agent = lab.redirected().await;
        agent.write_all(&client_hello("ok.test")).await.unwrap();
        let carried = carried(&lab, &mut agent).await;
        // The reset that ends it overtakes what waits to be sent.
        assert!(carried <= most && carried > most / 10, "{carried} of {most}");
        assert_eq!(budget.left(), (0, 0));
        lab.allows("ok.test").await;
        assert_eq!(lab.event().await.reason, Some(Reason::BudgetSpent));
    }
}

#[tokio::test]
async fn a_tunnel_carries_no_octet_more_than_it_may() {
    let (mut lab, budget) = lab_with(Tcp, 100_000, 1).await;
    lab.resolves("ok.test", &[UPSTREAM]);
    let mut agent =
        lab.proxied(&format!("CONNECT ok.test:{0} HTTP/1.1\r\nHost: ok.test:{0}\r\n\r\n", lab.port)).await;
    let carried = carried(&lab, &mut agent).await;
    assert!(carried <= 100_000 && carried > 10_000, "{carried}");
    assert_eq!(budget.left(), (0, 0));
    lab.allows("ok.test").await;
    assert_eq!(lab.event().await.reason, Some(Reason::BudgetSpent));
}

#[tokio::test]
async fn a_flow_that_may_not_begin_is_denied_in_words_and_nothing_is_dialled() {
    let (mut lab, _) = lab_with(Tls, 1 << 20, 0).await;
    let mut agent = lab.redirected().await;
    agent.write_all(&client_hello("ok.test")).await.unwrap();
    assert_eq!(read_all(&mut agent).await.first(), Some(&21), "an alert");
    lab.denies(Reason::BudgetSpent).await;

    let (mut lab, _) = lab_with(Http, 1 << 20, 0).await;
    let mut agent = lab.redirected().await;
    agent.write_all(get(&lab).as_bytes()).await.unwrap();
    let answer = read_text(&mut agent).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("raise the budget"), "{answer}");
    lab.denies(Reason::BudgetSpent).await;
}

#[tokio::test]
async fn requests_of_one_connection_are_one_flow_and_their_octets_count() {
    let (mut lab, budget) = lab_with(Http, 10_000, 1).await;
    let mut agent = lab.redirected().await;
    agent.write_all(get(&lab).as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    for _ in 0..2 {
        answer(&mut upstream, &mut agent).await;
        lab.allows("ok.test").await;
        agent.write_all(get(&lab).as_bytes()).await.unwrap();
    }
    let (octets, flows) = budget.left();
    assert!(octets < 10_000 && flows == 0, "{octets}");
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn answer(upstream: &mut tokio::net::TcpStream, agent: &mut tokio::net::TcpStream) {
    use tokio::io::AsyncReadExt;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(upstream.read_u8()).await.unwrap());
    }
    upstream.write_all(OK.as_bytes()).await.unwrap();
    reads(agent, OK.as_bytes()).await;
}

fn get(lab: &Lab) -> String {
    format!("GET / HTTP/1.1\r\nHost: ok.test:{}\r\n\r\n", lab.port)
}

/// Sends until it is reset, and counts what arrives.
async fn carried(lab: &Lab, agent: &mut tokio::net::TcpStream) -> u64 {
    let mut upstream = lab.accept().await;
    let (mut from, mut to) = agent.split();
    // A server's first octets, without which nothing follows a hello.
    upstream.write_all(b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00").await.unwrap();
    let flood = async {
        let chunk = vec![7; 1 << 20];
        while to.write_all(&chunk).await.is_ok() {}
    };
    let drain = async {
        let mut sink = tokio::io::sink();
        let _ = tokio::io::copy(&mut from, &mut sink).await;
    };
    let count = async { read_all(&mut upstream).await.len() as u64 };
    let (count, (), ()) = within(async { tokio::join!(count, flood, drain) }).await;
    count
}

async fn lab_with(protocol: Protocol, octets: u64, flows: u64) -> (Lab, Arc<Budget>) {
    let lab = Lab::start(|port| vec![host("ok.test", port, protocol)]).await;
    lab.grant("ok.test", UPSTREAM, protocol);
    let budget = Arc::new(Budget { octets: AtomicU64::new(octets), flows: AtomicU64::new(flows) });
    lab.gate.spend_by(budget.clone());
    (lab, budget)
}

/// What is left of one budget for all.
struct Budget {
    octets: AtomicU64,
    flows: AtomicU64,
}

impl Budget {
    fn left(&self) -> (u64, u64) {
        (self.octets.load(Ordering::SeqCst), self.flows.load(Ordering::SeqCst))
    }
}

impl Spend for Budget {
    fn spend(&self, _: AgentId, permit: &Permit, usage: Usage) -> Result<(), Denial> {
        let spent = Denial { reason: Reason::BudgetSpent, rule: permit.source().cloned() };
        let take = |from: &AtomicU64, amount: u64| {
            let less = |left: u64| left.checked_sub(amount);
            from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).map_err(|_| spent.clone())
        };
        take(&self.octets, usage.octets)?;
        take(&self.flows, usage.flows).map(drop).inspect_err(|_| {
            self.octets.fetch_add(usage.octets, Ordering::SeqCst);
        })
    }

    fn give_back(&self, _: AgentId, _: &Permit, usage: Usage) {
        self.octets.fetch_add(usage.octets, Ordering::SeqCst);
        self.flows.fetch_add(usage.flows, Ordering::SeqCst);
    }
}
