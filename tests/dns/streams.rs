//! TCP connections that are filled, starved, cut and held.

use crate::{
    lab::{Lab, PATIENCE, agent, allow, public, question, read_frame, serve, write_frame},
    upstream::{Say, Upstream},
};
use egressd::policy::Reason;
use hickory_proto::{op::ResponseCode, rr::RecordType};
use std::{collections::HashMap, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

#[tokio::test]
async fn two_hundred_queries_in_one_write_are_all_answered() {
    let lab = lab().await;
    let kinds = [
        ("ok.test", RecordType::A, ResponseCode::NoError),
        ("evil.test", RecordType::A, ResponseCode::Refused),
        ("ok.test", RecordType::HTTPS, ResponseCode::NoError),
        ("ok.test", RecordType::TXT, ResponseCode::Refused),
        ("ok.test", RecordType::AAAA, ResponseCode::NoError),
    ];
    let (mut segment, mut expected) = (Vec::new(), HashMap::new());
    for (id, (name, kind, code)) in (0..200).zip(kinds.iter().cycle()) {
        segment.extend(frame(id, name, *kind));
        expected.insert(id, *code);
    }
    let mut stream = lab.tcp().await;
    stream.write_all(&segment).await.unwrap();
    let mut codes = HashMap::new();
    for _ in 0..200 {
        let answer = read_frame(&mut stream).await;
        assert_eq!(codes.insert(answer.id, answer.response_code), None, "each is answered once");
    }
    assert_eq!(codes, expected);
    // In any order, and then no more: the connection still serves.
    write_frame(&mut stream, &frame(777, "ok.test", RecordType::A)[2..]).await;
    assert_eq!(read_frame(&mut stream).await.id, 777);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_dribbles_in_is_given_ten_seconds_in_all() {
    let lab = lab().await;
    let start = Instant::now();
    let (mut reader, mut writer) = lab.tcp().await.into_split();
    let dribble = tokio::spawn(async move {
        for octet in frame(1, "ok.test", RecordType::A) {
            if writer.write_all(&[octet]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(3)).await;
        }
    });
    let end = timeout(Duration::from_secs(60), reader.read(&mut [0; 8])).await.expect("it is closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!((10..=12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    dribble.abort();
}

#[tokio::test]
async fn half_a_message_is_no_question() {
    let lab = lab().await;
    let whole = frame(1, "ok.test", RecordType::A);
    for length in [1, 2, 3, 14, whole.len() - 1] {
        let mut stream = lab.tcp().await;
        stream.write_all(&whole[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        let end = timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("the other side closes too");
        assert!(matches!(end, Ok(0) | Err(_)), "{length}: {end:?}");
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn a_message_of_no_octets_is_passed_over() {
    let mut lab = lab().await;
    let mut stream = lab.tcp().await;
    stream.write_all(&[0, 0]).await.unwrap();
    assert_eq!(lab.event().await.reason, Some(Reason::QueryMalformed));
    write_frame(&mut stream, &frame(5, "ok.test", RecordType::A)[2..]).await;
    assert_eq!(read_frame(&mut stream).await.id, 5);
}

#[tokio::test]
async fn connections_that_rest_keep_nobody_from_asking() {
    let lab = lab().await;
    let mut resting = Vec::new();
    for _ in 0..64 {
        let mut stream = lab.tcp().await;
        // Each begins a message, so that it is not only the kernel that took it in.
        stream.write_all(&[0]).await.unwrap();
        resting.push(stream);
    }
    assert_eq!(lab.ask("ok.test", RecordType::A).await.response_code, ResponseCode::NoError);
    let (resolver, serving) = serve(&agent(2, allow(&["ok.test"])), &lab.gate).await;
    let mut other = TcpStream::connect(resolver).await.unwrap();
    write_frame(&mut other, &frame(9, "ok.test", RecordType::A)[2..]).await;
    assert_eq!(read_frame(&mut other).await.id, 9);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_reads_no_answers_is_not_read_for_long() {
    let lab = lab().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(lab.resolver).await.unwrap();
    let query = frame(1, "evil.test", RecordType::A);
    let flood = async {
        let mut count = 0_u32;
        while stream.write_all(&query).await.is_ok() {
            count += 1;
        }
        count
    };
    let count = timeout(Duration::from_secs(600), flood).await.expect("it is closed");
    assert!(count < 1_000_000, "{count} queries were taken in");
    let mut other = lab.tcp().await;
    write_frame(&mut other, &frame(2, "evil.test", RecordType::A)[2..]).await;
    assert_eq!(read_frame(&mut other).await.response_code, ResponseCode::Refused);
}

fn frame(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut query = question(name, kind);
    query.metadata.id = id;
    let message = query.to_vec().unwrap();
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
}

async fn lab() -> Lab {
    let upstream = Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await;
    Lab::start(allow(&["ok.test"]), upstream).await
}
