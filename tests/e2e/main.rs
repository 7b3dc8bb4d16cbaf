//! The whole firewall, end to end, judged by what a sniffer on the far side of the link sees.
//!
//! `lab` builds two namespaces and what serves in them, `fence` runs the real programs, `attack`
//! knows how a trick is judged. `bypass` is the catalogue of ways out. The other files are
//! scenarios, by subject.

mod arrivals;
mod attack;
mod authority;
mod bpf;
mod dns_server;
mod fence;
mod frame;
mod job;
#[allow(dead_code, reason = "scripts/bench uses more of it")]
mod lab;
mod places;
mod policies;
mod program;
mod pty;
mod quic_server;
mod sinks;
mod sniffer;
#[allow(dead_code, reason = "scripts/bench uses more of it")]
mod storm;
mod talker;
mod traces;
mod web_server;

mod addresses;
mod adopt;
mod agents;
mod approvals;
mod audit;
mod budgets;
mod bypass;
mod canary;
mod changes;
mod crash;
mod devices;
mod doctor;
mod explained;
mod explicit_proxy;
mod fetch;
mod full_map;
mod gate;
mod git;
mod git_server;
mod grants;
mod host;
mod inbound;
mod inspect;
mod keys;
mod launch;
mod leaks;
mod loans;
mod lsm;
mod metrics;
mod names;
mod observe;
mod octets;
mod options;
mod payers;
mod quic;
mod reload;
mod remotes;
mod rules;
mod sealed;
mod server_names;
mod sockets;
mod terminal;
mod tolls;
mod upstreams;

use fence::{Fence, Programs};

/// The name of the agent in scenarios that have one only.
const AGENT: &str = "tester";

/// A lab of its own, fenced by the programs of this build.
fn fence(policy: &str) -> Fence {
    fence_in(lab::Lab::new(), policy)
}

/// The same, in a lab that a scenario prepared.
fn fence_in(lab: lab::Lab, policy: &str) -> Fence {
    Fence::start(lab, programs(), policy)
}

/// The same, with flags of the daemon's own.
fn fence_with(policy: &str, flags: &'static [&'static str]) -> Fence {
    Fence::start_with(lab::Lab::new(), programs(), policy, flags)
}

/// Both.
fn fence_in_with(lab: lab::Lab, policy: &str, flags: &'static [&'static str]) -> Fence {
    Fence::start_with(lab, programs(), policy, flags)
}

/// Those of this build.
fn programs() -> Programs {
    Programs {
        egressd: env!("CARGO_BIN_EXE_egressd").into(),
        egressctl: env!("CARGO_BIN_EXE_egressctl").into(),
    }
}
