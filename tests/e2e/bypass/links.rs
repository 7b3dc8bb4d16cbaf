//! Ways out below IP, and by links, routes and rules of one's own.

use super::entry::{ADMIN, Entry, ROOT, V4, V6, way};

pub const WAYS: &[Entry] = &[
    // Frames.
    frame("B1-raw", "a frame by a packet socket", "{trick} links.frame {ip} {mark}"),
    frame("B1-datagram", "its body only", "{trick} links.frame {ip} {mark} datagram"),
    frame("B1-header", "PACKET_VNET_HDR", "{trick} links.frame {ip} {mark} header"),
    frame("B1-ring", "PACKET_TX_RING", "{trick} links.frame {ip} {mark} ring"),
    frame("B1-old-type", "SOCK_PACKET of the family IP", "{trick} links.frame {ip} {mark} old-type"),
    frame("B2-bypass", "PACKET_QDISC_BYPASS", "{trick} links.frame {ip} {mark} bypass"),
    frame("B3-xdp", "AF_XDP", "{trick} links.frame {ip} {mark} xdp"),
    frame("B15-packet", "io_uring: a packet socket", "{trick} links.frame {ip} {mark} kernel-ring"),
    frame("B77-packet", "a packet socket by 32 bits", "{trick} links.frame {ip} {mark} foreign-call").needs("{trick} links.frame {v4} {mark} foreign-call", NO_32),
    frame("B77-socketcall", "a packet socket by socketcall(2)", "{trick} links.frame {ip} {mark} socketcall").needs("{trick} links.frame {v4} {mark} socketcall", NO_32),
    frame("B77-packet-x32", "a packet socket by x32", "{trick} links.frame {ip} {mark} x32").needs("{trick} links.frame {v4} {mark} x32", "this kernel takes no calls of x32"),
    frame("N20-ok", "another port of what is allowed", "{trick} links.frame {ok} {mark} raw 36:1538").over(V4),
    frame("N20-ok-v6", "another port of what is allowed", "{trick} links.frame {ok} {mark} raw 56:1538").over(V6),
    frame("N20-forged-link", "a forged link address", "{trick} links.frame {ok} {mark} raw 6:020202020202"),
    frame("N20-segment", "a segment in no flow", "{trick} links.segment {ip} 443 {mark} 0x18"),
    frame("N20-syn", "data in a SYN", "{trick} links.segment {ip} 443 {mark} 2"),
    frame("N20-reset", "data in a RST", "{trick} links.segment {ok} 443 {mark} 4"),
    frame("N20-forged", "a forged source", "{trick} links.frame {ok} {mark} raw 26:0a63004d").over(V4),
    frame("N20-fragment", "a fragment that is not the first", "{trick} links.frame {ok} {mark} raw 20:0010").over(V4),
    frame("N20-options", "options in the header", "{trick} links.frame {ok} {mark} raw 14:46").over(V4),
    frame("N20-protocol", "an unknown protocol", "{trick} links.frame {ok} {mark} raw 23:fd").over(V4),
    frame("N20-version", "a version that is not the type's", "{trick} links.frame {ok} {mark} raw 14:65").over(V4),
    frame("N20-length", "more octets than the header says", "{trick} links.frame {ok} {mark} raw 16:001c").over(V4),
    frame("N20-protocol-v6", "an unknown protocol", "{trick} links.frame {ok} {mark} raw 20:fd").over(V6),
    frame("N20-hop-by-hop", "options that are none", "{trick} links.frame {ok} {mark} raw 20:00").over(V6),
    frame("N20-fragment-v6", "a fragment header that is none", "{trick} links.frame {ok} {mark} raw 20:2c").over(V6),
    frame("N20-checksum", "a destination that a checksum completes", "{trick} links.summed {ip} {ok} {mark}"),
    frame("N21-vlan", "a frame of a VLAN", "{trick} links.tagged {ip} {mark} 81000005"),
    frame("N21-qinq", "a frame of a VLAN within one", "{trick} links.tagged {ip} {mark} 88a8000581000005"),
    frame("N21-priority", "a tag without a VLAN", "{trick} links.tagged {ip} {mark} 81000000"),
    frame("N21-mpls", "a label of MPLS", "{trick} links.typed {mark} gateway 8847").over(V4),
    frame("N21-pppoe", "PPPoE", "{trick} links.typed {mark} gateway 8864").over(V4),
    frame("N21-experimental", "an experimental type", "{trick} links.typed {mark} gateway 88b5").over(V4),
    frame("N21-lldp", "LLDP", "{trick} links.typed {mark} 0180c200000e 88cc").over(V4),
    frame("N21-eapol", "EAPOL", "{trick} links.typed {mark} 0180c2000003 888e").over(V4),
    frame("N21-llc", "a length in place of a type", "{trick} links.typed {mark} 0180c2000000 003c").over(V4),
    frame("N21-broadcast", "to everyone", "{trick} links.typed {mark} ffffffffffff 88b5").over(V4),
    frame("N21-every-type", "hundreds of types", "{trick} links.every_type {mark}").over(V4),
    frame("N22-arp", "ARP with more than ARP", "{trick} links.asked {mark} 10.99.0.254").over(V4),
    frame("N22-arp-absent", "ARP for another", "{trick} links.asked {mark} 10.99.0.67").over(V4),
    frame("N22-rarp", "an operation of no one", "{trick} links.asked {mark} 10.99.0.254 7").over(V4),
    frame("N22-claim", "an answer that nobody asked for", "{trick} links.claimed {mark} 10.99.0.77").over(V4),
    frame("N22-solicit", "a solicitation with more in it", "{trick} links.solicited {mark} 135").over(V6),
    frame("N22-solicit-far", "the same to one far away", "{trick} links.solicited {mark} 135 {v6}").over(V6),
    frame("N22-advertise-far", "an advertisement to one far away", "{trick} links.solicited {mark} 136 {v6}").over(V6),
    frame("N22-router-far", "a router's to one far away", "{trick} links.solicited {mark} 134 {v6}").over(V6),
    frame("N22-advertise", "an advertisement with more in it", "{trick} links.solicited {mark} 136").over(V6),
    frame("N22-router", "an advertisement of a router", "{trick} links.solicited {mark} 134").over(V6),
    frame("N22-redirect", "a redirect", "{trick} links.solicited {mark} 137").over(V6),
    frame("B1-scapy", "scapy", "python3 -c \"from scapy.all import *; sendp(Ether()/IP(dst='{v4}')/UDP(dport=9000)/'{mark}', iface='{link}')\"").over(V4),
    frame("B1-nping", "nping", "nping --send-eth --udp -p 9000 -c 1 --data-string {mark} {v4}").over(V4),
    frame("B1-arpspoof", "arpspoof", "timeout 1 arpspoof -i {link} -t 10.99.0.254 10.99.0.67").over(V4),
    // Links, routes and rules.
    link("B4-tun", "a tunnel that is forwarded", "{trick} tun {v4} {mark}").over(V4),
    link("B5-vxlan", "VXLAN", "{trick} links.tunnel {ip} {ok} {mark} vxlan id 7 remote {ip} dstport 4789 dev {link}"),
    link("B5-geneve", "GENEVE", "{trick} links.tunnel {ip} {ok} {mark} geneve id 7 remote {ip}").needs("ip link add probe type geneve id 9 remote {v4} && ip link del probe", "this kernel has no GENEVE"),
    link("B5-gre", "GRE", "{trick} links.tunnel {v4} 10.99.0.10 {mark} gre remote {v4}").over(V4).needs("ip link add probe type gre remote {v4} && ip link del probe", "this kernel has no GRE"),
    link("B5-ip6gre", "GRE", "{trick} links.tunnel {v6} fd99::10 {mark} ip6gre remote {v6}").over(V6).needs("ip link add probe type ip6gre remote {v6} && ip link del probe", "this kernel has no GRE over IPv6"),
    link("B5-ipip", "IP within IP", "{trick} links.tunnel {v4} 10.99.0.10 {mark} ipip remote {v4}").over(V4).needs("ip link add probe type ipip remote {v4} && ip link del probe", "this kernel has no IP in IP"),
    link("B5-sit", "IPv6 within IPv4", "{trick} links.tunnel {v4} fd99::10 {mark} sit remote {v4}").over(V6).needs("ip link add probe type sit remote {v4} && ip link del probe", "this kernel has no IPv6 in IPv4"),
    link("B5-ip6tnl", "IP within IPv6", "{trick} links.tunnel {v6} fd99::10 {mark} ip6tnl remote {v6}").over(V6).needs("ip link add probe type ip6tnl remote {v6} && ip link del probe", "this kernel has no IP in IPv6"),
    link("B5-bareudp", "bare UDP", "true").needs("ip link add probe type bareudp dstport 9000 ethertype ipv4 && ip link del probe", "this kernel has no bare UDP"),
    link("B5-wireguard", "WireGuard", "true").needs("ip link add probe type wireguard && ip link del probe", "this kernel has no WireGuard"),
    link("B5-l2tp", "L2TP", "true").needs("ip l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap ip local 10.99.0.1 remote {v4} && ip l2tp del tunnel tunnel_id 1", "this kernel has no L2TP"),
    link("B5-esp", "IPsec", "true").needs("ip xfrm state add src 10.99.0.1 dst {v4} proto esp spi 1 mode tunnel enc ecb(cipher_null) '' && ip xfrm state flush", "this kernel has no ESP"),
    link("N23-seg6", "a route that adds segments", "{trick} links.encapsulated {ok} {mark} encap seg6 mode encap segs {ip} dev {link}").over(V6).needs("ip route add fd98::1 encap seg6 mode encap segs {v6} dev {link} && ip route del fd98::1", "this kernel has no segment routes"),
    link("N23-seg6-inline", "the same within the packet", "{trick} links.encapsulated {ok} {mark} encap seg6 mode inline segs {ip} dev {link}").over(V6).needs("ip route add fd98::1 encap seg6 mode inline segs {v6} dev {link} && ip route del fd98::1", "this kernel has no segment routes"),
    link("N23-mpls", "a route that adds labels", "{trick} links.encapsulated {ok} {mark} encap mpls 100 via inet 10.99.0.254").over(V4).needs("ip route add 10.98.0.1/32 encap mpls 100 via inet 10.99.0.254 && ip route del 10.98.0.1/32", "this kernel has no MPLS routes"),
    link("N24-dnat", "destination NAT of one's own", "{trick} links.rewritten {ip} {ok} {mark} nat"),
    link("N24-postrouting", "a rewrite after routing", "{trick} links.rewritten {ip} {ok} {mark} last"),
    link("N24-egress", "a rewrite at the link", "{trick} links.rewritten {ip} {ok} {mark} egress"),
    link("N24-mirred", "loopback sent out", "{trick} links.redirected {mark}").over(V4).needs("tc qdisc add dev lo clsact && tc filter add dev lo egress protocol all u32 match u32 0 0 action mirred egress redirect dev wan; status=$?; tc qdisc del dev lo clsact; exit $status", "this kernel redirects no frames"),
    link("N25-macvlan", "a link on top of the link", "{trick} links.on_top {v4} {mark} macvlan mode bridge").over(V4),
    link("N25-macvtap", "a tap on top of the link", "{trick} links.on_top {v4} {mark} macvtap mode bridge").over(V4),
    link("N25-vlan", "a VLAN on top of the link", "{trick} links.on_top {v4} {mark} vlan id 5").over(V4).needs("ip link add link {link} name probe type vlan id 6 && ip link del probe", "this kernel has no VLANs"),
    link("N25-ipvlan", "a link that shares the address", "{trick} links.on_top {v4} {mark} ipvlan").over(V4).needs("ip link add link {link} name probe type ipvlan && ip link del probe", "this kernel has no IPVLAN"),
    link("N26-address", "bits in an address of one's own", "ip address add fd99::6576:696c/64 dev {link}; sleep 1.2; ip address del fd99::6576:696c/64 dev {link}").over(V6),
    link("N26-probe", "a neighbour to be probed", "ip neighbour replace 10.99.0.67 lladdr 02:00:00:00:00:02 nud probe dev {link}; sleep 0.2; ip neighbour del 10.99.0.67 dev {link}").over(V4),
    link("N26-source", "an address of a neighbour", "ip address add 10.99.0.77/24 dev {link}; echo {mark} | socat -t 0 - udp-sendto:{v4}:9000,bind=10.99.0.77; ip address del 10.99.0.77/24 dev {link}").over(V4),
];

/// A frame that root without NET_ADMIN sends.
const fn frame(id: &'static str, what: &'static str, trick: &'static str) -> Entry {
    way(id, what, trick)
        .at(ROOT)
        .works_sealed_as("{trick} links.answered {ok} {mark}", "no frame of one's own is allowed")
}

/// A link, route or rule that NET_ADMIN is needed for.
const fn link(id: &'static str, what: &'static str, trick: &'static str) -> Entry {
    way(id, what, trick).at(ADMIN).never_works("no link, route or rule of one's own is allowed")
}

const NO_32: &str = "this kernel takes no calls of 32 bits";
