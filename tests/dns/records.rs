//! Records of the types that a rule can allow beside addresses.

use crate::{
    lab::{Lab, host, public, rule},
    upstream::{Say, Upstream},
};
use egressd::{
    audit::Verdict,
    dns::{self, Ask, FoundRecords, LookupError},
    policy::{NameTerms, Policy, Reason, RecordType, Rule},
};
use hickory_proto::{
    op::ResponseCode,
    rr::{
        RData, RecordType as Kind,
        rdata::{CAA, MX, SRV, TXT},
    },
};
use std::time::Duration;

#[tokio::test]
async fn records_are_fetched_with_the_names_in_them_written_out() {
    let (_upstream, resolver) = resolver(|name, kind| match (name, kind) {
        ("mail.test", Kind::MX) => {
            Say::Records(vec![RData::MX(MX::new(10, "mx.mail.test.".parse().unwrap()))])
        }
        ("alias.test", _) => Say::Alias("mail.test".into()),
        ("_http._tcp.mail.test", Kind::SRV) => {
            Say::Records(vec![RData::SRV(SRV::new(1, 2, 443, "mail.test.".parse().unwrap()))])
        }
        ("mail.test", Kind::TXT) => Say::Records(vec![RData::TXT(TXT::new(vec!["v=spf1 -all".into()])); 2]),
        ("mail.test", _) => Say::NoData,
        _ => Say::NoName,
    })
    .await;
    let mx = [&[0, 10], &b"\x02mx\x04mail\x04test\0"[..]].concat();
    assert_eq!(ask(&resolver, "mail.test", RecordType::Mx).await, found(RecordType::Mx, vec![mx.clone()]));
    assert_eq!(ask(&resolver, "alias.test", RecordType::Mx).await, found(RecordType::Mx, vec![mx]));
    let srv = [&[0, 1, 0, 2, 1, 187], &b"\x04mail\x04test\0"[..]].concat();
    assert_eq!(
        ask(&resolver, "_http._tcp.mail.test", RecordType::Srv).await,
        found(RecordType::Srv, vec![srv])
    );
    let txt = b"\x0bv=spf1 -all".to_vec();
    assert_eq!(ask(&resolver, "mail.test", RecordType::Txt).await, found(RecordType::Txt, vec![txt; 2]));
    let ttl = Duration::from_secs(20);
    assert_eq!(ask(&resolver, "mail.test", RecordType::Caa).await, Ok(FoundRecords::NoData { ttl }));
    assert_eq!(ask(&resolver, "none.test", RecordType::Txt).await, Ok(FoundRecords::NoName { ttl }));
}

#[tokio::test]
async fn an_alias_is_itself_a_record_where_aliases_are_asked_for() {
    let (_upstream, resolver) = resolver(|_, _| Say::Alias("mail.test".into())).await;
    let target = b"\x04mail\x04test\0".to_vec();
    assert_eq!(ask(&resolver, "alias.test", RecordType::Cname).await, found(RecordType::Cname, vec![target]));
}

#[tokio::test]
async fn records_of_another_type_than_was_asked_for_do_not_count() {
    let caa = || RData::CAA(CAA::new_issue(false, None, Vec::new()));
    let (_upstream, resolver) = resolver(move |_, _| Say::Records(vec![caa()])).await;
    let outcome = ask(&resolver, "mail.test", RecordType::Txt).await;
    assert!(matches!(outcome, Ok(FoundRecords::NoData { .. })), "{outcome:?}");
}

#[tokio::test]
async fn records_without_end_are_not_read() {
    let txt = |length: usize| RData::TXT(TXT::new(vec!["x".repeat(length)]));
    let many = move |count: usize, length: usize| {
        resolver(move |_, _| Say::Records((0..count).map(|_| txt(length)).collect()))
    };
    for (count, length, is_read) in [(64, 8, true), (65, 8, false), (16, 255, true), (17, 255, false)] {
        let (_upstream, resolver) = many(count, length).await;
        let outcome = ask(&resolver, "mail.test", RecordType::Txt).await;
        match outcome {
            Ok(FoundRecords::Records { data, .. }) => assert!(is_read && data.len() == count),
            Err(LookupError::Chain(_)) => assert!(!is_read, "{count} of {length}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_agent_gets_the_types_that_its_rule_names_and_no_other() {
    let txt = || RData::TXT(TXT::new(vec!["v=spf1 -all".into()]));
    for (pattern, name) in [("mail.test", "mail.test"), ("*.wild.test", "any.wild.test")] {
        let upstream = Upstream::start(move |asked, kind| match (asked == name, kind) {
            (true, Kind::TXT) => Say::Records(vec![txt()]),
            (true, Kind::A) => Say::Addresses(vec![public(1)]),
            _ => Say::NoData,
        })
        .await;
        let names = NameTerms { types: vec![RecordType::Txt.number()], ..NameTerms::default() };
        let policy = Policy::new(vec![Rule { names, ..rule(pattern) }], Vec::new());
        let mut lab = Lab::start(policy, upstream).await;
        let answer = lab.ask(name, Kind::TXT).await;
        assert_eq!(answer.answers.len(), 1, "{answer}");
        assert_eq!(answer.answers[0].to_string(), format!("{name}. 60 IN TXT v=spf1 -all"));
        assert_eq!(lab.event().await.verdict, Verdict::Allow);
        for kind in [Kind::MX, Kind::NULL, Kind::ANY] {
            assert_eq!(lab.ask(name, kind).await.response_code, ResponseCode::Refused, "{kind}");
            assert_eq!(lab.event().await.reason, Some(Reason::QueryTypeNotAllowed), "{kind}");
        }
        let other = lab.ask("other.test", Kind::TXT).await;
        assert_eq!(other.response_code, ResponseCode::Refused);
        let mut asked = lab.upstream.asked();
        asked.sort();
        assert_eq!(asked, ["A", "AAAA", "TXT"].map(|kind| format!("{name} {kind}")), "all at once, and once");
        assert!(lab.granted().is_empty(), "nobody asked for addresses");
    }
}

async fn resolver(zone: impl Fn(&str, Kind) -> Say + Send + Sync + 'static) -> (Upstream, dns::Upstream) {
    let upstream = Upstream::start(zone).await;
    let resolver = dns::Upstream::to(&[upstream.address]).unwrap();
    (upstream, resolver)
}

async fn ask(resolver: &dns::Upstream, name: &str, kind: RecordType) -> Result<FoundRecords, LookupError> {
    resolver.ask_records(&host(name), kind).await
}

fn found(kind: RecordType, data: Vec<Vec<u8>>) -> Result<FoundRecords, LookupError> {
    Ok(FoundRecords::Records { kind, data, ttl: Duration::from_secs(60) })
}
