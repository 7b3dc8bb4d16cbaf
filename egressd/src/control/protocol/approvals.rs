//! What people are asked, on the wire.

use super::HumanGrant;
use crate::audit::Time;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One element of `GET /v1/approvals`, oldest first: what one agent asked for below one registered domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    pub id: RequestId,
    pub agent: String,
    /// The registered domain, or an address.
    pub group: String,
    /// The file names of the first programs that asked, as the agent calls them; `-` where it is not known.
    pub programs: Vec<String>,
    /// `file:line` of the rules that want an approval; none of destinations that no rule knows.
    pub rules: Vec<String>,
    /// With ports, where they were said.
    pub destinations: Vec<String>,
    /// How often it was asked for.
    pub asked: u64,
    /// Lookups and tunnels that wait for an answer.
    pub waiting: usize,
    pub first: Time,
    pub last: Time,
}

/// A request as it was listed, such as `3-kxwb`. The letters are others as soon as something joins it, so that
/// whoever decides decides about what was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId {
    pub number: u32,
    pub mark: String,
}

/// The text is no [`RequestId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no request: write it as `egressctl approvals` lists it, such as `3-kxwb`")]
pub struct NotRequestId(String);

/// Letters of a [`RequestId`] at the most.
const MAX_MARK: usize = 16;

impl FromStr for RequestId {
    type Err = NotRequestId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (number, mark) = text.split_once('-')?;
            let is_mark =
                (1..=MAX_MARK).contains(&mark.len()) && mark.bytes().all(|b| b.is_ascii_lowercase());
            let number = number.parse().ok()?;
            is_mark.then(|| Self { number, mark: mark.to_owned() })
        };
        read().ok_or_else(|| NotRequestId(text.to_owned()))
    }
}

impl TryFrom<String> for RequestId {
    type Error = NotRequestId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.mark)
    }
}

/// `POST /v1/approvals`: decides about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    pub id: RequestId,
    pub decision: Decision,
    #[serde(default)]
    pub reason: Option<String>,
}

/// What people say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decision {
    /// Each destination with which the request was listed is allowed.
    Approve {
        /// As in `1h`.
        #[serde(rename = "for")]
        lasts: String,
        /// One flow to each, and no more.
        #[serde(default)]
        once: bool,
        /// Also where a name has private addresses.
        #[serde(default)]
        private: bool,
    },
    Deny {
        /// How long the agent is denied the same domain without asking, as in `1h`.
        #[serde(default)]
        remember: Option<String>,
    },
}

/// The answer to [`Decide`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub id: RequestId,
    /// What is allowed.
    pub grants: Vec<HumanGrant>,
    /// The lines of `rules:` that would allow the same for ever.
    pub rules: Vec<String>,
    /// What joined the request after it was listed so, and still waits.
    pub left: Option<RequestId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_with_the_letters_that_it_was_listed_with() {
        let id: RequestId = "3-kxwb".parse().unwrap();
        assert_eq!((id.number, id.mark.as_str(), id.to_string().as_str()), (3, "kxwb", "3-kxwb"));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"3-kxwb\"");
        for wrong in ["3", "3-", "-kxwb", "x-kxwb", "3-KXWB", "3-kx wb", "-3-kxwb", "3-abcdefghijklmnopq", ""]
        {
            assert!(wrong.parse::<RequestId>().is_err(), "{wrong:?}");
        }
    }
}
