//! Signs that names carry more than names, and that budgets are used up: as they are reported, and as lines
//! of the log.

use super::{
    record::{MAX_DETAIL, MAX_PATH, SCHEMA_VERSION, cut},
    time::Time,
};
use crate::policy::{AgentName, BudgetMark, HostName, LeakAction, LeakFlag, Source};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What was noticed of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub agent: AgentName,
    pub sign: Sign,
    /// Whose names they were: what the wildcard stands above, or a denied domain. None where they were
    /// of several.
    pub zone: Option<HostName>,
    /// The rule with the wildcard, or the budget.
    pub rule: Option<Source>,
    /// What was seen, in a sentence. It may quote names that the agent chose.
    pub evidence: String,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A flag was raised, and what is done about it.
    Leak(LeakFlag, LeakAction),
    /// A budget came to this mark.
    Budget(BudgetMark),
}

impl Sign {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Leak(flag, _) => flag.as_str(),
            Self::Budget(mark) => mark.as_str(),
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Leak(flag, _) => flag.id(),
            Self::Budget(mark) => mark.id(),
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Leak(_, action) => action.as_str(),
            Self::Budget(BudgetMark::Half | BudgetMark::Most) => LeakAction::Flag.as_str(),
            Self::Budget(BudgetMark::All) => "deny",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Self::Leak(flag, _) => flag.explanation(),
            Self::Budget(mark) => mark.explanation(),
        }
    }
}

/// An alert as a line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAlert {
    pub v: u32,
    pub seq: u64,
    pub time: Time,
    pub agent: String,
    /// The word of the flag.
    pub flag: Cow<'static, str>,
    /// Its number, as in `E3`.
    pub flag_id: Cow<'static, str>,
    /// The word of the action.
    pub action: Cow<'static, str>,
    pub zone: Option<String>,
    /// `file:line`.
    pub rule: Option<String>,
    pub evidence: String,
    pub explanation: Cow<'static, str>,
}

impl RecordedAlert {
    /// The line of `alert`, with every text cut to its bound.
    #[must_use]
    pub fn of(alert: &Alert, seq: u64, time: Time) -> Self {
        Self {
            v: SCHEMA_VERSION,
            seq,
            time,
            agent: alert.agent.to_string(),
            flag: Cow::Borrowed(alert.sign.word()),
            flag_id: Cow::Borrowed(alert.sign.id()),
            action: Cow::Borrowed(alert.sign.action()),
            zone: alert.zone.as_ref().map(ToString::to_string),
            rule: alert.rule.as_ref().map(|rule| cut(&rule.to_string(), MAX_PATH)),
            evidence: cut(&alert.evidence, MAX_DETAIL),
            explanation: Cow::Borrowed(alert.sign.explanation()),
        }
    }
}

impl RecordedAlert {
    /// Whether it is about names that an agent looked up.
    #[must_use]
    pub fn is_about_names(&self) -> bool {
        !BudgetMark::ALL.iter().any(|mark| mark.as_str() == self.flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Line, encode_line};

    #[test]
    fn an_alert_is_written_as_the_schema_says_and_reads_the_same() {
        let line = Line::Alert(RecordedAlert::of(&alert(), 9, time()));
        let bytes = encode_line(&line);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"v":1,"seq":9,"time":"2026-11-21T10:15:14.123Z","agent":"build","flag":"secret","#,
                r#""flag_id":"E10","action":"quarantine","zone":"cdn.example","rule":"a.yaml:3","#,
                r#""evidence":"a part of the secret `canary` is in the name","#,
                r#""explanation":"A name holds a part of a registered secret."}"#,
                "\n"
            )
        );
        assert_eq!(serde_json::from_slice::<Line>(&bytes).unwrap(), line);
    }

    #[test]
    fn every_field_flag_and_action_of_an_alert_is_documented() {
        let document = include_str!("../../../docs/audit-schema.md");
        let line = RecordedAlert::of(&alert(), 9, time());
        assert!(document.contains(String::from_utf8(encode_line(&line)).unwrap().trim_end()));
        for field in serde_json::to_value(line).unwrap().as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{field}`")), "{field}");
        }
        for flag in LeakFlag::ALL {
            let row = format!(
                "| `{flag}` | {} | {} | `{}` |",
                flag.id(),
                flag.explanation(),
                flag.default_action()
            );
            assert!(document.contains(&row), "{row}");
        }
        for mark in BudgetMark::ALL {
            let sign = Sign::Budget(mark);
            let row = format!(
                "| `{}` | {} | {} | `{}` |",
                sign.word(),
                sign.id(),
                sign.explanation(),
                sign.action()
            );
            assert!(document.contains(&row), "{row}");
        }
        for action in LeakAction::ALL {
            assert!(document.contains(&format!("| `{action}` |")), "{action}");
        }
    }

    #[test]
    fn evidence_that_quotes_an_agent_is_cut() {
        let long = Alert { evidence: "x".repeat(10_000), ..alert() };
        assert_eq!(RecordedAlert::of(&long, 1, time()).evidence.len(), MAX_DETAIL);
    }

    fn alert() -> Alert {
        Alert {
            agent: AgentName::parse("build").unwrap(),
            sign: Sign::Leak(LeakFlag::Secret, LeakAction::Quarantine),
            zone: Some(HostName::parse("cdn.example").unwrap()),
            rule: Some(Source { file: "a.yaml".into(), line: 3 }),
            evidence: "a part of the secret `canary` is in the name".to_owned(),
        }
    }

    fn time() -> Time {
        "2026-11-21T10:15:14.123456Z".parse().unwrap()
    }
}
