//! What people do all day: fetch from a name that is allowed, and from one that is not.

use crate::{
    AGENT,
    attack::{tells_apart, works},
    fence,
    places::OK,
    policies::COMMON,
};
use std::time::Duration;

#[test]
fn curl_reaches_allowed_names_and_no_other() {
    let fence = fence(COMMON);
    let fetch = [
        "curl -sSf -m 5 https://{host}/ | grep 'hello from {host}'",
        "curl -4 -sSf -m 5 https://{host}/ | grep 'hello from {host}'",
        "curl -6 -sSf -m 5 https://{host}/ | grep 'hello from {host}'",
        "curl -sSf -m 5 https://www.{host}/ | grep 'hello from {host} to www.{host}'",
    ];
    tells_apart(&fence.agent(AGENT), &fetch);
}

#[test]
fn python_reaches_allowed_names_and_no_other() {
    let fence = fence(COMMON);
    tells_apart(&fence.agent(AGENT), &["{trick} fetch https://{host}/", "{trick} fetch http://{host}/"]);
}

#[test]
fn openssl_reaches_allowed_names_and_no_other() {
    let fence = fence(COMMON);
    let client = "printf 'GET / HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' \
                  | timeout 5 openssl s_client -quiet -verify_return_error -connect {host}:443 \
                  | grep 'hello from {host}'";
    tells_apart(&fence.agent(AGENT), &[client]);
}

#[test]
fn plain_http_reaches_names_with_an_http_rule_and_no_other() {
    let fence = fence(COMMON);
    let fetch = [
        "curl -4 -sSf -m 5 http://{host}/ | grep 'hello from {host}'",
        "curl -6 -sSf -m 5 http://{host}/ | grep 'hello from {host}'",
        "curl -sSf -m 5 http://{host}/a http://{host}/b | grep -c hello | grep 2",
    ];
    tells_apart(&fence.agent(AGENT), &fetch);
}

#[test]
fn a_denied_fetch_fails_within_a_second() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    works(&agent, OK, &["curl -sSf https://{host}/"]);
    for fetch in ["curl -sS https://evil.test/", "curl -sS https://10.99.0.66/", "curl -sS http://evil.test/"]
    {
        let outcome = agent.run(&format!("time timeout 1 {fetch}"));
        assert!(![0, 124].contains(&outcome.code), "`{fetch}` should fail by itself: {outcome:#?}");
        assert!(outcome.took < Duration::from_secs(3), "`{fetch}` took too long: {outcome:#?}");
    }
}

#[test]
fn a_denied_connect_says_that_it_is_not_permitted() {
    let fence = fence(COMMON);
    for host in ["10.99.0.66", "fd99::66", "::ffff:10.99.0.66"] {
        let connect = format!("import socket; socket.create_connection(('{host}', 443), 1)");
        let outcome = fence.agent(AGENT).run(&format!("/usr/bin/python3 -c \"{connect}\""));
        assert!(outcome.stderr.contains("PermissionError: [Errno 1]"), "{host}: {outcome:#?}");
    }
}

#[test]
fn a_large_answer_arrives_whole() {
    let fence = fence(COMMON);
    // Echoed, so that both directions are exercised, with backpressure and half-close.
    let echo = "head -c 8000000 /dev/zero | socat -t 20 - tcp:{v4}:9000 | wc -c | grep 8000000";
    works(&fence.agent(AGENT), OK, &[echo]);
}

#[test]
fn an_answer_comes_only_after_its_grants_so_that_no_first_fetch_fails() {
    let fence = fence(COMMON);
    let fetch = "{trick} fetch https://n$i.{host}/";
    works(&fence.agent(AGENT), OK, &[&format!("set -e; for i in $(seq 30); do {fetch}; done")]);
    let burst = "for i in $(seq 30); do curl -sSf -m 5 https://m$i.{host}/ & done | grep -c 'hello from' | grep -x 30";
    works(&fence.agent(AGENT), OK, &[burst]);
}
