//! What else is in the kernel's maps: grants of many other agents, and networks of one.

use super::{PORT, SINK};
use crate::{fence::Fence, leaks::random::Random};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use egress_common::{Gate, GrantKey, GrantValue, NetworkKey, NetworkValue, UDP, v4_mapped};
use serde_json::Value;

/// So many agents with so many grants each, by numbers that no agent has.
pub fn fill_grants(fence: &Fence, agents: u32, grants: u32) -> Result<(), MapError> {
    let mut map: HashMap<_, GrantKey, GrantValue> = Map::HashMap(pinned(fence, "GRANTS")?).try_into()?;
    let value = GrantValue { expires: u64::MAX, rule: 1, gate: Gate::Direct as u16, used: 0 };
    for agent in 0..agents {
        for grant in 0..grants {
            let address = v4_mapped((0x0b00_0000 + grant).to_be_bytes());
            let key =
                GrantKey { agent: FIRST + agent, port: 443, transport: egress_common::TCP, zero: 0, address };
            map.insert(key, value, 0)?;
        }
    }
    Ok(())
}

/// So many networks of 10.0.0.0/8 of different widths, for every agent of that name.
pub fn fill_networks(fence: &Fence, name: &str, networks: u32) -> Result<(), MapError> {
    let agents = fence.ctl(&["agents", "-o", "json"]).stdout;
    let agents = agents.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut agents = agents.filter(|agent| agent["name"] == name);
    agents.try_for_each(|agent| fill(fence, agent["id"].as_u64().unwrap_or(0) as u32, networks))
}

fn fill(fence: &Fence, agent: u32, networks: u32) -> Result<(), MapError> {
    let mut trie: LpmTrie<_, NetworkKey, NetworkValue> =
        Map::LpmTrie(pinned(fence, "NETWORKS")?).try_into()?;
    let mut random = Random::of("networks");
    for _ in 0..networks {
        let bits = 12 + random.below(21) as u32;
        let [_, b, c, d] = (random.next() as u32).to_be_bytes();
        let data = NetworkKey::new(agent, UDP, PORT, v4_mapped([10, b, c, d]));
        trie.insert(&Key::new(NetworkKey::EXACT_BITS + 96 + bits, data), NetworkValue { rule: 1 }, 0)?;
    }
    let whole = NetworkKey::new(agent, UDP, PORT, v4_mapped(SINK.v4.octets()));
    trie.insert(&Key::new(NetworkKey::BITS, whole), NetworkValue { rule: 1 }, 0)
}

/// The first number of an agent of the crowd.
const FIRST: u32 = 1 << 20;

fn pinned(fence: &Fence, map: &str) -> Result<MapData, MapError> {
    MapData::from_pin(fence.lab().folder().join("run/bpf/maps").join(map))
}
