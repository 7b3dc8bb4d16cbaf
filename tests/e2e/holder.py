#!/usr/bin/python3
"""A process that takes something along into a cgroup: `holder.py WAY CGROUP`.

Gets hold of it as root, joins the cgroup, becomes nobody, says `ready`, and waits for its end. What
is called `..._inside` it gets hold of in the cgroup.
"""

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_FILES, CLONE_NEWNET = 0x400, 0x40000000
KEPT = []


def fresh_tcp():
    KEPT.append(socket.socket(socket.AF_INET))


def fresh_udp():
    KEPT.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))


def raw():
    KEPT.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, 253))


def packet():
    KEPT.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))


def xdp():
    KEPT.append(socket.socket(44, socket.SOCK_RAW))


def uring():
    ring = LIBC.syscall(425, 4, ctypes.create_string_buffer(120))
    assert ring >= 0, os.strerror(ctypes.get_errno())
    return ring


def uring_mapped():
    ring = uring()
    LIBC.mmap.restype = ctypes.c_void_p
    # PROT_READ | PROT_WRITE, MAP_SHARED
    assert LIBC.mmap(None, mmap.PAGESIZE, 3, 1, ring, 0) != ctypes.c_void_p(-1).value
    os.close(ring)


def tun():
    device = os.open("/dev/net/tun", os.O_RDWR)
    # TUNSETIFF, IFF_TUN | IFF_NO_PI
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"holder0", 0x1001))


def in_flight():
    """Sent to itself over a Unix socket, and closed: in no table of descriptors."""
    pair = socket.socketpair()
    KEPT.extend(pair)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
        socket.send_fds(pair[0], [b"x"], [flow.fileno()])


def thread():
    """A table of descriptors that only one thread has."""
    apart = threading.Event()

    def run():
        assert LIBC.unshare(CLONE_FILES) == 0
        KEPT.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        apart.set()
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    apart.wait()


def other_network():
    assert LIBC.unshare(CLONE_NEWNET) == 0


def members(cgroup):
    return open(os.path.join(cgroup, "cgroup.procs"), "w")


def list_of_processes():
    KEPT.append(members(os.path.dirname(sys.argv[2])))


def join():
    with members(sys.argv[2]) as file:
        file.write(str(os.getpid()))


way = globals()[sys.argv[1].removesuffix("_inside")]
for step in [join, way] if sys.argv[1].endswith("_inside") else [way, join]:
    step()
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print("ready", flush=True)
sys.stdin.read()
