"""Ways out by time: `tricks.py lifecycle.NAME ARGUMENT...`, towards `host`."""

import ctypes
import os
import signal
import socket
import sys
import threading
import time

from tricks import LIBC, TIMEOUT, datagram, expect, stream

# Who is left.


def orphan(host, port, mark):
    """Sends when its parent, and all that waits for it, has ended."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            silence()
            time.sleep(0.3)
            datagram(host).sendto(mark, (host, int(port)))
        os._exit(0)
    os.wait()


def stubborn(host, port, mark):
    """The same again and again, whatever signal comes."""
    if os.fork() == 0:
        os.setsid()
        silence()
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        for _ in range(20):
            time.sleep(0.05)
            try:
                datagram(host).sendto(mark, (host, int(port)))
            except OSError:
                pass
        os._exit(0)


def silence():
    """Lets go of what the launcher might wait for."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)


def executed(host, port, mark):
    flow = datagram(host)
    flow.connect((host, int(port)))
    # A time-out makes a descriptor that does not wait, and the program that inherits it would not either.
    flow.settimeout(None)
    os.set_inheritable(flow.fileno(), True)
    os.dup2(flow.fileno(), 9)
    os.execv("/bin/bash", ["bash", "-c", f"echo {mark.decode()} >&9 && timeout 2 head -n 1 <&9 | grep {mark.decode()}"])


def cloned(host, port, mark):
    """fork(2) by the oldest of its calls, in which a filter might not follow."""
    child = LIBC.syscall(57)
    if child == 0:
        try:
            datagram(host).sendto(mark, (host, int(port)))
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    expect(status == 0, b"the child could not send")


def changed_user(host, port, mark):
    """As every user that one may become."""
    for user in (0, 1, 1000, 65534):
        if os.fork() == 0:
            try:
                os.setgid(user)
                os.setuid(user)
            except OSError:
                pass
            try:
                datagram(host).sendto(mark, (host, int(port)))
            except OSError:
                os._exit(1)
            os._exit(0)
        _, status = os.wait()
    expect(status == 0, b"the child could not send")


def from_memory(host, port, mark):
    """A copy of the shell in memory: memfd_create(2), fexecve(3)."""
    descriptor = os.memfd_create("nothing")
    with open("/bin/bash", "rb") as file:
        os.write(descriptor, file.read())
    script = f"exec 3<> /dev/udp/{host}/{port} && echo {mark.decode()} >&3 && timeout 2 head -n 1 <&3 | grep {mark.decode()}"
    os.execve(descriptor, ["bash", "-c", script], dict(os.environ))


# What was allowed before.


def same_port(host, port, mark, first):
    flow = datagram(first)
    flow.bind(("", 0))
    flow.sendto(b"hello", (first, int(port)))
    expect(flow.recv(4096))
    source = flow.getsockname()[1]
    try:
        flow.sendto(mark, (host, int(port)))
    except OSError:
        pass
    flow.close()
    other = datagram(host)
    other.bind(("", source))
    other.sendto(mark, (host, int(port)))


def after_name(host, port, mark, name):
    socket.getaddrinfo(name.decode(), 443)
    for action in (datagram(host).sendto, lambda data, address: stream(host).connect(address)):
        try:
            action(mark, (host, int(port)))
        except OSError:
            pass


def after_stream(host, port, mark, first):
    """The same port of ours, at once, to somewhere else."""
    flow = socket.create_connection((first, int(port)), TIMEOUT)
    source = flow.getsockname()[1]
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    flow.close()
    other = stream(host)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("", source))
    other.connect((host, int(port)))
    other.send(mark)


# What is done very often.


def crowded(host, port, mark, first):
    flows = []
    for _ in range(600):
        flow = datagram(first)
        flow.connect((first, int(port)))
        flows.append(flow)
    last = datagram(host)
    try:
        last.sendto(mark, (host, int(port)))
    except OSError:
        pass
    for flow in flows[::100]:
        try:
            flow.sendto(mark, (host, int(port)))
        except OSError:
            pass


def insistent(host, port, mark):
    flow = datagram(host)
    for _ in range(5000):
        try:
            flow.sendto(mark, (host, int(port)))
            return
        except OSError:
            pass


def knocking(host, port, mark):
    for _ in range(1000):
        try:
            with stream(host) as flow:
                flow.connect((host, int(port)))
                flow.send(mark)
                return
        except OSError:
            pass


def every_port(host, mark):
    flow = datagram(host)
    for port in range(1, 65536, 7):
        try:
            flow.sendto(mark, (host, port))
        except OSError:
            pass


def many(host, port, mark):
    for _ in range(100):
        if os.fork() == 0:
            try:
                datagram(host).sendto(mark, (host, int(port)))
            finally:
                os._exit(0)
    for _ in range(100):
        os.wait()


def closing(host, port, mark, first):
    """Sockets that end while they are connected and sent by: their numbers are used again."""
    until, numbers = time.monotonic() + 0.3, []

    def ends():
        while time.monotonic() < until:
            flow = datagram(first)
            numbers.append(flow.fileno())
            flow.connect((first, int(port)))
            flow.close()

    def sends():
        payload = ctypes.create_string_buffer(mark)
        from tricks import sockaddr

        name = sockaddr(host, port)
        while time.monotonic() < until:
            for number in numbers[-1:] or [3]:
                LIBC.sendto(number, payload, len(mark), 0, name, len(name))

    threads = [threading.Thread(target=act) for act in (ends, sends, sends)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
