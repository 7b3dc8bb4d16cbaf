"""Just enough io_uring to have the kernel open a socket without socket(2)."""

import ctypes
import mmap
import os
import socket as sockets
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, IO_URING_ENTER = 425, 426
OP_SOCKET = 45
GETEVENTS = 1
SQ_RING, CQ_RING, SQES = 0, 0x8000000, 0x10000000


def socket(family, kind):
    """IORING_OP_SOCKET, as a socket of Python's."""
    parameters = ctypes.create_string_buffer(120)
    ring = check(LIBC.syscall(IO_URING_SETUP, 4, parameters))
    # struct io_uring_params: offsets of struct io_sqring_offsets at 40, io_cqring_offsets at 80
    sq_head, sq_tail, sq_mask, _, _, _, sq_array = struct.unpack_from("7I", parameters, 40)
    _, _, _, _, _, cqes = struct.unpack_from("6I", parameters, 80)
    submissions = mmap.mmap(ring, 4096, offset=SQ_RING)
    completions = mmap.mmap(ring, 4096, offset=CQ_RING)
    entries = mmap.mmap(ring, 4096, offset=SQES)
    # struct io_uring_sqe: opcode, flags, ioprio, fd (family), off (type), addr, len (protocol)
    struct.pack_into("BBHiQQI", entries, 0, OP_SOCKET, 0, 0, family, kind, 0, 0)
    struct.pack_into("I", submissions, sq_array, 0)
    struct.pack_into("I", submissions, sq_tail, 1)
    check(LIBC.syscall(IO_URING_ENTER, ring, 1, 1, GETEVENTS, None, 0))
    _, result = struct.unpack_from("Qi", completions, cqes)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return sockets.socket(fileno=result)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
