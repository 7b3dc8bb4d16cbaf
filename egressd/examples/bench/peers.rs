//! Resolvers that others wrote, answering from their caches on the host of the lab.

use crate::{
    lab::Lab,
    places::DNS,
    program::{self, Program},
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

/// A resolver that runs until it is dropped.
pub struct Peer {
    pub name: &'static str,
    pub address: SocketAddr,
    pub program: Program,
}

/// Starts all of them with so many threads, and returns when they answer.
pub fn start(lab: &Lab, threads: usize) -> Vec<Peer> {
    let peers = vec![unbound(lab, threads), dnsdist(lab, threads)];
    peers.iter().for_each(|peer| wait_for(lab, peer));
    peers
}

fn unbound(lab: &Lab, threads: usize) -> Peer {
    let address = at(5301);
    let configuration = lab.folder().join(format!("unbound-{threads}.conf"));
    let text = format!(
        "server:\n  interface: {}@{}\n  num-threads: {threads}\n  so-reuseport: yes\n  do-daemonize: no\n  \
         chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  \
         module-config: \"iterator\"\n  do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  local-zone: \"test.\" nodefault\n\
         forward-zone:\n  name: \".\"\n  forward-addr: {}\nremote-control:\n  control-enable: no\n",
        address.ip(),
        address.port(),
        DNS.v4
    );
    fs::write(&configuration, text).expect("a configuration can be written");
    let mut command = lab.bare_command("unbound");
    command.args(["-d", "-p", "-c"]).arg(configuration);
    Peer { name: "unbound", address, program: Program::start(command) }
}

fn dnsdist(lab: &Lab, threads: usize) -> Peer {
    let address = at(5302);
    let configuration = lab.folder().join(format!("dnsdist-{threads}.conf"));
    // A listener is a thread.
    let listeners: String =
        (0..threads).map(|_| format!("addLocal(\"{address}\", {{reusePort=true}})\n")).collect();
    let text = format!(
        "setSecurityPollSuffix(\"\")\n{listeners}newServer({{address=\"{}:53\", checkInterval=10}})\n\
         getPool(\"\"):setCache(newPacketCache(10000))\n",
        DNS.v4
    );
    fs::write(&configuration, text).expect("a configuration can be written");
    let mut command = lab.bare_command("dnsdist");
    command.args(["--supervised", "--disable-syslog", "-C"]).arg(configuration);
    Peer { name: "dnsdist", address, program: Program::start(command) }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn wait_for(lab: &Lab, peer: &Peer) {
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x02ok\x04test\0\0\x01\0\x01";
    lab.on_host(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket can be bound");
        let time = Some(Duration::from_millis(100));
        socket.set_read_timeout(time).expect("a socket takes a time-out");
        program::poll(peer.name, || {
            socket.send_to(query, peer.address).ok()?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer).ok()?;
            // With one answer.
            (length > query.len() && answer[3] & 0xf == 0 && answer[7] == 1).then_some(())
        });
    });
}
