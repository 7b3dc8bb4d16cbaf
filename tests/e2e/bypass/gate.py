"""Flows to a port where a server name is read before anything leaves: hellos written in every way that a
socket takes octets, and octets that try to get around them.

Whoever tries says `heard WHAT SECONDS`: what came back, and how long after the first octet was written.
It succeeds if that is the answer of a server.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import sys
import threading
import time

from bypass.tls import PADDING, client_hello, entry, extension, real_hello, record, server_name
from tricks import LIBC, TIMEOUT, check, expect, stream

ALLOWED = b"ok.test"
ENCRYPTED_HELLO, EARLY_DATA = 0xFE0D, 42
UNSPEC = ctypes.create_string_buffer(16)
MAXSEG, CORK, FASTOPEN, ULP, FASTOPEN_CONNECT = 2, 3, 23, 31, 30
SO_ZEROCOPY, MSG_ZEROCOPY, MSG_FASTOPEN = 60, 0x4000000, 0x20000000


def say(way, version, host, port, name):
    """Says the hello of a real client."""
    with dialled(version, host, port) as flow:
        report(flow, lambda: globals()["by_" + way](flow, real_hello(name.decode())))


def say_large(way, version, host, port, name, size):
    """The same with a hello of `size` octets, its name at the end."""
    with dialled(version, host, port) as flow:
        report(flow, lambda: globals()["by_" + way](flow, large(name, int(size))))


def say_variant(variant, version, host, port, name):
    """The same with a hello that is made by hand."""
    with dialled(version, host, port) as flow:
        report(flow, lambda: flow.sendall(globals()["hello_" + variant](name)))


def say_raw(version, host, port, mark):
    """What is no hello."""
    with dialled(version, host, port) as flow:
        report(flow, lambda: flow.sendall(mark))


def say_little(version, host, port, mark):
    """Three octets that begin no hello."""
    with dialled(version, host, port) as flow:
        report(flow, lambda: flow.sendall(mark[:3]))


def say_after(version, host, port, first, mark):
    """Raw octets on a flow that has said one octet of a hello."""
    with dialled(version, host, port) as flow:
        flow.sendall(b"\x16")
        report(flow, lambda: flow.sendall(mark))


def say_half(version, host, port, name, end):
    """Half a hello, and an end."""
    with dialled(version, host, port) as flow:
        half = real_hello(name.decode())[:-9]

        def act():
            flow.sendall(half)
            if end == "shut":
                flow.shutdown(socket.SHUT_WR)
            else:
                linger = {"reset": (1, 0), "linger": (1, 1)}[end]
                flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", *linger))
                flow.close()

        report(flow, act)


# Ways to write.


def by_whole(flow, hello):
    flow.sendall(hello)


def by_octets(flow, hello):
    in_pieces(flow, hello, 1)


def by_hundreds(flow, hello):
    in_pieces(flow, hello, 100)


def by_thousands(flow, hello):
    in_pieces(flow, hello, 1000)


def by_vector(flow, hello):
    flow.sendmsg([hello[:1], hello[1:7], hello[7:100], hello[100:]])


def by_write(flow, hello):
    expect(os.writev(flow.fileno(), [hello[:3], hello[3:]]) == len(hello))


def by_batch(flow, hello):
    """sendmmsg(2), a piece of the hello a message."""
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pieces = [ctypes.create_string_buffer(piece, len(piece)) for piece in cut(hello, 200)]
    vectors = [(ctypes.c_size_t * 2)(ctypes.addressof(piece), len(piece)) for piece in pieces]
    # struct mmsghdr: name, its length, vector, its length, control, its length, flags, sent
    headers = b"".join(
        struct.pack("PI4xPNPNi4xI4x", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0) for vector in vectors
    )
    check(LIBC.sendmmsg(flow.fileno(), ctypes.create_string_buffer(headers), len(pieces), 0))


def by_more(flow, hello):
    for piece in cut(hello, 90)[:-1]:
        flow.send(piece, socket.MSG_MORE)
    flow.send(cut(hello, 90)[-1])


def by_cork(flow, hello):
    flow.setsockopt(socket.IPPROTO_TCP, CORK, 1)
    in_pieces(flow, hello, 90)
    flow.setsockopt(socket.IPPROTO_TCP, CORK, 0)


def by_file(flow, hello):
    with memory(hello) as file:
        expect(os.sendfile(flow.fileno(), file.fileno(), 0, len(hello)) == len(hello))


def by_splice(flow, hello):
    source, sink = os.pipe()
    os.write(sink, hello)
    expect(os.splice(source, flow.fileno(), len(hello)) == len(hello))


def by_gift(flow, hello):
    give(flow, ctypes.create_string_buffer(hello, len(hello)))


def by_zero_copy(flow, hello):
    flow.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    flow.send(hello, MSG_ZEROCOPY)


def by_not_waiting(flow, hello):
    flow.setblocking(False)
    for piece in cut(hello, 100):
        select.select([], [flow], [], TIMEOUT)
        flow.send(piece)
    flow.setblocking(True)


def by_thread(flow, hello):
    thread = threading.Thread(target=flow.sendall, args=(hello,))
    thread.start()
    thread.join()


def by_child(flow, hello):
    """A child process writes half of it."""
    flow.sendall(hello[:200])
    if os.fork() == 0:
        flow.sendall(hello[200:])
        os._exit(0)
    os.wait()


def by_copy(flow, hello):
    os.write(os.dup(flow.fileno()), hello)


def by_handing_on(flow, hello):
    """A child that gets the socket over a Unix socket writes."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        flow.close()
        _, descriptors, _, _ = socket.recv_fds(theirs, 16, 1)
        os.write(descriptors[0], hello)
        os._exit(0)
    socket.send_fds(ours, [b"one"], [flow.fileno()])
    os.wait()


def by_half_close(flow, hello):
    flow.sendall(hello)
    flow.shutdown(socket.SHUT_WR)


def by_urgent(flow, hello):
    flow.send(hello, socket.MSG_OOB)


def by_urgent_first(flow, hello):
    flow.send(hello[:1], socket.MSG_OOB)
    flow.sendall(hello[1:])


def by_turns(flow, hello):
    """A write to another flow between any two, so that what is held cannot be joined."""
    other = stream("10.99.0.10")
    other.connect(("10.99.0.10", 9000))
    for piece in cut(hello, len(hello) // 30):
        flow.send(piece)
        other.send(b"x" * 300)


def by_reader(flow, hello):
    """A thread is reading before anything is written."""
    reader = threading.Thread(target=lambda: select.select([flow], [], [], TIMEOUT))
    reader.start()
    flow.sendall(hello)
    reader.join()


def by_small_buffer(flow, hello):
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    flow.sendall(hello)


# Hellos made by hand.


def hello_plain(name):
    return record(client_hello([server_name(name)]))


def hello_upper(name):
    return record(client_hello([server_name(name.upper())]))


def hello_dotted(name):
    return record(client_hello([server_name(name + b".")]))


def hello_nul(name):
    return record(client_hello([server_name(name + b"\0.ok.test")]))


def hello_prefixed(name):
    """An allowed name with the denied one's octets behind it, and the length of the denied."""
    return record(client_hello([server_name(ALLOWED + name)]))


def hello_two_names(name):
    names = entry(0, ALLOWED) + entry(0, name)
    return record(client_hello([extension(0, struct.pack("!H", len(names)) + names)]))


def hello_two_extensions(name):
    return record(client_hello([server_name(ALLOWED), server_name(name)]))


def hello_other_type(name):
    names = entry(7, name) + entry(0, ALLOWED)
    return record(client_hello([extension(0, struct.pack("!H", len(names)) + names)]))


def hello_nameless(name):
    return record(client_hello([extension(PADDING, name)]))


def hello_behind(name):
    """An allowed hello, and another one in the same record."""
    return record(client_hello([server_name(ALLOWED)]) + client_hello([server_name(name)]))


def hello_records(name):
    """In two records, which the kernel does not read."""
    body = client_hello([server_name(name)])
    return record(body[:30]) + record(body[30:])


def hello_many(name):
    """With more extensions than the kernel walks."""
    more = [extension(1000 + number, b"") for number in range(60)]
    return record(client_hello([*more, server_name(name)]))


def hello_hidden(name):
    """With Encrypted Client Hello, of which the name is the outer one (RFC 9849, section 5)."""
    inner = struct.pack("!BHHBH", 0, 1, 1, 7, 32) + bytes(32) + struct.pack("!H", 64) + bytes(64)
    return record(client_hello([server_name(name), extension(ENCRYPTED_HELLO, inner)]))


def hello_impatient(name):
    """One that says that early data follows (RFC 8446, section 4.2.10)."""
    return record(client_hello([server_name(name), extension(EARLY_DATA, b"")]))


# Octets that never meet the hooks of a write: those that wait for the flow to be made.


def slept(version, host, port, mark, how):
    """Has a write wait until the flow is made, and then says an allowed hello."""
    flow = unconnected(version, host)
    flow.setblocking(False)
    flow.connect_ex(address(version, host, port))
    if how == "corked":
        flow.setsockopt(socket.IPPROTO_TCP, CORK, 1)
    flow.settimeout(None)
    early = real_hello(mark.decode()) if how == "hello" else mark

    def act():
        flow.sendall(early)
        if how != "hello":
            flow.sendall(real_hello(host))
        if how == "corked":
            flow.setsockopt(socket.IPPROTO_TCP, CORK, 0)

    report(flow, act)


def opened_fast(version, host, port, mark, how):
    """Octets in the SYN (RFC 7413), and an allowed hello behind them."""
    flow = unconnected(version, host)

    def act():
        if how == "message":
            flow.sendto(mark, MSG_FASTOPEN, address(version, host, port))
        else:
            flow.setsockopt(socket.IPPROTO_TCP, FASTOPEN_CONNECT, 1)
            flow.connect(address(version, host, port))
            flow.sendall(mark)
        flow.sendall(real_hello(host))

    report(flow, act)


def opened_by_two(version, host, port, mark):
    """A simultaneous open (RFC 9293, section 3.5): both sides send a SYN. The other side's helper waits for it."""
    flow = unconnected(version, host)
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    flow.bind(("::" if version == "6" else "0.0.0.0", 4777))
    flow.connect(address(version, host, port))
    report(flow, lambda: flow.sendall(mark))


def meets(version, host, port, other):
    """The other side of that: calls from the port that is called, until it is heard."""
    family = socket.AF_INET6 if version == "6" else socket.AF_INET
    print("ready", flush=True)
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as flow:
            flow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            flow.bind((other, int(port)))
            flow.settimeout(TIMEOUT)
            try:
                flow.connect((host, 4777))
                while flow.recv(4096):
                    pass
            except OSError:
                time.sleep(0.01)


def over_paths(version, host, port, mark):
    """Multipath TCP, whose flows are sockets of the kernel's own (RFC 8684)."""
    family = socket.AF_INET6 if version == "6" else socket.AF_INET
    flow = socket.socket(family, socket.SOCK_STREAM, 262)
    flow.settimeout(TIMEOUT)
    flow.connect(address(version, host, port))
    report(flow, lambda: flow.sendall(mark))


# Octets that are not those that were judged.


def partly_pushed(version, host, port, mark, how):
    """An allowed hello of which a part only finds room, and then another name in the rest."""
    other = mark + b".evil.test"
    good, bad = large(b"a" * (len(other) - 8) + b".ok.test", 12000), large(other, 12000)
    expect(len(good) == len(bad))
    flow = unconnected(version, host)
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    if how in ("segments", "grown"):
        flow.setsockopt(socket.IPPROTO_TCP, MAXSEG, 88)
    flow.connect(address(version, host, port))
    flow.setblocking(False)

    def act():
        done, until = flow.send(good, socket.MSG_OOB if how == "urgent" else 0), time.monotonic() + TIMEOUT
        if how == "grown":
            # With room for the rest, the part is not held back for want of it.
            flow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        while done < len(bad) and time.monotonic() < until:
            select.select([], [flow], [], 0.05)
            try:
                done += flow.send(bad[done : done + 500])
            except BlockingIOError:
                pass

    report(flow, act)


def swapped(version, host, port, mark, how):
    """An allowed hello in pages that hold another one when they are sent again."""
    other = mark + b".evil.test"
    good, bad = (record(client_hello([server_name(name)])) for name in (b"a" * (len(other) - 8) + b".ok.test", other))
    flow = dialled(version, host, port)
    pages = memory(good.ljust(4096, b"\0"))
    view = (ctypes.c_char * 4096).from_buffer(mapped(pages))

    def act():
        if how == "file":
            os.sendfile(flow.fileno(), pages.fileno(), 0, len(good))
        elif how == "splice":
            source, sink = os.pipe()
            os.splice(pages.fileno(), sink, len(good), 0)
            os.splice(source, flow.fileno(), len(good))
        elif how == "gift":
            give(flow, view, len(good))
        else:
            flow.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
            vector = (ctypes.c_size_t * 2)(ctypes.addressof(view), len(good))
            header = struct.pack("PI4xPNPNi4x", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0)
            check(LIBC.sendmsg(flow.fileno(), ctypes.create_string_buffer(header), MSG_ZEROCOPY))
        view[: len(bad)] = bad

    report(flow, act)


def behind(version, host, port, mark, how):
    """An allowed hello, and octets behind it before anyone answers."""
    good = real_hello(host)
    more = hello_plain(mark + b".evil.test") if how == "hello" else mark
    with dialled(version, host, port) as flow:

        def act():
            if how == "apart":
                flow.sendall(good)
                flow.sendall(more)
            else:
                flow.sendall(good + more)

        report(flow, act)


def retried(version, host, port, mark, how):
    """A second hello, after the server asked for one (RFC 8446, section 4.1.4)."""
    same, other = hello_plain(host.encode()), hello_plain(mark + b".evil.test")
    changed = b"\x14\x03\x03\x00\x01\x01"
    with dialled(version, host, port) as flow:
        flow.sendall(hello_plain(host.encode()))
        expect(flow.recv(4096)[:1] == b"\x16", b"nobody asks for a second hello")
        flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def act():
            if how == "copied":
                by_zero_copy(flow, other)
                return
            second = {
                "same": same,
                "same_after_change": changed + same,
                "same_by_octets": same,
                "other": other,
                "other_after_change": changed + other,
                "other_by_octets": other,
                "raw": mark,
                "raw_after_change": changed + mark,
                "changes": changed + changed + mark,
                "records": hello_records(mark + b".evil.test"),
                "both": same + other,
                "data": record(mark, 23),
            }[how]
            in_pieces(flow, second, 1 if how.endswith("octets") else len(second))

        report(flow, act)


def reconnected(version, host, port, mark, how):
    """One socket that says an allowed hello, is taken back, and says another one."""
    flow = dialled(version, host, port)
    if how == "half":
        flow.sendall(real_hello(host)[:-20])
    elif how == "whole":
        flow.sendall(real_hello(host))
        expect(flow.recv(4096)[:1] == b"\x16", b"no server answered the first hello")
    check(LIBC.connect(flow.fileno(), UNSPEC, 16))
    flow.connect(address(version, host, port))
    report(flow, lambda: flow.sendall(real_hello(mark.decode() + ".evil.test")))


def redirected(version, host, first, port, mark):
    """One that was connected where nothing has to be named."""
    flow = dialled(version, host, first)
    flow.sendall(b"hello")
    expect(flow.recv(4096) == b"hello")
    check(LIBC.connect(flow.fileno(), UNSPEC, 16))
    flow.connect(address(version, host, port))
    report(flow, lambda: flow.sendall(mark))


def reformed(host, port, mark):
    """An IPv6 socket that becomes an IPv4 one, with the functions of one: IPV6_ADDRFORM."""
    flow = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    flow.settimeout(TIMEOUT)
    flow.connect(("::ffff:" + address("4", host, port)[0], int(port)))
    try:
        flow.setsockopt(socket.IPPROTO_IPV6, 1, struct.pack("i", socket.AF_INET))
    except OSError:
        pass
    report(flow, lambda: flow.sendall(mark))


def layered(version, host, port, mark):
    """A socket that is asked to encrypt by itself (TCP_ULP), and so has other functions."""
    with dialled(version, host, port) as flow:
        try:
            flow.setsockopt(socket.IPPROTO_TCP, ULP, b"tls")
        except OSError:
            pass
        report(flow, lambda: flow.sendall(mark))


def raced(version, host, port, mark):
    """Two threads write at once: one an allowed hello, one another, octet by octet and whole."""
    # Nothing is in the allowed one that could take octets of the other and stay what it is, as padding could.
    good, bad = hello_plain(host.encode()), real_hello(mark.decode() + ".evil.test")
    for number in range(60):
        with dialled(version, host, port) as flow:
            flow.settimeout(0.2)
            writers = [(good, 1 + number % 7 * 100), (bad, 1 + number % 5 * 100)]
            threads = [threading.Thread(target=quietly, args=(in_pieces, flow, *writer)) for writer in writers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def ringed(version, host, port, mark):
    """Through an io_uring, whose writes no filter of calls sees."""
    import uring

    flow = dialled(version, host, port)
    report(flow, lambda: uring.send(flow, mark))


def offered(version, host, port, path):
    """Has a flow that said nothing yet, and hands it to whoever asks at `path`."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(path)
    os.chmod(path, 0o777)
    door.listen()
    flow = dialled(version, host, port)
    print("ready", flush=True)
    asker, _ = door.accept()
    socket.send_fds(asker, [b"one"], [flow.fileno()])
    asker.recv(1)


def taken(path, mark):
    """Writes to a flow that another process made."""
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(TIMEOUT)
    door.connect(path)
    _, descriptors, _, _ = socket.recv_fds(door, 16, 1)
    flow = socket.socket(fileno=descriptors[0])
    flow.settimeout(TIMEOUT)
    report(flow, lambda: flow.sendall(real_hello(mark.decode() + ".evil.test")))


def idle(version, host, port):
    """Says nothing, and ends."""
    dialled(version, host, port).close()


# Very many.


def storm(version, host, port, count, how):
    """Flows that each say a hello and hear an answer; every other one is reset, some end in the middle."""
    good, served = real_hello(host), 0
    for number in range(int(count)):
        if number % 500 == 0:
            to = address(version, host, port)  # Its grant expires.
        flow = unconnected(version, host)
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        flow.connect(to)
        if how == "mixed" and number % 10 == 3:
            flow.send(good[:100])
        elif how == "mixed" and number % 10 == 7:
            flow.send(good)
        else:
            flow.send(good)
            served += flow.recv(16)[:1] == b"\x16"
        flow.close()
    print(served, flush=True)


def hold(version, host, port, count):
    """Flows that are held until the end of its input, by threes: silent, in the middle of a hello, answered."""
    kept, good = [], real_hello(host)
    for number in range(int(count)):
        flow = dialled(version, host, port)
        if number % 3 > 0:
            flow.send(good if number % 3 == 2 else good[:100])
        if number % 3 == 2:
            expect(flow.recv(16)[:1] == b"\x16")
        kept.append(flow)
    print("holding", flush=True)
    os.read(0, 1)


# For a talker.


def keep_gated(host, port, name):
    """Keeps a flow that has named its server and heard from it."""
    KEPT[name] = dialled("4", host, port)
    KEPT[name].sendall(real_hello(name.decode()))
    expect(KEPT[name].recv(4096)[:1] == b"\x16", b"no server answered the hello")


def say_gated(name, mark):
    """Says something more on it, and waits for the echo."""
    KEPT[name].sendall(mark)
    expect(mark in KEPT[name].recv(4096), b"no echo")


def hears_the_end(name):
    """Waits until it is told that the flow is over, and says nothing itself."""
    flow = KEPT[name]
    try:
        expect(flow.recv(4096)[:1] in (b"", b"\x15"), b"the flow goes on")
    except ConnectionError:
        pass


KEPT = {}


# What they are made of.


def report(flow, act):
    start = time.monotonic()
    try:
        act()
        heard = listen(flow)
    except OSError as error:
        heard = errno.errorcode.get(error.errno, type(error).__name__)
    if sys.argv[1] != "serve":
        print("heard", heard, f"{time.monotonic() - start:.3f}", flush=True)
    expect(heard == "answer", heard.encode())


def listen(flow):
    if flow.fileno() < 0:
        return "end"
    flow.settimeout(TIMEOUT)
    try:
        octets = flow.recv(4096)
    except TimeoutError:
        return "nothing"
    return {b"": "end", b"\x15": "alert", b"\x16": "answer"}.get(octets[:1], "octets")


def dialled(version, host, port):
    flow = unconnected(version, host)
    flow.connect(address(version, host, port))
    return flow


def unconnected(version, host):
    flow = socket.socket(socket.AF_INET6 if version == "6" else socket.AF_INET, socket.SOCK_STREAM)
    flow.settimeout(TIMEOUT)
    return flow


def address(version, host, port):
    """By a lookup, which is what opens it."""
    family = socket.AF_INET6 if version == "6" else socket.AF_INET
    return socket.getaddrinfo(host, int(port), family, socket.SOCK_STREAM)[0][4]


def large(name, size):
    """A hello of `size` octets, its name at the end, as a key that no quantum computer breaks makes it."""
    rest = len(record(client_hello([extension(PADDING, b""), server_name(name)])))
    return record(client_hello([extension(PADDING, bytes(max(size - rest, 0))), server_name(name)]))


def cut(octets, length):
    return [octets[start : start + length] for start in range(0, len(octets), length)]


def in_pieces(flow, octets, length):
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in cut(octets, length):
        flow.sendall(piece)


def quietly(act, *arguments):
    try:
        act(*arguments)
    except OSError:
        pass


def memory(octets):
    file = os.fdopen(os.memfd_create("hello"), "w+b", 0)
    file.write(octets)
    return file


def mapped(file):
    import mmap

    return mmap.mmap(file.fileno(), 4096)


def give(flow, octets, length=None):
    """Gives pages to a pipe, and the pipe to the flow: vmsplice(2), SPLICE_F_GIFT."""
    length = length or len(octets)
    source, sink = os.pipe()
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(octets), length)
    check(LIBC.vmsplice(sink, vector, 1, 8))
    expect(os.splice(source, flow.fileno(), length) == length)
