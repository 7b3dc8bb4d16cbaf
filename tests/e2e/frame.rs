//! One Ethernet frame, as far as the oracle has to read it.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// One Ethernet frame, or several that were one TCP stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

impl Frame {
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Whether `bytes` are anywhere in it. Letters match in either case, as in DNS.
    pub fn carries(&self, bytes: &[u8]) -> bool {
        self.0.windows(bytes.len()).any(|window| window.eq_ignore_ascii_case(bytes))
    }

    /// Where the IP packet in it goes.
    pub fn destination(&self) -> Option<IpAddr> {
        match self.ethertype()? {
            ETHERTYPE_IPV4 => Some(Ipv4Addr::from(self.array::<4>(30)?).into()),
            ETHERTYPE_IPV6 => Some(Ipv6Addr::from(self.array::<16>(38)?).into()),
            _ => None,
        }
    }

    /// Whether the kernel asks for a neighbour, or answers: ICMPv6 types 133 to 137 (RFC 4861).
    pub fn is_neighbour_discovery(&self) -> bool {
        matches!(self.transport(), Some((ICMPV6, offset))
            if self.0.get(offset).is_some_and(|kind| (133..=137).contains(kind)))
    }

    /// The TCP flow that it belongs to.
    pub fn flow(&self) -> Option<Flow> {
        self.segment().map(|(flow, _, _)| flow)
    }

    /// What a TCP segment to `port` carries, if anything.
    pub fn payload(&self, port: u16) -> Option<&[u8]> {
        let ((_, ports), _, data) = self.segment()?;
        let octets = self.0.get(data..self.end()?)?;
        (ports & 0xffff == u32::from(port) && !octets.is_empty()).then_some(octets)
    }

    /// What a UDP datagram to `port` carries.
    pub fn datagram(&self, port: u16) -> Option<&[u8]> {
        let (UDP, offset) = self.transport()? else { return None };
        let is_it = u16::from_be_bytes(self.array(offset + 2)?) == port;
        is_it.then(|| self.0.get(offset + 8..self.end()?)).flatten()
    }

    /// The neighbours that ARP (RFC 826) or a neighbour solicitation (RFC 4861, section 4.3) is
    /// about: who asks, and who is asked for.
    pub fn neighbours(&self) -> Option<[IpAddr; 2]> {
        if self.ethertype()? == ETHERTYPE_ARP {
            let at = |offset| Some(IpAddr::V4(Ipv4Addr::from(self.array::<4>(offset)?)));
            return Some([at(28)?, at(38)?]);
        }
        let (ICMPV6, offset) = self.transport()? else { return None };
        let is_question = self.0.get(offset) == Some(&NEIGHBOUR_SOLICITATION);
        let at = |offset| Some(IpAddr::V6(Ipv6Addr::from(self.array::<16>(offset)?)));
        is_question.then_some([at(22)?, at(offset + 8)?])
    }

    /// Every word in it that starts with `start`, in lower case.
    pub fn words(&self, start: &[u8]) -> Vec<String> {
        let starts = |at: &usize| {
            self.0[*at..].get(..start.len()).is_some_and(|word| word.eq_ignore_ascii_case(start))
        };
        let word = |at: usize| {
            let bytes = self.0[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric());
            bytes.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
        };
        (0..self.0.len()).filter(starts).map(word).collect()
    }

    /// Number of the protocol above IP, and where it begins. Extension headers are not followed.
    fn transport(&self) -> Option<(u8, usize)> {
        match self.ethertype()? {
            ETHERTYPE_IPV4 => Some((*self.0.get(23)?, 14 + usize::from(self.0.get(14)? & 15) * 4)),
            ETHERTYPE_IPV6 => Some((*self.0.get(20)?, 54)),
            _ => None,
        }
    }

    /// Where a TCP segment comes from and goes, its sequence number, and where its data begins.
    fn segment(&self) -> Option<(Flow, u32, usize)> {
        let (TCP, offset) = self.transport()? else { return None };
        let ports = u32::from_be_bytes(self.array(offset)?);
        // A SYN has a number of its own, ahead of what it carries.
        let opens = u32::from(*self.0.get(offset + 13)? & SYN != 0);
        let sequence = u32::from_be_bytes(self.array(offset + 4)?).wrapping_add(opens);
        let data = offset + usize::from(self.0.get(offset + 12)? >> 4) * 4;
        (data <= self.0.len()).then_some(((self.destination()?, ports), sequence, data))
    }

    /// Where the IP packet in it ends: a short frame is padded.
    fn end(&self) -> Option<usize> {
        match self.ethertype()? {
            ETHERTYPE_IPV4 => Some(14 + usize::from(u16::from_be_bytes(self.array(16)?))),
            ETHERTYPE_IPV6 => Some(54 + usize::from(u16::from_be_bytes(self.array(18)?))),
            _ => None,
        }
    }

    fn ethertype(&self) -> Option<u16> {
        self.array::<2>(12).map(u16::from_be_bytes)
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }
}

/// Joins the segments of each TCP flow to one long frame, or a text that is sent byte by byte
/// would not be seen. All else stays as it is.
pub fn reassemble(frames: Vec<Frame>) -> Vec<Frame> {
    let mut joined: Vec<Frame> = Vec::new();
    let mut flows: HashMap<Flow, (usize, u32)> = HashMap::new();
    for frame in frames {
        let Some((flow, sequence, data)) = frame.segment() else {
            joined.push(frame);
            continue;
        };
        let payload = &frame.0[data..];
        let end = sequence.wrapping_add(u32::try_from(payload.len()).expect("frames are short"));
        match flows.get_mut(&flow) {
            // Half of the number space lies behind: what was sent again is not joined again.
            Some((_, next)) if sequence.wrapping_sub(*next) >= 1 << 31 => {}
            Some((index, next)) => {
                joined[*index].0.extend(payload);
                *next = end;
            }
            None => {
                flows.insert(flow, (joined.len(), end));
                joined.push(frame);
            }
        }
    }
    joined
}

/// Octets of the payloads of TCP to `port`, each once however often it was sent.
pub fn payload_octets(frames: &[Frame], port: u16) -> u64 {
    let mut flows: HashMap<Flow, (u32, u32)> = HashMap::new();
    for frame in frames {
        let (Some((flow, sequence, _)), Some(payload)) = (frame.segment(), frame.payload(port)) else {
            continue;
        };
        let (first, length) = flows.entry(flow).or_insert((sequence, 0));
        let end = sequence.wrapping_sub(*first) + u32::try_from(payload.len()).expect("frames are short");
        *length = end.max(*length);
    }
    flows.values().map(|(_, length)| u64::from(*length)).sum()
}

/// Destination address and both ports of a TCP flow.
pub type Flow = (IpAddr, u32);

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.transport().map(|(protocol, _)| protocol);
        write!(f, "to {:?}, protocol {protocol:?}: {}", self.destination(), self.0.escape_ascii())
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const SYN: u8 = 2;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;

#[test]
fn a_text_that_is_sent_byte_by_byte_is_seen() {
    let segments: Vec<Frame> =
        b"marked".iter().zip(7..).map(|(byte, number)| segment(number, &[*byte])).collect();
    let again = [segments.clone(), vec![segment(8, b"a"), segment(13, b"!")]].concat();
    let joined = reassemble(again);
    assert_eq!(joined.len(), 1);
    assert!(joined[0].carries(b"marked!"), "{joined:?}");
}

#[cfg(test)]
fn segment(sequence: u8, data: &[u8]) -> Frame {
    let mut bytes = vec![0; 54];
    (bytes[12], bytes[14], bytes[23]) = (8, 0x45, TCP);
    (bytes[41], bytes[46]) = (sequence, 0x50);
    bytes.extend(data);
    Frame(bytes)
}
