//! What somebody lends ends for names when it ends.

use crate::{
    lab::{Lab, addresses, allow, now, public, rule},
    upstream::{Say, Upstream},
};
use egressd::policy::{Loan, Moment, Occasion, Operator, Rule, RuleId, Term};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use jiff::Timestamp;
use std::time::Duration;

#[tokio::test]
async fn neither_a_grant_nor_a_ttl_outlives_what_was_lent_however_long_the_record_lives() {
    let upstream = Upstream::start(|_, _| Say::For(3600, vec![public(1)])).await;
    let lab = Lab::start(allow(&["ok.test"]), upstream).await;
    lab.agent.live(Occasion { time: Timestamp::UNIX_EPOCH, age: Duration::ZERO }, now());
    let end: Moment = now().after(LENT);
    let term = Term { until: Timestamp::from_second(30).ok(), within: None };
    let rule = Rule { id: RuleId(10), source: Loan::source(7), term, ..rule("lent.test") };
    let lender = Operator { uid: 0, login_uid: None, pid: 1, command: String::new() };
    lab.agent.lend(Loan { number: 7, rule, lender, since: Timestamp::UNIX_EPOCH }).unwrap();
    lab.gate.keep_warm(&lab.agent);
    let ttl = |answer: &Message| answer.answers[0].ttl;
    // The second time from what is kept, the third from what the threads tell again.
    for _ in 0..3 {
        let answer = lab.ask("lent.test", RecordType::A).await;
        assert_eq!(addresses(&answer), [public(1)]);
        assert!(u64::from(ttl(&answer)) <= LENT.as_secs(), "{answer:?}");
    }
    let granted = lab.kernel.granted();
    assert!(granted.iter().any(|grant| grant.rule == RuleId(10)));
    assert!(granted.iter().filter(|grant| grant.rule == RuleId(10)).all(|grant| grant.expires <= end));
    let own = lab.ask("ok.test", RecordType::A).await;
    assert!(u64::from(ttl(&own)) > LENT.as_secs(), "the twin lives as long as its record: {own:?}");
    assert_eq!(lab.agent.take_back(|_| true).len(), 1);
    let answer = lab.ask("lent.test", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::Refused, "what is kept goes with the rule");
}

/// Far longer than this test takes.
const LENT: Duration = Duration::from_secs(30);
