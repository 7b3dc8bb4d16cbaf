//! Who lives where on the lab's internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name with an address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub name: &'static str,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// What policies of the tests allow.
pub const OK: Place = place("ok.test", 10);
/// Another one, for policies that differ.
pub const ALT: Place = place("alt.test", 11);
/// Speaks no TLS: an echo on TCP and UDP, at any of [`crate::sinks::PORTS`].
pub const DB: Place = place("db.test", 12);
/// One address that serves two tenants, as CDNs do: `ok2.test` is allowed, `evil2.test` is not.
pub const SHARED: Place = place("ok2.test", 20);
/// The denied tenant of [`SHARED`].
pub const SHARED_EVIL: &str = "evil2.test";
/// What no policy allows.
pub const EVIL: Place = place("evil.test", 66);
/// At addresses that are global ones everywhere else: what no policy allows, and an agent in observe mode may
/// reach all the same.
pub const OPEN: Place = Place {
    name: "open.test",
    v4: Ipv4Addr::new(20, 99, 0, 77),
    v6: Ipv6Addr::new(0x2a99, 0, 0, 0, 0, 0, 0, 0x77),
};
/// The DNS server that the host is configured for.
pub const DNS: Place = place("ns.test", 53);

/// Another DNS server, beyond the gateway.
pub const OTHER_DNS_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
/// Where clouds keep credentials.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Of the link's network.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 255);
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const HOST_V6: Ipv6Addr = v6(1);
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);
pub const GATEWAY_V6: Ipv6Addr = v6(254);

/// Where web servers and sinks answer.
pub const PLACES: [Place; 6] = [OK, ALT, DB, SHARED, EVIL, OPEN];

/// All addresses of *inet*, without the gateway's.
pub fn addresses() -> impl Iterator<Item = IpAddr> {
    let places = PLACES.into_iter().chain([DNS]);
    let both = places.flat_map(|place| [IpAddr::V4(place.v4), IpAddr::V6(place.v6)]);
    both.chain([IpAddr::V4(OTHER_DNS_V4), IpAddr::V4(METADATA)])
}

/// Whether a fenced agent, or egressd for it, may have caused a packet to `address`: the lab's
/// network without [`EVIL`]. Of the groups, IPv6 ones, for the kernel joins some by itself.
pub fn may_be_reached(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) if v4 == BROADCAST => false,
        IpAddr::V4(v4) => v4 != EVIL.v4 && v4.octets()[..2] == GATEWAY_V4.octets()[..2],
        IpAddr::V6(v6) if v6.is_multicast() || v6.is_unicast_link_local() => true,
        IpAddr::V6(v6) => v6 != EVIL.v6 && v6.segments()[..4] == GATEWAY_V6.segments()[..4],
    }
}

const fn place(name: &'static str, number: u8) -> Place {
    Place { name, v4: Ipv4Addr::new(10, 99, 0, number), v6: v6(number) }
}

/// The number is written in the address as it is in IPv4: `fd99::66`, not `fd99::42`.
const fn v6(number: u8) -> Ipv6Addr {
    let (hundreds, tens, ones) = (number as u16 / 100, number as u16 / 10 % 10, number as u16 % 10);
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, hundreds << 8 | tens << 4 | ones)
}
