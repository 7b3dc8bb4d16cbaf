//! What flows cost that rest: the memory of who stands in the middle.

use super::{
    IDLE, SERVER, number,
    peers::most_flows,
    stage::{Client, Subject},
};
use crate::{measures::Measures, processes};
use std::fs;

/// So many flows at once by each way that has a middle, from [`CLIENTS`] clients: for egressd, as many agents.
pub fn measure(subjects: &[Subject<'_>], count: usize, measures: &mut Measures) {
    for subject in subjects {
        let Some(middle) = subject.middle() else { continue };
        let count = count.min(usize::try_from(most_flows() * 19 / 20).unwrap_or(count));
        let before = resident(middle) as f64 / 1e6;
        let clients: Vec<_> = (0..CLIENTS).map(|_| start(subject, count / CLIENTS)).collect();
        let held: f64 = clients.iter().map(|client| number(&client.outcome(), "held")).sum();
        let each = (resident(middle) as f64 / 1e6 - before) / held;
        measures.add(IDLE, subject.name, "flows", "flows", held);
        measures.add(IDLE, subject.name, "memory of a flow", "kB", each * 1e3);
        measures.add(IDLE, subject.name, MEMORY, "MB", before + each * 10_000.0);
        clients.into_iter().for_each(Client::end);
    }
}

/// What is there before, and so many times what a flow takes: not every machine lets a process have as many
/// open files.
pub const MEMORY: &str = "memory with 10,000 flows";

/// As many as a limit of flows for each agent leaves room for.
const CLIENTS: usize = 10;

fn start(subject: &Subject<'_>, count: usize) -> Client {
    let mut client = subject.load(&["idle", "--count", &count.to_string()], SERVER.port(), 0.0);
    client.begin();
    client
}

/// Octets of memory of all processes of a group.
fn resident(leader: i32) -> u64 {
    let of = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    processes::of_group(leader).into_iter().filter_map(of).sum::<u64>() * 1024
}
