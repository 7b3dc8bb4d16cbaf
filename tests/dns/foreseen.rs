//! What is foretold of a lookup is what it is told, and nobody is asked for it.

use crate::{
    denied::everything,
    granted::until,
    lab::{Lab, allow, allow_usual, host, public},
    upstream::{Say, Upstream},
};
use egressd::{dns::Foretold, policy::Reason};
use hickory_proto::rr::RecordType;

#[tokio::test]
async fn what_is_known_is_foretold_with_its_addresses_and_the_rest_without() {
    let lab = Lab::start(allow(&["ok.test", "*.cdn.test"]), everything().await).await;
    until(|| lab.gate.foresee(&lab.agent, &host("ok.test")).foretold == Foretold::Kept).await;
    let kept = lab.gate.foresee(&lab.agent, &host("ok.test"));
    assert!(
        kept.addresses.iter().any(|(address, rest)| *address == public(1) && !rest.is_zero()),
        "{kept:?}"
    );
    assert!(kept.price.is_none() && kept.servers.is_empty(), "{kept:?}");
    let asked = lab.gate.foresee(&lab.agent, &host("a.cdn.test"));
    let price = asked.price.expect("it costs something");
    assert_eq!((asked.foretold, asked.servers.len()), (Foretold::Asked, 1));
    assert!(
        price.bits > 20 && price.bits < price.zone_left && price.zone_left <= price.agent_left,
        "{price:?}"
    );
    assert_eq!(lab.asked_by_agent(), [""; 0], "nobody is asked");
    assert_eq!(lab.watcher.charged(), 0, "and nothing is charged");
    lab.ask("a.cdn.test", RecordType::A).await;
    let then = lab.gate.foresee(&lab.agent, &host("a.cdn.test"));
    assert_eq!((then.foretold, then.price), (Foretold::Kept, None));
    let next = lab.gate.foresee(&lab.agent, &host("b.cdn.test")).price.expect("another name is charged");
    let paid = price.zone_left - next.zone_left;
    assert!((1..=price.bits).contains(&paid), "it comes back little by little: {paid} of {price:?}");
}

#[tokio::test]
async fn a_refusal_is_foretold_as_the_agent_would_read_it() {
    let lab = Lab::start(allow_usual(&["*.cdn.test"]), everything().await).await;
    let foretold = |name| lab.gate.foresee(&lab.agent, &host(name)).foretold;
    let Foretold::Refused(denial, unanswered) = foretold("evil.test") else { panic!("it is refused") };
    assert_eq!((denial.reason, unanswered.code, unanswered.info), (Reason::HostNotAllowed, "REFUSED", 15));
    assert!(matches!(foretold("a.cdn.test.svc.cluster.local"), Foretold::Hidden(_)), "a search domain");
    lab.agent.quarantine(true);
    let closed = foretold("a.cdn.test");
    assert!(matches!(&closed, Foretold::Refused(denial, _) if denial.reason == Reason::AgentQuarantined));
    assert_eq!(lab.asked_by_agent(), [""; 0]);
}

#[tokio::test]
async fn a_private_address_is_foretold_as_the_refusal_that_it_is() {
    let upstream = Upstream::start(|_, _| Say::Addresses(vec![[10, 0, 0, 1].into()])).await;
    let lab = Lab::start(allow(&["in.test"]), upstream).await;
    let told = || lab.gate.foresee(&lab.agent, &host("in.test"));
    until(|| matches!(told().foretold, Foretold::Refused(..))).await;
    assert_eq!(told().addresses.len(), 1);
}
