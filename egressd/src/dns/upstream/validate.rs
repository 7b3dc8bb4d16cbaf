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
        rr::{RData, Record, RecordType},
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
                // The library looks for the proof that the first name has no such record, where the
                // absence is that of the alias's end. The alias is followed by a question of its own.
                Err(NetError::Dns(DnsError::Nsec { response, .. })) => {
                    return alias_alone(*response, question).ok_or_else(bogus);
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

/// The answer, cut down to the alias of the very name that was asked for; None where there is none
/// that holds, or where it stems from a wildcard, whose use would have to be proven too.
fn alias_alone(mut response: DnsResponse, question: &Query) -> Option<DnsResponse> {
    let name = question.name();
    let is_expanded = |record: &Record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => signature.input().num_labels < name.num_labels(),
        _ => false,
    };
    let here: Vec<&Record> = response.answers.iter().filter(|record| record.name == *name).collect();
    if here.iter().any(|record| is_expanded(record)) {
        return None;
    }
    let alias = here.into_iter().find(|record| record.record_type() == RecordType::CNAME && holds(record))?;
    response.answers = vec![alias.clone()];
    response.authorities.clear();
    response.metadata.response_code = ResponseCode::NoError;
    Some(response)
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
