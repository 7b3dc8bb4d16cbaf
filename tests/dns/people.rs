//! Lookups that wait for people.

use crate::{
    denied::explanation,
    granted::until,
    lab::{Lab, addresses, allow, public, rule},
    upstream::{Say, Upstream},
};
use egressd::policy::{
    Agent, AgentId, Approval, Approvals, Denial, Destination, NameTerms, Policy, Question, Reason, Rule,
    RuleId,
};
use hickory_proto::{op::ResponseCode, rr::RecordType};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;

#[tokio::test]
async fn a_name_that_needs_an_approval_waits_and_nothing_of_it_leaves_before() {
    let (lab, people) = lab().await;
    let asking = lab.ask("held.test", RecordType::A);
    let approving = async {
        until(|| people.asked.load(Ordering::SeqCst) == 1).await;
        // A name that needs none does not wait behind it.
        assert_eq!(addresses(&lab.ask("ok.test", RecordType::A).await), [public(1)]);
        assert!(lab.asked_by_agent().iter().all(|asked| !asked.starts_with("held.test")), "nothing left");
        let approved = Rule { id: RuleId(11), ..rule("held.test") };
        lab.agent.replace_policy(Arc::new(lab.agent.given_policy().with_rules(vec![approved], Vec::new())));
        people.answers.add_permits(1);
    };
    let (answer, ()) = tokio::join!(asking, approving);
    assert_eq!(addresses(&answer), [public(1)]);
    assert!(lab.kernel.granted().iter().any(|grant| grant.rule == RuleId(11)));
}

#[tokio::test]
async fn a_name_that_somebody_denies_is_refused_with_the_reason() {
    let (mut lab, people) = lab().await;
    people.answers.close();
    let answer = lab.ask("held.test", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::Refused);
    assert!(explanation(&answer).1.contains("approval-denied"), "{answer:?}");
    assert_eq!(lab.event().await.reason, Some(Reason::ApprovalDenied));
    assert!(lab.asked_by_agent().is_empty());
}

#[tokio::test]
async fn a_yes_without_a_rule_opens_nothing() {
    let (lab, people) = lab().await;
    people.answers.add_permits(1);
    assert_eq!(lab.ask("held.test", RecordType::A).await.response_code, ResponseCode::Refused);
    assert!(lab.asked_by_agent().is_empty());
}

#[tokio::test]
async fn where_nobody_is_asked_a_name_that_needs_an_approval_is_refused_at_once() {
    let mut lab = Lab::start(policy(), Upstream::start(|_, _| Say::NoName).await).await;
    assert_eq!(lab.ask("held.test", RecordType::A).await.response_code, ResponseCode::Refused);
    assert_eq!(lab.event().await.reason, Some(Reason::ApprovalRequired));
    let (lab, people) = self::lab().await;
    assert_eq!(lab.ask("held.test", RecordType::TXT).await.response_code, ResponseCode::Refused);
    assert_eq!(people.asked.load(Ordering::SeqCst), 0, "nobody is asked for other records");
}

async fn lab() -> (Lab, Arc<People>) {
    let upstream = Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await;
    let lab = Lab::start(policy(), upstream).await;
    let people = Arc::new(People { asked: AtomicUsize::new(0), answers: Semaphore::new(0) });
    lab.gate.ask_people(people.clone());
    (lab, people)
}

/// `ok.test`, and `held.test` where somebody says so.
fn policy() -> Policy {
    let names = NameTerms { approval: Approval::Required, ..NameTerms::default() };
    let allowed = allow(&["ok.test"]);
    let rules = allowed.allow().iter().cloned().chain([Rule { id: RuleId(10), names, ..rule("held.test") }]);
    allowed.with_rules(rules.collect(), Vec::new())
}

/// Says yes for each permit, and no once there can be none.
struct People {
    asked: AtomicUsize,
    answers: Semaphore,
}

impl Approvals for People {
    fn ask<'a>(
        &'a self,
        _: &'a Agent,
        _: Question,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denial>> + Send + 'a>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answers.acquire().await;
            answer.map(|yes| yes.forget()).map_err(|_closed| Denial::because(Reason::ApprovalDenied))
        })
    }

    fn remember_no(&self, _: AgentId, _: &Destination) -> bool {
        self.answers.is_closed()
    }
}
