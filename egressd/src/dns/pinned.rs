//! The names that policies spell out. They are kept warm for as long as an agent's policy has them,
//! for all agents together, so that no use of one causes a question upstream.

use super::warm::{Hearth, Warm};
use crate::policy::{AgentId, HostName};
use std::{
    collections::{BTreeSet, HashMap},
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
    holders: usize,
}

impl Pinned {
    #[must_use]
    pub fn new(hearth: Hearth) -> Self {
        Self { hearth, state: Mutex::default() }
    }

    /// Has `agent` hold `names`, and none of those that it held before and that are not among them.
    pub fn hold(&self, agent: AgentId, names: BTreeSet<HostName>) {
        let mut state = self.state();
        for name in &names {
            state.take(agent, name, &self.hearth);
        }
        let before = state.held.get(&agent).into_iter().flatten();
        let gone: Vec<HostName> = before.filter(|name| !names.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| state.leave(agent, name));
    }

    /// Has `agent` hold nothing.
    pub fn release(&self, agent: AgentId) {
        self.hold(agent, BTreeSet::new());
        self.state().held.remove(&agent);
    }

    /// The name, which `agent` holds from then on if it did not.
    #[must_use]
    pub fn find(&self, agent: AgentId, name: &HostName) -> Arc<Warm> {
        self.state().take(agent, name, &self.hearth)
    }

    // Counted whole: a name is held, or it is not.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, agent: AgentId, name: &HostName, hearth: &Hearth) -> Arc<Warm> {
        let is_new = self.held.entry(agent).or_default().insert(name.clone());
        let pin = self.names.entry(name.clone()).or_insert_with(|| {
            let warm = Warm::new(hearth.clone(), name.clone(), ready(()), |_| true);
            Pin { warm: Arc::new(warm), holders: 0 }
        });
        pin.holders += usize::from(is_new);
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
