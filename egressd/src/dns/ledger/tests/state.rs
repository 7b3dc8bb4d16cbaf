//! What outlives what: freezes, approvals, restarts, edits, eviction.

use super::*;

#[test]
fn a_known_name_costs_little_and_a_new_one_what_it_says() {
    let mut agent = Subject::new();
    assert_eq!(
        bits(&agent.charge("www")),
        2 + 5 + 16 + 21,
        "two, its length, three symbols, what goes with it"
    );
    assert_eq!(bits(&agent.charge("www")), 1 + 21);
    agent.charge("w2");
    agent.charge("w3");
    assert_eq!(bits(&agent.charge("www")), 3 + 21, "one of three");
}

#[test]
fn a_long_silence_is_paid_for() {
    let mut agent = Subject::new();
    agent.charge("www");
    assert_eq!(bits(&agent.wait(6000).charge("www")), 1 + 21);
    assert_eq!(bits(&agent.wait(20_000).charge("www")), 1 + 21 + 4);
}

#[test]
fn a_name_that_was_forgotten_is_new_again() {
    let mut agent = Subject::unhindered();
    agent.budget = LeakBudget::of_bytes(LeakBudget::MAX).unwrap();
    agent.terms.budget = agent.budget;
    let first = agent.charge("name0").verdict;
    (1..=256).for_each(|at| assert!(agent.charge(&format!("name{at}")).verdict.is_ok()));
    assert_eq!(agent.account().known_names, 256);
    assert_eq!(agent.charge("name0").verdict, first);
}

#[test]
fn a_budget_that_is_spent_comes_back_hour_by_hour() {
    let mut agent = Subject::unhindered();
    agent.budget = LeakBudget::of_bytes(64).unwrap();
    assert!(["x1", "x2", "x3"].iter().all(|prefix| agent.charge(prefix).verdict.is_ok()));
    let full = agent.account().level;
    assert_eq!(agent.charge("x4").verdict, Err(Reason::LeakBudgetSpent));
    assert_eq!((agent.account().level, agent.account().refused), (full, 1));
    assert_eq!((full.capacity, full.hourly), (128, 16));
    assert_eq!(agent.wait(3600).account().level.used, full.used - 16);
    assert!(agent.wait(3 * 3600).charge("x4").verdict.is_ok());
}

#[test]
fn a_frozen_zone_thaws_after_a_quiet_hour_or_when_somebody_approves() {
    let mut agent = frozen();
    assert_eq!(agent.wait(3000).charge("www").verdict, Err(Reason::NamesFrozen));
    assert_eq!(agent.wait(3000).charge("www").verdict, Err(Reason::NamesFrozen), "the hour began anew");
    assert!(agent.wait(3600).charge("www").verdict.is_ok());
    let mut agent = frozen();
    let before = agent.ledger.levels();
    agent.ledger.approve(Some(&HostName::parse("other.example").unwrap()));
    assert!(agent.account().frozen);
    agent.ledger.approve(Some(&HostName::parse("cdn.example").unwrap()));
    assert!(!agent.account().frozen && agent.account().flags.is_empty());
    assert_eq!(agent.ledger.levels().accounts[0].level, before.accounts[0].level, "nothing comes back");
    assert!(agent.charge("www").verdict.is_ok());
}

#[test]
fn a_name_that_was_approved_leaves_at_its_full_price() {
    let mut agent = Subject::new();
    let long = random(7, 63, BASE32);
    assert_eq!(agent.charge(&long).verdict, Err(Reason::NamesFrozen));
    agent.ledger.approve(None);
    let charge = agent.charge(&long);
    assert_eq!((bits(&charge), charge.alerts), (349 + 21, Vec::new()));
    assert_eq!(agent.charge(&random(8, 63, BASE32)).verdict, Err(Reason::NamesFrozen), "that one only");
}

#[test]
fn while_a_rate_is_limited_an_eighth_comes_back() {
    let mut agent = Subject::of([(LeakFlag::AbsentNames, LeakAction::RateLimit)]);
    agent.charge(&random(1, 50, BASE36));
    ["a", "b", "c", "d"].iter().for_each(|prefix| drop(agent.absent(prefix)));
    let level = agent.account().level;
    assert_eq!((level.hourly, agent.account().rate_limited, agent.account().frozen), (128, true, false));
    assert_eq!(agent.wait(1800).account().level.used, level.used - 64);
    let report = agent.wait(5400).account();
    assert_eq!((report.level.hourly, report.rate_limited), (1024, false));
}

#[test]
fn a_restart_gives_nothing_back_and_lifts_nothing() {
    let mut agent = frozen();
    agent.charge_at("other.example", "www");
    let levels = agent.ledger.levels();
    for key in [KEY, [3, 4]] {
        let uptime = Moment::default().after(Duration::from_secs(5));
        let ledger = Ledger::restore(levels.clone(), key, uptime);
        assert_eq!(ledger.levels(), levels);
        let mut again = Subject { ledger, now: uptime, ..Subject::new() };
        assert_eq!(again.charge("www").verdict, Err(Reason::NamesFrozen));
        assert!(again.charge_at("other.example", "www").verdict.is_ok());
    }
    let mut agent = Subject::of([(LeakFlag::LongName, LeakAction::Quarantine)]);
    agent.charge(&random(7, 63, BASE32));
    agent.ledger = Ledger::restore(agent.ledger.levels(), KEY, agent.now);
    assert_eq!(agent.charge("www").verdict, Err(Reason::AgentQuarantined));
}

#[test]
fn an_edited_budget_gives_nothing_back() {
    for bytes in [100, 4096, 100_000] {
        let mut agent = Subject::unhindered();
        agent.charge(&random(1, 50, BASE36));
        let before = agent.account().level.used;
        agent.budget = LeakBudget::of_bytes(bytes).unwrap();
        agent.charge("a");
        assert!(agent.account().level.used >= before.min(agent.account().level.capacity), "{bytes}");
        let level = agent.ledger.levels().accounts[0].level;
        assert!(level >= u64::from(before - 1) * 256, "{bytes}: {level}");
    }
}

#[test]
fn a_budget_of_nothing_lets_nothing_out() {
    let mut agent = Subject::new();
    agent.budget = LeakBudget::of_bytes(0).unwrap();
    assert_eq!(agent.charge("a").verdict, Err(Reason::LeakBudgetSpent));
    assert_eq!(agent.ledger.levels().total, 0);
}

#[test]
fn the_zones_that_find_no_room_share_one_account() {
    let mut agent = Subject::unhindered();
    agent.terms.budget = LeakBudget::of_bytes(LeakBudget::MAX).unwrap();
    let zones: Vec<String> = (0..=limits::MAX_ACCOUNTS + 1).map(|at| format!("z{at}.example")).collect();
    let label = random(1, 40, BASE36);
    zones.iter().for_each(|zone| assert!(agent.charge_at(zone, &label).verdict.is_ok()));
    let levels = agent.ledger.levels();
    let shared: Vec<&AccountLevel> = levels.accounts.iter().filter(|account| account.is_shared).collect();
    let [shared] = shared[..] else { panic!("{levels:?}") };
    assert!(shared.level > 2 * levels.accounts[1].level - 256 * 8, "{shared:?}: that of both");
    // A day later there is room again, but not for what the two had spent in the meantime.
    agent.wait(30 * 3600);
    (0..20).for_each(|at| drop(agent.charge_at(&zones[limits::MAX_ACCOUNTS], &random(at, 40, BASE36))));
    let level = agent.ledger.levels();
    assert!(
        level
            .accounts
            .iter()
            .any(|account| account.zone.as_str() == zones[limits::MAX_ACCOUNTS] && !account.is_shared)
    );
}

#[test]
fn a_zone_keeps_its_level_and_its_freeze_while_others_come_and_go() {
    let mut agent = frozen();
    let before = agent.account();
    for zone in 0..100 {
        agent.charge_at(&format!("z{zone}.example"), "www");
    }
    let report = agent.ledger.report(agent.now);
    let account = report.accounts.iter().find(|account| account.zone == before.zone).unwrap();
    assert_eq!((account.level, account.frozen, account.known_names), (before.level, true, 0));
    assert_eq!(agent.charge("www").verdict, Err(Reason::NamesFrozen));
}

#[test]
fn names_that_are_spread_over_zones_are_counted_together() {
    let mut agent = Subject::new();
    let charge = (0..40)
        .map(|at| agent.wait(60).charge_at(&format!("z{}.example", at % 16), &random(at, 32, BASE32)))
        .find(|charge| !charge.alerts.is_empty())
        .expect("a flag is raised");
    assert_eq!(charge.verdict, Err(Reason::NamesFrozen));
    let evidence = &charge.alerts[0].evidence;
    assert!(evidence.starts_with("3 new encoded-looking labels in 2 min, "), "{evidence}");
    assert!(evidence.ends_with("; over all zones"), "{evidence}");
    assert_eq!(agent.charge_at("z9.example", "www").verdict, Err(Reason::NamesFrozen));
    assert_eq!(agent.charge_at("fresh.example", "www").verdict, Err(Reason::NamesFrozen));
    agent.ledger.approve(None);
    assert!(agent.charge_at("fresh.example", "www").verdict.is_ok());
}

#[test]
fn an_answer_is_renewed_for_a_bit_as_long_as_there_is_budget() {
    let mut agent = Subject::new();
    agent.budget = LeakBudget::of_bytes(25).unwrap();
    assert!(agent.charge("www").verdict.is_ok());
    let wildcard = wildcard("cdn.example", agent.budget);
    let used = agent.account().level.used;
    let renewals = (0..100).filter(|_| agent.ledger.renew(&agent.terms, &wildcard, agent.now)).count();
    assert_eq!(renewals, usize::try_from(50 - used).unwrap());
}

fn frozen() -> Subject {
    let mut agent = Subject::new();
    agent.charge("known");
    ["a", "b", "c", "d"].iter().for_each(|prefix| drop(agent.absent(prefix)));
    assert!(agent.account().frozen);
    agent
}

fn bits(charge: &Charge) -> u64 {
    let Ok(Paid(cost)) = charge.verdict else { panic!("{charge:?}") };
    cost.div_ceil(256)
}
