use super::{
    bytes::{client_hello, crafted_hello, in_records},
    lab::*,
};
use crate::{
    audit::Spoken,
    policy::{Moment, Protocol::*, Reason},
    proxy::refuse::ALERT,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_granted_hello_reaches_its_upstream_byte_for_byte_and_the_answer_comes_back() {
    let mut lab = lab().await;
    let hello = client_hello("ok.test");
    let mut agent = lab.redirected().await;
    agent.write_all(&hello).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, &hello).await;
    upstream.write_all(b"answer").await.unwrap();
    reads(&mut agent, b"answer").await;
    agent.write_all(b"and more").await.unwrap();
    reads(&mut upstream, b"and more").await;

    let event = lab.allows("ok.test").await;
    assert_eq!(event.address, Some(UPSTREAM));
    assert_eq!(event.process.unwrap().pid, 42);
    assert_eq!(event.rule.unwrap().to_string(), "test.yaml:7");
}

#[tokio::test]
async fn a_hello_in_single_octets_and_tiny_records_is_judged_whole() {
    let mut lab = lab().await;
    for (name, is_allowed) in [("ok.test", true), ("evil.test", false)] {
        let hello = in_records(&client_hello(name)[5..], 3);
        let mut agent = lab.redirected().await;
        agent.set_nodelay(true).unwrap();
        for octet in &hello {
            agent.write_all(&[*octet]).await.unwrap();
        }
        if is_allowed {
            reads(&mut lab.accept().await, &hello).await;
            lab.allows("ok.test").await;
        } else {
            assert_eq!(read_all(&mut agent).await, ALERT);
            lab.denies(Reason::HostNotAllowed).await;
        }
    }
}

#[tokio::test]
async fn a_denied_hello_is_answered_with_an_alert_and_nothing_is_dialled() {
    let mut lab = lab().await;
    lab.grant("other.test", ELSEWHERE, Tls);
    lab.grant_until(Moment(500), "old.test", UPSTREAM, Tls);
    answers_with_alert(&mut lab, &client_hello("evil.test"), Reason::HostNotAllowed).await;
    answers_with_alert(&mut lab, &client_hello("other.test"), Reason::ServerNameNotGranted).await;
    answers_with_alert(&mut lab, &client_hello("old.test"), Reason::GrantExpired).await;
    answers_with_alert(&mut lab, &client_hello("plain.test"), Reason::ProtocolNotAllowed).await;
    answers_with_alert(&mut lab, &crafted_hello(&[]), Reason::ServerNameMissing).await;
    answers_with_alert(&mut lab, b"\x16\x03\x01\x00\x04\x02\0\0\0", Reason::HelloMalformed).await;
}

#[tokio::test]
async fn what_is_not_tls_is_reset_at_once() {
    let mut lab = lab().await;
    for bytes in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", b"\0"] {
        let mut agent = lab.redirected().await;
        agent.write_all(bytes).await.unwrap();
        assert!(within(agent.read_u8()).await.is_err());
        let event = lab.denies(Reason::NotTls).await;
        assert_eq!((event.protocol, event.port), (Spoken::Of(Tls), Some(lab.port)));
        assert_eq!(event.destination.unwrap().to_string(), "127.0.0.2");
    }
}

#[tokio::test]
async fn a_flow_that_the_kernel_did_not_redirect_is_reset() {
    let mut lab = lab().await;
    lab.redirects_from(None);
    let mut agent = lab.redirected().await;
    assert!(within(agent.read_u8()).await.is_err());
    lab.denies(Reason::OriginalDestinationUnknown).await;
}

#[tokio::test]
async fn a_hello_that_is_cut_short_is_denied_and_a_silent_visit_is_not() {
    let mut lab = lab().await;
    drop(lab.redirected().await);
    let mut agent = lab.redirected().await;
    agent.write_all(&client_hello("ok.test")[..100]).await.unwrap();
    agent.shutdown().await.unwrap();
    lab.denies(Reason::HelloMalformed).await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_trickles_in_is_denied_after_five_seconds_in_total() {
    let mut lab = lab().await;
    let start = tokio::time::Instant::now();
    let mut agent = lab.redirected().await;
    for octet in client_hello("ok.test") {
        if agent.write_all(&[octet]).await.is_err() || start.elapsed() > Duration::from_secs(30) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    lab.denies(Reason::HelloTimeout).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_upstream_that_refuses_is_told_by_a_reset_and_a_record() {
    let mut lab = lab().await;
    lab.grant("ok.test", ELSEWHERE, Tls);
    lab.redirects_from(Some((ELSEWHERE, lab.port).into()));
    let mut agent = lab.redirected().await;
    agent.write_all(&client_hello("ok.test")).await.unwrap();
    assert!(within(agent.read_u8()).await.is_err());
    let event = lab.allows("ok.test").await;
    assert!(event.detail.unwrap().starts_with("failed to connect to `127.0.0.3:"));
}

#[tokio::test]
async fn a_network_rule_for_tls_allows_any_one_name_at_its_addresses() {
    let mut lab = Lab::start(|port| vec![network("127.0.0.2/32", port, Tls)]).await;
    let mut agent = lab.redirected().await;
    agent.write_all(&client_hello("any.test")).await.unwrap();
    lab.accept().await;
    lab.allows("any.test").await;
    answers_with_alert(&mut lab, &crafted_hello(&[]), Reason::ServerNameMissing).await;
}

async fn answers_with_alert(lab: &mut Lab, bytes: &[u8], reason: Reason) {
    let mut agent = lab.redirected().await;
    agent.write_all(bytes).await.unwrap();
    assert_eq!(read_all(&mut agent).await, ALERT, "{reason}");
    lab.denies(reason).await;
}

async fn lab() -> Lab {
    let names = ["ok.test", "other.test", "old.test"];
    let rules = |port| {
        let tls = names.iter().map(|name| host(name, port, Tls));
        tls.chain([host("plain.test", port, Tcp)]).collect()
    };
    let lab = Lab::start(rules).await;
    lab.grant("ok.test", UPSTREAM, Tls);
    lab
}
