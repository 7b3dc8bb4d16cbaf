//! Upstreams that lie, stall, close and overflow: what comes of it is an answer that can be believed,
//! or none.

use crate::{
    lab::{PATIENCE, host, public},
    upstream::{Say, Upstream, bind},
};
use egressd::{
    dns::{self, Ask, Carriage, Family, Found, LookupError, Server, Signatures, Terms},
    policy::HostName,
};
use hickory_proto::{
    op::Message,
    rr::{RData, Record, rdata::A},
};
use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

#[tokio::test]
async fn an_answer_from_another_address_or_port_is_passed_over() {
    let (udp, _tcp) = bind().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let resolver = dns::Upstream::to(&[udp.local_addr().unwrap()]).unwrap();
    let serve = async {
        let (query, peer) = question(&udp).await;
        for forger in [&stranger, &elsewhere] {
            forger.send_to(&answer(&query, 66), peer).await.unwrap();
        }
        udp.send_to(&answer(&query, 1), peer).await.unwrap();
    };
    assert_eq!(both(&resolver, serve).await, Ok(vec![public(1)]));
}

#[tokio::test]
async fn an_answer_to_another_question_or_with_another_id_is_passed_over() {
    let (udp, _tcp) = bind().await;
    let resolver = dns::Upstream::to(&[udp.local_addr().unwrap()]).unwrap();
    let serve = async {
        let (query, peer) = question(&udp).await;
        let mut other_id = query.clone();
        other_id.metadata.id = query.metadata.id.wrapping_add(1);
        let mut other_name = query.clone();
        other_name.queries[0].set_name("evil.test.".parse().unwrap());
        for forged in [answer(&other_id, 66), answer(&other_name, 66), vec![], vec![0]] {
            udp.send_to(&forged, peer).await.unwrap();
        }
        let mut unasked = Message::from_vec(&answer(&query, 66)).unwrap();
        unasked.queries.clear();
        udp.send_to(&unasked.to_vec().unwrap(), peer).await.unwrap();
        udp.send_to(&answer(&query, 1), peer).await.unwrap();
    };
    assert_eq!(both(&resolver, serve).await, Ok(vec![public(1)]));
}

#[tokio::test]
async fn each_question_leaves_with_its_own_id_port_and_spelling() {
    let (udp, _tcp) = bind().await;
    let resolver = dns::Upstream::to(&[udp.local_addr().unwrap()]).unwrap();
    let (mut ids, mut ports, mut spellings) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..8 {
        let serve = async {
            let (query, peer) = question(&udp).await;
            udp.send_to(&answer(&query, 1), peer).await.unwrap();
            (query.metadata.id, peer.port(), query.queries[0].name().to_string())
        };
        let asked = name();
        let (found, (id, port, spelling)) = tokio::join!(resolver.ask(&asked, Family::V4), serve);
        assert_eq!(addresses(found), Ok(vec![public(1)]));
        ids.push(id);
        ports.push(port);
        spellings.push(spelling);
    }
    for distinct in [&mut ids, &mut ports] {
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() >= 6, "{distinct:?}");
    }
    spellings.sort();
    spellings.dedup();
    assert!(spellings.len() >= 6, "{spellings:?}");
}

#[tokio::test]
async fn a_name_that_points_to_itself_is_no_answer() {
    let (udp, _tcp) = bind().await;
    let resolver = dns::Upstream::to(&[udp.local_addr().unwrap()]).unwrap();
    let serve = async {
        let (query, peer) = question(&udp).await;
        let mut message = answer(&query, 1);
        let owner = message.len() - 16;
        // The pointer of the answer's own name, to where it stands itself.
        message[owner..owner + 2].copy_from_slice(&[0xc0, u8::try_from(owner).unwrap()]);
        udp.send_to(&message, peer).await.unwrap();
    };
    assert!(matches!(both(&resolver, serve).await, Err(LookupError::Server { .. })));
}

#[tokio::test]
async fn an_answer_that_is_cut_over_tcp_too_is_none() {
    let (udp, tcp) = bind().await;
    let resolver = dns::Upstream::to(&[udp.local_addr().unwrap()]).unwrap();
    let serve = async {
        let (query, peer) = question(&udp).await;
        udp.send_to(&cut(&query), peer).await.unwrap();
        let (mut stream, _) = tcp.accept().await.unwrap();
        let query = read(&mut stream).await.unwrap();
        write(&mut stream, &cut(&query)).await;
        stream
    };
    assert!(matches!(both(&resolver, serve).await, Err(LookupError::Server { .. })));
}

#[tokio::test]
async fn the_longest_answer_there_is_brings_no_more_than_its_own_records() {
    let (resolver, _server) = tcp_server(|query| {
        let mut message = query.clone().into_response();
        message.answers =
            vec![Record::from_rdata("evil.test.".parse().unwrap(), 60, RData::A(A::new(9, 9, 9, 66))); 2300];
        message.answers.push(address(query, 1));
        vec![message.to_vec().unwrap()]
    })
    .await;
    assert_eq!(addresses(resolver.ask(&name(), Family::V4).await), Ok(vec![public(1)]));
    let (resolver, _server) = tcp_server(|query| {
        let mut message = query.clone().into_response();
        message.answers = vec![address(query, 1); 1500];
        vec![message.to_vec().unwrap()]
    })
    .await;
    let outcome = resolver.ask(&name(), Family::V4).await;
    assert!(matches!(outcome, Err(LookupError::Chain(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_burst_of_questions_opens_one_connection() {
    let (resolver, server) = tcp_server(|query| vec![answer(query, 1)]).await;
    let resolver = Arc::new(resolver);
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let resolver = Arc::clone(&resolver);
        tasks.spawn(
            async move { addresses(resolver.ask(&host(&format!("n{number}.test")), Family::V4).await) },
        );
    }
    while let Some(found) = tasks.join_next().await {
        assert_eq!(found.unwrap(), Ok(vec![public(1)]));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_again() {
    // One answer, and the server closes.
    let (udp, tcp) = bind().await;
    drop(udp);
    let resolver = over_tcp(tcp.local_addr().unwrap());
    let serve = async {
        for _ in 0..3 {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let query = read(&mut stream).await.unwrap();
            write(&mut stream, &answer(&query, 1)).await;
        }
    };
    let ask = async {
        for _ in 0..3 {
            assert_eq!(addresses(resolver.ask(&name(), Family::V4).await), Ok(vec![public(1)]));
        }
    };
    timeout(PATIENCE, async { tokio::join!(serve, ask) }).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_rested_is_not_trusted_to_be_there() {
    let (resolver, server) = tcp_server(|query| vec![answer(query, 1)]).await;
    for (rest, connections) in [(0, 1), (9, 1), (9, 1), (11, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(rest)).await;
        tokio::time::resume();
        assert_eq!(addresses(resolver.ask(&name(), Family::V4).await), Ok(vec![public(1)]));
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn answers_over_one_connection_may_come_in_any_order_and_octet_by_octet() {
    let (udp, tcp) = bind().await;
    drop(udp);
    let resolver = over_tcp(tcp.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = tcp.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut queries = [read(&mut stream).await.unwrap(), read(&mut stream).await.unwrap()];
        queries.sort_by_key(|query| query.queries[0].name().clone());
        for (last, query) in [(2, &queries[1]), (1, &queries[0])] {
            let message = answer(query, last);
            for octet in [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat() {
                stream.write_all(&[octet]).await.unwrap();
            }
        }
        stream
    };
    let (a, b) = (host("a.test"), host("b.test"));
    let ask = async { tokio::join!(resolver.ask(&a, Family::V4), resolver.ask(&b, Family::V4)) };
    let ((a, b), _) = tokio::join!(ask, serve);
    assert_eq!((addresses(a), addresses(b)), (Ok(vec![public(1)]), Ok(vec![public(2)])));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_a_connection_and_says_nothing_is_a_failure() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let mut held = JoinSet::new();
    held.spawn(async move {
        let mut streams = Vec::new();
        loop {
            streams.push(tcp.accept().await.unwrap());
        }
    });
    let server_name = Some("dns.example".into());
    for carriage in [
        Carriage::Tcp,
        Carriage::Tls { name: server_name.clone() },
        Carriage::Https { name: server_name.clone(), path: "/dns-query".into() },
    ] {
        let resolver = resolver(vec![Server { address, carriage }]);
        let outcome = resolver.ask(&name(), Family::V4).await;
        assert!(matches!(outcome, Err(LookupError::Server { .. } | LookupError::Deadline)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_slow_is_overtaken_by_the_next_one() {
    let slow = Upstream::start_held(|_, _| Say::Addresses(vec![public(66)])).await;
    let fast = Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await;
    let resolver = dns::Upstream::to(&[slow.address, fast.address]).unwrap();
    assert_eq!(addresses(resolver.ask(&name(), Family::V4).await), Ok(vec![public(1)]));
    assert_eq!(slow.asked().len(), 1, "it was asked first");
    assert_eq!(addresses(resolver.ask(&name(), Family::V4).await), Ok(vec![public(1)]));
}

#[tokio::test]
async fn the_third_server_is_asked_when_two_are_silent() {
    let silent = Upstream::start_held(|_, _| Say::Addresses(vec![public(66)])).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sound = Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await;
    let name = Some("dns.example".into());
    let resolver = resolver(vec![
        Server::from(silent.address),
        Server { address: deaf.local_addr().unwrap(), carriage: Carriage::Tls { name } },
        Server::from(sound.address),
    ]);
    let (a, b) = (host("a.test"), host("b.test"));
    let (a, b) = tokio::join!(resolver.ask(&a, Family::V4), resolver.ask(&b, Family::V6));
    assert_eq!((addresses(a), addresses(b)), (Ok(vec![public(1)]), Ok(Vec::new())));
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_while_others_answer() {
    let broken = Upstream::start(|_, _| Say::Noise).await;
    let sound = Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await;
    let resolver = dns::Upstream::to(&[broken.address, sound.address]).unwrap();
    for _ in 0..20 {
        assert_eq!(addresses(resolver.ask(&name(), Family::V4).await), Ok(vec![public(1)]));
    }
    assert_eq!(broken.asked().len(), 1, "once it failed it comes last");
}

#[tokio::test]
async fn servers_that_all_rest_are_asked_nevertheless() {
    let broken = Upstream::start(|_, _| Say::Noise).await;
    let resolver = dns::Upstream::to(&[broken.address]).unwrap();
    for count in 1..10 {
        assert!(matches!(resolver.ask(&name(), Family::V4).await, Err(LookupError::Server { .. })));
        assert_eq!(broken.asked().len(), count);
    }
}

/// A server over TCP that says what `say` says to each question.
async fn tcp_server(
    say: impl Fn(&Message) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> (dns::Upstream, TcpServer) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resolver = over_tcp(tcp.local_addr().unwrap());
    let (connections, say) = (Arc::new(AtomicUsize::new(0)), Arc::new(say));
    let count = Arc::clone(&connections);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let say = Arc::clone(&say);
            tokio::spawn(async move {
                while let Some(query) = read(&mut stream).await {
                    for message in say(&query) {
                        write(&mut stream, &message).await;
                    }
                }
            });
        }
    });
    (resolver, TcpServer { connections, _tasks: tasks })
}

struct TcpServer {
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl TcpServer {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn over_tcp(address: SocketAddr) -> dns::Upstream {
    resolver(vec![Server { address, carriage: Carriage::Tcp }])
}

fn resolver(servers: Vec<Server>) -> dns::Upstream {
    dns::Upstream::new(&Terms { servers, authorities: None, signatures: Signatures::Ignore }).unwrap()
}

/// Asks for [`name`] while `serve` is what the server does.
async fn both<T>(
    resolver: &dns::Upstream,
    serve: impl Future<Output = T>,
) -> Result<Vec<IpAddr>, LookupError> {
    let (asked, serve) = (name(), timeout(PATIENCE, serve));
    let (found, _served) = tokio::join!(resolver.ask(&asked, Family::V4), serve);
    addresses(found)
}

fn name() -> HostName {
    host("a-name-with-letters.test")
}

fn addresses(found: Result<Found, LookupError>) -> Result<Vec<IpAddr>, LookupError> {
    found.map(|found| match found {
        Found::Addresses { addresses, .. } => addresses,
        Found::NoData { .. } | Found::NoName { .. } => Vec::new(),
    })
}

async fn question(udp: &UdpSocket) -> (Message, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
    (Message::from_vec(&buffer[..length]).unwrap(), peer)
}

fn answer(query: &Message, last: u8) -> Vec<u8> {
    let mut message = query.clone().into_response();
    message.edns = None;
    message.answers = vec![address(query, last)];
    message.to_vec().unwrap()
}

fn address(query: &Message, last: u8) -> Record {
    Record::from_rdata(query.queries[0].name().clone(), 60, RData::A(A::new(9, 9, 9, last)))
}

fn cut(query: &Message) -> Vec<u8> {
    let mut message = query.clone().into_response();
    message.metadata.truncation = true;
    message.to_vec().unwrap()
}

/// None once the other side closed.
async fn read(stream: &mut TcpStream) -> Option<Message> {
    let mut message = vec![0; usize::from(stream.read_u16().await.ok()?)];
    stream.read_exact(&mut message).await.ok()?;
    Some(Message::from_vec(&message).unwrap())
}

async fn write(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
    stream.write_all(message).await.unwrap();
}
