//! Addresses that a public name has no business resolving to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of special an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialPurpose {
    /// Private use, shared address space, unique local, or a documentation range (which labs and
    /// closed networks use for mirrors): a rule may opt in (`private: true`).
    Private,
    /// Everything else: this host, link-local, metadata services, multicast, translation
    /// prefixes and reserved ranges. No rule with a name opts in.
    Never,
}

/// Whether `address` is special, by the IANA IPv4 and IPv6 special-purpose address registries
/// (RFC 6890), and what IPv6 addresses that embed an IPv4 address hold inside.
#[must_use]
pub fn special_purpose(address: IpAddr) -> Option<SpecialPurpose> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<SpecialPurpose> {
    if METADATA_V4.contains(&address) {
        return Some(SpecialPurpose::Never);
    }
    let octets = address.octets();
    match octets {
        [10, ..] | [192, 168, ..] => Some(SpecialPurpose::Private),
        [172, second, ..] if (16..32).contains(&second) => Some(SpecialPurpose::Private),
        [100, second, ..] if (64..128).contains(&second) => Some(SpecialPurpose::Private),
        [0 | 127, ..] | [169, 254, ..] | [224..=255, ..] => Some(SpecialPurpose::Never),
        // Documentation (RFC 5737).
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(SpecialPurpose::Private),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Some(SpecialPurpose::Never),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<SpecialPurpose> {
    if METADATA_V6.contains(&address) {
        return Some(SpecialPurpose::Never);
    }
    let segments = address.segments();
    match segments {
        // NAT64 (RFC 6052): the address inside decides, for it is the one that is reached.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => special_v4(embedded(high, low)),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some(SpecialPurpose::Private),
        // Global unicast is 2000::/3; of it 2001::/23, 2001:db8::/32, 6to4 and 3fff::/20 are not.
        [0x2001, 0xdb8, ..] => Some(SpecialPurpose::Private),
        [0x2001, second, ..] if second < 0x200 => Some(SpecialPurpose::Never),
        [0x2002, ..] => Some(SpecialPurpose::Never),
        [0x3fff, second, ..] if second < 0x1000 => Some(SpecialPurpose::Private),
        [first, ..] if first & 0xe000 == 0x2000 => None,
        _ => Some(SpecialPurpose::Never),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

/// Instance metadata and platform services of clouds, outside the ranges that are special anyway
/// or inside ranges that a rule may opt into.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(168, 63, 129, 16),   // Azure
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud
];

const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google Cloud
];
