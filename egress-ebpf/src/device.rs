//! Devices: what an agent may open.

use crate::{agent, error::Denied};
use aya_ebpf::programs::DeviceContext;
use egress_common::{AgentConfig, Device, DeviceKind, DropReason};

/// Lets agents use the devices that programs cannot do without, terminals and graphics. What else
/// there is may carry frames (tun, vhost), start machines that do (kvm), type for others (uinput,
/// consoles) or write to disks and memory.
#[inline(always)]
pub fn judge(ctx: &DeviceContext) -> Result<(), Denied> {
    let device = device(ctx);
    let makes = unsafe { (*ctx.device).access_type } >> ACCESS_SHIFT & ACCESS_MAKE != 0;
    if !makes && is_harmless(device) {
        return Ok(());
    }
    let agent = agent::of_current()?;
    if !makes && device == TUN && keeps_raw_frames(agent) {
        return Ok(());
    }
    Err(Denied::because(DropReason::DeviceNotAllowed))
}

/// The device that is asked for.
#[inline(always)]
pub fn device(ctx: &DeviceContext) -> Device {
    let asked = unsafe { &*ctx.device };
    let is_block = asked.access_type & KIND_MASK == DeviceKind::Block as u32;
    let kind = if is_block { DeviceKind::Block } else { DeviceKind::Character };
    Device { kind, major: asked.major, minor: asked.minor }
}

/// Whether `agent` may send frames of its own making into the network namespace that is its own.
#[inline(always)]
pub fn keeps_raw_frames(agent: u32) -> bool {
    agent::has(agent, AgentConfig::RAW_SOCKETS)
}

/// Numbers of Documentation/admin-guide/devices.txt.
#[inline(always)]
fn is_harmless(device: Device) -> bool {
    if device.kind == DeviceKind::Block {
        return false;
    }
    match (device.major, device.minor) {
        // null, zero, full, random, urandom
        (1, 3 | 5 | 7 | 8 | 9) => true,
        // tty: its own terminal; ptmx: new ones
        (5, 0 | 2) => true,
        // pts
        (136..=143, _) => true,
        // nvidia; dri
        (195 | 226, _) => true,
        _ => false,
    }
}

const TUN: Device = Device { kind: DeviceKind::Character, major: 10, minor: 200 };

// include/uapi/linux/bpf.h, struct bpf_cgroup_dev_ctx.
const KIND_MASK: u32 = 0xffff;
const ACCESS_SHIFT: u32 = 16;
const ACCESS_MAKE: u32 = 1;
