//! The smallest change of a policy that would allow what it denies.

use super::{
    decide::Policy,
    decision::{Denial, Permit},
    flow::{Destination, Flow},
    grant::Grants,
    host::HostName,
    judge::{covers_name, on_wire},
    mode::Mode,
    moment::Moment,
    remedy::{cidr_rule, host_rule},
    rule::{Protocol, Rule},
    source::Source,
    special::{SpecialPurpose, special_purpose},
};
use std::net::IpAddr;

/// The smallest change of a policy that would allow a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Never nothing at all.
    Edit {
        /// Rules that deny, which win over every other. What they deny beside the flow is judged by the rest.
        remove: Vec<Source>,
        /// A line of `rules:`, in YAML flow style, that opens this destination at this port and nothing else.
        add: Option<String>,
    },
    /// No rule is offered; why.
    None(&'static str),
}

impl Policy {
    /// The smallest change of what is in force by which `flow` would be allowed; of a flow that is only observed, by
    /// which it would be no trial's any more. None where it is. `refused` are the addresses of its name that made the
    /// resolver refuse the answer.
    #[must_use]
    pub fn change_for(&self, flow: &Flow, refused: &[IpAddr]) -> Option<Change> {
        let is_let_out = refused.is_empty() && self.judge(flow).is_ok();
        // A rule on trial denies nothing: it is in the way only of what is let out already.
        let counts = |deny: &&Rule| is_let_out || deny.mode == Mode::Enforce;
        let covers = |deny: &&Rule| is_denied_by(deny, flow, refused);
        let (denying, rest): (Vec<&Rule>, Vec<&Rule>) = self.deny().iter().filter(counts).partition(covers);
        let rest = rest.into_iter().cloned().collect();
        let without = self.with_rules(self.allow().to_vec(), rest).enforced();
        let is_open = without.judge(flow).is_ok();
        let needed = match (&flow.destination, is_open) {
            (Destination::Name(name), _) => line_for_name(&without, name, flow, refused, is_open),
            (Destination::Address(_), true) => Ok(None),
            (Destination::Address(address), false) => line_for_address(on_wire(*address), flow).map(Some),
        };
        let remove: Vec<Source> = denying.iter().map(|deny| deny.source.clone()).collect();
        match needed {
            Err(why) => Some(Change::None(why)),
            Ok(None) if remove.is_empty() => None,
            Ok(add) => Some(Change::Edit { remove, add }),
        }
    }

    /// By rules alone.
    fn judge(&self, flow: &Flow) -> Result<Permit, Denial> {
        self.decide(flow, &Grants::default(), Moment::default())
    }
}

fn is_denied_by(deny: &Rule, flow: &Flow, refused: &[IpAddr]) -> bool {
    let holds = |address: IpAddr| deny.subject.holds(on_wire(address));
    let is_about = match &flow.destination {
        Destination::Name(name) => covers_name(deny, name) || refused.iter().any(|address| holds(*address)),
        Destination::Address(address) => holds(*address),
    };
    is_about && deny.covers_port(flow.port) && deny.covers_protocol(flow.protocol)
}

/// None where no line is missing.
fn line_for_name(
    policy: &Policy,
    name: &HostName,
    flow: &Flow,
    refused: &[IpAddr],
    is_open: bool,
) -> Result<Option<String>, &'static str> {
    let special = |purpose| refused.iter().any(|address| special_purpose(on_wire(*address)) == Some(purpose));
    if special(SpecialPurpose::Never) {
        return Err("an address of the name is of this host, its link or its cloud, which no rule opens");
    }
    let lets_in = |policy: &Policy| policy.lookup(name).is_ok_and(|leave| leave.private());
    let needs_private = special(SpecialPurpose::Private) && !lets_in(policy);
    match (is_open && !needs_private, flow.port) {
        (true, _) => Ok(None),
        (false, 0 | DNS_PORT) => Err(NO_PORT),
        (false, port) => Ok(Some(host_rule(name, &[port], flow.protocol, needs_private))),
    }
}

fn line_for_address(address: IpAddr, flow: &Flow) -> Result<String, &'static str> {
    match (flow.protocol, flow.port) {
        (_, 0 | DNS_PORT) => Err(NO_PORT),
        (Protocol::Tls | Protocol::Http | Protocol::Quic, _) => {
            Err("a rule for a network cannot tell names: name the host, or ask about tcp or udp")
        }
        (protocol @ (Protocol::Tcp | Protocol::Udp), port) => cidr_rule(address, port, protocol).ok_or(
            "the address is of this host, its link or its cloud, or reserved: no rule is offered for it",
        ),
    }
}

/// Of the DNS.
const DNS_PORT: u16 = 53;
const NO_PORT: &str = "no rule opens port 53, which leads to the agent's own resolver, nor port 0";
