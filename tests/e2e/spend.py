"""Spends what it may: sends or connects with several threads at once, and says how far that went.

Prints `sent OCTETS connected FLOWS refused FLOWS cut FLOWS slow FLOWS`.
"""
import socket
import ssl
import sys
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


def address(host, port, kind):
    return socket.getaddrinfo(host, port, socket.AF_INET, kind)[0][4]


def connect(to, tally):
    flow = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    flow.settimeout(PATIENCE)
    try:
        flow.connect(to)
    except OSError:
        tally.add("refused")
        return None
    tally.add("connected")
    return flow


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


def main(how, host, port, threads, amount):
    tally = Tally()
    kind = socket.SOCK_DGRAM if how == "udp" else socket.SOCK_STREAM
    to = address(host, int(port), kind)
    act = {"tcp": tcp, "tls": tls, "race": race, "udp": udp}[how]
    spenders = [
        threading.Thread(target=act, args=(to, int(amount), tally, host)) for _ in range(int(threads))
    ]
    for spender in spenders:
        spender.start()
    for spender in spenders:
        spender.join()
    print(*(f"{what} {count}" for what, count in tally.counts.items()))


main(*sys.argv[1:])
