//! The kernel's security hooks, for what no cgroup hook sees: sockets of other families, abstract
//! Unix sockets of processes outside, io_uring and bpf(2).
//!
//! Not every kernel runs these programs. Where none does, the launcher's seccomp filter denies what
//! it can.

use crate::{agent, device::keeps_raw_frames, error::Denied};
use aya_ebpf::{
    helpers::{bpf_probe_read_kernel, generated},
    programs::LsmContext,
};
use core::ptr;
use egress_common::{DropReason, Offsets};

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
        AF_PACKET | AF_XDP | AF_NETLINK if keeps_raw_frames(agent) => Ok(()),
        _ => Err((asked, Denied::because(DropReason::SocketTypeNotAllowed))),
    }
}

/// Lets `sk` of this agent speak to the Unix socket `peer` where that has no name, a path, or a
/// maker in the same agent. Mount namespaces keep paths apart, and nothing keeps abstract names
/// apart in a network namespace that agents share with others.
#[inline(always)]
pub fn speak(peer: u64) -> Result<(), (UnixName, Denied)> {
    let not_readable = |denied| (NO_NAME, denied);
    let Some(name) = abstract_name(peer).map_err(not_readable)? else { return Ok(()) };
    let denied = match (agent::of_current(), agent_of(peer)) {
        (Ok(own), Ok(other)) if own == other => return Ok(()),
        (Ok(_), _) => FOREIGN,
        (Err(unknown), _) => unknown,
    };
    Err((name, denied))
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

/// The first octets of an abstract name, without the NUL before it.
pub type UnixName = [u8; 16];

const NO_NAME: UnixName = [0; 16];
const FOREIGN: Denied = Denied::because(DropReason::UnixSocketNotAllowed);

#[inline(always)]
fn abstract_name(sk: u64) -> Result<Option<UnixName>, Denied> {
    let offsets = offsets();
    let address: u64 = read(sk, offsets.unix_address)?;
    if address == 0 {
        return Ok(None);
    }
    let path = u64::from(offsets.address_name) + PATH;
    let first: u8 = read(address + path, 0)?;
    if first != 0 {
        return Ok(None);
    }
    let length: u32 = read(address, offsets.address_length)?;
    let octets = length.saturating_sub(PATH as u32 + 1).min(NO_NAME.len() as u32);
    let mut name = NO_NAME;
    let from = ptr::with_exposed_provenance((address + path + 1) as usize);
    match unsafe { generated::bpf_probe_read_kernel(name.as_mut_ptr().cast(), octets, from) } {
        0 => Ok(Some(name)),
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
