//! What is answered here whatever upstream would say.

use super::{answer::Answer, chain::NEGATIVE_TTL, report::Refusal};
use crate::policy::{Agent, HostName, Reason};

/// The answer to a question for `name`, and what the record says of it; None where the policy decides.
#[must_use]
pub fn answer(agent: &Agent, name: &HostName) -> Option<(Answer, Refusal)> {
    let detail = if name.as_str() == CANARY {
        CANARY_DETAIL.to_owned()
    } else {
        // A stub resolver goes on to its next search domain after NXDOMAIN; at REFUSED it stops.
        let meant = agent.policy().expansion_of(name, &[])?;
        format!("`{meant}` with a search domain behind it: told that it does not exist")
    };
    let refusal = Refusal::because(Reason::HostNotAllowed, detail);
    Some((Answer::NoName { ttl: NEGATIVE_TTL }, refusal))
}

/// Browsers ask for this name before they turn to DNS over HTTPS of their own; that it does not
/// exist tells them not to (Mozilla, "Canary domain").
const CANARY: &str = "use-application-dns.net";
const CANARY_DETAIL: &str = "canary of DNS over HTTPS: told that it does not exist";
