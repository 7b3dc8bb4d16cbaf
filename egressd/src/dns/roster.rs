//! The lookups of each agent, and the ledgers of those that ended: whoever starts again under the same
//! name goes on where it was, with what was known of it.

use super::lookups::Lookups;
use crate::policy::{AgentId, AgentName};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The most agents that ended and are remembered here, some 5 MiB. Of others a level is on disk, and no
/// more.
pub const MAX_ENDED: usize = 64;

/// Whose lookups there are.
#[derive(Default)]
pub struct Roster {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    served: HashMap<AgentId, Arc<Lookups>>,
    /// The longest ago first. Of each name the last agent, which knows what those before it let out.
    ended: VecDeque<(AgentId, Arc<Lookups>)>,
}

impl Roster {
    /// The lookups of an agent, if it has any.
    #[must_use]
    pub fn find(&self, agent: AgentId) -> Option<Arc<Lookups>> {
        self.state().served.get(&agent).cloned()
    }

    /// The lookups of an agent: its own, those of the last one of its name, or what `new` makes.
    pub fn open(&self, agent: AgentId, name: &AgentName, new: impl FnOnce() -> Lookups) -> Arc<Lookups> {
        let mut state = self.state();
        let State { served, ended } = &mut *state;
        let opened = served.entry(agent).or_insert_with(|| {
            let before = ended.iter().position(|(_, lookups)| lookups.name() == name);
            let before = before.and_then(|place| ended.remove(place)).map(|(_, lookups)| lookups);
            before.unwrap_or_else(|| Arc::new(new()))
        });
        Arc::clone(opened)
    }

    /// Ends the lookups of an agent, but for its ledger. That is given up, too, where another agent of its
    /// name was faster to start than this one to end: it went on with what is on disk.
    pub fn close(&self, agent: AgentId) {
        let mut state = self.state();
        let State { served, ended } = &mut *state;
        let Some(lookups) = served.remove(&agent) else { return };
        lookups.end();
        let is_later = |id: &AgentId, held: &Lookups| *id > agent && held.name() == lookups.name();
        if served.iter().any(|(id, held)| is_later(id, held))
            || ended.iter().any(|(id, held)| is_later(id, held))
        {
            return;
        }
        ended.retain(|(_, held)| held.name() != lookups.name());
        ended.push_back((agent, lookups));
        if ended.len() > MAX_ENDED {
            ended.pop_front();
        }
    }

    /// Forgets what is known of an agent of this name that ended: what is on disk was changed.
    pub fn forget_ended(&self, name: &AgentName) {
        self.state().ended.retain(|(_, lookups)| lookups.name() != name);
    }

    // Entries are inserted and removed whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
