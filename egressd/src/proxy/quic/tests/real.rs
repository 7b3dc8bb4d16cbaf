//! Real clients and servers: quinn, through the gate, on loopback.

use crate::{
    policy::{Moment, Policy, Protocol::Quic, Reason},
    proxy::tests::lab::{ELSEWHERE, Lab, UPSTREAM, host, within},
};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, Incoming, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{RootCertStore, crypto::ring, pki_types::PrivateKeyDer, version::TLS13};
use std::{net::SocketAddr, sync::Arc};

#[tokio::test]
async fn a_connection_to_a_granted_name_carries_both_ways() {
    let mut lab = lab().await;
    let server = Server::start(&lab, Groups::All);
    let (agent, upstream) = lab_connects(&lab, &server, "ok.test").await;
    exchange(&agent, &upstream, 1 << 20).await;
    let event = lab.allows("ok.test").await;
    assert_eq!((event.address, event.process.unwrap().pid), (Some(UPSTREAM), 42));
    assert_eq!(event.path, Some(crate::audit::Path::Proxy));
    assert_eq!(lab.connected(), ["ok.test"]);
}

#[tokio::test]
async fn a_denied_name_ends_the_attempt_at_once_with_words_and_nothing_leaves() {
    let mut lab = lab().await;
    lab.grant("other.test", ELSEWHERE, Quic);
    lab.grant_until(Moment(500), "old.test", UPSTREAM, Quic);
    let server = Server::start(&lab, Groups::All);
    let denials = [
        ("evil.test", Reason::HostNotAllowed),
        ("other.test", Reason::ServerNameNotGranted),
        ("old.test", Reason::GrantExpired),
    ];
    for (name, reason) in denials {
        let error = within(server.client().connect(lab.quic, name).unwrap()).await.unwrap_err();
        let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
        assert_eq!(u64::from(close.error_code), 0x131);
        assert_eq!(&close.reason[..], format!("egressd: {reason}: {}", reason.explanation()).as_bytes());
        lab.denies(reason).await;
    }
    server.is_untouched();
}

#[tokio::test]
async fn a_server_that_asks_for_a_retry_or_another_key_share_is_reached() {
    for (groups, retries) in [(Groups::All, true), (Groups::NotTheFirst, false), (Groups::NotTheFirst, true)]
    {
        let lab = lab().await;
        let server = Server::start(&lab, groups);
        let connecting = server.client().connect(lab.quic, "ok.test").unwrap();
        let accepting = async {
            let incoming = server.incoming().await;
            let incoming = if retries {
                incoming.retry().unwrap();
                server.incoming().await
            } else {
                incoming
            };
            incoming.await.unwrap()
        };
        let (agent, upstream) = within(async { tokio::join!(connecting, accepting) }).await;
        exchange(&agent.unwrap(), &upstream, 100).await;
    }
}

#[tokio::test]
async fn connections_that_share_a_socket_are_judged_each_by_its_own_name() {
    let mut lab = lab().await;
    lab.grant("also.test", UPSTREAM, Quic);
    let server = Server::start(&lab, Groups::All);
    let client = server.client();
    let first = connects(&client, &lab, &server, "ok.test").await;
    lab.allows("ok.test").await;
    let second = connects(&client, &lab, &server, "also.test").await;
    lab.allows("also.test").await;
    assert!(within(client.connect(lab.quic, "evil.test").unwrap()).await.is_err());
    lab.denies(Reason::HostNotAllowed).await;
    exchange(&first.0, &first.1, 1000).await;
    exchange(&second.0, &second.1, 1000).await;
}

#[tokio::test]
async fn a_removed_rule_cuts_its_flows_and_only_those() {
    let mut lab = lab().await;
    lab.grant("also.test", UPSTREAM, Quic);
    let server = Server::start(&lab, Groups::All);
    let cut = lab_connects(&lab, &server, "ok.test").await;
    let kept = lab_connects(&lab, &server, "also.test").await;
    lab.allows("ok.test").await;
    lab.allows("also.test").await;
    let policy = Policy::new(vec![host("also.test", lab.port, Quic)], Vec::new());
    lab.agent.replace_policy(Arc::new(policy));
    lab.gate.rejudge(&lab.agent, crate::proxy::tests::lab::NOW);
    assert_eq!(lab.event().await.reason, Some(Reason::RuleRemoved));
    exchange(&kept.0, &kept.1, 1000).await;
    // Neither side hears of the other any more.
    let before = cut.1.stats().udp_rx.datagrams;
    let mut stream = cut.0.open_uni().await.unwrap();
    stream.write_all(b"secret").await.unwrap();
    assert!(within(stream.stopped()).await.is_err(), "the agent gives up");
    assert_eq!(cut.1.stats().udp_rx.datagrams, before);
    // What it begins anew is judged anew.
    assert!(within(server.client().connect(lab.quic, "ok.test").unwrap()).await.is_err());
    lab.denies(Reason::HostNotAllowed).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    let mut lab = lab().await;
    let server = Server::start(&lab, Groups::All);
    lab.grant("ok.test", ELSEWHERE, Quic);
    lab.redirects_from(Some((ELSEWHERE, lab.port).into()));
    let error = within(server.client().connect(lab.quic, "ok.test").unwrap()).await.unwrap_err();
    let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    assert_eq!(u64::from(close.error_code), 0x2);
    lab.allows("ok.test").await;
}

/// A server at the lab's upstream.
struct Server {
    endpoint: Endpoint,
    trust: RootCertStore,
}

/// The key shares that a server takes.
#[derive(Debug, Clone, Copy)]
enum Groups {
    All,
    /// Another one than clients offer at first.
    NotTheFirst,
}

impl Server {
    fn start(lab: &Lab, groups: Groups) -> Self {
        let names = ["ok.test", "also.test", "other.test", "old.test", "evil.test"].map(str::to_owned);
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let mut provider = ring::default_provider();
        match groups {
            Groups::All => {}
            Groups::NotTheFirst => provider.kx_groups.retain(|group| group.name() != first_offered()),
        }
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let tls = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::server(config, SocketAddr::new(UPSTREAM, lab.port)).unwrap();
        let mut trust = RootCertStore::empty();
        trust.add(cert.der().clone()).unwrap();
        Self { endpoint, trust }
    }

    /// A socket of the agent.
    fn client(&self) -> Endpoint {
        let tls = rustls::ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(self.trust.clone())
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(quinn::VarInt::from_u32(3000).into()));
        config.transport_config(Arc::new(transport));
        let mut client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        client.set_default_client_config(config);
        client
    }

    async fn incoming(&self) -> Incoming {
        within(self.endpoint.accept()).await.unwrap()
    }

    /// That nobody has spoken to it.
    fn is_untouched(&self) {
        let stats = self.endpoint.stats();
        assert_eq!(
            (stats.accepted_handshakes, stats.refused_handshakes, stats.ignored_handshakes),
            (0, 0, 0)
        );
    }
}

fn first_offered() -> rustls::NamedGroup {
    ring::default_provider().kx_groups[0].name()
}

async fn connects(client: &Endpoint, lab: &Lab, server: &Server, name: &str) -> (Connection, Connection) {
    let connecting = client.connect(lab.quic, name).unwrap();
    let accepting = async { server.incoming().await.await.unwrap() };
    let (agent, upstream) = within(async { tokio::join!(connecting, accepting) }).await;
    (agent.unwrap(), upstream)
}

async fn lab_connects(lab: &Lab, server: &Server, name: &str) -> (Connection, Connection) {
    connects(&server.client(), lab, server, name).await
}

/// Sends `size` octets each way, over one stream.
async fn exchange(agent: &Connection, upstream: &Connection, size: usize) {
    let there = async {
        let (mut send, mut receive) = agent.open_bi().await.unwrap();
        send.write_all(&vec![7; size]).await.unwrap();
        send.finish().unwrap();
        assert_eq!(receive.read_to_end(size).await.unwrap().len(), size);
    };
    let back = async {
        let (mut send, mut receive) = upstream.accept_bi().await.unwrap();
        let bytes = receive.read_to_end(size).await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    within(async { tokio::join!(there, back) }).await;
}

async fn lab() -> Lab {
    let names = ["ok.test", "also.test", "other.test", "old.test"];
    let lab = Lab::start(|port| names.iter().map(|name| host(name, port, Quic)).collect()).await;
    lab.grant("ok.test", UPSTREAM, Quic);
    lab
}
