//! What operators change while agents run: as it is reported, and as lines of the log.

use super::{
    record::{MAX_DETAIL, MAX_PATH, SCHEMA_VERSION, cut},
    time::Time,
};
use crate::policy::{AgentName, Budget, Loan, Operator, Protocol};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Something that somebody did about where an agent may go, or that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// None of what is for every agent that starts from now on.
    pub agent: Option<AgentName>,
    pub act: Act,
    /// None where nothing was lent.
    pub grant: Option<u32>,
    /// A name, a wildcard, a network, or what somebody was asked about; of a policy its revision or its files.
    pub destination: String,
    pub ports: Vec<u16>,
    pub protocol: Option<Protocol>,
    pub until: Option<Timestamp>,
    pub budget: Budget,
    pub why: Option<String>,
    /// None where nobody did it.
    pub by: Option<Operator>,
    /// What the act cannot say: why it was taken back, the request that it answers.
    pub detail: Option<String>,
}

impl Change {
    /// That `agent`, or whatever starts from now on, obeys another policy, of which `origin` says where it is from,
    /// because of `how`.
    #[must_use]
    pub fn of_policy(agent: Option<&AgentName>, origin: String, how: &str, by: Option<Operator>) -> Self {
        Self {
            agent: agent.cloned(),
            act: Act::Replaced,
            grant: None,
            destination: origin,
            ports: Vec::new(),
            protocol: None,
            until: None,
            budget: Budget::default(),
            why: None,
            by,
            detail: Some(how.to_owned()),
        }
    }

    /// Something that somebody did about `loan`.
    #[must_use]
    pub fn of(agent: &AgentName, act: Act, loan: &Loan) -> Self {
        let rule = &loan.rule;
        Self {
            agent: Some(agent.clone()),
            act,
            grant: Some(loan.number),
            destination: rule.subject.to_string(),
            ports: rule.ports.clone(),
            protocol: rule.protocol,
            until: rule.term.until,
            budget: rule.budget,
            why: rule.reason.clone(),
            by: None,
            detail: None,
        }
    }
}

/// What was done about a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A rule was lent.
    Allowed,
    /// It was taken back.
    Revoked,
    /// Its time was over.
    Ended,
    /// Somebody was asked, and said no.
    Denied,
    /// Another policy took the place of the agent's.
    Replaced,
}

impl Act {
    pub const ALL: [Self; 5] = [Self::Allowed, Self::Revoked, Self::Ended, Self::Denied, Self::Replaced];

    /// The word of the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Revoked => "revoked",
            Self::Ended => "ended",
            Self::Denied => "denied",
            Self::Replaced => "replaced",
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Allowed => "Somebody allowed a destination for a time.",
            Self::Revoked => "Somebody took that back.",
            Self::Ended => "Its time was over.",
            Self::Denied => "Somebody was asked to approve a destination, and denied it.",
            Self::Replaced => "Another policy took the place of the one that it obeyed.",
        }
    }
}

/// A change as a line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedChange {
    pub v: u32,
    pub seq: u64,
    pub time: Time,
    /// None of what is for every agent that starts from now on.
    pub agent: Option<String>,
    /// The word of the act.
    pub change: Cow<'static, str>,
    /// The number of the grant: records say that the rule behind it stands at `grant:NUMBER`.
    pub grant: Option<u32>,
    /// A name, a wildcard or a network; of a policy its revision or its files.
    pub destination: String,
    pub ports: Vec<u16>,
    pub protocol: Option<String>,
    pub until: Option<Time>,
    /// Flows that may start.
    pub uses: Option<u64>,
    /// Octets that may be sent.
    pub bytes: Option<u64>,
    /// As whoever allowed it gave it.
    pub why: Option<String>,
    pub by: Option<RecordedOperator>,
    pub detail: Option<String>,
}

impl RecordedChange {
    /// The line of `change`, with every text cut to its bound.
    #[must_use]
    pub fn of(change: &Change, seq: u64, time: Time) -> Self {
        let Budget { max_bytes, max_connections, rate: _ } = change.budget;
        Self {
            v: SCHEMA_VERSION,
            seq,
            time,
            agent: change.agent.as_ref().map(ToString::to_string),
            change: Cow::Borrowed(change.act.as_str()),
            grant: change.grant,
            destination: cut(&change.destination, MAX_PATH),
            ports: change.ports.clone(),
            protocol: change.protocol.map(|protocol| protocol.to_string()),
            until: change.until.map(Time::from),
            uses: max_connections,
            bytes: max_bytes,
            why: change.why.as_deref().map(|why| cut(why, MAX_DETAIL)),
            by: change.by.as_ref().map(RecordedOperator::of),
            detail: change.detail.as_deref().map(|detail| cut(detail, MAX_DETAIL)),
        }
    }
}

/// The process that asked for a change, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedOperator {
    pub uid: u32,
    /// Who had logged in before any change of users.
    #[serde(default)]
    pub login_uid: Option<u32>,
    pub pid: u32,
    pub command: String,
}

impl RecordedOperator {
    #[must_use]
    pub fn of(operator: &Operator) -> Self {
        let Operator { uid, login_uid, pid, command } = operator;
        Self { uid: *uid, login_uid: *login_uid, pid: *pid, command: cut(command, MAX_DETAIL) }
    }
}

impl From<RecordedOperator> for Operator {
    fn from(RecordedOperator { uid, login_uid, pid, command }: RecordedOperator) -> Self {
        Self { uid, login_uid, pid, command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Line, encode_line},
        policy::{Mode, NameTerms, Pattern, Protocol, Rule, RuleId, Subject, Term, TlsTerms},
    };

    #[test]
    fn a_change_is_written_as_the_schema_says_and_reads_the_same() {
        let line = Line::Change(RecordedChange::of(&change(), 9, time()));
        let bytes = encode_line(&line);
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            concat!(
                r#"{"v":1,"seq":9,"time":"2026-11-21T10:15:14.123Z","agent":"build","change":"allowed","#,
                r#""grant":7,"destination":"api.example.com","ports":[443],"protocol":"tls","#,
                r#""until":"2026-11-21T11:15:14.123Z","uses":3,"bytes":10000000,"why":"a look at #12","#,
                r#""by":{"uid":0,"login_uid":1000,"pid":42,"command":"egressctl allow api.example.com"},"#,
                r#""detail":null}"#,
                "\n"
            )
        );
        assert_eq!(serde_json::from_slice::<Line>(&bytes).unwrap(), line);
    }

    #[test]
    fn every_field_and_word_of_a_change_is_documented() {
        let document = include_str!("../../../docs/audit-schema.md");
        let line = RecordedChange::of(&change(), 9, time());
        assert!(document.contains(String::from_utf8(encode_line(&line)).unwrap().trim_end()));
        let value = serde_json::to_value(line).unwrap();
        for object in [&value, &value["by"]] {
            for field in object.as_object().unwrap().keys() {
                assert!(document.contains(&format!("`{field}`")), "{field}");
            }
        }
        for act in Act::ALL {
            let row = format!("| `{}` | {} |", act.as_str(), act.explanation());
            assert!(document.contains(&row), "{row}");
        }
    }

    fn change() -> Change {
        let until = "2026-11-21T11:15:14.123456Z".parse().ok();
        let rule = Rule {
            id: RuleId(1),
            source: Loan::source(7),
            subject: Subject::Host(Pattern::parse("api.example.com").unwrap()),
            ports: vec![443],
            protocol: Some(Protocol::Tls),
            private: false,
            reason: Some("a look at #12".to_owned()),
            risk: None,
            names: NameTerms::default(),
            tls: TlsTerms::default(),
            term: Term { until, within: None },
            budget: Budget { max_bytes: Some(10_000_000), max_connections: Some(3), rate: None },
            mode: Mode::default(),
        };
        let command = "egressctl allow api.example.com".to_owned();
        let lender = Operator { uid: 0, login_uid: Some(1000), pid: 42, command };
        let since = time().timestamp();
        let loan = Loan { number: 7, rule, lender: lender.clone(), since };
        let agent = AgentName::parse("build").unwrap();
        Change { by: Some(lender), ..Change::of(&agent, Act::Allowed, &loan) }
    }

    fn time() -> Time {
        "2026-11-21T10:15:14.123456Z".parse().unwrap()
    }
}
