//! Cgroups that something else made: the programs on them, and what their processes hold already.
//!
//! A socket keeps the cgroup of its maker, whoever holds it. One that was made in the cgroup is seen
//! by programs that are attached later; one that was made elsewhere is never seen.

mod freeze;
mod inspect;
mod network;
mod place;
mod privilege;
mod process;
mod socket;

pub use freeze::Frozen;
pub use inspect::{Finding, InspectError, Inspection, What, inspect, strangers};
pub use network::{held_in, hold, release};
pub use place::{PlaceError, find};
pub use process::{Process, kill, members, namespace};

use super::{
    bpffs::Pins,
    cgroup::Cgroup,
    ebpf::{EbpfError, HOOKS},
    links::{self, AttachType},
    lsm::SecurityHooks,
    sockmap::LIFE,
};
use crate::policy::AgentId;
use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

/// Attaches every program to `cgroup`, or puts those of this daemon behind the links that an earlier
/// one left there: from one packet to the next.
///
/// # Errors
/// Names the hook that the kernel refuses; what is attached by then stays.
pub fn attach(
    pins: &Pins,
    security: &SecurityHooks,
    cgroup: &Cgroup,
    agent: AgentId,
) -> Result<(), EbpfError> {
    let folder = cgroup.file().map_err(|error| EbpfError::Cgroup(error.to_string()))?;
    hooks(pins, security).try_for_each(|hook| attach_one(pins, cgroup, &folder, agent, hook))
}

/// Detaches what [`attach`] attached for `agent`: from then on nothing judges its packets.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach(pins: &Pins, agent: AgentId) -> io::Result<()> {
    let prefix = prefix(agent);
    // Also those of an earlier daemon that had more of them.
    for entry in fs::read_dir(pins.links())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The hooks whose links are not pinned for `agent`.
#[must_use]
pub fn missing(pins: &Pins, security: &SecurityHooks, agent: AgentId) -> Vec<&'static str> {
    hooks(pins, security).map(|(hook, _)| hook).filter(|hook| !pin(pins, agent, hook).exists()).collect()
}

/// Those of the cgroup above all agents: the authority first. The one that follows sockets is there where
/// the kernel reads server names.
fn hooks(pins: &Pins, security: &SecurityHooks) -> impl Iterator<Item = (&'static str, AttachType)> {
    let follows = pins.programs().join(LIFE).exists().then_some((LIFE, AttachType::SocketOperations));
    let security = security.programs().map(|hook| (hook, AttachType::SecurityHook));
    HOOKS.into_iter().chain(follows).chain(security)
}

fn attach_one(
    pins: &Pins,
    cgroup: &Cgroup,
    folder: &File,
    agent: AgentId,
    (hook, kind): (&'static str, AttachType),
) -> Result<(), EbpfError> {
    let attach = |error| EbpfError::Attach { hook, error };
    let replace = |error| EbpfError::Replace { hook, error };
    let program = links::open(&pins.programs().join(hook)).map_err(attach)?;
    let program = program.ok_or(EbpfError::Missing(hook))?;
    let path = pin(pins, agent, hook);
    let link = links::open(&path).map_err(replace)?;
    let attached_to = link.as_ref().map(links::cgroup_of).transpose().map_err(replace)?;
    match link {
        Some(link) if attached_to == Some(cgroup.id()) => links::replace(link, program).map_err(replace),
        Some(_) => {
            // Of a cgroup that is gone.
            fs::remove_file(&path).map_err(replace)?;
            links::create(program, folder, kind, &path).map_err(attach)
        }
        None => links::create(program, folder, kind, &path).map_err(attach),
    }
}

/// Beside those of the cgroup above all agents: a bpffs takes no dots in names.
fn pin(pins: &Pins, agent: AgentId, hook: &str) -> PathBuf {
    pins.links().join(format!("{}{hook}", prefix(agent)))
}

fn prefix(agent: AgentId) -> String {
    format!("adopted-{agent}-")
}
