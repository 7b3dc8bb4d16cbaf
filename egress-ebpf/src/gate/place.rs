//! Where in memory the octets lie that were read: what leaves from the same place is what was judged.
//!
//! A hello may leave in several packets, of which none shows it whole. Its octets are in pages that the
//! kernel filled for the message (net/ipv4/tcp_bpf.c: it copies, whatever call they came by), and
//! nobody writes to them again; TCP sends from these very pages. Until the first packet has left, they all
//! are in TCP's queue, which keeps the pages from being used for anything else.

use super::offsets;
use crate::packet::Segment;
use aya_ebpf::{
    bindings::{__sk_buff, sk_msg_md},
    helpers::generated::bpf_probe_read_kernel,
};
use egress_common::GateOffsets;

/// The place of a hello's first octet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Place {
    /// Address of its struct page; 0 if nobody knows.
    page: u64,
    /// Octets from the begin of that page, which may be beyond its end: then it is in one of those behind it.
    offset: u32,
    zero: u32,
}

impl Place {
    pub const UNKNOWN: Self = Self { page: 0, offset: 0, zero: 0 };

    /// That of `message`, whose first `length` octets are in one piece.
    #[inline(always)]
    pub fn of(message: *const sk_msg_md, length: u32) -> Self {
        if !is_told(&offsets()) {
            return Self::UNKNOWN;
        }
        let Some(pieces) = read::<Pieces>(message as u64) else { return Self::UNKNOWN };
        let Piece { page, offset, length: there } = pieces.first;
        if pieces.start != 0 || there < length {
            return Self::UNKNOWN;
        }
        // include/linux/scatterlist.h: what else is in there are the two lowest bits.
        Self { page: page & !3, offset, zero: 0 }
    }

    /// Whether all of a packet's payload lies where the hello was read that is at this place, from its octet
    /// `begin` on.
    #[inline(always)]
    pub fn holds(&self, skb: *const __sk_buff, segment: &Segment, begin: u32) -> bool {
        let offsets = offsets();
        let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
        // Beside its headers, it must have nothing but pages.
        if !is_told(&offsets) || self.page == 0 || end.wrapping_sub(data) != segment.payload as usize {
            return false;
        }
        let Some(shared) = shared(skb, &offsets) else { return false };
        let Some(count) = read::<u8>(shared + u64::from(offsets.shared_count)) else { return false };
        let pages = shared + u64::from(offsets.shared_pages);
        let mut at = begin;
        for index in 0..MAX_PAGES {
            if index >= u64::from(count) {
                break;
            }
            let Some(found) = read::<Fragment>(pages + index * size_of::<Fragment>() as u64) else {
                return false;
            };
            if self.distance_to(&found, &offsets) != Some(u64::from(at)) {
                return false;
            }
            at = at.wrapping_add(found.length);
        }
        // What was not looked at is missing here.
        at.wrapping_sub(begin) == segment.length
    }

    /// Octets from here to the first one of `fragment`; None if that is in front, or far away.
    #[inline(always)]
    fn distance_to(&self, fragment: &Fragment, offsets: &GateOffsets) -> Option<u64> {
        let size = u64::from(offsets.page);
        let pages = fragment.page.wrapping_sub(self.page) / size;
        if pages > FAR || fragment.page != self.page.wrapping_add(pages * size) {
            return None;
        }
        let there = pages * u64::from(offsets.page_size) + u64::from(fragment.offset);
        there.checked_sub(u64::from(self.offset))
    }
}

/// Whether nobody can write the bytes of a packet after they were read: not those of sendfile(2),
/// splice(2) and MSG_ZEROCOPY (include/linux/skbuff.h, struct skb_shared_info, flags).
#[inline(always)]
pub fn is_private(skb: *const __sk_buff) -> bool {
    let offsets = offsets();
    if offsets.skb_head == 0 {
        return false;
    }
    let Some(shared) = shared(skb, &offsets) else { return false };
    read::<u8>(shared + u64::from(offsets.shared_flags)) == Some(0)
}

/// Whether places are known on this kernel at all.
#[inline(always)]
pub fn can_tell() -> bool {
    is_told(&offsets())
}

/// Whether the daemon knows where this kernel keeps pages. The rest of a function goes where the kernel sees
/// that it does not: memory may not be read then.
#[inline(always)]
fn is_told(offsets: &GateOffsets) -> bool {
    offsets.skb_head != 0 && offsets.shared_pages != 0 && offsets.page != 0
}

/// Where what packets share is: struct skb_shared_info.
#[inline(always)]
fn shared(skb: *const __sk_buff, offsets: &GateOffsets) -> Option<u64> {
    let base = skb as u64;
    let head = read::<u64>(base + u64::from(offsets.skb_head))?;
    let end = read::<u32>(base + u64::from(offsets.skb_end))?;
    Some(head + u64::from(end))
}

#[inline(always)]
fn read<T: Copy + Default>(from: u64) -> Option<T> {
    let mut value = T::default();
    let to = (&raw mut value).cast();
    let from = core::ptr::with_exposed_provenance(from as usize);
    (unsafe { bpf_probe_read_kernel(to, size_of::<T>() as u32, from) } == 0).then_some(value)
}

/// include/linux/skmsg.h, struct sk_msg_sg, up to its first piece. The daemon looks whether it is so.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Pieces {
    start: u32,
    unread: [u32; 7],
    first: Piece,
}

/// include/linux/scatterlist.h, struct scatterlist.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Piece {
    page: u64,
    offset: u32,
    length: u32,
}

/// include/linux/skbuff.h, struct skb_frag; before Linux 6.9, include/linux/bvec.h, struct bio_vec.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Fragment {
    page: u64,
    length: u32,
    offset: u32,
}

/// The most pages that octets of one hello are in, and some: the longest is in 6 of 4 KiB.
const MAX_PAGES: u64 = 8;
/// Pages that the kernel gives to one message, and some (net/core/sock.c, SKB_FRAG_PAGE_ORDER: 8).
const FAR: u64 = 64;
