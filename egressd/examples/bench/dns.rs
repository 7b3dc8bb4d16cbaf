//! How fast names are answered that were answered before, beside resolvers that others wrote; and what one
//! agent's flood does to another.

use crate::{
    fence::Fence,
    lab::Lab,
    measures::Measures,
    peers::{self, Peer},
    processes::time_on_processors,
    program::{self, Program},
    programs,
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;
use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

/// Answers of one name, on one processor and on all: by turns, so that what else the machine does falls on
/// all of them alike.
pub fn bench(rounds: usize, seconds: f64) -> Measures {
    let mut measures = Measures::new(format!(
        "dns: a name that was answered before, over UDP, {rounds} rounds of {seconds} s"
    ));
    for threads in [1, 2] {
        let stage = Stage::set(threads);
        for _ in 0..rounds {
            for case in CASES.iter().filter(|case| case.threads == threads) {
                for subject in stage.subjects() {
                    case.measure(&subject, seconds, &mut measures);
                }
            }
        }
    }
    measures
}

/// One agent asks now and then, while another floods.
pub fn fairness(rounds: usize, seconds: f64) -> Measures {
    let mut measures = Measures::new(format!(
        "dns: one agent asks for an allowed name 2,000 times a second, {rounds} rounds of {seconds} s, while another"
    ));
    let fence = Fence::start(Lab::new(), programs(), POLICY);
    for _ in 0..rounds {
        for (case, flood) in FLOODS {
            let flooding = flood.map(|name| {
                let outstanding = ["--outstanding", "256"];
                let flood = arguments(SERVER, name, 60.0, &outstanding);
                Program::start(fence.agent("flood").command(&as_text(&flood)))
            });
            let quiet = arguments(SERVER, NAME, seconds, &["--rate", "2000", "--sleepy", "--warm-up", "0.5"]);
            let outcome = report(fence.agent("quiet").command(&as_text(&quiet)));
            drop(flooding);
            for (metric, unit) in [("p50", "us"), ("p99", "us"), ("max", "us")] {
                measures.add(metric, case, metric, unit, number(&outcome, metric));
            }
            let lost = 1.0 - number(&outcome, "answered") / number(&outcome, "asked");
            measures.add("lost", case, "lost", "% of queries", lost * 100.0);
        }
    }
    measures
}

struct Case {
    name: &'static str,
    /// Of the servers, each on a processor of its own.
    threads: usize,
    load: &'static [&'static str],
    metrics: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "as fast as it can, one thread",
        threads: 1,
        load: &["--cpu", "1"],
        metrics: &[("rate", "answers/s")],
    },
    Case {
        name: "5,000 a second, one thread",
        threads: 1,
        load: &["--cpu", "1", "--rate", "5000", "--sockets", "1"],
        metrics: &[("p50", "us"), ("p99", "us")],
    },
    Case {
        name: "50,000 a second, one thread",
        threads: 1,
        load: &["--cpu", "1", "--rate", "50000", "--sockets", "1"],
        metrics: &[("p50", "us"), ("p99", "us")],
    },
    Case {
        name: "as fast as it can, two threads",
        threads: 2,
        load: &["--threads", "2"],
        metrics: &[("rate", "answers/s")],
    },
];

impl Case {
    fn measure(&self, subject: &Subject<'_>, seconds: f64, measures: &mut Measures) {
        let arguments = arguments(subject.server, NAME, seconds, self.load);
        let arguments = as_text(&arguments);
        let before = time_on_processors(subject.pid);
        let outcome = report(match subject.place {
            Place::Host(lab) => {
                let mut command = lab.bare_command(arguments[0]);
                command.args(&arguments[1..]);
                command
            }
            Place::Agent(fence, mode) => fence.agent("bench").with(mode).command(&arguments),
        });
        let took = time_on_processors(subject.pid) - before;
        for (metric, unit) in self.metrics {
            measures.add(self.name, subject.name, metric, unit, number(&outcome, metric));
        }
        let each = took as f64 / 1e3 / number(&outcome, "answered").max(1.0);
        measures.add(self.name, subject.name, "processor time of an answer", "us", each);
    }
}

/// Who is asked, and from where.
struct Subject<'a> {
    name: &'static str,
    server: SocketAddr,
    pid: i32,
    place: Place<'a>,
}

enum Place<'a> {
    Host(&'a Lab),
    Agent(&'a Fence, &'static [&'static str]),
}

/// All servers, on the same processors.
struct Stage {
    fence: Fence,
    peers: Vec<Peer>,
    idle: SocketAddr,
    _idler: Program,
}

impl Stage {
    fn set(threads: usize) -> Self {
        let me = Pid::from_raw(0);
        let all = sched_getaffinity(me).expect("a thread knows its processors");
        let mut some = CpuSet::new();
        (0..threads).for_each(|cpu| some.set(cpu).expect("there are so many processors"));
        sched_setaffinity(me, &some).expect("a thread may choose its processors");
        let fence = Fence::start(Lab::new(), programs(), POLICY);
        let peers = peers::start(fence.lab(), threads);
        let before = ports(&fence);
        let idler = fence.agent("idle").with(CGROUP).spawn(&["sleep", "infinity"]);
        let new = || ports(&fence).into_iter().find(|port| !before.contains(port));
        let port = program::poll("the resolver of an agent", new);
        sched_setaffinity(me, &all).expect("a thread may choose its processors");
        Self { fence, peers, idle: SocketAddr::from(([127, 0, 0, 1], port)), _idler: idler }
    }

    fn subjects(&self) -> Vec<Subject<'_>> {
        let (lab, daemon) = (self.fence.lab(), self.fence.daemon().pid().as_raw());
        let peer = |peer: &Peer| Subject {
            name: peer.name,
            server: peer.address,
            pid: peer.program.pid().as_raw(),
            place: Place::Host(lab),
        };
        let mut subjects: Vec<_> = self.peers.iter().map(peer).collect();
        for (name, mode) in [("egressd, agent in cgroup", CGROUP), ("egressd, sealed agent", SEALED)] {
            let place = Place::Agent(&self.fence, mode);
            subjects.push(Subject { name, server: SERVER, pid: daemon, place });
        }
        subjects.push(Subject {
            name: "egressd, asked around its fence",
            server: self.idle,
            pid: daemon,
            place: Place::Host(lab),
        });
        subjects
    }
}

/// The UDP ports of loopback that sockets of nobody have on the host: of agents' resolvers.
fn ports(fence: &Fence) -> Vec<u16> {
    let path = format!("/proc/{}/net/udp", fence.daemon().pid());
    let sockets = fs::read_to_string(path).unwrap_or_default();
    let port = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (address, user) = (fields.get(1)?, fields.get(7)?);
        (*user == NOBODY).then_some(())?;
        u16::from_str_radix(address.strip_prefix("0100007F:")?, 16).ok()
    };
    sockets.lines().filter_map(port).collect()
}

fn arguments(server: SocketAddr, name: &str, seconds: f64, more: &[&str]) -> Vec<String> {
    let program: PathBuf = std::env::current_exe().expect("this program has a path");
    let (program, server, seconds) = (program.display().to_string(), server.to_string(), seconds.to_string());
    let first = [program.as_str(), "load", "--server", &server, "--name", name, "--seconds", &seconds];
    first.iter().chain(more).map(|text| (*text).to_owned()).collect()
}

fn as_text(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// What a load says at its end.
fn report(command: Command) -> Value {
    let outcome = program::run(command);
    let said = outcome.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    said.unwrap_or_else(|| panic!("a load says how it went: {outcome:#?}"))
}

fn number(outcome: &Value, what: &str) -> f64 {
    outcome[what].as_f64().unwrap_or(f64::NAN)
}

/// Any: an agent's port 53 is its own resolver.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(crate::places::DNS.v4), 53);
const NAME: &str = "ok.test";
const CGROUP: &[&str] = &["--mode", "cgroup"];
const SEALED: &[&str] = &["--mode", "sealed"];
/// See `daemon/listeners.rs`.
const NOBODY: &str = "4294967093";
const POLICY: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, private: true}
      - {host: alt.test, private: true}
";
/// What the other agent does, and the name that it asks for.
const FLOODS: [(&str, Option<&str>); 3] = [
    ("rests", None),
    ("floods with an allowed name", Some("alt.test")),
    ("floods with denied names", Some("{}.evil.test")),
];
