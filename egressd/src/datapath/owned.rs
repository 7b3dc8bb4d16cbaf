//! Maps that all agents share, with whose each entry is: to walk one for those of an agent would hold up everybody's.

use super::tables::Outcome;
use crate::policy::AgentId;
use aya::{
    Pod,
    maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie},
    sys::SyscallError,
};
use egress_common::{NameKey, NetworkKey, NetworkValue, RuleKey};
use std::{
    collections::{self, HashSet},
    hash::Hash,
    io,
};

/// A map to which nobody but this daemon writes keys; the programs only change values.
#[derive(Debug)]
pub struct Owned<S: Store> {
    store: S,
    keys: collections::HashMap<u32, HashSet<S::Key>>,
}

/// A kind of map.
pub trait Store: Sized {
    type Key: OfAgent;
    type Value;

    fn all_keys(&self) -> impl Iterator<Item = Result<Self::Key, MapError>>;
    fn write(&mut self, key: Self::Key, value: Self::Value) -> Outcome;
    fn erase(&mut self, key: &Self::Key) -> Outcome;
}

/// A key that says whose its entry is.
pub trait OfAgent: Copy + Eq + Hash {
    fn agent(&self) -> u32;
}

impl<S: Store> Owned<S> {
    /// Takes `store` over, with what an earlier daemon left there.
    pub fn new(store: S) -> Result<Self, MapError> {
        let mut keys: collections::HashMap<u32, HashSet<S::Key>> = collections::HashMap::new();
        for key in store.all_keys() {
            let key = key?;
            keys.entry(key.agent()).or_default().insert(key);
        }
        Ok(Self { store, keys })
    }

    /// The keys of `agent`, in no order.
    pub fn of(&self, agent: AgentId) -> impl Iterator<Item = S::Key> {
        self.keys.get(&agent.0).into_iter().flatten().copied()
    }

    pub fn insert(&mut self, key: S::Key, value: S::Value) -> Outcome {
        self.store.write(key, value)?;
        self.keys.entry(key.agent()).or_default().insert(key);
        Ok(())
    }

    /// Removes the entry of `key`, which may be absent.
    pub fn remove(&mut self, key: &S::Key) -> Outcome {
        match self.store.erase(key) {
            Err(error) if !is_absence(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if let Some(keys) = self.keys.get_mut(&key.agent()) {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&key.agent());
            }
        }
        Ok(())
    }
}

impl<K: OfAgent + Pod, V: Pod> Owned<HashMap<MapData, K, V>> {
    pub fn get(&self, key: &K) -> Result<V, MapError> {
        self.store.get(key, 0)
    }
}

impl<S: Store + TryFrom<Map, Error = MapError>> TryFrom<Map> for Owned<S> {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        Self::new(S::try_from(map)?)
    }
}

fn is_absence(error: &MapError) -> bool {
    let is_not_found = |error: &SyscallError| error.io_error.kind() == io::ErrorKind::NotFound;
    matches!(error, MapError::KeyNotFound)
        || matches!(error, MapError::SyscallError(error) if is_not_found(error))
}

impl<K: OfAgent + Pod, V: Pod> Store for HashMap<MapData, K, V> {
    type Key = K;
    type Value = V;

    fn all_keys(&self) -> impl Iterator<Item = Result<K, MapError>> {
        self.keys()
    }

    fn write(&mut self, key: K, value: V) -> Outcome {
        self.insert(key, value, 0)
    }

    fn erase(&mut self, key: &K) -> Outcome {
        self.remove(key)
    }
}

/// Where an entry of a trie stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// How many bits of the key count.
    pub bits: u32,
    pub key: NetworkKey,
}

impl From<Place> for lpm_trie::Key<NetworkKey> {
    fn from(place: Place) -> Self {
        Self::new(place.bits, place.key)
    }
}

impl Store for LpmTrie<MapData, NetworkKey, NetworkValue> {
    type Key = Place;
    type Value = NetworkValue;

    fn all_keys(&self) -> impl Iterator<Item = Result<Place, MapError>> {
        self.keys().map(|key| key.map(|key| Place { bits: key.prefix_len(), key: key.data() }))
    }

    fn write(&mut self, place: Place, value: NetworkValue) -> Outcome {
        self.insert(&place.into(), value, 0)
    }

    fn erase(&mut self, place: &Place) -> Outcome {
        self.remove(&(*place).into())
    }
}

impl OfAgent for NameKey {
    fn agent(&self) -> u32 {
        self.agent
    }
}

impl OfAgent for RuleKey {
    fn agent(&self) -> u32 {
        self.agent
    }
}

impl OfAgent for Place {
    fn agent(&self) -> u32 {
        u32::from_be_bytes(self.key.agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_keys_of_an_agent_are_known_without_a_walk_whoever_wrote_them() {
        let left = Kept(BTreeMap::from([((7, 1), 0), ((8, 1), 0)]));
        let mut owned = Owned::new(left).expect("a map");
        owned.insert((7, 2), 5).expect("room");
        owned.insert((7, 2), 6).expect("room");
        owned.insert((9, 3), 0).expect("room");
        owned.remove(&(9, 3)).expect("it is there");
        let of = |owned: &Owned<Kept>, agent| {
            let mut keys: Vec<_> = owned.of(AgentId(agent)).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(of(&owned, 7), [(7, 1), (7, 2)]);
        assert_eq!((of(&owned, 8), of(&owned, 9)), (vec![(8, 1)], Vec::new()));
        owned.store.0.remove(&(7, 1));
        owned.remove(&(7, 1)).expect("what is absent is removed");
        assert_eq!(of(&owned, 7), [(7, 2)]);
    }

    #[test]
    fn what_the_kernel_does_not_take_or_give_back_stays_as_it_was() {
        let mut owned = Owned::new(Kept(BTreeMap::from([(STUCK, 0)]))).expect("a map");
        assert!(owned.insert(STUCK, 1).is_err() && owned.remove(&STUCK).is_err());
        assert!(owned.insert((0, 1), 1).is_err());
        assert_eq!(owned.of(AgentId(0)).collect::<Vec<_>>(), [STUCK]);
    }

    /// A map in memory, where agent 0 can change nothing.
    struct Kept(BTreeMap<(u32, u32), u32>);

    const STUCK: (u32, u32) = (0, 0);

    impl OfAgent for (u32, u32) {
        fn agent(&self) -> u32 {
            self.0
        }
    }

    impl Store for Kept {
        type Key = (u32, u32);
        type Value = u32;

        fn all_keys(&self) -> impl Iterator<Item = Result<(u32, u32), MapError>> {
            self.0.keys().map(|key| Ok(*key))
        }

        fn write(&mut self, key: (u32, u32), value: u32) -> Outcome {
            if key.0 == 0 {
                return Err(MapError::OutOfBounds { index: 0, max_entries: 0 });
            }
            self.0.insert(key, value);
            Ok(())
        }

        fn erase(&mut self, key: &(u32, u32)) -> Outcome {
            if key.0 == 0 {
                return Err(MapError::OutOfBounds { index: 0, max_entries: 0 });
            }
            self.0.remove(key).map(|_| ()).ok_or(MapError::KeyNotFound)
        }
    }
}
