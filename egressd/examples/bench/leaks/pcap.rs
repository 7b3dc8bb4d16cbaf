//! The questions in a capture (the classic pcap format, one link-layer header a frame, UDP over IPv4).

use std::time::Duration;

/// One question that was sent to port 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Since the first one.
    pub at: Duration,
    /// As it stood on the wire, labels joined by dots.
    pub name: Vec<u8>,
    pub kind: u16,
}

/// Those of `file`, in their order. What is no question is skipped; None if it is no capture.
pub fn questions(file: &[u8]) -> Option<Vec<Asked>> {
    let order = match file.get(..4)? {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => u32::from_le_bytes,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => u32::from_be_bytes,
        _ => return None,
    };
    let word = |at: usize| Some(order(file.get(at..at + 4)?.try_into().ok()?));
    // The magic number says whether the second field of a time is in millionths or in billionths.
    let unit = if file[..4].contains(&0x3c) { 1 } else { 1_000 };
    let link_header = link_header(word(20)?)?;
    let mut asked: Vec<Asked> = Vec::new();
    let mut at = 24;
    let mut start = None;
    while let (Some(seconds), Some(fraction), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
        let frame = file.get(at + 16..at + 16 + length as usize)?;
        at += 16 + length as usize;
        let moment = Duration::new(u64::from(seconds), fraction * unit);
        if let Some((name, kind)) = frame.get(link_header..).and_then(question) {
            let start = *start.get_or_insert(moment);
            asked.push(Asked { at: moment.saturating_sub(start), name, kind });
        }
    }
    Some(asked)
}

/// Octets before the IP header, by LINKTYPE_*.
fn link_header(link: u32) -> Option<usize> {
    match link {
        1 => Some(14),        // Ethernet
        101 | 228 => Some(0), // raw IP
        113 => Some(16),      // Linux "any"
        276 => Some(20),      // the same, version 2
        _ => None,
    }
}

fn question(packet: &[u8]) -> Option<(Vec<u8>, u16)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let is_udp_v4 = packet[0] >> 4 == 4 && *packet.get(9)? == 17;
    let udp = packet.get(header..)?;
    let is_to_dns = udp.get(2..4)? == [0, 53];
    let message = udp.get(8..)?;
    let is_question = message.get(2)? & 0x80 == 0 && message.get(4..6)? == [0, 1];
    if !(is_udp_v4 && is_to_dns && is_question) {
        return None;
    }
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(message.get(at + 1..at + 1 + length)?);
        at += 1 + length;
    }
    let kind = u16::from_be_bytes(message.get(at + 1..at + 3)?.try_into().ok()?);
    Some((labels.join(&b'.'), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_from_a_frame() {
        let question =
            [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2][..], b"ab\x04test\0", &[0, 16, 0, 1]].concat();
        let answer = [&[0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 1][..]].concat();
        let mut file = [&[0xd4, 0xc3, 0xb2, 0xa1][..], &[0; 16], &1u32.to_le_bytes()].concat();
        for (seconds, message) in [(5u32, &question), (6, &answer), (7, &question)] {
            let ip = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17][..], &[0; 10]].concat();
            let udp = [0x30, 0x39, 0, 53, 0, 0, 0, 0];
            let frame = [&[0; 14][..], &ip, &udp, message].concat();
            file.extend(seconds.to_le_bytes());
            file.extend(500_000u32.to_le_bytes());
            file.extend(u32::try_from(frame.len()).unwrap().to_le_bytes().repeat(2));
            file.extend(frame);
        }
        let at = |seconds| Asked { at: Duration::from_secs(seconds), name: b"ab.test".to_vec(), kind: 16 };
        assert_eq!(questions(&file), Some(vec![at(0), at(2)]));
        assert_eq!(questions(b"no capture at all"), None);
    }
}
