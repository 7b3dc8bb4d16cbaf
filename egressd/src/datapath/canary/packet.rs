//! Packets as the tap reads and makes them (RFC 768, RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a packet is going, if it is plain TCP. Ports stand right after the IP header.
pub fn tcp_destination(packet: &[u8]) -> Option<SocketAddr> {
    let (protocol, address, header): (u8, IpAddr, usize) = match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (*packet.get(9)?, Ipv4Addr::from(address).into(), usize::from(packet.first()? & 15) * 4)
        }
        _ => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (*packet.get(6)?, Ipv6Addr::from(address).into(), 40)
        }
    };
    let port: [u8; 2] = packet.get(header + 2..header + 4)?.try_into().ok()?;
    (protocol == egress_common::TCP).then(|| SocketAddr::new(address, u16::from_be_bytes(port)))
}

/// Whether `packet` holds `octets` anywhere.
pub fn holds(packet: &[u8], octets: &[u8]) -> bool {
    packet.windows(octets.len()).any(|window| window == octets)
}

/// A UDP datagram in an IP packet; None where the families of the two ends differ.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).ok()?;
    let mut datagram = [from.port(), to.port(), length, 0].map(u16::to_be_bytes).concat();
    datagram.extend_from_slice(payload);
    packet(from.ip(), to.ip(), egress_common::UDP, datagram, Some(6))
}

/// A TCP segment that opens a connection and carries data, in an IP packet.
pub fn tcp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let mut segment = [from.port(), to.port()].map(u16::to_be_bytes).concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    packet(from.ip(), to.ip(), egress_common::TCP, segment, Some(16))
}

/// An IP packet of any protocol. The checksum of its content is written where `checksum_at` says.
pub fn packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    mut content: Vec<u8>,
    checksum_at: Option<usize>,
) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?;
    let [high, low] = length.to_be_bytes();
    let (header, ends) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ends = [from.octets(), to.octets()].concat();
            (v4_header(protocol, length, &ends), ends)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ends = [from.octets(), to.octets()].concat();
            ([&[0x60, 0, 0, 0, high, low, protocol, 64][..], &ends].concat(), ends)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    if let Some(at) = checksum_at {
        let summed = [&ends[..], &[0, protocol, high, low], &content].concat();
        // In UDP, 0 would say that there is none.
        let sum = Some(checksum(&summed)).filter(|sum| *sum != 0).unwrap_or(u16::MAX);
        content.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    }
    Some([header, content].concat())
}

const SYN: u8 = 2;

fn v4_header(protocol: u8, length: u16, ends: &[u8]) -> Vec<u8> {
    let [high, low] = length.saturating_add(20).to_be_bytes();
    let mut header = [&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0][..], ends].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_header_that_holds_its_own_is_zero() {
        let packet = udp("192.0.2.66:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap(), b"odd").unwrap();
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(packet.len(), 31);
    }

    #[test]
    fn only_tcp_has_a_tcp_destination() {
        let datagram =
            udp("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:9".parse().unwrap(), b"x").unwrap();
        assert_eq!(tcp_destination(&datagram), None);
        let mut segment = datagram;
        segment[6] = egress_common::TCP;
        assert_eq!(tcp_destination(&segment), Some("[2001:db8::2]:9".parse().unwrap()));
        assert_eq!(tcp_destination(&[]), None);
        assert_eq!(tcp_destination(&[0x4f; 21]), None);
    }
}
