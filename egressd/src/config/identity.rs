//! The identities of rules, by their content.

use crate::policy::{Protocol, RuleId, Subject, Term, TlsTerms};
use std::{collections::HashMap, fmt::Write};

/// Gives each content one id, the same in every process and after every reload.
#[derive(Debug, Default)]
pub(super) struct RuleIds {
    held: HashMap<u32, String>,
}

impl RuleIds {
    /// The id of a rule that says this. `effect` tells rules that allow from rules that deny.
    pub(super) fn id(
        &mut self,
        effect: &str,
        subject: &Subject,
        ports: &[u16],
        protocol: Option<Protocol>,
        private: bool,
        (tls, term): (&TlsTerms, Term),
    ) -> RuleId {
        let mut content =
            format!("{effect} {subject} {} {private}", protocol.map_or("any", Protocol::as_str));
        for port in ports {
            // Writing to a String cannot fail.
            let _ = write!(content, " {port}");
        }
        if *tls != TlsTerms::default() {
            let _ = write!(content, " {tls:?}");
        }
        if let Some(until) = term.until {
            let _ = write!(content, " until {until}");
        }
        if let Some(within) = term.within {
            let _ = write!(content, " for {}", within.as_secs());
        }
        self.claim(content)
    }

    /// Two contents with one hash are told apart by counting on, so an id never means two rules.
    fn claim(&mut self, content: String) -> RuleId {
        let mut id = fnv1a(content.as_bytes()).max(1);
        while id == RuleId::OBSERVED.0 || self.held.get(&id).is_some_and(|held| *held != content) {
            id = id.wrapping_add(1).max(1);
        }
        self.held.insert(id, content);
        RuleId(id)
    }
}

/// FNV-1a, 32 bits (draft-eastlake-fnv): the ids outlive the process in the kernel maps, so the
/// hash must not change with the compiler, as the standard library's may.
fn fnv1a(octets: &[u8]) -> u32 {
    octets.iter().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_with_one_hash_get_two_ids() {
        let mut ids = RuleIds::default();
        // The shortest well-known pair with one 32-bit FNV-1a hash.
        assert_eq!(fnv1a(b"costarring"), fnv1a(b"liquid"));
        let first = ids.claim("costarring".to_owned());
        let second = ids.claim("liquid".to_owned());
        assert_ne!(first, second);
        assert_eq!(ids.claim("costarring".to_owned()), first);
        assert_eq!(ids.claim("liquid".to_owned()), second);
    }
}
