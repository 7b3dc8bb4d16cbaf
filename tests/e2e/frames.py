"""Sends frames of its own making.

For each line `HOW HOST PORT COUNT MARK` of its input it looks the host up, sends the frames and says `sent`. They
are `opening` segments of TCP or `idle` ones, without payload, and with the mark where options are; or datagrams,
by `datagram`.
"""
import socket
import struct
import sys

import tricks

# Of a sealed agent's link. Elsewhere, whoever hears it: that it was on the wire is what counts.
GATEWAY, OWN = b"\x0aegr\x00\x01", b"\x0aegr\x00\x02"
OPENING, IDLE = 0x02, 0x10
SOURCE_PORT = 4001


def checksum(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def segment(to, port, flags, mark):
    options = mark.ljust(40)
    ends = tricks.own_address() + to + struct.pack("!BBH", 0, 6, 60)
    words = [SOURCE_PORT, port, 7, 7, 0xF0, flags, 1024, 0, 0]
    words[7] = checksum(ends + struct.pack("!HHIIBBHHH", *words) + options)
    return packet(to, 6, struct.pack("!HHIIBBHHH", *words) + options)


def datagram(to, port, mark):
    return packet(to, 17, struct.pack("!HHHH", SOURCE_PORT, port, 8 + len(mark), 0) + mark)


def packet(to, protocol, octets):
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(octets), 1, 0, 64, protocol, 0) + tricks.own_address() + to
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + octets


def main():
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((tricks.link(), 0))
    own = link.getsockname()[4]
    ethernet = (GATEWAY if own == OWN else b"\xff" * 6) + own + b"\x08\x00"
    for line in sys.stdin:
        how, host, port, count, mark = line.split()
        to = socket.inet_aton(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        made = {
            "opening": lambda: segment(to, int(port), OPENING, mark.encode()),
            "idle": lambda: segment(to, int(port), IDLE, mark.encode()),
            "datagram": lambda: datagram(to, int(port), mark.encode()),
        }[how]()
        for _ in range(int(count)):
            link.send(ethernet + made)
        print("sent", flush=True)


main()
