//! What an agent may look up, and what its answers are granted for.

use crate::{
    denied::explanation,
    kernel::{Kernel, Watcher},
    lab::{Lab, addresses, agent, allow, host, now, public, question, receive, rule, serve},
    upstream::{Say, Upstream},
};
use egressd::{
    audit::Verdict,
    dns::{self, Gate},
    policy::{
        Grant, GrantError, MAX_GRANTS, Moment, Policy, Protocol, Reason, Resolve, Rule, RuleId, Subject,
    },
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::UdpSocket;

#[tokio::test]
async fn an_allowed_name_is_answered_and_granted() {
    let mut lab =
        Lab::start(allow(&["ok.test"]), says(Say::Addresses(vec![public(1), public(2)])).await).await;
    let answer = lab.ask("ok.test", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::NoError);
    assert_eq!(addresses(&answer), [public(1), public(2)]);
    let grants = lab.kernel.granted();
    assert_eq!(grants.len(), 2);
    let grant = &grants[1];
    assert_eq!((&grant.name, grant.address), (&host("ok.test"), public(2)));
    assert_eq!((grant.port, grant.protocol, grant.rule), (443, Protocol::Tls, RuleId(9)));
    assert_eq!(lab.agent.live_grants(now()).len(), 2);
    let event = lab.event().await;
    assert_eq!((event.verdict, event.address), (Verdict::Allow, Some(public(1))));
    assert_eq!(event.rule.unwrap().to_string(), "policy.yaml:3");
}

#[tokio::test]
async fn an_answer_leaves_only_after_its_grants_are_in_the_kernel() {
    let upstream = says(Say::Addresses(vec![public(1)])).await;
    let lab = Lab::with(allow(&["ok.test"]), upstream, Kernel::held(), now).await;
    let socket = lab.socket().await;
    socket.send(&question("ok.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    lab.kernel.begun.acquire().await.unwrap().forget();
    // A denied name is answered while the kernel takes its time; the allowed one is not.
    socket.send(&question("evil.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    assert_eq!(code(&receive(&socket).await), ResponseCode::Refused);
    assert!(socket.try_recv(&mut [0; 512]).is_err());
    lab.kernel.leave.add_permits(1);
    assert_eq!(code(&receive(&socket).await), ResponseCode::NoError);
    assert_eq!(lab.granted(), [public(1)]);
}

#[tokio::test]
async fn an_answer_whose_grants_cannot_be_installed_is_a_failure() {
    let upstream = says(Say::Addresses(vec![public(1)])).await;
    let kernel = Kernel::failing(GrantError::Kernel("map is full".to_owned()));
    let mut lab = Lab::with(allow(&["ok.test"]), upstream, kernel, now).await;
    let answer = lab.ask("ok.test", RecordType::A).await;
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    let event = lab.event().await;
    assert_eq!(event.reason, Some(Reason::GrantNotInstalled));
    assert_eq!(event.detail.unwrap(), "failed to write grants to the kernel: map is full");
}

#[tokio::test]
async fn an_agent_at_its_bound_of_grants_gets_no_more() {
    let mut lab = Lab::start(allow(&["*.ok.test"]), says(Say::Addresses(vec![public(1)])).await).await;
    lab.ask("a.ok.test", RecordType::A).await;
    lab.event().await;
    let one = &lab.kernel.granted()[0];
    let more =
        (1..MAX_GRANTS as u32).map(|n| Grant { address: IpAddr::from(n.to_be_bytes()), ..one.clone() });
    lab.agent.remember(&more.collect::<Vec<_>>(), now()).unwrap();
    assert_eq!(lab.ask("b.ok.test", RecordType::A).await.response_code, ResponseCode::ServFail);
    assert_eq!(lab.event().await.reason, Some(Reason::QuotaExceeded));
    assert_eq!(lab.kernel.granted().len(), 1);
}

#[tokio::test]
async fn both_families_are_asked_for_at_once_and_the_proxy_gets_both() {
    let v6: IpAddr = "2620:fe::9".parse().unwrap();
    let zone = move |_: &str, kind| {
        let address = if kind == RecordType::AAAA { v6 } else { public(1) };
        Say::Addresses(vec![address])
    };
    let lab = Lab::start(allow(&["ok.test"]), Upstream::start(zone).await).await;
    assert_eq!(addresses(&lab.ask("ok.test", RecordType::AAAA).await), [v6]);
    assert_eq!(sorted(lab.upstream.asked()), ["ok.test A", "ok.test AAAA"]);
    assert_eq!(lab.gate.resolve(&lab.agent, &host("ok.test")).await.unwrap(), [public(1), v6]);
    assert_eq!(lab.upstream.asked().len(), 2);
    let mut granted: Vec<IpAddr> = lab.kernel.granted().iter().map(|grant| grant.address).collect();
    granted.sort();
    assert_eq!(granted, [public(1), v6, v6]);
}

#[tokio::test]
async fn one_family_is_enough_for_the_proxy_unless_the_other_is_denied() {
    let zone = |name: &str, kind| match (name, kind) {
        (_, RecordType::A) => Say::Addresses(vec![public(1)]),
        ("bad.test", _) => Say::Addresses(vec!["::1".parse().unwrap()]),
        ("absent.test", _) => Say::NoData,
        _ => Say::Failure,
    };
    let lab = Lab::start(allow(&["*.test"]), Upstream::start(zone).await).await;
    for name in ["absent.test", "failing.test"] {
        assert_eq!(lab.gate.resolve(&lab.agent, &host(name)).await.unwrap(), [public(1)], "{name}");
    }
    let denial = lab.gate.resolve(&lab.agent, &host("bad.test")).await.unwrap_err();
    assert_eq!(denial.reason, Reason::AddressSpecialPurpose);
}

#[tokio::test]
async fn special_addresses_spoil_an_answer() {
    let bad = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "240.0.0.1", "100.100.100.200"];
    for address in bad.map(|text| text.parse::<IpAddr>().unwrap()) {
        spoils(address, false).await;
        spoils(address, true).await;
    }
    for address in
        ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "192.0.2.1"].map(|text| text.parse().unwrap())
    {
        spoils(address, false).await;
    }
}

#[tokio::test]
async fn private_addresses_are_granted_where_a_rule_opts_in() {
    let private = IpAddr::from([10, 1, 2, 3]);
    let policy = Policy::new(vec![Rule { private: true, ..rule("db.test") }], Vec::new());
    let lab = Lab::start(policy, says(Say::Addresses(vec![private])).await).await;
    assert_eq!(addresses(&lab.ask("db.test", RecordType::A).await), [private]);
    assert_eq!(lab.granted(), [private]);
}

#[tokio::test]
async fn an_answer_in_a_denied_network_is_denied_by_that_rule() {
    let subject = Subject::Network("9.9.9.0/24".parse().unwrap());
    let deny = Rule { subject, ports: Vec::new(), protocol: None, ..rule("x.test") };
    let policy = Policy::new(vec![rule("ok.test")], vec![deny]);
    let mut lab = Lab::start(policy, says(Say::Addresses(vec![public(7)])).await).await;
    assert_eq!(lab.ask("ok.test", RecordType::A).await.response_code, ResponseCode::Refused);
    let event = lab.event().await;
    assert_eq!((event.reason, event.detail.as_deref()), (Some(Reason::DeniedByRule), Some("9.9.9.7")));
    assert_eq!(lab.kernel.granted(), []);
}

#[tokio::test]
async fn aliases_are_followed_inside_and_answered_under_the_name_that_was_asked() {
    let zone = |name: &str, _| match name {
        "ok.test" => Say::Alias("one.test".to_owned()),
        "one.test" => Say::AliasTo("Two.Test".to_owned(), public(5)),
        _ => Say::NoName,
    };
    let lab = Lab::start(allow(&["ok.test"]), Upstream::start(zone).await).await;
    let answer = lab.ask("oK.tEsT", RecordType::A).await;
    assert_eq!(answer.answers[0].to_string(), "oK.tEsT. 60 IN A 9.9.9.5");
    assert_eq!(of_type_a(&lab), ["ok.test A", "one.test A"]);
    assert_eq!(lab.kernel.granted()[0].name, host("ok.test"));
    assert_eq!(lab.ask("one.test", RecordType::A).await.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn aliases_without_end_are_a_failure() {
    let zone = |name: &str, _| match name {
        "loop.test" => Say::Alias("pool.test".to_owned()),
        "pool.test" => Say::Alias("loop.test".to_owned()),
        _ => Say::Alias(format!("a{name}")),
    };
    let lab = Lab::start(allow(&["loop.test", "long.test"]), Upstream::start(zone).await).await;
    for name in ["loop.test", "long.test"] {
        let answer = lab.ask(name, RecordType::A).await;
        assert_eq!(answer.response_code, ResponseCode::ServFail, "{name}");
    }
    assert_eq!(of_type_a(&lab).len(), 2 * 17);
}

#[tokio::test]
async fn addresses_that_do_not_answer_the_question_are_not_granted() {
    let lab = Lab::start(allow(&["ok.test"]), says(Say::Stray(public(6))).await).await;
    let answer = lab.ask("ok.test", RecordType::A).await;
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(lab.kernel.granted(), []);
}

#[tokio::test]
async fn a_forged_answer_is_passed_over() {
    let say = Say::AfterForgery { forged: public(66), real: public(1) };
    let lab = Lab::start(allow(&["ok.test"]), says(say).await).await;
    assert_eq!(addresses(&lab.ask("ok.test", RecordType::A).await), [public(1)]);
    assert_eq!(lab.granted(), [public(1)]);
}

#[tokio::test]
async fn an_answer_that_does_not_spell_the_name_as_it_was_asked_is_not_believed() {
    let say = Say::Respelt { forged: public(66), real: public(1) };
    let lab = Lab::start(allow(&["a-long-enough-name.ok.test"]), says(say).await).await;
    let answer = lab.ask("a-long-enough-name.ok.test", RecordType::A).await;
    assert_eq!(addresses(&answer), [public(1)]);
    assert_eq!(lab.granted(), [public(1)]);
}

#[tokio::test]
async fn an_absence_is_told_as_it_is() {
    let zone = |name: &str, _| if name == "none.test" { Say::NoName } else { Say::NoData };
    let mut lab = Lab::start(allow(&["*.test"]), Upstream::start(zone).await).await;
    let absent = lab.ask("none.test", RecordType::A).await;
    assert_eq!(absent.response_code, ResponseCode::NXDomain);
    assert_eq!(absent.authorities[0].ttl, 20);
    assert_eq!(lab.event().await.verdict, Verdict::Allow);
    assert_eq!(lab.ask("v6.test", RecordType::AAAA).await.response_code, ResponseCode::NoError);
    assert_eq!(lab.kernel.granted(), []);
}

#[tokio::test]
async fn a_large_answer_is_fetched_over_tcp_and_cut_to_sixty_four_addresses() {
    let many = (1..=100).map(public).collect();
    let lab = Lab::start(allow(&["many.test"]), says(Say::Addresses(many)).await).await;
    let answer = lab.ask("many.test", RecordType::A).await;
    assert_eq!(addresses(&answer), (1..=64).map(public).collect::<Vec<_>>());
    assert_eq!(lab.kernel.granted().len(), 64);
    assert_eq!(of_type_a(&lab), ["many.test A"; 2]);
}

#[tokio::test]
async fn a_bad_address_beyond_the_sixty_fourth_spoils_the_answer_too() {
    let many = (1..=100).map(public).chain([IpAddr::from([127, 0, 0, 1])]).collect();
    let lab = Lab::start(allow(&["many.test"]), says(Say::Addresses(many)).await).await;
    assert_eq!(lab.ask("many.test", RecordType::A).await.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn an_upstream_that_talks_nonsense_is_a_failure() {
    for say in [Say::Failure, Say::Noise] {
        let mut lab = Lab::start(allow(&["ok.test"]), says(say).await).await;
        let answer = lab.ask("ok.test", RecordType::A).await;
        assert_eq!(answer.response_code, ResponseCode::ServFail);
        assert_eq!(explanation(&answer).0, 22);
        assert_eq!(lab.event().await.reason, Some(Reason::UpstreamFailed));
    }
}

/// Time stands still but where everything waits; then it jumps. Over TCP, because the threads that read UDP
/// are not among those who wait.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_silent_is_a_failure_after_five_seconds() {
    let lab = Lab::start(allow(&["ok.test"]), says(Say::Nothing).await).await;
    let start = tokio::time::Instant::now();
    // Not over a socket: threads that read it know nothing of a clock that jumps.
    let denial = lab.gate.resolve(&lab.agent, &host("ok.test")).await.unwrap_err();
    assert_eq!(denial.reason, Reason::UpstreamFailed);
    assert!(start.elapsed() <= Duration::from_millis(5100), "{:?}", start.elapsed());
}

#[test]
fn there_are_one_to_eight_upstreams() {
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], 53));
    assert_eq!(dns::Upstream::to(&[]).unwrap_err(), dns::UpstreamError::Count(0));
    assert_eq!(dns::Upstream::to(&[server; 9]).unwrap_err(), dns::UpstreamError::Count(9));
    assert!(dns::Upstream::to(&[server; 8]).is_ok());
}

#[tokio::test]
async fn another_upstream_is_asked_when_the_first_fails() {
    let (broken, sound) = (says(Say::Failure).await, says(Say::Addresses(vec![public(1)])).await);
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let servers = dns::Upstream::to(&[closed, broken.address, sound.address]).unwrap();
    let (recorder, _events) = egressd::audit::Recorder::new(16);
    let watcher = Arc::new(Watcher::default());
    let servers = Arc::new(servers);
    let gate = Gate::new(servers.clone(), servers, Arc::new(Kernel::willing()), watcher, recorder, now);
    let agent = agent(1, allow(&["*.test"]));
    let _serving = serve(&agent, &gate).await;
    for name in ["a.test", "b.test"] {
        assert_eq!(gate.resolve(&agent, &host(name)).await.unwrap(), [public(1)]);
    }
    assert!(broken.asked().len() <= 4, "the one that answered is asked first: {:?}", broken.asked());
}

#[tokio::test]
async fn what_is_asked_upstream_holds_nothing_that_the_agent_chose() {
    let lab = Lab::start(allow(&["ok-name.test"]), says(Say::Addresses(vec![public(1)])).await).await;
    let mut query = question("oK-nAmE.TeSt", RecordType::A);
    query.metadata.id = 0x5345;
    query.metadata.checking_disabled = true;
    let mut message = query.to_vec().unwrap();
    // A client cookie and a client subnet (RFC 7873, RFC 7871), as options of the OPT record.
    let options = [0, 10, 0, 8, 83, 69, 67, 82, 69, 84, 83, 33, 0, 8, 0, 7, 0, 1, 24, 0, 83, 69, 67];
    let length = message.len();
    message[length - 2..].copy_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
    message.extend(options);
    assert_eq!(code(&lab.udp(&message).await), ResponseCode::NoError);
    let seen = &lab.upstream.seen()[0];
    assert_ne!(seen.id, 0x5345);
    assert!(!seen.checking_disabled && seen.recursion_desired);
    assert_eq!(seen.queries[0].name().to_lowercase().to_string(), "ok-name.test.");
    assert_eq!(seen.edns.as_ref().unwrap().options().as_ref().len(), 0);
    assert!(!seen.edns.as_ref().unwrap().flags().dnssec_ok);
}

#[tokio::test]
async fn questions_at_the_same_time_are_one_question_upstream() {
    let upstream = Upstream::start_held(|_, _| Say::Addresses(vec![public(1)])).await;
    let lab = Lab::start(allow(&["ok.test", "late.test"]), upstream).await;
    let socket = lab.socket().await;
    for _ in 0..20 {
        socket.send(&question("ok.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    }
    socket.send(&question("evil.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    assert_eq!(code(&receive(&socket).await), ResponseCode::Refused);
    lab.upstream.leave.add_permits(1000);
    for _ in 0..20 {
        assert_eq!(code(&receive(&socket).await), ResponseCode::NoError);
    }
    assert_eq!(sorted(lab.upstream.asked()), ["late.test A", "late.test AAAA", "ok.test A", "ok.test AAAA"]);
}

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl_within_bounds() {
    static CLOCK: AtomicU64 = AtomicU64::new(1);
    let clock = || Moment(CLOCK.load(Ordering::SeqCst));
    let pass = |seconds: u64| CLOCK.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
    let zone = |name: &str, _| match name {
        "short.test" => Say::For(0, vec![public(1)]),
        "long.test" => Say::For(86_400, vec![public(2)]),
        _ => Say::For(60, vec![public(3)]),
    };
    let lab = Lab::with(allow(&["*.test"]), Upstream::start(zone).await, Kernel::willing(), clock).await;
    assert_eq!(ttl(&lab, "short.test").await, 5);
    assert_eq!(ttl(&lab, "long.test").await, 300);
    assert_eq!(ttl(&lab, "some.test").await, 60);
    let expiries: Vec<Moment> = lab.kernel.granted().iter().map(|grant| grant.expires).collect();
    assert_eq!(expiries, [35, 330, 90].map(|seconds| clock().after(Duration::from_secs(seconds))));
    pass(40);
    assert_eq!(ttl(&lab, "some.test").await, 20);
    assert_eq!(ttl(&lab, "short.test").await, 5);
    pass(21);
    assert_eq!(ttl(&lab, "some.test").await, 60);
    let asked = of_type_a(&lab);
    assert_eq!(asked[3..], ["short.test A", "some.test A"]);
    assert_eq!(asked.len(), 5);
}

#[tokio::test]
async fn a_rule_that_is_removed_while_upstream_thinks_earns_no_grant() {
    let upstream = Upstream::start_held(|_, _| Say::Addresses(vec![public(1)])).await;
    let mut lab = Lab::start(allow(&["ok.test"]), upstream).await;
    let socket = lab.socket().await;
    socket.send(&question("ok.test", RecordType::A).to_vec().unwrap()).await.unwrap();
    until(|| lab.upstream.asked().len() == 2).await;
    lab.agent.replace_policy(Arc::new(Policy::default()));
    lab.upstream.leave.add_permits(1000);
    assert_eq!(code(&receive(&socket).await), ResponseCode::Refused);
    assert_eq!(lab.kernel.granted(), []);
    assert_eq!(lab.event().await.reason, Some(Reason::HostNotAllowed));
}

async fn spoils(address: IpAddr, private: bool) {
    let policy = Policy::new(vec![Rule { private, ..rule("ok.test") }], Vec::new());
    let mut lab = Lab::start(policy, says(Say::Addresses(vec![public(1), address])).await).await;
    let answer = lab.ask("ok.test", RecordType::A).await;
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::Refused, 0), "{address}");
    assert_eq!(lab.kernel.granted(), [], "{address}");
    let event = lab.event().await;
    assert_eq!(event.reason, Some(Reason::AddressSpecialPurpose));
    assert_eq!(event.detail, Some(address.to_string()));
}

async fn ttl(lab: &Lab, name: &str) -> u32 {
    lab.ask(name, RecordType::A).await.answers[0].ttl
}

fn of_type_a(lab: &Lab) -> Vec<String> {
    lab.upstream.asked().into_iter().filter(|asked| asked.ends_with(" A")).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

async fn says(say: Say) -> Upstream {
    Upstream::start(move |_, _| say.clone()).await
}

/// Waits until something is true, which other tasks bring about.
pub async fn until(is_true: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + crate::lab::PATIENCE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "it never became true");
        tokio::task::yield_now().await;
    }
}

pub fn code(message: &[u8]) -> ResponseCode {
    Message::from_vec(message).unwrap().response_code
}
