//! What the daemon does when the kernel has no room for one grant more.

use crate::{AGENT, fence, fence::Fence, places::OK, policies::COMMON, program::poll, talker::Talker};
use aya::maps::{HashMap, Map, MapData};
use egress_common::{Gate, GrantKey, GrantValue, TCP};

#[test]
fn a_grant_that_the_kernel_has_no_room_for_is_not_answered() {
    let fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    let mut grants = grants(&fence);
    let filling = fill(&mut grants);
    let position = fence.lab().sniffer().position();
    // With patience: a million grants are much to sweep.
    let asker = fence.agent("asker");
    let outcome = asker.run("dig +time=20 +tries=1 ok.test");
    assert!(outcome.says("status: SERVFAIL"), "an answer without a grant: {outcome:#?}");
    asker.denial("the lookup", |record| record["reason"] == "grant-not-installed");
    for trick in ["fetch https://ok.test/", "fetch http://ok.test/", "tcp_send_only 10.99.0.10 443 early"] {
        talker.fails(trick);
    }
    assert!(!reaches_ok(&fence, position), "a flow left without a grant");
    for key in filling {
        grants.remove(&key).expect("what was filled in can be removed");
    }
    poll("a fetch with room for its grant", || (talker.tell("fetch https://ok.test/") == "ok").then_some(()));
    assert!(reaches_ok(&fence, position), "the sniffer proves nothing");
}

/// Whether the sniffer saw a frame to [`OK`] since `position`.
fn reaches_ok(fence: &Fence, position: usize) -> bool {
    fence.lab().settle();
    let frames = fence.lab().sniffer().since(position);
    let is_ok = |address| address == OK.v4 || address == OK.v6;
    frames.iter().any(|frame| frame.destination().is_some_and(is_ok))
}

/// The map, by the pin that the daemon keeps.
fn grants(fence: &Fence) -> HashMap<MapData, GrantKey, GrantValue> {
    let pin = fence.lab().folder().join("run/bpf/maps/GRANTS");
    let data = MapData::from_pin(pin).expect("the map is pinned");
    Map::from_map_data(data).and_then(HashMap::try_from).expect("it is a map of grants")
}

/// Grants to an agent that nobody is, until the kernel takes no more.
fn fill(grants: &mut HashMap<MapData, GrantKey, GrantValue>) -> Vec<GrantKey> {
    let value = GrantValue { expires: u64::MAX, rule: 1, gate: Gate::Direct as u16, used: 0 };
    let key = |number: u32| {
        let address = (u128::from(number) + 1).to_be_bytes();
        GrantKey { agent: NOBODY, port: 1, transport: TCP, zero: 0, address }
    };
    let keys: Vec<GrantKey> =
        (0..MAX_ENTRIES).map(key).take_while(|key| grants.insert(key, value, 0).is_ok()).collect();
    assert!(keys.len() > 1000, "the map takes no entries of ours");
    assert!(grants.insert(key(u32::MAX), value, 0).is_err(), "the map is not full");
    keys
}

const NOBODY: u32 = u32::MAX;
/// More than the map has room for.
const MAX_ENTRIES: u32 = 1 << 21;
