//! Whether a server name earned the grant for the address that it is sent to.

use crate::{
    error::Denied,
    maps::{NAMES, Socket},
};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use egress_common::{
    DropReason, NameKey, NameValue, SPEAKS_TLS,
    hello::{Hello, Name, Unread, apart},
};

/// The grant of `name`, whose octets are `octets`, in the hello of `socket`.
#[inline(always)]
pub fn judge<'a>(
    socket: &Socket,
    hello: &Hello,
    name: &Name,
    octets: &[u8; 256],
) -> Result<&'a mut NameValue, Denied> {
    let key = NameKey {
        agent: socket.agent,
        port: socket.flow_port,
        protocol: SPEAKS_TLS,
        zero: 0,
        address: socket.flow_address,
        name: name.hash,
    };
    let unknown = if name.is_valid { DropReason::ServerNameNotGranted } else { DropReason::NameInvalid };
    let unknown = Denied::because(unknown);
    let granted = unsafe { &mut *NAMES.get_ptr_mut(&key).ok_or(unknown)? };
    // The hash found it; that it is the name is certain only so.
    if granted.length != name.length || !is_same(&granted.name, octets, name.length) {
        return Err(unknown);
    }
    let rule = granted.rule;
    if granted.expires <= unsafe { bpf_ktime_get_boot_ns() } {
        return Err(Denied { reason: DropReason::GrantExpired, rule });
    }
    if granted.flags & NameValue::NEEDS_PROXY != 0 {
        return Err(Denied { reason: DropReason::ServerNameNotGranted, rule });
    }
    if hello.has(Hello::ECH) && granted.flags & NameValue::REFUSES_ECH != 0 {
        return Err(Denied { reason: DropReason::EchNotAllowed, rule });
    }
    Ok(granted)
}

/// Whether two names of `length` octets, with NUL behind them, are the same.
#[inline(always)]
pub fn is_same(one: &[u8; 256], other: &[u8; 256], length: u32) -> bool {
    let (one, other) = (one.as_ptr().cast::<u64>(), other.as_ptr().cast::<u64>());
    let mut difference = 0;
    let length = apart(length);
    for word in 0..32 {
        if word * 8 >= length as usize {
            break;
        }
        difference |= unsafe { *one.add(word) ^ *other.add(word) };
    }
    difference == 0
}

/// NUL everywhere, for what is written over it.
#[inline(always)]
pub fn clear(name: &mut [u8; 256]) {
    let words = name.as_mut_ptr().cast::<u64>();
    for word in 0..32 {
        unsafe { core::ptr::write_volatile(words.add(word), 0) };
    }
}

/// Writes one name over another.
#[inline(always)]
pub fn copy(from: &[u8; 256], to: &mut [u8; 256]) {
    let (from, to) = (from.as_ptr().cast::<u64>(), to.as_mut_ptr().cast::<u64>());
    for word in 0..32 {
        unsafe { core::ptr::write_volatile(to.add(word), *from.add(word)) };
    }
}

/// The reason for which a hello that was not read is denied.
#[inline(always)]
pub fn reason(unread: Unread) -> DropReason {
    match unread {
        Unread::NotTls => DropReason::NotTls,
        Unread::Malformed => DropReason::HelloMalformed,
        Unread::More(_) | Unread::Cut | Unread::Unreadable => DropReason::HelloUnreadable,
        Unread::Nameless => DropReason::ServerNameMissing,
        Unread::NotOneName => DropReason::NameInvalid,
    }
}
