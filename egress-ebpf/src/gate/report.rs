//! What the daemon is told of server names.

use super::name;
use crate::{
    error::Denied,
    maps::{EVENTS, Socket, Spoken, replace},
    report::count,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns};
use core::{arch::asm, ptr};
use egress_common::{Event, Hook, LOST_EVENTS, NameEvent, NameValue, TCP};

/// The process behind a report.
pub struct Who {
    pid: u32,
    command: [u8; 16],
}

impl Who {
    /// The one that runs.
    #[inline(always)]
    pub fn current() -> Self {
        Self {
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            command: bpf_get_current_comm().unwrap_or([0; 16]),
        }
    }

    /// The one that made the socket: what leaves has no process.
    #[inline(always)]
    pub fn made(socket: &Socket) -> Self {
        Self { pid: socket.pid, command: socket.command }
    }
}

/// A flow that is denied.
#[inline(always)]
pub fn denial(socket: &Socket, spoken: &Spoken, who: Who, denied: &Denied) {
    count(socket.agent, denied.reason as u32);
    submit(socket, spoken, who, denied.reason as u32, denied.rule, 1);
}

/// A flow that named `granted`. One report in 100 ms stands for all of that name and address.
#[inline(always)]
pub fn permit(socket: &Socket, spoken: &Spoken, granted: &mut NameValue) {
    let now = unsafe { bpf_ktime_get_boot_ns() };
    add_short(&raw mut granted.flows, 1);
    let reported = granted.reported;
    // Of two processors, one reports.
    if now.wrapping_sub(reported) < PAUSE || !replace(&raw mut granted.reported, reported, now) {
        return;
    }
    let flows = unsafe { ptr::read_volatile(&raw const granted.flows) };
    add_short(&raw mut granted.flows, -(flows as i32));
    submit(socket, spoken, Who::current(), 0, granted.rule, flows);
}

/// Nanoseconds between two reports of one name and address.
const PAUSE: u64 = 100_000_000;

#[inline(always)]
fn submit(socket: &Socket, spoken: &Spoken, who: Who, reason: u32, rule: u32, flows: u32) {
    let Some(mut slot) = EVENTS.reserve::<NameEvent>(0) else { return count(socket.agent, LOST_EVENTS) };
    let event = slot.as_mut_ptr();
    unsafe {
        ptr::write(
            &raw mut (*event).event,
            Event {
                time: bpf_ktime_get_boot_ns(),
                agent: socket.agent,
                pid: who.pid,
                reason,
                rule,
                port: socket.flow_port,
                protocol: TCP,
                hook: Hook::ServerName as u8,
                family: 0,
                observed: 0,
                address: socket.flow_address,
                command: who.command,
            },
        );
        ptr::write(&raw mut (*event).cookie, spoken.flow.cookie);
        ptr::write(&raw mut (*event).source, spoken.key.source);
        ptr::write(&raw mut (*event).source_port, spoken.key.source_port);
        ptr::write(&raw mut (*event).zero, 0);
        ptr::write(&raw mut (*event).flows, flows);
        ptr::write(&raw mut (*event).length, spoken.flow.length);
        ptr::write(&raw mut (*event).state, u32::from(socket.gate));
        name::copy(&spoken.flow.name, &mut (*event).name);
    }
    slot.submit(0);
}

/// As [`crate::maps::add`], of 32 bits.
#[inline(always)]
fn add_short(counter: *mut u32, amount: i32) {
    unsafe {
        asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) counter, in(reg) i64::from(amount));
    }
}
