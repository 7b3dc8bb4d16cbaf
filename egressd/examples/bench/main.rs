//! What the firewall costs, and what it withstands, measured in a lab of its own: `scripts/bench`.
//!
//! One file a bench. A bench asserts nothing about time: it prints, and people compare.

mod datapath;
mod dns;
mod kills;
mod leaks;
mod load;
mod measures;
mod peers;
mod processes;
mod reload;
mod report;
mod runs;
mod start;
mod supervise;
mod tls;

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

use clap::{Args, Parser, Subcommand, ValueEnum};
use measures::Measures;
use report::Report;
use serde_json::Value;
use std::{fmt, path::PathBuf, process::ExitCode};

/// Measures what the firewall costs, and what it withstands
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// How the numbers are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    /// Another process cleans up behind this one
    #[arg(long, global = true, hide = true)]
    supervised: bool,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What an agent costs to start: a bare program against the same program in each mode
    Start {
        #[arg(short = 'n', long, default_value_t = 25)]
        rounds: usize,
    },
    /// How fast names are answered that were answered before, beside unbound and dnsdist
    Dns {
        #[arg(short = 'n', long, default_value_t = 7)]
        rounds: usize,
        /// Of a round of one server
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
        /// Instead, what one agent's flood does to another
        #[arg(long)]
        fairness: bool,
    },
    #[command(hide = true)]
    Load(load::Load),
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
    /// What the verdict costs each packet and each connect(2), beside nftables and iptables
    Datapath(DatapathOptions),
    #[command(hide = true)]
    Pump(datapath::pump::Pump),
    /// What a check of the server name costs: in the kernel, in our proxy, in haproxy, nginx and squid
    Tls(tls::Options),
    #[command(hide = true)]
    TlsLoad(tls::load::Load),
    #[command(hide = true)]
    TlsServer(tls::server::Server),
    /// How soon a policy file that was changed is in force
    Reload {
        #[arg(short = 'n', long, default_value_t = 15)]
        rounds: usize,
        /// Agents of the same policy, beside the one that is measured
        #[arg(long, default_value_t = 20)]
        agents: usize,
    },
    #[command(hide = true)]
    Watch(reload::Watch),
    /// What names let out past the resolver, and what is found of it
    Leaks(leaks::Options),
}

#[derive(Debug, Clone, Copy, Args)]
struct DatapathOptions {
    #[arg(short = 'n', long, default_value_t = 25)]
    rounds: usize,
    /// Of each burst
    #[arg(long, default_value_t = 0.05)]
    seconds: f64,
    /// Agents in the maps, beside those that are measured
    #[arg(long, default_value_t = 1000)]
    agents: u32,
    /// Grants of each of those
    #[arg(long, default_value_t = 1000)]
    grants: u32,
    /// Networks of one of those that are measured
    #[arg(long, default_value_t = 100_000)]
    networks: u32,
    /// A few rounds with fewer agents: to see that it works
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

fn main() -> ExitCode {
    let Arguments { bench, output, supervised } = Arguments::parse();
    if !supervised && !bench.is_part() {
        return supervise::run();
    }
    run(bench, output);
    ExitCode::SUCCESS
}

impl Bench {
    /// Whether it is a program of a bench, which runs it by itself.
    fn is_part(&self) -> bool {
        matches!(self, Self::Load(_) | Self::TlsLoad(_) | Self::TlsServer(_) | Self::Pump(_) | Self::Watch(_))
    }
}

fn run(bench: Bench, output: Output) {
    match bench {
        Bench::Start { rounds } => tell(&start::bench(rounds), Report::to_json, output),
        Bench::Kills { kills, mode, programs_alone } => {
            tell(&kills::bench(kills, &mode, programs_alone), Report::to_json, output);
        }
        Bench::Dns { rounds, seconds, fairness } => {
            let (name, measures) = match fairness {
                true => ("dns-fairness", dns::fairness(rounds, seconds)),
                false => ("dns", dns::bench(rounds, seconds)),
            };
            keep(&measures, name, output);
        }
        Bench::Datapath(DatapathOptions { rounds, seconds, agents, grants, networks, quick }) => {
            let (rounds, agents) = if quick { (5, 100) } else { (rounds, agents) };
            let crowd = datapath::Crowd { agents, grants, networks };
            keep(&datapath::bench(rounds, seconds, crowd), "datapath", output);
        }
        Bench::Tls(options) => keep(&tls::bench(&options), options.results(), output),
        Bench::Reload { rounds, agents } => keep(&reload::bench(rounds, agents), "reload", output),
        Bench::Watch(watch) => watch.run(),
        Bench::Leaks(options) => leaks::bench(&options, matches!(output, Output::Json)),
        Bench::Load(load) => println!("{}", load.run()),
        Bench::TlsLoad(load) => load.run(),
        Bench::TlsServer(server) => server.run(),
        Bench::Pump(pump) => pump.run(),
    }
}

fn keep(measures: &Measures, name: &str, output: Output) {
    tell(measures, Measures::to_json, output);
    measures.write(&results(), name).expect("the results can be written");
}

fn tell<T: fmt::Display>(report: &T, to_json: impl Fn(&T) -> Value, output: Output) {
    match output {
        Output::Table => print!("{report}"),
        Output::Json => println!("{}", to_json(report)),
    }
}

/// Where the results of benches are kept: `target/bench`.
fn results() -> PathBuf {
    let here = std::env::current_exe().expect("this program has a path");
    here.ancestors().nth(3).expect("it lies in a folder of a folder of a folder").join("bench")
}

/// The programs beside this one, which lies in `examples/`.
fn programs() -> fence::Programs {
    let here = std::env::current_exe().expect("this program has a path");
    let folder: PathBuf = here.ancestors().nth(2).expect("it lies in a folder of a folder").to_owned();
    fence::Programs { egressd: folder.join("egressd"), egressctl: folder.join("egressctl") }
}
