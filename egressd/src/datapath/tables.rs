//! The maps, with the daemon's types at the door.

use super::{
    ebpf::{EbpfError, chain},
    owned::{Owned, Place},
    seal::Link,
};
use crate::policy::{AgentId, OriginalDestination, Protocol, RuleId, Transport, special_within};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError};
use egress_common::{
    AgentConfig, CounterKey, DropReason, GrantKey, GrantValue, LOST_EVENTS, LinkConfig, NameKey, NameValue,
    NetworkKey, NetworkValue, OriginKey, OriginValue, RuleKey, RuleValue,
};
use ipnet::IpNet;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// The maps of the kernel programs.
#[derive(Debug)]
pub struct Tables {
    cgroups: HashMap<MapData, u64, u32>,
    agents: HashMap<MapData, u32, AgentConfig>,
    socket_counts: HashMap<MapData, u32, u64>,
    /// The programs make its entries.
    silent_counts: HashMap<MapData, u32, u64>,
    pub(super) grants: HashMap<MapData, GrantKey, GrantValue>,
    pub(super) names: Owned<HashMap<MapData, NameKey, NameValue>>,
    networks: Networks,
    denied_networks: Networks,
    rules: Owned<HashMap<MapData, RuleKey, RuleValue>>,
    origins: HashMap<MapData, OriginKey, OriginValue>,
    counters: HashMap<MapData, CounterKey, u64>,
    links: HashMap<MapData, u32, LinkConfig>,
}

type Networks = Owned<LpmTrie<MapData, NetworkKey, NetworkValue>>;

/// Which of the two network tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkList {
    Allowed,
    Denied,
}

/// One network of a rule, as a trie holds it. A port or transport of 0 stands for all, in a deny and in what is
/// let out to be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkEntry {
    pub network: IpNet,
    pub port: u16,
    pub transport: u8,
    pub rule: RuleId,
}

impl NetworkEntry {
    /// The special networks within this one that it does not open, as entries without a rule.
    pub fn holes(&self) -> impl Iterator<Item = Self> {
        let entry = *self;
        special_within(self.network).into_iter().map(move |network| Self {
            network,
            rule: RuleId(NetworkValue::HOLE),
            ..entry
        })
    }

    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.rule.0 == NetworkValue::HOLE
    }

    /// Whether both stand at one place of a trie.
    #[must_use]
    pub fn is_as_wide_as(&self, other: &Self) -> bool {
        (self.network, self.port, self.transport) == (other.network, other.port, other.transport)
    }
}

pub(super) type Outcome = Result<(), MapError>;

impl Tables {
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self, EbpfError> {
        fn table<M: TryFrom<Map, Error = MapError>>(
            object: &mut aya::Ebpf,
            map: &'static str,
        ) -> Result<M, EbpfError> {
            let found = object.take_map(map).ok_or(EbpfError::Missing(map))?;
            M::try_from(found).map_err(|error| EbpfError::Map { map, error: chain(&error) })
        }
        Ok(Self {
            cgroups: table(object, "CGROUPS")?,
            agents: table(object, "AGENTS")?,
            socket_counts: table(object, "SOCKET_COUNTS")?,
            silent_counts: table(object, "SILENT_COUNTS")?,
            grants: table(object, "GRANTS")?,
            names: table(object, "NAMES")?,
            networks: table(object, "NETWORKS")?,
            denied_networks: table(object, "DENIED_NETWORKS")?,
            rules: table(object, "RULES")?,
            origins: table(object, "ORIGINS")?,
            counters: table(object, "COUNTERS")?,
            links: table(object, "LINKS")?,
        })
    }

    /// Makes `agent` known: everything it needs first, its cgroup last.
    pub fn add_agent(&mut self, agent: AgentId, cgroup: u64, config: AgentConfig) -> Outcome {
        for reason in reasons() {
            let key = CounterKey { agent: agent.0, reason };
            if self.counters.get(&key, 0).is_err() {
                self.counters.insert(key, 0, 0)?;
            }
        }
        if self.socket_counts.get(&agent.0, 0).is_err() {
            self.socket_counts.insert(agent.0, 0, 0)?;
        }
        self.agents.insert(agent.0, config, 0)?;
        self.cgroups.insert(cgroup, agent.0, 0)
    }

    /// Forgets every cgroup of `agent`, which may have had others in an earlier daemon's life.
    pub fn forget_cgroups(&mut self, agent: AgentId) {
        let of_agent = |entry: &(u64, u32)| entry.1 == agent.0;
        for (cgroup, _) in self.cgroups.iter().flatten().filter(of_agent).collect::<Vec<_>>() {
            let _ = self.cgroups.remove(&cgroup);
        }
    }

    /// The flags of `agent`, as it was made known; one that is not known counts as sealed, and as making frames.
    #[must_use]
    pub fn flags(&self, agent: AgentId) -> u32 {
        let unknown = AgentConfig::SEALED | AgentConfig::RAW_FRAMES;
        self.agents.get(&agent.0, 0).map_or(unknown, |config| config.flags)
    }

    /// Replaces the listeners of an agent that is known.
    pub fn configure(&mut self, agent: AgentId, config: AgentConfig) -> Outcome {
        self.agents.insert(agent.0, config, 0)
    }

    /// Makes known whose frames come out of `link`.
    pub fn add_link(&mut self, agent: AgentId, link: &Link) -> Outcome {
        let (v4, v6) = (octets(link.v4.into()), octets(link.v6.into()));
        self.links.insert(link.index, LinkConfig { agent: agent.0, slot: link.number, v4, v6 }, 0)
    }

    /// Forgets `agent`: its cgroup and link first, so that what still runs there is denied.
    pub fn remove_agent(&mut self, agent: AgentId, cgroup: u64) {
        // Whatever cannot be removed was not there; an agent that is not known is denied.
        let _ = self.cgroups.remove(&cgroup);
        let of_agent = |entry: &(u32, LinkConfig)| entry.1.agent == agent.0;
        for (index, _) in self.links.iter().flatten().filter(of_agent).collect::<Vec<_>>() {
            let _ = self.links.remove(&index);
        }
        let _ = self.agents.remove(&agent.0);
        self.forget_grants(agent);
        for rule in self.rules_of(agent) {
            let _ = self.rules.remove(&RuleKey { agent: agent.0, rule: rule.0 });
        }
        for origin in self.origins.keys().flatten().filter(|key| key.agent == agent.0).collect::<Vec<_>>() {
            let _ = self.origins.remove(&origin);
        }
        for list in [NetworkList::Allowed, NetworkList::Denied] {
            for place in self.trie(list).of(agent).collect::<Vec<_>>() {
                let _ = self.trie(list).remove(&place);
            }
        }
        let _ = self.socket_counts.remove(&agent.0);
        let _ = self.silent_counts.remove(&agent.0);
        for reason in reasons() {
            let _ = self.counters.remove(&CounterKey { agent: agent.0, reason });
        }
    }

    /// Puts `rules` in force for `agent`, and no other.
    pub fn set_rules(&mut self, agent: AgentId, rules: &BTreeMap<RuleId, RuleValue>) -> Outcome {
        for old in self.rules_of(agent).into_iter().filter(|old| !rules.contains_key(old)) {
            self.rules.remove(&RuleKey { agent: agent.0, rule: old.0 })?;
        }
        let key = |rule: &RuleId| RuleKey { agent: agent.0, rule: rule.0 };
        rules.iter().try_for_each(|(rule, value)| self.rules.insert(key(rule), *value))
    }

    /// Adds `entries` to a list of `agent`, the narrowest first: what is left out of a network stands before it.
    pub fn add_networks(&mut self, list: NetworkList, agent: AgentId, entries: &[NetworkEntry]) -> Outcome {
        let mut wanted: Vec<_> = entries.iter().map(|entry| network_entry(agent, entry)).collect();
        wanted.sort_by_key(|(place, _)| Reverse(place.bits));
        wanted.into_iter().try_for_each(|(place, value)| self.trie(list).insert(place, value))
    }

    /// Leaves `entries` on a list of `agent` and nothing else; the widest go first.
    pub fn retain_networks(
        &mut self,
        list: NetworkList,
        agent: AgentId,
        entries: &[NetworkEntry],
    ) -> Outcome {
        let wanted: HashSet<_> = entries.iter().map(|entry| network_entry(agent, entry).0).collect();
        let mut stale: Vec<_> = self.trie(list).of(agent).filter(|place| !wanted.contains(place)).collect();
        stale.sort_by_key(|place| place.bits);
        stale.iter().try_for_each(|place| self.trie(list).remove(place))
    }

    /// Has the list of denied networks of `agent` be looked at, if the programs know the agent. Whether it still is
    /// when nothing is denied any more, [`Self::configure`] says.
    pub fn look_at_denied_networks(&mut self, agent: AgentId) -> Outcome {
        match self.agents.get(&agent.0, 0) {
            Ok(config) => self.agents.insert(agent.0, AgentConfig { denies_networks: 1, ..config }, 0),
            Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the redirected socket that is bound to `peer` wanted to go, who made it, and by what
    /// command.
    #[must_use]
    pub fn origin(&self, agent: AgentId, transport: Transport, peer: SocketAddr) -> Option<RawOrigin> {
        let key = OriginKey {
            agent: agent.0,
            port: peer.port(),
            transport: transport_number(transport),
            zero: 0,
            address: octets(peer.ip()),
        };
        let value = self.origins.get(&key, 0).ok()?;
        let original = SocketAddr::new(address(value.address), value.port);
        Some(RawOrigin {
            pid: value.pid,
            command: command(value.command),
            original: (value.port != 0).then_some(OriginalDestination(original)),
        })
    }

    /// How many events of `agent` found the ring buffer full.
    #[must_use]
    pub fn lost_events(&self, agent: AgentId) -> u64 {
        self.counters.get(&CounterKey { agent: agent.0, reason: LOST_EVENTS }, 0).unwrap_or(0)
    }

    /// How often `agent` was denied, by every reason for which it was.
    #[must_use]
    pub fn denials(&self, agent: AgentId) -> Vec<(DropReason, u64)> {
        let count =
            |reason: DropReason| self.counters.get(&CounterKey { agent: agent.0, reason: reason as u32 }, 0);
        let counted = DropReason::ALL.iter().map(|reason| (*reason, count(*reason).unwrap_or(0)));
        counted.filter(|(_, count)| *count != 0).collect()
    }

    fn rules_of(&self, agent: AgentId) -> Vec<RuleId> {
        self.rules.of(agent).map(|key| RuleId(key.rule)).collect()
    }

    fn trie(&mut self, list: NetworkList) -> &mut Networks {
        match list {
            NetworkList::Allowed => &mut self.networks,
            NetworkList::Denied => &mut self.denied_networks,
        }
    }
}

/// What the kernel wrote of a redirected socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawOrigin {
    pub pid: u32,
    pub command: String,
    pub original: Option<OriginalDestination>,
}

/// The 16 octets by which the kernel programs know an address.
#[must_use]
pub fn octets(address: IpAddr) -> egress_common::Address {
    match address {
        IpAddr::V4(address) => egress_common::v4_mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address behind 16 octets, v4-mapped ones as IPv4.
#[must_use]
pub fn address(octets: egress_common::Address) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

/// The kernel's `comm` as text.
#[must_use]
pub fn command(comm: [u8; 16]) -> String {
    let length = comm.iter().position(|octet| *octet == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..length]).into_owned()
}

/// The transport that a protocol runs over.
#[must_use]
pub fn transport_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tls | Protocol::Http | Protocol::Tcp => egress_common::TCP,
        Protocol::Udp | Protocol::Quic => egress_common::UDP,
    }
}

fn transport_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => egress_common::TCP,
        Transport::Udp => egress_common::UDP,
    }
}

fn reasons() -> impl Iterator<Item = u32> {
    DropReason::ALL.iter().map(|reason| *reason as u32).chain([LOST_EVENTS])
}

fn network_entry(agent: AgentId, entry: &NetworkEntry) -> (Place, NetworkValue) {
    let mapped_bits = match entry.network {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    let bits = NetworkKey::EXACT_BITS + mapped_bits + u32::from(entry.network.prefix_len());
    let key = NetworkKey::new(agent.0, entry.transport, entry.port, octets(entry.network.network()));
    (Place { bits, key }, NetworkValue { rule: entry.rule.0 })
}
