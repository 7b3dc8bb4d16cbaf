//! TLS to the real server, as strictly as a careful client speaks it.

use super::stream::Plain;
use crate::policy::{HostName, Reason};
use rustls::{
    ClientConfig, Error, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Whom servers are believed by.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// The authorities in the file at `path`; those of the host, where there is none.
    ///
    /// # Errors
    /// There is no such file, or it holds no certificate.
    pub fn load(path: Option<&Path>) -> Result<Self, TrustError> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => host_authorities().ok_or(TrustError::NoneOnHost)?,
        };
        let failed = |why: &dyn std::fmt::Display| TrustError::Unreadable(path.clone(), why.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| failed(&error))? {
            // One that cannot be read is none that could be believed.
            let _ = certificate.map(|certificate| roots.add(certificate));
        }
        if roots.is_empty() { Err(failed(&"it holds no certificate")) } else { Ok(Self::of(roots)) }
    }

    /// Nobody: every server is untrusted.
    #[must_use]
    pub fn nobody() -> Self {
        Self::of(RootCertStore::empty())
    }

    fn of(roots: RootCertStore) -> Self {
        Self { roots: Arc::new(roots) }
    }
}

/// Why it is not known whom servers are believed by.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("failed to find the authorities of this host: `{}` is missing, and so is every other usual file", HOST_AUTHORITIES[0])]
    NoneOnHost,
    #[error("failed to read authorities from `{path}`: {why}", path = .0.display(), why = .1)]
    Unreadable(PathBuf, String),
}

/// The file in which this host keeps the authorities that it believes.
#[must_use]
pub fn host_authorities() -> Option<PathBuf> {
    HOST_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Where hosts keep the authorities that they believe: Debian, Alpine and Arch; Fedora; openSUSE.
const HOST_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// How TLS is spoken to servers.
pub struct Client {
    config: ClientConfig,
}

impl Client {
    /// # Errors
    /// The crypto provider does not fit the protocol versions, which it does.
    pub fn new(trust: Trust) -> Result<Self, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trust.roots)
            .with_no_client_auth();
        // A session of one agent's is not for another, and a resumed one shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(Self { config })
    }

    /// Proves that the other side is `name`, and agrees on one of `protocols` (ALPN).
    ///
    /// # Errors
    /// It cannot prove it, it wants a certificate of us, or the connection fails.
    pub async fn connect(
        &self,
        name: &HostName,
        stream: Plain,
        protocols: Vec<Vec<u8>>,
    ) -> Result<TlsStream<Plain>, ConnectError> {
        let server = ServerName::try_from(name.to_string()).map_err(|_| ConnectError::Name)?;
        let wanted = Arc::new(CertificateWanted::default());
        let mut config = self.config.clone();
        config.alpn_protocols = protocols;
        config.client_auth_cert_resolver = Arc::clone(&wanted) as _;
        let connected = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
        if wanted.0.load(Ordering::Relaxed) {
            return Err(ConnectError::WantsCertificate);
        }
        connected.map_err(refused)
    }
}

/// Why a server is not spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("name cannot stand in a certificate")]
    Name,
    #[error("server wants a certificate of the client (mutual TLS)")]
    WantsCertificate,
    #[error("server cannot prove its name: {0}")]
    Untrusted(Error),
    #[error("failed to speak TLS to the server: {0}")]
    Failed(io::Error),
}

impl ConnectError {
    /// The reason of the denial; None where nothing was denied.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::WantsCertificate => Some(Reason::InspectionRefused),
            Self::Name | Self::Untrusted(_) => Some(Reason::UpstreamUntrusted),
            Self::Failed(_) => None,
        }
    }
}

fn refused(error: io::Error) -> ConnectError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(cause @ (Error::InvalidCertificate(_) | Error::NoCertificatesPresented)) => {
            ConnectError::Untrusted(cause.clone())
        }
        Some(_) | None => ConnectError::Failed(error),
    }
}

/// Has no certificate, and remembers that one was asked for.
#[derive(Debug, Default)]
struct CertificateWanted(AtomicBool);

impl ResolvesClientCert for CertificateWanted {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false // A server that asks gets to `resolve` all the same.
    }
}
