"""Ways into the kernel, or to processes outside, that are no sockets of IP. `tricks.py` runs them."""

import ctypes
import os
import select
import socket

TIMEOUT = 2
LIBC = ctypes.CDLL(None, use_errno=True)
KINDS = {"stream": socket.SOCK_STREAM, "packets": socket.SOCK_SEQPACKET, "datagrams": socket.SOCK_DGRAM}


def make_socket(number, kind, protocol):
    socket.socket(int(number), int(kind), int(protocol)).close()


def make_ring():
    parameters = ctypes.create_string_buffer(120)
    demand(LIBC.syscall(425, 4, parameters))  # io_uring_setup(2)


def make_map():
    """BPF_MAP_CREATE: an array of one entry of eight octets."""
    attributes = (ctypes.c_uint32 * 18)(2, 4, 8, 1)
    bpf = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    demand(LIBC.syscall(bpf, 0, attributes, ctypes.sizeof(attributes)))


def open_device(path):
    os.close(os.open(path, os.O_RDWR))


def set_option(number, level, option, value):
    """Sets an option of a TCP socket that is connected, for some are of no use to others."""
    family = socket.AF_INET6 if number == "6" else socket.AF_INET
    with socket.create_server(("::1" if number == "6" else "127.0.0.1", 0), family=family) as door:
        flow = socket.socket(family, socket.SOCK_STREAM)
        if option != "31":  # TCP_ULP
            return flow.setsockopt(int(level), int(option), bytes.fromhex(value))
        flow.setblocking(False)
        flow.connect_ex(door.getsockname())
        flow.setsockopt(int(level), int(option), bytes.fromhex(value))


def foreign_source(host, port, mark, source):
    """Sends from an address that this host does not have, by the one option that takes no privilege."""
    flow = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    flow.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
    flow.bind((source, 0))
    flow.sendto(mark, (host, int(port)))


def foreign_source_of_one_packet(host, port, mark, source):
    flow = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    flow.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: one flag for both families
    information = socket.inet_pton(socket.AF_INET6, source) + bytes(4)
    flow.sendmsg([mark], [(socket.IPPROTO_IPV6, 50, information)], 0, (host, int(port)))  # IPV6_PKTINFO


def deputy(label, host):
    """Waits at abstract names, and sends what it is told to `host`: any proxy of the desktop's."""
    doors = {kind: bound(label, kind) for kind in KINDS}
    for kind in ("stream", "packets"):
        doors[kind].listen()
    print("ready", flush=True)
    while True:
        for door in select.select(list(doors.values()), [], [])[0]:
            if door is doors["datagrams"]:
                tell(door.recv(4096), host)
                continue
            flow, _ = door.accept()
            flow.settimeout(TIMEOUT)
            tell(flow.recv(4096), host)


def tell(words, host):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(words, (host, 9000))


def ask(label, kind, mark):
    """Tells the deputy what to send."""
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as flow:
        flow.connect(at(label, kind))
        flow.send(mark)


def ask_unconnected(label, mark):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flow:
        flow.sendto(mark, at(label, "datagrams"))


def speak_to_oneself(label, mark):
    """Abstract names, paths and pairs between processes of one agent, each kind in turn."""
    for kind in KINDS:
        for address in (at(label, kind), "/tmp/" + label + kind):
            speak(kind, address, mark)
        one, other = socket.socketpair(socket.AF_UNIX, KINDS[kind])
        one.send(mark)
        demand(0 if other.recv(4096) == mark else -1)


def speak(kind, address, mark):
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as door:
        door.settimeout(TIMEOUT)
        door.bind(address)
        if kind != "datagrams":
            door.listen()
        child = os.fork()
        if child == 0:
            flow = socket.socket(socket.AF_UNIX, KINDS[kind])
            flow.connect(address)
            flow.send(mark)
            os._exit(0)
        flow = door if kind == "datagrams" else door.accept()[0]
        demand(0 if flow.recv(4096) == mark else -1)
        os.waitpid(child, 0)
    if isinstance(address, str):
        os.unlink(address)


def bound(label, kind):
    door = socket.socket(socket.AF_UNIX, KINDS[kind])
    door.bind(at(label, kind))
    return door


def at(label, kind):
    """A path, or else an abstract name."""
    return (b"" if label.startswith("/") else b"\0") + label.encode() + kind.encode()


def demand(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
