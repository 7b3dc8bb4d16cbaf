//! What a lookup would be told, by what is known here: nobody is asked, nothing is charged, nothing is noted.

use super::{
    chain::Found,
    gate::{Gate, record_types, refused_by_ledger, rest},
    local,
    lookups::{Foreseen, Price, Refused},
    query::Family,
    report::Refusal,
    screen::screen,
    upstream::{LookupError, Server},
    warm::Warm,
};
use crate::policy::{Agent, Denial, HostName, Leave, Policy, Reason};
use std::{net::IpAddr, time::Duration};

/// What a lookup of the addresses of a name would be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foresight {
    pub foretold: Foretold,
    /// What is known of the name, with the rest of its time, whether it would be told or not.
    pub addresses: Vec<(IpAddr, Duration)>,
    /// Where the name would leave by a wildcard.
    pub price: Option<Price>,
    /// Whoever may be asked, where somebody would be.
    pub servers: Vec<Server>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foretold {
    /// Addresses, without a byte to anybody.
    Kept,
    /// That there is no address, without a byte to anybody.
    Absent,
    /// What upstream says, which nobody knows yet.
    Asked,
    /// A failure, until upstream answers again.
    Failed(Unanswered),
    /// That the name does not exist, whatever upstream would say; and why.
    Hidden(Option<String>),
    /// Nothing, until somebody approves the name.
    Held(Denial),
    /// A refusal.
    Refused(Denial, Unanswered),
}

/// An answer without addresses, as the agent would read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// As in `REFUSED`.
    pub code: &'static str,
    /// Of RFC 8914, section 4.
    pub info: u16,
    /// What the reason cannot say.
    pub detail: Option<String>,
}

impl Gate {
    /// What a lookup of the addresses of `name` by `agent` would be told.
    #[must_use]
    pub fn foresee(&self, agent: &Agent, name: &HostName) -> Foresight {
        if let Some((_, refusal)) = local::answer(agent, name) {
            return Foresight::of(Foretold::Hidden(refusal.detail));
        }
        let (policy, leave) = match agent.leave(name) {
            Ok(leave) => leave,
            Err(denial) if self.people.are_asked_about(&denial) => {
                return Foresight::of(match self.people.remember_no(agent.id(), name) {
                    true => refused(Denial { reason: Reason::ApprovalDenied, ..denial }.into()),
                    false => Foretold::Held(denial),
                });
            }
            Err(denial) => return Foresight::of(refused(denial.into())),
        };
        match self.foresee_warm(agent, &policy, &leave) {
            Ok(Foreseen::Kept(warm)) => self.told(agent, &policy, &leave, &warm),
            Ok(Foreseen::Charged(price)) => Foresight { price: Some(price), ..self.asked() },
            Ok(Foreseen::Free) => self.asked(),
            Err(refusal) => Foresight::of(refused(refusal)),
        }
    }

    /// Where its answer would come from.
    fn foresee_warm(&self, agent: &Agent, policy: &Policy, leave: &Leave) -> Result<Foreseen, Refusal> {
        let name = leave.name();
        let Some(wildcard) = leave.wildcard() else {
            // What is only observed is not kept warm, and costs nothing.
            let warm = leave.has_rule().then(|| self.pinned.peek(name)).flatten();
            return Ok(warm.map_or(Foreseen::Free, Foreseen::Kept));
        };
        let foreseen = self.lookups(agent).foresee(policy, wildcard, name, &record_types(leave));
        foreseen.map_err(|Refused { reason, detail, alerts }| {
            refused_by_ledger(reason, detail, wildcard, &alerts)
        })
    }

    /// What is told of a name that is kept warm.
    fn told(&self, agent: &Agent, policy: &Policy, leave: &Leave, warm: &Warm) -> Foresight {
        let found = [Family::V4, Family::V6].map(|family| warm.peek(family));
        let most = rest(agent, leave, (self.hearth.clock)());
        let addresses = found.iter().flat_map(|found| with_rest(found, most)).collect();
        let screened = found.clone().map(|found| match found {
            Some(Ok(Found::Addresses { addresses, .. })) => Some(screen(policy, leave, &addresses)),
            Some(Ok(Found::NoData { .. } | Found::NoName { .. }) | Err(_)) | None => None,
        });
        let foretold = match screened {
            // One family is enough.
            [Some(Ok(())), _] | [_, Some(Ok(()))] => Foretold::Kept,
            [Some(Err(refusal)), _] | [_, Some(Err(refusal))] => refused(refusal),
            [None, None] => without_addresses(found),
        };
        let servers = if foretold == Foretold::Asked { self.servers() } else { Vec::new() };
        Foresight { foretold, addresses, price: None, servers }
    }

    fn asked(&self) -> Foresight {
        Foresight { servers: self.servers(), ..Foresight::of(Foretold::Asked) }
    }

    fn servers(&self) -> Vec<Server> {
        self.hearth.upstream.servers()
    }
}

impl Foresight {
    fn of(foretold: Foretold) -> Self {
        Self { foretold, addresses: Vec::new(), price: None, servers: Vec::new() }
    }
}

type Peeked = Option<Result<Found, LookupError>>;

fn without_addresses([v4, v6]: [Peeked; 2]) -> Foretold {
    match (v4, v6) {
        (Some(Err(error)), _) | (_, Some(Err(error))) => Foretold::Failed(Unanswered::of(&error.into())),
        (None, _) | (_, None) => Foretold::Asked,
        (Some(Ok(_)), Some(Ok(_))) => Foretold::Absent,
    }
}

fn with_rest(found: &Peeked, most: Option<Duration>) -> Vec<(IpAddr, Duration)> {
    match found {
        Some(Ok(Found::Addresses { addresses, ttl })) => {
            let rest = most.map_or(*ttl, |most| most.min(*ttl));
            addresses.iter().map(|address| (*address, rest)).collect()
        }
        Some(Ok(Found::NoData { .. } | Found::NoName { .. }) | Err(_)) | None => Vec::new(),
    }
}

fn refused(refusal: Refusal) -> Foretold {
    let unanswered = Unanswered::of(&refusal);
    Foretold::Refused(refusal.denial, unanswered)
}

impl Unanswered {
    fn of(refusal: &Refusal) -> Self {
        let (code, info) = refusal.codes();
        Self { code: code.as_str(), info: info as u16, detail: refusal.detail.clone() }
    }
}
