//! Two network namespaces: *host*, where egressd and agents run, and *inet*, a small internet.
//!
//! This is the only file that knows `ip` and `nsenter`. The root namespace is never touched, and
//! all that a lab made goes when it is dropped, also by a panic. What a killed run left behind
//! goes when the next lab is made.

use crate::{
    dns_server::DnsServer,
    places::{self, GATEWAY_V4, GATEWAY_V6, HOST_V4, HOST_V6},
    program::{self, Outcome, Program},
    sinks::Sinks,
    sniffer::Sniffer,
    traces,
    web_server::WebServer,
};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::CStr,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
    time::Duration,
};
use tempfile::TempDir;

/// The host, the internet behind it, and the oracle on the wire between them.
///
/// Fields are dropped in this order: first who uses the namespaces, then the namespaces.
pub struct Lab {
    sniffer: Option<Sniffer>,
    sentinel: UdpSocket,
    _sinks: Sinks,
    _web_server: WebServer,
    _dns_server: DnsServer,
    host: Namespace,
    inet: Namespace,
    folder: TempDir,
}

impl Lab {
    /// Builds a lab whose servers all answer.
    ///
    /// # Panics
    /// Names the Debian package of a tool that is missing, or what could not be set up.
    pub fn new() -> Self {
        program::require_tools();
        remove_leftovers();
        let (host, inet) = (Namespace::create("host"), Namespace::create("inet"));
        let folder = tempfile::Builder::new().prefix(&format!("{}-", host.name)).tempdir();
        let folder = folder.expect("a temporary folder can be made");
        wire(&host, &inet);
        write_resolv_conf(folder.path());
        let dns_server = DnsServer::start(&inet, folder.path());
        let web_server = WebServer::start(&inet, folder.path());
        let sinks = Sinks::start(&inet);
        for server in DnsServer::listens().into_iter().chain(WebServer::listens()) {
            inet.wait_for_listener(server);
        }
        let sniffer = Some(Sniffer::start(&inet));
        let sentinel = host.within(|| UdpSocket::bind((HOST_V4, 0)).expect("a sentinel socket can be bound"));
        Self {
            sniffer,
            sentinel,
            _sinks: sinks,
            _web_server: web_server,
            _dns_server: dns_server,
            host,
            inet,
            folder,
        }
    }

    /// Runs a shell script on the host, without a firewall, and waits for its end.
    pub fn run(&self, script: &str) -> Outcome {
        program::run(self.command(&["bash", "-c", script]))
    }

    /// A command that will run on the host, where `/etc/resolv.conf` names the lab's DNS server
    /// and TLS clients trust the lab's authority.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // In a mount namespace of its own, for there is one file only.
        let bind = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
        let mut command = self.bare_command("unshare");
        command.args(["--mount", "sh", "-c", bind]).arg(self.folder.path().join(RESOLV_CONF)).args(arguments);
        command.env("SSL_CERT_FILE", WebServer::authority(self.folder.path()));
        command
    }

    /// The same, executed by a shell that runs `stage` first, in the same mount namespace.
    pub fn staged_command(&self, stage: &str, arguments: &[&str]) -> Command {
        match stage {
            "" => self.command(arguments),
            stage => {
                self.command(&[&["bash", "-c", &format!("{stage}\nexec \"$0\" \"$@\"")], arguments].concat())
            }
        }
    }

    /// A command that will run on the host with nothing around it, as a daemon does.
    pub fn bare_command(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LC_ALL", "C");
        command
    }

    /// A command that will run on the internet's side, with nothing around it.
    pub fn inet_command(&self, program: &str) -> Command {
        let mut command = self.inet.command(program);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C");
        command
    }

    /// The oracle.
    pub fn sniffer(&self) -> &Sniffer {
        self.sniffer.as_ref().expect("the lab has its oracle")
    }

    /// The same lab with a link as fast as it can be: nobody listens on it, the host leaves checksums and
    /// segments to it, and answers connections as hosts do by default. It proves nothing.
    pub fn without_oracle(mut self) -> Self {
        self.sniffer = None;
        self.host.within(|| offload_checksums(Offload::Yes));
        self.host.set("ipv4/tcp_syncookies", "1");
        self.inet.set("ipv4/tcp_syncookies", "1");
        self
    }

    /// Returns when the sniffer has seen whatever was sent before this call.
    pub fn settle(&self) {
        self.sniffer().wait_for_sentinels(&self.sentinel);
    }

    /// A folder that goes with the lab.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Name of the host's namespace: unique among all labs of this machine.
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// Runs `act` on a thread that sits in the host's namespace, and returns what it returns.
    pub fn on_host<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.host.within(act)
    }

    /// Has a thread that sits in the internet's namespace go on by itself.
    pub fn spawn_on_inet<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.inet.spawn(act)
    }

    /// Runs `act` on a thread that sits in the internet's namespace, and returns what it returns.
    pub fn on_inet<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.inet.within(act)
    }
}

/// A network namespace that goes, with all processes in it, when it is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn create(role: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}x{count}{role}", std::process::id());
        ip(&["netns", "add", &name]);
        Self { name }
    }

    /// Runs `act` on a thread that sits in this namespace, and returns what it returns. Sockets
    /// that it makes stay in the namespace.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.open());
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Like [`Self::within`], on a thread that goes on by itself.
    pub fn spawn<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = self.open();
        std::thread::spawn(move || {
            enter(&namespace);
            act()
        })
    }

    /// A command that will run in this namespace. Not by `ip netns exec`, which mounts another
    /// `/sys` and so hides the cgroups.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    fn batch(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("`ip` starts");
        let mut input = child.stdin.take().expect("stdin is a pipe");
        input.write_all(lines.as_bytes()).expect("`ip` reads its batch");
        drop(input);
        let status = child.wait().expect("`ip` ends");
        assert!(status.success(), "failed to set up namespace {}:\n{lines}", self.name);
    }

    fn set(&self, sysctl: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(sysctl);
        let write = || fs::write(&path, value);
        self.within(write).unwrap_or_else(|error| panic!("failed to write {}: {error}", path.display()));
    }

    fn wait_for_listener(&self, address: SocketAddr) {
        self.within(|| {
            program::poll(&format!("a listener on {address}"), || {
                TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
            });
        });
    }

    fn open(&self) -> File {
        File::open(self.path()).expect("the namespace has a file")
    }

    fn path(&self) -> PathBuf {
        Path::new(NETNS_FOLDER).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_namespace(&self.name);
    }
}

fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("a thread can enter the namespace; is this root?");
}

/// Joins the two namespaces by one link. What is not on it goes to *inet* all the same, so that
/// the sniffer sees every frame that leaves the host.
fn wire(host: &Namespace, inet: &Namespace) {
    let inet_link = INET_LINK.to_str().expect("the name is ASCII");
    host.batch(&format!(
        "link set lo up\n\
         link add {HOST_LINK} type veth peer name {inet_link} netns {}\n\
         address add {HOST_V4}/24 dev {HOST_LINK}\n\
         address add {HOST_V6}/64 dev {HOST_LINK} nodad\n\
         link set {HOST_LINK} up\n",
        inet.name
    ));
    let mut lines = format!(
        "link set lo up\n\
         link set {inet_link} up\n\
         address add {GATEWAY_V4}/24 dev {inet_link}\n\
         address add {GATEWAY_V6}/64 dev {inet_link} nodad\n"
    );
    for address in places::addresses() {
        lines += &match address {
            std::net::IpAddr::V4(v4) if on_link(v4) => format!("address add {v4}/24 dev {inet_link}\n"),
            std::net::IpAddr::V4(v4) => format!("address add {v4}/32 dev lo\n"),
            std::net::IpAddr::V6(v6) => format!("address add {v6}/128 dev {inet_link} nodad\n"),
        };
    }
    inet.batch(&lines);
    // Only now has the other end a carrier, without which IPv6 routes are refused.
    host.batch(&format!("route add default via {GATEWAY_V4}\nroute add default via {GATEWAY_V6}\n"));
    // As on a host of containers: nothing but the fence keeps a packet of a device from being forwarded.
    host.set("ipv4/ip_forward", "1");
    host.set("ipv6/conf/all/forwarding", "1");
    host.within(|| offload_checksums(Offload::No));
    // Doors that some hosts leave open: paths that a server adds, ping sockets for all, data in the
    // SYN without a cookie.
    host.batch("mptcp limits set subflow 8 add_addr_accepted 8\n");
    host.set("ipv4/ping_group_range", "0 2147483647");
    host.set("ipv4/tcp_fastopen", "5");
    inet.set("ipv4/tcp_fastopen", "1538");
    // Always by SYN cookie: the kernel then answers before there is a socket to judge by.
    host.set("ipv4/tcp_syncookies", "2");
}

/// Whether the host leaves checksums, and the cutting of segments that goes with them, to its link.
#[derive(Clone, Copy)]
enum Offload {
    No = 0,
    Yes = 1,
}

/// Without it the host writes checksums itself, as the last link of a real host would: what is on the wire
/// is then what a router reads.
fn offload_checksums(offload: Offload) {
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    const ETHTOOL_STXCSUM: u32 = 0x17;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket can be bound");
    let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: offload as u32 };
    // SAFETY: zeros are a valid ifreq; the name fits, and both structs outlive the call.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(HOST_LINK.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), SIOCETHTOOL as _, &raw mut request)
    };
    assert_eq!(result, 0, "the host's link can be told who completes checksums");
}

fn on_link(address: Ipv4Addr) -> bool {
    address.octets()[..3] == GATEWAY_V4.octets()[..3]
}

fn write_resolv_conf(folder: &Path) {
    let text = format!("nameserver {}\noptions timeout:1 attempts:1\n", places::DNS.v4);
    fs::write(folder.join(RESOLV_CONF), text).expect("resolv.conf can be written");
}

/// Removes what test processes that died have left: namespaces, traces in the kernel, folders.
pub fn remove_leftovers() {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    for name in names(Path::new(NETNS_FOLDER)).iter().filter(|name| is_leftover(name)) {
        remove_namespace(name);
    }
    for name in traces::names(PREFIX).iter().filter(|name| is_leftover(name)) {
        traces::remove(name);
    }
    let folder = std::env::temp_dir();
    for name in names(&folder).iter().filter(|name| is_leftover(name)) {
        let _ = fs::remove_dir_all(folder.join(name));
    }
}

/// Whether `name` begins as [`Namespace::create`] makes names, by a process that is gone.
fn is_leftover(name: &str) -> bool {
    let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('x'));
    let pid = owner.and_then(|(pid, _)| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Removes a namespace and the processes in it, all of which the lab started. What fails here is
/// left for [`remove_leftovers`]: a drop must not panic.
fn remove_namespace(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

fn ip(arguments: &[&str]) {
    let status = Program::status(Command::new("ip").args(arguments));
    assert!(status, "failed to run `ip {}`; is this root?", arguments.join(" "));
}

/// What a lab sees of the environment, so that a test does the same on every machine.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
const PREFIX: &str = "eg";
const NETNS_FOLDER: &str = "/run/netns";
const RESOLV_CONF: &str = "resolv.conf";
/// The host's end of the link.
const HOST_LINK: &str = "wan";
/// The internet's end of it.
pub const INET_LINK: &CStr = c"lan";
