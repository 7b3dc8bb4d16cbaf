//! The names that policies spell out. They are kept warm for as long as an agent's policy has them,
//! for all agents together, so that no use of one causes a question upstream.

use super::warm::{Hearth, Warm};
use crate::policy::{AgentId, HostName, RecordType};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The most names that are asked for at one time, when an agent with a long policy starts.
pub const MAX_AT_ONCE: usize = 64;

/// All of them, each once.
pub struct Pinned {
    hearth: Hearth,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<HostName, Pin>,
    held: HashMap<AgentId, BTreeSet<HostName>>,
}

struct Pin {
    warm: Arc<Warm>,
    /// That some holder may ask for, beside addresses.
    types: BTreeSet<RecordType>,
    holders: usize,
}

impl Pinned {
    #[must_use]
    pub fn new(hearth: Hearth) -> Self {
        Self { hearth, state: Mutex::default() }
    }

    /// Has `agent` hold `names`, with the types beside addresses that may be asked for, and none of those that
    /// it held before and that are not among them.
    pub fn hold(&self, agent: AgentId, names: BTreeMap<HostName, Vec<RecordType>>) {
        let mut state = self.state();
        for (name, types) in &names {
            state.take(agent, name, types, &self.hearth);
        }
        let before = state.held.get(&agent).into_iter().flatten();
        let gone: Vec<HostName> = before.filter(|name| !names.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| state.leave(agent, name));
    }

    /// Has `agent` hold nothing.
    pub fn release(&self, agent: AgentId) {
        let mut state = self.state();
        let names: Vec<HostName> = state.held.get(&agent).into_iter().flatten().cloned().collect();
        names.iter().for_each(|name| state.leave(agent, name));
        state.held.remove(&agent);
    }

    /// The name, which `agent` holds from then on if it did not.
    #[must_use]
    pub fn find(&self, agent: AgentId, name: &HostName, types: Vec<RecordType>) -> Arc<Warm> {
        self.state().take(agent, name, &types, &self.hearth)
    }

    /// The name, if any agent holds it; nobody holds it from then on who did not.
    #[must_use]
    pub fn peek(&self, name: &HostName) -> Option<Arc<Warm>> {
        self.state().names.get(name).map(|pin| Arc::clone(&pin.warm))
    }

    // Counted whole: a name is held, or it is not.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, agent: AgentId, name: &HostName, types: &[RecordType], hearth: &Hearth) -> Arc<Warm> {
        let is_new = self.held.entry(agent).or_default().insert(name.clone());
        let kindle = |types: &BTreeSet<RecordType>| {
            let types = types.iter().copied().collect();
            Arc::new(Warm::new(hearth.clone(), name.clone(), types, ready(()), |_| true))
        };
        let pin = self.names.entry(name.clone()).or_insert_with(|| {
            let types = types.iter().copied().collect();
            Pin { warm: kindle(&types), types, holders: 0 }
        });
        pin.holders += usize::from(is_new);
        if types.iter().any(|kind| !pin.types.contains(kind)) {
            pin.types.extend(types);
            pin.warm = kindle(&pin.types);
        }
        Arc::clone(&pin.warm)
    }

    fn leave(&mut self, agent: AgentId, name: &HostName) {
        if !self.held.get_mut(&agent).is_some_and(|held| held.remove(name)) {
            return;
        }
        if let Some(pin) = self.names.get_mut(name) {
            pin.holders -= 1;
            if pin.holders == 0 {
                self.names.remove(name);
            }
        }
    }
}
