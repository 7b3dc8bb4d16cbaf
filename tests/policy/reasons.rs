//! The words of denials, and the rules that are offered against them.

use egressd::{
    config::load_str,
    policy::{AgentName, Destination, Flow, Grants, HostName, Moment, Policy, Protocol, Reason, remedy},
};
use std::{path::Path, sync::Arc};

#[test]
fn every_reason_has_a_word_of_its_own_and_an_explanation() {
    for (nth, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(reason.as_str().parse::<Reason>(), Ok(*reason));
        assert!(Reason::ALL[..nth].iter().all(|other| other.as_str() != reason.as_str()));
        assert!(reason.explanation().ends_with('.') && !reason.explanation().starts_with(' '));
    }
    assert!("because".parse::<Reason>().is_err());
}

#[test]
fn the_rule_that_is_offered_allows_what_was_denied() {
    let names = ["api.example.com", "localhost-like", "null", "1e3.5e1x"];
    let addresses = ["198.41.0.4", "10.1.2.3", "2620:fe::9", "::ffff:198.41.0.4"];
    let protocols = [Protocol::Tls, Protocol::Http, Protocol::Tcp, Protocol::Udp];
    for (port, protocol) in
        [1, 80, 443, 8443, 65535].into_iter().flat_map(|port| protocols.map(|p| (port, p)))
    {
        for name in names {
            let destination = Destination::Name(HostName::parse(name).unwrap());
            helps(&destination, port, meant(port, protocol), Reason::HostNotAllowed);
            helps(&destination, port, Protocol::Tcp, Reason::NotTls);
        }
        for address in addresses {
            let transport = if protocol == Protocol::Udp { Protocol::Udp } else { Protocol::Tcp };
            helps(
                &Destination::Address(address.parse().unwrap()),
                port,
                transport,
                Reason::AddressNotGranted,
            );
        }
    }
}

#[test]
fn the_rule_that_is_offered_lets_a_name_have_private_addresses() {
    let name = HostName::parse("db.corp.example").unwrap();
    let destination = Destination::Name(name.clone());
    let rule = remedy(&destination, Some(5432), Some(Protocol::Udp), Reason::AddressSpecialPurpose).unwrap();
    assert!(compile(&rule).lookup(&name).unwrap().private());
}

/// At the ports of the web, TCP to a name means what is spoken there.
fn meant(port: u16, protocol: Protocol) -> Protocol {
    match (port, protocol) {
        (443, Protocol::Tcp) => Protocol::Tls,
        (80, Protocol::Tcp) => Protocol::Http,
        (_, protocol) => protocol,
    }
}

fn helps(destination: &Destination, port: u16, protocol: Protocol, reason: Reason) {
    let rule = remedy(destination, Some(port), Some(protocol), reason).unwrap();
    let flow = Flow { destination: destination.clone(), port, protocol, address: None };
    let decided = compile(&rule).decide(&flow, &Grants::default(), Moment(0));
    assert!(decided.is_ok(), "{rule} does not allow {flow:?}: {decided:?}");
}

fn compile(rule: &str) -> Arc<Policy> {
    let text = format!("version: 1\nagents:\n  default:\n    rules:\n      {rule}\n");
    let policies =
        load_str("remedy.yaml", &text, Path::new(""), &[]).unwrap_or_else(|error| panic!("{error}"));
    policies.for_agent(&AgentName::parse("default").unwrap())
}
