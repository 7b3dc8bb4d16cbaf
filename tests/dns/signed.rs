//! Signed zones, served by a real server: what is bogus is no answer.

use crate::{
    canonical::Desk,
    lab::{allow, host, public, question, receive},
    program::{Program, free, run},
};
use egressd::dns::{Ask, Family, Found, LookupError, Server, Signatures, Terms, Upstream, UpstreamError};
use egressd::policy::Reason;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use std::{fs, net::IpAddr, path::Path, process::Command};
use tempfile::TempDir;
use tokio::net::UdpSocket;

#[tokio::test]
async fn an_answer_counts_only_with_signatures_that_hold() {
    let zones = Zones::start();
    let resolver = zones.resolver(Some("root.key"));
    for (name, last) in [
        ("ok.signed", 1),
        ("alias.signed", 1),
        ("any.wild.signed", 4),
        ("ok.hashed", 1),
        ("alias.hashed", 1),
        ("any.wild.hashed", 4),
        // Below a parent that proves that it is not signed.
        ("www.plain", 3),
        ("far.signed", 3),
    ] {
        assert_eq!(ask(&resolver, name).await, Ok(vec![public(last)]), "{name}");
    }
    for name in
        ["broken.signed", "unsigned.signed", "alias-of-broken.signed", "broken.hashed", "www.stripped"]
    {
        let outcome = ask(&resolver, name).await;
        assert!(matches!(outcome, Err(LookupError::Bogus(_))), "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_absence_counts_only_with_its_proof() {
    let zones = Zones::start();
    let resolver = zones.resolver(Some("root.key"));
    for name in ["none.signed", "none.hashed"] {
        let missing = resolver.ask(&host(name), Family::V4).await;
        assert!(matches!(missing, Ok(Found::NoName { .. })), "{name}: {missing:?}");
    }
    for name in ["ok.signed", "alias.signed", "far.signed", "ok.hashed", "alias.hashed", "www.plain"] {
        let missing = resolver.ask(&host(name), Family::V6).await;
        assert!(matches!(missing, Ok(Found::NoData { .. })), "{name}: {missing:?}");
    }
    let missing = resolver.ask(&host("none.stripped"), Family::V4).await;
    assert!(matches!(missing, Err(LookupError::Bogus(_))), "{missing:?}");
}

#[tokio::test]
async fn nothing_holds_by_another_anchor() {
    let zones = Zones::start();
    for anchor in [Some("stripped.key"), None] {
        let outcome = ask(&zones.resolver(anchor), "ok.signed").await;
        assert!(matches!(outcome, Err(LookupError::Bogus(_))), "{anchor:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_agent_and_the_log_are_told_that_an_answer_is_bogus() {
    let zones = Zones::start();
    let mut desk = Desk::start(allow(&["broken.signed"]), zones.resolver(Some("root.key"))).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question("broken.signed", RecordType::A).to_vec().unwrap(), desk.address).await.unwrap();
    let answer = Message::from_vec(&receive(&socket).await).unwrap();
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    // RFC 8914, section 4.7.
    let option = answer.edns.unwrap().option(EdnsCode::from(15)).cloned().unwrap();
    assert!(matches!(&option, EdnsOption::Unknown(15, data) if data.starts_with(&[0, 6])), "{option:?}");
    let event = desk.events.recv().await.unwrap();
    assert_eq!(event.reason, Some(Reason::UpstreamFailed));
    assert!(event.detail.as_ref().unwrap().contains("is bogus"), "{event:?}");
}

#[tokio::test]
async fn without_validation_a_broken_signature_is_not_looked_at() {
    let zones = Zones::start();
    let resolver = Upstream::to(&[zones.address]).unwrap();
    assert_eq!(ask(&resolver, "broken.signed").await, Ok(vec![public(66)]));
}

#[test]
fn an_anchor_without_a_key_is_refused() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [("empty.key", ""), ("comment.key", "; nothing\n"), ("noise.key", "no key\n")] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let terms = Terms {
            servers: vec![Server::from(free())],
            authorities: None,
            signatures: Signatures::Validate { anchor: Some(path) },
        };
        assert!(matches!(Upstream::new(&terms), Err(UpstreamError::Anchor { .. })), "{name}");
    }
}

async fn ask(resolver: &Upstream, name: &str) -> Result<Vec<IpAddr>, LookupError> {
    match resolver.ask(&host(name), Family::V4).await? {
        Found::Addresses { addresses, .. } => Ok(addresses),
        Found::NoData { .. } | Found::NoName { .. } => Ok(Vec::new()),
    }
}

/// nsd, with a root and what is below it: signed, not signed, and one that should be.
struct Zones {
    address: std::net::SocketAddr,
    folder: TempDir,
    _program: Program,
}

impl Zones {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        let signed = "ok A 9.9.9.1\nbroken A 9.9.9.2\nunsigned A 9.9.9.5\nalias CNAME ok\nfar CNAME www.plain.\n\
                      alias-of-broken CNAME broken\n*.wild A 9.9.9.4\n";
        let below = sign(path, "signed", signed, &[]) + &sign(path, "hashed", signed, &["-n"]);
        tamper(path, "signed");
        tamper(path, "hashed");
        write_zone(path, "plain", "www A 9.9.9.3\n");
        // Its parent says that it is signed.
        let stripped = sign(path, "stripped", "www A 9.9.9.66\n", &[]);
        write_zone(path, "stripped", "www A 9.9.9.66\n");
        let delegations: String =
            ["signed", "hashed", "plain", "stripped"].map(|zone| format!("{zone}. NS ns.\n")).concat();
        sign(path, "root", &format!("ns A 127.0.0.1\n{delegations}{below}{stripped}"), &[]);
        let address = free();
        let zone = |(name, file)| format!("zone:\n    name: \"{name}\"\n    zonefile: \"{file}.zone\"\n");
        let zones = [
            (".", "root"),
            ("signed", "signed"),
            ("hashed", "hashed"),
            ("plain", "plain"),
            ("stripped", "stripped"),
        ]
        .map(zone);
        let config = format!(
            "server:\n    ip-address: 127.0.0.1@{}\n    zonesdir: \"{path}\"\n    username: \"\"\n    \
             database: \"\"\n    pidfile: \"\"\n    xfrdfile: \"{path}/xfrd\"\n    xfrdir: \"{path}\"\n    \
             zonelistfile: \"{path}/zones\"\n    server-count: 1\nremote-control:\n    control-enable: no\n{}",
            address.port(),
            zones.concat(),
            path = path.display(),
        );
        fs::write(path.join("nsd.conf"), config).unwrap();
        let program =
            Program::start(Command::new("nsd").arg("-d").arg("-c").arg(path.join("nsd.conf")), address);
        Self { address, folder, _program: program }
    }

    fn resolver(&self, anchor: Option<&str>) -> Upstream {
        let anchor = anchor.map(|file| self.folder.path().join(file));
        let servers = vec![Server::from(self.address)];
        Upstream::new(&Terms { servers, authorities: None, signatures: Signatures::Validate { anchor } })
            .unwrap()
    }
}

/// Writes and signs a zone; its DS record, for its parent.
fn sign(folder: &Path, name: &str, records: &str, flags: &[&str]) -> String {
    write_zone(folder, name, records);
    let origin = origin(name);
    let key = run(folder, "ldns-keygen", &["-a", "ECDSAP256SHA256", "-k", &origin]);
    let (key, file) = (key.trim(), format!("{name}.zone"));
    run(folder, "ldns-signzone", &[flags, &["-o", &origin, "-f", &file, &file, key]].concat());
    fs::rename(folder.join(format!("{key}.key")), folder.join(format!("{name}.key"))).unwrap();
    fs::read_to_string(folder.join(format!("{key}.ds"))).unwrap()
}

fn write_zone(folder: &Path, name: &str, records: &str) {
    let head = format!("$ORIGIN {}\n$TTL 60\n@ SOA ns. admin. 1 3600 600 86400 60\n@ NS ns.\n", origin(name));
    fs::write(folder.join(format!("{name}.zone")), head + records).unwrap();
}

fn origin(name: &str) -> String {
    if name == "root" { ".".to_owned() } else { format!("{name}.") }
}

/// After it was signed: an address is another, and a signature is gone.
fn tamper(folder: &Path, name: &str) {
    let path = folder.join(format!("{name}.zone"));
    let zone = fs::read_to_string(&path).unwrap().replace("9.9.9.2", "9.9.9.66");
    let is_gone = |line: &str| line.starts_with("unsigned.") && line.contains("RRSIG\tA ");
    let kept: Vec<&str> = zone.lines().filter(|line| !is_gone(line)).collect();
    assert_eq!(zone.lines().count() - kept.len(), 1);
    fs::write(path, kept.join("\n") + "\n").unwrap();
}
