//! Proxies that others wrote, each of which passes a flow on by the server name that it peeks. Clients dial
//! them, which spares them the redirect that a transparent proxy needs.

use super::{NAME, SERVER, WEB};
use crate::{
    lab::Lab,
    places::DNS,
    program::{self, Program},
};
use nix::sys::resource::{Resource, getrlimit};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
};

/// A proxy that runs until it is dropped.
pub struct Peer {
    pub name: &'static str,
    /// For [`SERVER`], and for [`WEB`].
    pub doors: [SocketAddr; 2],
    /// Clients ask for the destination first.
    pub takes_connect: bool,
    pub program: Program,
}

/// Starts all of them on the lab's host, and returns when they listen. Those that `log` write their ordinary
/// line for each flow to a file, as they do where somebody wants to know afterwards who went where.
pub fn start(lab: &Lab, log: bool) -> Vec<Peer> {
    let peers = vec![haproxy(lab, log), nginx(lab, log), squid(lab, log)];
    for peer in &peers {
        lab.on_host(|| program::poll(peer.name, || TcpStream::connect(peer.doors[0]).ok()));
    }
    peers
}

fn haproxy(lab: &Lab, log: bool) -> Peer {
    let doors = [at(1443), at(1444)];
    // What it says goes to a file.
    let [to, what] =
        if log { ["  log stdout format raw local0\n", "  log global\n  option tcplog\n"] } else { [""; 2] };
    let mut text = format!(
        "global\n  maxconn {}\n  maxpipes 128\n  nbthread 2\n{to}defaults\n  mode tcp\n{what}  \
         option splice-auto\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n",
        most_flows()
    );
    for (number, (door, upstream)) in doors.iter().zip([SERVER, WEB]).enumerate() {
        text += &format!(
            "frontend f{number}\n  bind {door}\n  tcp-request inspect-delay 5s\n  \
             tcp-request content accept if {{ req.ssl_sni -i {NAME} }}\n  tcp-request content reject\n  \
             default_backend b{number}\nbackend b{number}\n  server s {upstream}\n"
        );
    }
    let path = write(lab, "haproxy.cfg", &text);
    let mut command = lab.bare_command("haproxy");
    command.arg("-db").arg("-f").arg(path);
    Peer { name: "haproxy", doors, takes_connect: false, program: Program::start(command) }
}

fn nginx(lab: &Lab, log: bool) -> Peer {
    let doors = [at(2443), at(2444)];
    let folder = lab.folder().display();
    let log = match log {
        true => format!(
            "log_format flows '$remote_addr [$time_iso8601] $ssl_preread_server_name $upstream_addr $status \
             $bytes_sent $bytes_received $session_time';\naccess_log {folder}/flows.log flows;\n"
        ),
        false => String::new(),
    };
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off; user root; worker_processes 2; worker_rlimit_nofile {};\n\
         pid {folder}/stream.pid; error_log {folder}/stream.log;\n\
         events {{ worker_connections {}; }}\nstream {{\n{log}",
        files(),
        files() - 100
    );
    for (number, (door, upstream)) in doors.iter().zip([SERVER, WEB]).enumerate() {
        text += &format!(
            "map $ssl_preread_server_name $to{number} {{ {NAME} {upstream}; default 127.0.0.1:1; }}\n\
             server {{ listen {door} backlog=4096; ssl_preread on; proxy_pass $to{number}; }}\n"
        );
    }
    let path = write(lab, "stream.conf", &(text + "}\n"));
    let mut command = lab.bare_command("nginx");
    command.arg("-c").arg(path).arg("-e").arg(lab.folder().join("stream.log"));
    Peer { name: "nginx, ssl_preread", doors, takes_connect: false, program: Program::start(command) }
}

fn squid(lab: &Lab, log: bool) -> Peer {
    let door = at(3443);
    let folder = lab.folder().display();
    // There, for it is not root when it opens this.
    let log = if log { "stdio:/dev/shm/squid.log squid" } else { "none" };
    let text = format!(
        "http_port {door} ssl-bump tls-cert={folder}/authority.pem tls-key={folder}/key.pem \
         generate-host-certificates=off\n\
         acl first at_step SslBump1\nacl named ssl::server_name {NAME}\n\
         ssl_bump peek first\nssl_bump splice named\nssl_bump terminate all\n\
         http_access allow all\ncache deny all\ncache_mem 8 MB\naccess_log {log}\n\
         cache_log /dev/null\npid_filename none\ncoredump_dir none\nhosts_file /dev/null\n\
         dns_nameservers {}\nmax_filedescriptors {}\n\
         shutdown_lifetime 0 seconds\npinger_enable off\n",
        DNS.v4,
        files()
    );
    let path = write(lab, "squid.conf", &text);
    // With shared memory of its own: what it makes there outlives it.
    let mut command = lab.bare_command("unshare");
    let start = "mount -t tmpfs none /dev/shm && exec squid -N -f \"$0\"";
    command.args(["--mount", "sh", "-c", start]).arg(path);
    let program = Program::start(command);
    Peer { name: "squid, peek and splice", doors: [door, door], takes_connect: true, program }
}

/// The most flows at once that this machine's limit of open files leaves to a proxy: two sockets each.
pub fn most_flows() -> u64 {
    (files() - 1000) / 2
}

/// The most open files of a process, of which no bench needs more than it caps.
fn files() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    most.min(80_000)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn write(lab: &Lab, name: &str, text: &str) -> std::path::PathBuf {
    let path = Path::join(lab.folder(), name);
    fs::write(&path, text).expect("a configuration can be written");
    path
}
