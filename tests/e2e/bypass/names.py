"""Questions made by hand, octet by octet (RFC 1035, section 4.1)."""

import socket
import struct

from tricks import datagram, expect, stream

A, TXT, TSIG = 1, 16, 250


def send(message, server, mark):
    """Sends one of the messages below, over UDP and over TCP. `plain` has to be answered."""
    octets = globals()[message](mark)
    answers = []
    with datagram(server) as flow:
        flow.settimeout(0.5)
        flow.sendto(octets, (server, 53))
        answers.append(answer(flow))
    with stream(server) as flow:
        flow.settimeout(0.5)
        flow.connect((server, 53))
        flow.sendall(struct.pack("!H", len(octets)) + octets)
        answers.append(answer(flow))
    expect(all(answers), b"not answered")


def plain(mark):
    return header() + name(mark, b"test") + kind()


def two_questions(mark):
    return header(2) + name(b"ok", b"test") + kind() + name(mark, b"evil", b"test") + kind()


def additional(mark):
    return header(additional=1) + allowed() + text(mark)


def answer_section(mark):
    return header(answers=1) + allowed() + text(mark)


def authority(mark):
    return header(authorities=1) + allowed() + text(mark)


def response(mark):
    return header(flags=0x8180, answers=1) + allowed() + text(mark)


def trailing(mark):
    return header() + allowed() + mark


def no_question(mark):
    return header(0, additional=1) + text(mark)


def header_only(mark):
    return mark.ljust(12, b"z")[:12] + mark


def signature(mark):
    """With a key's name that nobody knows (RFC 8945)."""
    data = name(mark) + bytes(6) + struct.pack("!HHHHH", 300, 0, 7, 0, 0)
    return header(additional=1) + allowed() + record(name(mark), TSIG, 255, data)


def nul(mark):
    return header() + name(mark + b"\0", b"ok", b"test") + kind()


def dot(mark):
    return header() + name(mark + b".evil.test", b"ok", b"test") + kind()


def control(mark):
    return header() + name(mark + b"\r\n", b"ok", b"test") + kind()


def eight_bit(mark):
    return header() + name(mark + b"\xff\xfe", b"ok", b"test") + kind()


def space(mark):
    return header() + name(mark + b" x", b"ok", b"test") + kind()


def pointer(mark):
    """The question points behind itself, to where the name really is."""
    return header() + b"\xc0\x12" + kind() + name(mark, b"evil", b"test")


def pointer_loop(mark):
    return header() + bytes([len(mark)]) + mark + b"\xc0\x0c" + kind()


def long_label(mark):
    return header() + name((mark * 8)[:64], b"ok", b"test") + kind()


def extended_label(mark):
    """A bit string label (RFC 2673), which nobody speaks."""
    return header() + b"\x41" + bytes([8 * len(mark)]) + mark + name(b"ok", b"test") + kind()


# In what pieces a message comes, over TCP.


def pipelined(server, name):
    """An allowed question, and the meant one in the same segment."""
    with stream(server) as flow:
        flow.connect((server, 53))
        flow.sendall(framed(b"ok.test") + framed(name))
        expect(answer(flow))


def dribbled(server, name):
    with stream(server) as flow:
        flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flow.connect((server, 53))
        for octet in framed(name):
            flow.sendall(bytes([octet]))
        expect(answer(flow))


def look_up(name):
    """As Python does, which translates names of other scripts (RFC 3490)."""
    socket.getaddrinfo(name.decode(), 80)


# What messages are made of.


def header(questions=1, answers=0, authorities=0, additional=0, flags=0x0100):
    return struct.pack("!6H", 7, flags, questions, answers, authorities, additional)


def name(*labels):
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def kind(number=A):
    return struct.pack("!HH", number, 1)


def allowed():
    return name(b"ok", b"test") + kind()


def text(mark):
    return record(b"\xc0\x0c", TXT, 1, bytes([len(mark)]) + mark)


def record(owner, number, of_class, data):
    return owner + struct.pack("!HHIH", number, of_class, 0, len(data)) + data


def framed(asked):
    message = header() + name(*asked.split(b".")) + kind()
    return struct.pack("!H", len(message)) + message


def answer(flow):
    """Whether something came back that answers: no error, and a record."""
    try:
        octets = flow.recv(4096)
    except OSError:
        return False
    octets = octets if flow.type == socket.SOCK_DGRAM else octets[2:] or flow.recv(4096)
    return len(octets) > 12 and octets[3] & 15 == 0 and octets[6:8] != bytes(2)
