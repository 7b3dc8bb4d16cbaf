//! Whom upstreams over TLS are believed by: the host's authorities, or one's own.

use super::UpstreamError;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// How TLS is spoken to resolvers: by the authorities in `authorities`, or the host's.
///
/// # Errors
/// There is no such file, or it holds no certificate.
pub(super) fn client(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, UpstreamError> {
    let path = authorities.map_or_else(of_host, |path| Ok(path.to_owned()))?;
    let failed = |why: String| UpstreamError::Authorities { path: path.clone(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| failed(error.to_string()))? {
        // One that cannot be read is none that could be believed.
        let _ = certificate.map(|certificate| roots.add(certificate));
    }
    if roots.is_empty() {
        return Err(failed("it holds no certificate".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| UpstreamError::Setup(error.to_string()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn of_host() -> Result<PathBuf, UpstreamError> {
    let found = HOST_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| UpstreamError::Authorities {
        path: PathBuf::from(HOST_AUTHORITIES[0]),
        why: "it is missing, and so is each other place where hosts keep their authorities".to_owned(),
    })
}

/// Where hosts keep the authorities that they believe: Debian, Alpine and Arch; Fedora; openSUSE.
const HOST_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
