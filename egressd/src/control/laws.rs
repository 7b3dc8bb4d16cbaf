//! What holds for all requests.

use super::{
    explain::explain,
    known::Known,
    protocol::{ApproveLeaks, ExplainRequest, Explanation, LeaksRequest, RecordsRequest, StartAgent},
};
use crate::policy::{Asked, HostName, Occasion, Policy};
use axum::{
    extract::Query,
    http::{Uri, uri::PathAndQuery},
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

const BIRTH: Occasion = Occasion { time: Timestamp::UNIX_EPOCH, age: Duration::ZERO };

/// A request is refused or reads the same when it is written again. Its first octet says which.
pub fn request(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    match first % 3 {
        0 => {
            if let Ok(request) = serde_json::from_slice::<StartAgent>(bytes) {
                reads_the_same(&request);
            }
            if let Ok(request) = serde_json::from_slice::<ApproveLeaks>(bytes) {
                reads_the_same(&request);
            }
        }
        1 => {
            if let Some(request) = query::<ExplainRequest>(bytes) {
                reads_the_same(&request);
                if let Ok(asked) = Asked::of(&request) {
                    let explanation = explain(&Policy::default(), BIRTH, "agent", &Known::default(), &asked);
                    assert_eq!(explanation.verdict.as_str(), "deny", "no rules allow nothing");
                    reads_the_same::<Explanation>(&explanation);
                }
            }
        }
        _ => {
            if let Some(request) = query::<RecordsRequest>(bytes) {
                reads_the_same(&request);
            }
            if let Some(request) = query::<LeaksRequest>(bytes) {
                reads_the_same(&request);
            }
        }
    }
}

/// The name that somebody asks an explanation for.
pub fn name_asked(name: &str) -> Option<HostName> {
    match Asked::parse(name).ok()?.destination {
        crate::policy::Destination::Name(name) => Some(name),
        crate::policy::Destination::Address(_) => None,
    }
}

/// As the server reads it.
fn query<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let path = PathAndQuery::try_from([b"/v1?", bytes].concat()).ok()?;
    Some(Query::try_from_uri(&Uri::from(path)).ok()?.0)
}

fn reads_the_same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_vec(value).expect("wire types can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(value));
}
