//! The kernel programs: loaded, attached to the cgroup above all agents, and pinned.

use super::{
    bpffs::Pins,
    budgets::Budgets,
    cgroup::Cgroup,
    fence::Programs,
    frames, layout,
    links::{self, AttachType},
    lsm::{self, Kernel, SecurityHooks, UseSecurityHooks},
    named::NamedFlows,
    sockmap::{self, SILENT},
    tables::Tables,
};
use aya::{
    EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{
        CgroupDevice, CgroupSkb, CgroupSock, CgroupSockAddr, CgroupSockopt, Program, ProgramError,
        SchedClassifier, SkMsg, SockOps,
    },
};
use egress_common::GateOffsets;
use std::{fs::File, io};

/// The programs, in the order in which they see a flow. Each is one hook and one pinned link.
pub const HOOKS: [(&str, AttachType); 14] = [
    // The authority first: from then on nothing leaves that it does not pass.
    ("egress", AttachType::Egress),
    ("ingress", AttachType::Ingress),
    ("sock_create", AttachType::SocketCreate),
    ("sock_release", AttachType::SocketRelease),
    ("setsockopt", AttachType::SetSocketOption),
    ("device", AttachType::Device),
    ("connect4", AttachType::Connect4),
    ("connect6", AttachType::Connect6),
    ("sendmsg4", AttachType::SendMessage4),
    ("sendmsg6", AttachType::SendMessage6),
    ("recvmsg4", AttachType::ReceiveMessage4),
    ("recvmsg6", AttachType::ReceiveMessage6),
    ("getpeername4", AttachType::GetPeerName4),
    ("getpeername6", AttachType::GetPeerName6),
];

/// The maps that outlive the daemon.
const MAPS: [&str; 19] = [
    "CGROUPS",
    "AGENTS",
    "SOCKET_COUNTS",
    "GRANTS",
    "NAMES",
    "NETWORKS",
    "DENIED_NETWORKS",
    "RULES",
    "BUDGETS",
    "ORIGINS",
    "LINKS",
    "FLOWS",
    "COUNTERS",
    "EVENTS",
    "SOCKETS",
    "SPOKEN",
    SILENT,
    "SILENT_COUNTS",
    "NAMED_FLOWS",
];

/// The loaded programs. Dropping this leaves them in force: the pins hold them.
pub struct Ebpf {
    pub programs: Programs,
    pub events: RingBuf<MapData>,
    pub security_hooks: SecurityHooks,
}

impl Ebpf {
    /// Loads the programs with the maps that are pinned, or with new ones, and puts each behind
    /// its pinned link, or attaches it to `cgroup` and pins the link.
    ///
    /// # Errors
    /// Names the hook or map that this kernel refuses. Nothing that was attached before is
    /// detached.
    pub fn load(pins: &Pins, cgroup: &Cgroup, security: UseSecurityHooks) -> Result<Self, EbpfError> {
        let kernel = match security {
            UseSecurityHooks::WhereTheKernelRunsThem => Kernel::look(),
            UseSecurityHooks::Never => Err("they are not to be used".to_owned()),
        };
        if let Some(map) = layout::forget_others(pins, OBJECT)? {
            tracing::warn!(map, "maps of another layout are replaced: flows that are open end");
        }
        let (mut object, reader) = sockmap::open(pins, kernel.as_ref().ok())?;
        let folder = cgroup.file().map_err(|error| EbpfError::Cgroup(error.to_string()))?;
        for (hook, kind) in HOOKS {
            let program = object.program_mut(hook).ok_or(EbpfError::Missing(hook))?;
            load_and_pin(program, hook, pins)?;
            attach(program, hook, kind, pins, cgroup, &folder)?;
        }
        // Where they cannot be attached, the proxy reads server names: no grant says that they do.
        let reader = reader.and_then(|()| {
            attach_reader(&mut object, pins, cgroup, &folder).map_err(|error| error.to_string())
        });
        let program = object.program_mut(frames::PROGRAM).ok_or(EbpfError::Missing(frames::PROGRAM))?;
        load_and_pin(program, frames::PROGRAM, pins)?;
        let security_hooks = lsm::attach_all(&mut object, kernel, |program, hook| {
            pin(program, hook, pins)
                .and_then(|()| attach(program, hook, AttachType::SecurityHook, pins, cgroup, &folder))
                .map_err(|error| error.to_string())
        });
        let events = object.take_map("EVENTS").ok_or(EbpfError::Missing("EVENTS"))?;
        Ok(Self {
            events: RingBuf::try_from(events).map_err(|error| EbpfError::Load(chain(&error)))?,
            programs: Programs {
                tables: Tables::take(&mut object)?,
                named_flows: NamedFlows::take(&mut object)?,
                budgets: Budgets::take(&mut object)?,
                reader,
            },
            security_hooks,
        })
    }
}

/// Why the programs are not in force.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    #[error("failed to load the kernel programs: {0}")]
    Load(String),
    #[error("`{0}` is not in the embedded object")]
    Missing(&'static str),
    #[error("this kernel refuses the `{hook}` program: {error}")]
    Refused { hook: &'static str, error: String },
    #[error("failed to attach `{hook}`: {error}")]
    Attach { hook: &'static str, error: io::Error },
    #[error("failed to pin `{hook}`: {error}")]
    Pin { hook: &'static str, error: String },
    #[error("failed to replace the program behind `{hook}`: {error}")]
    Replace { hook: &'static str, error: io::Error },
    #[error("the pinned `{0}` is attached to another cgroup: give each instance a run folder of its own")]
    Elsewhere(&'static str),
    #[error("{0}")]
    Cgroup(String),
    #[error("failed to use map `{map}`: {error}")]
    Map { map: &'static str, error: String },
}

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress.o"));

/// A hook, and how its program fared.
pub type Tried = (&'static str, Result<(), EbpfError>);

/// Loads and attaches each program for itself, and says how each fared. The last is the one for
/// frames, which is attached to no cgroup.
///
/// # Errors
/// The kernel refuses the maps.
pub fn try_each(pins: &Pins, cgroup: &Cgroup) -> Result<Vec<Tried>, EbpfError> {
    let mut object = open(pins, None, GateOffsets::default())?;
    let folder = cgroup.file().map_err(|error| EbpfError::Cgroup(error.to_string()))?;
    let mut outcomes = Vec::new();
    for (hook, kind) in HOOKS {
        let program = object.program_mut(hook).ok_or(EbpfError::Missing(hook))?;
        let tried = load_and_pin(program, hook, pins)
            .and_then(|()| attach(program, hook, kind, pins, cgroup, &folder));
        outcomes.push((hook, tried));
    }
    let program = object.program_mut(frames::PROGRAM).ok_or(EbpfError::Missing(frames::PROGRAM))?;
    outcomes.push((frames::PROGRAM, load_and_pin(program, frames::PROGRAM, pins)));
    Ok(outcomes)
}

/// The object with its maps: those that are pinned, or new ones.
pub fn open(pins: &Pins, kernel: Option<&Kernel>, gate: GateOffsets) -> Result<aya::Ebpf, EbpfError> {
    let mut loader = EbpfLoader::new();
    loader.override_global("GATE_OFFSETS", &gate, true);
    if let Some(kernel) = kernel {
        loader.override_global("OFFSETS", &kernel.offsets, true);
    }
    for map in MAPS {
        loader.map_pin_path(map, pins.maps().join(map));
    }
    loader.load(OBJECT).map_err(|error| EbpfError::Load(chain(&error)))
}

/// Attaches the programs that read server names.
fn attach_reader(
    object: &mut aya::Ebpf,
    pins: &Pins,
    cgroup: &Cgroup,
    folder: &File,
) -> Result<(), EbpfError> {
    sockmap::attach_message(object, pins)?;
    let program = object.program_mut(sockmap::LIFE).ok_or(EbpfError::Missing(sockmap::LIFE))?;
    pin(program, sockmap::LIFE, pins)?;
    attach(program, sockmap::LIFE, AttachType::SocketOperations, pins, cgroup, folder)
}

fn attach(
    program: &mut Program,
    hook: &'static str,
    kind: AttachType,
    pins: &Pins,
    cgroup: &Cgroup,
    folder: &File,
) -> Result<(), EbpfError> {
    let refused = |error: ProgramError| EbpfError::Refused { hook, error: chain(&error) };
    let loaded = program.fd().map_err(refused)?;
    let pinned = pins.links().join(hook);
    let replace = |error| EbpfError::Replace { hook, error };
    let link = links::open(&pinned).map_err(replace)?;
    let attached_to = link.as_ref().map(links::cgroup_of).transpose().map_err(replace)?;
    match (link, attached_to) {
        (Some(link), Some(id)) if id == cgroup.id() => links::replace(link, loaded).map_err(replace)?,
        (_, Some(id)) if id != 0 => return Err(EbpfError::Elsewhere(hook)),
        // No link, or one that went with its cgroup.
        _ => {
            let _ = std::fs::remove_file(&pinned);
            links::create(loaded, folder, kind, &pinned)
                .map_err(|error| EbpfError::Attach { hook, error })?;
        }
    }
    Ok(())
}

/// A program that is loaded already stays as it is.
fn load_and_pin(program: &mut Program, hook: &'static str, pins: &Pins) -> Result<(), EbpfError> {
    if program.fd().is_err() {
        load(program).map_err(|error| EbpfError::Refused { hook, error: chain(&error) })?;
    }
    pin(program, hook, pins)
}

pub fn pin(program: &mut Program, hook: &'static str, pins: &Pins) -> Result<(), EbpfError> {
    let path = pins.programs().join(hook);
    // A pin of the program that is about to be replaced: its link keeps it meanwhile.
    let _ = std::fs::remove_file(&path);
    program.pin(&path).map_err(|error| EbpfError::Pin { hook, error: chain(&error) })
}

pub fn load(program: &mut Program) -> Result<(), ProgramError> {
    if let Ok(program) = <&mut CgroupSkb>::try_from(&mut *program) {
        program.load()
    } else if let Ok(program) = <&mut CgroupSock>::try_from(&mut *program) {
        program.load()
    } else if let Ok(program) = <&mut CgroupSockopt>::try_from(&mut *program) {
        program.load()
    } else if let Ok(program) = <&mut SchedClassifier>::try_from(&mut *program) {
        program.load()
    } else if let Ok(program) = <&mut CgroupDevice>::try_from(&mut *program) {
        program.load()
    } else if let Ok(program) = <&mut SkMsg>::try_from(&mut *program) {
        program.load()
    } else if let Ok(program) = <&mut SockOps>::try_from(&mut *program) {
        program.load()
    } else {
        <&mut CgroupSockAddr>::try_from(program)?.load()
    }
}

/// An error with its causes; the verifier's word is in the last one.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Hierarchy;

    #[test]
    fn this_kernel_takes_every_program_and_a_restart_replaces_them_in_place() {
        let name = format!("egressd-load-{}", std::process::id());
        let hierarchy = Hierarchy::find().expect("cgroup2");
        let cgroup = hierarchy.create(&name).expect("cgroup");
        let folder = tempfile::tempdir().expect("folder");
        let pins = Pins::open(&folder.path().join("bpf")).expect("bpffs");
        let load = || Ebpf::load(&pins, &cgroup, UseSecurityHooks::default());
        let loaded = load().and_then(|_| load());
        let links = std::fs::read_dir(pins.links()).map(Iterator::count);
        pins.remove().expect("unpinned");
        cgroup.remove().expect("removed");
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.programs.reader, Ok(()));
        let hooks = loaded.security_hooks;
        assert_eq!(links.ok(), Some(HOOKS.len() + 1 + hooks.programs().len()));
        if let Some(missing) = hooks.missing() {
            println!("without security hooks: {missing}");
            let reasons = ["does not run them", "refuses the program", "unknown BTF type"];
            assert!(reasons.iter().any(|reason| missing.contains(reason)), "the verifier: {missing}");
        }
    }

    #[test]
    fn maps_of_another_layout_are_not_read_and_the_programs_begin_with_empty_ones() {
        let name = format!("egressd-layout-{}", std::process::id());
        let cgroup = Hierarchy::find().and_then(|all| all.create(&name)).expect("cgroup");
        let folder = tempfile::tempdir().expect("folder");
        let pins = Pins::open(&folder.path().join("bpf")).expect("bpffs");
        let load = || Ebpf::load(&pins, &cgroup, UseSecurityHooks::Never).map(drop);
        let same = load().and_then(|()| layout::forget_others(&pins, OBJECT));
        let [rules, names] = ["RULES", "NAMES"].map(|map| pins.maps().join(map));
        let swapped = std::fs::rename(rules, names);
        let other = layout::forget_others(&pins, OBJECT);
        let left = std::fs::read_dir(pins.maps()).map(Iterator::count);
        let again = load().and_then(|()| layout::forget_others(&pins, OBJECT));
        pins.remove().expect("unpinned");
        cgroup.remove().expect("removed");
        swapped.expect("another layout");
        assert_eq!(other.expect("forgotten").as_deref(), Some("NAMES"));
        assert_eq!(left.ok(), Some(0));
        assert_eq!([same.expect("loaded"), again.expect("loaded again")], [None, None]);
    }
}
