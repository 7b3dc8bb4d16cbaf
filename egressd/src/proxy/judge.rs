//! Puts a flow before the policy, as the proxy meets flows.

use super::hello::Hello;
use crate::policy::{
    Agent, Denial, Destination, Flow, Moment, Permit, Protocol, Reason, RuleId, SpecialPurpose, Subject,
    TlsTerms, special_purpose,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Judges a flow to `destination` in the first of `protocols` that a rule allows; where it is only observed,
/// and they are for a tunnel, in the one that is usual at its port. `address` is None before a name is looked up; the permit then names
/// no address that could be dialled.
///
/// # Errors
/// The denial in the first of `protocols`.
pub fn judge(
    agent: &Agent,
    destination: &Destination,
    address: Option<IpAddr>,
    port: u16,
    protocols: &[Protocol],
    now: Moment,
) -> Result<Permit, Denial> {
    let mut first = None;
    let mut observed: Option<Permit> = None;
    for protocol in protocols {
        let flow = Flow { destination: destination.clone(), port, protocol: *protocol, address };
        match agent.decide(&flow, now).and_then(|permit| deputise(agent, permit)) {
            Ok(permit) if permit.observed().is_none() => return Ok(permit),
            Ok(permit) => {
                // Who asks for a tunnel has not said yet what goes through it.
                let is_likelier = protocols.contains(&Protocol::Tls) && *protocol == usual(port);
                if observed.is_none() || is_likelier {
                    observed = Some(permit);
                }
            }
            Err(denial) => first = first.or(Some(denial)),
        }
    }
    observed.ok_or_else(|| first.unwrap_or(Denial::because(Reason::ProtocolNotAllowed)))
}

/// What is spoken at a port, as far as nobody says.
fn usual(port: u16) -> Protocol {
    match port {
        443 => Protocol::Tls,
        80 => Protocol::Http,
        _ => Protocol::Tcp,
    }
}

/// Judges a redirected flow that named `destination` and was on its way to `original`.
///
/// The name must be granted for that very address; failing that, a rule for the network of the
/// address may allow it whatever its name, unless a deny rule covers the name.
///
/// # Errors
/// The denial by name.
pub fn judge_redirected(
    agent: &Agent,
    destination: &Destination,
    original: SocketAddr,
    protocol: Protocol,
    now: Moment,
) -> Result<Permit, Denial> {
    let (address, port) = (original.ip(), original.port());
    if matches!(destination, Destination::Address(named) if *named != address) {
        return Err(Denial::because(Reason::ServerNameNotGranted));
    }
    let by_name = judge(agent, destination, Some(address), port, &[protocol], now);
    let denial = match &by_name {
        Ok(permit) => permit.observed(),
        Err(denial) => Some(denial),
    };
    if denial.is_none_or(|denial| denial.reason == Reason::DeniedByRule) {
        return by_name;
    }
    let by_address = Destination::Address(address);
    match (judge(agent, &by_address, Some(address), port, &[protocol], now), by_name) {
        (Ok(permit), by_name) if by_name.is_err() || permit.observed().is_none() => Ok(permit),
        (_, by_name) => by_name,
    }
}

/// Denies a flow whose hello may hide another name than the one that `permit` is for.
///
/// # Errors
/// The rule of the permit refuses Encrypted Client Hello to this name.
pub fn judge_ech(agent: &Agent, permit: &Permit, hello: &Hello) -> Result<(), Denial> {
    let policy = agent.policy();
    let is_refused = match permit.rule() {
        RuleId::OBSERVED => TlsTerms::default().refuses_ech(&hello.name),
        id => {
            let rule = policy.allow().iter().find(|rule| rule.id == id);
            // A rule that has just gone refuses everything; who admits the flow looks again.
            rule.is_none_or(|rule| rule.tls.refuses_ech(&hello.name))
        }
    };
    match hello.has_ech && is_refused {
        true => Err(Denial { reason: Reason::EchNotAllowed, rule: permit.source().cloned() }),
        false => Ok(()),
    }
}

/// Withholds what the agent may not have through us: this host, link-local and metadata services,
/// which from here are not where they are for the agent. A rule for a network that holds nothing
/// else means them; `0.0.0.0/0` does not. (SECURITY.md: the proxy is nobody's deputy.)
fn deputise(agent: &Agent, permit: Permit) -> Result<Permit, Denial> {
    let (Destination::Address(_), Some(address)) = (permit.destination(), permit.address()) else {
        return Ok(permit); // The grant of a name is for this one address.
    };
    if special_purpose(address) != Some(SpecialPurpose::Never) {
        return Ok(permit);
    }
    let policy = agent.policy();
    let rule = policy.allow().iter().find(|rule| rule.id == permit.rule());
    match rule.map(|rule| &rule.subject) {
        Some(Subject::Network(network)) if is_all_special(network) => Ok(permit),
        Some(Subject::Host(_)) => Ok(permit), // A direct grant, again for this one address.
        Some(Subject::Network(_)) | None => {
            Err(Denial { reason: Reason::AddressSpecialPurpose, rule: permit.source().cloned() })
        }
    }
}

fn is_all_special(network: &IpNet) -> bool {
    let is_special = |address| special_purpose(address) == Some(SpecialPurpose::Never);
    let is_narrow = match network {
        IpNet::V4(network) => network.prefix_len() >= 8,
        IpNet::V6(network) => network.prefix_len() >= 10,
    };
    is_narrow && is_special(network.network()) && is_special(network.broadcast())
}
