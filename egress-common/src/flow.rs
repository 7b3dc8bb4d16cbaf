//! Addresses, and where redirected sockets came from.

/// 16 octets in network order; IPv4 as v4-mapped IPv6.
pub type Address = [u8; 16];

/// IANA protocol numbers of the two transports that may leave.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// The v4-mapped form of an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn v4_mapped(octets: [u8; 4]) -> Address {
    let [a, b, c, d] = octets;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// FNV-1a, 64 bits (draft-eastlake-fnv). For keys in maps that outlive a process: the hash of the
/// standard library may change with the compiler.
#[must_use]
pub fn fnv1a(octets: impl IntoIterator<Item = u8>) -> u64 {
    let mix = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    octets.into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// 127.0.0.1, where the IPv4 listeners of the daemon are.
#[inline(always)]
#[must_use]
pub const fn loopback_v4() -> Address {
    v4_mapped([127, 0, 0, 1])
}

/// `::1`, where the IPv6 listeners of the daemon are.
#[inline(always)]
#[must_use]
pub const fn loopback_v6() -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
}

/// A redirected socket, as the daemon's listener sees its peer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginKey {
    pub agent: u32,
    pub port: u16,
    /// [`TCP`] or [`UDP`].
    pub transport: u8,
    pub zero: u8,
    pub address: Address,
}

/// What the kernel remembers of a redirected socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OriginValue {
    /// Thread group id of the socket's creator.
    pub pid: u32,
    /// Original destination.
    pub port: u16,
    pub zero: u16,
    pub address: Address,
    /// The creator's `comm`, NUL-padded.
    pub command: [u8; 16],
}

const _: () = assert!(size_of::<OriginKey>() == 24);
const _: () = assert!(size_of::<OriginValue>() == 40);

#[cfg(feature = "user")]
unsafe impl aya::Pod for OriginKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for OriginValue {}
