//! What is tried: every program on a cgroup that is made for it, a table and a link in a network
//! namespace that is made for it, and at last all of it together. Nothing stays.

use super::{
    super::{
        bpffs::Pins,
        canary::{Canary, CanaryError, Findings},
        cgroup::{Cgroup, CgroupError, Hierarchy},
        ebpf::{Ebpf, EbpfError, try_each},
        fence::Fence,
        frames::Frames,
        lsm::SecurityHooks,
        lsm::UseSecurityHooks,
        nft::Nft,
        seal::{Cell, Forwarding},
    },
    Finding, Level, Need,
};
use nix::sched::{CloneFlags, unshare};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Tries everything, on a thread that leaves the host's network first.
pub fn findings(egressd: &Path) -> Vec<Finding> {
    let trial = || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => try_all(egressd),
        Err(error) => vec![network().missing(Need::Every, error.desc(), "take a kernel with CONFIG_NET_NS")],
    };
    // A trial that breaks off leaves what it found in no state to be told.
    std::thread::scope(|scope| scope.spawn(trial).join()).unwrap_or_default()
}

fn try_all(egressd: &Path) -> Vec<Finding> {
    let mut findings = vec![network().ok("can be made")];
    let cgroup = Finding::new(Level::Hooks, "cgroup", "what programs are attached to");
    let bench = match Bench::make() {
        Ok(bench) => bench,
        Err(error) => {
            findings.push(cgroup.missing(
                Need::Every,
                error.to_string(),
                "run as root, outside of a container",
            ));
            return findings;
        }
    };
    findings.push(cgroup.ok("can be made"));
    findings.extend(controls(&bench.cgroup));
    let hooks = hooks(&bench);
    let has_hooks = hooks.iter().all(|finding| finding.state == super::State::Ok);
    findings.extend(hooks);
    findings.push(table(&bench));
    if has_hooks {
        findings.extend(link(&bench));
        findings.extend(proof(&bench, egressd));
    }
    findings
}

/// The files by which agents are ended and stopped.
fn controls(cgroup: &Cgroup) -> Vec<Finding> {
    let file = |name: &str, protects, since| {
        let line = Finding::new(Level::Hooks, name, protects);
        match cgroup.path().join(name).exists() {
            true => line.ok("is there"),
            false => line.missing(Need::Every, "is not there", since),
        }
    };
    vec![
        file("cgroup.kill", "ending an agent with all that it left", "take Linux 5.14 or later"),
        file("cgroup.freeze", "stopping agents while nothing is proven", "take Linux 5.2 or later"),
    ]
}

fn hooks(bench: &Bench) -> Vec<Finding> {
    let named = |hook: &str| Finding::new(Level::Hooks, hook, protects(hook));
    let remedy = "take Linux 6.1 or later, with CONFIG_CGROUP_BPF";
    match try_each(&bench.pins, &bench.cgroup) {
        Ok(tried) => tried
            .into_iter()
            .map(|(hook, outcome)| match outcome {
                Ok(()) => named(hook).ok("loads, attaches"),
                Err(error) => named(hook).missing(need(hook), error.to_string(), remedy),
            })
            .collect(),
        Err(error) => vec![named("programs").missing(Need::Every, error.to_string(), remedy)],
    }
}

fn need(hook: &str) -> Need {
    if hook == FRAMES { Need::Sealed } else { Need::Every }
}

fn protects(hook: &str) -> &'static str {
    match hook {
        "egress" => "every packet, as it leaves",
        "ingress" => "every packet that comes in",
        "device" => "devices of an agent's own",
        "sock_create" => "sockets other than TCP and UDP",
        "sock_release" => "the bound of an agent's sockets",
        "setsockopt" => "routes, groups and marks of an agent's choice",
        "connect4" | "connect6" => "names, server names, and an error at once: connect(2)",
        "sendmsg4" | "sendmsg6" => "the same for UDP without connect(2)",
        "recvmsg4" | "recvmsg6" => "answers that come from where they were asked",
        "getpeername4" | "getpeername6" => "peers that are who was asked for",
        FRAMES => "every frame of a sealed agent, whatever made it",
        _ => "all agents",
    }
}

fn table(bench: &Bench) -> Finding {
    let line =
        Finding::new(Level::Network, "nft table", "a second deny, should the programs ever be missing");
    match Nft::claim(&bench.name, &bench.cgroup).and_then(|mut nft| nft.apply()) {
        Ok(()) => line.ok("takes cgroups, devices and address translation"),
        Err(error) => line.missing(
            Need::Every,
            error.to_string(),
            "install nftables 1.0 or later, with a kernel that has NFT_SOCKET and NFT_NAT",
        ),
    }
}

/// The link of a sealed agent: namespaces, both ends, the program and the chain of the host's end.
fn link(bench: &Bench) -> Vec<Finding> {
    let line = Finding::new(Level::Network, "link", "agents in namespaces of their own");
    let cell = match Cell::create(&bench.folder.join("cells"), &bench.name) {
        Ok(cell) => cell,
        Err(error) => {
            let remedy = "allow user namespaces, and load the kernel module `veth`";
            return vec![line.missing(Need::Sealed, error.to_string(), remedy)];
        }
    };
    let mut findings = vec![line.ok("user and network namespaces, and a veth pair")];
    let program = Finding::new(Level::Network, "tcx", protects(FRAMES));
    let attached = Frames::open(&bench.pins).and_then(|mut frames| frames.attach(cell.link()));
    let is_pinned = bench.pins.devices().join(&cell.link().name).exists();
    findings.push(match attached {
        Ok(()) if is_pinned => program.ok("attaches to the host's end of the link"),
        Ok(()) => program.degraded("missing; clsact does", "take Linux 6.6 or later, whose links are pinned"),
        Err(error) => program.missing(
            Need::Sealed,
            error.to_string(),
            "take Linux 6.6 or later, or the module `sch_ingress`",
        ),
    });
    let chain = Finding::new(Level::Network, "nft netdev", "a second deny at the host's end of the link");
    findings.push(match Nft::claim(&bench.name, &bench.cgroup).and_then(|nft| nft.close(cell.link())) {
        Ok(()) => chain.ok("takes a chain at the ingress of the link"),
        Err(error) => chain.missing(Need::Sealed, error.to_string(), "take a kernel with NF_TABLES_NETDEV"),
    });
    cell.remove();
    findings
}

/// All of it together, as a daemon does it before it is ready.
fn proof(bench: &Bench, egressd: &Path) -> Vec<Finding> {
    let line = Finding::new(Level::Proof, "self-proof", "all of the above, by what really left");
    let remedy = "look at what else judges or changes packets on this host";
    match prove(bench, egressd) {
        Ok((hooks, reader, findings)) if findings.passed() => {
            let found = format!("{} probes of a canary agent went where they must", findings.probes);
            vec![security_hooks(&hooks), line.ok(found), server_names(reader, &findings)]
        }
        Ok((hooks, _, Findings { leaked, lost, .. })) => {
            let found = format!("got out: [{}]; did not arrive: [{}]", leaked.join("; "), lost.join("; "));
            vec![security_hooks(&hooks), line.missing(Need::Every, found, remedy)]
        }
        Err(error) => vec![line.missing(Need::Every, error.to_string(), remedy)],
    }
}

/// What seccomp denies where these are missing, and then without a record.
fn security_hooks(hooks: &SecurityHooks) -> Finding {
    let line =
        Finding::new(Level::Hooks, "bpf lsm", "a record of sockets that seccomp would deny without one");
    match hooks.missing() {
        None => line.ok(format!("{} programs load, attach", hooks.programs().len())),
        Some(why) => line.degraded(
            format!("seccomp denies in place of {why}"),
            "boot with `bpf` in `lsm=`, on a kernel whose lockdown leaves BPF its rights",
        ),
    }
}

/// Without them, the proxy reads server names.
fn server_names(reader: Result<(), String>, findings: &Findings) -> Finding {
    let line = Finding::new(Level::Proof, "server names", "TLS that goes straight to its server");
    match reader.err().or_else(|| findings.doubt()) {
        None => line.ok("the kernel programs read them"),
        Some(why) => line.degraded(
            format!("the proxy reads them: {why}"),
            "take Linux 6.12 or later, with CONFIG_BPF_STREAM_PARSER and its BTF",
        ),
    }
}

type Proven = (SecurityHooks, Result<(), String>, Findings);

fn prove(bench: &Bench, egressd: &Path) -> Result<Proven, TrialError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut canary = Canary::start(&bench.cgroup, &bench.pins, egressd)?;
        let loaded = Ebpf::load(&bench.pins, &bench.cgroup, UseSecurityHooks::default())?;
        let Ebpf { programs, security_hooks, .. } = loaded;
        let nft = Nft::claim(&bench.name, &bench.cgroup).map_err(io::Error::other)?;
        let frames = Frames::open(&bench.pins).map_err(io::Error::other)?;
        let reader = programs.reader.clone();
        let fence = Fence::new(programs, nft, frames, Forwarding::new(&bench.folder));
        canary.admit(&fence)?;
        let findings = canary.prove(&fence).await;
        canary.end().await;
        Ok((security_hooks, reader, findings?))
    })
}

const FRAMES: &str = super::super::frames::PROGRAM;

fn network() -> Finding {
    Finding::new(Level::Network, "network namespaces", "a place for the canary, and for sealed agents")
}

/// Where things are tried. All of it goes when this is dropped.
struct Bench {
    name: String,
    folder: PathBuf,
    cgroup: Cgroup,
    pins: Pins,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
enum TrialError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("failed to make a bench: {0}")]
    Bench(#[from] io::Error),
    #[error(transparent)]
    Canary(#[from] CanaryError),
    #[error(transparent)]
    Ebpf(#[from] EbpfError),
}

impl Bench {
    fn make() -> Result<Self, TrialError> {
        let name = format!("doctor-{}", std::process::id());
        let folder = PathBuf::from(format!("/run/egressd-{name}"));
        let cgroup = Hierarchy::find()?.create(&format!("egressd-{name}"))?;
        let pins = Pins::open(&folder.join("bpf"));
        if pins.is_err() {
            let _ = cgroup.remove();
            let _ = fs::remove_dir_all(&folder);
        }
        Ok(Self { pins: pins?, name, folder, cgroup })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is left tells of itself by its name, and harms nobody.
        let _ = self.pins.clone().remove();
        let _ = self.cgroup.remove_with_all();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
