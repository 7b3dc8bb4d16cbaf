//! Leave that names earned, in the maps: by address for every flow, and by name for those that must say one.

use super::{
    permits::{Permit, Unreported},
    tables::{Outcome, Tables, address, octets, transport_of},
    way::{self, Ways},
};
use crate::policy::{AgentId, Grant, HostName, Moment, Protocol, RuleId};
use egress_common::{Gate, GrantKey, GrantValue, NameKey, NameValue};
use std::{collections::HashMap, time::Duration};

impl Tables {
    /// Writes one grant, and its name. While two names earned the same address and port, the
    /// stricter way is taken.
    pub fn grant(&mut self, agent: AgentId, grant: &Grant, ways: &Ways<'_>, now: Moment) -> Outcome {
        let (key, value) = self.name_entry(agent, grant, ways);
        let kernel = grant_key(&key);
        let own =
            GrantValue { expires: grant.expires.0, rule: grant.rule.0, gate: ways.of(grant) as u16, used: 0 };
        // What the kernel notes between this read and the write is lost; the next flow notes it again.
        let joined = match self.grants.get(&kernel, 0) {
            Ok(held) => GrantValue { used: held.used, ..renewed(held, own, now) },
            Err(_absent) => own,
        };
        self.names.insert(key, value)?;
        self.grants.insert(kernel, joined, 0)
    }

    /// What the kernel holds of `grant`.
    #[must_use]
    pub fn held(&self, agent: AgentId, grant: &Grant) -> Option<GrantValue> {
        self.grants.get(&grant_key(&name_key(agent, grant)), 0).ok()
    }

    /// Every grant of `agent` that the kernel keeps, with its name.
    #[must_use]
    pub fn grants_of(&self, agent: AgentId) -> Vec<Grant> {
        self.names_of(agent).into_iter().filter_map(|(key, value)| read_name(&key, &value)).collect()
    }

    /// Removes the grants of `agent` for which `keep` has none, and writes the others anew, as it has
    /// them: what two names shared is narrowed, and what the kernel could not read it may try again.
    pub fn retain_grants(
        &mut self,
        agent: AgentId,
        ways: &Ways<'_>,
        now: Moment,
        keep: impl Fn(Grant) -> Option<Grant>,
    ) -> Outcome {
        let (mut kept, mut removed) = (Vec::new(), Vec::new());
        for (key, value) in self.names_of(agent) {
            match read_name(&key, &value).and_then(&keep) {
                Some(grant) => kept.push(grant),
                None => removed.push(key),
            }
        }
        let mut wanted: HashMap<GrantKey, GrantValue> = HashMap::new();
        for grant in &kept {
            let (gate, rule, expires) = (ways.of(grant) as u16, grant.rule.0, grant.expires.0);
            let own = GrantValue { expires, rule, gate, used: 0 };
            let key = grant_key(&name_key(agent, grant));
            wanted.entry(key).and_modify(|held| *held = shared(*held, own, now)).or_insert(own);
        }
        for key in removed {
            self.names.remove(&key)?;
            if !wanted.contains_key(&grant_key(&key)) {
                // Absent if another name of the same address was removed before.
                let _ = self.grants.remove(&grant_key(&key));
            }
        }
        for (key, value) in wanted {
            let used = self.grants.get(&key, 0).map_or(0, |held| held.used);
            self.grants.insert(key, GrantValue { used, ..value }, 0)?;
        }
        for grant in &kept {
            let (key, value) = self.name_entry(agent, grant, ways);
            self.names.insert(key, value)?;
        }
        Ok(())
    }

    /// Removes `grants` of `agent`, which have expired, from the kernel, but for what was earned again
    /// and for direct ones: flows that are open by those are judged again when the policy changes.
    pub fn forget_expired(&mut self, agent: AgentId, grants: &[Grant], ways: &Ways<'_>, now: Moment) {
        for grant in grants.iter().filter(|grant| !ways.is_direct(grant)) {
            let key = name_key(agent, grant);
            let is_stale = |expires: u64| Moment(expires) < now;
            if self.names.get(&key).is_ok_and(|value| is_stale(value.expires)) {
                let _ = self.names.remove(&key);
            }
            let key = grant_key(&key);
            if self.grants.get(&key, 0).is_ok_and(|value| is_stale(value.expires)) {
                let _ = self.grants.remove(&key);
            }
        }
    }

    /// Removes the direct grants of `agent` that expired first, until `keep` are left.
    pub fn retire_direct(&mut self, agent: AgentId, ways: &Ways<'_>, keep: usize) {
        let mut direct = self.names_of(agent);
        direct.retain(|(key, value)| read_name(key, value).is_some_and(|grant| ways.is_direct(&grant)));
        direct.sort_by_key(|(_, value)| value.expires);
        let surplus = direct.len().saturating_sub(keep);
        for (key, _) in direct.into_iter().take(surplus) {
            let _ = self.names.remove(&key);
            let _ = self.grants.remove(&grant_key(&key));
        }
    }

    /// Takes the flows that the programs counted by `permit` and did not report.
    pub fn take_unreported(&mut self, permit: &Permit, now: Moment) -> Option<Unreported> {
        let Permit { agent, name, address, port } = permit.clone();
        let (protocol, rule) = (Protocol::Tls, RuleId(0));
        let grant = Grant { name, address, port, protocol, rule, expires: now };
        let key = name_key(agent, &grant);
        let held = self.names.get(&key).ok().filter(|held| held.flows != 0)?;
        self.names.insert(key, NameValue { flows: 0, reported: now.0, ..held }).ok()?;
        Some(Unreported { count: held.flows, rule: RuleId(held.rule) })
    }

    /// The flows of `agent` that the programs counted and did not report.
    #[must_use]
    pub fn unreported(&self, agent: AgentId) -> Vec<(Permit, Unreported)> {
        let counted = self.names_of(agent).into_iter().filter(|(_, value)| value.flows != 0);
        let read = counted.filter_map(|(key, value)| {
            let Grant { name, address, port, rule, .. } = read_name(&key, &value)?;
            Some((Permit { agent, name, address, port }, Unreported { count: value.flows, rule }))
        });
        read.collect()
    }

    /// Removes every grant of `agent`.
    pub fn forget_grants(&mut self, agent: AgentId) {
        for (key, _) in self.names_of(agent) {
            // What cannot be removed was not there.
            let _ = self.names.remove(&key);
            let _ = self.grants.remove(&grant_key(&key));
        }
    }

    fn names_of(&self, agent: AgentId) -> Vec<(NameKey, NameValue)> {
        self.names.of(agent).filter_map(|key| Some((key, self.names.get(&key).ok()?))).collect()
    }

    /// The entry of `grant` by its name, with what the kernel counts in it.
    fn name_entry(&self, agent: AgentId, grant: &Grant, ways: &Ways<'_>) -> (NameKey, NameValue) {
        let key = name_key(agent, grant);
        let held = match ways.is_direct(grant) && grant.protocol == Protocol::Tls {
            true => self.names.get(&key).ok(),
            false => None,
        };
        let mut name = [0; 256];
        let text = grant.name.as_str().as_bytes();
        // A HostName has at most 253 octets.
        name.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        let value = NameValue {
            expires: grant.expires.0,
            rule: grant.rule.0,
            length: u32::try_from(text.len()).unwrap_or(0),
            reported: held.map_or(0, |held| held.reported),
            flows: held.map_or(0, |held| held.flows),
            flags: ways.name_flags(grant),
            name,
        };
        (key, value)
    }
}

/// How long a way to the proxy is kept that the kernel chose itself, because it could not read a
/// ClientHello there: whoever sends such a one sends it again.
const KEEP_UNREADABLE: Duration = Duration::from_secs(3600);

/// What `own` makes of the entry that is `held`.
fn renewed(held: GrantValue, own: GrantValue, now: Moment) -> GrantValue {
    let is_live = Moment(held.expires) > now;
    let by_the_kernel = way::read(held.gate) == Gate::Proxy && way::read(own.gate) == Gate::Kernel;
    if by_the_kernel && Moment(held.expires).after(KEEP_UNREADABLE) > now {
        return GrantValue { expires: held.expires.max(own.expires), gate: Gate::Proxy as u16, ..own };
    }
    if is_live { shared(held, own, now) } else { own }
}

/// What two names of one address and port have in common. One that has expired says nothing.
fn shared(held: GrantValue, own: GrantValue, now: Moment) -> GrantValue {
    let is_live = |value: GrantValue| Moment(value.expires) > now;
    match (is_live(held), is_live(own)) {
        (true, false) => return held,
        (false, true) => return own,
        (true, true) | (false, false) => {}
    }
    let expires = held.expires.max(own.expires);
    let gate = way::stricter(way::read(held.gate), way::read(own.gate));
    let rule = if way::read(own.gate) == gate { own.rule } else { held.rule };
    GrantValue { expires, rule, gate: gate as u16, used: held.used.max(own.used) }
}

/// By the numbers of [`NameKey::protocol`]; that of TLS is [`egress_common::SPEAKS_TLS`].
const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tls, Protocol::Http, Protocol::Tcp, Protocol::Udp, Protocol::Quic];

fn name_key(agent: AgentId, grant: &Grant) -> NameKey {
    let protocol = PROTOCOLS.iter().position(|protocol| *protocol == grant.protocol).unwrap_or(0);
    NameKey {
        agent: agent.0,
        port: grant.port,
        protocol: u8::try_from(protocol).unwrap_or(0),
        zero: 0,
        address: octets(grant.address),
        name: egress_common::fnv1a(grant.name.as_str().bytes()),
    }
}

fn read_name(key: &NameKey, value: &NameValue) -> Option<Grant> {
    let name = value.name.get(..usize::try_from(value.length).ok()?)?;
    Some(Grant {
        name: HostName::from_ascii(name).ok()?,
        address: address(key.address),
        port: key.port,
        protocol: *PROTOCOLS.get(usize::from(key.protocol))?,
        rule: RuleId(value.rule),
        expires: Moment(value.expires),
    })
}

fn grant_key(key: &NameKey) -> GrantKey {
    let protocol = PROTOCOLS.get(usize::from(key.protocol)).copied().unwrap_or(Protocol::Tls);
    GrantKey {
        agent: key.agent,
        port: key.port,
        transport: transport_of(protocol),
        zero: 0,
        address: key.address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Gate::{Direct, Kernel, Proxy};

    const NOW: Moment = Moment(10_000_000_000_000);
    const LIVE: u64 = NOW.0 + 1_000_000_000;
    const OVER: u64 = NOW.0 - 1_000_000_000;
    const LONG_OVER: u64 = NOW.0 - 3_601_000_000_000;

    #[test]
    fn two_live_names_of_one_address_share_the_stricter_way_and_its_rule() {
        for (held, own, gate, rule) in [
            (Direct, Direct, Direct, 2),
            (Direct, Kernel, Kernel, 2),
            (Kernel, Direct, Kernel, 1),
            (Kernel, Kernel, Kernel, 2),
            (Direct, Proxy, Proxy, 2),
            (Proxy, Direct, Proxy, 1),
            (Kernel, Proxy, Proxy, 2),
            (Proxy, Proxy, Proxy, 2),
        ] {
            let joined = renewed(value(held, LIVE, 1), value(own, LIVE + 1, 2), NOW);
            assert_eq!(joined, value(gate, LIVE + 1, rule), "{held:?} {own:?}");
        }
    }

    #[test]
    fn a_name_that_expired_has_no_part_in_the_way_of_another() {
        for (held, own) in [(Proxy, Direct), (Kernel, Direct), (Direct, Kernel)] {
            assert_eq!(renewed(value(held, OVER, 1), value(own, LIVE, 2), NOW), value(own, LIVE, 2));
            assert_eq!(shared(value(held, OVER, 1), value(own, LIVE, 2), NOW), value(own, LIVE, 2));
            assert_eq!(shared(value(own, LIVE, 2), value(held, OVER, 1), NOW), value(own, LIVE, 2));
        }
    }

    #[test]
    fn what_the_kernel_could_not_read_stays_with_the_proxy_through_renewals_for_an_hour() {
        let own = value(Kernel, LIVE, 2);
        assert_eq!(renewed(value(Proxy, LIVE, 1), own, NOW), value(Proxy, LIVE, 2));
        assert_eq!(renewed(value(Proxy, OVER, 1), own, NOW), value(Proxy, LIVE, 2));
        assert_eq!(renewed(value(Proxy, LONG_OVER, 1), own, NOW), own);
    }

    fn value(gate: Gate, expires: u64, rule: u32) -> GrantValue {
        GrantValue { expires, rule, gate: gate as u16, used: 0 }
    }
}
