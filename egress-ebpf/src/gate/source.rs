//! Where hellos are read: in a message that is being sent, and in a packet that leaves.

use aya_ebpf::{
    bindings::{__sk_buff, sk_msg_md},
    helpers::generated::{bpf_msg_pull_data, bpf_skb_load_bytes},
};
use core::{arch::asm, ptr};
use egress_common::hello::{MAX_HELLO, MAX_NAME, Source, apart};

/// The first octets of a message, in one piece.
pub struct Message {
    data: usize,
    end: usize,
}

impl Message {
    /// The first `length` octets of `message`, which are pulled together if they are in several pieces.
    #[inline(always)]
    pub fn pull(message: *mut sk_msg_md, length: u32) -> Option<Self> {
        let Self { data, end } = Self::first(message);
        if end.wrapping_sub(data) < length as usize
            && unsafe { bpf_msg_pull_data(message, 0, length, 0) } != 0
        {
            return None;
        }
        Some(Self::first(message))
    }

    /// Its first piece; nothing where somebody else can write to it.
    #[inline(always)]
    fn first(message: *const sk_msg_md) -> Self {
        unsafe {
            Self {
                data: ptr::read_volatile(&raw const (*message).__bindgen_anon_1.data) as usize,
                end: ptr::read_volatile(&raw const (*message).__bindgen_anon_2.data_end) as usize,
            }
        }
    }

    /// Copies the `length` octets at `at`.
    #[inline(always)]
    pub fn copy(&self, at: u32, length: u32, into: &mut [u8; 256]) -> Option<()> {
        let from = self.data + bounded(at)?;
        let length = apart(length);
        for (index, to) in into.iter_mut().take(MAX_NAME as usize).enumerate() {
            if index as u32 >= length {
                break;
            }
            if from + index + 1 > self.end {
                return None;
            }
            *to = unsafe { *((from + index) as *const u8) };
        }
        Some(())
    }
}

impl Source for Message {
    #[inline(always)]
    fn octets<const N: usize>(&mut self, at: u32) -> Option<[u8; N]> {
        let from = self.data + bounded(at)?;
        if from + N > self.end {
            return None;
        }
        Some(unsafe { *(from as *const [u8; N]) })
    }
}

/// The payload of a packet.
pub struct Payload {
    pub skb: *const __sk_buff,
    /// Where it begins, from the IP header on.
    pub at: u32,
}

impl Payload {
    /// Copies the `length` octets at `at`.
    #[inline(always)]
    pub fn copy(&self, at: u32, length: u32, into: &mut [u8; 256]) -> Option<()> {
        // In a register of its own, so that the kernel sees the bounds that the compiler knows.
        let mut length = u64::from(length);
        unsafe { asm!("{0} &= 255", inout(reg) length) };
        if length == 0 {
            return None;
        }
        let from = self.at + bounded(at)? as u32;
        let to = into.as_mut_ptr().cast();
        let failed = unsafe { bpf_skb_load_bytes(self.skb.cast(), from, to, length as u32) };
        (failed == 0).then_some(())
    }
}

impl Source for Payload {
    #[inline(always)]
    fn octets<const N: usize>(&mut self, at: u32) -> Option<[u8; N]> {
        let mut octets = [0; N];
        let from = self.at + bounded(at)? as u32;
        let to = octets.as_mut_ptr().cast();
        let failed = unsafe { bpf_skb_load_bytes(self.skb.cast(), from, to, N as u32) };
        (failed == 0).then_some(octets)
    }
}

/// An offset that the kernel sees to be within a hello: the compiler, which knows, would leave the
/// check out.
#[inline(always)]
fn bounded(at: u32) -> Option<usize> {
    let mut at = u64::from(at);
    unsafe { asm!("{0} = {0}", inout(reg) at) };
    if at > u64::from(MAX_HELLO) { None } else { Some(at as usize) }
}
