//! Each flag: what raises it, what it says, what is done, and which names that only look odd do not raise it.

use super::*;
use crate::policy::Secrets;
use std::sync::Arc;

#[test]
fn an_unusual_query_is_told_of_and_freezes_nothing() {
    let mut agent = Subject::new();
    assert_eq!(
        told(agent.unusual("host", "type 16")),
        "E1 refuse: type 16 was asked for at `host`; 0 of 8192 bits used"
    );
    assert_eq!(agent.unusual("host", "type 16"), [], "once an hour");
    assert!(agent.charge("host").verdict.is_ok());
    assert!(agent.wait(3600).unusual("host", "type 16").len() == 1);
    assert_eq!(agent.account().refused, 3);
    let mut agent = Subject::of([(LeakFlag::UnusualQuery, LeakAction::Freeze)]);
    agent.unusual("host", "type 16");
    assert_eq!(agent.charge("host").verdict, Err(Reason::NamesFrozen));
}

#[test]
fn a_long_name_is_refused_before_it_leaves() {
    let mut agent = Subject::new();
    let long = random(1, 63, BASE32);
    let charge = agent.charge(&long);
    assert_eq!(charge.verdict, Err(Reason::NamesFrozen));
    let sentence = format!("E2 freeze: one name costs 349 bits (`{}...`); 0 of 8192 bits used", &long[..16]);
    assert_eq!(told(charge.alerts), sentence);
    assert_eq!(agent.charge("www").verdict, Err(Reason::NamesFrozen), "new names wait");
    assert_eq!(agent.account().names_today, 0);
}

#[test]
fn a_few_encoded_names_freeze_those_that_are_not_known() {
    let mut agent = Subject::new();
    assert!(connected(&mut agent, "www", 1).verdict.is_ok());
    let labels: Vec<String> = (0..5).map(|seed| random(seed, 11, BASE36)).collect();
    for label in &labels[..4] {
        let charge = connected(&mut agent, label, 10);
        assert!(charge.verdict.is_ok() && charge.alerts.is_empty());
    }
    let charge = agent.wait(10).charge(&labels[4]);
    assert_eq!(charge.verdict, Err(Reason::NamesFrozen));
    let sentence = told(charge.alerts);
    let beginning =
        format!("E3 freeze: 5 new encoded-looking labels in 40 s, 295 bits of them (e.g. `{}`, ", labels[4]);
    assert!(sentence.starts_with(&beginning), "{sentence}");
    assert!(sentence.ends_with(" of 8192 bits used; 5 of 5 names connected"), "{sentence}");
    assert!(agent.charge("www").verdict.is_ok(), "a known name goes on");
    assert!(agent.account().frozen && agent.account().rate_limited);
}

#[test]
fn encoded_names_that_are_not_connected_to_freeze_sooner() {
    let labels: Vec<String> = (0..5).map(|seed| random(seed, 24, BASE36)).collect();
    let labels = || labels.iter().map(String::as_str);
    assert_eq!(Subject::new().first_flag(labels(), 60), Some((LeakFlag::EncodedNames, 1)));
    assert_eq!(
        Subject::new().first_flag(labels(), 1),
        Some((LeakFlag::EncodedNames, 2)),
        "they may follow yet"
    );
}

#[test]
fn a_secret_in_labels_quarantines_before_it_leaves() {
    let pieces = ["hunter2hunter2", "68756e7465723268", "nb2w45dfoizgq5lo", "hunt.er2h.unte"];
    for prefix in pieces {
        let mut agent = with_secret();
        let charge = agent.charge(prefix);
        assert_eq!(charge.verdict, Err(Reason::NameSuspicious), "{prefix}");
        assert_eq!(
            told(charge.alerts),
            "E10 quarantine: a part of the secret `deploy-key` is in the name; 0 of 8192 bits used"
        );
        assert_eq!(agent.charge_at("other.example", "www").verdict, Err(Reason::AgentQuarantined));
        agent.ledger.approve(None);
        assert!(agent.charge("www").verdict.is_ok());
    }
}

#[test]
fn a_secret_that_goes_out_in_pieces_is_found_before_its_eighth_byte() {
    let mut agent = with_secret();
    assert!(agent.charge("hun").verdict.is_ok());
    assert!(agent.charge("ter").verdict.is_ok());
    assert_eq!(agent.charge("2h").verdict, Err(Reason::NameSuspicious));
}

#[test]
fn many_names_in_an_hour_freeze() {
    let mut agent = Subject::new();
    let words: Vec<String> = (0..70).map(|index| format!("shop{index}")).collect();
    words
        .iter()
        .take(63)
        .for_each(|word| assert!(connected(&mut agent, word, 50).alerts.is_empty(), "{word}"));
    let charge = agent.wait(50).charge(&words[63]);
    assert_eq!(charge.verdict, Err(Reason::NamesFrozen));
    assert!(told(charge.alerts).starts_with("E4 freeze: 64 new names in an hour; "));
}

#[test]
fn many_names_in_a_day_are_told_of() {
    let mut agent = Subject::new();
    let charges: Vec<Charge> =
        (0..96).map(|index| connected(&mut agent, &format!("shop{index}"), 600)).collect();
    assert!(charges.iter().all(|charge| charge.verdict.is_ok()));
    let told: Vec<String> =
        charges.into_iter().flat_map(|charge| charge.alerts).map(|alert| told([alert])).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("E5 flag: 96 new names in a day, "), "{told:?}");
}

#[test]
fn names_that_do_not_exist_freeze() {
    let mut agent = Subject::new();
    for prefix in ["a", "b", "b", "c"] {
        assert_eq!(agent.wait(5).absent(prefix), []);
    }
    assert_eq!(
        told(agent.wait(5).absent("d")),
        "E6 freeze: 4 names in 20 s do not exist (e.g. `d`); 0 of 8192 bits used"
    );
    assert_eq!(agent.charge("e").verdict, Err(Reason::NamesFrozen));
}

#[test]
fn half_of_a_budget_is_told_of_and_limits_nothing() {
    let mut agent = Subject::new();
    agent.budget = LeakBudget::of_bytes(100).unwrap();
    let flag = agent.first_flag(["a", "b", "c", "d", "e", "f"], 1);
    assert_eq!(flag, Some((LeakFlag::HalfSpent, 4)));
    assert_eq!(agent.account().flags[0].evidence, "half of the budget is spent; 121 of 200 bits used");
}

#[test]
fn half_of_the_budget_over_all_zones_is_told_of() {
    let mut agent = Subject::new();
    agent.terms.budget = LeakBudget::of_bytes(100).unwrap();
    let alerts: Vec<Alert> =
        (0..4).flat_map(|at| agent.charge_at(&format!("z{at}.example"), "a").alerts).collect();
    assert_eq!(told(alerts), "E7 flag: half of the budget is spent; 121 of 200 bits used; over all zones");
}

#[test]
fn two_zones_whose_budget_is_spent_quarantine() {
    let mut agent = Subject::new();
    agent.budget = LeakBudget::of_bytes(60).unwrap();
    let spend = |agent: &mut Subject, zone| {
        (0..5)
            .map(|at| agent.charge_at(zone, &format!("n{at}")))
            .find(|charge| charge.verdict.is_err())
            .unwrap()
    };
    let charge = spend(&mut agent, "one.example");
    assert_eq!((charge.verdict, charge.alerts), (Err(Reason::LeakBudgetSpent), Vec::new()));
    spend(&mut agent, "one.example");
    assert!(!agent.ledger.report(agent.now).quarantined, "one zone is one zone");
    let charge = spend(&mut agent, "two.example");
    assert_eq!(charge.verdict, Err(Reason::LeakBudgetSpent));
    assert!(agent.ledger.report(agent.now).quarantined);
    assert_eq!(agent.charge_at("two.example", "www").verdict, Err(Reason::AgentQuarantined));
}

#[test]
fn names_that_are_looked_up_and_never_connected_to_freeze() {
    let mut agent = Subject::new();
    (0..8).for_each(|index| assert!(agent.wait(1).charge(&format!("shop{index}")).verdict.is_ok()));
    agent.connect("shop3");
    assert_eq!(agent.wait(20).settle(), [], "connections may follow yet");
    let alerts = agent.wait(20).settle();
    let sentence = told(alerts);
    assert!(
        sentence.starts_with("E8 freeze: names are looked up and hardly one is connected to; "),
        "{sentence}"
    );
    assert!(sentence.ends_with(" of 8192 bits used; 1 of 8 names connected"), "{sentence}");
    assert_eq!(agent.charge("shop9").verdict, Err(Reason::NamesFrozen));
}

#[test]
fn names_that_are_connected_to_raise_nothing() {
    let mut agent = Subject::new();
    for index in 0..16 {
        agent.wait(20).charge(&format!("shop{index}"));
        if index % 3 == 0 {
            agent.wait(1).connect(&format!("shop{index}"));
        }
        assert_eq!(agent.settle(), []);
    }
    assert_eq!(agent.wait(60).settle(), []);
}

#[test]
fn a_slow_drip_of_random_names_is_told_of() {
    let mut agent = Subject::new();
    let labels: Vec<String> = (0..40).map(|seed| random(seed, 6, BASE36)).collect();
    let charges: Vec<Charge> = labels.iter().map(|label| connected(&mut agent, label, 1800)).collect();
    let sentence = told(charges.into_iter().flat_map(|charge| charge.alerts).take(1));
    assert!(sentence.starts_with("E9 flag: 24 new random-looking names in a day, "), "{sentence}");
}

#[test]
fn benign_names_that_look_like_a_tunnel_raise_nothing() {
    let (hex32, hex40, hex63) = (random(1, 32, HEX), random(2, 40, HEX), random(3, 63, HEX));
    let names = [
        format!("{hex63}.us-east-1.prod.service.minerva"),
        format!("ifx-keyid-{hex40}-v2"),
        format!("usllpic0-{hex40}-am1"),
        "150-244-56-49_s-193-51-80-8_ts-1580625506-clienttons-s".to_owned(),
        format!("c7fed9d9e8d54e48a2a1-{hex32}.r34.cf2"),
        format!("docker-images-prod.{hex32}.r2"),
        format!("d{}", random(4, 13, BASE36)),
        "productionresultssa7.blob.core".to_owned(),
        "123456789012.dkr.ecr.us-east-1".to_owned(),
        "selector1._domainkey".to_owned(),
        "_acme-challenge.www".to_owned(),
    ];
    for name in &names {
        let mut agent = Subject::new();
        let charge = agent.charge(name);
        assert!(charge.verdict.is_ok() && charge.alerts.is_empty(), "{name}: {charge:?}");
        agent.connect(name);
        assert!((0..100).all(|_| agent.wait(3600).charge(name).verdict.is_ok()), "{name}");
    }
}

#[test]
fn everyday_names_raise_nothing() {
    let mut agent = Subject::new();
    let hosts = [
        "www",
        "static",
        "images-na",
        "avatars",
        "raw",
        "objects",
        "codeload",
        "api",
        "eu-west-1.console",
        "s3.us-east-1",
        "ec2.eu-central-1",
        "files",
        "downloads",
        "security",
        "fonts",
        "accounts",
        "docs3",
        "mail",
        "edge-chat",
        "lh3",
        "play",
        "ssl",
        "clients4",
        "safebrowsing",
        "update",
        "telemetry",
    ];
    for host in hosts {
        let charge = connected(&mut agent, host, 30);
        assert!(charge.verdict.is_ok() && charge.alerts.is_empty(), "{host}: {charge:?}");
    }
}

#[test]
fn denied_names_like_a_tunnel_are_told_of_once_an_hour() {
    let mut agent = Subject::new();
    assert_eq!(
        told(agent.denied("VAAAAKATRXD.t.evil.example", 10)),
        "E11 flag: type 10 was asked for at `vaaaakatrxd.t`; nothing left"
    );
    assert_eq!(agent.denied("x.t.evil.example", 10), [], "once an hour");
    let long = random(1, 40, BASE32);
    assert!(told(agent.denied(&format!("{long}.evil.test"), 1)).starts_with("E11 flag: one name costs 2"));
    assert_eq!(agent.denied("k3j9x0q2zv.drip.test", 1), []);
    let drip = told(agent.wait(9).denied("q8w2kz7vxp.drip.test", 1));
    assert!(drip.contains("2 random-looking names in 9 s (e.g. `q8w2kz7vxp`"), "{drip}");
    let counted = (0..20).flat_map(|at| agent.denied(&format!("n{at}.flood.test"), 1)).take(1);
    assert!(told(counted).contains("8 different names in 0 s; nothing left; 4 denied zones look so"));
    let report = agent.ledger.report(agent.now);
    assert!(report.denied.iter().all(|row| row.flagged) && report.denied.len() == 4);
}

#[test]
fn denied_names_that_every_machine_asks_for_raise_nothing() {
    let mut agent = Subject::new();
    for name in ["telemetry.vendor.example", "wpad", "4.3.2.1.in-addr.arpa", "printer-f81a9c2e.local"] {
        (0..50).for_each(|_| assert_eq!(agent.denied(name, 1), [], "{name}"));
    }
    assert_eq!(agent.denied("_ldap._tcp.dc._msdcs.corp.example", 33), []);
}

#[test]
fn alerts_about_denied_names_are_bounded() {
    let mut agent = Subject::new();
    let alerts =
        (0..500).flat_map(|zone| agent.denied(&format!("x.t{zone}.example.z{zone}.test"), 10)).count();
    assert_eq!(alerts, limits::MAX_DENIED_ALERTS);
    assert_eq!(agent.ledger.report(agent.now).denied.len(), limits::MAX_DENIED);
}

fn with_secret() -> Subject {
    let mut agent = Subject::new();
    let secrets = Secrets::new(vec![("deploy-key".to_owned(), b"hunter2hunter2".to_vec())]);
    agent.terms.secrets = Arc::new(secrets.unwrap());
    agent
}

/// Charges and connects, after a while.
fn connected(agent: &mut Subject, prefix: &str, seconds: u64) -> Charge {
    let charge = agent.wait(seconds).charge(prefix);
    agent.connect(prefix);
    charge
}

fn told(alerts: impl IntoIterator<Item = Alert>) -> String {
    let told = |alert: Alert| format!("{} {}: {}", alert.flag.id(), alert.action, alert.evidence);
    alerts.into_iter().map(told).collect::<Vec<_>>().join("\n")
}
