//! What an agent may say before its upstream has answered, and after it was asked for another hello.

use super::{
    bytes::{client_hello, crafted_hello, in_records, server_hello},
    lab::*,
};
use crate::{
    audit::Verdict,
    policy::{Ech, Protocol::*, Reason, Rule, TlsTerms},
    proxy::refuse::ALERT,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn nothing_follows_a_hello_before_the_upstream_has_answered() {
    let lab = lab().await;
    for (answer, ahead) in [
        (server_hello(ORDINARY), client_hello("evil.test")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (FATAL.to_vec(), b"more".to_vec()),
    ] {
        let (mut agent, mut upstream) = flow(&lab, &ahead).await;
        holds_back(&mut upstream);
        let (first, rest) = answer.split_at(answer.len() / 2);
        upstream.write_all(first).await.unwrap();
        upstream.write_all(rest).await.unwrap();
        reads(&mut agent, &answer).await;
        reads(&mut upstream, &ahead).await;
    }
}

#[tokio::test]
async fn a_second_hello_for_the_same_name_passes_with_what_may_stand_before_it() {
    let lab = lab().await;
    let second = in_records(&client_hello("OK.test")[5..], 100);
    let early = b"\x17\x03\x03\x00\x05early";
    for before in [&b""[..], CCS, early, &[early, CCS, early].concat(), USER_CANCELED] {
        let (mut agent, mut upstream) = flow(&lab, b"").await;
        let retry = [server_hello(RETRY), CCS.to_vec()].concat();
        upstream.write_all(&retry).await.unwrap();
        reads(&mut agent, &retry).await;
        let sent = [before, &second, b"and more"].concat();
        agent.write_all(&sent).await.unwrap();
        reads(&mut upstream, &sent).await;
    }
}

#[tokio::test]
async fn a_second_hello_for_another_name_never_reaches_the_upstream() {
    let mut lab = lab().await;
    let other = client_hello("also.test");
    let early = b"\x17\x03\x03\x00\x05early";
    // Warnings may stand before a hello, and it may come in any pieces.
    let answers = [
        server_hello(RETRY),
        [UNRECOGNIZED_NAME, &server_hello(RETRY)].concat(),
        in_records(&server_hello(RETRY)[5..], 1),
    ];
    for answer in answers {
        for (before, is_ahead) in
            [(&b""[..], false), (CCS, false), (early, true), (USER_CANCELED, true), (b"", true)]
        {
            let sent = [before, &other].concat();
            let (mut agent, mut upstream) = flow(&lab, if is_ahead { &sent } else { b"" }).await;
            assert_eq!(lab.allows("ok.test").await.count, 1);
            upstream.write_all(&answer).await.unwrap();
            reads(&mut agent, &answer).await;
            if !is_ahead {
                agent.write_all(&sent).await.unwrap();
            }
            assert_eq!(read_all(&mut upstream).await, before);
            assert_eq!(read_all(&mut agent).await, ALERT);
            denied(&mut lab, Reason::ServerNameChanged).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_hello_does_not_follow_a_retry() {
    let mut lab = lab().await;
    for (sent, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Reason::HelloMalformed),
        (b"\x16\x03\x03\x00\x04\x14\0\0\0", Reason::HelloMalformed),
        (&crafted_hello(&[]), Reason::ServerNameMissing),
        (
            &in_records(&[&client_hello("ok.test")[5..], &client_hello("also.test")[5..]].concat(), 16_000),
            Reason::HelloMalformed,
        ),
    ] {
        let (mut agent, mut upstream) = flow(&lab, b"").await;
        lab.allows("ok.test").await;
        upstream.write_all(&server_hello(RETRY)).await.unwrap();
        reads(&mut agent, &server_hello(RETRY)).await;
        agent.write_all(sent).await.unwrap();
        assert_eq!(read_all(&mut upstream).await, b"");
        denied(&mut lab, reason).await;
    }
}

#[tokio::test]
async fn an_agent_that_leaves_after_a_retry_is_not_denied() {
    let mut lab = lab().await;
    let (mut agent, mut upstream) = flow(&lab, b"").await;
    upstream.write_all(&server_hello(RETRY)).await.unwrap();
    reads(&mut agent, &server_hello(RETRY)).await;
    agent.shutdown().await.unwrap();
    assert_eq!(read_all(&mut upstream).await, b"");
    upstream.write_all(b"bye").await.unwrap();
    reads(&mut agent, b"bye").await;
    lab.allows("ok.test").await;
}

#[tokio::test]
async fn an_agent_or_an_upstream_that_leaves_before_the_answer_ends_the_flow() {
    let lab = lab().await;
    let (agent, mut upstream) = flow(&lab, b"").await;
    agent.set_zero_linger().unwrap();
    drop(agent);
    assert!(within(upstream.read_u8()).await.is_err());
    let (mut agent, upstream) = flow(&lab, b"").await;
    drop(upstream);
    assert_eq!(read_all(&mut agent).await, b"");
}

#[tokio::test]
async fn encrypted_client_hello_passes_as_grease_and_never_to_a_name_that_faces_clients_for_others() {
    let mut lab = lab_with(Ech::Grease).await;
    allows_ech(&mut lab, "ok.test").await;
    denies_ech(&mut lab, "cloudflare-ech.com").await;
    let mut lab = lab_with(Ech::Refuse).await;
    denies_ech(&mut lab, "ok.test").await;
    let mut lab = lab_with(Ech::Allow).await;
    allows_ech(&mut lab, "cloudflare-ech.com").await;
}

#[tokio::test]
async fn encrypted_client_hello_is_refused_inside_of_a_tunnel_too() {
    let mut lab = lab_with(Ech::Refuse).await;
    lab.resolves("ok.test", &[UPSTREAM]);
    let established = b"HTTP/1.1 200 Connection Established\r\n\r\n";
    let mut agent = lab.proxied(&format!("CONNECT ok.test:{} HTTP/1.1\r\n\r\n", lab.port)).await;
    reads(&mut agent, established).await;
    agent.write_all(&with_ech("ok.test")).await.unwrap();
    assert_eq!(read_all(&mut agent).await, ALERT);
    lab.denies(Reason::EchNotAllowed).await;
}

#[tokio::test]
async fn a_tunnel_is_held_to_its_name_after_a_retry_too() {
    let mut lab = lab().await;
    lab.resolves("ok.test", &[UPSTREAM]);
    let established = b"HTTP/1.1 200 Connection Established\r\n\r\n";
    let mut agent = lab.proxied(&format!("CONNECT ok.test:{} HTTP/1.1\r\n\r\n", lab.port)).await;
    reads(&mut agent, established).await;
    agent.write_all(&client_hello("ok.test")).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, &client_hello("ok.test")[..5]).await;
    lab.allows("ok.test").await;
    upstream.write_all(&server_hello(RETRY)).await.unwrap();
    reads(&mut agent, &server_hello(RETRY)).await;
    agent.write_all(&client_hello("also.test")).await.unwrap();
    assert_eq!(read_all(&mut agent).await, ALERT);
    denied(&mut lab, Reason::ServerNameChanged).await;
}

#[tokio::test]
async fn encryption_may_not_come_in_with_the_second_hello() {
    let mut lab = lab_with(Ech::Allow).await;
    let (mut agent, mut upstream) = flow(&lab, b"").await;
    lab.allows("ok.test").await;
    upstream.write_all(&server_hello(RETRY)).await.unwrap();
    reads(&mut agent, &server_hello(RETRY)).await;
    agent.write_all(&with_ech("ok.test")).await.unwrap();
    assert_eq!(read_all(&mut upstream).await, b"");
    denied(&mut lab, Reason::EchNotAllowed).await;
}

async fn allows_ech(lab: &mut Lab, name: &str) {
    let mut agent = lab.redirected().await;
    agent.write_all(&with_ech(name)).await.unwrap();
    reads(&mut lab.accept().await, &with_ech(name)).await;
    lab.allows(name).await;
}

async fn denies_ech(lab: &mut Lab, name: &str) {
    let mut agent = lab.redirected().await;
    agent.write_all(&with_ech(name)).await.unwrap();
    assert_eq!(read_all(&mut agent).await, ALERT);
    let event = lab.denies(Reason::EchNotAllowed).await;
    assert_eq!(event.destination.unwrap().to_string(), name);
    assert_eq!(event.rule.unwrap().to_string(), "test.yaml:7");
}

/// A flow whose hello has arrived, and of which `ahead` was sent right behind it.
async fn flow(lab: &Lab, ahead: &[u8]) -> (TcpStream, TcpStream) {
    let hello = client_hello("ok.test");
    let mut agent = lab.redirected().await;
    agent.write_all(&[&hello, ahead].concat()).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, &hello).await;
    (agent, upstream)
}

/// The bytes that are held back were in one segment with the hello that has arrived.
fn holds_back(upstream: &mut TcpStream) {
    let error = upstream.try_read(&mut [0]).expect_err("nothing more has arrived");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

async fn denied(lab: &mut Lab, reason: Reason) {
    let event = lab.event().await;
    assert_eq!((event.verdict, event.reason), (Verdict::Deny, Some(reason)), "{event:?}");
}

fn with_ech(name: &str) -> Vec<u8> {
    let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name.as_bytes()].concat();
    let list = [&(entry.len() as u16).to_be_bytes()[..], &entry].concat();
    crafted_hello(&[(0, list), (0xfe0d, vec![0; 90])])
}

async fn lab() -> Lab {
    lab_with(Ech::Grease).await
}

async fn lab_with(ech: Ech) -> Lab {
    let names = ["ok.test", "also.test", "cloudflare-ech.com"];
    let rule = |name, port| Rule { tls: TlsTerms { ech, ..TlsTerms::default() }, ..host(name, port, Tls) };
    let lab = Lab::start(|port| names.map(|name| rule(name, port)).to_vec()).await;
    for name in names {
        lab.grant(name, UPSTREAM, Tls);
    }
    lab
}

const ORDINARY: [u8; 32] = [7; 32];

/// SHA-256 of "HelloRetryRequest" (RFC 8446, section 4.1.3).
const RETRY: [u8; 32] = *b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\
    \xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
const CCS: &[u8] = b"\x14\x03\x03\x00\x01\x01";
const FATAL: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";
const UNRECOGNIZED_NAME: &[u8] = b"\x15\x03\x03\x00\x02\x01\x70";
const USER_CANCELED: &[u8] = b"\x15\x03\x03\x00\x02\x01\x5a";
