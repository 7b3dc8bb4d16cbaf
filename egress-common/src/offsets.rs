//! Where the running kernel keeps what the programs on its security hooks read.

/// Offsets in octets, which differ from kernel to kernel. The daemon reads them from the kernel's
/// own type information before it loads the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// struct socket, `sk`.
    pub socket_sk: u32,
    /// struct sock, `sk_cgrp_data.cgroup`.
    pub sock_cgroup: u32,
    /// struct cgroup, `level`.
    pub cgroup_level: u32,
    /// struct cgroup, `ancestors`.
    pub cgroup_ancestors: u32,
    /// struct cgroup, `kn`.
    pub cgroup_node: u32,
    /// struct kernfs_node, `id`.
    pub node_id: u32,
    /// struct unix_sock, `addr`.
    pub unix_address: u32,
    /// struct unix_address, `len`.
    pub address_length: u32,
    /// struct unix_address, `name`.
    pub address_name: u32,
}

/// As [`Offsets`], of what the programs read that judge server names. All 0 where the kernel does not tell:
/// then they send everything to the proxy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateOffsets {
    /// struct tcp_sock, `write_seq`.
    pub write_seq: u32,
    /// struct sk_buff, `head`. 0 where kernel memory may not be read: then no second ClientHello passes, nor
    /// one that is longer than a packet.
    pub skb_head: u32,
    /// struct sk_buff, `end`, which counts from `head`.
    pub skb_end: u32,
    /// struct skb_shared_info, `flags`.
    pub shared_flags: u32,
    /// The same, `nr_frags`.
    pub shared_count: u32,
    /// The same, `frags`. 0 where messages or packets keep their pages otherwise than the programs know.
    pub shared_pages: u32,
    /// Octets of a struct page.
    pub page: u32,
    /// Octets of a page.
    pub page_size: u32,
}

impl GateOffsets {
    pub const NONE: Self = Self {
        write_seq: 0,
        skb_head: 0,
        skb_end: 0,
        shared_flags: 0,
        shared_count: 0,
        shared_pages: 0,
        page: 0,
        page_size: 0,
    };
}

const _: () = assert!(size_of::<Offsets>() == 36);
const _: () = assert!(size_of::<GateOffsets>() == 32);

#[cfg(feature = "user")]
unsafe impl aya::Pod for Offsets {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for GateOffsets {}
