//! The internet's servers for QUIC, and a client that visits them.

use crate::{
    lab::Lab,
    places::{OK, SHARED, SHARED_EVIL},
};
use quinn::{
    ClientConfig, Endpoint, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::ResolvesServerCertUsingSni,
    sign::CertifiedKey,
    version::TLS13,
};
use std::{
    env,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{runtime, sync::oneshot};

/// Answers until it is dropped, with the name that it was asked for.
pub struct QuicServer {
    visits: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl QuicServer {
    /// Returns when every socket is bound.
    pub fn start(lab: &Lab) -> Self {
        let visits = Arc::<AtomicUsize>::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let config = server_config(lab.folder());
        let count = Arc::clone(&visits);
        let thread = lab.spawn_on_inet(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                for address in [IpAddr::V4(OK.v4), OK.v6.into(), SHARED.v4.into(), SHARED.v6.into()] {
                    let endpoint = Endpoint::server(config.clone(), SocketAddr::new(address, 443));
                    let endpoint = endpoint.expect("a server for QUIC can be bound");
                    tokio::spawn(serve(endpoint, Arc::clone(&count)));
                }
                ready.send(()).expect("the lab waits");
                let _ = stopped.await;
            });
        });
        is_ready.recv().expect("servers for QUIC can be bound");
        Self { visits, stop: Some(stop), thread: Some(thread) }
    }

    /// How many hellos have come, from whomever.
    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

impl Drop for QuicServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(endpoint: Endpoint, visits: Arc<AtomicUsize>) {
    while let Some(incoming) = endpoint.accept().await {
        visits.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let connection = incoming.await.ok()?;
            let handshake = connection.handshake_data()?;
            let handshake = handshake.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
            let mut stream = connection.open_uni().await.ok()?;
            let answer = format!("hello from {}", handshake.server_name?);
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.finish().ok()?;
            connection.closed().await;
            Some(())
        });
    }
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// It looks this name up first.
    pub looks_up: &'static str,
    /// It connects to this address,
    pub address: IpAddr,
    /// and asks there for this name.
    pub asks_for: &'static str,
    /// Whether it stays until the connection is lost.
    pub stays: bool,
}

impl Visit {
    /// The command of the client, which is in this very program.
    pub fn command(self) -> [String; 10] {
        let program = env::current_exe().expect("the test knows its program");
        [
            "env".to_owned(),
            format!("QUIC_LOOKS_UP={}", self.looks_up),
            format!("QUIC_ADDRESS={}", self.address),
            format!("QUIC_ASKS_FOR={}", self.asks_for),
            format!("QUIC_STAYS={}", self.stays),
            program.to_str().expect("paths of the build are UTF-8").to_owned(),
            "--exact".to_owned(),
            "quic_server::visits_a_server".to_owned(),
            "--include-ignored".to_owned(),
            "--nocapture".to_owned(),
        ]
    }
}

#[test]
#[ignore = "is the client that other tests run"]
fn visits_a_server() {
    let variable = |name: &str| env::var(name).expect("another test says whom to visit");
    let address = SocketAddr::new(variable("QUIC_ADDRESS").parse().expect("an address"), 443);
    let found = (variable("QUIC_LOOKS_UP"), 443).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    println!("found: {found:?}");
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        match visit(&variable("QUIC_ASKS_FOR"), address).await {
            Ok((connection, answer)) => {
                println!("answer: {answer}");
                if variable("QUIC_STAYS") == "true" {
                    println!("lost: {}", connection.closed().await);
                }
            }
            Err(error) => println!("error: {error}"),
        }
    });
}

async fn visit(
    name: &str,
    address: SocketAddr,
) -> Result<(quinn::Connection, String), Box<dyn std::error::Error>> {
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let mut endpoint = Endpoint::client(SocketAddr::new(any, 0))?;
    endpoint.set_default_client_config(client_config());
    let connection = endpoint.connect(address, name)?.await?;
    let mut stream = connection.accept_uni().await?;
    let answer = stream.read_to_end(1000).await?;
    Ok((connection, String::from_utf8(answer)?))
}

fn client_config() -> ClientConfig {
    let authority = env::var("SSL_CERT_FILE").expect("the lab names its authority");
    let mut trust = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(authority).expect("the authority can be read");
    trust.add(authority).expect("the authority is valid");
    let tls = rustls::ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3 is known")
        .with_root_certificates(trust)
        .with_no_client_auth();
    let tls = QuicClientConfig::try_from(tls).expect("TLS fits QUIC");
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(4).try_into().expect("the time fits")));
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

fn server_config(folder: &Path) -> ServerConfig {
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("the key can be read");
    let key = ring::sign::any_supported_type(&key).expect("the key can be used");
    let mut certificates = ResolvesServerCertUsingSni::new();
    for name in [OK.name, SHARED.name, SHARED_EVIL] {
        let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem")));
        let certificate = certificate.expect("the certificate can be read");
        let certified = CertifiedKey::new(vec![certificate], Arc::clone(&key));
        certificates.add(name, certified).expect("the certificate fits its name");
    }
    let tls = rustls::ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3 is known")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("TLS fits QUIC")))
}
