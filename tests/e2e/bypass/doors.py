"""Doors that are not packets of the agent's own, and who waits behind them."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import tempfile
import textwrap

from tricks import LIBC, check, datagram, expect, family, ipv4_datagram, link

# How long whoever waits outside outlives the trick, in seconds.
PATIENCE = 15


# Outside.


def hand_out(kind, path, host, port):
    """Gives everyone who asks a socket: connected for datagrams, fresh for streams."""
    door = listen(path)
    if os.fork():
        os._exit(0)
    signal.alarm(PATIENCE)
    while True:
        asker, _ = door.accept()
        with socket.socket(family(host), socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as given:
            if kind == "udp":
                given.connect((host, int(port)))
            socket.send_fds(asker, [b"x"], [given.fileno()])
        asker.close()


def bus(path, host):
    """A message bus with one service, which sends a text that whoever asks may set."""
    os.makedirs("/run/services")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open("/run/services/lab.Sender.service", "w").write(textwrap.dedent(f"""\
        [D-BUS Service]
        Name=lab.Sender
        Exec=/bin/bash -c "echo $TEXT > /dev/udp/{host}/9000"
        """))
    open("/run/bus.conf", "w").write(textwrap.dedent(f"""\
        <busconfig>
          <type>session</type>
          <listen>unix:path={path}</listen>
          <servicedir>/run/services</servicedir>
          <policy context="default">
            <allow user="*"/> <allow send_destination="*" eavesdrop="true"/>
            <allow eavesdrop="true"/> <allow own="*"/>
          </policy>
        </busconfig>
        """))
    daemon = ["timeout", str(PATIENCE), "dbus-daemon", "--config-file=/run/bus.conf", "--nofork"]
    subprocess.Popen(daemon, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.exists(path):
        pass
    os.chmod(path, 0o666)


def lend_tun(descriptor, *words):
    """A tunnel device whose packets the host forwards."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"lent", 0x1001))  # TUNSETIFF, no headers
    os.system("ip link set lent up; ip address add 172.30.0.1/24 dev lent")
    open("/proc/sys/net/ipv4/ip_forward", "w").write("1")
    lend(device, descriptor, words)


def lend_frames(descriptor, *words):
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    frames.bind((link(), 0x0800))
    lend(frames.fileno(), descriptor, words)


def lend(what, descriptor, words):
    """Becomes the trick, which inherits `what` as `descriptor`."""
    os.dup2(what, int(descriptor))
    os.execvp(words[0], words)


def listen(path):
    door = socket.socket(socket.AF_UNIX)
    door.bind(name_of(path))
    if path[0] == "/":
        os.chmod(path, 0o666)
    door.listen()
    return door


def name_of(path):
    return "\0" + path[1:] if path[0] == "@" else path


# Inside: doors.


def receive(path, mark):
    """Takes a connected socket that a process outside hands in (unix(7), SCM_RIGHTS)."""
    handed(path).send(mark)


def receive_fresh(path, host, port, mark):
    """The same with a socket that was never connected."""
    flow = handed(path)
    flow.settimeout(2)
    flow.connect((host, int(port)))
    flow.sendall(mark)


def handed(path):
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(2)
    door.connect(name_of(path))
    _, descriptors, _, _ = socket.recv_fds(door, 16, 1)
    return socket.socket(fileno=descriptors[0])


def take_any(host, port, mark):
    """Takes a copy of each UDP socket of each process that can be named: pidfd_getfd(2)."""
    numbers = {int(name) for name in os.listdir("/proc") if name.isdigit()} | set(range(1, 65536))
    for number in numbers - {os.getpid()}:
        pidfd = LIBC.syscall(434, number, 0)  # pidfd_open
        if pidfd < 0:
            continue
        copy = LIBC.syscall(438, pidfd, 7, 0)  # pidfd_getfd
        os.close(pidfd)
        if copy >= 0:
            try:
                taken = socket.socket(fileno=copy)
                if taken.getpeername()[:2] == (host, int(port)) and not is_elsewhere(number):
                    taken.send(mark)
            except OSError:
                pass


def is_elsewhere(number):
    """Whether a process is known to live in another network: in that of the twin that runs meanwhile."""
    try:
        return os.readlink(f"/proc/{number}/ns/net") != os.readlink("/proc/self/ns/net")
    except OSError:
        return False


def among_own():
    """Two processes of one agent, and a Unix socket of each kind between them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (folder + "/socket", f"\0egressd-lab-own-{os.getpid()}"):
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(name)
                door.listen()
                if os.fork() == 0:
                    with socket.socket(socket.AF_UNIX) as asker:
                        asker.connect(name)
                        asker.sendall(b"hello")
                    os._exit(0)
                expect(door.accept()[0].recv(16) == b"hello")


def vsock_loopback():
    """Whether virtual sockets lead to this very machine, so that somebody may wait there."""
    door = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    door.bind((socket.VMADDR_CID_ANY, 1234))
    door.listen()
    asker = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    asker.settimeout(2)
    asker.connect((1, 1234))


def request_key(name):
    """Has the kernel look up a name by a program of the host: keyctl(2), request_key(2)."""
    check(LIBC.syscall(249, b"dns_resolver", name, b"", -2))


# Inside: what was lent.


def write_packet(descriptor, host, mark):
    os.write(int(descriptor), ipv4_datagram(host, mark, b"\xac\x1e\x00\x02"))


def send_frame(descriptor, host, mark):
    os.write(int(descriptor), b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + ipv4_datagram(host, mark))


# Inside: cgroups and namespaces.


def born_elsewhere(host, port, mark):
    """clone3(2) with CLONE_INTO_CGROUP, into every cgroup above."""
    for line in open("/proc/mounts"):
        _, point, kind = line.split()[:3]
        if kind != "cgroup2":
            continue
        folder = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
        arguments = struct.pack("11Q", 0x200000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, folder)
        if LIBC.syscall(435, arguments, len(arguments)) == 0:
            try:
                datagram(host).sendto(mark, (host, int(port)))
            finally:
                os._exit(0)


def socket_before_namespace(host, port, mark):
    """A socket keeps the network namespace of its birth, and an agent may leave for another."""
    flow = datagram(host)
    LIBC.unshare(0x10000000 | 0x40000000)  # CLONE_NEWUSER, CLONE_NEWNET
    flow.sendto(mark, (host, int(port)))


# Inside: neighbours.


def advertise(mark):
    """A router advertisement (RFC 4861, section 4.2) with a search list (RFC 8106) to tell it by."""
    flow = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    flow.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    flow.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(link()))
    names = (bytes([len(mark)]) + mark + b"\0").ljust(32, b"\0")
    search = struct.pack("!BBHI", 31, 1 + len(names) // 8, 0, 1800) + names
    flow.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + search, ("ff02::1", 0))


def offer(mark):
    """A DHCP offer (RFC 2131), from the port of servers, to everyone on the link."""
    flow = datagram("10.99.0.255")
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    flow.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link().encode())
    flow.sendto(struct.pack("!BBBB", 2, 1, 6, 0) + mark.ljust(232, b"\0") + b"\x63\x82\x53\x63\xff", ("255.255.255.255", 68))


def claim(host):
    """An ARP answer that nobody asked for (RFC 5227, section 3)."""
    flow = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    flow.bind((link(), 0x0806))
    address = socket.inet_aton(host)
    own = b"\x02\0\0\0\0\x42"
    flow.send(b"\xff" * 6 + own + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2) + own + address + b"\xff" * 6 + address)
