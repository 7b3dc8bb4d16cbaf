//! Messages that no stub resolver sends, and streams cut where it hurts.

use crate::{
    granted::code,
    kernel::OneProcess,
    lab::{Lab, allow, public, question, read_frame, receive, workers, write_frame},
    upstream::{Say, Upstream},
};
use egressd::{
    dns::{Sockets, serve},
    policy::Reason,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

#[tokio::test]
async fn a_message_that_cannot_be_read_gets_a_format_error_or_nothing() {
    let mut lab = lab().await;
    let plain = question("ok.test", RecordType::A).to_vec().unwrap();
    let with = |at: usize, octet: u8| [&plain[..at], &[octet], &plain[at + 1..]].concat();
    for (message, expected) in [
        (with(2, 0x28), ResponseCode::NotImp),
        (with(5, 2), ResponseCode::FormErr),
        (with(5, 0), ResponseCode::FormErr),
        (with(7, 1), ResponseCode::FormErr),
        (with(12, 0xc0), ResponseCode::FormErr),
        (plain[..20].to_vec(), ResponseCode::FormErr),
        ([&plain[..], &[0]].concat(), ResponseCode::FormErr),
    ] {
        let reply = lab.udp(&message).await;
        assert_eq!((&reply[..2], code(&reply)), (&plain[..2], expected), "{message:?}");
        assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed));
    }
    let socket = lab.socket().await;
    for silent in [&plain[..11], &[], &with(2, 0x80)] {
        socket.send(silent).await.unwrap();
        assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed));
    }
    socket.send(&question("evil.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    assert_eq!(code(&receive(&socket).await), ResponseCode::Refused);
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn a_name_that_is_no_host_name_is_refused_and_recorded_with_escapes() {
    let mut lab = lab().await;
    for (label, text) in [
        (&b"evil.test\0"[..], r"evil\.test\000.ok.test"),
        (b"ok\xff", r"ok\255.ok.test"),
        (b"a b", r"a\032b.ok.test"),
    ] {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [label, b"ok", b"test", b""] {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label);
        }
        message.extend([0, 1, 0, 1]);
        let reply = lab.udp(&message).await;
        assert_eq!(code(&reply), ResponseCode::Refused);
        assert_eq!(reply[12..], message[12..]);
        let event = lab.event().await;
        assert_eq!((event.reason, event.destination), (Some(Reason::NameInvalid), None));
        assert!(event.detail.unwrap().starts_with(&format!("name `{text}` ")));
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn another_class_than_the_internets_is_refused() {
    let mut lab = lab().await;
    let mut message = question("ok.test", RecordType::A).to_vec().unwrap();
    message[24] = 3;
    assert_eq!(code(&lab.udp(&message).await), ResponseCode::Refused);
    assert_eq!(lab.event().await.reason, Some(Reason::QueryTypeNotAllowed));
}

#[tokio::test]
async fn an_agent_without_edns_gets_short_answers_without_it() {
    let lab = lab().await;
    let mut query = question("ok.test", RecordType::A);
    query.edns = None;
    let reply = lab.udp(&query.to_vec().unwrap()).await;
    let answer = Message::from_vec(&reply).unwrap();
    assert!(reply.len() <= 512 && answer.truncation && answer.edns.is_none());
    let mut stream = lab.tcp().await;
    write_frame(&mut stream, &query.to_vec().unwrap()).await;
    let whole = read_frame(&mut stream).await;
    assert_eq!((whole.answers.len(), whole.truncation), (40, false));
}

#[tokio::test]
async fn tcp_messages_may_come_octet_by_octet_and_many_at_once() {
    let lab = lab().await;
    let mut stream = lab.tcp().await;
    stream.set_nodelay(true).unwrap();
    let mut frames = Vec::new();
    for (id, name) in [(1, "ok.test"), (2, "evil.test"), (3, "ok.test")] {
        let mut query = question(name, RecordType::A);
        query.metadata.id = id;
        let message = query.to_vec().unwrap();
        frames.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        frames.extend(message);
    }
    for octet in &frames[..60] {
        stream.write_all(&[*octet]).await.unwrap();
    }
    stream.write_all(&frames[60..]).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..3 {
        let answer = read_frame(&mut stream).await;
        codes.push((answer.id, answer.response_code));
    }
    codes.sort_by_key(|(id, _)| *id);
    let expected = [ResponseCode::NoError, ResponseCode::Refused, ResponseCode::NoError];
    assert_eq!(codes, [1, 2, 3].into_iter().zip(expected).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_agent_that_closes_its_side_still_gets_its_answers() {
    let lab = lab().await;
    let mut stream = lab.tcp().await;
    write_frame(&mut stream, &question("ok.test", RecordType::A).to_vec().unwrap()).await;
    stream.shutdown().await.unwrap();
    assert_eq!(read_frame(&mut stream).await.response_code, ResponseCode::NoError);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_longest_tcp_message_is_read_and_refused() {
    let lab = lab().await;
    let mut stream = lab.tcp().await;
    let mut message = question("ok.test", RecordType::A).to_vec().unwrap();
    message.resize(65_535, 0);
    write_frame(&mut stream, &message).await;
    assert_eq!(read_frame(&mut stream).await.response_code, ResponseCode::FormErr);
}

#[tokio::test]
async fn an_agent_is_answered_over_ipv6_too() {
    let lab = lab().await;
    let udp = UdpSocket::bind("[::1]:0").await.unwrap();
    let resolver = udp.local_addr().unwrap();
    let sockets =
        Sockets { udp: vec![udp.into_std().unwrap()], tcp: vec![TcpListener::bind(resolver).await.unwrap()] };
    let serving = serve(lab.agent.clone(), sockets, lab.gate.clone(), workers(), Arc::new(OneProcess));
    let serving = tokio::spawn(serving);
    let socket = UdpSocket::bind("[::1]:0").await.unwrap();
    socket.connect(resolver).await.unwrap();
    socket.send(&question("ok.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    assert_eq!(code(&receive(&socket).await), ResponseCode::NoError);
    let mut stream = TcpStream::connect(resolver).await.unwrap();
    write_frame(&mut stream, &question("evil.test", RecordType::AAAA).to_vec().unwrap()).await;
    assert_eq!(read_frame(&mut stream).await.response_code, ResponseCode::Refused);
    serving.abort();
}

async fn lab() -> Lab {
    let upstream = Upstream::start(|_, _| Say::Addresses((1..=40).map(public).collect())).await;
    Lab::start(allow(&["ok.test"]), upstream).await
}
