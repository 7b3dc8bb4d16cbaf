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

const _: () = assert!(size_of::<Offsets>() == 36);

#[cfg(feature = "user")]
unsafe impl aya::Pod for Offsets {}
