//! One resolver: how it is reached, and one question to it.

use hickory_resolver::{
    net::{
        NetError,
        h2::HttpsClientStream,
        runtime::{RuntimeProvider, Spawn, TokioRuntimeProvider},
        tcp::TcpClientStream,
        tls::tls_client_connect_with_bind_addr,
        udp::UdpClientStream,
        xfer::{DnsExchange, DnsHandle, DnsMultiplexer, DnsRequestSender, FirstAnswer},
    },
    proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query},
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// A resolver to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub address: SocketAddr,
    pub carriage: Carriage,
}

/// What carries a question to a resolver and its answer back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carriage {
    /// UDP, and TCP where an answer does not fit or seems forged.
    Udp,
    Tcp,
    /// DNS over TLS (RFC 7858). The certificate has to hold `name`, or the address where there is
    /// none.
    Tls {
        name: Option<Arc<str>>,
    },
    /// DNS over HTTPS (RFC 8484), by HTTP/2. `path` begins with a slash.
    Https {
        name: Option<Arc<str>>,
        path: Arc<str>,
    },
}

/// As `upstreams` of `egressd.yaml` has it.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, carriage } = self;
        let name =
            |name: &Option<Arc<str>>| name.as_ref().map_or_else(String::new, |name| format!("#{name}"));
        match carriage {
            Carriage::Udp => write!(f, "{address}"),
            Carriage::Tcp => write!(f, "tcp://{address}"),
            Carriage::Tls { name: own } => write!(f, "tls://{address}{}", name(own)),
            Carriage::Https { name: own, path } => write!(f, "https://{address}{path}{}", name(own)),
        }
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self { address, carriage: Carriage::Udp }
    }
}

/// A resolver with the one connection that is kept to it.
pub(super) struct Line {
    pub(super) server: Server,
    tls: Option<Arc<ClientConfig>>,
    /// What drives the connection: it ends with this.
    provider: TokioRuntimeProvider,
    /// Locked while it is made, so that a burst of questions opens one and not a hundred.
    connection: Mutex<Option<Kept>>,
}

struct Kept {
    connection: Connection,
    last_used: Instant,
}

#[derive(Clone)]
struct Connection {
    exchange: DnsExchange<TokioRuntimeProvider>,
    /// The same for all clones of one connection.
    identity: Arc<()>,
}

impl Line {
    pub(super) fn new(server: Server, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { server, tls, provider: TokioRuntimeProvider::default(), connection: Mutex::default() }
    }

    /// Asks one question of our own spelling, within [`PATIENCE`].
    ///
    /// # Errors
    /// No answer came, or none that belongs to this question.
    pub(super) async fn ask(&self, question: &Query, seal: Seal) -> Result<DnsResponse, NetError> {
        timeout(PATIENCE, self.ask_patiently(question, seal)).await.unwrap_or(Err(NetError::Timeout))
    }

    async fn ask_patiently(&self, question: &Query, seal: Seal) -> Result<DnsResponse, NetError> {
        if self.server.carriage != Carriage::Udp {
            return self.ask_connection(question, seal).await;
        }
        match self.ask_datagram(question, seal).await {
            Ok(response) if response.metadata.truncation => self.ask_connection(question, seal).await,
            // Spelt otherwise than we asked: forged, or from a resolver that cannot keep a spelling.
            Err(NetError::QueryCaseMismatch) => self.ask_connection(question, seal).await,
            other => other,
        }
    }

    /// Each datagram leaves from a port of its own, and is sent again twice.
    async fn ask_datagram(&self, question: &Query, seal: Seal) -> Result<DnsResponse, NetError> {
        let mut stream = UdpClientStream::builder(self.server.address, self.provider.clone())
            .with_timeout(Some(PATIENCE))
            .with_retry_interval_floor(RESEND_MILLIS)
            .with_max_retries(SENDS)
            .build();
        stream.send_message(request(question, seal, true)).first_answer().await
    }

    /// A connection that was kept may have been closed meanwhile: then another is made, once.
    async fn ask_connection(&self, question: &Query, seal: Seal) -> Result<DnsResponse, NetError> {
        loop {
            let (connection, is_kept) = self.connection().await?;
            let answer = connection.exchange.send(request(question, seal, false)).first_answer().await;
            match answer {
                Ok(response) if response.metadata.truncation => return Err(NetError::Truncated),
                Ok(response) => return Ok(response),
                // Busy is a connection that is full, or gone: who waits on it does so to the end.
                Err(error) => {
                    self.close(&connection).await;
                    if !is_kept || matches!(error, NetError::Timeout) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The connection that is kept, or one that is made now; and which of both.
    async fn connection(&self) -> Result<(Connection, bool), NetError> {
        let mut kept = self.connection.lock().await;
        if let Some(kept) = kept.as_mut().filter(|kept| kept.last_used.elapsed() < IDLE) {
            kept.last_used = Instant::now();
            return Ok((kept.connection.clone(), true));
        }
        let connection = Connection { exchange: self.connect().await?, identity: Arc::default() };
        *kept = Some(Kept { connection: connection.clone(), last_used: Instant::now() });
        Ok((connection, false))
    }

    async fn close(&self, broken: &Connection) {
        let mut kept = self.connection.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.connection.identity, &broken.identity)) {
            *kept = None;
        }
    }

    async fn connect(&self) -> Result<DnsExchange<TokioRuntimeProvider>, NetError> {
        let Server { address, carriage } = &self.server;
        let provider = self.provider.clone();
        let tls = || self.tls.clone().ok_or(NetError::NoConnections);
        let named = |name: &Option<Arc<str>>| name.clone().unwrap_or_else(|| address.ip().to_string().into());
        match carriage {
            Carriage::Udp | Carriage::Tcp => {
                TcpClientStream::exchange(*address, None, CONNECT, Some(MAX_QUESTIONS), provider).await
            }
            Carriage::Tls { name } => tls_exchange(*address, &named(name), tls()?, provider).await,
            Carriage::Https { name, path } => {
                let mut builder = HttpsClientStream::builder(tls()?, provider);
                builder.request_timeout(PATIENCE);
                builder.exchange(*address, named(name), Arc::clone(path)).await
            }
        }
    }
}

/// The library's own constructor hides the server's name from those on the way, who see the address
/// anyway; resolvers that serve many names need it.
async fn tls_exchange(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
    provider: TokioRuntimeProvider,
) -> Result<DnsExchange<TokioRuntimeProvider>, NetError> {
    let name = ServerName::try_from(name.to_owned()).map_err(|error| NetError::Msg(error.to_string()))?;
    let mut handle = provider.create_handle();
    let (connecting, sender) = tls_client_connect_with_bind_addr(address, None, name, config, provider);
    let stream = DnsMultiplexer::new(connecting.await?, sender)
        .with_timeout(PATIENCE)
        .with_max_active_requests(MAX_QUESTIONS);
    let (exchange, background) = DnsExchange::from_stream(stream);
    handle.spawn_bg(background);
    Ok(exchange)
}

/// Whether signatures are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Seal {
    None,
    /// With DO, and with CD: we look at the signatures ourselves, and say ourselves what is wrong
    /// with them (RFC 6840, section 5.9).
    Signatures,
}

/// The whole of what leaves: one question, our id, our EDNS. Nothing of an agent's message is in it
/// but the name.
fn request(question: &Query, seal: Seal, respell: bool) -> DnsRequest {
    let mut options = DnsRequestOptions::default();
    options.edns_payload_len = PAYLOAD;
    options.edns_set_dnssec_ok = seal == Seal::Signatures;
    options.case_randomization = respell;
    options.retry_interval = Duration::ZERO;
    let mut request = DnsRequest::from_query(question.clone(), options);
    request.metadata.checking_disabled = seal == Seal::Signatures;
    request
}

/// How long one server is waited for: less than a lookup may take, so that its failure is known.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// How long a connection may rest and still be used: servers close one after some ten seconds, and
/// what stands between forgets it without a word (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// How long a TCP connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// Datagrams of one question, and the time between them.
const SENDS: u8 = 3;
const RESEND_MILLIS: u64 = 1000;

/// The most questions that wait on one connection, each with a few hundred octets.
const MAX_QUESTIONS: usize = 1024;

/// Octets of a UDP answer: what crosses any link without fragments (RFC 9715, section 3).
const PAYLOAD: u16 = 1232;
