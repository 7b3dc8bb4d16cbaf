//! What agents and rules may use up, and have: in memory that the kernel programs use too, and that outlives
//! the daemon.

mod memory;
mod slot;

use super::{
    clock::now,
    ebpf::{EbpfError, chain},
};
use crate::policy::{
    Agent, AgentId, Budget, BudgetMark, Denial, Permit, Policy, Reason, RuleId, Spend, Term, Usage,
};
use aya::maps::Map;
use egress_common::MAX_BUDGETS_PER_AGENT;
use memory::Memory;
pub use slot::Level;
use slot::Slot;
use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::AsFd,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

/// The budgets of all agents.
#[derive(Debug)]
pub struct Budgets {
    memory: Memory,
    places: RwLock<Places>,
}

/// Which place is whose.
#[derive(Debug, Default)]
struct Places {
    /// By agent and rule, which is 0 for the agent's own.
    held: BTreeMap<(u32, u32), u32>,
    /// What was given back last is taken last: a program may have begun to use it up.
    free: VecDeque<u32>,
}

/// The places of one agent's budgets, for the programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    /// 0: none.
    pub own: u32,
    pub of_rules: BTreeMap<RuleId, u32>,
}

impl Assigned {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// 0: none.
    #[must_use]
    pub fn of(&self, rule: RuleId) -> u32 {
        self.of_rules.get(&rule).copied().unwrap_or_default()
    }
}

/// One budget, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLevel {
    /// None: of all flows of the agent.
    pub rule: Option<RuleId>,
    pub bytes: Level,
    pub flows: Level,
    /// Until the end of the rule.
    pub left: Option<Duration>,
    /// Why a flow that sends anything could not start at this moment; None where it could.
    pub refuses: Option<Reason>,
}

/// A mark that a budget has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub rule: Option<RuleId>,
    pub what: Spent,
    pub mark: BudgetMark,
    pub level: Level,
}

/// What a budget bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    Bytes,
    Flows,
}

impl Budgets {
    /// The budgets in `map`, as an earlier daemon left them.
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self, EbpfError> {
        let failed = |error: &dyn std::error::Error| EbpfError::Map { map: MAP, error: chain(error) };
        let Map::Array(map) = object.take_map(MAP).ok_or(EbpfError::Missing(MAP))? else {
            return Err(EbpfError::Missing(MAP));
        };
        let memory = Memory::of(map.fd().as_fd()).map_err(|error| failed(&error))?;
        let mut places = Places::default();
        for (place, slot) in (0..).zip(memory.iter()).skip(1) {
            match slot.owner() {
                Some(owner) if places.held.insert(owner, place).is_none() => {}
                Some(_) | None => places.free.push_back(place),
            }
        }
        Ok(Self { memory, places: RwLock::new(places) })
    }

    /// Has the budgets of `agent` be those of `policy`. What was used stays used: also of rules that come back
    /// later, unless others need the place.
    ///
    /// # Errors
    /// It has more than [`MAX_BUDGETS_PER_AGENT`].
    pub fn assign(&self, agent: &Agent, policy: &Policy) -> Result<Assigned, TooManyBudgets> {
        fits(policy)?;
        let id = agent.id().0;
        let mut places = self.write();
        let own = places.held.range((id, 0)..=(id, u32::MAX));
        let idle: Vec<_> =
            own.filter(|(_, place)| self.slot(**place).is_idle()).map(|(key, _)| *key).collect();
        let wanted = wanted(agent, policy);
        let mut idle =
            idle.into_iter().filter(|(_, rule)| !wanted.contains_key(rule)).collect::<VecDeque<_>>();
        let mut assigned = Assigned::default();
        for (rule, (budget, ends)) in &wanted {
            let place = match places.held.get(&(id, *rule)) {
                Some(place) => *place,
                None => {
                    let is_full = places.held.range((id, 0)..=(id, u32::MAX)).count() >= HELD;
                    let given_up = if is_full { idle.pop_front() } else { None };
                    let given_up = given_up.and_then(|key| places.held.remove(&key));
                    let place =
                        given_up.or_else(|| places.free.pop_front()).ok_or(TooManyBudgets(wanted.len()))?;
                    self.slot(place).open(id, *rule);
                    places.held.insert((id, *rule), place);
                    place
                }
            };
            self.slot(place).bound(*budget);
            self.slot(place).end_at(*ends);
            self.slot(place).set_idle(false);
            match rule {
                0 => assigned.own = place,
                rule => drop(assigned.of_rules.insert(RuleId(*rule), place)),
            }
        }
        let own = places.held.range((id, 0)..=(id, u32::MAX));
        for ((_, rule), place) in own.filter(|((_, rule), _)| !wanted.contains_key(rule)) {
            let slot = self.slot(*place);
            if *rule == 0 || policy.allow().iter().any(|held| held.id.0 == *rule) {
                slot.bound(Budget::default());
                slot.end_at(0);
            }
            // Of a rule that is gone, it bounds what it bounded: flows are on their way by it.
            slot.set_idle(true);
        }
        Ok(assigned)
    }

    /// Forgets what `agent` used, which is gone.
    pub fn forget(&self, agent: AgentId) {
        let mut places = self.write();
        let own: Vec<_> =
            places.held.range((agent.0, 0)..=(agent.0, u32::MAX)).map(|(key, _)| *key).collect();
        for key in own {
            if let Some(place) = places.held.remove(&key) {
                self.slot(place).clear();
                places.free.push_back(place);
            }
        }
    }

    /// Forgets what other agents than `agents` used.
    pub fn retain(&self, agents: &[AgentId]) {
        let held: Vec<u32> = self.read().held.keys().map(|(agent, _)| *agent).collect();
        held.into_iter()
            .map(AgentId)
            .filter(|agent| !agents.contains(agent))
            .for_each(|agent| self.forget(agent));
    }

    /// The budgets of `agent` that its policy has, its own first.
    #[must_use]
    pub fn levels(&self, agent: AgentId) -> Vec<BudgetLevel> {
        let moment = now().0;
        let level = |(rule, slot): (Option<RuleId>, &Slot)| {
            let ((bytes, flows), ends) = (slot.levels(), slot.ends());
            let left = (ends != 0).then(|| Duration::from_nanos(ends.saturating_sub(moment)));
            let refuses = slot.has_room(Usage { octets: 1, flows: 1 }, moment).err();
            BudgetLevel { rule, bytes, flows, left, refuses }
        };
        self.of(agent).into_iter().map(level).collect()
    }

    /// The marks that the budgets of `agent` have passed since they were asked for last.
    #[must_use]
    pub fn take_passed(&self, agent: AgentId) -> Vec<Passed> {
        let mut all = Vec::new();
        for (rule, slot) in self.of(agent) {
            let ((bytes, flows), levels) = (slot.passed(), slot.levels());
            for (what, mark, level) in [(Spent::Bytes, bytes, levels.0), (Spent::Flows, flows, levels.1)] {
                all.extend(mark.map(|mark| Passed { rule, what, mark, level }));
            }
        }
        all
    }

    fn of(&self, agent: AgentId) -> Vec<(Option<RuleId>, &Slot)> {
        let places = self.read();
        let own = places.held.range((agent.0, 0)..=(agent.0, u32::MAX));
        let slots = own.map(|((_, rule), place)| ((*rule != 0).then_some(RuleId(*rule)), self.slot(*place)));
        slots.filter(|(_, slot)| !slot.is_idle()).collect()
    }

    /// The budgets of an agent and of the rule of `permit`, where they have any.
    fn payers(&self, agent: AgentId, permit: &Permit) -> (Option<&Slot>, Option<&Slot>) {
        let places = self.read();
        let held = |rule| places.held.get(&(agent.0, rule)).map(|place| self.slot(*place));
        (held(0), held(permit.rule().0))
    }

    fn slot(&self, place: u32) -> &Slot {
        // Place 0 is nobody's, and as long as the map.
        usize::try_from(place).ok().and_then(|place| self.memory.get(place)).unwrap_or(&self.memory[0])
    }

    // Entries are made and removed whole.
    fn read(&self) -> RwLockReadGuard<'_, Places> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Places> {
        self.places.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spend for Budgets {
    fn spend(&self, agent: AgentId, permit: &Permit, usage: Usage) -> Result<(), Denial> {
        let (own, of_rule) = self.payers(agent, permit);
        if own.is_none() && of_rule.is_none() {
            return Ok(());
        }
        let moment = now().0;
        own.map_or(Ok(()), |own| own.take(usage, moment)).map_err(Denial::because)?;
        of_rule.map_or(Ok(()), |slot| slot.take(usage, moment)).map_err(|reason| {
            own.into_iter().for_each(|own| own.give_back(usage));
            Denial { reason, rule: permit.source().cloned() }
        })
    }

    fn give_back(&self, agent: AgentId, permit: &Permit, usage: Usage) {
        let (own, of_rule) = self.payers(agent, permit);
        own.into_iter().chain(of_rule).for_each(|slot| slot.give_back(usage));
    }
}

/// Whether an agent may have all budgets of `policy`.
///
/// # Errors
/// It may not.
pub fn fits(policy: &Policy) -> Result<(), TooManyBudgets> {
    let bounded =
        policy.allow().iter().filter(|rule| rule.budget.is_bounded() || rule.term.is_bounded()).count();
    let count = bounded + usize::from(policy.budget().is_bounded());
    let bound = usize::try_from(MAX_BUDGETS_PER_AGENT).unwrap_or(usize::MAX);
    if count <= bound { Ok(()) } else { Err(TooManyBudgets(count)) }
}

/// A policy has so many budgets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "policy bounds {0} rules (budgets and terms), {MAX_BUDGETS_PER_AGENT} are allowed: bound the agent instead"
)]
pub struct TooManyBudgets(usize);

/// What `policy` bounds, by rule, and until when, in nanoseconds on `CLOCK_BOOTTIME`; 0: for ever.
fn wanted(agent: &Agent, policy: &Policy) -> BTreeMap<u32, (Budget, u64)> {
    let end = |term: Term| match term.is_bounded() {
        // Before anybody told the moment it is over.
        true => agent.end_of_term(term).map_or(1, |end| end.0.max(1)),
        false => 0,
    };
    let own = policy.budget().is_bounded().then(|| (0, (policy.budget(), 0)));
    let rules = policy.allow().iter().filter(|rule| rule.budget.is_bounded() || rule.term.is_bounded());
    own.into_iter().chain(rules.map(|rule| (rule.id.0, (rule.budget, end(rule.term))))).collect()
}

const MAP: &str = "BUDGETS";

/// Places of one agent: while a policy is replaced, it has those of both.
const HELD: usize = 2 * MAX_BUDGETS_PER_AGENT as usize;
