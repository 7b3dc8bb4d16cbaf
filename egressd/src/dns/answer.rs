//! Writing what an agent is told (RFC 1035, section 4; RFC 8914 for the reason of a denial).

use super::{
    chain::FoundRecords,
    query::{CLASS_IN, Echo, Edns, OPCODE, QR, TYPE_OPT},
};
use crate::policy::{RecordType, Transport};
use std::{net::IpAddr, time::Duration};

/// The whole of an answer, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The addresses, directly under the name that was asked for. The aliases that led to them
    /// stay inside, so that an agent learns no name that it did not ask for.
    Addresses { addresses: Vec<IpAddr>, ttl: Duration },
    /// Records of another type, each as its data alone, directly under the name that was asked for.
    Records { kind: RecordType, data: Vec<Vec<u8>>, ttl: Duration },
    /// The name exists, without what was asked for.
    NoData { ttl: Duration },
    /// The name does not exist.
    NoName { ttl: Duration },
    /// Nothing, and why.
    Error { code: Code, explanation: Explanation },
}

/// Why there is no answer (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    FormErr = 1,
    ServFail = 2,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

impl Code {
    /// As tools of DNS show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
        }
    }
}

/// An Extended DNS Error. The text is for people and models, cut to [`MAX_EXPLANATION`] octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub info: Info,
    pub text: String,
}

/// Info codes of RFC 8914, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Info {
    Other = 0,
    /// The signatures of an answer do not hold.
    DnssecBogus = 6,
    /// By the policy of this resolver's operator.
    Blocked = 15,
    /// Nobody may ask for this here.
    Prohibited = 18,
    NoReachableAuthority = 22,
}

impl Answer {
    /// The message that tells this to who sent `echo`, no longer than `transport` and the agent's
    /// EDNS let it be. Addresses that do not fit are left out, and the TC bit says so.
    #[must_use]
    pub fn write(&self, echo: &Echo, transport: Transport) -> Vec<u8> {
        let mut message = Message::new(echo, limit(echo.edns, transport));
        match self {
            Self::Addresses { addresses, ttl } => message.addresses(addresses, seconds(*ttl)),
            Self::Records { kind, data, ttl } => message.records(kind.number(), data, seconds(*ttl)),
            Self::NoData { ttl } => message.authority(seconds(*ttl)),
            Self::NoName { ttl } => {
                message.code(NXDOMAIN);
                message.authority(seconds(*ttl));
            }
            Self::Error { code, .. } => message.code(*code as u16),
        }
        match self {
            Self::Addresses { .. } | Self::Records { .. } | Self::NoData { .. } | Self::NoName { .. } => {
                message.edns(echo, None);
            }
            Self::Error { explanation, .. } => message.edns(echo, Some(explanation)),
        }
        message.bytes
    }
}

impl From<FoundRecords> for Answer {
    fn from(found: FoundRecords) -> Self {
        match found {
            FoundRecords::Records { kind, data, ttl } => Self::Records { kind, data, ttl },
            FoundRecords::NoData { ttl } => Self::NoData { ttl },
            FoundRecords::NoName { ttl } => Self::NoName { ttl },
        }
    }
}

/// The most octets of a UDP answer: what crosses any link without fragments (RFC 9715, section 3).
pub const MAX_UDP: u16 = 1232;

/// Octets of an explanation: with the longest name, it fits into 512 octets.
pub const MAX_EXPLANATION: usize = 200;

const MIN_UDP: usize = 512;
const RA: u16 = 0x0080;
pub(super) const RD: u16 = 0x0100;
pub(super) const CD: u16 = 0x0010;
const NXDOMAIN: u16 = 3;
const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;

/// The TC bit, in the header's third octet.
pub(super) const TRUNCATED: u8 = 0x02;

/// Octets of a record before its data.
const RECORD_LENGTH: usize = 12;
pub(super) const OPT_LENGTH: usize = 11;
const OPTION_EDE: u16 = 15;

/// Points to the question's name, which always stands behind the header.
const QUESTION_NAME: [u8; 2] = [0xc0, 0x0c];

/// The most octets of an answer to who speaks `edns`.
pub(super) fn limit(edns: Option<Edns>, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => edns.map_or(MIN_UDP, |edns| usize::from(edns.payload.min(MAX_UDP)).max(MIN_UDP)),
    }
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
}

struct Message {
    bytes: Vec<u8>,
    limit: usize,
    /// The upper bits of the response code, which travel in the OPT record.
    extended_code: u8,
}

impl Message {
    fn new(echo: &Echo, limit: usize) -> Self {
        let mut message = Self { bytes: Vec::with_capacity(MIN_UDP), limit, extended_code: 0 };
        let flags = QR | RA | (echo.flags & (OPCODE | RD | CD));
        let questions = u16::from(!echo.question.is_empty());
        for word in [echo.id, flags, questions, 0, 0, 0] {
            message.u16(word);
        }
        message.bytes.extend_from_slice(&echo.question);
        message
    }

    fn code(&mut self, code: u16) {
        let [extended, low] = (code << 4).to_be_bytes();
        self.extended_code = extended;
        self.bytes[3] |= low >> 4;
    }

    fn addresses(&mut self, addresses: &[IpAddr], ttl: u32) {
        for address in addresses {
            let (kind, octets) = match address {
                IpAddr::V4(address) => (TYPE_A, address.octets().to_vec()),
                IpAddr::V6(address) => (TYPE_AAAA, address.octets().to_vec()),
            };
            if !self.fits(kind, ttl, &octets) {
                return;
            }
        }
    }

    fn records(&mut self, kind: u16, records: &[Vec<u8>], ttl: u32) {
        for data in records {
            if !self.fits(kind, ttl, data) {
                return;
            }
        }
    }

    /// Adds one record to the answers, or says that it does not fit.
    fn fits(&mut self, kind: u16, ttl: u32, data: &[u8]) -> bool {
        if self.bytes.len() + RECORD_LENGTH + data.len() + OPT_LENGTH > self.limit {
            self.bytes[2] |= TRUNCATED;
            return false;
        }
        self.record(kind, ttl, data);
        self.count(ANSWERS);
        true
    }

    /// An SOA of the name itself, so that the agent's side remembers the absence for `ttl` seconds
    /// (RFC 2308, section 5). Its server and mailbox are the root: nobody to write to.
    fn authority(&mut self, ttl: u32) {
        let timers = [1, 3600, 600, 86_400, ttl].map(u32::to_be_bytes).concat();
        self.record(TYPE_SOA, ttl, &[&[0, 0], &timers[..]].concat());
        self.count(AUTHORITIES);
    }

    fn edns(&mut self, echo: &Echo, explanation: Option<&Explanation>) {
        if echo.edns.is_none() {
            return;
        }
        let option = explanation.map(extended_error).unwrap_or_default();
        self.bytes.push(0);
        self.u16(TYPE_OPT);
        self.u16(MAX_UDP);
        self.bytes.extend_from_slice(&[self.extended_code, 0, 0, 0]);
        self.data(&option);
        self.count(ADDITIONALS);
    }

    fn record(&mut self, kind: u16, ttl: u32, data: &[u8]) {
        self.bytes.extend_from_slice(&QUESTION_NAME);
        self.u16(kind);
        self.u16(CLASS_IN);
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        self.data(data);
    }

    /// Record data behind its length. The longest is a record of another type, which `chain` bounds.
    fn data(&mut self, data: &[u8]) {
        self.u16(u16::try_from(data.len()).expect("record data is a few thousand octets at most"));
        self.bytes.extend_from_slice(data);
    }

    fn u16(&mut self, word: u16) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// Adds one to the header's count at `offset`. At most 64 KiB of records: it cannot overflow.
    fn count(&mut self, offset: usize) {
        let count = u16::from_be_bytes([self.bytes[offset], self.bytes[offset + 1]]) + 1;
        self.bytes[offset..offset + 2].copy_from_slice(&count.to_be_bytes());
    }
}

/// RFC 8914, section 2.
fn extended_error(explanation: &Explanation) -> Vec<u8> {
    let text = &explanation.text[..explanation.text.floor_char_boundary(MAX_EXPLANATION)];
    let length = u16::try_from(2 + text.len()).expect("the text was cut");
    let words = [OPTION_EDE, length, explanation.info as u16].map(u16::to_be_bytes).concat();
    [&words, text.as_bytes()].concat()
}

/// Places of the header's counts.
const ANSWERS: usize = 6;
const AUTHORITIES: usize = 8;
const ADDITIONALS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::query::Edns;
    use hickory_proto::op::{Message as Parsed, ResponseCode};

    #[test]
    fn an_answer_echoes_its_question_to_the_letter() {
        let answer = Answer::Addresses { addresses: v4(2), ttl: Duration::from_secs(60) };
        let bytes = answer.write(&echo(None), Transport::Udp);
        assert_eq!(bytes[12..12 + QUESTION.len()], *QUESTION);
        let parsed = Parsed::from_vec(&bytes).unwrap();
        assert_eq!((parsed.id, parsed.response_code), (0x1234, ResponseCode::NoError));
        assert!(parsed.recursion_desired && parsed.recursion_available && parsed.checking_disabled);
        assert!(!parsed.authoritative && !parsed.authentic_data && !parsed.truncation);
        assert_eq!(parsed.answers.len(), 2);
        assert_eq!(parsed.answers[1].to_string(), "oK.TeSt. 60 IN A 198.51.100.1");
        assert_eq!((parsed.edns, parsed.additionals.len()), (None, 0));
    }

    #[test]
    fn a_udp_answer_is_never_longer_than_the_agent_takes() {
        let fits = |payload: Option<u16>, count: usize, answers: usize| {
            let answer = Answer::Addresses { addresses: v4(count), ttl: Duration::from_secs(60) };
            let bytes = answer.write(&echo(payload), Transport::Udp);
            let parsed = Parsed::from_vec(&bytes).unwrap();
            assert_eq!((parsed.answers.len(), parsed.truncation), (answers, answers < count));
            bytes.len()
        };
        assert!(fits(None, 64, 29) <= 512);
        assert!(fits(Some(0), 64, 29) <= 512);
        assert!(fits(Some(4096), 64, 64) <= 1232);
        assert!(fits(Some(4096), 90, 74) <= 1232);
        let answer = Answer::Addresses { addresses: v4(90), ttl: Duration::ZERO };
        let parsed = Parsed::from_vec(&answer.write(&echo(None), Transport::Tcp)).unwrap();
        assert_eq!((parsed.answers.len(), parsed.truncation), (90, false));
    }

    #[test]
    fn records_of_other_types_stand_under_the_name_that_was_asked_for() {
        let records = |count: u8| Answer::Records {
            kind: RecordType::Mx,
            data: (0..count).map(|last| vec![0, last, 2, b'm', b'x', 4, b't', b'e', b's', b't', 0]).collect(),
            ttl: Duration::from_secs(60),
        };
        let parsed = Parsed::from_vec(&records(2).write(&echo(None), Transport::Udp)).unwrap();
        assert_eq!(parsed.answers[1].to_string(), "oK.TeSt. 60 IN MX 1 mx.test.");
        let cut = records(200).write(&echo(Some(1232)), Transport::Udp);
        assert!(cut.len() <= 1232 && Parsed::from_vec(&cut).unwrap().truncation);
        let whole = Parsed::from_vec(&records(64).write(&echo(None), Transport::Tcp)).unwrap();
        assert_eq!((whole.answers.len(), whole.truncation), (64, false));
    }

    #[test]
    fn an_absence_comes_with_how_long_to_remember_it() {
        let ttl = Duration::from_secs(30);
        for (answer, code) in [
            (Answer::NoData { ttl }, ResponseCode::NoError),
            (Answer::NoName { ttl }, ResponseCode::NXDomain),
        ] {
            let parsed = Parsed::from_vec(&answer.write(&echo(Some(1232)), Transport::Udp)).unwrap();
            assert_eq!((parsed.response_code, parsed.answers.len()), (code, 0));
            assert_eq!(parsed.authorities[0].to_string(), "oK.TeSt. 30 IN SOA . . 1 3600 600 86400 30");
            assert_eq!(parsed.edns.unwrap().max_payload(), 1232);
        }
    }

    #[test]
    fn a_denial_says_why_to_those_who_can_hear_it() {
        let explanation = Explanation { info: Info::Blocked, text: "é".repeat(150) };
        let denial = Answer::Error { code: Code::Refused, explanation };
        let bytes = denial.write(&echo(Some(512)), Transport::Udp);
        let parsed = Parsed::from_vec(&bytes).unwrap();
        assert_eq!(parsed.response_code, ResponseCode::Refused);
        let option: &[u8] = &[&[0, 15, 0, 202, 0, 15], "é".repeat(100).as_bytes()].concat();
        assert!(bytes.ends_with(option));
        let deaf = Parsed::from_vec(&denial.write(&echo(None), Transport::Udp)).unwrap();
        assert_eq!((deaf.response_code, deaf.edns), (ResponseCode::Refused, None));
    }

    #[test]
    fn the_longest_denial_fits_into_the_smallest_message() {
        let question = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0, 0, 1, 0, 1]].concat();
        let explanation = Explanation { info: Info::Blocked, text: "x".repeat(500) };
        let denial = Answer::Error { code: Code::Refused, explanation };
        assert!(denial.write(&Echo { question, ..echo(Some(512)) }, Transport::Udp).len() <= 512);
    }

    #[test]
    fn an_unknown_edns_version_is_told_in_twelve_bits() {
        let explanation = Explanation { info: Info::Other, text: String::new() };
        let answer = Answer::Error { code: Code::BadVers, explanation };
        let parsed = Parsed::from_vec(&answer.write(&echo(Some(512)), Transport::Tcp)).unwrap();
        assert_eq!(u16::from(parsed.response_code), 16);
    }

    const QUESTION: &[u8] = b"\x02oK\x04TeSt\0\0\x01\0\x01";

    fn echo(payload: Option<u16>) -> Echo {
        let edns = payload.map(|payload| Edns { payload });
        Echo { id: 0x1234, flags: 0x0170, question: QUESTION.to_vec(), edns }
    }

    fn v4(count: usize) -> Vec<IpAddr> {
        (0..count).map(|last| IpAddr::from([198, 51, 100, u8::try_from(last).unwrap()])).collect()
    }
}
