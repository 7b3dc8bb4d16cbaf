//! What happens to flows after they were let through.

use super::{
    bytes::{client_hello, server_hello},
    lab::*,
};
use crate::{
    audit::Verdict,
    policy::{Moment, Policy, Protocol::*, Reason},
};
use socket2::{Domain, Socket, Type};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Duration, timeout},
};

#[tokio::test]
async fn the_end_of_either_side_is_passed_on_while_the_other_still_sends() {
    for agent_first in [true, false] {
        let lab = lab().await;
        let (agent, upstream) = flow(&lab).await;
        let (mut first, mut second) = if agent_first { (agent, upstream) } else { (upstream, agent) };
        first.write_all(b"last words").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(read_all(&mut second).await, b"last words");
        second.write_all(b"and yet").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(read_all(&mut first).await, b"and yet");
    }
}

#[tokio::test]
async fn the_resolver_hears_of_a_flow_by_the_name_that_it_spoke() {
    let mut lab = Lab::start(|port| vec![host("ok.test", port, Tls), host("also.test", port, Tls)]).await;
    // One address, as a CDN has it for many: the name makes the difference.
    lab.grant("ok.test", UPSTREAM, Tls);
    lab.grant("also.test", UPSTREAM, Tls);
    let _flow = flow_to(&lab, "also.test").await;
    lab.allows("also.test").await;
    let mut denied = lab.redirected().await;
    denied.write_all(&client_hello("evil.test")).await.unwrap();
    read_all(&mut denied).await;
    assert_eq!(lab.event().await.reason, Some(Reason::HostNotAllowed));
    assert_eq!(lab.connected(), ["also.test"]);
}

#[tokio::test]
async fn a_reset_of_either_side_is_passed_on() {
    for agent_first in [true, false] {
        let lab = lab().await;
        let (agent, upstream) = flow(&lab).await;
        let (first, mut second) = if agent_first { (agent, upstream) } else { (upstream, agent) };
        first.set_zero_linger().unwrap();
        drop(first);
        let error = within(second.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_slow_reader_slows_its_writer_down_and_no_byte_is_lost() {
    let lab = lab().await;
    let (mut agent, mut upstream) = flow(&lab).await;
    let chunk: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut sent = 0_u64;
    // Nobody reads, so that in the end nobody can write.
    while let Ok(written) = timeout(Duration::from_millis(500), agent.write(&chunk)).await {
        sent += written.unwrap() as u64;
        assert!(sent < 64 << 20, "the relay swallows what nobody reads");
    }
    agent.shutdown().await.unwrap();
    let received = within(tokio::io::copy(&mut upstream, &mut tokio::io::sink())).await.unwrap();
    assert_eq!(received, sent);
}

#[tokio::test]
async fn large_transfers_in_both_directions_arrive_whole() {
    const SIZE: usize = 16 << 20;
    let lab = lab().await;
    let (agent, upstream) = flow(&lab).await;
    let exchange = |tcp: TcpStream| async move {
        let (mut reader, mut writer) = tcp.into_split();
        let bytes: Vec<u8> = (0..251).cycle().take(SIZE).collect();
        let expected = bytes.clone();
        let write = tokio::spawn(async move {
            writer.write_all(&bytes).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        write.await.unwrap();
        assert!(received == expected);
    };
    within(async { tokio::join!(exchange(agent), exchange(upstream)) }).await;
}

#[tokio::test]
async fn a_removed_rule_cuts_its_live_flows_and_only_those() {
    let mut lab = Lab::start(|port| vec![host("ok.test", port, Tls), host("kept.test", port, Tls)]).await;
    lab.grant("ok.test", UPSTREAM, Tls);
    lab.grant("kept.test", UPSTREAM, Tls);
    let (mut cut, mut cut_upstream) = flow_to(&lab, "ok.test").await;
    lab.allows("ok.test").await;
    let (mut kept, mut kept_upstream) = flow_to(&lab, "kept.test").await;
    lab.allows("kept.test").await;

    let rules = vec![host("kept.test", lab.port, Tls)];
    lab.agent.replace_policy(Arc::new(Policy::new(rules, Vec::new())));
    lab.gate.rejudge(&lab.agent, NOW);

    assert!(within(cut.read_u8()).await.is_err());
    assert!(within(cut_upstream.read_u8()).await.is_err());
    let event = lab.event().await;
    assert_eq!((event.verdict, event.reason), (Verdict::Deny, Some(Reason::RuleRemoved)));
    kept.write_all(b"on").await.unwrap();
    reads(&mut kept_upstream, b"on").await;
}

#[tokio::test]
async fn a_removed_rule_cuts_a_flow_whose_upstream_has_not_answered_yet() {
    let mut lab = lab().await;
    let _silent = silence(&mut lab).await;
    let mut agent = lab.redirected().await;
    agent.write_all(&client_hello("ok.test")).await.unwrap();
    within(async {
        while !connects(lab.port) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    lab.agent.replace_policy(Arc::new(Policy::new(Vec::new(), Vec::new())));
    lab.gate.rejudge(&lab.agent, NOW);
    assert!(within(agent.read_u8()).await.is_err());
    let event = lab.event().await;
    assert_eq!((event.verdict, event.reason), (Verdict::Deny, Some(Reason::RuleRemoved)));
}

#[tokio::test]
async fn a_deny_rule_that_is_added_cuts_the_flows_that_it_covers() {
    for subject in ["ok.test", "127.0.0.2/32"] {
        let lab = lab().await;
        let (mut agent, _upstream) = flow(&lab).await;
        let allow = vec![host("ok.test", lab.port, Tls)];
        let deny = if subject.contains('/') { network } else { host };
        lab.agent.replace_policy(Arc::new(Policy::new(allow, vec![deny(subject, lab.port, Tls)])));
        lab.gate.rejudge(&lab.agent, NOW);
        assert!(within(agent.read_u8()).await.is_err(), "{subject}");
    }
}

#[tokio::test]
async fn grants_that_expire_cut_no_flow() {
    let lab = lab().await;
    let (mut agent, mut upstream) = flow(&lab).await;
    lab.gate.rejudge(&lab.agent, Moment(1 << 60));
    agent.write_all(b"on").await.unwrap();
    reads(&mut upstream, b"on").await;
}

#[tokio::test]
async fn a_stopped_gate_leaves_no_relay_behind() {
    let mut lab = lab().await;
    let (mut agent, mut upstream) = flow(&lab).await;
    lab.server.shutdown().await;
    assert!(within(agent.read_u8()).await.is_err());
    assert!(within(upstream.read_u8()).await.is_err());
}

#[tokio::test]
async fn a_flood_is_shed_at_its_bound_and_ends_when_the_bound_has_room() {
    let mut lab = Lab::start_with(2, |port| vec![host("ok.test", port, Tls)]).await;
    lab.grant("ok.test", UPSTREAM, Tls);
    let (first, _upstream) = flow(&lab).await;
    lab.allows("ok.test").await;
    let _second = flow(&lab).await;
    lab.allows("ok.test").await;
    let mut third = lab.redirected().await;
    assert!(within(third.read_u8()).await.is_err());
    lab.denies(Reason::QuotaExceeded).await;

    first.set_zero_linger().unwrap();
    drop(first);
    let admitted = async {
        loop {
            let mut agent = lab.redirected().await;
            let _ = agent.write_all(&client_hello("ok.test")).await;
            if timeout(Duration::from_millis(200), lab.upstream.accept()).await.is_ok() {
                return;
            }
        }
    };
    within(admitted).await;
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_silent_for_a_quarter_of_an_hour_is_reset() {
    let mut lab = lab().await;
    let (mut agent, mut upstream) = flow(&lab).await;
    lab.allows("ok.test").await;
    let minutes = |count: u64| Duration::from_secs(count * 60);
    for _ in 0..3 {
        tokio::time::sleep(minutes(14)).await;
        upstream.write_all(b"x").await.unwrap();
        agent.read_u8().await.unwrap();
    }
    let silence = timeout(minutes(16), agent.read_u8()).await;
    assert!(silence.expect("ends by itself").is_err());
}

/// Puts an upstream into the place of the lab's that answers nobody: its queue is full.
async fn silence(lab: &mut Lab) -> (Socket, TcpStream) {
    let address = SocketAddr::new(UPSTREAM, lab.port);
    drop(std::mem::replace(&mut lab.upstream, TcpListener::bind("127.0.0.1:0").await.unwrap()));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    (socket, TcpStream::connect(address).await.unwrap())
}

/// Whether a socket of this network waits for the upstream at `port` to answer.
fn connects(port: u16) -> bool {
    const SYN_SENT: &str = "02";
    let wanted = format!(" 0200007F:{port:04X} {SYN_SENT} ");
    std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
}

/// A flow that was let through, and that its server has answered.
pub(super) async fn flow(lab: &Lab) -> (TcpStream, TcpStream) {
    flow_to(lab, "ok.test").await
}

async fn flow_to(lab: &Lab, name: &str) -> (TcpStream, TcpStream) {
    let (hello, answer) = (client_hello(name), server_hello([7; 32]));
    let mut agent = lab.redirected().await;
    agent.write_all(&hello).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, &hello).await;
    // Before it, nothing more of the agent is handed on.
    upstream.write_all(&answer).await.unwrap();
    reads(&mut agent, &answer).await;
    (agent, upstream)
}

pub(super) async fn lab() -> Lab {
    let lab = Lab::start(|port| vec![host("ok.test", port, Tls)]).await;
    lab.grant("ok.test", UPSTREAM, Tls);
    lab
}
