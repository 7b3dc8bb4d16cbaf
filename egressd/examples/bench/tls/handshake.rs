//! Real handshakes, by rustls, each from the start: no session is resumed.

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

/// A client that trusts one authority.
pub struct Handshaker {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    request: String,
}

impl Handshaker {
    pub fn new(name: &str, authority: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(authority).expect("the authority has a certificate");
        roots.add(certificate).expect("it can be trusted");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self {
            config: Arc::new(config),
            name: ServerName::try_from(name.to_owned()).expect("it is a name"),
            request: format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"),
        }
    }

    /// Shakes hands, asks, and reads the beginning of the answer.
    pub fn fetch(&self, stream: TcpStream) -> io::Result<()> {
        let client = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut stream = StreamOwned::new(client.map_err(io::Error::other)?, stream);
        stream.write_all(self.request.as_bytes())?;
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer)?;
        match answer[..length].starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
