"""TLS hellos and proxies made by hand (RFC 8446, RFC 6066; RFC 9112)."""

import socket
import ssl
import struct
import threading

from tricks import TIMEOUT, datagram, expect

SERVER_NAME, PADDING, ALPN, VERSIONS, ENCRYPTED_HELLO = 0, 21, 16, 43, 0xFE0D


# Hellos.


def hello(variant, host, port, mark):
    """Sends one of the hellos below, piece by piece, each a segment, and reads what comes back."""
    with connected(host, port) as flow:
        flow.settimeout(0.5)
        try:
            for piece in globals()[variant](mark):
                flow.sendall(piece)
            flow.recv(4096)
        except OSError:
            pass


def cut_everywhere(host, port, name):
    """The same hello in two records and two segments, cut at every third octet."""
    whole = real_hello(name.decode())
    for offset in range(1, len(whole) - 5, 3):
        with connected(host, port) as flow:
            for piece in (whole[5 : 5 + offset], whole[5 + offset :]):
                flow.sendall(record(piece))
            answered(flow)


def held_back(host, port, mark):
    """All but the last octet, and then what should not be sent before the name is judged."""
    whole = real_hello(mark.decode() + ".evil.test")
    with connected(host, port) as flow:
        flow.sendall(whole[:-1])
        flow.settimeout(0.5)
        try:
            flow.recv(1)
        except TimeoutError:
            pass


def padded(host, port, name, length):
    """A hello that is larger than a record, as keys that no quantum computer breaks make it."""
    body = client_hello([server_name(name), extension(PADDING, bytes(int(length)))])
    with connected(host, port) as flow:
        for start in range(0, len(body), 16000):
            flow.sendall(record(body[start : start + 16000]))
        answered(flow)


def two_names(mark):
    names = entry(0, b"ok.test") + entry(0, denied(mark))
    return [record(client_hello([extension(SERVER_NAME, struct.pack("!H", len(names)) + names)]))]


def two_names_reversed(mark):
    names = entry(0, denied(mark)) + entry(0, b"ok.test")
    return [record(client_hello([extension(SERVER_NAME, struct.pack("!H", len(names)) + names)]))]


def two_extensions(mark):
    return [record(client_hello([server_name(b"ok.test"), server_name(denied(mark))]))]


def two_extensions_reversed(mark):
    return [record(client_hello([server_name(denied(mark)), server_name(b"ok.test")]))]


def two_hellos_in_one(mark):
    """A hello for an allowed name, and a second one behind it, before anyone answered."""
    return [record(client_hello([server_name(b"ok.test")]) + client_hello([server_name(denied(mark))]))]


def nul(mark):
    return [record(client_hello([server_name(denied(mark) + b"\0.ok.test")]))]


def nul_reversed(mark):
    return [record(client_hello([server_name(b"ok.test\0." + denied(mark))]))]


def other_type(mark):
    names = entry(7, b"ok.test" + denied(mark)) + entry(0, b"ok.test")
    return [record(client_hello([extension(SERVER_NAME, struct.pack("!H", len(names)) + names)]))]


def long_list(mark):
    """The list says that it is shorter than the name in it."""
    names = entry(0, b"ok.test") + denied(mark)
    return [record(client_hello([extension(SERVER_NAME, struct.pack("!H", 10) + names)]))]


def behind_the_extensions(mark):
    return [record(client_hello([server_name(b"ok.test")], mark))]


def port_in_name(mark):
    return [record(client_hello([server_name(b"ok.test:443" + mark)]))]


def percent(mark):
    return [record(client_hello([server_name(mark + b"%2eok.test")]))]


def space(mark):
    return [record(client_hello([server_name(mark + b" .ok.test")]))]


def no_name(mark):
    return [record(client_hello([protocol(mark)]))]


def no_extensions(mark):
    return [record(client_hello(None, b"", mark.ljust(32, b"z")[:32]))]


def empty_name(mark):
    return [record(client_hello([server_name(b""), protocol(mark)]))]


def address_name(mark):
    return [record(client_hello([server_name(b"10.99.0.10"), protocol(mark)]))]


def encrypted(mark):
    """A denied name outside, and an encrypted hello inside (RFC 9849)."""
    inner = struct.pack("!BHHBH", 0, 1, 1, 7, 32) + bytes(32) + struct.pack("!H", 64) + bytes(64)
    return [record(client_hello([server_name(denied(mark)), extension(ENCRYPTED_HELLO, inner)]))]


def older_version(mark):
    """A hello of SSL 2.0, which older servers took (RFC 5246, appendix E.2)."""
    body = b"\x01\x03\x01" + struct.pack("!HHH", 3, 0, 32) + b"\x00\x00\x2f" + mark.ljust(32, b"z")[:32]
    return [struct.pack("!H", 0x8000 | len(body)) + body]


def alert_first(mark):
    return [b"\x15\x03\x01\x00\x02\x01\x00", record(client_hello([server_name(denied(mark))]))]


def data_first(mark):
    return [record(mark, 23), record(client_hello([server_name(b"ok.test")]))]


def data_between(mark):
    """Application data between the halves of an allowed hello (RFC 8446, section 5.1, forbids it)."""
    body = client_hello([server_name(b"ok.test")])
    return [record(body[:50]), record(mark, 23), record(body[50:])]


def empty_records(mark):
    body = client_hello([server_name(denied(mark))])
    return [record(b""), record(body[:9]), record(b""), record(body[9:])]


def other_handshake(mark):
    """A handshake message that is no hello."""
    return [record(b"\x02" + struct.pack("!I", len(mark))[1:] + mark)]


def huge_length(mark):
    """A hello that says it is larger than anyone reads."""
    return [record(b"\x01\xff\xff\xff\x03\x03" + mark * 20)]


# What hellos are made of.


def client_hello(extensions, rest=b"", random=bytes(32)):
    body = b"\x03\x03" + random + b"\0" + struct.pack("!HHH", 4, 0x1301, 0xC02B) + b"\x01\x00"
    if extensions is not None:
        versions = extension(VERSIONS, b"\x02\x03\x03")
        curves = extension(10, struct.pack("!HH", 2, 23)) + extension(13, struct.pack("!HHH", 4, 0x0403, 0x0804))
        joined = b"".join(extensions) + versions + curves
        body += struct.pack("!H", len(joined)) + joined
    body += rest
    return b"\x01" + struct.pack("!I", len(body))[1:] + body


def server_name(name):
    return extension(SERVER_NAME, struct.pack("!H", len(name) + 3) + entry(0, name))


def entry(kind, name):
    return struct.pack("!BH", kind, len(name)) + name


def protocol(mark):
    return extension(ALPN, struct.pack("!HB", len(mark) + 1, len(mark)) + mark)


def extension(number, data):
    return struct.pack("!HH", number, len(data)) + data


def record(body, kind=22):
    return struct.pack("!BHH", kind, 0x0301, len(body)) + body


def denied(mark):
    return mark + b".evil.test"


def real_hello(name):
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(received, sent, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()


def connected(host, port):
    flow = socket.create_connection((host, int(port)), TIMEOUT)
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return flow


def answered(flow):
    """Whether a server answers the handshake, and does not end it by an alert."""
    expect(flow.recv(4096)[:1] == b"\x16", b"no server answered the hello")


def quic(host, port, mark):
    """What looks like the first packet of a QUIC client (RFC 9000, section 17.2.2)."""
    first = b"\xc3" + struct.pack("!I", 1) + bytes([len(mark)]) + mark + b"\0\0"
    datagram(host).sendto((first + struct.pack("!H", 0x4000 | 1150)).ljust(1200, b"q"), (host, int(port)))


# A proxy that serves whoever asks: what there would be without a fence.


def open_proxy(port):
    door = socket.create_server(("127.0.0.1", int(port)))
    print("ready", flush=True)
    while True:
        asker, _ = door.accept()
        threading.Thread(target=serve, args=(asker,), daemon=True).start()


def serve(asker):
    head = b""
    while b"\r\n\r\n" not in head:
        octets = asker.recv(65536)
        if not octets:
            return
        head += octets
    method, target = head.split(b" ")[:2]
    is_tunnel = method == b"CONNECT"
    authority = target if is_tunnel else target.removeprefix(b"http://").split(b"/")[0]
    # As a proxy in C reads it, which is what tricks with NUL are for.
    name, _, number = authority.split(b"\0")[0].rpartition(b":")
    host, number = (name, number) if number.isdigit() else (authority.split(b"\0")[0], b"443" if is_tunnel else b"80")
    try:
        upstream = socket.create_connection((host.decode().strip("[]"), int(number)), TIMEOUT)
    except OSError:
        asker.close()
        return
    if is_tunnel:
        asker.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        upstream.sendall(head.partition(b"\r\n\r\n")[2])
    else:
        upstream.sendall(head)
    threading.Thread(target=pump, args=(upstream, asker), daemon=True).start()
    pump(asker, upstream)


def pump(source, sink):
    try:
        while octets := source.recv(65536):
            sink.sendall(octets)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
