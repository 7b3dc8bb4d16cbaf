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
