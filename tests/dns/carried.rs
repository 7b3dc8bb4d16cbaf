//! A real resolver, over each carriage that a question can take.

use crate::{
    lab::{host, public},
    program::{Program, free, run},
};
use egressd::dns::{
    Ask, Carriage, Family, Found, FoundRecords, LookupError, Server, Signatures, Terms, Upstream,
};
use egressd::policy::RecordType;
use std::{fs, net::SocketAddr, path::PathBuf, process::Command};
use tempfile::TempDir;

#[tokio::test]
async fn a_real_resolver_is_asked_over_udp_tcp_tls_and_https() {
    let unbound = Unbound::start();
    for carriage in [Carriage::Udp, Carriage::Tcp, tls("dns.example"), https("dns.example", "/dns-query")] {
        let resolver = unbound.resolver(carriage.clone(), true);
        let found = resolver.ask(&host("ok.test"), Family::V4).await;
        assert_eq!(addresses(found), Ok(vec![public(1)]), "{carriage:?}");
        let found = resolver.ask(&host("none.test"), Family::V4).await;
        assert!(matches!(found, Ok(Found::NoName { .. })), "{carriage:?}: {found:?}");
        let found = resolver.ask_records(&host("ok.test"), RecordType::Txt).await;
        assert!(matches!(found, Ok(FoundRecords::Records { .. })), "{carriage:?}: {found:?}");
    }
}

#[tokio::test]
async fn a_resolver_without_a_name_is_known_by_its_address() {
    let unbound = Unbound::start();
    for carriage in [Carriage::Tls { name: None }, Carriage::Https { name: None, path: "/dns-query".into() }]
    {
        let found = unbound.resolver(carriage.clone(), true).ask(&host("ok.test"), Family::V4).await;
        assert_eq!(addresses(found), Ok(vec![public(1)]), "{carriage:?}");
    }
}

#[tokio::test]
async fn a_resolver_that_proves_another_name_or_none_is_not_believed() {
    let unbound = Unbound::start();
    for (carriage, knows_authority) in [
        (tls("evil.example"), true),
        (https("evil.example", "/dns-query"), true),
        (tls("dns.example"), false),
        (https("dns.example", "/dns-query"), false),
    ] {
        let found =
            unbound.resolver(carriage.clone(), knows_authority).ask(&host("ok.test"), Family::V4).await;
        let Err(LookupError::Server { why, .. }) = &found else { panic!("{carriage:?}: {found:?}") };
        assert!(why.contains("certificate"), "{why}");
    }
}

#[tokio::test]
async fn a_path_that_serves_no_names_is_a_failure() {
    let unbound = Unbound::start();
    let found =
        unbound.resolver(https("dns.example", "/elsewhere"), true).ask(&host("ok.test"), Family::V4).await;
    assert!(matches!(found, Err(LookupError::Server { .. })), "{found:?}");
}

#[test]
fn a_file_without_a_certificate_is_refused() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for path in [empty, folder.path().join("missing.pem")] {
        let servers = vec![Server { address: free(), carriage: tls("dns.example") }];
        let terms = Terms { servers, authorities: Some(path), signatures: Signatures::Ignore };
        let error = Upstream::new(&terms).unwrap_err().to_string();
        assert!(error.starts_with("failed to read the authorities of upstream resolvers from"), "{error}");
    }
}

fn tls(name: &str) -> Carriage {
    Carriage::Tls { name: Some(name.into()) }
}

fn https(name: &str, path: &str) -> Carriage {
    Carriage::Https { name: Some(name.into()), path: path.into() }
}

fn addresses(found: Result<Found, LookupError>) -> Result<Vec<std::net::IpAddr>, LookupError> {
    found.map(|found| match found {
        Found::Addresses { addresses, .. } => addresses,
        Found::NoData { .. } | Found::NoName { .. } => Vec::new(),
    })
}

/// unbound, with a zone of its own and a certificate for `dns.example` and 127.0.0.1.
struct Unbound {
    plain: SocketAddr,
    tls: SocketAddr,
    https: SocketAddr,
    authority: PathBuf,
    _program: Program,
    _folder: TempDir,
}

impl Unbound {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = certificates(&folder);
        let (plain, tls, https) = (free(), free(), free());
        let path = folder.path().display();
        let at = |address: SocketAddr| format!("127.0.0.1@{}", address.port());
        let config = format!(
            r#"
server:
    interface: {}
    interface: {}
    interface: {}
    tls-port: {}
    https-port: {}
    tls-service-key: "{path}/server.key"
    tls-service-pem: "{path}/server.pem"
    directory: "{path}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    local-zone: "test." static
    local-data: "ok.test. 60 IN A 9.9.9.1"
    local-data: 'ok.test. 60 IN TXT "v=spf1 -all"'
remote-control:
    control-enable: no
"#,
            at(plain),
            at(tls),
            at(https),
            tls.port(),
            https.port(),
        );
        let file = folder.path().join("unbound.conf");
        fs::write(&file, config).unwrap();
        let program = Program::start(Command::new("unbound").arg("-d").arg("-c").arg(&file), plain);
        Self { plain, tls, https, authority, _program: program, _folder: folder }
    }

    fn resolver(&self, carriage: Carriage, knows_authority: bool) -> Upstream {
        let address = match carriage {
            Carriage::Udp | Carriage::Tcp => self.plain,
            Carriage::Tls { .. } => self.tls,
            Carriage::Https { .. } => self.https,
        };
        Upstream::new(&Terms {
            servers: vec![Server { address, carriage }],
            authorities: knows_authority.then(|| self.authority.clone()),
            signatures: Signatures::Ignore,
        })
        .unwrap()
    }
}

/// An authority, and a certificate of its for the server; where the authority is.
fn certificates(folder: &TempDir) -> PathBuf {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let openssl = |arguments: &[&str]| {
        run(folder.path(), "openssl", &[&["req", "-x509"], &key[..], arguments].concat())
    };
    openssl(&["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"]);
    openssl(&[
        "-subj",
        "/CN=dns.example",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-addext",
        "subjectAltName=DNS:dns.example,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:false",
    ]);
    folder.path().join("ca.pem")
}
