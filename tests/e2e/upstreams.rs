//! Several resolvers to ask, and one of them is gone.

use crate::{AGENT, attack::works, fence_with, places::OK, policies::COMMON};

#[test]
fn an_upstream_that_nobody_answers_at_is_not_missed() {
    // Before the one that is there: addresses that lead nowhere, over UDP and over TLS.
    let flags =
        &["--upstream=192.0.2.1", "--upstream=tls://192.0.2.2#dns.example", "--upstream", "10.99.0.53"];
    let fence = fence_with(COMMON, flags);
    let asks = [
        "dig +short +time=3 +tries=1 {host} A | grep -x {v4}",
        "dig +short +time=3 +tries=1 below.{host} AAAA | grep -x {v6}",
    ];
    works(&fence.agent(AGENT), OK, &asks);
}
