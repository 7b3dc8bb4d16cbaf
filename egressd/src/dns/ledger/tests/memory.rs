//! How much room a ledger takes, whatever an agent asks for.

use super::*;

#[test]
fn the_ledger_of_an_agent_takes_less_than_eighty_kilobytes() {
    let mut agent = Subject::unhindered();
    agent.budget = LeakBudget::of_bytes(LeakBudget::MAX).unwrap();
    agent.terms.budget = agent.budget;
    for zone in 0..40 {
        let zone = format!("{zone}.{}", ["z".repeat(60).as_str(); 3].join("."));
        for name in 0..300 {
            agent.charge_at(&zone, &random(name, 60, BASE36));
        }
        agent.charge_at(&zone, &[random(1, 20, BASE36), random(2, 20, BASE36)].join("."));
    }
    for at in 0..200 {
        agent.denied(&format!("{}.{}{at}.co.uk", random(at, 63, BASE36), "d".repeat(58)), 16);
    }
    agent.wait(60).settle();
    let octets = agent.ledger.octets();
    assert!(octets > 40_000, "{octets}: all of it is counted");
    assert!(octets <= 80_000, "{octets}");
}

#[test]
fn what_is_reported_is_bounded_too() {
    let mut agent = Subject::unhindered();
    for zone in 0..100 {
        agent.charge_at(&format!("z{zone}.example"), "a");
        agent.denied(&format!("x.z{zone}.example"), 1);
    }
    let report = agent.ledger.report(agent.now);
    assert_eq!((report.accounts.len(), report.denied.len()), (limits::MAX_ACCOUNTS + 1, limits::MAX_DENIED));
    assert_eq!(agent.ledger.levels().accounts.len(), limits::MAX_ACCOUNTS + 1);
}

#[test]
fn evidence_is_as_long_as_it_may_be() {
    let mut agent = Subject::new();
    let what = "a type with a name that does not end before long ".repeat(4);
    let [alert] = &agent.unusual(&"x".repeat(63), &what)[..] else { panic!("one alert") };
    assert!(alert.evidence.len() < 200, "{alert:?}");
}

impl Ledger {
    /// Heap and all.
    fn octets(&self) -> usize {
        let spent = self.spent.as_ref().map_or(0, |(zone, _)| zone.as_str().len());
        size_of::<Self>() + self.accounts.octets() + self.denied.octets() + spent
    }
}
