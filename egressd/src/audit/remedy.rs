//! The rule that would have allowed a denied flow.

use crate::policy::{Destination, Protocol, Reason};
use std::net::IpAddr;

/// The line of YAML that would allow flows to `destination`; None where no rule can help.
pub fn remedy(
    destination: &Destination,
    port: Option<u16>,
    protocol: Option<Protocol>,
    reason: Reason,
) -> Option<String> {
    match reason {
        Reason::HostNotAllowed
        | Reason::PortNotAllowed
        | Reason::ProtocolNotAllowed
        | Reason::AddressNotGranted => allow(destination, port, protocol),
        Reason::NotTls => allow(destination, port, Some(Protocol::Tcp)),
        Reason::AddressSpecialPurpose => allow_private(destination),
        // A rule of the policy stands against it; one more rule changes nothing.
        Reason::DeniedByRule => None,
        Reason::NameInvalid
        | Reason::QueryTypeNotAllowed
        | Reason::QueryMalformed
        | Reason::UpstreamFailed
        | Reason::GrantNotInstalled
        | Reason::GrantExpired
        | Reason::RuleRemoved
        | Reason::SocketTypeNotAllowed
        | Reason::PacketNotAllowed
        | Reason::InboundNotAllowed
        | Reason::QuotaExceeded
        | Reason::AgentUnknown
        | Reason::OriginalDestinationUnknown
        | Reason::HelloMalformed
        | Reason::HelloTooLarge
        | Reason::HelloTimeout
        | Reason::ServerNameMissing
        | Reason::ServerNameNotGranted
        | Reason::RequestMalformed => None,
    }
}

fn allow(destination: &Destination, port: Option<u16>, protocol: Option<Protocol>) -> Option<String> {
    match (destination, port, protocol) {
        (Destination::Name(name), None, _)
        | (Destination::Name(name), Some(443), None | Some(Protocol::Tls)) => Some(format!("- host: {name}")),
        (Destination::Name(name), Some(port), None | Some(Protocol::Tls)) => {
            Some(format!("- {{host: {name}, ports: [{port}]}}"))
        }
        (Destination::Name(name), Some(80), Some(Protocol::Http)) => {
            Some(format!("- {{host: {name}, protocol: http}}"))
        }
        (Destination::Name(name), Some(port), Some(protocol)) => {
            Some(format!("- {{host: {name}, protocol: {protocol}, ports: [{port}]}}"))
        }
        (Destination::Address(_), None, _) => None,
        (Destination::Address(address), Some(port), protocol) => {
            let transport = if protocol == Some(Protocol::Udp) { "udp" } else { "tcp" };
            Some(format!("- {{cidr: {}, protocol: {transport}, ports: [{port}]}}", network_of(*address)))
        }
    }
}

fn allow_private(destination: &Destination) -> Option<String> {
    match destination {
        Destination::Name(name) => Some(format!("- {{host: {name}, private: true}}")),
        Destination::Address(_) => None,
    }
}

/// The network that holds this one address; IPv6 is quoted, for its colons mean something to YAML.
fn network_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("\"{address}/128\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::HostName;

    #[test]
    fn the_remedy_is_the_shortest_rule_that_would_allow_the_flow() {
        use Protocol::{Http, Tcp, Tls, Udp};
        helps("x.test", None, None, "- host: x.test");
        helps("x.test", Some(443), Some(Tls), "- host: x.test");
        helps("x.test", Some(8443), Some(Tls), "- {host: x.test, ports: [8443]}");
        helps("x.test", Some(80), Some(Http), "- {host: x.test, protocol: http}");
        helps("x.test", Some(5432), Some(Tcp), "- {host: x.test, protocol: tcp, ports: [5432]}");
        helps("192.0.2.7", Some(53), Some(Udp), "- {cidr: 192.0.2.7/32, protocol: udp, ports: [53]}");
        helps(
            "2001:db8::1",
            Some(22),
            Some(Tcp),
            "- {cidr: \"2001:db8::1/128\", protocol: tcp, ports: [22]}",
        );
    }

    #[test]
    fn no_remedy_is_offered_where_no_rule_can_help() {
        let name = destination("x.test");
        for reason in [Reason::DeniedByRule, Reason::SocketTypeNotAllowed, Reason::ServerNameNotGranted] {
            assert_eq!(remedy(&name, Some(443), Some(Protocol::Tls), reason), None);
        }
    }

    fn helps(text: &str, port: Option<u16>, protocol: Option<Protocol>, expected: &str) {
        let reason = Reason::HostNotAllowed;
        assert_eq!(remedy(&destination(text), port, protocol, reason).as_deref(), Some(expected));
    }

    fn destination(text: &str) -> Destination {
        match text.parse() {
            Ok(address) => Destination::Address(address),
            Err(_) => Destination::Name(HostName::parse(text).unwrap()),
        }
    }
}
