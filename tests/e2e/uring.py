"""Just enough io_uring to have the kernel open, connect and use a socket without those calls."""

import ctypes
import mmap
import os
import socket as sockets
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, IO_URING_ENTER = 425, 426
OP_SENDMSG, OP_CONNECT, OP_SEND, OP_SOCKET = 9, 16, 26, 45
GETEVENTS = 1
SQ_RING, CQ_RING, SQES = 0, 0x8000000, 0x10000000


def socket(family, kind, protocol=0):
    """IORING_OP_SOCKET, as a socket of Python's."""
    return sockets.socket(fileno=submit(OP_SOCKET, family, kind, 0, protocol))


def connect(flow, name):
    """IORING_OP_CONNECT to a struct sockaddr."""
    submit(OP_CONNECT, flow.fileno(), len(name), ctypes.addressof(name), 0)


def send(flow, data):
    """IORING_OP_SEND."""
    buffer = ctypes.create_string_buffer(data)
    submit(OP_SEND, flow.fileno(), 0, ctypes.addressof(buffer), len(data))


def sendmsg(flow, name, data):
    """IORING_OP_SENDMSG to a struct sockaddr."""
    buffer = ctypes.create_string_buffer(data)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), len(data))
    # struct msghdr: name, its length, vector, its length, control, its length, flags
    header = struct.pack("PI4xPNPNi4x", ctypes.addressof(name), len(name), ctypes.addressof(vector), 1, 0, 0, 0)
    message = ctypes.create_string_buffer(header)
    submit(OP_SENDMSG, flow.fileno(), 0, ctypes.addressof(message), 1)


def submit(operation, descriptor, offset, address, length):
    """One submission in a ring of its own, and what came of it. Returns its result."""
    parameters = ctypes.create_string_buffer(120)
    ring = check(LIBC.syscall(IO_URING_SETUP, 4, parameters))
    # struct io_uring_params: offsets of struct io_sqring_offsets at 40, io_cqring_offsets at 80
    _, sq_tail, _, _, _, _, sq_array = struct.unpack_from("7I", parameters, 40)
    _, _, _, _, _, cqes = struct.unpack_from("6I", parameters, 80)
    submissions = mmap.mmap(ring, 4096, offset=SQ_RING)
    completions = mmap.mmap(ring, 4096, offset=CQ_RING)
    entries = mmap.mmap(ring, 4096, offset=SQES)
    # struct io_uring_sqe: opcode, flags, ioprio, fd, off, addr, len
    struct.pack_into("BBHiQQI", entries, 0, operation, 0, 0, descriptor, offset, address, length)
    struct.pack_into("I", submissions, sq_array, 0)
    struct.pack_into("I", submissions, sq_tail, 1)
    check(LIBC.syscall(IO_URING_ENTER, ring, 1, 1, GETEVENTS, None, 0))
    _, result = struct.unpack_from("Qi", completions, cqes)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
