//! From the daemon's file to the resolvers that are asked.

use crate::{
    config::{self, DaemonConfig, Dnssec},
    dns::{self, Upstream, UpstreamError},
};
use std::sync::Arc;

/// The resolvers of `config`, or the host's where it names none.
///
/// # Errors
/// The host names none either, or a file that `config` names cannot be read.
pub(super) fn open(config: &DaemonConfig) -> Result<Upstream, UpstreamError> {
    let servers = match config.upstreams.as_slice() {
        [] => dns::host_servers()?,
        servers => servers.iter().map(server).collect(),
    };
    let signatures = match &config.dnssec {
        Dnssec::Off => dns::Signatures::Ignore,
        Dnssec::Validate { anchor } => dns::Signatures::Validate { anchor: anchor.clone() },
    };
    Upstream::new(&dns::Terms { servers, authorities: config.upstream_ca.clone(), signatures })
}

fn server(upstream: &config::Upstream) -> dns::Server {
    let carriage = match &upstream.carriage {
        config::Carriage::Udp => dns::Carriage::Udp,
        config::Carriage::Tcp => dns::Carriage::Tcp,
        config::Carriage::Tls { name } => {
            dns::Carriage::Tls { name: name.as_ref().map(|name| name.as_str().into()) }
        }
        config::Carriage::Https { name, path } => dns::Carriage::Https {
            name: name.as_ref().map(|name| name.as_str().into()),
            path: Arc::clone(path),
        },
    };
    dns::Server { address: upstream.address, carriage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_resolvers_of_the_file_are_those_that_are_asked() {
        let upstreams = [
            "192.0.2.53",
            "tcp://192.0.2.54",
            "tls://192.0.2.55#dns.example",
            "https://192.0.2.56/dns-query",
        ];
        let upstreams = upstreams.map(|text| config::Upstream::parse(text).unwrap()).to_vec();
        let config = DaemonConfig { upstreams, ..DaemonConfig::default() };
        let asked: Vec<dns::Server> = config.upstreams.iter().map(server).collect();
        let name = || Some("dns.example".into());
        let expected = [
            ("192.0.2.53:53", dns::Carriage::Udp),
            ("192.0.2.54:53", dns::Carriage::Tcp),
            ("192.0.2.55:853", dns::Carriage::Tls { name: name() }),
            ("192.0.2.56:443", dns::Carriage::Https { name: None, path: "/dns-query".into() }),
        ]
        .map(|(address, carriage)| dns::Server { address: address.parse().unwrap(), carriage });
        assert_eq!(asked, expected);
        assert_eq!(format!("{:?}", open(&config).unwrap()), format!("{expected:?}"));
    }

    #[test]
    fn a_file_that_is_named_and_missing_is_an_error() {
        let missing = || Some(PathBuf::from("/nonexistent/file"));
        let tls = vec![config::Upstream::parse("tls://192.0.2.55").unwrap()];
        let plain = vec![config::Upstream::parse("192.0.2.55").unwrap()];
        let validate = Dnssec::Validate { anchor: missing() };
        let config = DaemonConfig { upstreams: tls, upstream_ca: missing(), ..DaemonConfig::default() };
        assert!(matches!(open(&config), Err(UpstreamError::Authorities { .. })));
        let config = DaemonConfig { upstreams: plain, dnssec: validate, ..DaemonConfig::default() };
        assert!(matches!(open(&config), Err(UpstreamError::Anchor { .. })));
    }
}
