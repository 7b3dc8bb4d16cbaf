//! Looking at signatures (RFC 4035): what is bogus is no answer.
//!
//! A zone without signatures below a parent that proves it (no DS) is insecure, and allowed, as
//! without validation. What cannot be proven either way is bogus.

use super::{LookupError, UpstreamError, fleet::Fleet};
use hickory_resolver::{
    net::{DnsError, DnsHandle, NetError, dnssec::DnssecDnsHandle, xfer::FirstAnswer},
    proto::{
        dnssec::{Proof, TrustAnchors, rdata::DNSSECRData},
        op::{DnsRequestOptions, DnsResponse, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType},
    },
};
use std::{path::Path, sync::Arc};

/// Asks, and looks at the signatures of what comes.
pub(super) struct Validator(DnssecDnsHandle<Fleet>);

impl Validator {
    /// Trusts the keys in the file `anchor`, one DNSKEY record a line, or those of the root.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key.
    pub(super) fn new(fleet: Fleet, anchor: Option<&Path>) -> Result<Self, UpstreamError> {
        let anchors = anchor.map_or_else(|| Ok(TrustAnchors::default()), read)?;
        Ok(Self(DnssecDnsHandle::with_trust_anchor(fleet, Arc::new(anchors))))
    }

    /// An answer whose records are secure or proven to be insecure.
    ///
    /// # Errors
    /// No resolver answered, or what they say is bogus.
    pub(super) async fn ask(&self, question: &Query) -> Result<DnsResponse, LookupError> {
        let bogus = || LookupError::Bogus(question.name().to_lowercase());
        let response =
            match self.0.lookup(question.clone(), DnsRequestOptions::default()).first_answer().await {
                Ok(response) => response,
                Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. })) => *response,
                // The library asks for one proof of the whole message: an alias whose end is absent, and a
                // wildcard whose own record is the proof, are bogus to it.
                Err(NetError::Dns(DnsError::Nsec { response, .. })) => {
                    return own_records(*response, question).ok_or_else(bogus);
                }
                Err(error) => return Err(LookupError::Unanswered(error.to_string())),
            };
        if response.answers.iter().filter(|record| counts(record, question)).all(holds) {
            Ok(response)
        } else {
            Err(bogus())
        }
    }
}

fn read(path: &Path) -> Result<TrustAnchors, UpstreamError> {
    let failed = |why: String| UpstreamError::Anchor { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let has_key = text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with(';'));
    if !has_key {
        return Err(failed("it holds no key".to_owned()));
    }
    text.parse()
        .map_err(|error: hickory_resolver::proto::serialize::txt::ParseError| failed(error.to_string()))
}

/// The answer, cut down to what stands at the very name that was asked for. None where that is
/// nothing, or does not hold. Where it is an alias, its end is a question of its own.
fn own_records(mut response: DnsResponse, question: &Query) -> Option<DnsResponse> {
    let name = question.name();
    let own = |record: &&Record| record.name == *name && counts(record, question);
    let records: Vec<Record> = response.answers.iter().filter(own).cloned().collect();
    if records.is_empty() || !records.iter().all(holds) {
        return None;
    }
    let labels =
        response.answers.iter().filter(|record| record.name == *name).filter_map(signed_labels).min();
    if labels.is_some_and(|labels| labels < name.num_labels() && !has_no_closer(&response, name, labels)) {
        return None;
    }
    response.answers = records;
    response.authorities.clear();
    response.metadata.response_code = ResponseCode::NoError;
    Some(response)
}

/// How many labels the name had that was signed: fewer than it has where a wildcard stands for it
/// (RFC 4035, section 5.3.4).
fn signed_labels(record: &Record) -> Option<u8> {
    let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data else { return None };
    Some(signature.input().num_labels)
}

/// Whether it is proven that nothing exists between a wildcard below `labels` labels and `name`: a
/// gap of the zone holds the next closer name and all that would be below it (RFC 7129, section 5.3).
fn has_no_closer(response: &DnsResponse, name: &Name, labels: u8) -> bool {
    let closer = name.trim_to(usize::from(labels) + 1);
    response.authorities.iter().filter(|record| record.proof == Proof::Secure).any(|record| {
        let RData::DNSSEC(DNSSECRData::NSEC(gap)) = &record.data else { return false };
        let (from, to) = (&record.name, gap.next_domain_name());
        // A parent's record at a cut says nothing of what is below (RFC 6840, section 4.1).
        let is_above = from.zone_of(&closer) && gap.is_ancestor_delegation();
        let is_last = to <= from && to.zone_of(&closer);
        *from < closer && (closer < *to || is_last) && !closer.zone_of(to) && !is_above
    })
}

/// Whether the answer is read from this record.
fn counts(record: &Record, question: &Query) -> bool {
    [question.query_type(), RecordType::CNAME].contains(&record.record_type())
}

fn holds(record: &Record) -> bool {
    match record.proof {
        Proof::Secure | Proof::Insecure => true,
        Proof::Bogus | Proof::Indeterminate => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::{dnssec::rdata::NSEC, op::Message};

    #[test]
    fn a_wildcard_stands_only_where_a_gap_of_its_zone_is() {
        for (gap, types, name, stands) in [
            (("*.wild.test", "z.test"), RecordType::A, "any.wild.test", true),
            (("*.wild.test", "exists.wild.test"), RecordType::A, "any.wild.test", true),
            (("*.wild.test", "exists.wild.test"), RecordType::A, "deep.any.wild.test", true),
            (("*.wild.test", "test"), RecordType::A, "any.wild.test", true),
            (("test", "z.test"), RecordType::SOA, "any.wild.test", true),
            (("exists.wild.test", "z.test"), RecordType::A, "any.wild.test", false),
            (("any.wild.test", "z.test"), RecordType::A, "any.wild.test", false),
            (("*.wild.test", "any.wild.test"), RecordType::A, "any.wild.test", false),
            // It exists, without records of its own.
            (("*.wild.test", "deep.any.wild.test"), RecordType::A, "any.wild.test", false),
            (("wild.test", "z.test"), RecordType::NS, "any.wild.test", false),
            (("*.wild.other", "other"), RecordType::A, "any.wild.test", false),
        ] {
            let proven = |proof| has_no_closer(&response(gap, types, proof), &parse(name), 2);
            assert_eq!(proven(Proof::Secure), stands, "{gap:?} {name}");
            assert!(!proven(Proof::Bogus) && !proven(Proof::Insecure), "{gap:?} {name}");
        }
    }

    fn response((from, to): (&str, &str), types: RecordType, proof: Proof) -> DnsResponse {
        let gap = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(parse(to), [types])));
        let mut record = Record::from_rdata(parse(from), 60, gap);
        record.proof = proof;
        let mut response = DnsResponse::from_message(Message::query().into_response()).unwrap();
        response.authorities.push(record);
        response
    }

    fn parse(name: &str) -> Name {
        Name::from_ascii(format!("{name}.")).unwrap()
    }
}
