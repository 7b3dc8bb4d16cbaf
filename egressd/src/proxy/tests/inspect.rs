use super::{inspect_lab::*, lab::*};
use crate::{
    audit::{Path, Verdict},
    policy::{Inspection, Policy, Reason},
};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::{convert::Infallible, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

#[tokio::test]
async fn a_request_that_is_allowed_reaches_its_server_with_a_credential_that_the_agent_never_has() {
    for protocol in [H1, H2] {
        let mut world = World::start(inspecting(&["GET /repos/**"])).await;
        let mut agent = world.pair(protocol).await;
        let own = [("authorization", "Bearer of the agent"), ("x-own", "kept")];
        let (status, _) = agent.send("GET", "/repos/a?token=1", &own, full("")).await.unwrap();
        assert_eq!(status, 200);
        let seen = world.seen().remove(0);
        assert!(seen.line.ends_with("/repos/a?token=1"), "{seen:?}");
        assert_eq!(seen.field("authorization"), [format!("Bearer {TOKEN}")]);
        assert_eq!(seen.field("x-own"), ["kept"]);
        let event = world.lab.allows("ok.test").await;
        assert_eq!((event.path, event.detail.as_deref()), (Some(Path::Inspection), Some("GET /repos/a")));
        assert!(!format!("{event:?}").contains(TOKEN));
        assert_eq!(world.lab.connected(), ["ok.test"]);
    }
}

#[tokio::test]
async fn a_credential_that_is_renewed_is_sent_at_once_and_without_one_nothing_is() {
    let mut world = World::start(inspecting(&["GET /**"])).await;
    let mut agent = world.pair(H1).await;
    std::fs::write(&world.token, "renewed").unwrap();
    assert_eq!(agent.get("GET", "/a").await.0, 200);
    assert_eq!(world.seen()[0].field("authorization"), ["Bearer renewed"]);
    world.lab.allows("ok.test").await;
    std::fs::remove_file(&world.token).unwrap();
    let (status, text) = agent.get("GET", "/b").await;
    assert_eq!(status, 403, "{text}");
    assert_eq!(world.seen().len(), 1);
    world.lab.denies(Reason::InspectionRefused).await;
}

#[tokio::test]
async fn a_request_that_no_pattern_allows_is_answered_with_why_and_never_sent() {
    for protocol in [H1, H2] {
        let mut world = World::start(inspecting(&["GET /repos/**"])).await;
        let mut agent = world.pair(protocol).await;
        for (method, path, status, reason) in [
            ("GET", "/admin", 403, Reason::RequestNotAllowed),
            ("POST", "/repos/a", 403, Reason::RequestNotAllowed),
            ("TRACE", "/repos/a", 403, Reason::RequestNotAllowed),
            ("GET", "/repos/../admin", 403, Reason::RequestNotAllowed),
            ("GET", "/repos/a%2f..%2fb", 400, Reason::RequestMalformed),
            ("GET", "/repos/a;b", 400, Reason::RequestMalformed),
        ] {
            let (answered, text) = agent.get(method, path).await;
            assert_eq!(answered, status, "{method} {path}: {text}");
            assert!(
                text.starts_with("egressd denied this request.") && text.contains(reason.as_str()),
                "{text}"
            );
            let event = world.lab.denies(reason).await;
            assert_eq!(event.path, Some(Path::Inspection));
            assert_eq!(event.rule.unwrap().to_string(), "test.yaml:7");
            let shown = format!("{method} {path}");
            assert!(
                event.detail.as_ref().is_some_and(|detail| detail.starts_with(&shown)),
                "{:?}",
                event.detail
            );
        }
        // The connection is none the worse for it.
        assert_eq!(agent.get("GET", "/repos/a").await.0, 200);
        assert_eq!(world.seen().len(), 1);
    }
}

#[tokio::test]
async fn what_is_sent_is_the_normal_form_that_was_judged() {
    for protocol in [H1, H2] {
        let world = World::start(inspecting(&["GET /repos/**"])).await;
        let mut agent = world.pair(protocol).await;
        assert_eq!(agent.get("GET", "//x/..//%72epos/./a?b=%2f").await.0, 200);
        assert!(world.seen()[0].line.ends_with("/repos/a?b=%2f"), "{:?}", world.seen());
    }
}

#[tokio::test]
async fn a_request_for_another_host_than_its_connection_is_denied() {
    let mut world = World::start(inspecting(&["* /**"])).await;
    let mut agent = world.pair(H1).await;
    let (status, text) = agent.send("GET", "/", &[("host", "evil.test")], full("")).await.unwrap();
    assert_eq!(status, 403, "{text}");
    world.lab.denies(Reason::ServerNameNotGranted).await;
    let mut agent = world.pair(H2).await;
    let (status, _) = agent.send("GET", "https://evil.test/", &[], full("")).await.unwrap();
    assert_eq!(status, 403);
    world.lab.denies(Reason::ServerNameNotGranted).await;
    let (status, _) = agent.send("GET", "/", &[("host", "evil.test")], full("")).await.unwrap();
    assert_eq!(status, 403);
    world.lab.denies(Reason::ServerNameNotGranted).await;
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn an_upgrade_is_denied() {
    let mut world = World::start(Inspection::default()).await;
    let mut agent = world.pair(H1).await;
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(agent.send("GET", "/", &fields, full("")).await.unwrap().0, 403);
    world.lab.denies(Reason::RequestNotAllowed).await;
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_denied_before_any_of_it_is_sent() {
    for protocol in [H1, H2] {
        let mut world = World::start(Inspection { max_body: Some(1_000), ..Inspection::default() }).await;
        let mut agent = world.pair(protocol).await;
        assert_eq!(agent.send("POST", "/", &[], full(&"x".repeat(1_000))).await.unwrap().0, 200);
        world.lab.allows("ok.test").await;
        let (status, text) = agent.send("POST", "/", &[], full(&"x".repeat(1_001))).await.unwrap();
        assert_eq!(status, 413, "{text}");
        world.lab.denies(Reason::BodyTooLarge).await;
        assert_eq!(world.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_body_that_turns_out_to_be_too_large_is_cut_at_its_bound() {
    for protocol in [H1, H2] {
        let mut world = World::start(Inspection { max_body: Some(1_000), ..Inspection::default() }).await;
        let mut agent = world.pair(protocol).await;
        let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 600])));
        let body = StreamBody::new(futures_util::stream::iter([frame(), frame(), frame()])).boxed();
        let (status, text) = agent.send("POST", "/", &[], body).await.unwrap();
        assert_eq!(status, 413, "{text}");
        world.lab.allows("ok.test").await;
        world.lab.denies(Reason::BodyTooLarge).await;
        // The server can tell it from a whole one.
        assert!(world.seen().iter().all(|seen| seen.body.is_err()), "{:?}", world.seen());
    }
}

#[tokio::test]
async fn the_bodies_of_one_connection_have_a_bound_together() {
    let mut world = World::start(Inspection { max_bodies: Some(1_500), ..Inspection::default() }).await;
    let mut agent = world.pair(H2).await;
    assert_eq!(agent.send("POST", "/", &[], full(&"x".repeat(1_000))).await.unwrap().0, 200);
    world.lab.allows("ok.test").await;
    assert_eq!(agent.send("POST", "/", &[], full(&"x".repeat(501))).await.unwrap().0, 413);
    world.lab.denies(Reason::BodyTooLarge).await;
    assert_eq!(agent.send("POST", "/", &[], full(&"x".repeat(500))).await.unwrap().0, 200);
}

#[tokio::test]
async fn header_fields_behind_a_body_are_not_sent() {
    let mut world = World::start(Inspection::default()).await;
    let mut agent = world.pair(H2).await;
    let mut fields = http::HeaderMap::new();
    fields.insert("x-behind", http::HeaderValue::from_static("1"));
    let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(fields))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let _ = agent.send("POST", "/", &[], body).await;
    world.lab.allows("ok.test").await;
    world.lab.denies(Reason::RequestMalformed).await;
    assert!(world.seen().iter().all(|seen| seen.field("x-behind").is_empty()));
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_told_nothing_and_the_agent_is_told_why() {
    for kind in [Kind::Stranger, Kind::OfAnother] {
        for protocol in [H1, H2] {
            let mut world = World::start(inspecting(&["* /**"])).await;
            let spoken = [protocol];
            let (agent, server) = tokio::join!(world.agent(&spoken), world.server_tls(&spoken, kind));
            assert!(server.is_err(), "{kind:?}");
            let event = world.lab.denies(Reason::UpstreamUntrusted).await;
            assert_eq!((event.path, event.address), (Some(Path::Inspection), Some(UPSTREAM)));
            let mut agent = Sender::over(agent.unwrap(), protocol == H2).await;
            let (status, text) = agent.get("GET", "/").await;
            assert_eq!(status, 502);
            assert!(text.contains("upstream-untrusted") && !text.contains(TOKEN), "{text}");
        }
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_agent_is_refused() {
    let mut world = World::start(inspecting(&["* /**"])).await;
    let (agent, _) = tokio::join!(world.agent(&[H1]), world.server_tls(&[H1], Kind::Mutual));
    let event = world.lab.denies(Reason::InspectionRefused).await;
    assert!(event.detail.unwrap().contains("mutual TLS"));
    let (status, text) = Sender::over(agent.unwrap(), false).await.get("GET", "/").await;
    assert_eq!(status, 403);
    assert!(text.contains("inspection-refused"), "{text}");
}

#[tokio::test]
async fn an_agent_that_believes_only_its_own_authority_fails_with_a_reason() {
    let mut world = World::start(inspecting(&["* /**"])).await;
    let pinned = world.authority.pem().to_owned();
    let tcp = world.lab.redirected().await;
    let (agent, _) = tokio::join!(world.agent_over(tcp, &pinned, &[H1]), world.serve(&[H1]));
    assert!(agent.is_err());
    let event = world.lab.denies(Reason::InspectionRefused).await;
    assert!(event.detail.unwrap().contains("UnknownCA"));
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn an_agent_and_its_server_speak_the_same_version_of_http() {
    for (agent, server, spoken) in [
        (&[H2, H1][..], &[H2, H1][..], Some(H2)),
        (&[H2, H1], &[H1], Some(H1)),
        (&[H1], &[H2, H1], Some(H1)),
        (&[], &[H2, H1], None),
        (&[H1], &[], Some(H1)),
    ] {
        let world = World::start(Inspection::default()).await;
        let (agent, ()) = tokio::join!(world.agent(agent), world.serve(server));
        let agent = agent.unwrap();
        assert_eq!(agent.get_ref().1.alpn_protocol(), spoken);
        assert_eq!(Sender::over(agent, spoken == Some(H2)).await.get("GET", "/").await.0, 200);
    }
}

#[tokio::test]
async fn an_agent_that_speaks_no_http_is_refused() {
    let mut world = World::start(Inspection::default()).await;
    let (agent, _) = tokio::join!(world.agent(&[b"acme-tls/1"]), world.serve(&[H1]));
    assert!(agent.is_err());
    world.lab.denies(Reason::InspectionRefused).await;
}

#[tokio::test]
async fn a_request_with_two_lengths_is_no_two_requests() {
    let world = World::start(inspecting(&["POST /a"])).await;
    let (agent, ()) = tokio::join!(world.agent(&[H1]), world.serve(&[H1]));
    let mut agent = agent.unwrap();
    let hidden = "GET /admin HTTP/1.1\r\nHost: ok.test\r\n\r\n";
    let smuggled = format!(
        "POST /a HTTP/1.1\r\nHost: ok.test\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    agent.write_all(smuggled.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    while !String::from_utf8_lossy(&answers).contains("egressd denied") {
        if within(agent.read_buf(&mut answers)).await.unwrap_or(0) == 0 {
            break;
        }
    }
    // What was hidden was judged like every request.
    let lines: Vec<String> = world.seen().iter().map(|seen| seen.line.clone()).collect();
    assert_eq!(lines, ["POST /a"]);
}

#[tokio::test]
async fn a_changed_term_cuts_the_flow_on_both_sides() {
    let world = World::start(inspecting(&["GET /**"])).await;
    let (agent, server) = tokio::join!(world.agent(&[H1]), world.server_tls(&[H1], Kind::Honest));
    let (mut agent, mut server) = (agent.unwrap(), server.unwrap());
    agent.write_all(b"GET /a HTTP/1.1\r\nHost: ok.test\r\n\r\n").await.unwrap();
    assert!(within(server.read(&mut [0; 512])).await.unwrap() > 0);
    replace(&world, Some(inspecting(&["GET /a"])));
    assert!(within(agent.read(&mut [0; 512])).await.is_err());
    assert!(within(server.read(&mut [0; 512])).await.is_err());
}

#[tokio::test]
async fn a_rule_that_begins_to_inspect_cuts_flows_that_were_not_inspected() {
    let world = World::start_with(None).await;
    let pinned = world.authority.pem().to_owned();
    let tcp = world.lab.redirected().await;
    let (agent, server) =
        tokio::join!(world.agent_over(tcp, &pinned, &[H1]), world.server_tls(&[H1], Kind::Honest));
    let (mut agent, mut server) = (agent.unwrap(), server.unwrap());
    agent.write_all(b"x").await.unwrap();
    assert_eq!(within(server.read(&mut [0; 512])).await.unwrap(), 1);
    replace(&world, Some(inspecting(&["GET /a"])));
    assert!(within(agent.read(&mut [0; 512])).await.is_err());
}

#[tokio::test]
async fn a_server_that_leaves_ends_the_connection_of_the_agent() {
    let world = World::start(Inspection::default()).await;
    let (agent, server) = tokio::join!(world.agent(&[H1]), world.server_tls(&[H1], Kind::Honest));
    let mut agent = agent.unwrap();
    drop(server);
    assert!(matches!(within(agent.read(&mut [0; 512])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_server_that_nobody_reaches_is_told_of_in_http() {
    let mut world = World::start(Inspection::default()).await;
    let port = world.lab.port;
    let (closed, _) = tokio::net::TcpListener::bind((UPSTREAM, 0)).await.map(|held| (held, port)).unwrap();
    drop(std::mem::replace(&mut world.lab.upstream, closed));
    let agent = world.agent(&[H2, H1]).await.unwrap();
    let event = world.lab.event().await;
    assert_eq!(event.verdict, Verdict::Allow);
    let (status, text) = Sender::over(agent, true).await.get("GET", "/").await;
    assert_eq!(status, 502);
    assert!(text.contains("failed to connect"), "{text}");
}

#[tokio::test]
async fn a_tunnel_by_connect_is_inspected_as_well() {
    let mut world = World::start(inspecting(&["GET /a"])).await;
    world.lab.resolves("ok.test", &[UPSTREAM]);
    let port = world.lab.port;
    let request = format!("CONNECT ok.test:{port} HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    let mut tcp = world.lab.proxied(&request).await;
    reads(&mut tcp, b"HTTP/1.1 200 Connection Established\r\n\r\n").await;
    let (agent, ()) = tokio::join!(world.agent_over(tcp, &world.trusted, &[H1]), world.serve(&[H1]));
    let mut agent = Sender::over(agent.unwrap(), false).await;
    assert_eq!(agent.get("GET", "/a").await.0, 200);
    world.lab.allows("ok.test").await;
    assert_eq!(agent.get("GET", "/b").await.0, 403);
    world.lab.denies(Reason::RequestNotAllowed).await;
}

fn replace(world: &World, inspection: Option<Inspection>) {
    let rules = vec![rule(world.lab.port, inspection)];
    world.lab.agent.replace_policy(Arc::new(Policy::new(rules, Vec::new())));
    world.lab.gate.rejudge(&world.lab.agent, NOW);
}
