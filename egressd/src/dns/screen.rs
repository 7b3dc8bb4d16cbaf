//! Which addresses of an answer an agent may have, and what they are granted for.

use super::report::Refusal;
use crate::policy::{Grant, Leave, Moment, Opening, Policy, Reason, SpecialPurpose, special_purpose};
use std::net::IpAddr;

/// The most addresses of one answer that are granted and handed on. Real names have a dozen.
pub const MAX_ADDRESSES: usize = 64;

/// Refuses an answer with an address that is special, or denied at every port that is open.
///
/// One such address spoils the whole answer: whoever mixes it in means it to be used.
pub fn screen(policy: &Policy, leave: &Leave, addresses: &[IpAddr]) -> Result<(), Refusal> {
    for address in addresses {
        let is_special = match special_purpose(*address) {
            Some(SpecialPurpose::Never) => true,
            Some(SpecialPurpose::Private) => !leave.private(),
            None => false,
        };
        if is_special {
            return Err(Refusal::because(Reason::AddressSpecialPurpose, address.to_string()));
        }
        if let Some(denial) = policy.denies_address(*address, leave) {
            return Err(Refusal { detail: Some(address.to_string()), ..denial.into() });
        }
    }
    Ok(())
}

/// What `leave` opens at `addresses`, but for the ports that a network on the deny list covers.
#[must_use]
pub fn grants(policy: &Policy, leave: &Leave, addresses: &[IpAddr], expires: Moment) -> Vec<Grant> {
    let grant = |address: IpAddr, opening: &Opening| {
        let Opening { port, protocol, rule } = *opening;
        Grant { name: leave.name().clone(), address, port, protocol, rule, expires }
    };
    addresses
        .iter()
        .flat_map(|address| policy.openings_at(*address, leave).map(|opening| grant(*address, opening)))
        .collect()
}
