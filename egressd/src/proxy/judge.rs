//! Puts a flow before the policy, as the proxy meets flows.

use super::hello::Hello;
use crate::policy::{
    Agent, Denial, Destination, Flow, Moment, Permit, Protocol, Reason, SpecialPurpose, Subject,
    special_purpose,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Judges a flow to `destination` in the first of `protocols` that a rule allows. `address` is
/// None before a name is looked up; the permit then names no address that could be dialled.
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
    for protocol in protocols {
        let flow = Flow { destination: destination.clone(), port, protocol: *protocol, address };
        match agent.decide(&flow, now).and_then(|permit| deputise(agent, permit)) {
            Ok(permit) => return Ok(permit),
            Err(denial) => first = first.or(Some(denial)),
        }
    }
    Err(first.unwrap_or(Denial::because(Reason::ProtocolNotAllowed)))
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
    let denial = match judge(agent, destination, Some(address), port, &[protocol], now) {
        Err(denial) if denial.reason != Reason::DeniedByRule => denial,
        settled => return settled,
    };
    judge(agent, &Destination::Address(address), Some(address), port, &[protocol], now).map_err(|_| denial)
}

/// Denies a flow whose hello may hide another name than the one that `permit` is for.
///
/// # Errors
/// The rule of the permit refuses Encrypted Client Hello to this name.
pub fn judge_ech(agent: &Agent, permit: &Permit, hello: &Hello) -> Result<(), Denial> {
    let policy = agent.policy();
    let rule = policy.allow().iter().find(|rule| rule.id == permit.rule());
    // A rule that has just gone refuses everything; who admits the flow looks again.
    let is_refused = rule.is_none_or(|rule| rule.tls.refuses_ech(&hello.name));
    match hello.has_ech && is_refused {
        true => Err(Denial::by(Reason::EchNotAllowed, permit.source())),
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
        Some(Subject::Network(_)) | None => Err(Denial::by(Reason::AddressSpecialPurpose, permit.source())),
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
