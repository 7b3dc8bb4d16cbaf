//! The rule that would allow what was denied.

use super::{
    decision::Reason,
    flow::Destination,
    host::HostName,
    rule::Protocol,
    special::{SpecialPurpose, special_purpose},
};
use std::net::IpAddr;

/// The line of `rules:` that would allow a denied destination, in YAML flow style; None where no
/// rule can help, or where a rule stands against it on purpose.
///
/// It is the narrowest rule, not advice: whoever adds it decides whether it should be there.
#[must_use]
pub fn remedy(
    destination: &Destination,
    port: Option<u16>,
    protocol: Option<Protocol>,
    reason: Reason,
) -> Option<String> {
    let (protocol, port) = match (help(reason), destination) {
        (Help::None, _) => return None,
        (Help::AnyBytes, _) => (transport(protocol), port?),
        (Help::Rule | Help::Private, Destination::Name(_)) => spoken(port, protocol),
        (Help::Rule | Help::Private, Destination::Address(_)) => (transport(protocol), port?),
    };
    // No rule can name port 0, and port 53 always reaches the agent's own resolver.
    if matches!(port, 0 | 53) {
        return None;
    }
    match destination {
        Destination::Name(name) => {
            Some(host_rule(name, &[port], protocol, reason == Reason::AddressSpecialPurpose))
        }
        Destination::Address(address) => cidr_rule(address.to_canonical(), port, protocol),
    }
}

/// What kind of rule answers a denial.
enum Help {
    Rule,
    /// One that does not look at what is spoken.
    AnyBytes,
    /// One that lets the name have private addresses.
    Private,
    None,
}

fn help(reason: Reason) -> Help {
    match reason {
        Reason::HostNotAllowed
        | Reason::PortNotAllowed
        | Reason::ProtocolNotAllowed
        | Reason::AddressNotGranted => Help::Rule,
        Reason::NotTls | Reason::HelloTimeout | Reason::ServerNameMissing => Help::AnyBytes,
        Reason::AddressSpecialPurpose => Help::Private,
        // A deny rule was written on purpose, and wins over any rule that could be added.
        Reason::DeniedByRule
        // These are about how something was said, not about where it was to go.
        | Reason::NameInvalid
        | Reason::QueryTypeNotAllowed
        | Reason::QueryMalformed
        | Reason::SocketTypeNotAllowed
        | Reason::UnixSocketNotAllowed
        | Reason::DeviceNotAllowed
        | Reason::SystemCallNotAllowed
        | Reason::PacketNotAllowed
        | Reason::SourceForged
        | Reason::InboundNotAllowed
        | Reason::HelloUnreadable
        | Reason::HelloSkipped
        | Reason::ServerNameChanged
        | Reason::EchNotAllowed
        | Reason::InitialMalformed
        | Reason::RequestNotAllowed
        | Reason::BodyTooLarge
        | Reason::UpstreamUntrusted
        | Reason::InspectionRefused
        | Reason::HelloMalformed
        | Reason::HelloTooLarge
        | Reason::RequestMalformed
        | Reason::ServerNameNotGranted
        // Whoever trusts a resolver with what it is told names it without being offered to.
        | Reason::ResolverNotAllowed
        // A suspicion is lifted by whoever looks at it, not by a rule.
        | Reason::NamesFrozen
        | Reason::NameSuspicious
        | Reason::RuleExpired
        // People decide.
        | Reason::ApprovalRequired
        | Reason::ApprovalDenied
        | Reason::ApprovalTimedOut
        | Reason::ApprovalsExceeded
        | Reason::BudgetSpent
        | Reason::RateExceeded
        | Reason::AgentQuarantined
        | Reason::LeakBudgetSpent
        // These pass, or are faults of ours.
        | Reason::UpstreamFailed
        | Reason::GrantNotInstalled
        | Reason::GrantExpired
        | Reason::RuleRemoved
        | Reason::QuotaExceeded
        | Reason::AgentUnknown
        | Reason::OriginalDestinationUnknown => Help::None,
    }
}

/// The line of `rules:` that lets `name` be reached at `ports`, in YAML flow style.
#[must_use]
pub fn host_rule(name: &HostName, ports: &[u16], protocol: Protocol, private: bool) -> String {
    let mut keys = Vec::new();
    let listed = || ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (protocol, ports) {
        (Protocol::Tls, [443]) => {}
        (Protocol::Tls, _) => keys.push(format!("ports: [{}]", listed())),
        (Protocol::Http, [80]) => keys.push("protocol: http".to_owned()),
        (protocol, _) => keys.push(format!("protocol: {protocol}, ports: [{}]", listed())),
    }
    if private {
        keys.push("private: true".to_owned());
    }
    let host = scalar(name);
    if keys.is_empty() {
        format!("- host: {host}")
    } else {
        format!("- {{host: {host}, {}}}", keys.join(", "))
    }
}

/// What was most likely spoken to a name: the kernel sees TCP where TLS or HTTP was meant.
#[must_use]
pub fn spoken(port: Option<u16>, protocol: Option<Protocol>) -> (Protocol, u16) {
    match (protocol, port) {
        (None | Some(Protocol::Tls), port) => (Protocol::Tls, port.unwrap_or(443)),
        (Some(Protocol::Tcp), Some(443) | None) => (Protocol::Tls, 443),
        (Some(Protocol::Tcp), Some(80)) => (Protocol::Http, 80),
        (Some(Protocol::Http), port) => (Protocol::Http, port.unwrap_or(80)),
        (Some(protocol @ (Protocol::Tcp | Protocol::Udp | Protocol::Quic)), port) => {
            (protocol, port.unwrap_or(443))
        }
    }
}

/// A network has no name to check, so what is spoken on top of TCP does not count.
fn transport(protocol: Option<Protocol>) -> Protocol {
    match protocol {
        Some(Protocol::Udp | Protocol::Quic) => Protocol::Udp,
        Some(Protocol::Tcp | Protocol::Tls | Protocol::Http) | None => Protocol::Tcp,
    }
}

pub(super) fn cidr_rule(address: IpAddr, port: u16, protocol: Protocol) -> Option<String> {
    if special_purpose(address) == Some(SpecialPurpose::Never) {
        return None;
    }
    let cidr = match address {
        IpAddr::V4(address) => format!("{address}/32"),
        // Quoted, for a colon means something in YAML.
        IpAddr::V6(address) => format!("\"{address}/128\""),
    };
    Some(format!("- {{cidr: {cidr}, protocol: {protocol}, ports: [{port}]}}"))
}

/// The name as a YAML scalar: one without a dot could be read as `null` or `true`.
fn scalar(name: &HostName) -> String {
    if name.as_str().contains('.') { name.to_string() } else { format!("\"{name}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_at_the_tls_port_needs_a_host_and_nothing_else() {
        for protocol in [None, Some(Protocol::Tls), Some(Protocol::Tcp)] {
            offers("api.example.com", Some(443), protocol, "- host: api.example.com");
        }
        offers("api.example.com", None, None, "- host: api.example.com");
        offers("null", Some(443), None, "- host: \"null\"");
    }

    #[test]
    fn another_port_or_protocol_is_named() {
        offers("a.example", Some(8443), Some(Protocol::Tls), "- {host: a.example, ports: [8443]}");
        offers("a.example", Some(80), Some(Protocol::Tcp), "- {host: a.example, protocol: http}");
        offers(
            "a.example",
            Some(8080),
            Some(Protocol::Http),
            "- {host: a.example, protocol: http, ports: [8080]}",
        );
        offers(
            "a.example",
            Some(5432),
            Some(Protocol::Tcp),
            "- {host: a.example, protocol: tcp, ports: [5432]}",
        );
        offers(
            "a.example",
            Some(443),
            Some(Protocol::Udp),
            "- {host: a.example, protocol: udp, ports: [443]}",
        );
    }

    #[test]
    fn an_address_needs_a_network_of_one() {
        offers(
            "198.41.0.4",
            Some(123),
            Some(Protocol::Udp),
            "- {cidr: 198.41.0.4/32, protocol: udp, ports: [123]}",
        );
        offers("2620:fe::9", Some(22), None, "- {cidr: \"2620:fe::9/128\", protocol: tcp, ports: [22]}");
        offers("::ffff:10.0.0.1", Some(22), None, "- {cidr: 10.0.0.1/32, protocol: tcp, ports: [22]}");
    }

    #[test]
    fn a_name_with_private_addresses_must_say_so() {
        let shown = ask("db.corp.example", None, None, Reason::AddressSpecialPurpose);
        assert_eq!(shown.as_deref(), Some("- {host: db.corp.example, private: true}"));
    }

    #[test]
    fn what_is_not_tls_needs_a_rule_for_any_bytes() {
        let shown = ask("git.example", Some(443), Some(Protocol::Tls), Reason::NotTls);
        assert_eq!(shown.as_deref(), Some("- {host: git.example, protocol: tcp, ports: [443]}"));
    }

    #[test]
    fn no_rule_helps_against_a_deny_rule_or_a_metadata_service() {
        assert_eq!(ask("a.example", Some(443), None, Reason::DeniedByRule), None);
        assert_eq!(ask("a.example", Some(443), None, Reason::QueryMalformed), None);
        assert_eq!(ask("169.254.169.254", Some(80), None, Reason::AddressNotGranted), None);
        assert_eq!(ask("127.0.0.1", Some(80), None, Reason::AddressNotGranted), None);
        assert_eq!(ask("9.9.9.9", Some(53), Some(Protocol::Udp), Reason::AddressNotGranted), None);
    }

    fn offers(destination: &str, port: Option<u16>, protocol: Option<Protocol>, rule: &str) {
        assert_eq!(ask(destination, port, protocol, Reason::PortNotAllowed).as_deref(), Some(rule));
    }

    fn ask(
        destination: &str,
        port: Option<u16>,
        protocol: Option<Protocol>,
        reason: Reason,
    ) -> Option<String> {
        let destination = match destination.parse() {
            Ok(address) => Destination::Address(address),
            Err(_) => Destination::Name(HostName::parse(destination).unwrap()),
        };
        remedy(&destination, port, protocol, reason)
    }
}
