//! Transfers that are large enough for the kernel to move them by itself.

use super::{
    lab::*,
    live::{flow, lab},
};
use crate::{
    policy::{Policy, Protocol::*},
    proxy::share::MAX_PIPES_OF_AGENT,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_arrives_whole_both_ways_and_each_end_is_passed_on() {
    let lab = lab().await;
    let (agent, upstream) = flow(&lab).await;
    let (mut from_agent, mut to_agent) = agent.into_split();
    let (mut from_upstream, mut to_upstream) = upstream.into_split();
    let up = tokio::spawn(async move {
        send(&mut to_agent, HALF).await;
        to_agent.shutdown().await.unwrap();
        to_agent
    });
    let down = tokio::spawn(async move {
        // The other side has long ended by then, and this one still sends.
        send(&mut to_upstream, 2 * HALF).await;
        to_upstream.shutdown().await.unwrap();
        to_upstream
    });
    let received_up = tokio::spawn(async move { receive(&mut from_upstream).await });
    assert_eq!(receive(&mut from_agent).await, 2 * HALF);
    assert_eq!(received_up.await.unwrap(), HALF);
    drop((up.await, down.await));
    assert!(lab.gate.pipes.idle() > 0, "bytes were copied");
}

#[tokio::test]
async fn a_flow_that_falls_quiet_holds_no_pipe_and_no_buffer() {
    let lab = lab().await;
    let (mut agent, mut upstream) = flow(&lab).await;
    for _ in 0..3 {
        let exchange = async { tokio::join!(send(&mut agent, MANY), take(&mut upstream, MANY)) };
        within(exchange).await;
        within(async {
            while lab.gate.pipes.lent() > 0 {
                yield_now().await;
            }
        })
        .await;
        assert!(lab.gate.pipes.idle() > 0, "bytes were copied");
    }
}

#[tokio::test]
async fn more_stalled_flows_than_there_are_pipes_are_copied() {
    let lab = Lab::start_with(100, |port| vec![host("ok.test", port, Tls)]).await;
    lab.grant("ok.test", UPSTREAM, Tls);
    let mut stalled = Vec::new();
    for _ in 0..MAX_PIPES_OF_AGENT {
        let (agent, upstream) = flow(&lab).await;
        fill(&agent).await;
        stalled.push((agent, upstream));
    }
    within(async {
        while lab.gate.pipes.lent() < MAX_PIPES_OF_AGENT {
            yield_now().await;
        }
    })
    .await;
    let (mut agent, mut upstream) = flow(&lab).await;
    within(async { tokio::join!(send(&mut agent, MANY), take(&mut upstream, MANY)) }).await;
    assert_eq!(lab.gate.pipes.lent(), MAX_PIPES_OF_AGENT);
    // Each holds what it took until somebody reads it, and loses nothing of it.
    let (agent, mut upstream) = stalled.pop().unwrap();
    drop(agent);
    assert!(receive(&mut upstream).await > 0);
}

#[tokio::test]
async fn a_flow_that_is_killed_or_cut_in_the_middle_of_bulk_is_reset_on_both_sides() {
    for end in ["agent", "upstream", "policy"] {
        let lab = lab().await;
        let (agent, upstream) = flow(&lab).await;
        fill(&agent).await;
        let mut left = match end {
            "agent" => {
                agent.set_zero_linger().unwrap();
                drop(agent);
                vec![upstream]
            }
            "upstream" => {
                upstream.set_zero_linger().unwrap();
                drop(upstream);
                vec![agent]
            }
            _ => {
                lab.agent.replace_policy(Arc::new(Policy::new(Vec::new(), Vec::new())));
                lab.gate.rejudge(&lab.agent, NOW);
                vec![agent, upstream]
            }
        };
        for side in &mut left {
            let mut sink = Vec::new();
            let error = within(side.read_to_end(&mut sink)).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{end}");
        }
        within(async {
            while lab.gate.pipes.lent() > 0 {
                yield_now().await;
            }
        })
        .await;
    }
}

const HALF: usize = 342 << 20;
const MANY: usize = 4 << 20;

/// Writes until nobody takes any more.
async fn fill(tcp: &TcpStream) {
    let pattern = pattern();
    let mut sent = 0;
    let mut refused = 0;
    // The relay goes on taking until all buffers behind it are full.
    while refused < 1000 {
        match tcp.try_write(&pattern[sent % PERIOD..][..CHUNK]) {
            Ok(written) => (sent, refused) = (sent + written, 0),
            Err(_) => refused += 1,
        }
        yield_now().await;
    }
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), octets: usize) {
    let pattern = pattern();
    let mut sent = 0;
    while sent < octets {
        let length = CHUNK.min(octets - sent);
        to.write_all(&pattern[sent % PERIOD..][..length]).await.unwrap();
        sent += length;
    }
}

/// Reads to the end, and counts what came.
async fn receive(from: &mut (impl AsyncReadExt + Unpin)) -> usize {
    take(from, usize::MAX).await
}

async fn take(from: &mut (impl AsyncReadExt + Unpin), octets: usize) -> usize {
    let (pattern, mut buffer, mut received) = (pattern(), vec![0; CHUNK], 0);
    while received < octets {
        let room = CHUNK.min(octets - received);
        let length = from.read(&mut buffer[..room]).await.unwrap();
        if length == 0 {
            break;
        }
        assert!(buffer[..length] == pattern[received % PERIOD..][..length], "after {received}");
        received += length;
    }
    received
}

/// The octet at each place says where it is, save for whole multiples of a prime.
fn pattern() -> Vec<u8> {
    (0..CHUNK + PERIOD).map(|at| u8::try_from(at % PERIOD).unwrap()).collect()
}

const CHUNK: usize = 1 << 20;
const PERIOD: usize = 251;
