#!/usr/bin/python3
"""Tries flows, and says which of them passed: `flows.py` reads a line `PROTOCOL HOST PORT` for each from its
input, and answers each with `allow` or `deny`. A flow passed when its server answered."""

import socket
import ssl
import sys

TIMEOUT = 2
MARK = b"are you there?"


def tcp(host, port):
    with socket.create_connection((host, port), TIMEOUT) as stream:
        stream.sendall(MARK)
        return stream.recv(100) == MARK


def udp(host, port):
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as datagrams:
        datagrams.settimeout(TIMEOUT)
        datagrams.connect(address)
        datagrams.send(MARK)
        return datagrams.recv(100) == MARK


def tls(host, port):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, port), TIMEOUT) as stream:
        with context.wrap_socket(stream, server_hostname=host) as flow:
            return flow.version() is not None


def http(host, port):
    with socket.create_connection((host, port), TIMEOUT) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
        status = stream.recv(100).split(b" ")[1]
        return status == b"200"


PROTOCOLS = {"tcp": tcp, "udp": udp, "tls": tls, "http": http}

for line in sys.stdin:
    protocol, host, port = line.split()
    try:
        passed = PROTOCOLS[protocol](host, int(port))
    except OSError:
        passed = False
    print("allow" if passed else "deny", flush=True)
