//! What the firewall costs, and what it withstands, measured in a lab of its own: `scripts/bench`.
//!
//! One file a bench. A bench asserts nothing about time: it prints, and people compare.

mod kills;
mod report;
mod start;

#[path = "../../../tests/e2e/dns_server.rs"]
mod dns_server;
#[path = "../../../tests/e2e/fence.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod fence;
#[path = "../../../tests/e2e/frame.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod frame;
#[path = "../../../tests/e2e/lab.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod lab;
#[path = "../../../tests/e2e/places.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod places;
#[path = "../../../tests/e2e/program.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod program;
#[path = "../../../tests/e2e/sinks.rs"]
mod sinks;
#[path = "../../../tests/e2e/sniffer.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod sniffer;
#[path = "../../../tests/e2e/storm.rs"]
mod storm;
#[path = "../../../tests/e2e/traces.rs"]
mod traces;
#[path = "../../../tests/e2e/web_server.rs"]
mod web_server;

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measures what the firewall costs, and what it withstands
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// How the numbers are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What an agent costs to start: a bare program against the same program in each mode
    Start {
        #[arg(short = 'n', long, default_value_t = 25)]
        rounds: usize,
    },
    /// What a flood finds, and what granted flows feel, while the daemon is killed at random moments
    Kills {
        #[arg(short = 'n', long, default_value_t = 1000)]
        kills: usize,
        /// Of `egressctl run`: cgroup or sealed
        #[arg(long, default_value = "cgroup")]
        mode: String,
        /// Without the second deny, so that only the kernel programs stand (cgroup mode)
        #[arg(long)]
        programs_alone: bool,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

fn main() {
    let Arguments { bench, output } = Arguments::parse();
    let report = match bench {
        Bench::Start { rounds } => start::bench(rounds),
        Bench::Kills { kills, mode, programs_alone } => kills::bench(kills, &mode, programs_alone),
    };
    match output {
        Output::Table => print!("{report}"),
        Output::Json => println!("{}", report.to_json()),
    }
}

/// The programs beside this one, which lies in `examples/`.
fn programs() -> fence::Programs {
    let here = std::env::current_exe().expect("this program has a path");
    let folder: PathBuf = here.ancestors().nth(2).expect("it lies in a folder of a folder").to_owned();
    fence::Programs { egressd: folder.join("egressd"), egressctl: folder.join("egressctl") }
}
