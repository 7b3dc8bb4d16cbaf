//! Addresses that a public name has no business resolving to.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of special an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialPurpose {
    /// Not global, but a closed network may route it: private use, shared address space, unique
    /// local, documentation and benchmarks. A rule may opt in (`private: true`).
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

/// The special networks that lie within `network` and are not named by it: a rule for a wide network
/// is none for them. Merged, and empty where `network` is special itself and holds none that is more so.
#[must_use]
pub fn special_within(network: IpNet) -> Vec<IpNet> {
    let is_within = |block: &IpNet| network.contains(block) && network != *block;
    let blocks = V4_BLOCKS.iter().copied().map(IpNet::V4).chain(V6_BLOCKS.iter().copied().map(IpNet::V6));
    IpNet::aggregate(&blocks.filter(is_within).collect::<Vec<_>>())
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
        // Documentation (RFC 5737) and benchmarks (RFC 2544), which labs do use.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => {
            Some(SpecialPurpose::Private)
        }
        [0 | 127, ..] | [169, 254, ..] | [224..=255, ..] => Some(SpecialPurpose::Never),
        [192, 0, 0, _] | [192, 88, 99, _] => Some(SpecialPurpose::Never),
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
        // Documentation (RFC 3849, RFC 9637).
        [0x2001, 0xdb8, ..] => Some(SpecialPurpose::Private),
        [0x3fff, second, ..] if second < 0x1000 => Some(SpecialPurpose::Private),
        // Global unicast is 2000::/3; of it 2001::/23 and 6to4 are not.
        [0x2001, second, ..] if second < 0x200 => Some(SpecialPurpose::Never),
        [0x2002, ..] => Some(SpecialPurpose::Never),
        [first, ..] if first & 0xe000 == 0x2000 => None,
        _ => Some(SpecialPurpose::Never),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(a: u16, b: u16, c: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

/// What [`special_v4`] finds special, as networks.
const V4_BLOCKS: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 3),
    v4(169, 254, 169, 254, 32),
    v4(100, 100, 100, 200, 32),
    v4(168, 63, 129, 16, 32),
    v4(192, 0, 0, 192, 32),
];

/// What [`special_v6`] finds special, as networks. NAT64 is one: what is inside would have to be
/// looked at, and a network cannot.
const V6_BLOCKS: [Ipv6Net; 15] = [
    v6(0, 0, 0, 3),
    v6(0x4000, 0, 0, 2),
    v6(0x8000, 0, 0, 1),
    v6(0x64, 0xff9b, 0, 96),
    v6(0x64, 0xff9b, 1, 48),
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x2002, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
    v6(0xfc00, 0, 0, 7),
    v6(0xfe80, 0, 0, 10),
    v6(0xff00, 0, 0, 8),
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    Ipv6Net::new_assert(METADATA_V6[0], 128),
    Ipv6Net::new_assert(METADATA_V6[1], 128),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_not_special() {
        all(
            None,
            &[
                "1.1.1.1",
                "100.63.255.255",
                "100.128.0.0",
                "172.32.0.1",
                "192.0.1.1",
                "198.20.0.1",
                "223.255.255.255",
            ],
        );
        all(None, &["2606:4700::1111", "2001:200::1", "2620:fe::9", "3fff:1000::1", "64:ff9b::1.1.1.1"]);
    }

    #[test]
    fn a_rule_may_opt_into_closed_networks() {
        let private = Some(SpecialPurpose::Private);
        all(
            private,
            &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1"],
        );
        all(
            private,
            &["192.0.2.1", "198.51.100.1", "203.0.113.1", "fd12::1", "fc00::1", "2001:db8::1", "3fff::1"],
        );
        all(private, &["64:ff9b::10.0.0.1"]);
    }

    #[test]
    fn no_rule_opts_into_this_host_its_link_or_its_cloud() {
        let never = Some(SpecialPurpose::Never);
        all(
            never,
            &["0.0.0.0", "127.0.0.1", "127.255.255.255", "169.254.169.254", "169.254.0.1", "192.0.0.192"],
        );
        all(never, &["100.100.100.200", "168.63.129.16", "224.0.0.251", "240.0.0.1", "255.255.255.255"]);
        all(
            never,
            &["::", "::1", "fe80::1", "fec0::1", "ff02::fb", "fd00:ec2::254", "fd20:ce::254", "2002::1"],
        );
        all(never, &["2001::1", "64:ff9b:1::1", "100::1", "5f00::1", "4000::1"]);
    }

    #[test]
    fn an_embedded_address_does_not_hide() {
        let never = Some(SpecialPurpose::Never);
        all(
            never,
            &[
                "::ffff:127.0.0.1",
                "::ffff:1.1.1.1",
                "::127.0.0.1",
                "64:ff9b::127.0.0.1",
                "64:ff9b::169.254.169.254",
            ],
        );
        all(never, &["2002:7f00:1::", "64:ff9b::100.100.100.200"]);
    }

    #[test]
    fn a_wide_network_holds_what_is_special_in_holes() {
        let holes = |network: &str| special_within(network.parse().unwrap());
        for (network, address) in [
            ("0.0.0.0/0", "169.254.169.254"),
            ("0.0.0.0/0", "10.0.0.1"),
            ("8.0.0.0/6", "10.0.0.1"),
            ("100.64.0.0/10", "100.100.100.200"),
            ("168.0.0.0/8", "168.63.129.16"),
            ("::/0", "::1"),
            ("::/0", "::ffff:1.1.1.1"),
            ("2000::/3", "2001:db8::1"),
            ("fc00::/7", "fd00:ec2::254"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(holes(network).iter().any(|hole| hole.contains(&address)), "{network} holds {address}");
        }
        for network in
            ["10.0.0.0/8", "10.1.0.0/16", "169.254.169.254/32", "127.0.0.1/32", "1.0.0.0/8", "fd12::/16"]
        {
            assert_eq!(holes(network), [], "{network} is named whole");
        }
    }

    #[test]
    fn what_is_special_is_in_a_network_that_is() {
        let blocks = || special_within("0.0.0.0/0".parse().unwrap());
        let wide = |address: IpAddr| match address {
            IpAddr::V4(_) => blocks(),
            IpAddr::V6(_) => special_within("::/0".parse().unwrap()),
        };
        for first in 0..=255_u8 {
            for second in [0, 1, 16, 18, 31, 51, 63, 64, 88, 100, 127, 168, 254, 255] {
                for (third, fourth) in [(0, 0), (2, 1), (99, 9), (100, 200), (113, 7), (129, 16), (169, 254)]
                {
                    let address = IpAddr::from([first, second, third, fourth]);
                    let is_in = wide(address).iter().any(|block| block.contains(&address));
                    assert_eq!(special_purpose(address).is_some(), is_in, "{address}");
                }
            }
        }
        for first in (0..=0xffff_u16).step_by(0x101).chain([0x64, 0x2001, 0x2002, 0x3fff, 0xfd00]) {
            for second in [0, 1, 0x1ff, 0x200, 0xdb8, 0xfff, 0x1000, 0xec2] {
                let address = IpAddr::from([first, second, 0, 0, 0, 0, 0, 0x254]);
                let is_in = wide(address).iter().any(|block| block.contains(&address));
                assert_eq!(special_purpose(address).is_some(), is_in, "{address}");
            }
        }
    }

    fn all(special: Option<SpecialPurpose>, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(special_purpose(address.parse().unwrap()), special, "{address}");
        }
    }
}
