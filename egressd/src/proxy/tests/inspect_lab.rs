//! An agent that speaks HTTPS through the gate to a server that answers with what it was asked.

use super::lab::*;
use crate::{
    policy::{HostName, Injection, Inspection, Protocol, RequestPattern, Rule, RuleId},
    proxy::inspect::{Authority, Credential, CredentialSource, Inspector, Trust},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    server::{ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::SystemTime,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream, server::TlsStream as ServerStream};

pub const TOKEN: &str = "of-the-host-alone";

pub struct World {
    pub lab: Lab,
    /// Whom the gate believes of servers.
    pub authority: Authority,
    /// Whom the agent believes.
    pub trusted: String,
    pub token: PathBuf,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    _folder: tempfile::TempDir,
}

/// A request as the server had it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub fields: Vec<String>,
    pub body: Result<usize, String>,
}

impl Seen {
    pub fn field(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}: ");
        self.fields.iter().filter_map(|field| field.strip_prefix(&prefix)).collect()
    }
}

pub fn inspecting(allow: &[&str]) -> Inspection {
    let allow = allow.iter().map(|text| RequestPattern::parse(text).unwrap()).collect();
    let injection = Injection { header: "authorization".to_owned(), credential: "forge".to_owned() };
    Inspection { allow: Some(allow), inject: vec![injection], ..Inspection::default() }
}

pub fn rule(port: u16, inspection: Option<Inspection>) -> Rule {
    let mut rule = host("ok.test", port, Protocol::Tls);
    // By its content, as ids are.
    rule.id = RuleId(format!("{inspection:?}").bytes().map(u32::from).sum());
    rule.tls.inspection = inspection.map(Arc::new);
    rule
}

impl World {
    pub async fn start(inspection: Inspection) -> Self {
        Self::start_with(Some(inspection)).await
    }

    pub async fn start_with(inspection: Option<Inspection>) -> Self {
        let lab = Lab::start(|port| vec![rule(port, inspection)]).await;
        lab.grant("ok.test", UPSTREAM, Protocol::Tls);
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(SystemTime::now()).unwrap();
        let (ca, token) = (folder.path().join("ca.pem"), folder.path().join("token"));
        std::fs::write(&ca, authority.pem()).unwrap();
        std::fs::write(&token, TOKEN).unwrap();
        let credential = Credential {
            name: "forge".to_owned(),
            source: CredentialSource::File(token.clone()),
            around: ("Bearer ".to_owned(), String::new()),
        };
        let inspector = Inspector::new(Trust::load(Some(&ca)).unwrap(), vec![credential]).unwrap();
        let trusted = inspector.authority().to_owned();
        lab.gate.inspect_with(inspector);
        Self { lab, authority, trusted, token, seen: Arc::default(), _folder: folder }
    }

    /// TLS to `ok.test`, as the agent has it.
    pub async fn agent(&self, protocols: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let tcp = self.lab.redirected().await;
        self.agent_over(tcp, &self.trusted, protocols).await
    }

    pub async fn agent_over(
        &self,
        tcp: TcpStream,
        trusted: &str,
        protocols: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(trusted))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("ok.test").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
    }

    /// Accepts one connection as the server and speaks TLS on it, with a certificate for `name`.
    pub async fn server_tls(&self, protocols: &[&[u8]], kind: Kind) -> io::Result<ServerStream<TcpStream>> {
        let tcp = self.lab.accept().await;
        let name = HostName::parse(if kind == Kind::OfAnother { "other.test" } else { "ok.test" }).unwrap();
        let stranger = Authority::new(SystemTime::now()).unwrap();
        let authority = if kind == Kind::Stranger { &stranger } else { &self.authority };
        let key = authority.certify(&name, SystemTime::now()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match kind {
            Kind::Mutual => {
                let roots = Arc::new(roots(self.authority.pem()));
                let provider = Arc::new(default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            }
            Kind::Honest | Kind::Stranger | Kind::OfAnother => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Only(key)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        within(TlsAcceptor::from(Arc::new(config)).accept(tcp)).await
    }

    /// Serves one connection to its end: `/echo` answers with the fields of the request.
    pub async fn serve(&self, protocols: &[&[u8]]) {
        let stream = self.server_tls(protocols, Kind::Honest).await.unwrap();
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let seen = Arc::clone(&self.seen);
        let service = service_fn(move |request| echo(request, Arc::clone(&seen)));
        tokio::spawn(async move {
            if is_http_2 {
                let builder = server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let builder = server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }

    /// An agent and a server that speak `protocol`, with a request to be sent.
    pub async fn pair(&self, protocol: &'static [u8]) -> Sender {
        let spoken = [protocol];
        let (agent, ()) = tokio::join!(self.agent(&spoken), self.serve(&spoken));
        Sender::over(agent.unwrap(), protocol == b"h2").await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Honest,
    /// Of an authority that nobody believes.
    Stranger,
    OfAnother,
    /// It asks for a certificate, and would do without.
    Mutual,
}

pub type AgentBody = BoxBody<Bytes, Infallible>;

pub enum Sender {
    Http1(client::conn::http1::SendRequest<AgentBody>),
    Http2(client::conn::http2::SendRequest<AgentBody>),
}

impl Sender {
    pub async fn over(stream: TlsStream<TcpStream>, is_http_2: bool) -> Self {
        let io = TokioIo::new(stream);
        if is_http_2 {
            let (sender, connection) =
                client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(sender)
        }
    }

    /// Sends a request for `ok.test`; returns the number and the text of the answer.
    pub async fn get(&mut self, method: &str, path: &str) -> (u16, String) {
        self.send(method, path, &[], full("")).await.unwrap()
    }

    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: AgentBody,
    ) -> hyper::Result<(u16, String)> {
        let is_http_2 = matches!(self, Self::Http2(_));
        let uri = if is_http_2 && path.starts_with('/') {
            format!("https://ok.test{path}")
        } else {
            path.to_owned()
        };
        let mut request = Request::builder().method(method).uri(uri);
        if !is_http_2 && !fields.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "ok.test");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let answer = within(async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => sender.send_request(request).await,
            }
        });
        let answer = answer.await?;
        let status = answer.status().as_u16();
        let text = within(answer.into_body().collect()).await?.to_bytes();
        Ok((status, String::from_utf8(text.to_vec()).unwrap()))
    }
}

pub fn full(text: &str) -> AgentBody {
    Full::new(Bytes::from(text.to_owned())).boxed()
}

async fn echo(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let fields: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
        .collect();
    let line = format!("{} {}", head.method, head.uri);
    let body = body.collect().await.map(|body| body.to_bytes().len()).map_err(|error| error.to_string());
    let text = fields.join("\n");
    seen.lock().unwrap().push(Seen { line, fields, body });
    Ok(Response::new(Full::new(Bytes::from(text))))
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    roots
}

#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
