"""Spends what it may: sends or connects with several threads at once, and says how far that went.

`VIA=connect` or `VIA=socks` in the environment has it ask the proxy of `http_proxy` for a tunnel. Prints `sent OCTETS connected FLOWS refused FLOWS cut FLOWS slow FLOWS`.
"""
import os
import socket
import ssl
import sys
import tempfile
import threading
import time

CHUNK = 8 * 1024
PATIENCE = 10


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(["sent", "connected", "refused", "cut", "slow"], 0)

    def add(self, what, amount=1):
        with self.lock:
            self.counts[what] += amount


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def address(host, port, kind):
    if VIA:
        return host, port
    return socket.getaddrinfo(host, port, family(host), kind)[0][4]


def connect(to, tally):
    proxy = os.environ["http_proxy"].removeprefix("http://").rpartition(":") if VIA else None
    nearest = (proxy[0], int(proxy[2])) if VIA else to
    flow = socket.socket(family(nearest[0]), socket.SOCK_STREAM)
    flow.settimeout(PATIENCE)
    try:
        flow.connect(nearest)
        if VIA:
            TUNNELS[VIA](flow, *to)
    except OSError:
        tally.add("refused")
        return None
    tally.add("connected")
    return flow


def by_connect(flow, host, port):
    flow.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        more = flow.recv(1)
        if not more:
            raise OSError("no answer")
        answer += more
    if b" 200 " not in answer.split(b"\r\n")[0]:
        raise OSError(answer.decode())


def by_socks(flow, host, port):
    """RFC 1928, section 4: an address of either family, or a name."""
    flow.sendall(b"\x05\x01\x00")
    exactly(flow, 2)
    if host.replace(".", "").isdigit():
        where = b"\x01" + socket.inet_aton(host)
    elif ":" in host:
        where = b"\x04" + socket.inet_pton(socket.AF_INET6, host)
    else:
        where = b"\x03" + bytes([len(host)]) + host.encode()
    flow.sendall(b"\x05\x01\x00" + where + port.to_bytes(2, "big"))
    answer = exactly(flow, 4)
    exactly(flow, {1: 4, 4: 16}[answer[3]] + 2)
    if answer[1] != 0:
        raise OSError(f"refused with {answer[1]}")


def exactly(flow, length):
    octets = b""
    while len(octets) < length:
        more = flow.recv(length - len(octets))
        if not more:
            raise OSError("no answer")
        octets += more
    return octets


VIA = os.environ.get("VIA")
TUNNELS = {"connect": by_connect, "socks": by_socks}


def hello(name):
    """A ClientHello of a real client."""
    written = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), written, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return written.read()


def send(flow, octets, tally):
    """Sends, and reads what comes back lest the other side stops reading."""
    start = time.monotonic()
    try:
        left = octets
        while left > 0:
            sent = flow.send(b"x" * min(left, CHUNK))
            tally.add("sent", sent)
            left -= sent
            flow.setblocking(False)
            try:
                while flow.recv(65536):
                    pass
            except BlockingIOError:
                pass
            flow.settimeout(PATIENCE)
        flow.shutdown(socket.SHUT_WR)
        while flow.recv(65536):
            pass
    except TimeoutError:
        tally.add("slow")
    except OSError:
        tally.add("cut")
    if time.monotonic() - start > PATIENCE:
        tally.add("slow")


def tcp(to, octets, tally, _name):
    flow = connect(to, tally)
    if flow:
        send(flow, octets, tally)


def tls(to, octets, tally, name):
    """A flow that names its server, which answers a hello with anything."""
    flow = connect(to, tally)
    if not flow:
        return
    try:
        flow.sendall(hello(name))
        answer = flow.recv(65536)
    except OSError:
        answer = b""
    # An alert is none of a server that was asked for a name.
    if not answer or answer[0] == 21:
        return tally.add("refused")
    send(flow, octets, tally)


def race(to, count, tally, _name):
    for _ in range(count):
        flow = connect(to, tally)
        if flow:
            flow.close()


def udp(to, octets, tally, _name):
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(octets // 1000):
        try:
            tally.add("sent", flow.sendto(b"x" * 1000, to))
        except OSError:
            return tally.add("refused")


# The same octets by other system calls, of one flow each.


def one(to, octets, tally, by):
    flow = connect(to, tally)
    if flow:
        try:
            by(flow, octets)
            tally.add("sent", octets)
            flow.shutdown(socket.SHUT_WR)
            while flow.recv(65536):
                pass
        except OSError:
            tally.add("cut")


def filled(octets):
    file = tempfile.TemporaryFile()
    file.write(b"x" * octets)
    file.seek(0)
    return file


def by_sendfile(flow, octets):
    flow.sendfile(filled(octets))


def by_splice(flow, octets):
    end, start = os.pipe()
    with filled(octets) as file:
        while octets > 0:
            held = os.splice(file.fileno(), start, min(octets, 4096))
            octets -= held
            while held > 0:
                held -= os.splice(end, flow.fileno(), held)


def by_zerocopy(flow, octets):
    SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
    flow.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    while octets > 0:
        octets -= flow.send(b"x" * min(octets, CHUNK), MSG_ZEROCOPY)


def by_pieces(flow, octets):
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(octets // 100):
        flow.sendmsg([b"x" * 60, b"x" * 40])


def fastopen(to, octets, tally, _name):
    flow = socket.socket(family(to[0]), socket.SOCK_STREAM)
    # Without a time-out, that Python sets: the kernel then says how much it took.
    sent = flow.sendto(b"x" * octets, socket.MSG_FASTOPEN, to)
    flow.sendall(b"x" * (octets - sent))
    tally.add("sent", octets)
    flow.shutdown(socket.SHUT_WR)
    while flow.recv(65536):
        pass


def udp_connected(to, octets, tally, _name):
    flow = socket.socket(family(to[0]), socket.SOCK_DGRAM)
    flow.connect(to)
    for _ in range(octets // 1000):
        tally.add("sent", flow.send(b"x" * 1000))


def udp_segments(to, octets, tally, _name):
    """One system call, and one packet until the kernel cuts it."""
    UDP_SEGMENT = 103
    flow = socket.socket(family(to[0]), socket.SOCK_DGRAM)
    flow.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    tally.add("sent", flow.sendto(b"x" * octets, to))


def same_port(to, count, tally, _name):
    """Flows from one port, each of which a reset ends."""
    for _ in range(count):
        flow = socket.socket(family(to[0]), socket.SOCK_STREAM)
        flow.settimeout(PATIENCE)
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        flow.bind(("", 4000))
        try:
            flow.connect(to)
            tally.add("connected")
        except OSError:
            tally.add("refused")
        flow.close()


def ways():
    calls = {"sendfile": by_sendfile, "splice": by_splice, "zerocopy": by_zerocopy, "pieces": by_pieces}
    return {way: lambda to, octets, tally, _, by=by: one(to, octets, tally, by) for way, by in calls.items()}


ACTS = {
    "tcp": tcp,
    "tls": tls,
    "race": race,
    "udp": udp,
    "fastopen": fastopen,
    "udp_connected": udp_connected,
    "udp_segments": udp_segments,
    "same_port": same_port,
    **ways(),
}


def main(how, host, port, threads, amount):
    tally = Tally()
    kind = socket.SOCK_DGRAM if how.startswith("udp") else socket.SOCK_STREAM
    to = address(host, int(port), kind)
    act = ACTS[how]
    spenders = [
        threading.Thread(target=act, args=(to, int(amount), tally, host)) for _ in range(int(threads))
    ]
    for spender in spenders:
        spender.start()
    for spender in spenders:
        spender.join()
    print(*(f"{what} {count}" for what, count in tally.counts.items()))


main(*sys.argv[1:])
