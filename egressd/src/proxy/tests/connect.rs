use super::{bytes::client_hello, lab::*};
use crate::{
    policy::{Protocol::*, Reason},
    proxy::refuse::ALERT,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";

#[tokio::test]
async fn a_tunnel_to_an_allowed_name_carries_tls_with_that_name() {
    let mut lab = lab().await;
    let hello = client_hello("ok.test");
    let mut agent = connect(&lab, "OK.test").await;
    reads(&mut agent, ESTABLISHED).await;
    lab.upstream_is_untouched().await;
    assert_eq!(lab.connected(), [""; 0]);
    agent.write_all(&hello).await.unwrap();
    reads(&mut lab.accept().await, &hello).await;
    let event = lab.allows("ok.test").await;
    assert_eq!(lab.connected(), ["ok.test"]);
    assert_eq!((event.address, event.port), (Some(UPSTREAM), Some(lab.port)));
}

#[tokio::test]
async fn a_tunnel_whose_hello_names_another_host_is_cut() {
    let mut lab = lab().await;
    // Both names are allowed, at the same address even.
    let mut agent = connect(&lab, "ok.test").await;
    reads(&mut agent, ESTABLISHED).await;
    agent.write_all(&client_hello("also.test")).await.unwrap();
    assert_eq!(read_all(&mut agent).await, ALERT);
    let event = lab.denies(Reason::ServerNameNotGranted).await;
    assert_eq!(event.detail.unwrap(), "CONNECT named ok.test, the ClientHello also.test");
}

#[tokio::test]
async fn a_tunnel_that_does_not_speak_tls_is_reset() {
    let mut lab = lab().await;
    let mut agent = connect(&lab, "ok.test").await;
    reads(&mut agent, ESTABLISHED).await;
    agent.write_all(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n").await.unwrap();
    assert!(within(agent.read_u8()).await.is_err());
    lab.denies(Reason::NotTls).await;
}

#[tokio::test]
async fn a_denied_name_is_answered_in_words_and_never_looked_up() {
    let mut lab = lab().await;
    let mut agent = connect(&lab, "evil.test").await;
    let answer = read_text(&mut agent).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("\r\nX-Egressd-Reason: host-not-allowed\r\n"), "{answer}");
    assert!(answer.contains(&format!("\n  - {{host: evil.test, ports: [{}]}}\n", lab.port)));
    lab.denies(Reason::HostNotAllowed).await;
    assert_eq!(lab.lookups(), 0);
}

#[tokio::test]
async fn a_rule_for_tcp_tunnels_any_bytes_even_if_the_server_speaks_first() {
    let mut lab = lab().await;
    let mut agent = connect(&lab, "any.test").await;
    let mut upstream = lab.accept().await;
    reads(&mut agent, ESTABLISHED).await;
    upstream.write_all(b"220 hello").await.unwrap();
    reads(&mut agent, b"220 hello").await;
    lab.allows("any.test").await;
}

#[tokio::test]
async fn bytes_that_follow_a_connect_at_once_are_not_lost() {
    let lab = lab().await;
    let head = format!("CONNECT any.test:{} HTTP/1.1\r\n\r\nearly", lab.port);
    let _agent = lab.proxied(&head).await;
    reads(&mut lab.accept().await, b"early").await;
}

#[tokio::test]
async fn a_name_whose_addresses_are_not_granted_is_denied() {
    let mut lab = lab().await;
    lab.resolves("ok.test", &[]);
    let mut agent = connect(&lab, "ok.test").await;
    assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 502 "));
    lab.denies(Reason::UpstreamFailed).await;
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let lab = lab().await;
    lab.resolves("any.test", &[ELSEWHERE, UPSTREAM]);
    let mut agent = connect(&lab, "any.test").await;
    lab.accept().await;
    reads(&mut agent, ESTABLISHED).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_is_told_in_words() {
    let mut lab = lab().await;
    lab.resolves("any.test", &[ELSEWHERE]);
    let mut agent = connect(&lab, "any.test").await;
    let answer = read_text(&mut agent).await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    lab.allows("any.test").await;
}

#[tokio::test]
async fn an_address_needs_a_rule_for_its_network() {
    let mut lab = lab().await;
    let mut agent = connect(&lab, "1.2.3.4").await;
    let answer = read_text(&mut agent).await;
    assert!(answer.contains("\n  - {cidr: 1.2.3.4/32, protocol: tcp, "), "{answer}");
    lab.denies(Reason::AddressNotGranted).await;
    connect(&lab, "[::ffff:127.0.0.2]").await;
    lab.denies(Reason::AddressNotGranted).await;
}

#[tokio::test]
async fn the_proxy_is_nobodys_deputy_on_this_host() {
    let mut wide = Lab::start(|port| vec![network("0.0.0.0/0", port, Tcp)]).await;
    for address in ["127.0.0.1", "127.0.0.2", "169.254.169.254", "0.0.0.0"] {
        connect(&wide, address).await;
        wide.denies(Reason::AddressSpecialPurpose).await;
    }
    let mut meant = Lab::start(|port| vec![network("127.0.0.0/8", port, Tcp)]).await;
    let mut agent = connect(&meant, "127.0.0.2").await;
    reads(&mut agent, ESTABLISHED).await;
    meant.allows("127.0.0.2").await;
}

#[tokio::test]
async fn a_connect_that_cannot_be_read_is_denied() {
    let mut lab = lab().await;
    for head in
        ["CONNECT ok.test HTTP/1.1\r\n\r\n", "\x16\x03\x01\n", "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"]
    {
        let mut agent = lab.proxied(head).await;
        assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head:?}");
        lab.denies(Reason::RequestMalformed).await;
    }
}

async fn connect(lab: &Lab, name: &str) -> TcpStream {
    lab.proxied(&format!("CONNECT {name}:{} HTTP/1.1\r\n\r\n", lab.port)).await
}

async fn lab() -> Lab {
    let rules =
        |port| vec![host("ok.test", port, Tls), host("also.test", port, Tls), host("any.test", port, Tcp)];
    let lab = Lab::start(rules).await;
    for name in ["ok.test", "also.test", "any.test"] {
        lab.resolves(name, &[UPSTREAM]);
    }
    lab
}
