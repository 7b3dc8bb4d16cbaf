//! Ways out by socket calls and by packets that they make.

use super::entry::{ADMIN, Entry, Helper, ROOT, USER, V4, V6, way};

pub const WAYS: &[Entry] = &[
    // First, while nobody has asked for the neighbour yet.
    way("B23-arp", "a question for a neighbour", "{trick} packets.asks 10.99.0.67")
        .at(USER)
        .over(V4)
        .never_works(QUESTION),
    way("B23-nd", "bits in the neighbour asked for", "{trick} packets.asks fd99::6576:696c")
        .over(V6)
        .never_works(QUESTION),
    way("B23-nd-local", "the same on the link itself", "{trick} packets.asks fe80::6576:696c%{link}")
        .over(V6)
        .never_works(QUESTION),
    // Datagrams.
    way("B8-sendto", "udp by sendto(2)", "{trick} udp_sendto {ip} 9000 {mark}"),
    way("B8-sendmsg", "udp by sendmsg(2)", "{trick} udp_sendmsg {ip} 9000 {mark}"),
    way("B8-sendmmsg", "udp by sendmmsg(2)", "{trick} udp_sendmmsg {ip} 9000 {mark}"),
    way("B8-mixed", "sendmmsg(2) to two places", "{trick} packets.mixed {ip} 9000 {mark} {ok}"),
    way("B8-socat", "socat", "echo {mark} | socat -t 1 - udp-sendto:{url}:9000")
        .works_as("echo {mark} | socat -t 1 - udp-sendto:{url}:9000 | grep {mark}"),
    way("B8-ncat", "ncat", "echo {mark} | ncat {dash} -u -i 1s {ip} 9000")
        .works_as("grep -m 1 {mark} < <((echo {mark}; sleep 3) | timeout 6 ncat {dash} -u {ip} 9000)"),
    way("B8-nping", "nping", "nping {dash} --unprivileged --udp -p 9000 -c 1 --data-string {mark} {ip}")
        .over(V4),
    way("B8-connected", "udp by connect(2)", "{trick} udp_connected {ip} 9000 {mark}"),
    way("B9-bash", "udp by the shell", "exec 3<> /dev/udp/{ip}/9000 && echo {mark} >&3")
        .works_as("exec 3<> /dev/udp/{ip}/9000 && echo {mark} >&3 && timeout 2 head -n 1 <&3 | grep {mark}"),
    way("B8-mapped", "udp to an IPv4 address within IPv6", "{trick} udp_mapped {v4} 9000 {mark}").over(V4),
    way("B8-mapped-connected", "the same, connected", "{trick} udp_mapped_connected {v4} 9000 {mark}")
        .over(V4),
    way("N1-cork", "udp in two parts", "{trick} packets.corked {ip} 9000 {mark}"),
    way(
        "N1-cork-mixed",
        "two parts for two places",
        "{trick} packets.corked_elsewhere {ip} 9000 {mark} {ok}",
    ),
    way("N1-gso", "many datagrams by one call", "{trick} packets.segmented {ip} 9000 {mark}"),
    way("N1-zerocopy", "MSG_ZEROCOPY", "{trick} packets.zero_copied {ip} 9000 {mark}"),
    way("N1-dontroute", "MSG_DONTROUTE", "{trick} packets.flagged {ip} 9000 {mark} 4").works_as(UDP),
    way("N1-confirm", "MSG_CONFIRM", "{trick} packets.flagged {ip} 9000 {mark} 0x800"),
    way("N1-oob", "MSG_OOB on a stream", "{trick} packets.urgent {ip} 9000 {mark}").works_as(TCP),
    way("N1-large", "fragments", "{trick} packets.large {ip} 9000 {mark}")
        .never_works("no fragments are allowed"),
    way("N1-source-port", "from the port of a resolver", "{trick} packets.from_port {ip} 9000 {mark} 5353"),
    way("N1-device", "a device of one's choice", "{trick} udp_by_device {ip} 9000 {mark} {link}"),
    way("N1-device-53", "the same to a resolver's port", "{trick} udp_by_device {ip} 53 {mark} {link}")
        .never_works("a resolver's port is our own listener's"),
    way("N1-priority", "SO_PRIORITY", "{trick} packets.optioned {ip} 9000 {mark} 1 12 06000000"),
    way("N1-ttl", "a short life", "{trick} packets.optioned {ip} 9000 {mark} 0 2 01000000").over(V4),
    way("N1-hops", "a short life", "{trick} packets.optioned {ip} 9000 {mark} 41 16 01000000").over(V6),
    way("N1-flow-label", "a flow label", "{trick} packets.optioned {ip} 9000 {mark} 41 33 01000000").over(V6),
    way(
        "N1-class",
        "a traffic class by message",
        "{trick} packets.ancillary {ip} 9000 {mark} 41 67 2e000000",
    )
    .over(V6),
    way("N1-tos", "a type of service by message", "{trick} packets.ancillary {ip} 9000 {mark} 0 1 b8000000")
        .over(V4),
    way("N1-freebind", "IP_FREEBIND", "{trick} packets.optioned {ip} 9000 {mark} 0 15 01000000")
        .over(V4)
        .works_as(UDP),
    way("N1-transparent", "a forged source", "{trick} forged_source {v4} 9000 {mark}")
        .at(ROOT)
        .over(V4)
        .never_works("no forged source is allowed"),
    way("N1-transparent-ok", "a forged source to what is allowed", "{trick} forged_source {ok} 9000 {mark}")
        .at(ROOT)
        .over(V4)
        .never_works("no forged source is allowed"),
    way("N1-mark", "a firewall mark", "{trick} tcp_marked {ip} 9000 {mark}").at(ROOT),
    // Ports that others let through.
    way("N2-udp-443", "udp at the port of QUIC", "{trick} udp_sendto {ip} 443 {mark}").works_as(UDP),
    way("N2-udp-123", "udp at the port of NTP", "{trick} udp_sendto {ip} 123 {mark}").works_as(UDP),
    way("N2-udp-5353", "udp at the port of mDNS", "{trick} udp_sendto {ip} 5353 {mark}").works_as(UDP),
    way("N2-udp-53", "no DNS, at its port", "{trick} udp_sendto {ip} 53 {mark}").works_as(UDP),
    way("N2-tcp-53", "no DNS, at its port", "{trick} tcp_send_only {ip} 53 {mark}").works_as(TCP),
    way("N2-tcp-80", "no HTTP, at its port", "{trick} tcp_send_only {ip} 80 {mark}").works_as(TCP),
    way("N2-tcp-443", "no TLS, at its port", "{trick} tcp_send_only {ip} 443 {mark}").works_as(TCP),
    way("N2-ok-5432", "what is allowed, at another port", "{trick} udp_sendto {ok} 5432 {mark}")
        .works_as(UDP),
    // Streams.
    way("B8-tcp", "tcp", "{trick} tcp {ip} 9000 {mark}"),
    way("B8-tcp-mapped", "tcp to an IPv4 address within IPv6", "{trick} tcp ::ffff:{v4} 9000 {mark}")
        .over(V4),
    way("N3-bound", "SO_BINDTODEVICE", "{trick} tcp_bound {ip} 9000 {mark}"),
    way("N3-socat", "socat", "echo {mark} | socat -t 1 - tcp:{url}:9000")
        .works_as("echo {mark} | socat -t 1 - tcp:{url}:9000 | grep {mark}"),
    way("N3-ncat", "ncat", "echo {mark} | ncat {dash} -i 1s {ip} 9000")
        .works_as("grep -m 1 {mark} < <((echo {mark}; sleep 3) | timeout 6 ncat {dash} {ip} 9000)"),
    way("N3-nping", "nping", "nping --tcp-connect -p 9000 -c 1 {ip}").over(V4),
    way("N3-curl-telnet", "curl", "echo {mark} | curl -m 1 -s telnet://{url}:9000")
        .works_as("(echo {mark}; sleep 0.3) | curl -m 1 -s telnet://{url}:9000 | grep {mark}"),
    way("N3-fastopen", "data in the SYN", "{trick} fastopen {ip} 9000 {mark}").works_as(TCP),
    way("N3-fastopen-connect", "TCP_FASTOPEN_CONNECT", "{trick} fastopen_connect {ip} 9000 {mark}")
        .works_as(TCP),
    way("N3-nonblocking", "a connect(2) that does not wait", "{trick} packets.not_waiting {ip} 9000 {mark}"),
    way("N3-splice", "splice(2)", "{trick} packets.spliced {ip} 9000 {mark}"),
    way("N3-sendfile", "sendfile(2)", "{trick} packets.sent_from_file {ip} 9000 {mark}"),
    way("N3-md5", "a signed SYN", "{trick} packets.signed {ip} 9000 {mark}").works_as(TCP),
    way("N3-repair", "a flow that was never opened", "{trick} packets.repaired {ip} 9000 {mark}")
        .at(ADMIN)
        .works_as(TCP),
    way("N3-ulp", "TCP_DEFER_ACCEPT", "{trick} packets.stream_optioned {ip} 9000 {mark} 6 9 01000000"),
    // One socket, several places.
    way("N4-disconnected", "a stream used again", "{trick} packets.disconnected {ip} 9000 {mark} {ok}")
        .works_as(TCP),
    way(
        "N4-reconnected",
        "a datagram socket used again",
        "{trick} packets.reconnected {ip} 9000 {mark} {ok}",
    )
    .works_as(UDP),
    way("N4-sendto", "connected here, sent there", "{trick} udp_reconnected {ip} 9000 {mark} {ok}"),
    way("N4-raced", "connected here and there at once", "{trick} packets.raced {ip} 9000 {mark} {ok}")
        .works_as(UDP),
    way("N4-reformed", "IPV6_ADDRFORM under way", "{trick} packets.reformed {ip} 9000 {mark} {ok}")
        .over(V4)
        .works_as(UDP),
    way("N4-handed-on", "a socket in another namespace", "{trick} packets.handed_on {ip} 9000 {mark}"),
    way("N4-threads", "a thread's child", "{trick} threads {ip} 9000 {mark}"),
    // Other protocols.
    way("B10-lite", "UDP-Lite by sendto(2)", "{trick} udplite_sendto {ip} 9000 {mark}")
        .never_works("only TCP and UDP are allowed"),
    way("B10-lite-connected", "UDP-Lite, connected", "{trick} udplite_connected {ip} 9000 {mark}")
        .never_works(PROTOCOLS),
    way("B10-lite-ok", "UDP-Lite to what is allowed", "{trick} udplite_connected {ok} 9000 {mark}")
        .never_works(PROTOCOLS),
    way("B10-sctp", "SCTP", "echo {mark} | ncat --sctp {ip} 9000")
        .never_works(PROTOCOLS)
        .needs("python3 -c 'import socket; socket.socket(2, 1, 132)'", "this kernel has no SCTP"),
    way("B10-dccp", "DCCP", "echo {mark} | socat - dccp-connect:{url}:9000")
        .never_works(PROTOCOLS)
        .needs("python3 -c 'import socket; socket.socket(2, 6, 33)'", "this kernel has no DCCP"),
    way("B11-mptcp", "multipath TCP", "{trick} mptcp {ip} 9000 {mark}").works_as(TCP),
    way("B11-mptcpize", "multipath TCP, unasked for", "mptcpize run curl -s -m 2 http://{url}:9000/{mark}")
        .works_as("mptcpize run true"),
    way("B11-add-addr", "a path that the server adds", "{trick} packets.takes_another {ok} 9100 {mark}")
        .never_works(PROTOCOLS)
        .helped_by(Helper::Inet("{trick} packets.offer_another {ok} 9100 {ip}")),
    way("B12-smc", "SMC, which falls back to TCP", "{trick} packets.smc {ip} 9000 {mark}")
        .never_works(PROTOCOLS)
        .needs("python3 -c 'import socket; socket.socket(43, 1)'", "this kernel has no SMC"),
    way("N5-kinds", "every type and protocol", "{trick} packets.every_kind {ip} 9000 {mark}")
        .never_works(PROTOCOLS),
    way("N5-families", "every family", "{trick} packets.every_family {ip} 9000 {mark}")
        .never_works(PROTOCOLS),
    // The kernel's other calls.
    way("B14-sendmsg", "io_uring: sendmsg", "{trick} packets.ring {ip} 9000 {mark} sendmsg")
        .never_works(URING),
    way("B14-connect", "io_uring: connect", "{trick} packets.ring {ip} 9000 {mark} connect")
        .never_works(URING),
    way("B14-all", "io_uring: socket and all", "{trick} packets.ring {ip} 9000 {mark} all")
        .never_works(URING),
    way("B15-socket", "io_uring: a socket", "{trick} uring_socket {ip} 9000 {mark}").never_works(URING),
    way("B77-i386", "calls of 32 bits", "{trick} packets.foreign {ip} 9000 {mark} i386")
        .never_works("calls of other machines are denied")
        .needs("{trick} packets.foreign {v4} 9000 {mark} i386", "this kernel takes no calls of 32 bits"),
    way("B77-x32", "calls of x32", "{trick} packets.foreign {ip} 9000 {mark} x32")
        .never_works("calls of other machines are denied")
        .needs("{trick} packets.foreign {v4} 9000 {mark} x32", "this kernel takes no calls of x32"),
    // Pings.
    way(
        "B7-ping",
        "ping",
        "cp /bin/ping /tmp/{mark}; /tmp/{mark} -n -c 1 -W 1 -p {hex} {ip}; rm /tmp/{mark}",
    )
    .never_works(PING),
    way("B7-socket", "a ping socket", "{trick} ping {ip} {mark}").never_works(PING),
    way("B7-socket-ok", "the same to what is allowed", "{trick} ping {ok} {mark}").never_works(PING),
    way("B7-raw", "ICMP by a raw socket", "{trick} raw_icmp {ip} {mark}").at(ROOT).never_works(PING),
    way("B7-raw-ok", "the same to what is allowed", "{trick} raw_icmp {ok} {mark}")
        .at(ROOT)
        .never_works(PING),
    way("B7-error", "an ICMP error", "{trick} packets.raw {v4} {mark} 1 0303fcfc00000000")
        .at(ROOT)
        .over(V4)
        .never_works(PING),
    way("B7-error-v6", "an ICMP error", "{trick} packets.raw {v6} {mark} 58 0100000000000000")
        .at(ROOT)
        .over(V6)
        .never_works(PING),
    way("B7-hping", "hping3", "hping3 -1 -c 1 -i u10000 -d 40 -e {mark} {v4}")
        .at(ROOT)
        .over(V4)
        .never_works(PING),
    way("B7-nping", "nping", "nping {dash} --icmp -c 1 --data-string {mark} {ip}")
        .at(ROOT)
        .over(V4)
        .never_works(PING),
    // Raw packets.
    way("B6-protocol", "an unknown protocol", "{trick} raw_protocol {ip} {mark}").at(ROOT).never_works(RAW),
    way("B6-protocol-ok", "the same to what is allowed", "{trick} raw_protocol {ok} {mark}")
        .at(ROOT)
        .never_works(RAW),
    way("B6-every-protocol", "every protocol above IP", "{trick} packets.every_protocol {ip} {mark}")
        .at(ROOT)
        .never_works(RAW),
    way("B6-every-protocol-ok", "the same to what is allowed", "{trick} packets.every_protocol {ok} {mark}")
        .at(ROOT)
        .never_works(RAW),
    way("B6-header", "a header of one's own", "{trick} packets.headed {ip} {mark}").at(ROOT).never_works(RAW),
    way("B6-ipip", "IP within IP", "{trick} packets.headed {v4} {mark} 0:45 4")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-fragment", "a fragment that is not the first", "{trick} packets.headed {v4} {mark} 6:2010")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-fragment-ok", "the same to what is allowed", "{trick} packets.headed {ok} {mark} 6:0010")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-options", "a header that is longer than it was", "{trick} packets.headed {ok} {mark} 0:46")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-forged", "a forged source", "{trick} packets.headed {ok} {mark} 12:0a63004d")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-hping", "hping3", "hping3 --rawip -H 253 -c 1 -i u10000 -d 40 -e {mark} {v4}")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-hping-syn", "data in a SYN", "hping3 -S -p 443 -c 1 -i u10000 -d 40 -e {mark} {v4}")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way("B6-hping-fragments", "fragments", "hping3 -2 -f -p 9000 -c 1 -i u10000 -d 60 -e {mark} {v4}")
        .at(ROOT)
        .over(V4)
        .never_works(RAW),
    way(
        "B6-scapy",
        "scapy",
        "python3 -c \"from scapy.all import *; send(IP(dst='{v4}')/UDP(dport=9000)/'{mark}')\"",
    )
    .at(ROOT)
    .over(V4)
    .never_works(RAW),
    way("B6-segment", "a segment in no flow", "{trick} packets.raw_tcp {ip} 9000 {mark} 0x18")
        .at(ROOT)
        .never_works(RAW),
    way("B6-segment-ok", "the same to what is allowed", "{trick} packets.raw_tcp {ok} 443 {mark} 0x18")
        .at(ROOT)
        .never_works(RAW),
    // Routes and options within the packet.
    way("B18-loose", "a loose source route", "{trick} packets.sourced {ip} 9000 {mark} {ok} 131 option")
        .at(ROOT)
        .over(V4)
        .never_works(OPTIONS),
    way("B18-strict", "a strict source route", "{trick} packets.sourced {ip} 9000 {mark} {ok} 137 option")
        .at(ROOT)
        .over(V4)
        .never_works(OPTIONS),
    way("B18-message", "the same by message", "{trick} packets.sourced {ip} 9000 {mark} {ok} 131 message")
        .at(ROOT)
        .over(V4)
        .never_works(OPTIONS),
    way(
        "B18-reverse",
        "the last hop is the denied one",
        "{trick} packets.sourced {ok} 9000 {mark} {ip} 131 option",
    )
    .at(ROOT)
    .over(V4)
    .never_works(OPTIONS),
    way("N6-record", "a route record that is full", "{trick} packets.noted {ok} 9000 {mark} route option")
        .over(V4)
        .never_works(OPTIONS),
    way("N6-record-message", "the same by message", "{trick} packets.noted {ok} 9000 {mark} route message")
        .over(V4)
        .never_works(OPTIONS),
    way("N6-timestamps", "time stamps that are full", "{trick} packets.noted {ok} 9000 {mark} time option")
        .over(V4)
        .never_works(OPTIONS),
    way("B19-option", "a routing header", "{trick} packets.routed {ip} 9000 {mark} {ok} option")
        .over(V6)
        .never_works(OPTIONS),
    way("B19-message", "the same by message", "{trick} packets.routed {ip} 9000 {mark} {ok} message")
        .over(V6)
        .never_works(OPTIONS)
        .needs(
            "{trick} packets.routed {v6} 9000 probe fd99::10 message",
            "this kernel takes no such header so",
        ),
    way("B19-stream", "the same for a stream", "{trick} packets.routed {ip} 9000 {mark} {ok} stream")
        .over(V6)
        .never_works(OPTIONS),
    way("B19-old-option", "the same of RFC 2292", "{trick} packets.routed {ip} 9000 {mark} {ok} old-option")
        .over(V6)
        .never_works(OPTIONS),
    way(
        "B19-old-message",
        "the same of RFC 2292 by message",
        "{trick} packets.routed {ip} 9000 {mark} {ok} old-message",
    )
    .over(V6)
    .never_works(OPTIONS)
    .needs(
        "{trick} packets.routed {v6} 9000 probe fd99::10 old-message",
        "this kernel takes no such header so",
    ),
    way(
        "B19-packet-options",
        "IPV6_2292PKTOPTIONS",
        "{trick} packets.routed {ip} 9000 {mark} {ok} packet-options",
    )
    .over(V6)
    .never_works(OPTIONS)
    .needs(
        "{trick} packets.routed {v6} 9000 probe fd99::10 packet-options",
        "this kernel takes no such header so",
    ),
    way(
        "B19-reverse",
        "the last hop is the denied one",
        "{trick} packets.routed {ok} 9000 {mark} {ip} option",
    )
    .over(V6)
    .never_works(OPTIONS),
    way("B19-reverse-message", "the same by message", "{trick} packets.routed {ok} 9000 {mark} {ip} message")
        .over(V6)
        .never_works(OPTIONS)
        .needs(
            "{trick} packets.routed {v6} 9000 probe fd99::10 message",
            "this kernel takes no such header so",
        ),
    way("N6-hop-by-hop", "hop-by-hop options", "{trick} packets.extended {ok} 9000 {mark} 54 option")
        .at(ROOT)
        .over(V6)
        .never_works(OPTIONS),
    way(
        "N6-hop-by-hop-message",
        "the same by message",
        "{trick} packets.extended {ok} 9000 {mark} 54 message",
    )
    .at(ROOT)
    .over(V6)
    .never_works(OPTIONS),
    way("N6-destination", "destination options", "{trick} packets.extended {ok} 9000 {mark} 59 option")
        .at(ROOT)
        .over(V6)
        .never_works(OPTIONS),
    way(
        "N6-destination-message",
        "the same by message",
        "{trick} packets.extended {ok} 9000 {mark} 59 message",
    )
    .at(ROOT)
    .over(V6)
    .never_works(OPTIONS),
    // Addresses with a meaning.
    way("B21-nat64", "IPv4 within the prefix of NAT64", "{trick} udp_sendto 64:ff9b::10.99.0.66 9000 {mark}")
        .over(V6)
        .works_as(UDP),
    way(
        "B21-nat64-local",
        "IPv4 within its local prefix",
        "{trick} udp_sendto 64:ff9b:1::10.99.0.66 9000 {mark}",
    )
    .over(V6)
    .works_as(UDP),
    way("B21-6to4", "6to4", "{trick} udp_sendto 2002:a63:42::1 9000 {mark}").over(V6).works_as(UDP),
    way("B21-teredo", "Teredo", "{trick} udp_sendto 2001:0:a63:42::f59c:ffbd 9000 {mark}")
        .over(V6)
        .works_as(UDP),
    way("B21-isatap", "ISATAP", "{trick} udp_sendto fd98::5efe:10.99.0.66 9000 {mark}")
        .over(V6)
        .works_as(UDP),
    way("B21-compatible", "an IPv4-compatible address", "{trick} udp_sendto ::10.99.0.66 9000 {mark}")
        .over(V6)
        .works_as(UDP),
    way("N7-documentation", "an address of nobody", "{trick} udp_sendto 192.0.2.66 9000 {mark}")
        .over(V4)
        .works_as(UDP),
    way("N7-reserved", "a reserved address", "{trick} udp_sendto 240.0.0.66 9000 {mark}")
        .over(V4)
        .works_as(UDP),
    way("N7-metadata", "the metadata service", "{trick} udp_sendto 169.254.169.254 80 {mark}")
        .over(V4)
        .works_as(UDP),
    way("N7-local", "an address of the link", "{trick} packets.asks fe80::6576:696c%{link}")
        .over(V6)
        .works_as(UDP),
    // Groups.
    way("B22-igmp", "bits in a group that is joined", "{trick} igmp_join 239.118.105.108")
        .over(V4)
        .never_works(GROUPS),
    way("B22-igmp-both", "the call of both families", "{trick} group_join 239.118.105.109")
        .over(V4)
        .never_works(GROUPS),
    way("B22-igmp-source", "a group of one source", "{trick} packets.joins 239.118.105.110 source")
        .over(V4)
        .never_works(GROUPS),
    way("B22-igmp-old-source", "the older call for it", "{trick} packets.joins 239.118.105.111 old-source")
        .over(V4)
        .never_works(GROUPS),
    way("B22-mld", "bits in a group that is joined", "{trick} mld_join ff12::6576:696c")
        .over(V6)
        .never_works(GROUPS),
    way("B22-mld-both", "the call of both families", "{trick} group_join ff15::6576:696c")
        .over(V6)
        .never_works(GROUPS),
    way("B22-mld-source", "a group of one source", "{trick} packets.joins ff13::6576:696c source")
        .over(V6)
        .never_works(GROUPS),
    way("B22-mld-filter", "a filter of sources", "{trick} packets.joins ff18::6576:696c filter")
        .over(V6)
        .never_works(GROUPS),
    way("B22-anycast", "an anycast address", "{trick} packets.joins fd99::6576:696c anycast")
        .at(ADMIN)
        .over(V6)
        .never_works(GROUPS),
    way("B23-mdns", "mDNS", "{trick} group_send 224.0.0.251 5353 {mark}").over(V4).never_works(GROUPS),
    way("B23-ssdp", "SSDP", "{trick} group_send 239.255.255.250 1900 {mark}").over(V4).never_works(GROUPS),
    way("B23-mdns-v6", "mDNS", "{trick} group_send ff02::fb 5353 {mark}").over(V6).never_works(GROUPS),
    way("B23-all-nodes", "all nodes of the link", "{trick} group_send ff02::1 9000 {mark}")
        .over(V6)
        .never_works(GROUPS),
    way("B23-broadcast", "broadcast", "{trick} group_send 255.255.255.255 9000 {mark}")
        .over(V4)
        .never_works(GROUPS),
    way("B23-subnet", "broadcast of the network", "{trick} group_send 10.99.0.255 9000 {mark}")
        .over(V4)
        .never_works(GROUPS),
    // What comes in.
    way("B26-tcp", "someone connects to an agent", "{trick} packets.serve_tcp {ip} 8222 {mark}")
        .never_works(INBOUND)
        .helped_by(Helper::Inet(KNOCK_TCP)),
    way("B26-udp", "someone sends to an agent", "{trick} packets.serve_udp {ip} 8222 {mark}")
        .never_works(INBOUND)
        .helped_by(Helper::Inet(KNOCK_UDP)),
    way(
        "B26-socat",
        "socat that listens",
        "timeout 2 socat {dash} tcp-listen:8222,reuseaddr system:'echo {mark}'",
    )
    .never_works(INBOUND)
    .helped_by(Helper::Inet(KNOCK_TCP)),
    way("B27-reset", "resets for closed ports", "true").never_works(INBOUND).needs(
        "false",
        "the kernel answers for the host, whoever the agent is, and without a byte of the agent's",
    ),
];

const UDP: &str = "{trick} udp_sendto {ip} 9000 {mark}";
const TCP: &str = "{trick} tcp {ip} 9000 {mark}";

const QUESTION: &str = "neighbours are asked for by the kernel, for packets that are allowed";
const PROTOCOLS: &str = "only TCP and UDP are allowed";
const URING: &str = "no io_uring is allowed";
const PING: &str = "no ICMP is allowed, for an echo carries anything";
const RAW: &str = "no raw socket is allowed";
const OPTIONS: &str = "no options within a packet are allowed";
const GROUPS: &str = "no group is allowed";
const INBOUND: &str = "nothing new comes in";

const KNOCK_TCP: &str = "{trick} packets.knock {own} 8222 tcp";
const KNOCK_UDP: &str = "{trick} packets.knock {own} 8222 udp";
