//! How soon a policy file that was changed is in force: from its rename to the first datagram that is judged by it.

use crate::{
    datapath::fill_networks,
    fence::{Agent, Fence},
    lab::Lab,
    measures::{Aim, Measures},
    places::DB,
    program::{Program, poll},
    programs,
};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

/// Adds and removes a network of the policy by turns, for the agent that is measured and those beside it: alone, among
/// others, and beside one that fills the maps.
pub fn bench(rounds: usize, crowd: usize) -> Measures {
    let title = format!("reload: {rounds} changes each way, alone and with {crowd} agents beside");
    let mut measures = Measures::new(title);
    for (mode, agents, networks) in [
        ("cgroup", 0, 0),
        ("sealed", 0, 0),
        ("cgroup", crowd, 0),
        ("sealed", crowd, 0),
        ("cgroup", 1, NETWORKS),
    ] {
        let fence = Fence::start(Lab::new(), programs(), &policy(false));
        let flags = ["--mode", mode];
        let beside: Vec<Program> =
            (0..agents).map(|_| fence.agent("beside").with(&flags).spawn(&["cat"])).collect();
        let mut case = format!("{mode}, {agents} beside");
        if networks > 0 {
            let run = || fence.ctl(&["agents", "-o", "json"]).stdout.lines().count();
            poll("those beside", || (run() >= agents).then_some(()));
            fill_networks(&fence, "beside", networks).expect("the map has room for them");
            case += &format!(" with {networks} networks");
        }
        let watched = Watched::start(&fence.agent("watched").with(&flags));
        // The first change of each kind warms caches.
        for round in 0..=rounds {
            for (is_open, subject) in [(true, OPENED), (false, CLOSED)] {
                let milliseconds = watched.change(&fence, is_open);
                if round > 0 {
                    measures.add(&case, subject, "in force after", "ms", milliseconds);
                }
            }
        }
        for subject in [OPENED, CLOSED] {
            let found = measures.median(&case, subject, "in force after");
            measures.aims.push(Aim::at_most(format!("{case}: {subject}, ms"), found, AIM));
        }
        drop(beside);
    }
    measures
}

/// Of the agent that fills the maps.
const NETWORKS: u32 = 100_000;

const OPENED: &str = "a rule that comes";
const CLOSED: &str = "a rule that goes";
/// Milliseconds.
const AIM: f64 = 100.0;

/// An agent that says when it may send, and when no longer.
struct Watched(Program);

impl Watched {
    fn start(agent: &Agent) -> Self {
        let program = std::env::current_exe().expect("this program has a path").display().to_string();
        let watched = Self(agent.spawn(&[&program, "watch", "--to", &format!("{}:{PORT}", DB.v4)]));
        poll("the first verdict", || watched.verdicts().first().cloned());
        watched
    }

    /// Milliseconds until a change of the policy file is felt.
    fn change(&self, fence: &Fence, is_open: bool) -> f64 {
        let before = self.verdicts().len();
        let folder = fence.lab().folder();
        fs::write(folder.join(".new"), policy(is_open)).expect("a file of the lab");
        let start = now();
        fs::rename(folder.join(".new"), folder.join("policy.yaml")).expect("a file of the lab");
        let verdict = poll("the other verdict", || self.verdicts().get(before).cloned());
        assert_eq!(verdict["open"], is_open, "the policy says so");
        (verdict["at"].as_f64().expect("a time") - start) * 1e3
    }

    fn verdicts(&self) -> Vec<Value> {
        let text = self.0.stdout();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Sends datagrams, and says whenever that begins or ceases to be allowed
#[derive(Debug, Clone, Parser)]
pub struct Watch {
    #[arg(long)]
    to: SocketAddr,
}

impl Watch {
    pub fn run(&self) {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket can be bound");
        let mut last = None;
        loop {
            let is_open = socket.send_to(b"x", self.to).is_ok();
            if last.replace(is_open) != Some(is_open) {
                println!("{}", json!({ "open": is_open, "at": now() }));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Seconds on a clock that all processes share.
fn now() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is such a clock");
    Duration::from(now).as_secs_f64()
}

const PORT: u16 = 7777;

/// What every agent has, and may be a network more.
fn policy(is_open: bool) -> String {
    let network = format!("\n      - {{cidr: {}/32, protocol: udp, ports: [{PORT}]}}", DB.v4);
    let network = if is_open { network.as_str() } else { "" };
    let rules = format!("\n    rules:\n      - {{host: ok.test, private: true}}{network}\n");
    format!("version: 1\nagents:\n  watched:{rules}  beside:{rules}")
}
