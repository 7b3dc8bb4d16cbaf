//! What an agent may not look up, and that nobody hears of it.

use crate::{
    kernel::process,
    lab::{Lab, allow, host, public, question, read_frame, write_frame},
    upstream::{Say, Upstream},
};
use egressd::{
    audit::{Gate, Verdict},
    policy::{Destination, Policy, Reason, Resolve},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};

#[tokio::test]
async fn a_denied_name_is_refused_and_nothing_of_it_is_asked_upstream() {
    let lab = Lab::start(allow(&["ok.test", "*.cdn.test"]), everything().await).await;
    let names = [
        "evil.test",
        "sub.ok.test",
        "notok.test",
        "cdn.test",
        "a.b.cdn.test",
        "localhost",
        "ok",
        "printer.local",
        "1.0.0.127.in-addr.arpa",
    ];
    for name in names {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
            refuses(&lab.ask(name, kind).await, Reason::HostNotAllowed);
        }
        let mut stream = lab.tcp().await;
        write_frame(&mut stream, &question(name, RecordType::A).to_vec().unwrap()).await;
        refuses(&read_frame(&mut stream).await, Reason::HostNotAllowed);
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
    assert_eq!(lab.kernel.granted(), []);
}

/// A stub resolver that is refused stops; told that the name does not exist, it tries the next one.
#[tokio::test]
async fn an_allowed_name_with_a_search_domain_behind_it_is_absent_and_not_asked_for_upstream() {
    let mut lab = Lab::start(allow(&["ok.test", "**.cluster.local"]), everything().await).await;
    for name in ["ok.test.default.svc.cluster.local", "ok.test.evil.test"] {
        let answer = lab.ask(name, RecordType::A).await;
        assert_eq!(answer.response_code, ResponseCode::NXDomain, "{name}");
        let event = lab.event().await;
        assert_eq!(event.reason, Some(Reason::HostNotAllowed));
        assert!(event.detail.unwrap().starts_with("`ok.test` with a search domain behind it"));
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
    assert_eq!(lab.watcher.alerts(), []);
}

#[tokio::test]
async fn an_empty_policy_allows_no_name() {
    let lab = Lab::start(Policy::default(), everything().await).await;
    refuses(&lab.ask("ok.test", RecordType::A).await, Reason::HostNotAllowed);
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn a_type_other_than_an_address_is_refused_for_an_allowed_name_too() {
    let mut lab = Lab::start(allow(&["ok.test"]), everything().await).await;
    let kinds = [
        RecordType::TXT,
        RecordType::NULL,
        RecordType::CNAME,
        RecordType::MX,
        RecordType::SRV,
        RecordType::ANY,
        RecordType::AXFR,
        RecordType::PTR,
        RecordType::Unknown(65399),
    ];
    for kind in kinds {
        refuses(&lab.ask("ok.test", kind).await, Reason::QueryTypeNotAllowed);
        let event = lab.event().await;
        assert_eq!(event.detail, Some(format!("type {}", u16::from(kind))));
        assert_eq!(event.destination, Some(Destination::Name(host("ok.test"))));
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn https_and_svcb_of_an_allowed_name_are_absent() {
    let lab = Lab::start(allow(&["ok.test"]), everything().await).await;
    for kind in [RecordType::HTTPS, RecordType::SVCB] {
        let answer = lab.ask("ok.test", kind).await;
        assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(answer.authorities.len(), 1);
    }
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn browsers_are_told_not_to_resolve_by_themselves() {
    let mut lab = Lab::start(allow(&["**.net"]), everything().await).await;
    let answer = lab.ask("use-application-dns.net", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    assert_eq!(lab.event().await.verdict, Verdict::Deny);
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn a_denial_tells_agent_and_log_why() {
    let mut lab = Lab::start(allow(&["ok.test"]), everything().await).await;
    let answer = lab.ask("Evil.Test", RecordType::A).await;
    let text = "egressd: host-not-allowed: no rule allows evil.test; ask for: - host: evil.test";
    assert_eq!(explanation(&answer), (15, text.to_owned()));
    let event = lab.event().await;
    assert_eq!((event.verdict, event.gate), (Verdict::Deny, Gate::Name));
    assert_eq!(event.reason, Some(Reason::HostNotAllowed));
    assert_eq!(event.destination, Some(Destination::Name(host("evil.test"))));
    assert_eq!(event.process, Some(process()));
    assert_eq!(event.protocol.to_string(), "dns");
}

#[tokio::test]
async fn a_deny_rule_wins_and_is_named() {
    let mut deny = crate::lab::rule("bad.ok.test");
    (deny.ports, deny.protocol) = (Vec::new(), None);
    let policy = Policy::new(vec![crate::lab::rule("*.ok.test")], vec![deny]);
    let mut lab = Lab::start(policy, everything().await).await;
    let answer = lab.ask("bad.ok.test", RecordType::A).await;
    refuses(&answer, Reason::DeniedByRule);
    assert!(explanation(&answer).1.ends_with("(policy.yaml:3)"));
    assert_eq!(lab.event().await.rule.unwrap().to_string(), "policy.yaml:3");
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn the_proxy_resolves_no_denied_name_either() {
    let lab = Lab::start(allow(&["ok.test"]), everything().await).await;
    let denial = lab.gate.resolve(&lab.agent, &host("evil.test")).await.unwrap_err();
    assert_eq!(denial.reason, Reason::HostNotAllowed);
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn one_agents_leave_is_not_anothers() {
    let lab = Lab::start(allow(&["ok.test"]), everything().await).await;
    let other = crate::lab::agent(2, allow(&["other.test"]));
    let (resolver, _serving) = crate::lab::serve(&other, &lab.gate).await;
    assert_eq!(lab.ask("ok.test", RecordType::A).await.response_code, ResponseCode::NoError);
    let other = Lab { resolver, ..lab };
    refuses(&other.ask("ok.test", RecordType::A).await, Reason::HostNotAllowed);
    // Each name was asked for once and for all, not because somebody used it.
    let mut asked = other.upstream.asked();
    asked.sort();
    assert_eq!(asked, ["ok.test A", "ok.test AAAA", "other.test A", "other.test AAAA"]);
}

/// An upstream that would answer anything.
pub async fn everything() -> Upstream {
    Upstream::start(|_, _| Say::Addresses(vec![public(1)])).await
}

fn refuses(answer: &Message, reason: Reason) {
    let (_, text) = explanation(answer);
    assert_eq!(answer.response_code, ResponseCode::Refused, "{text}");
    assert_eq!((answer.answers.len(), answer.authorities.len()), (0, 0));
    assert!(text.starts_with(&format!("egressd: {reason}: ")), "{text}");
}

/// Info code and text of the Extended DNS Error.
pub fn explanation(answer: &Message) -> (u16, String) {
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    let edns = answer.edns.as_ref().expect("the answer speaks edns");
    let Some(EdnsOption::Unknown(15, octets)) = edns.option(EdnsCode::Unknown(15)) else {
        panic!("no explanation in {answer}")
    };
    let code = u16::from_be_bytes([octets[0], octets[1]]);
    (code, String::from_utf8(octets[2..].to_vec()).unwrap())
}
