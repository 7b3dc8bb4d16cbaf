//! What an agent can make grow, and where that ends.

use crate::{
    granted::until,
    lab::{Lab, PATIENCE, allow, public, question, read_frame, write_frame},
    upstream::{Say, Upstream},
};
use egressd::policy::Reason;
use hickory_proto::{op::ResponseCode, rr::RecordType};
use tokio::{io::AsyncReadExt, time::timeout};

#[tokio::test]
async fn lookups_beyond_the_bound_fail_at_once_and_the_others_are_answered() {
    let upstream = Upstream::start_held(|_, _| Say::Addresses(vec![public(1)])).await;
    let mut lab = Lab::start(allow(&["*.ok.test"]), upstream).await;
    let mut stream = lab.tcp().await;
    for number in 0..257 {
        write_frame(&mut stream, &question(&format!("n{number}.ok.test"), RecordType::A).to_vec().unwrap())
            .await;
    }
    let first = read_frame(&mut stream).await;
    assert_eq!(first.response_code, ResponseCode::ServFail);
    assert_eq!(first.queries[0].name().to_string(), "n256.ok.test.");
    assert_eq!(lab.event().await.reason, Some(Reason::QuotaExceeded));
    // A denied name needs no place in the queue.
    assert_eq!(lab.ask("evil.test", RecordType::A).await.response_code, ResponseCode::Refused);
    lab.upstream.leave.add_permits(1_000_000);
    for _ in 0..256 {
        assert_eq!(read_frame(&mut stream).await.response_code, ResponseCode::NoError);
    }
}

#[tokio::test]
async fn one_agents_flood_leaves_anothers_lookups_alone() {
    let upstream = Upstream::start_held(|_, _| Say::Addresses(vec![public(1)])).await;
    let lab = Lab::start(allow(&["*.ok.test"]), upstream).await;
    let mut stream = lab.tcp().await;
    for number in 0..300 {
        write_frame(&mut stream, &question(&format!("n{number}.ok.test"), RecordType::A).to_vec().unwrap())
            .await;
    }
    read_frame(&mut stream).await;
    let other = crate::lab::agent(2, allow(&["other.test"]));
    let (resolver, _serving) = crate::lab::serve(&other, &lab.gate).await;
    lab.upstream.leave.add_permits(1_000_000);
    let lab = Lab { resolver, ..lab };
    assert_eq!(lab.ask("other.test", RecordType::A).await.response_code, ResponseCode::NoError);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed() {
    let mut lab = Lab::start(allow(&["ok.test"]), Upstream::start(|_, _| Say::NoData).await).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = lab.tcp().await;
        write_frame(&mut stream, &question("evil.test", RecordType::A).to_vec().unwrap()).await;
        read_frame(&mut stream).await;
        lab.event().await;
        streams.push(stream);
    }
    let read = timeout(PATIENCE, lab.tcp().await.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
    assert_eq!(lab.event().await.reason, Some(Reason::QuotaExceeded));
    drop(streams);
    timeout(PATIENCE, async { while !is_served(&lab).await {} }).await.expect("a place becomes free");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_is_closed() {
    let lab = Lab::start(allow(&["ok.test"]), Upstream::start(|_, _| Say::NoData).await).await;
    let mut stream = lab.tcp().await;
    let start = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert!((10..=11).contains(&start.elapsed().as_secs()));
}

#[tokio::test]
async fn an_agent_that_is_no_longer_served_finds_its_sockets_closed() {
    let lab = Lab::start(allow(&["ok.test"]), Upstream::start(|_, _| Say::NoData).await).await;
    lab.serving.abort();
    until(|| lab.serving.is_finished()).await;
    tokio::net::UdpSocket::bind(lab.resolver).await.unwrap();
    assert!(tokio::net::TcpStream::connect(lab.resolver).await.is_err());
}

async fn is_served(lab: &Lab) -> bool {
    let mut stream = lab.tcp().await;
    write_frame(&mut stream, &question("evil.test", RecordType::A).to_vec().unwrap()).await;
    stream.read_u16().await.is_ok()
}
