//! Whether a denial can take something from a rule that allows.

use super::draft::{Allow, Deny};
use crate::{
    authoring::patterns,
    policy::{Protocol, Subject, special_within},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Whether there may be a flow that both are about.
pub(super) fn overlap(allow: &Allow, deny: &Deny) -> bool {
    let ports = deny.ports.is_empty() || allow.ports.iter().any(|port| deny.ports.contains(port));
    let protocols = deny.protocol.is_none_or(|protocol| protocol == allow.protocol);
    ports && protocols && subjects_overlap(&allow.subject, &deny.subject)
}

/// Whether there may be a destination that both are about.
pub(super) fn subjects_overlap(allow: &Subject, deny: &Subject) -> bool {
    match (allow, deny) {
        (Subject::Host(allow), Subject::Host(deny)) => patterns::overlap(allow, deny),
        (Subject::Network(allow), Subject::Network(deny)) => allow.contains(deny) || deny.contains(allow),
        // A name may have any address but a special one.
        (Subject::Host(_), Subject::Network(deny)) => !is_special(*deny),
        (Subject::Network(_), Subject::Host(_)) => false,
    }
}

/// Whether no name opens an address in `network`, whatever rules say.
pub(super) fn is_special(network: IpNet) -> bool {
    let everywhere = match network {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    };
    special_within(everywhere).iter().any(|block| block.contains(&network))
}

/// Whether two protocols are told apart by what a flow says, not by its transport.
pub(super) fn is_datagram(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Udp | Protocol::Quic => true,
        Protocol::Tls | Protocol::Http | Protocol::Tcp => false,
    }
}
