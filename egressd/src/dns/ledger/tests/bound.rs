//! What may leak is bounded, whatever happens to an agent, to its clock and to its daemon.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #[test]
    fn no_zone_and_no_agent_learns_more_than_its_budget(
        steps in prop::collection::vec(step(), 1..120),
        budget in 0..900_u32,
        actions in prop::sample::select(vec![LeakAction::Log, LeakAction::RateLimit, LeakAction::Freeze]),
    ) {
        let mut run = Run::new(budget, actions);
        steps.into_iter().for_each(|step| run.take(step));
        run.assert_bound();
    }

    #[test]
    fn a_name_that_is_refused_costs_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new(120, LeakAction::Freeze);
        for step in steps {
            run.agent.settle();
            let before = run.agent.ledger.levels();
            let total = before.total;
            let spent = run.spent.len();
            let at = run.agent.now;
            let is_charge = matches!(step, Step::Charge { .. });
            run.take(step);
            if is_charge && run.spent.len() == spent && run.agent.now == at {
                let after = run.agent.ledger.levels();
                let level = |levels: &Levels| -> BTreeMap<HostName, u64> {
                    levels.accounts.iter().filter(|one| one.level > 0).map(|one| (one.zone.clone(), one.level)).collect()
                };
                let (before, after) = (level(&before), level(&after));
                // A flag can take back what was about to come back.
                prop_assert!(run.agent.ledger.levels().total >= total);
                prop_assert!(before.iter().all(|(zone, level)| after.get(zone).is_some_and(|after| after >= level)));
            }
        }
    }

    #[test]
    fn one_agent_learns_nothing_of_another(steps in prop::collection::vec((any::<bool>(), step()), 1..80)) {
        let (mut one, mut other) = (Run::new(200, LeakAction::Freeze), Run::new(200, LeakAction::Freeze));
        let mut alone = Run::new(200, LeakAction::Freeze);
        for (is_other, step) in steps {
            if is_other {
                other.take(step);
            } else {
                one.take(step.clone());
                alone.take(step);
            }
        }
        prop_assert_eq!(one.spent, alone.spent);
        prop_assert_eq!(one.agent.ledger.report(one.agent.now), alone.agent.ledger.report(alone.agent.now));
    }
}

#[test]
fn a_thousand_names_leave_no_more_than_a_day_of_budget() {
    let mut run = Run::new(4096, LeakAction::Log);
    for seed in 0..20_000_u64 {
        run.take(Step::Charge { zone: 0, name: seed, length: usize::try_from(seed % 30).unwrap() + 1 });
        run.take(Step::Wait(4));
    }
    run.assert_bound();
    let bits: u64 = run.spent.iter().map(|spent| spent.cost).sum::<u64>() / 256;
    assert!(bits > 8192 + 20 * 1024, "{bits}: the budget is used up");
    assert!(bits <= 8 * 4096, "{bits}: in a day at most what it says");
}

#[derive(Debug, Clone)]
enum Step {
    Charge {
        zone: usize,
        name: u64,
        length: usize,
    },
    Renew {
        zone: usize,
    },
    Absent {
        zone: usize,
        name: u64,
    },
    /// Seconds.
    Wait(u64),
    /// Seconds that the clock goes back by.
    Back(u64),
    /// With another key, on another clock.
    Restart {
        key: u64,
        uptime: u64,
    },
    Approve {
        zone: Option<usize>,
    },
    /// Bytes.
    Budget(u32),
    TotalBudget(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let zone = 0..40_usize;
    prop_oneof![
        12 => (0..3_usize, 0..400_u64, 1..40_usize).prop_map(|(zone, name, length)| Step::Charge { zone, name, length }),
        6 => (zone.clone(), 0..5_u64, 1..8_usize).prop_map(|(zone, name, length)| Step::Charge { zone, name, length }),
        1 => (0..3_usize).prop_map(|zone| Step::Renew { zone }),
        1 => (0..3_usize, 0..9_u64).prop_map(|(zone, name)| Step::Absent { zone, name }),
        4 => (0..4000_u64).prop_map(Step::Wait),
        1 => (0..100_000_u64).prop_map(Step::Back),
        1 => (any::<u64>(), 0..1000_u64).prop_map(|(key, uptime)| Step::Restart { key, uptime }),
        1 => prop::option::of(zone).prop_map(|zone| Step::Approve { zone }),
        1 => (0..900_u32).prop_map(Step::Budget),
        1 => (0..1800_u32).prop_map(Step::TotalBudget),
    ]
}

/// What was charged, and when by a clock that only a running ledger sees.
#[derive(Debug, Clone, PartialEq)]
struct Spent {
    zone: usize,
    at: Duration,
    /// In 1/256 bit.
    cost: u64,
}

struct Run {
    agent: Subject,
    spent: Vec<Spent>,
    /// The time that passed for the ledger.
    passed: Duration,
    latest: Moment,
    /// The largest that there were.
    budget: LeakBudget,
    total: LeakBudget,
}

impl Run {
    fn new(budget: u32, action: LeakAction) -> Self {
        let mut agent = Subject::of(LeakFlag::ALL.iter().map(|flag| (*flag, action)));
        agent.budget = LeakBudget::of_bytes(budget).unwrap();
        let (latest, budget, total) = (agent.now, agent.budget, agent.terms.budget);
        Self { agent, spent: Vec::new(), passed: Duration::ZERO, latest, budget, total }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Charge { zone, name, length } => {
                let charge = self.agent.charge_at(&self::zone(zone), &random(name, length, BASE36));
                if let Ok(Paid(cost)) = charge.verdict {
                    self.spent.push(Spent { zone, at: self.passed, cost });
                }
            }
            Step::Renew { zone } => {
                let wildcard = wildcard(&self::zone(zone), self.agent.budget);
                if self.agent.ledger.renew(&self.agent.terms, &wildcard, self.agent.now) {
                    self.spent.push(Spent { zone, at: self.passed, cost: 256 });
                }
            }
            Step::Absent { zone, name } => {
                let (zone, prefix) = (self::zone(zone), random(name, 5, BASE36));
                let (wildcard, name) = (wildcard(&zone, self.agent.budget), super::name(&prefix, &zone));
                self.agent.ledger.absent(&self.agent.terms, &wildcard, &name, self.agent.now);
            }
            Step::Wait(seconds) => {
                // The daemon looks in every few seconds.
                self.agent.wait(seconds).settle();
                self.passed += self.agent.now.since(self.latest);
                self.latest = self.latest.max(self.agent.now);
            }
            Step::Back(seconds) => {
                self.agent.now = Moment(self.agent.now.0.saturating_sub(seconds * 1_000_000_000));
            }
            Step::Restart { key, uptime } => {
                let levels = self.agent.ledger.levels();
                self.agent.now = Moment::default().after(Duration::from_secs(uptime));
                self.latest = self.agent.now;
                self.agent.ledger = Ledger::restore(levels, [key, 3], self.agent.now);
            }
            Step::Approve { zone } => {
                let zone = zone.map(|zone| HostName::parse(&self::zone(zone)).unwrap());
                self.agent.ledger.approve(zone.as_ref());
            }
            Step::Budget(bytes) => {
                self.agent.budget = LeakBudget::of_bytes(bytes).unwrap();
                self.budget = self.budget.max(self.agent.budget);
            }
            Step::TotalBudget(bytes) => {
                self.agent.terms.budget = LeakBudget::of_bytes(bytes).unwrap();
                self.total = self.total.max(self.agent.terms.budget);
            }
        }
    }

    /// In any span of time, C + R*T.
    fn assert_bound(&self) {
        for zone in 0..40 {
            let spent: Vec<&Spent> = self.spent.iter().filter(|spent| spent.zone == zone).collect();
            assert_within(&spent, self.budget);
        }
        assert_within(&self.spent.iter().collect::<Vec<_>>(), self.total);
    }
}

fn assert_within(spent: &[&Spent], budget: LeakBudget) {
    // The fullest that a bucket of this size could be, with nothing lost to rounding.
    let mut level = 0_i128;
    let mut at = Duration::ZERO;
    for one in spent {
        let drained = (one.at - at).as_nanos() * u128::from(budget.hourly()) * 256 / 3_600_000_000_000;
        level = (level - i128::try_from(drained + 1).unwrap()).max(0) + i128::from(one.cost);
        at = one.at;
        assert!(level <= i128::from(budget.capacity()) * 256, "{level} of {budget:?} at {at:?}");
    }
}

fn zone(number: usize) -> String {
    format!("z{number}.example")
}
