#!/usr/bin/python3
"""What an agent's own code does with sockets: `tricks.py NAME ARGUMENT...`.

Exits with 0 if it all worked, answer included. As `tricks.py serve` it takes a trick a line from
its input and answers `ok` or `error: ...`; what a trick keeps open stays open until it ends.
A trick of the catalogue is called by its file: `tricks.py packets.NAME`.
"""

import ctypes
import errno
import fcntl
import importlib
import inspect
import os
import select
import socket
import struct
import sys
import termios
import time

# The scripts lie in the repository, and run as root. What takes long to import is imported where it
# is needed: they are started a thousand times.
sys.dont_write_bytecode = True
from doors import *

TIMEOUT = 2
KEPT = {}


# Plain TCP and UDP.


def fetch(url):
    from urllib.request import urlopen

    body = urlopen(url, timeout=TIMEOUT).read()
    expect(b"hello from" in body, body)


def tcp(host, port, mark):
    with socket.create_connection((host, port), TIMEOUT) as flow:
        echo(flow, mark)


def tcp_send_only(host, port, mark):
    with socket.create_connection((host, port), TIMEOUT) as flow:
        flow.sendall(mark)


def udp_sendto(host, port, mark):
    flow = datagram(host)
    flow.sendto(mark, (host, int(port)))
    expect(flow.recv(4096) == mark)


def udp_sendmsg(host, port, mark):
    flow = datagram(host)
    flow.sendmsg([mark], [], 0, (host, int(port)))
    expect(flow.recv(4096) == mark)


def udp_sendmmsg(host, port, mark):
    flow = datagram(host)
    address, payload = sockaddr(host, port), ctypes.create_string_buffer(mark)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(payload), len(mark))
    # struct mmsghdr: name, its length, vector, its length, control, its length, flags, sent
    header = struct.pack("PI4xPNPNi4xI4x", ctypes.addressof(address), len(address), ctypes.addressof(vector), 1, 0, 0, 0, 0)
    check(LIBC.sendmmsg(flow.fileno(), ctypes.create_string_buffer(header), 1, 0))
    expect(flow.recv(4096) == mark)


def udp_connected(host, port, mark):
    flow = datagram(host)
    flow.connect((host, int(port)))
    echo(flow, mark)


def udp_mapped(host, port, mark):
    flow = datagram("::")
    flow.sendto(mark, ("::ffff:" + host, int(port)))
    expect(flow.recv(4096) == mark)


def udp_mapped_connected(host, port, mark):
    flow = datagram("::")
    flow.connect(("::ffff:" + host, int(port)))
    echo(flow, mark)


def udp_reconnected(host, port, mark, first):
    """Connects to what is allowed, then sends elsewhere."""
    flow = datagram(host)
    flow.connect((first, int(port)))
    flow.sendto(mark, (host, int(port)))
    expect(flow.recv(4096) == mark)


def udp_by_device(host, port, mark, device):
    """Sends by a device of the sender's choice, in each way that needs no privilege."""
    index = socket.if_nametoindex(device)
    with datagram(host) as flow:
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        flow.sendto(mark, (host, int(port)))
    with datagram(host) as flow:
        if flow.family == socket.AF_INET6:
            info = struct.pack("=16sI", bytes(16), index)
            ancillary = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
        else:
            info = struct.pack("=I4s4s", index, bytes(4), bytes(4))
            ancillary = (socket.IPPROTO_IP, 8, info)  # IP_PKTINFO
        flow.sendmsg([mark], [ancillary], 0, (host, int(port)))
    with datagram(host) as flow:
        # IPV6_UNICAST_IF and IP_UNICAST_IF take the index in network order.
        level, option = (41, 76) if flow.family == socket.AF_INET6 else (0, 50)
        flow.setsockopt(level, option, struct.pack("!I", index))
        flow.sendto(mark, (host, int(port)))


def udp_large(host, port, mark):
    """More than a frame holds: leaves in fragments."""
    datagram(host).sendto(mark * 200, (host, int(port)))


def tcp_bound(host, port, mark):
    """Binds to the link first, which no privilege is needed for."""
    flow = stream(host)
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link().encode())
    flow.connect((host, int(port)))
    echo(flow, mark)


def tcp_marked(host, port, mark):
    """With the firewall mark and priority that exempt other programs."""
    flow = stream(host)
    for value in (1, 0x80000, 0x7FFFFFFF):
        try:
            flow.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, value)
        except OSError:
            pass
    flow.connect((host, int(port)))
    echo(flow, mark)


def fastopen(host, port, mark):
    flow = stream(host)
    flow.sendto(mark, socket.MSG_FASTOPEN, (host, int(port)))
    expect(flow.recv(4096) == mark)


def fastopen_connect(host, port, mark):
    flow = stream(host)
    flow.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    flow.connect((host, int(port)))
    echo(flow, mark)


def mptcp(host, port, mark):
    flow = socket.socket(family(host), socket.SOCK_STREAM, 262)
    flow.settimeout(TIMEOUT)
    flow.connect((host, int(port)))
    echo(flow, mark)


def threads(host, port, mark):
    """A thread and a grandchild process, in case only the main one is fenced."""
    import threading

    def send():
        if os.fork() == 0:
            datagram(host).sendto(mark, (host, int(port)))
            os._exit(0)
        os.wait()

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()


# Other protocols and other layers.


def udplite_sendto(host, port, mark):
    socket.socket(family(host), socket.SOCK_DGRAM, 136).sendto(mark, (host, int(port)))


def udplite_connected(host, port, mark):
    flow = socket.socket(family(host), socket.SOCK_DGRAM, 136)
    flow.connect((host, int(port)))
    flow.send(mark)


def ping(host, mark):
    """The ICMP echo for which no privilege is needed."""
    kind, protocol = (128, socket.IPPROTO_ICMPV6) if ":" in host else (8, socket.IPPROTO_ICMP)
    flow = socket.socket(family(host), socket.SOCK_DGRAM, protocol)
    flow.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + mark, (host, 0))


def raw_icmp(host, mark):
    kind, protocol = (128, socket.IPPROTO_ICMPV6) if ":" in host else (8, socket.IPPROTO_ICMP)
    flow = socket.socket(family(host), socket.SOCK_RAW, protocol)
    flow.sendto(struct.pack("!BBHHH", kind, 0, 0, 7, 1) + mark, (host, 0))


def raw_protocol(host, mark):
    socket.socket(family(host), socket.SOCK_RAW, 253).sendto(mark, (host, 0))


def raw_header(host, mark):
    flow = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    flow.sendto(ipv4_datagram(host, mark), (host, 0))


def packet(host, mark):
    flow = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    flow.bind((link(), 0x0800))
    flow.send(b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + ipv4_datagram(host, mark))


def packet_bypass(host, mark):
    """Around the queue discipline, and around what is attached there."""
    flow = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    flow.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
    flow.bind((link(), 0x0800))
    flow.send(b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + ipv4_datagram(host, mark))


def packet_datagram(host, mark):
    flow = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    flow.sendto(ipv4_datagram(host, mark), (link(), 0x0800, 0, 0, b"\xff" * 6))


def tun(host, mark):
    """Writes a packet into a link of its own, which the host then forwards."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"trick", 0x1001))  # TUNSETIFF, no headers
    os.system("ip link set trick up; ip address add 172.30.0.1/24 dev trick")
    open("/proc/sys/net/ipv4/ip_forward", "w").write("1")
    os.write(device, ipv4_datagram(host, mark, b"\xac\x1e\x00\x02"))


def routing_header(host, port, mark, last):
    """Names `last` to the kernel; the packet goes to `host` first (RFC 8754). No privilege needed."""
    flow = datagram(host)
    segments = socket.inet_pton(socket.AF_INET6, last) + socket.inet_pton(socket.AF_INET6, host)
    header = struct.pack("!BBBBBBH", 0, 4, 4, 1, 1, 0, 0) + segments
    flow.setsockopt(socket.IPPROTO_IPV6, 57, header)  # IPV6_RTHDR
    flow.sendto(mark, (last, int(port)))


def source_route(host, port, mark, last):
    """The same in IPv4: loose source route (RFC 791)."""
    flow = datagram(host)
    option = b"\x01\x83\x07\x04" + socket.inet_aton(host)
    flow.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, option)
    flow.sendto(mark, (last, int(port)))


def forged_source(host, port, mark):
    flow = datagram(host)
    flow.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
    flow.bind(("10.99.0.77", 0))
    flow.sendto(mark, (host, int(port)))


# Groups: the membership report is sent by the kernel, by a timer, and its group is free to choose.


def igmp_join(group):
    flow = datagram(group)
    request = socket.inet_aton(group) + own_address()
    flow.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    time.sleep(0.3)


def mld_join(group):
    flow = datagram(group)
    request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("I", socket.if_nametoindex(link()))
    flow.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    time.sleep(0.3)


def group_join(group):
    """The same by the call that serves both families."""
    address = bytes(sockaddr(group, 0)).ljust(128, b"\0")
    request = struct.pack("I4x", socket.if_nametoindex(link())) + address
    level = socket.IPPROTO_IPV6 if ":" in group else socket.IPPROTO_IP
    datagram(group).setsockopt(level, 42, request)  # MCAST_JOIN_GROUP
    time.sleep(0.3)


def group_send(group, port, mark):
    flow = datagram(group)
    if ":" in group:
        flow.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(link()))
    else:
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        flow.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own_address())
    flow.sendto(mark, (group, int(port)))


# The kernel's other door to sockets.


def uring_socket(host, port, mark):
    """Has the ring open the socket, and sends through it: no call that seccomp would look at."""
    import uring

    flow = uring.socket(family(host), socket.SOCK_DGRAM)
    flow.sendto(mark, (host, int(port)))


# Sockets and processes of others.


def steal(pid, descriptor, mark):
    """Takes a copy of another process's socket: pidfd_open(2), pidfd_getfd(2)."""
    pidfd = LIBC.syscall(434, int(pid), 0)
    check(pidfd)
    copy = LIBC.syscall(438, pidfd, int(descriptor), 0)
    check(copy)
    socket.socket(fileno=copy).send(mark)


def receive(path, mark):
    """Takes a socket that a process outside hands in over a Unix socket (unix(7), SCM_RIGHTS)."""
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(TIMEOUT)
    door.connect(path)
    _, descriptors, _, _ = socket.recv_fds(door, 16, 1)
    socket.socket(fileno=descriptors[0]).send(mark)


# The terminal, whose other end a shell outside reads.


def type_keys(mark):
    """Types a line for whoever reads the terminal next: ioctl_tty(2)."""
    type_line(termios.TIOCSTI, mark)


def type_keys_wide(mark):
    """The same with a bit that the kernel cuts off, but a filter of 64 bits does not."""
    type_line(termios.TIOCSTI | 1 << 32, mark)


def type_line(request, line):
    for byte in line + b"\n":
        check(LIBC.ioctl(0, ctypes.c_ulong(request), ctypes.byref(ctypes.c_char(byte))))


def paste():
    """Pastes the selection of a console. On another terminal there is none: ENOTTY."""
    for request in (0x541C, 0x541C | 1 << 32):  # TIOCLINUX
        result = LIBC.ioctl(0, ctypes.c_ulong(request), ctypes.byref(ctypes.c_char(3)))
        expect(result < 0 and ctypes.get_errno() == errno.EPERM, b"the kernel itself was asked")


# What comes in.


def listen(port):
    KEPT["listener"] = socket.create_server(("0.0.0.0", int(port)))
    KEPT["bound"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    KEPT["bound"].bind(("0.0.0.0", int(port)))


def accept():
    """Whether anything came in by now."""
    came, _, _ = select.select([KEPT["listener"], KEPT["bound"]], [], [], 0)
    expect(came, b"nothing came in")


# TLS by hand.


def hello_dribbled(host, port, name):
    """The ClientHello in writes of one byte, each a segment."""
    tls(host, port, name, lambda hello: [hello[i : i + 1] for i in range(len(hello))])


def hello_in_records(host, port, name, length):
    """The ClientHello in TLS records of `length` bytes."""

    def records(hello):
        version, body = hello[:3], hello[5:]
        parts = [body[i : i + int(length)] for i in range(0, len(body), int(length))]
        return [b"".join(version + struct.pack("!H", len(part)) + part for part in parts)]

    tls(host, port, name, records)


def tls(host, port, name, cut):
    import ssl

    flow = socket.create_connection((host, int(port)), TIMEOUT)
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(received, sent, server_hostname=name.decode())
    pieces = cut
    while True:
        try:
            session.do_handshake()
            break
        except ssl.SSLWantReadError:
            for piece in pieces(sent.read()):
                flow.sendall(piece)
            pieces = lambda whole: [whole]
            received.write(expect(flow.recv(65536), b"the flow was closed"))
    session.write(b"GET / HTTP/1.0\r\nHost: " + name + b"\r\n\r\n")
    flow.sendall(sent.read())
    while True:
        try:
            expect(b"hello from" in session.read(65536))
            return
        except ssl.SSLWantReadError:
            received.write(expect(flow.recv(65536), b"the flow was closed"))


# Doors of other agents: egressd listens for them on the same loopback.


def every_resolver(name):
    """Asks every UDP socket of the host for `name`."""
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)
    expect(any(answers(address, port, query) for address, port in bound("udp")), b"no resolver served it")


def answers(address, port, query):
    flow = datagram(address)
    flow.settimeout(0.2)
    try:
        flow.sendto(query, (address, port))
        return flow.recv(4096)[6:8] != bytes(2)
    except OSError:
        return False


def every_proxy(name):
    """Asks every TCP listener of the host for a tunnel to `name`."""
    expect(any(tunnels(address, port, name) for address, port in bound("tcp")), b"no proxy served it")


def tunnels(address, port, name):
    try:
        with socket.create_connection((address, port), 0.5) as flow:
            flow.sendall(b"CONNECT " + name + b":443 HTTP/1.1\r\nHost: " + name + b":443\r\n\r\n")
            return b" 200 " in flow.recv(4096)
    except OSError:
        return False


def bound(protocol):
    """Address and port of every socket that waits on loopback, by the kernel's own list."""
    for path, loopback in ((protocol, "127.0.0.1"), (protocol + "6", "::1")):
        for line in open("/proc/net/" + path).readlines()[1:]:
            words = line.split()
            if words[3] in ("07", "0A"):  # UDP that is not connected, TCP that listens
                yield loopback, int(words[1].rsplit(":")[-1], 16)


# Flows that are kept, for `serve`.


def nothing():
    pass


def write(descriptor, mark):
    """To a descriptor that it was started with."""
    os.write(int(descriptor), mark)


def keep(host, port):
    KEPT["tcp"] = socket.create_connection((host, int(port)), TIMEOUT)


def say(mark):
    echo(KEPT["tcp"], mark)


def until_denied(host, port):
    """Connects again and again, for less time than a test waits for an answer."""
    for _ in range(100):
        try:
            socket.create_connection((host, int(port)), TIMEOUT).close()
        except PermissionError:
            return
        time.sleep(0.1)
    raise OSError("it is not denied yet")


def keep_tls(host, port):
    import ssl

    flow = socket.create_connection((host, int(port)), TIMEOUT)
    KEPT["tls"] = ssl.create_default_context().wrap_socket(flow, server_hostname=host)


def say_tls(host):
    KEPT["tls"].sendall(b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
    expect(b"hello from" in KEPT["tls"].recv(65536))


def serve():
    for line in sys.stdin:
        try:
            perform(*line.split())
            print("ok", flush=True)
        except Exception as error:
            print(f"error: {type(error).__name__}: {error}", flush=True)


# What the tricks are made of.

LIBC = ctypes.CDLL(None, use_errno=True)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def datagram(host):
    flow = socket.socket(family(host), socket.SOCK_DGRAM)
    flow.settimeout(TIMEOUT)
    return flow


def stream(host):
    flow = socket.socket(family(host), socket.SOCK_STREAM)
    flow.settimeout(TIMEOUT)
    return flow


def echo(flow, mark):
    flow.send(mark)
    expect(flow.recv(4096) == mark, b"no echo")


def expect(value, otherwise=b"not the answer that was expected"):
    if not value:
        raise OSError(otherwise.decode())
    return value


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def sockaddr(host, port):
    number = struct.pack("!H", int(port))
    if ":" in host:
        raw = struct.pack("H", 10) + number + bytes(4) + socket.inet_pton(socket.AF_INET6, host) + bytes(4)
    else:
        raw = struct.pack("H", 2) + number + socket.inet_aton(host) + bytes(8)
    return (ctypes.c_char * len(raw)).from_buffer_copy(raw)


def ipv4_datagram(host, mark, source=None):
    source = source or own_address()
    length = 28 + len(mark)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 1, 0, 64, 17, 0, source, socket.inet_aton(host))
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", total ^ 0xFFFF) + header[12:]
    return header + struct.pack("!HHHH", 4000, 9000, 8 + len(mark), 0) + mark


def link():
    """Name of the link that the default route leaves by: `wan` on the lab's host."""
    if "LINK" in os.environ:
        return os.environ["LINK"]
    routes = [line.split() for line in open("/proc/net/route").readlines()[1:]]
    return next((words[0] for words in routes if words[1] == "00000000"), "wan")


def own_address():
    """Of that link: what a forged frame should come from to be believed (SIOCGIFADDR)."""
    request = struct.pack("16s24x", link().encode())
    return fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8915, request)[20:24]


def perform(name, *arguments):
    file, _, name = name.rpartition(".")
    function = getattr(importlib.import_module("bypass." + file), name) if file else globals()[name]
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    as_bytes = ("mark", "name")
    takes_more = function.__code__.co_flags & inspect.CO_VARARGS
    rest = arguments[len(names) :] if takes_more else ()
    function(*(value.encode() if name in as_bytes else value for name, value in zip(names, arguments)), *rest)


if __name__ == "__main__":
    # So that what the other files import from it is not read again.
    sys.modules["tricks"] = sys.modules[__name__]
    perform(*sys.argv[1:])
