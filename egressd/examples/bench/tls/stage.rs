//! Who is measured: the same way to the same server for all of them.

use super::{
    NAME, SERVER,
    peers::{self, Peer},
};
use crate::{
    fence::Fence,
    lab::Lab,
    processes,
    program::{self, Program},
    programs,
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

/// Hosts alike, each with an internet behind it: some are fenced, for the second deny of a fence is on the
/// way of all that leaves its host; the peers are on another.
pub struct Stage {
    fence: Fence,
    fenced_server: Program,
    copying: Fence,
    copying_server: Program,
    peers: Vec<Peer>,
    server: Program,
    lab: Lab,
}

impl Stage {
    /// `peers_log`: peers write a line for each flow, as egressd does.
    pub fn set(peers_log: bool) -> Self {
        let [lab, fenced, copying] = [quick_lab(), quick_lab(), quick_lab()];
        let [server, fenced_server, copying_server] = [serve(&lab), serve(&fenced), serve(&copying)];
        let peers = peers::start(&lab, peers_log);
        let fence = Fence::start(fenced, programs(), &policy());
        let copying = Fence::start_with(copying, programs(), &policy(), &["--copy-bulk"]);
        Self { fence, fenced_server, copying, copying_server, peers, server, lab }
    }

    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// All of them, the direct way first.
    pub fn subjects(&self) -> Vec<Subject<'_>> {
        let direct = Subject {
            name: DIRECT,
            way: Way::Host { lab: &self.lab, doors: None, takes_connect: false },
            watched: vec![leader(&self.server)],
        };
        let peer = |peer: &'_ Peer| Subject {
            name: peer.name,
            way: Way::Host { lab: &self.lab, doors: Some(peer.doors), takes_connect: peer.takes_connect },
            watched: vec![leader(&self.server), leader(&peer.program)],
        };
        let fenced = [
            fenced(GATE, "gate", &self.fence, &self.fenced_server),
            fenced(PROXY, "proxy", &self.fence, &self.fenced_server),
            fenced(COPY, "proxy", &self.copying, &self.copying_server),
        ];
        [direct].into_iter().chain(fenced).chain(self.peers.iter().map(peer)).collect()
    }
}

pub const DIRECT: &str = "direct";
pub const GATE: &str = "egressd, gate in the kernel";
pub const PROXY: &str = "egressd, proxy";
/// The same without splice(2), which makes a difference to bulk alone.
pub const COPY: &str = "egressd, proxy that copies";

/// One way to the server.
pub struct Subject<'a> {
    pub name: &'static str,
    way: Way<'a>,
    /// Leaders of the groups of processes that work for its flows.
    watched: Vec<i32>,
}

enum Way<'a> {
    Host { lab: &'a Lab, doors: Option<[SocketAddr; 2]>, takes_connect: bool },
    Agent { fence: &'a Fence, agent: &'static str },
}

impl Subject<'_> {
    /// Starts a load to `port` by this way, which waits for a word.
    pub fn load(&self, act: &[&str], port: u16, seconds: f64) -> Client {
        let mut command = self.command(act, port, seconds);
        command.stdin(Stdio::piped());
        let client = Client { program: Program::start(command) };
        client.said(0);
        client
    }

    fn command(&self, act: &[&str], port: u16, seconds: f64) -> Command {
        let mut arguments = self.arguments(act, port, seconds);
        match &self.way {
            Way::Host { lab, doors, takes_connect } => {
                if let Some(doors) = doors {
                    let door = if port == SERVER.port() { doors[0] } else { doors[1] };
                    arguments.extend(["--via".to_owned(), door.to_string()]);
                }
                arguments.extend(takes_connect.then(|| "--connect".to_owned()));
                lab.command(&as_text(&arguments))
            }
            Way::Agent { fence, agent } => fence.agent(agent).with(CGROUP).command(&as_text(&arguments)),
        }
    }

    /// Nanoseconds that the processes which work for its flows have had a processor, without the client.
    pub fn time_on_processors(&self) -> u64 {
        time_of(&self.watched)
    }

    /// The same, of who stands between the client and the server alone.
    pub fn time_in_the_middle(&self) -> u64 {
        time_of(self.watched.get(1..).unwrap_or_default())
    }

    /// Who stands between the client and the server, if anybody: the leader of its processes.
    pub fn middle(&self) -> Option<i32> {
        self.watched.get(1).copied().filter(|_| self.name != GATE && self.name != COPY)
    }

    fn arguments(&self, act: &[&str], port: u16, seconds: f64) -> Vec<String> {
        let program = std::env::current_exe().expect("this program has a path").display().to_string();
        let (port, seconds) = (port.to_string(), seconds.to_string());
        let first = [program.as_str(), "tls-load"];
        let flags =
            ["--name", NAME, "--port", &port, "--seconds", &seconds, "--authority", &self.authority()];
        let arguments = first.iter().chain(act).chain(&flags).map(|text| (*text).to_owned());
        arguments.collect()
    }

    fn authority(&self) -> String {
        let lab = match &self.way {
            Way::Host { lab, .. } => lab,
            Way::Agent { fence, .. } => fence.lab(),
        };
        crate::web_server::WebServer::authority(lab.folder()).display().to_string()
    }
}

fn fenced<'a>(name: &'static str, agent: &'static str, fence: &'a Fence, server: &Program) -> Subject<'a> {
    let watched = vec![leader(server), leader(fence.daemon())];
    Subject { name, way: Way::Agent { fence, agent }, watched }
}

/// A load that runs.
pub struct Client {
    program: Program,
}

impl Client {
    /// Has it begin.
    pub fn begin(&mut self) {
        self.program.stdin().write_all(b"\n").expect("a load reads");
    }

    /// How it went.
    pub fn outcome(&self) -> Value {
        self.said(1)
    }

    /// Ends it.
    pub fn end(mut self) {
        self.program.close_stdin();
        let _ = self.program.finish();
    }

    fn said(&self, number: usize) -> Value {
        let line = || serde_json::from_str(self.program.stdout().lines().nth(number)?).ok();
        program::poll_for(program::DEADLINE, line)
            .unwrap_or_else(|| panic!("a load says how it goes: {}", self.program.stderr()))
    }
}

/// A lab without a wire-tap, where closed connections are forgotten at once: tens of thousands to one
/// destination would make each new one wait for a free port.
pub fn quick_lab() -> Lab {
    let lab = Lab::new().without_oracle();
    let path = Path::new("/proc/sys/net/ipv4/tcp_max_tw_buckets");
    let write = || fs::write(path, "64").expect("a lab's kernel can be told");
    lab.on_host(write);
    lab.on_inet(write);
    lab
}

fn serve(lab: &Lab) -> Program {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = lab.inet_command(&program.display().to_string());
    command.args(["tls-server", "--listen", &SERVER.to_string()]);
    let server = Program::start(command);
    lab.on_inet(|| program::poll("the server", || std::net::TcpStream::connect(SERVER).ok()));
    server
}

fn time_of(leaders: &[i32]) -> u64 {
    let processes = leaders.iter().flat_map(|leader| processes::of_group(*leader));
    processes.map(processes::time_on_processors).sum()
}

fn leader(program: &Program) -> i32 {
    program.pid().as_raw()
}

fn as_text(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

const CGROUP: &[&str] = &["--mode", "cgroup"];

fn policy() -> String {
    let rule =
        |gate| format!("{{host: {NAME}, private: true, ports: [443, {}], gate: {gate}}}", SERVER.port());
    let agent = |name, gate| format!("  {name}:\n    rules:\n      - {}\n", rule(gate));
    format!("version: 1\nagents:\n{}{}", agent("gate", "kernel"), agent("proxy", "proxy"))
}
