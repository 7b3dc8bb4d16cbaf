//! Whether the pinned maps are laid out as the programs of this daemon expect.
//!
//! A map that is pinned is taken as it is: read by another layout, its entries would say what nobody wrote.

use super::{bpffs::Pins, ebpf::EbpfError};
use aya::maps::MapInfo;
use aya_obj::{Map, Object};
use std::fs;

/// Lets go of every pinned map where one of them is laid out otherwise than in `object`, and says which:
/// then the programs begin with empty maps, by which everything is denied until the daemon has written its
/// agents into them. Old programs keep the old maps until they are replaced.
///
/// # Errors
/// `object` cannot be read, or a pin cannot be removed.
pub fn forget_others(pins: &Pins, object: &[u8]) -> Result<Option<String>, EbpfError> {
    let object = Object::parse(object).map_err(|error| EbpfError::Load(error.to_string()))?;
    let is_other = |name: &String| object.maps.get(name).is_some_and(|map| !is_pinned_so(pins, name, map));
    let Some(other) = object.maps.keys().find(|name| is_other(name)).cloned() else { return Ok(None) };
    for pin in fs::read_dir(pins.maps()).into_iter().flatten().flatten() {
        let named = |error: std::io::Error| EbpfError::Pin { hook: "maps", error: error.to_string() };
        fs::remove_file(pin.path()).map_err(named)?;
    }
    Ok(Some(other))
}

/// Whether a map is not pinned yet, or pinned with the sizes that it has in the object.
fn is_pinned_so(pins: &Pins, name: &str, map: &Map) -> bool {
    let path = pins.maps().join(name);
    if !path.exists() {
        return true;
    }
    MapInfo::from_pin(path).is_ok_and(|pinned| {
        (pinned.key_size(), pinned.value_size(), pinned.max_entries())
            == (map.key_size(), map.value_size(), map.max_entries())
    })
}
