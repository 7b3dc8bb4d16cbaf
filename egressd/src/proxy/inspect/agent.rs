//! TLS to the agent, in the place of the server that it named.

use super::stream::Plain;
use crate::policy::Reason;
use rustls::{
    Error, ServerConfig,
    crypto::ring::default_provider,
    server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{io, sync::Arc};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

/// The versions of HTTP that are judged, as ALPN (RFC 7301) calls them.
pub const HTTP_1: &[u8] = b"http/1.1";
pub const HTTP_2: &[u8] = b"h2";

/// An agent that has said hello.
pub struct Greeted {
    handshake: StartHandshake<Plain>,
    offered: Vec<Vec<u8>>,
}

impl Greeted {
    /// Reads the hello, which the gate has judged already.
    ///
    /// # Errors
    /// It is not one that TLS can go on from.
    pub async fn read(stream: Plain) -> Result<Self, HandshakeError> {
        let handshake = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let offered = offered(&handshake.client_hello());
        Ok(Self { handshake, offered })
    }

    /// What to ask the server for: of the agent's protocols those that are judged.
    #[must_use]
    pub fn protocols(&self) -> Vec<Vec<u8>> {
        let is_judged = |offered: &&Vec<u8>| matches!(offered.as_slice(), HTTP_1 | HTTP_2);
        self.offered.iter().filter(is_judged).cloned().collect()
    }

    /// Ends the handshake as the server that `key` names, in `protocol` if the agent offers any.
    ///
    /// # Errors
    /// The agent does not believe `key`, or cannot speak `protocol`.
    pub async fn accept(
        self,
        key: Arc<CertifiedKey>,
        protocol: &[u8],
    ) -> Result<TlsStream<Plain>, HandshakeError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(HandshakeError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Only(key)));
        config.alpn_protocols = vec![protocol.to_vec()];
        // Each flow says hello in full, and is judged by it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(self.handshake.into_stream(Arc::new(config)).await?)
    }
}

/// Why there is no TLS with an agent.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// As programs do that know whom they want to believe.
    #[error("agent ended the handshake: {0}")]
    Refused(Error),
    #[error("agent left during the handshake")]
    Left,
    #[error("failed to speak TLS to the agent: {0}")]
    Tls(Error),
    #[error("failed to speak TLS to the agent: {0}")]
    Connection(io::Error),
}

impl HandshakeError {
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(_) | Self::Left | Self::Tls(_) | Self::Connection(_) => Reason::InspectionRefused,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
            Some(cause @ Error::AlertReceived(_)) => Self::Refused(cause.clone()),
            Some(cause) => Self::Tls(cause.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Left,
            None => Self::Connection(error),
        }
    }
}

fn offered(hello: &ClientHello<'_>) -> Vec<Vec<u8>> {
    hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect()
}

/// The certificate of this flow, whatever is asked for: the name was judged before.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
