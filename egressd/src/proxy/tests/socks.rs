use super::{bytes::client_hello, lab::*};
use crate::{
    policy::{Protocol::*, Reason},
    proxy::refuse::ALERT,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CHOSEN: &[u8] = b"\x05\x00";

#[tokio::test]
async fn a_socks_tunnel_to_an_allowed_name_carries_tls_with_that_name() {
    let mut lab = lab().await;
    let hello = client_hello("ok.test");
    let mut agent = ask(&lab, "OK.test").await;
    answers(&mut agent, 0).await;
    lab.upstream_is_untouched().await;
    agent.write_all(&hello).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, &hello).await;
    upstream.write_all(b"answer").await.unwrap();
    reads(&mut agent, b"answer").await;
    lab.allows("ok.test").await;
}

#[tokio::test]
async fn a_socks_tunnel_whose_hello_names_another_host_is_cut() {
    let mut lab = lab().await;
    let mut agent = ask(&lab, "ok.test").await;
    answers(&mut agent, 0).await;
    agent.write_all(&client_hello("also.test")).await.unwrap();
    assert_eq!(read_all(&mut agent).await, ALERT);
    let event = lab.denies(Reason::ServerNameNotGranted).await;
    assert_eq!(event.detail.unwrap(), "SOCKS named ok.test, the ClientHello also.test");
}

#[tokio::test]
async fn each_request_inside_a_socks_tunnel_to_plain_http_is_judged() {
    let mut lab = lab().await;
    let mut agent = ask(&lab, "web.test").await;
    answers(&mut agent, 0).await;
    agent.write_all(b"GET /1 HTTP/1.1\r\nHost: web.test\r\n\r\n").await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, b"GET /1 HTTP/1.1\r\nHost: web.test").await;
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    reads(&mut agent, b"HTTP/1.1 204 No Content\r\n\r\n").await;
    lab.allows("web.test").await;
    agent.write_all(b"GET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\n").await.unwrap();
    assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    lab.denies(Reason::HostNotAllowed).await;
}

#[tokio::test]
async fn a_socks_name_that_is_denied_is_never_looked_up() {
    let mut lab = lab().await;
    let mut agent = ask(&lab, "evil.test").await;
    answers(&mut agent, 2).await;
    lab.denies(Reason::HostNotAllowed).await;
    assert_eq!(lab.lookups(), 0);
}

#[tokio::test]
async fn a_socks_address_needs_a_rule_for_its_network() {
    let mut lab = lab().await;
    let mut agent = ask_for(&lab, 1, &[1, 1, 2, 3, 4]).await;
    answers(&mut agent, 2).await;
    lab.denies(Reason::AddressNotGranted).await;
    let mut meant = Lab::start(|port| vec![network("127.0.0.0/8", port, Tcp)]).await;
    let mut agent = ask_for(&meant, 1, &[1, 127, 0, 0, 2]).await;
    answers(&mut agent, 0).await;
    meant.allows("127.0.0.2").await;
}

#[tokio::test]
async fn bytes_that_come_before_the_answer_of_socks_are_not_lost() {
    let lab = lab().await;
    let port = lab.port.to_be_bytes();
    let early = [&b"\x05\x01\x00\x05\x01\x00\x03\x08any.test"[..], &port, b"early"].concat();
    let mut agent = lab.proxied_with(&early).await;
    reads(&mut lab.accept().await, b"early").await;
    reads(&mut agent, CHOSEN).await;
    answers(&mut agent, 0).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_is_told_in_the_code_of_socks() {
    let mut lab = lab().await;
    lab.resolves("any.test", &[ELSEWHERE]);
    let mut agent = ask(&lab, "any.test").await;
    answers(&mut agent, 5).await;
    lab.allows("any.test").await;
}

#[tokio::test]
async fn bind_and_udp_associate_are_refused_with_their_code() {
    let mut lab = lab().await;
    for command in [2, 3] {
        let mut agent = ask_for(&lab, command, &name("any.test")).await;
        answers(&mut agent, 7).await;
        lab.denies(Reason::RequestMalformed).await;
    }
}

#[tokio::test]
async fn a_socks_agent_that_wants_to_log_in_is_told_that_it_cannot() {
    let mut lab = lab().await;
    let mut agent = lab.proxied_with(b"\x05\x01\x02").await;
    assert_eq!(read_all(&mut agent).await, b"\x05\xff");
    lab.denies(Reason::RequestMalformed).await;
}

#[tokio::test]
async fn older_socks_is_refused() {
    let mut lab = lab().await;
    let mut agent = lab.proxied_with(b"\x04\x01\x01\xbb\0\0\0\x01me\0ok.test\0").await;
    assert!(within(agent.read_u8()).await.is_err());
    lab.denies(Reason::RequestMalformed).await;
}

#[tokio::test(start_paused = true)]
async fn a_socks_request_that_trickles_in_is_denied_after_five_seconds_in_total() {
    let mut lab = lab().await;
    let mut agent = lab.proxied_with(b"\x05").await;
    for octet in b"\x01\x00\x05\x01\x00\x03\x08any" {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if agent.write_all(&[*octet]).await.is_err() {
            break;
        }
    }
    lab.denies(Reason::HelloTimeout).await;
}

async fn ask(lab: &Lab, host: &str) -> TcpStream {
    ask_for(lab, 1, &name(host)).await
}

fn name(host: &str) -> Vec<u8> {
    [&[3, u8::try_from(host.len()).unwrap()], host.as_bytes()].concat()
}

async fn ask_for(lab: &Lab, command: u8, address: &[u8]) -> TcpStream {
    let mut agent = lab.proxied_with(b"\x05\x01\x00").await;
    reads(&mut agent, CHOSEN).await;
    let request = [&[5, command, 0], address, &lab.port.to_be_bytes()].concat();
    agent.write_all(&request).await.unwrap();
    agent
}

async fn answers(agent: &mut TcpStream, code: u8) {
    let mut reply = [0; 10];
    within(agent.read_exact(&mut reply)).await.unwrap();
    assert_eq!(reply, [5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
}

async fn lab() -> Lab {
    let rules = |port| {
        let tls = ["ok.test", "also.test"].map(|name| host(name, port, Tls));
        tls.into_iter().chain([host("any.test", port, Tcp), host("web.test", port, Http)]).collect()
    };
    let lab = Lab::start(rules).await;
    for name in ["ok.test", "also.test", "any.test", "web.test"] {
        lab.resolves(name, &[UPSTREAM]);
    }
    lab
}
