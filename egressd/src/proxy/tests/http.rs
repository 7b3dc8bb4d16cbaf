use super::lab::*;
use crate::policy::{Policy, Protocol::*, Reason};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn each_request_of_a_redirected_connection_is_judged_and_answered_in_order() {
    let mut lab = lab().await;
    let mut agent = lab.redirected().await;
    // Pipelined: the second names a host that no rule allows.
    let requests = [get(&lab, "ok.test", "/1"), get(&lab, "evil.test", "/2"), get(&lab, "ok.test", "/3")];
    agent.write_all(requests.concat().as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, sent(&lab, "ok.test", "/1").as_bytes()).await;
    upstream.write_all(OK.as_bytes()).await.unwrap();

    let answers = read_text(&mut agent).await;
    let denial = answers.strip_prefix(OK).unwrap();
    assert!(denial.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answers}");
    assert!(denial.contains("Connection: close\r\n"), "{answers}");
    assert_eq!(read_all(&mut upstream).await, b"");
    lab.allows("ok.test").await;
    lab.denies(Reason::HostNotAllowed).await;
}

#[tokio::test]
async fn a_kept_connection_serves_every_name_that_is_granted_at_its_address() {
    let mut lab = lab().await;
    let mut agent = lab.redirected().await;
    agent.write_all(get(&lab, "ok.test", "/1").as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    for (name, next) in [("ok.test", "also.test"), ("also.test", "ok.test"), ("ok.test", "far.test")] {
        reads(&mut upstream, sent(&lab, name, "/1").as_bytes()).await;
        upstream.write_all(OK.as_bytes()).await.unwrap();
        reads(&mut agent, OK.as_bytes()).await;
        lab.allows(name).await;
        agent.write_all(get(&lab, next, "/1").as_bytes()).await.unwrap();
    }
    // Allowed, and resolved, but to another address.
    assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    lab.denies(Reason::ServerNameNotGranted).await;
    assert_eq!(lab.connected(), ["ok.test", "also.test", "ok.test"]);
}

#[tokio::test]
async fn a_request_inside_a_body_stays_a_body() {
    let mut lab = lab().await;
    let inner = get(&lab, "evil.test", "/");
    let host = format!("ok.test:{}", lab.port);
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    for (framing, body) in [
        (format!("Content-Length: {}", inner.len()), inner.clone()),
        ("Transfer-Encoding: chunked".to_owned(), chunk),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n{body}");
        let mut agent = lab.redirected().await;
        agent.write_all(request.as_bytes()).await.unwrap();
        let mut upstream = lab.accept().await;
        reads(&mut upstream, request.as_bytes()).await;
        upstream.write_all(OK.as_bytes()).await.unwrap();
        reads(&mut agent, OK.as_bytes()).await;
        lab.allows("ok.test").await;
        // The next request begins right behind the body, and is judged.
        agent.write_all(inner.as_bytes()).await.unwrap();
        assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 403 "));
        lab.denies(Reason::HostNotAllowed).await;
    }
}

#[tokio::test]
async fn a_request_that_could_smuggle_another_is_denied_before_anything_is_dialled() {
    let mut lab = lab().await;
    let host = format!("Host: ok.test:{}\r\n", lab.port);
    for head in [
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}Host: evil.test\r\n\r\n"),
        format!("GET http://evil.test/ HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}Upgrade: h2c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X: a\n\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: ok.test:1\r\n\r\n".to_owned(),
        "CONNECT ok.test:443 HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let mut agent = lab.redirected().await;
        agent.write_all(head.as_bytes()).await.unwrap();
        assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head:?}");
        lab.denies(Reason::RequestMalformed).await;
    }
}

#[tokio::test]
async fn a_body_with_broken_chunks_resets_both_sides() {
    let lab = lab().await;
    let mut agent = lab.redirected().await;
    let head = format!("POST / HTTP/1.1\r\nHost: ok.test:{}\r\nTransfer-Encoding: chunked\r\n\r\n", lab.port);
    agent.write_all(head.as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, head.as_bytes()).await;
    agent.write_all(b"2\nab\n0\n\n").await.unwrap();
    assert!(within(agent.read_u8()).await.is_err());
    assert_eq!(within(upstream.read_u8()).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn responses_end_where_their_framing_says() {
    let lab = lab().await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{OK}");
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    let mut agent = lab.redirected().await;
    let mut upstream = None;
    for response in [OK, chunked, &interim, empty, OK] {
        agent.write_all(get(&lab, "ok.test", "/").as_bytes()).await.unwrap();
        if upstream.is_none() {
            upstream = Some(lab.accept().await);
        }
        let upstream = upstream.as_mut().unwrap();
        reads(upstream, sent(&lab, "ok.test", "/").as_bytes()).await;
        upstream.write_all(response.as_bytes()).await.unwrap();
        reads(&mut agent, response.as_bytes()).await;
    }
    let mut upstream = upstream.unwrap();
    agent.write_all(get(&lab, "ok.test", "/").as_bytes()).await.unwrap();
    reads(&mut upstream, sent(&lab, "ok.test", "/").as_bytes()).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
    drop(upstream);
    assert!(read_text(&mut agent).await.ends_with("until the end"));
}

#[tokio::test]
async fn a_response_that_switches_protocols_is_not_handed_on() {
    let lab = lab().await;
    let mut agent = lab.redirected().await;
    agent.write_all(get(&lab, "ok.test", "/").as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    upstream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").await.unwrap();
    assert!(within(agent.read_u8()).await.is_err());
}

#[tokio::test]
async fn an_early_answer_reaches_an_agent_that_is_still_sending() {
    let lab = lab().await;
    let mut agent = lab.redirected().await;
    let head = format!("POST / HTTP/1.1\r\nHost: ok.test:{}\r\nContent-Length: 9000000\r\n\r\n", lab.port);
    agent.write_all(head.as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, head.as_bytes()).await;
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    upstream.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(read_text(&mut agent).await, answer);
}

#[tokio::test]
async fn a_continue_is_passed_on_before_the_body_is_sent() {
    let lab = lab().await;
    let mut agent = lab.redirected().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: ok.test:{}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        lab.port
    );
    agent.write_all(head.as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, head.as_bytes()).await;
    upstream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    reads(&mut agent, b"HTTP/1.1 100 Continue\r\n\r\n").await;
    agent.write_all(b"hi").await.unwrap();
    reads(&mut upstream, b"hi").await;
    upstream.write_all(OK.as_bytes()).await.unwrap();
    reads(&mut agent, OK.as_bytes()).await;
}

#[tokio::test]
async fn a_proxied_connection_may_visit_several_hosts_each_judged() {
    let mut lab = lab().await;
    let elsewhere = TcpListener::bind((ELSEWHERE, lab.port)).await.unwrap();
    let mut agent = lab.proxied(&proxied(&lab, "ok.test")).await;
    let mut upstream = lab.accept().await;
    answer(&mut upstream, &sent(&lab, "ok.test", "/")).await;
    reads(&mut agent, OK.as_bytes()).await;
    lab.allows("ok.test").await;

    // The same host again: over the same connection, without another lookup.
    agent.write_all(proxied(&lab, "ok.test").as_bytes()).await.unwrap();
    answer(&mut upstream, &sent(&lab, "ok.test", "/")).await;
    reads(&mut agent, OK.as_bytes()).await;
    lab.allows("ok.test").await;
    assert_eq!(lab.lookups(), 1);

    agent.write_all(proxied(&lab, "far.test").as_bytes()).await.unwrap();
    let mut far = within(elsewhere.accept()).await.unwrap().0;
    answer(&mut far, &sent(&lab, "far.test", "/")).await;
    reads(&mut agent, OK.as_bytes()).await;
    lab.allows("far.test").await;

    agent.write_all(proxied(&lab, "evil.test").as_bytes()).await.unwrap();
    assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    lab.denies(Reason::HostNotAllowed).await;
    assert_eq!(lab.lookups(), 2);
}

#[tokio::test]
async fn an_upstream_that_closes_between_two_requests_is_replaced() {
    let lab = lab().await;
    let mut agent = lab.proxied(&proxied(&lab, "ok.test")).await;
    for _ in 0..3 {
        let mut upstream = lab.accept().await;
        answer(&mut upstream, &sent(&lab, "ok.test", "/")).await;
        drop(upstream);
        reads(&mut agent, OK.as_bytes()).await;
        agent.write_all(proxied(&lab, "ok.test").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_removed_rule_cuts_an_exchange_and_denies_the_next_request() {
    let mut lab = lab().await;
    let mut asking = lab.redirected().await;
    asking.write_all(get(&lab, "ok.test", "/").as_bytes()).await.unwrap();
    let mut upstream = lab.accept().await;
    reads(&mut upstream, sent(&lab, "ok.test", "/").as_bytes()).await;
    lab.allows("ok.test").await;
    let mut waiting = lab.redirected().await;
    waiting.write_all(get(&lab, "ok.test", "/").as_bytes()).await.unwrap();
    answer(&mut lab.accept().await, &sent(&lab, "ok.test", "/")).await;
    lab.allows("ok.test").await;

    lab.agent.replace_policy(Arc::new(Policy::default()));
    lab.gate.rejudge(&lab.agent, NOW);
    assert!(within(asking.read_u8()).await.is_err());
    assert!(within(upstream.read_u8()).await.is_err());
}

#[tokio::test]
async fn a_redirected_request_with_an_address_as_host_needs_a_rule_for_its_network() {
    let mut lab = lab().await;
    let mut agent = lab.redirected().await;
    agent.write_all(get(&lab, "127.0.0.2", "/").as_bytes()).await.unwrap();
    assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    lab.denies(Reason::AddressNotGranted).await;
    let mut agent = lab.redirected().await;
    agent.write_all(get(&lab, "127.0.0.3", "/").as_bytes()).await.unwrap();
    assert!(read_text(&mut agent).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    lab.denies(Reason::ServerNameNotGranted).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_head_that_trickles_in_is_denied_after_five_seconds_in_total() {
    let mut lab = lab().await;
    let mut agent = lab.redirected().await;
    for octet in get(&lab, "ok.test", "/").bytes() {
        if agent.write_all(&[octet]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    lab.denies(Reason::HelloTimeout).await;
}

async fn answer(upstream: &mut TcpStream, request: &str) {
    reads(upstream, request.as_bytes()).await;
    upstream.write_all(OK.as_bytes()).await.unwrap();
}

fn get(lab: &Lab, name: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {name}:{}\r\n\r\n", lab.port)
}

fn proxied(lab: &Lab, name: &str) -> String {
    let port = lab.port;
    format!(
        "GET http://{name}:{port}/ HTTP/1.1\r\nHost: {name}:{port}\r\nProxy-Connection: keep-alive\r\n\r\n"
    )
}

/// What the upstream receives for [`get`] and [`proxied`].
fn sent(lab: &Lab, name: &str, path: &str) -> String {
    get(lab, name, path)
}

async fn lab() -> Lab {
    let names = ["ok.test", "also.test", "far.test"];
    let lab = Lab::start(|port| names.iter().map(|name| host(name, port, Http)).collect()).await;
    for name in ["ok.test", "also.test"] {
        lab.grant(name, UPSTREAM, Http);
        lab.resolves(name, &[UPSTREAM]);
    }
    lab.resolves("far.test", &[ELSEWHERE]);
    lab
}
