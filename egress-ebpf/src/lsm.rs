//! The kernel's security hooks, for what no cgroup hook sees: sockets of other families, Unix sockets
//! of processes outside, io_uring and bpf(2).
//!
//! Not every kernel runs these programs. Where none does, the launcher's seccomp filter denies what
//! it can.

use crate::{agent, device::keeps_raw_frames, error::Denied};
use aya_ebpf::{
    helpers::{bpf_probe_read_kernel, generated},
    programs::LsmContext,
};
use core::ptr;
use egress_common::{AgentConfig, DropReason, Offsets};

/// A socket of another family that is asked for.
pub struct Asked {
    pub family: u16,
    pub protocol: u8,
}

/// Whether `asked` is how launchers look if this program runs: no kernel makes such sockets, so
/// that nothing is denied, and nothing recorded.
#[inline(always)]
pub fn is_probe(asked: &Asked) -> bool {
    asked.family == AF_UNSPEC
}

/// Lets Unix, IP and route netlink sockets be made; `sock_create` judges those of IP further.
#[inline(always)]
pub fn create(ctx: &LsmContext) -> Result<(), (Asked, Denied)> {
    let (family, protocol, by_kernel): (i32, i32, i32) = (ctx.arg(0), ctx.arg(2), ctx.arg(3));
    let allowed = match family {
        AF_UNIX | AF_INET | AF_INET6 => true,
        AF_NETLINK => protocol == NETLINK_ROUTE,
        _ => false,
    };
    // What the kernel makes for itself is no agent's to send by.
    if allowed || by_kernel != 0 {
        return Ok(());
    }
    let asked = Asked { family: family as u16, protocol: protocol as u8 };
    let agent = match agent::of_current() {
        Ok(agent) => agent,
        Err(denied) => return Err((asked, denied)),
    };
    match family {
        AF_NETLINK if protocol == NETLINK_GENERIC => {
            Err((asked, Denied::because(DropReason::SocketTypeNotAllowed)))
        }
        AF_PACKET | AF_XDP | AF_NETLINK if keeps_raw_frames(agent) => Ok(()),
        _ => Err((asked, Denied::because(DropReason::SocketTypeNotAllowed))),
    }
}

/// Lets this agent speak to the Unix socket `peer` where that has no name, a maker in the same agent,
/// or, if the agent may speak to the host's, a path. Whoever listens outside could send for it, and
/// mount namespaces hide only the paths that somebody thought of.
#[inline(always)]
pub fn speak(peer: u64) -> Result<(), (UnixName, Denied)> {
    let Some(name) = name_of(peer).map_err(|denied| (NO_NAME, denied))? else { return Ok(()) };
    let own = match agent::of_current() {
        Ok(own) => own,
        Err(unknown) => return Err((name, unknown)),
    };
    match agent_of(peer) {
        Ok(other) if other == own => Ok(()),
        _ if !name.is_abstract && agent::has(own, AgentConfig::HOST_SOCKETS) => Ok(()),
        _ => Err((name, FOREIGN)),
    }
}

/// The struct sock that is argument `index` of the hook.
#[inline(always)]
pub fn sock(ctx: &LsmContext, index: usize) -> u64 {
    ctx.arg(index)
}

/// The struct sock of the struct socket that is argument `index` of the hook; 0 is no socket, and
/// is denied.
#[inline(always)]
pub fn sock_of_socket(ctx: &LsmContext, index: usize) -> u64 {
    read(ctx.arg(index), offsets().socket_sk).unwrap_or(0)
}

/// What a Unix socket is bound to.
#[derive(Clone, Copy)]
pub struct UnixName {
    pub is_abstract: bool,
    /// The first octets; of an abstract name without the NUL before it.
    pub octets: [u8; 16],
}

const NO_NAME: UnixName = UnixName { is_abstract: false, octets: [0; 16] };
const FOREIGN: Denied = Denied::because(DropReason::UnixSocketNotAllowed);

#[inline(always)]
fn name_of(sk: u64) -> Result<Option<UnixName>, Denied> {
    let offsets = offsets();
    let address: u64 = read(sk, offsets.unix_address)?;
    if address == 0 {
        return Ok(None);
    }
    let path = u64::from(offsets.address_name) + PATH;
    let first: u8 = read(address + path, 0)?;
    let is_abstract = first == 0;
    let skipped = u64::from(is_abstract);
    let length: u32 = read(address, offsets.address_length)?;
    let mut octets = [0; 16];
    let count = length.saturating_sub((PATH + skipped) as u32).min(octets.len() as u32);
    let from = ptr::with_exposed_provenance((address + path + skipped) as usize);
    match unsafe { generated::bpf_probe_read_kernel(octets.as_mut_ptr().cast(), count, from) } {
        0 => Ok(Some(UnixName { is_abstract, octets })),
        _ => Err(FOREIGN),
    }
}

/// The agent of the process that made `sk`.
#[inline(always)]
fn agent_of(sk: u64) -> Result<u32, Denied> {
    let offsets = offsets();
    let cgroup: u64 = read(sk, offsets.sock_cgroup)?;
    let level: i32 = read(cgroup, offsets.cgroup_level)?;
    agent::find(id_of(cgroup)?, |ancestor| {
        if ancestor > level {
            return 0;
        }
        let slot = u64::from(offsets.cgroup_ancestors) + ancestor as u64 * 8;
        read(cgroup + slot, 0).and_then(id_of).unwrap_or(0)
    })
}

#[inline(always)]
fn id_of(cgroup: u64) -> Result<u64, Denied> {
    let node: u64 = read(cgroup, offsets().cgroup_node)?;
    read(node, offsets().node_id)
}

#[inline(always)]
fn read<T>(base: u64, offset: u32) -> Result<T, Denied> {
    let from = ptr::with_exposed_provenance((base + u64::from(offset)) as usize);
    unsafe { bpf_probe_read_kernel(from) }.map_err(|_| FOREIGN)
}

#[inline(always)]
fn offsets() -> Offsets {
    // Volatile: the compiler sees zeros, the kernel what the daemon wrote over them.
    unsafe { ptr::read_volatile(&raw const OFFSETS) }
}

/// Written by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    socket_sk: 0,
    sock_cgroup: 0,
    cgroup_level: 0,
    cgroup_ancestors: 0,
    cgroup_node: 0,
    node_id: 0,
    unix_address: 0,
    address_length: 0,
    address_name: 0,
};

/// struct sockaddr_un, `sun_path`.
const PATH: u64 = 2;

// include/linux/socket.h and include/uapi/linux/netlink.h.
const AF_UNSPEC: u16 = 0;
const AF_UNIX: i32 = 1;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const AF_NETLINK: i32 = 16;
const AF_PACKET: i32 = 17;
const AF_XDP: i32 = 44;
const NETLINK_ROUTE: i32 = 0;
/// By which a device would be told to leave checksums to others.
const NETLINK_GENERIC: i32 = 16;
