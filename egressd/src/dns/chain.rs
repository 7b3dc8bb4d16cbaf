//! Reading an upstream's answer: from a name over its aliases to its addresses.

use super::query::Family;
use crate::policy::RecordType;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, Record},
    serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
};
use std::{net::IpAddr, time::Duration};

/// What an upstream knows of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Never empty. The TTL is the lowest on the way.
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    NoData {
        ttl: Duration,
    },
    NoName {
        ttl: Duration,
    },
}

/// What an upstream knows of a name, of another type than addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundRecords {
    /// The data of each record, names in it written out. Never empty, at most [`MAX_OTHER_RECORDS`]
    /// and [`MAX_OTHER_OCTETS`]. The TTL is the lowest on the way.
    Records {
        kind: RecordType,
        data: Vec<Vec<u8>>,
        ttl: Duration,
    },
    NoData {
        ttl: Duration,
    },
    NoName {
        ttl: Duration,
    },
}

impl Found {
    #[must_use]
    pub fn ttl(&self) -> Duration {
        match self {
            Self::Addresses { ttl, .. } | Self::NoData { ttl } | Self::NoName { ttl } => *ttl,
        }
    }
}

/// Where one response leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    Found(T),
    /// The chain goes on at this name, which has to be asked for next.
    Alias(Name),
}

/// A chain of aliases, across as many responses as it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain<W = Family> {
    name: Name,
    wanted: W,
    links: usize,
    ttl: u32,
}

/// The most aliases that lead from one name to its addresses: real chains have five or six.
pub const MAX_LINKS: usize = 16;

/// The most addresses of one answer that are read. An answer with more is not a name's, but an
/// attempt to fill memory.
pub const MAX_RECORDS: usize = 256;

/// The most records of another type that are read of one answer, and octets of their data: what a
/// domain that lives by its TXT records has, and no more.
pub const MAX_OTHER_RECORDS: usize = 64;
pub const MAX_OTHER_OCTETS: usize = 4096;

/// How long an absence is remembered whose zone does not say.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(60);

impl Chain<Family> {
    #[must_use]
    pub fn new(name: Name, family: Family) -> Self {
        Self { name, wanted: family, links: 0, ttl: u32::MAX }
    }

    /// Follows `response`, which answers a question for this chain's current name.
    ///
    /// Only answer records that stand under the names of the chain count, whatever else the message
    /// holds.
    ///
    /// # Errors
    /// The chain is too long, as one that closes in on itself is, or its end is too large.
    pub fn follow(&mut self, response: &Message) -> Result<Step<Found>, ChainError> {
        let family = self.wanted;
        let end = self.walk(response, |record| address(record, family).is_some())?;
        Ok(match end {
            End::Alias(name) => Step::Alias(name),
            End::NoData(ttl) => Step::Found(Found::NoData { ttl }),
            End::NoName(ttl) => Step::Found(Found::NoName { ttl }),
            End::Records(records, ttl) if records.len() <= MAX_RECORDS => {
                let addresses = records.iter().filter_map(|record| address(record, family)).collect();
                Step::Found(Found::Addresses { addresses, ttl })
            }
            End::Records(records, _) => return Err(ChainError::Records(records.len())),
        })
    }
}

impl Chain<RecordType> {
    #[must_use]
    pub fn of_records(name: Name, kind: RecordType) -> Self {
        Self { name, wanted: kind, links: 0, ttl: u32::MAX }
    }

    /// The same as [`Chain::follow`], to records of another type.
    ///
    /// # Errors
    /// The chain is too long, or what stands at its end is too much or cannot be written again.
    pub fn follow_records(&mut self, response: &Message) -> Result<Step<FoundRecords>, ChainError> {
        let kind = self.wanted;
        let end = self.walk(response, |record| u16::from(record.record_type()) == kind.number())?;
        Ok(match end {
            End::Alias(name) => Step::Alias(name),
            End::NoData(ttl) => Step::Found(FoundRecords::NoData { ttl }),
            End::NoName(ttl) => Step::Found(FoundRecords::NoName { ttl }),
            End::Records(records, ttl) => {
                Step::Found(FoundRecords::Records { kind, data: written_out(&records)?, ttl })
            }
        })
    }
}

impl<W> Chain<W> {
    /// The name to ask for next.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    fn walk<'a>(
        &mut self,
        response: &'a Message,
        is_wanted: impl Fn(&Record) -> bool,
    ) -> Result<End<'a>, ChainError> {
        let asked = self.name.clone();
        loop {
            let here: Vec<&Record> = response.answers.iter().filter(|record| self.is_here(record)).collect();
            let wanted: Vec<&Record> = here.iter().copied().filter(|record| is_wanted(record)).collect();
            if !wanted.is_empty() {
                let ttl = wanted.iter().map(|record| record.ttl).fold(self.ttl, u32::min);
                return Ok(End::Records(wanted, Duration::from_secs(u64::from(ttl))));
            }
            let Some((target, ttl)) = here.iter().find_map(|record| alias(record)) else {
                return Ok(self.end(&asked, response));
            };
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(ChainError::Links);
            }
            self.ttl = self.ttl.min(ttl);
            self.name = target.to_lowercase();
        }
    }

    fn is_here(&self, record: &Record) -> bool {
        record.dns_class == DNSClass::IN && record.name == self.name
    }

    /// The response has nothing more: the name does not exist, has no such record, or has to be
    /// asked for by itself. An SOA says that the absence is the answer (RFC 2308, section 2.2).
    fn end(&self, asked: &Name, response: &Message) -> End<'static> {
        let soa = response.authorities.iter().find_map(absence);
        let ttl = negative_ttl(soa);
        if response.metadata.response_code == ResponseCode::NXDomain {
            End::NoName(ttl)
        } else if soa.is_some() || *asked == self.name {
            End::NoData(ttl)
        } else {
            End::Alias(self.name.clone())
        }
    }
}

/// What one response says of a chain.
enum End<'a> {
    Records(Vec<&'a Record>, Duration),
    NoData(Duration),
    NoName(Duration),
    Alias(Name),
}

fn address(record: &Record, family: Family) -> Option<IpAddr> {
    let address = record.data.ip_addr()?;
    (address.is_ipv4() == (family == Family::V4)).then_some(address)
}

/// The data of each record as it stands alone, its names not pointing into any message.
fn written_out(records: &[&Record]) -> Result<Vec<Vec<u8>>, ChainError> {
    if records.len() > MAX_OTHER_RECORDS {
        return Err(ChainError::OtherRecords(records.len()));
    }
    let mut octets = 0;
    let mut written = Vec::with_capacity(records.len());
    for record in records {
        let data = alone(&record.data).ok_or(ChainError::Data)?;
        octets += data.len();
        if octets > MAX_OTHER_OCTETS {
            return Err(ChainError::Octets);
        }
        written.push(data);
    }
    Ok(written)
}

fn alone(data: &RData) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).ok()?;
    Some(octets)
}

fn alias(record: &Record) -> Option<(&Name, u32)> {
    if let RData::CNAME(target) = &record.data { Some((&target.0, record.ttl)) } else { None }
}

fn absence(record: &Record) -> Option<u32> {
    if let RData::SOA(soa) = &record.data { Some(record.ttl.min(soa.minimum)) } else { None }
}

/// How long an absence may be remembered, by its zone's SOA if there was one.
#[must_use]
pub fn negative_ttl(soa: Option<u32>) -> Duration {
    soa.map_or(NEGATIVE_TTL, |seconds| Duration::from_secs(u64::from(seconds)))
}

/// Why an answer is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("name leads over more than {MAX_LINKS} aliases")]
    Links,
    #[error("name has {0} addresses, at most {MAX_RECORDS} are read")]
    Records(usize),
    #[error("name has {0} records, at most {MAX_OTHER_RECORDS} are read")]
    OtherRecords(usize),
    #[error("name's records take more than {MAX_OTHER_OCTETS} octets")]
    Octets,
    #[error("name has a record that cannot be written again")]
    Data,
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::OpCode,
        rr::rdata::{A, AAAA, CNAME, SOA},
    };

    #[test]
    fn aliases_are_followed_to_the_addresses_at_their_end() {
        let answers = [alias("ok.test", "a.test"), alias("A.test", "b.test"), address("b.test", 1)];
        assert_eq!(follow(&answers, &[]), Ok(Step::Found(addresses(&[1]))));
        let shuffled = [address("b.test", 1), alias("a.test", "b.test"), alias("ok.test", "A.TEST")];
        assert_eq!(follow(&shuffled, &[]), Ok(Step::Found(addresses(&[1]))));
    }

    #[test]
    fn a_record_under_another_name_does_not_count() {
        let answers = [address("evil.test", 9), address("ok.test", 1), address("sub.ok.test", 8)];
        assert_eq!(follow(&answers, &[]), Ok(Step::Found(addresses(&[1]))));
        let stray = follow(&[address("evil.test", 9)], &[]);
        assert_eq!(stray, Ok(Step::Found(Found::NoData { ttl: NEGATIVE_TTL })));
        let mut response = response(&[], &[]);
        response.additionals.push(address("ok.test", 9));
        let mut chain = Chain::new(name("ok.test"), Family::V4);
        assert_eq!(chain.follow(&response), Ok(Step::Found(Found::NoData { ttl: NEGATIVE_TTL })));
    }

    #[test]
    fn an_address_of_the_other_family_does_not_count() {
        let other = RData::AAAA(AAAA::from("2606::1".parse::<std::net::Ipv6Addr>().unwrap()));
        let answers = [Record::from_rdata(name("ok.test"), 60, other), address("ok.test", 1)];
        assert_eq!(follow(&answers, &[]), Ok(Step::Found(addresses(&[1]))));
    }

    #[test]
    fn a_chain_that_closes_in_on_itself_is_an_error() {
        assert_eq!(follow(&[alias("ok.test", "ok.test")], &[]), Err(ChainError::Links));
        assert_eq!(
            follow(&[alias("ok.test", "a.test"), alias("a.test", "ok.test")], &[]),
            Err(ChainError::Links)
        );
    }

    #[test]
    fn a_chain_may_have_sixteen_links_and_not_one_more() {
        let links = |count: usize| -> Vec<Record> {
            let link = |n: usize| alias(&place(n), &place(n + 1));
            (0..count).map(link).chain([address(&place(count), 1)]).collect()
        };
        assert_eq!(follow(&links(16), &[]), Ok(Step::Found(addresses(&[1]))));
        assert_eq!(follow(&links(17), &[]), Err(ChainError::Links));
    }

    #[test]
    fn a_chain_without_an_end_is_asked_on_unless_its_zone_says_no() {
        let answers = [alias("ok.test", "cdn.test")];
        assert_eq!(follow(&answers, &[]), Ok(Step::Alias(name("cdn.test"))));
        let absent = Step::Found(Found::NoData { ttl: Duration::from_secs(20) });
        assert_eq!(follow(&answers, &[soa("test", 20)]), Ok(absent));
        let mut missing = response(&answers, &[soa("test", 20)]);
        missing.metadata.response_code = ResponseCode::NXDomain;
        let none = Step::Found(Found::NoName { ttl: Duration::from_secs(20) });
        assert_eq!(Chain::new(name("ok.test"), Family::V4).follow(&missing), Ok(none));
    }

    #[test]
    fn the_lowest_ttl_of_a_chain_counts() {
        let mut short = alias("ok.test", "a.test");
        short.ttl = 7;
        let Ok(Step::Found(Found::Addresses { ttl, .. })) = follow(&[short, address("a.test", 1)], &[])
        else {
            panic!("the chain ends in an address")
        };
        assert_eq!(ttl, Duration::from_secs(7));
    }

    #[test]
    fn an_answer_with_hundreds_of_addresses_is_not_read() {
        let answers = |count: usize| -> Vec<Record> { (0..count).map(|_| address("ok.test", 1)).collect() };
        assert!(follow(&answers(256), &[]).is_ok());
        assert_eq!(follow(&answers(257), &[]), Err(ChainError::Records(257)));
    }

    fn follow(answers: &[Record], authorities: &[Record]) -> Result<Step<Found>, ChainError> {
        Chain::new(name("ok.test"), Family::V4).follow(&response(answers, authorities))
    }

    fn response(answers: &[Record], authorities: &[Record]) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.answers = answers.to_vec();
        message.authorities = authorities.to_vec();
        message
    }

    fn place(number: usize) -> String {
        if number == 0 { "ok.test".to_owned() } else { format!("n{number}.test") }
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).unwrap()
    }

    fn alias(from: &str, to: &str) -> Record {
        Record::from_rdata(name(from), 60, RData::CNAME(CNAME(name(to))))
    }

    fn address(at: &str, last: u8) -> Record {
        Record::from_rdata(name(at), 60, RData::A(A::new(198, 51, 100, last)))
    }

    fn soa(zone: &str, minimum: u32) -> Record {
        let soa = SOA::new(name("ns.test"), name("admin.test"), 1, 1, 1, 1, minimum);
        Record::from_rdata(name(zone), 900, RData::SOA(soa))
    }

    fn addresses(last: &[u8]) -> Found {
        let addresses = last.iter().map(|last| IpAddr::from([198, 51, 100, *last])).collect();
        Found::Addresses { addresses, ttl: Duration::from_secs(60) }
    }
}
