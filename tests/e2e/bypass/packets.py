"""Ways out by socket calls: `tricks.py packets.NAME ARGUMENT...`, towards `host`."""

import ctypes
import os
import socket
import struct
import threading
import time

from tricks import LIBC, TIMEOUT, check, datagram, echo, expect, family, own_address, sockaddr, stream

UNSPEC = bytes(16)  # a struct sockaddr whose family is AF_UNSPEC


# Datagrams, by what one can ask of a send.


def flagged(host, port, mark, flag):
    """With a flag of send(2), by its number."""
    datagram(host).sendto(mark, int(flag, 0), (host, int(port)))


def ancillary(host, port, mark, level, kind, value, peer=""):
    """With a control message: `value` is hexadecimal. Names `peer`, where there is one."""
    message = (int(level), int(kind), bytes.fromhex(value))
    datagram(host).sendmsg([mark], [message], 0, (peer or host, int(port)))


def optioned(host, port, mark, level, option, value, peer=""):
    """With a socket option: `value` is hexadecimal. Names `peer`, where there is one."""
    flow = datagram(host)
    flow.setsockopt(int(level), int(option), bytes.fromhex(value))
    flow.sendto(mark, (peer or host, int(port)))


def corked(host, port, mark):
    """In two parts that leave as one."""
    flow = datagram(host)
    flow.sendto(mark[:4], socket.MSG_MORE, (host, int(port)))
    flow.sendto(mark[4:], (host, int(port)))
    expect(flow.recv(4096) == mark)


def corked_elsewhere(host, port, mark, first):
    """One part for `host`, and one for `first`, with which it may leave."""
    flow = datagram(host)
    try:
        flow.sendto(mark, socket.MSG_MORE, (host, int(port)))
    finally:
        flow.sendto(b"x", (first, int(port)))


def segmented(host, port, mark):
    """One call, many datagrams: UDP_SEGMENT."""
    flow = datagram(host)
    flow.setsockopt(socket.IPPROTO_UDP, 103, len(mark))
    flow.sendto(mark * 8, (host, int(port)))
    expect(flow.recv(4096) == mark)


def zero_copied(host, port, mark):
    flow = datagram(host)
    flow.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
    flow.sendto(mark, 0x4000000, (host, int(port)))  # MSG_ZEROCOPY
    expect(flow.recv(4096) == mark)


def mixed(host, port, mark, first):
    """One sendmmsg(2) whose first datagram is for `first`."""
    flow, kept, headers = datagram(host), [], b""
    for address, data in ((first, b"x"), (host, mark)):
        name, payload = sockaddr(address, port), ctypes.create_string_buffer(data)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(payload), len(data))
        kept += [name, payload, vector]
        headers += struct.pack("PI4xPNPNi4xI4x", ctypes.addressof(name), len(name), ctypes.addressof(vector), 1, 0, 0, 0, 0)
    LIBC.sendmmsg(flow.fileno(), ctypes.create_string_buffer(headers), 2, 0)
    # One that fails ends the call: by itself, and on a socket that is connected to the other.
    second = ctypes.create_string_buffer(headers[len(headers) // 2 :])
    LIBC.sendmmsg(flow.fileno(), second, 1, 0)
    flow.connect((first, int(port)))
    LIBC.sendmmsg(flow.fileno(), second, 1, 0)


def spliced(host, port, mark):
    """Out of a pipe, by no call that names a socket."""
    flow = stream(host)
    flow.connect((host, int(port)))
    reader, writer = os.pipe()
    os.write(writer, mark)
    check(LIBC.splice(reader, None, flow.fileno(), None, len(mark), 0))
    expect(flow.recv(4096) == mark)


def sent_from_file(host, port, mark):
    flow = stream(host)
    flow.connect((host, int(port)))
    with open(f"/tmp/{mark.decode()}", "w+b") as file:
        os.unlink(file.name)
        file.write(mark)
        file.flush()
        os.sendfile(flow.fileno(), file.fileno(), 0, len(mark))
    expect(flow.recv(4096) == mark)


def from_port(host, port, mark, source):
    """From a port that others let through."""
    flow = datagram(host)
    flow.bind(("", int(source)))
    flow.sendto(mark, (host, int(port)))
    expect(flow.recv(4096) == mark)


def large(host, port, mark):
    """More than a frame holds, where the sender asks for no fragments, and where it does."""
    for discover in (0, 2, 3):  # IP_PMTUDISC_DONT, DO, PROBE
        flow = datagram(host)
        level, option = (41, 23) if flow.family == socket.AF_INET6 else (0, 10)
        flow.setsockopt(level, option, discover)
        try:
            flow.sendto(mark * 200, (host, int(port)))
        except OSError:
            pass


# Streams, by what one can ask of them.


def urgent(host, port, mark):
    flow = stream(host)
    flow.connect((host, int(port)))
    flow.send(mark[:4], socket.MSG_OOB)
    flow.send(mark)
    received = b""
    while mark not in received:
        received += expect(flow.recv(4096))


def stream_optioned(host, port, mark, level, option, value):
    flow = stream(host)
    flow.setsockopt(int(level), int(option), bytes.fromhex(value))
    flow.connect((host, int(port)))
    echo(flow, mark)


def signed(host, port, mark):
    """With a TCP signature (RFC 2385): the SYN carries one, and nobody answers it."""
    flow = stream(host)
    key = bytes(sockaddr(host, 0)).ljust(128, b"\0") + struct.pack("=BBHI80s", 0, 0, len(mark), 0, mark)
    flow.setsockopt(socket.IPPROTO_TCP, 14, key)  # TCP_MD5SIG
    flow.settimeout(0.5)
    flow.connect((host, int(port)))


def repaired(host, port, mark):
    """A flow that was never opened: TCP_REPAIR, as a migrated process does."""
    flow = stream(host)
    flow.setsockopt(socket.IPPROTO_TCP, 19, 1)
    flow.connect((host, int(port)))
    flow.setsockopt(socket.IPPROTO_TCP, 19, 0)
    flow.send(mark)
    time.sleep(0.1)


def not_waiting(host, port, mark):
    """Connects without waiting, and writes as soon as it may."""
    flow = stream(host)
    flow.setblocking(False)
    flow.connect_ex((host, int(port)))
    for _ in range(20):
        try:
            flow.send(mark)
            return
        except OSError:
            time.sleep(0.02)
    raise OSError("it never may")


# One socket, several destinations.


def disconnected(host, port, mark, first):
    """A stream to `first` that is taken back, and used again for `host`."""
    flow = stream(host)
    flow.connect((first, int(port)))
    check(LIBC.connect(flow.fileno(), UNSPEC, 16))
    flow.connect((host, int(port)))
    echo(flow, mark)


def reconnected(host, port, mark, first):
    """Datagrams to `first`, and then, by each way to change one's mind, to `host`."""
    flow = datagram(host)
    flow.connect((first, int(port)))
    flow.send(b"hello")
    expect(flow.recv(4096))
    try:
        flow.connect((host, int(port)))
    except OSError:
        pass
    flow.send(mark) if peer(flow) == host else None
    check(LIBC.connect(flow.fileno(), UNSPEC, 16))
    flow.sendto(mark, (host, int(port)))


def peer(flow):
    try:
        return flow.getpeername()[0]
    except OSError:
        return None


def raced(host, port, mark, first):
    """Threads connect one socket to two places, and others send all the while."""
    flow, until = datagram(host), time.monotonic() + 0.3
    flow.setblocking(False)
    calls = [(flow.connect, (first, int(port)))] + 2 * [(flow.connect, (host, int(port)))]
    calls = [(act, (address,)) for act, address in calls] + [(flow.sendto, (mark, (host, int(port))))]
    # To what is allowed the mark may go, so only what surely is for `host` carries it.
    calls += [(flow.send, (b"",))]
    threads = [threading.Thread(target=persist, args=(until, act, arguments)) for act, arguments in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flow.sendto(mark, (host, int(port)))


def persist(until, act, arguments):
    while time.monotonic() < until:
        try:
            act(*arguments)
        except OSError:
            pass


def reformed(host, port, mark, first):
    """An IPv6 socket that becomes an IPv4 one under way: IPV6_ADDRFORM."""
    flow = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    flow.connect(("::ffff:" + first, int(port)))
    flow.setsockopt(socket.IPPROTO_IPV6, 1, socket.AF_INET)
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=os.dup(flow.fileno()))
    try:
        plain.sendto(mark, (host, int(port)))
    except OSError:
        pass
    plain.connect((host, int(port)))
    plain.send(mark)


def handed_on(host, port, mark):
    """A child that gets the socket over a Unix socket sends, in a network namespace of its own."""
    ours, theirs = socket.socketpair()
    flow = datagram(host)
    if os.fork() == 0:
        _, descriptors, _, _ = socket.recv_fds(theirs, 16, 1)
        LIBC.unshare(0x50000000)  # CLONE_NEWUSER, CLONE_NEWNET
        socket.socket(fileno=descriptors[0]).sendto(mark, (host, int(port)))
        os._exit(0)
    socket.send_fds(ours, [b"one"], [flow.fileno()])
    _, status = os.wait()
    expect(status == 0, b"the child could not send")


# Sockets of every kind.


def every_kind(host, port, mark):
    """Every type and protocol that the kernel has for the family, sent to and connected."""
    for kind in (1, 2, 3, 4, 5, 6, 10):
        for protocol in range(265):
            try:
                flow = socket.socket(family(host), kind, protocol)
            except OSError:
                continue
            flow.settimeout(0.05)
            body = struct.pack("!BBHHH", 128 if ":" in host else 8, 0, 0, 0, 1) + mark
            for act in (lambda: flow.sendto(body, (host, int(port))), lambda: flow.connect((host, int(port))), lambda: flow.send(body)):
                try:
                    act()
                except OSError:
                    pass
            flow.close()


def every_family(host, port, mark):
    """Every address family, whoever serves it, given an address of IP's."""
    for number in range(47):
        for kind in (1, 2, 3, 5):
            try:
                flow = socket.socket(number, kind, 0)
            except OSError:
                continue
            LIBC.fcntl(flow.fileno(), 4, os.O_NONBLOCK)
            name = sockaddr(host, port)
            LIBC.connect(flow.fileno(), name, len(name))
            LIBC.sendto(flow.fileno(), mark, len(mark), 0, name, len(name))
            LIBC.send(flow.fileno(), mark, len(mark), 0)
            flow.close()


def smc(host, port, mark):
    flow = socket.socket(43, socket.SOCK_STREAM, 1 if ":" in host else 0)
    LIBC.connect(flow.fileno(), sockaddr(host, port), 28)
    flow.send(mark)


# Routes and other options within the packet. The sender names `last`, and `host` comes first.


def routed(host, port, mark, last, how):
    """An IPv6 routing header (RFC 8754), in each way of setting one."""
    segments = socket.inet_pton(socket.AF_INET6, last) + socket.inet_pton(socket.AF_INET6, host)
    header = struct.pack("!BBBBBBH", 0, 4, 4, 1, 1, 0, 0) + segments
    kinds = {"option": 57, "old-option": 5}  # IPV6_RTHDR, IPV6_2292RTHDR
    flow = datagram(host)
    if how == "stream":
        flow = stream(host)
        flow.setsockopt(socket.IPPROTO_IPV6, 57, header)
        flow.settimeout(0.5)
        flow.connect((last, int(port)))
    elif how == "message":
        flow.sendmsg([mark], [(socket.IPPROTO_IPV6, 57, header)], 0, (last, int(port)))
    elif how == "old-message":
        flow.sendmsg([mark], [(socket.IPPROTO_IPV6, 5, header)], 0, (last, int(port)))
    elif how == "packet-options":  # IPV6_2292PKTOPTIONS: control messages, kept for all that follow
        message = struct.pack("Nii", 16 + len(header), socket.IPPROTO_IPV6, 5) + header
        flow.setsockopt(socket.IPPROTO_IPV6, 6, message)
        flow.sendto(mark, (last, int(port)))
    else:
        flow.setsockopt(socket.IPPROTO_IPV6, kinds[how], header)
        flow.sendto(mark, (last, int(port)))


def extended(host, port, mark, kind, how):
    """Another IPv6 extension header, whose padding carries the mark (RFC 8200, section 4.2)."""
    option = bytes([0x1E, len(mark)]) + mark
    length = (2 + len(option) + 7) // 8
    header = (bytes([0, length - 1]) + option).ljust(length * 8, b"\0")
    if how == "option":
        optioned(host, port, b"x", socket.IPPROTO_IPV6, kind, header.hex())
    else:
        ancillary(host, port, b"x", socket.IPPROTO_IPV6, kind, header.hex())


def sourced(host, port, mark, last, kind, how):
    """An IPv4 source route (RFC 791): `kind` is 131 (loose) or 137 (strict)."""
    option = bytes([1, int(kind), 7, 4]) + socket.inet_aton(host)
    with_options(last, port, mark, option, how)


def noted(host, port, mark, kind, how):
    """An option that says it is full: what should be addresses are the mark."""
    data = mark.ljust(-(-len(mark) // 4) * 4, b"\0")
    if kind == "route":
        option = bytes([7, 3 + len(data), 4 + len(data)]) + data + b"\0"
    else:
        option = bytes([68, 4 + len(data), 5 + len(data), 0]) + data
    with_options(host, port, b"x", option, how)


def with_options(host, port, mark, option, how):
    flow = datagram(host)
    if how == "option":
        flow.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, option)
        flow.sendto(mark, (host, int(port)))
    else:
        flow.sendmsg([mark], [(socket.IPPROTO_IP, 7, option)], 0, (host, int(port)))  # IP_RETOPTS


# Raw packets.


def raw(host, mark, protocol, head=""):
    """A payload of its own for any protocol: `head` is hexadecimal."""
    flow = socket.socket(family(host), socket.SOCK_RAW, int(protocol))
    flow.sendto(bytes.fromhex(head) + mark, (host, 0))


def every_protocol(host, mark):
    """Every number of a protocol above IP."""
    for protocol in range(256):
        try:
            raw(host, mark, protocol)
        except OSError:
            pass


def raw_tcp(host, port, mark, flags):
    """A TCP segment of its own, data and all, in no flow."""
    segment = struct.pack("!HHIIBBHHH", 4000, int(port), 1, 1, 0x50, int(flags, 0), 1000, 0, 0)
    raw(host, mark, socket.IPPROTO_TCP, segment.hex())


def headed(host, mark, change="0:45", protocol="17"):
    """With an IP header of its own: `change` is `offset:hexadecimal,...` over a proper one."""
    if ":" in host:
        flow = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        body = struct.pack("!HHHH", 4000, 9000, 8 + len(mark), 1) + mark
        source = own_address_v6(host)
        packet = struct.pack("!IHBB", 6 << 28, len(body), int(protocol), 64) + source
        packet += socket.inet_pton(socket.AF_INET6, host) + body
    else:
        from tricks import ipv4_datagram

        flow = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        packet = bytearray(ipv4_datagram(host, mark))
        packet[9] = int(protocol)
    packet = bytearray(packet)
    for part in change.split(",") if ":" in change and change != "0:45" else []:
        offset, _, value = part.partition(":")
        value = bytes.fromhex(value)
        packet[int(offset) : int(offset) + len(value)] = value
    flow.sendto(bytes(packet), (host, 0))


def own_address_v6(host):
    """The source that the kernel would choose, which takes a socket but no packet."""
    for line in open("/proc/net/if_inet6"):
        words = line.split()
        if words[3] == "00" and words[5] != "lo":
            return bytes.fromhex(words[0])
    return bytes(16)


# What the kernel asks a neighbour, or tells a group, for an agent.


def asks(host):
    """Has the kernel ask who has `host`. The address is all that there is to tell."""
    flow = datagram(host)
    try:
        flow.sendto(b"x", (host, 9000))
    except OSError:
        pass
    time.sleep(0.1)


def joins(group, how):
    """Joins a group in one of the many ways of doing so."""
    level = socket.IPPROTO_IPV6 if ":" in group else socket.IPPROTO_IP
    flow, device = datagram(group), only_link()
    storage = lambda address: bytes(sockaddr(address, 0)).ljust(128, b"\0")
    index = struct.pack("I4x", device)
    own = "fd99::10" if ":" in group else "10.99.0.10"
    if how == "source":
        flow.setsockopt(level, 46, index + storage(group) + storage(own))  # MCAST_JOIN_SOURCE_GROUP
    elif how == "filter":
        flow.setsockopt(level, 42, index + storage(group))  # MCAST_JOIN_GROUP
        value = index + storage(group) + struct.pack("II", 1, 1) + storage(own)
        flow.setsockopt(level, 48, value)  # MCAST_MSFILTER
    elif how == "old-source":
        request = socket.inet_aton(group) + own_address() + socket.inet_aton(own)
        flow.setsockopt(level, 39, request)  # IP_ADD_SOURCE_MEMBERSHIP
    elif how == "anycast":
        request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("I", device)
        flow.setsockopt(level, 27, request)  # IPV6_JOIN_ANYCAST
    time.sleep(0.3)


def only_link():
    from tricks import link

    return socket.if_nametoindex(link())


# What comes in.


def serve_tcp(host, port, mark):
    """Tells whoever connects."""
    listener = socket.create_server(("", int(port)), family=family(host), dualstack_ipv6=False)
    listener.settimeout(1.5)
    flow, _ = listener.accept()
    flow.sendall(mark)
    time.sleep(0.1)


def serve_udp(host, port, mark):
    """Tells whoever sends something."""
    flow = datagram(host)
    flow.bind(("", int(port)))
    flow.settimeout(1.5)
    _, asker = flow.recvfrom(4096)
    flow.sendto(mark, asker)


def knock(host, port, kind):
    """Outside: asks at `port` again and again, until killed."""
    source = "fd99::12" if ":" in host else "10.99.0.12"
    print("ready", flush=True)
    while True:
        flow = socket.socket(family(host), socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        flow.settimeout(1)
        flow.bind((source, 0))
        try:
            flow.connect((host, int(port)))
            flow.send(b"knock")
            flow.recv(4096)
        except OSError:
            pass
        flow.close()
        time.sleep(0.05)


def offer_another(host, port, other):
    """Outside: a multipath server at `host` that tells its clients of `other` (RFC 8684, 3.4.1)."""
    os.system("ip mptcp limits set subflow 4 add_addr_accepted 4; ip mptcp endpoint flush")
    check(os.system(f"ip mptcp endpoint add {other} signal") * -1)
    listener = socket.socket(family(host), socket.SOCK_STREAM, 262)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen()
    print("ready", flush=True)
    flows = []
    while True:
        flow, _ = listener.accept()
        flow.send(b"welcome")
        flows.append(flow)


def takes_another(host, port, mark):
    """Connects to what is allowed, and stays until the kernel has opened more."""
    flow = socket.socket(family(host), socket.SOCK_STREAM, 262)
    flow.settimeout(TIMEOUT)
    flow.connect((host, int(port)))
    expect(flow.recv(4096))
    flow.send(b"hello")
    time.sleep(0.5)


# By the kernel's ring, and by the calls of other machines.


def ring(host, port, mark, how):
    """A socket that the ring opens, or one that it only uses."""
    import uring

    name = sockaddr(host, port)
    if how == "sendmsg":
        uring.sendmsg(datagram(host), name, mark)
    elif how == "connect":
        flow = stream(host)
        uring.connect(flow, name)
        uring.send(flow, mark)
    elif how == "all":
        flow = uring.socket(family(host), socket.SOCK_STREAM)
        uring.connect(flow, name)
        uring.send(flow, mark)
    time.sleep(0.05)


def foreign(host, port, mark, gate):
    """By numbers of calls that a filter may not know: x32's, and those of 32 bits by `int 0x80`."""
    call = x32 if gate == "x32" else i386
    kind = family(host)
    descriptor = call(41 if gate == "x32" else 359, kind, socket.SOCK_DGRAM, 0)
    expect(descriptor >= 0, b"there is no such gate")
    name = low(bytes(sockaddr(host, port)))
    payload = low(mark)
    number = 44 if gate == "x32" else 369
    expect(call(number, descriptor, payload, len(mark), 0, name, 28 if ":" in host else 16) > 0, b"it was not sent")


def x32(number, *arguments):
    return LIBC.syscall(number | 0x40000000, *arguments)


def i386(number, *arguments):
    """`int 0x80` with ebx, ecx, edx, esi, edi, ebp as arguments (Intel's syntax in comments)."""
    import mmap

    padded = (list(arguments) + [0] * 6)[:6]
    code = b"\x53\x55"  # push rbx; push rbp
    code += b"\xbb" + struct.pack("I", padded[0] & 0xFFFFFFFF)  # mov ebx, ...
    code += b"\xb9" + struct.pack("I", padded[1] & 0xFFFFFFFF)  # mov ecx, ...
    code += b"\xba" + struct.pack("I", padded[2] & 0xFFFFFFFF)  # mov edx, ...
    code += b"\xbe" + struct.pack("I", padded[3] & 0xFFFFFFFF)  # mov esi, ...
    code += b"\xbf" + struct.pack("I", padded[4] & 0xFFFFFFFF)  # mov edi, ...
    code += b"\xbd" + struct.pack("I", padded[5] & 0xFFFFFFFF)  # mov ebp, ...
    code += b"\xb8" + struct.pack("I", number)  # mov eax, number
    code += b"\xcd\x80\x5d\x5b\xc3"  # int 0x80; pop rbp; pop rbx; ret
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def low(data):
    """A copy below 4 GiB, where a call of 32 bits finds it."""
    LIBC.mmap.restype, LIBC.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p] + [ctypes.c_size_t] * 5
    flags = 0x02 | 0x20 | 0x40  # MAP_PRIVATE, MAP_ANONYMOUS, MAP_32BIT
    address = LIBC.mmap(None, 4096, 3, flags, ctypes.c_size_t(-1).value, 0)
    ctypes.memmove(address, data, len(data))
    return address
