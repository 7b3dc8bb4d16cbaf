//! What the programs keep of a flow, and for how long.

use crate::{
    harness::{Harness, SERVER_HELLO},
    hellos::hello,
    world::World,
};
use egress_common::MAX_SILENT_PER_AGENT;
use std::{
    io::{ErrorKind, Write},
    net::{Ipv6Addr, TcpStream},
    time::{Duration, Instant},
};

#[test]
fn a_socket_that_named_its_server_is_a_plain_one_before_the_call_returns() {
    let harness = Harness::alone(&["ok.test"]);
    let mut stream = harness.connect();
    assert_eq!((harness.world.silent(), harness.world.judged().len()), (1, 1));
    stream.write_all(&hello("ok.test")).expect("sent");
    assert_eq!((harness.world.silent(), harness.world.judged().len()), (0, 0));
}

#[test]
fn the_silent_sockets_of_an_agent_are_bounded_and_places_are_given_back() {
    let harness = Harness::alone(&["ok.test"]);
    let mut silent: Vec<TcpStream> = (0..MAX_SILENT_PER_AGENT).map(|_| harness.connect()).collect();
    let refused = TcpStream::connect(harness.server.address).expect_err("one too many");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    silent[0].write_all(&hello("ok.test")).expect("sent");
    let mut last = harness.connect();
    drop(silent);
    last.write_all(&hello("evil.test")).expect("answered");
    drop(last);
    eventually(|| harness.world.silent() == 0 && harness.world.judged().is_empty());
    drop(harness.connect());
}

#[test]
fn a_flow_is_known_by_its_name_until_tcp_is_done_with_it() {
    let harness = Harness::new(&["ok.test"]);
    let port = harness.server.address.port();
    let hello = hello("OK.test");
    harness.server.answers(vec![(hello.len(), SERVER_HELLO.to_vec())]);
    let mut stream = harness.connect();
    assert!(harness.world.named_flows(port).is_empty());
    stream.write_all(&hello).expect("sent");
    let flows = harness.world.named_flows(port);
    let [(key, flow)] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!(key.source_port, stream.local_addr().expect("address").port());
    assert_eq!((&flow.name[..8], flow.length), (&b"ok.test\0"[..], 7));
    drop(stream);
    eventually(|| harness.world.named_flows(port).is_empty());
}

#[test]
fn a_flow_that_a_reload_denies_by_its_name_ends_and_others_go_on() {
    let harness = Harness::alone(&["ok.test"]);
    let port = harness.server.address.port();
    let open = |harness: &Harness| {
        let hello = hello("ok.test");
        harness.server.answers(vec![(hello.len(), SERVER_HELLO.to_vec())]);
        let mut stream = harness.connect();
        stream.write_all(&hello).expect("sent");
        Harness::hear(&mut stream);
        (stream, hello)
    };
    let (mut cut, hello) = open(&harness);
    let cut_port = cut.local_addr().expect("address").port();
    let (mut kept, _) = open(&harness);
    let kept_port = kept.local_addr().expect("address").port();
    let flows = harness.world.named_flows(port);
    let (key, _) = flows.iter().find(|(key, _)| key.source_port == cut_port).expect("open");
    harness.world.cut(key);
    harness.world.configure(2);
    let _ = cut.write_all(b"more");
    kept.write_all(b"more").expect("sent");
    assert_eq!(harness.finish(cut, None).arrived, hello);
    eventually(|| harness.server.flow(kept_port).arrived == [&hello[..], b"more"].concat());
    harness.world.configure(1);
}

#[test]
fn permits_are_reported_in_few_events_that_stand_for_all() {
    let harness = Harness::new(&["ok.test"]);
    let hello = hello("ok.test");
    let begin = Instant::now();
    for _ in 0..50 {
        assert_eq!(harness.send(&[&hello]).arrived, hello);
    }
    let events = harness.world.events(harness.server.address.port());
    let told: u32 = events.iter().map(|event| event.flows).sum();
    let untold = harness.world.untold("ok.test", harness.server.address);
    assert_eq!(told + untold, 50);
    assert!(events.len() as u128 <= begin.elapsed().as_millis() / 100 + 1, "{events:?}");
}

#[test]
fn a_flow_by_ipv6_is_judged_as_one_by_ipv4_is() {
    let harness = Harness::at(Ipv6Addr::LOCALHOST.into(), &["ok.test"]);
    let hello = hello("ok.test");
    assert_eq!(harness.send(&[&hello]).arrived, hello);
    let outcome = harness.send(&[&crate::hellos::hello("evil.test")]);
    assert!(outcome.arrived.is_empty() && outcome.is_alerted(), "{outcome:?}");
}

#[test]
fn a_name_that_was_taken_away_after_the_socket_connected_does_not_pass() {
    let harness = Harness::new(&["ok.test"]);
    let mut stream = harness.connect();
    let address = harness.server.address;
    harness.world.forget("ok.test", address.ip(), address.port());
    let error = stream.write_all(&hello("ok.test")).err().map(|error| error.kind());
    let outcome = harness.finish(stream, error);
    assert!(outcome.arrived.is_empty() && outcome.is_alerted(), "{outcome:?}");
}

#[test]
fn a_socket_that_is_connected_again_names_its_server_again() {
    let harness = Harness::new(&["ok.test"]);
    let hello = hello("ok.test");
    harness.server.answers(vec![(hello.len(), SERVER_HELLO.to_vec())]);
    let mut stream = harness.connect();
    stream.write_all(&hello).expect("sent");
    Harness::hear(&mut stream);
    World::disconnect(&stream);
    let socket = socket2::Socket::from(stream);
    socket.connect(&harness.server.address.into()).expect("connected again");
    let mut stream = TcpStream::from(socket);
    let error = stream.write_all(b"anything").err().map(|error| error.kind());
    assert!(harness.finish(stream, error).arrived.is_empty());
}

#[track_caller]
fn eventually(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "did not come true");
        std::thread::yield_now();
    }
}
