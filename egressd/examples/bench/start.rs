//! What an agent costs to start.

use crate::{
    fence::Fence,
    lab::Lab,
    programs,
    report::{Report, Row},
};
use serde_json::json;
use std::{
    process::{Command, Stdio},
    time::Instant,
};

/// Starts `/bin/true` bare and as an agent, by turns, so that what else the machine does falls on
/// all of them alike.
pub fn bench(rounds: usize) -> Report {
    let fence = Fence::start(Lab::new(), programs(), POLICY);
    let ways = ways(&fence);
    let mut took = vec![Vec::new(); ways.len()];
    fence.lab().on_host(|| {
        for round in 0..=rounds {
            for (way, took) in ways.iter().zip(&mut took) {
                let milliseconds = time(&way.arguments);
                // The first round warms caches.
                if round > 0 {
                    took.push(milliseconds);
                }
            }
        }
    });
    Report {
        title: format!("start: what an agent costs to start and to end, {rounds} rounds"),
        unit: "ms",
        rows: ways.iter().zip(took).map(|(way, took)| Row::of(way.name, took)).collect(),
        facts: vec![("target", json!("less than 30 ms over a bare program"))],
    }
}

/// A way to run a program, and its name.
struct Way {
    name: &'static str,
    arguments: Vec<String>,
}

fn ways(fence: &Fence) -> Vec<Way> {
    let text = |path: &std::path::Path| path.display().to_string();
    let (egressctl, socket) = (text(fence.egressctl()), text(&fence.socket()));
    let owned = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = |mode| owned(&[&egressctl, "--socket", &socket, "run", "--mode", mode, "--", PROGRAM]);
    vec![
        Way { name: "bare", arguments: owned(&[PROGRAM]) },
        Way { name: "egressctl --version", arguments: owned(&[&egressctl, "--version"]) },
        Way { name: "egressctl run --mode cgroup", arguments: run("cgroup") },
        Way { name: "egressctl run --mode sealed", arguments: run("sealed") },
    ]
}

/// Milliseconds from its fork to its end.
///
/// # Panics
/// When it does not succeed.
fn time(arguments: &[String]) -> f64 {
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("the program can be started");
    let took = start.elapsed();
    assert!(status.success(), "{arguments:?} ended with {status}");
    took.as_secs_f64() * 1e3
}

const PROGRAM: &str = "/bin/true";

/// What agents usually have: some names, a network.
const POLICY: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, private: true}
      - {host: '*.ok.test', private: true}
      - {host: db.test, protocol: tcp, ports: [5432], private: true}
      - {cidr: 10.99.0.10/32, protocol: tcp, ports: [9000]}
";
