//! The versioned schema of the audit log, documented field by field in `docs/audit-schema.md`.

use super::{
    alert::RecordedAlert,
    change::RecordedChange,
    event::{Event, Gate, Path, Spoken, Verdict},
    time::Time,
};
use crate::policy::{self, Destination, Process, Protocol};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, net::IpAddr};

/// Version of the schema, in the field `v` of every line. It grows when a field changes its
/// meaning or goes; a reader skips fields that it does not know.
pub const SCHEMA_VERSION: u32 = 1;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Record(Record),
    Gap(Gap),
    Alert(RecordedAlert),
    Change(RecordedChange),
}

impl Line {
    /// The number of this line, one more than that of the line before.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Record(record) => record.seq,
            Self::Gap(gap) => gap.seq,
            Self::Alert(alert) => alert.seq,
            Self::Change(change) => change.seq,
        }
    }
}

/// What happened to one flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub v: u32,
    pub seq: u64,
    pub time: Time,
    pub agent: String,
    pub verdict: Verdict,
    pub gate: Gate,
    /// Absent in records of daemons that had one path.
    #[serde(default)]
    pub path: Option<Path>,
    pub process: Option<RecordedProcess>,
    pub destination: RecordedDestination,
    pub protocol: String,
    pub reason: Option<Cow<'static, str>>,
    /// Of a flow that was allowed only to be observed: the reason for which it would be denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Cow<'static, str>>,
    pub explanation: Option<Cow<'static, str>>,
    /// `file:line`, of a revision `file:line@revision`.
    pub rule: Option<String>,
    /// The rule that would allow the flow, as a line of YAML.
    pub remedy: Option<String>,
    pub detail: Option<String>,
    pub count: u64,
    /// The commit that the policy in force was read from, in its first digits. Absent where it was not from git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

impl Record {
    /// The record of `event`, with every text cut to its bound.
    #[must_use]
    pub fn of(event: &Event, seq: u64, time: Time) -> Self {
        Self {
            v: SCHEMA_VERSION,
            seq,
            time,
            agent: event.agent.to_string(),
            verdict: event.verdict,
            gate: event.gate,
            path: event.path,
            process: event.process.as_ref().map(RecordedProcess::of),
            destination: RecordedDestination::of(event),
            protocol: event.protocol.to_string(),
            reason: event.reason.map(|reason| Cow::Borrowed(reason.as_str())),
            observed: event.observed.map(|reason| Cow::Borrowed(reason.as_str())),
            explanation: event.reason.map(|reason| Cow::Borrowed(reason.explanation())),
            rule: event.rule.as_ref().map(|rule| cut(&rule.to_string(), MAX_PATH)),
            remedy: remedy_of(event),
            detail: event.detail.as_deref().map(|detail| cut(detail, MAX_DETAIL)),
            count: event.count,
            revision: event.revision.as_ref().map(ToString::to_string),
        }
    }
}

/// The process behind a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedProcess {
    pub pid: u32,
    pub executable: Option<String>,
    pub command: String,
}

impl RecordedProcess {
    fn of(process: &Process) -> Self {
        Self {
            pid: process.pid,
            executable: process.executable.as_deref().map(|path| cut(path, MAX_PATH)),
            command: cut(&process.command, MAX_COMMAND),
        }
    }

    /// What people call the program: the file name of its executable, else the first word of its
    /// command line.
    #[must_use]
    pub fn name(&self) -> &str {
        let path = self.executable.as_deref().or_else(|| self.command.split(' ').next()).unwrap_or("");
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// Where a flow went, as far as its gate could tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDestination {
    pub name: Option<String>,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
}

impl RecordedDestination {
    fn of(event: &Event) -> Self {
        let (name, address) = match &event.destination {
            Some(Destination::Name(name)) => (Some(name.to_string()), event.address),
            Some(Destination::Address(address)) => (None, Some(*address)),
            None => (None, event.address),
        };
        Self { name, address, port: event.port }
    }
}

/// Events that left no record of their own, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub v: u32,
    pub seq: u64,
    pub time: Time,
    pub lost: u64,
    pub at: LostAt,
    /// The agent whose flows they were, where only one's were lost.
    pub agent: Option<String>,
}

/// Where events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostAt {
    /// On the way to the log: they came faster than they could be taken.
    Queue,
    /// One agent caused more records than its share, too many to even tell apart.
    Flood,
    /// The log could not be written; followers saw these records.
    Log,
    /// The line was torn by a crash or a full disk.
    Torn,
}

impl LostAt {
    pub const ALL: [Self; 4] = [Self::Queue, Self::Flood, Self::Log, Self::Torn];

    /// The word of the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Flood => "flood",
            Self::Log => "log",
            Self::Torn => "torn",
        }
    }
}

/// Octets of a path; the kernel's own bound (4,096) would let one flow fill a terminal.
pub(super) const MAX_PATH: usize = 256;
/// Octets of a command line: enough to see which script ran with which arguments.
const MAX_COMMAND: usize = 512;
/// Octets of the detail: it may quote what an agent sent.
pub(super) const MAX_DETAIL: usize = 512;

/// `text`, cut between two characters to `bound` octets with an ellipsis.
pub(super) fn cut(text: &str, bound: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= bound {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bound - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

fn remedy_of(event: &Event) -> Option<String> {
    let by_address = || event.address.map(Destination::Address);
    let destination = event.destination.clone().or_else(by_address)?;
    policy::remedy(&destination, event.port, protocol_of(event.protocol), event.reason.or(event.observed)?)
}

/// What a rule would call the protocol; None where no rule speaks of it, or any does.
fn protocol_of(spoken: Spoken) -> Option<Protocol> {
    match spoken {
        Spoken::Of(protocol) => Some(protocol),
        Spoken::Ip(6) => Some(Protocol::Tcp),
        Spoken::Ip(17) => Some(Protocol::Udp),
        Spoken::Dns | Spoken::Ip(_) | Spoken::Family(_) | Spoken::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::encode_line,
        policy::{AgentName, Denial, HostName, Reason, Revision, Source},
    };

    #[test]
    fn a_record_is_written_as_the_schema_says() {
        writes(
            &encode_line(&record_line()),
            concat!(
                r#"{"v":1,"seq":7,"time":"2026-11-21T10:15:14.123Z","agent":"build","verdict":"deny","#,
                r#""gate":"server-name","path":"proxy","process":{"pid":42,"executable":"/usr/bin/curl","#,
                r#""command":"curl https://db.evil.test"},"destination":{"name":"db.evil.test","#,
                r#""address":"192.0.2.7","port":443},"protocol":"tls","reason":"host-not-allowed","#,
                r#""explanation":"No rule allows this host.","rule":"a.yaml:3","#,
                r#""remedy":"- host: db.evil.test","detail":null,"count":1,"revision":"0123456789ab"}"#,
                "\n"
            ),
        );
    }

    #[test]
    fn what_is_only_observed_is_allowed_with_the_reason_of_its_denial_and_its_remedy() {
        let denied = event();
        let observed = Event { verdict: Verdict::Allow, observed: denied.reason, reason: None, ..denied };
        let line = encode_line(&Line::Record(Record::of(&observed, 7, time())));
        let line = String::from_utf8(line).unwrap();
        let fields = r#""reason":null,"observed":"host-not-allowed","explanation":null,"rule":"a.yaml:3","#;
        assert!(line.contains(fields) && line.contains(r#""remedy":"- host: db.evil.test""#), "{line}");
        assert!(include_str!("../../../docs/audit-schema.md").contains("`observed`"));
    }

    #[test]
    fn a_gap_is_written_as_the_schema_says() {
        let gap = Gap { v: 1, seq: 8, time: time(), lost: 3, at: LostAt::Queue, agent: None };
        writes(
            &encode_line(&Line::Gap(gap)),
            "{\"v\":1,\"seq\":8,\"time\":\"2026-11-21T10:15:14.123Z\",\"lost\":3,\"at\":\"queue\",\"agent\":null}\n",
        );
    }

    #[test]
    fn every_field_and_word_of_the_schema_is_documented() {
        let document = include_str!("../../../docs/audit-schema.md");
        let record = serde_json::to_value(Record::of(&event(), 7, time())).unwrap();
        let gap = Gap { v: 1, seq: 8, time: time(), lost: 3, at: LostAt::Queue, agent: None };
        let gap = serde_json::to_value(gap).unwrap();
        let nested = [&record["process"], &record["destination"]];
        for object in [&record, &gap].into_iter().chain(nested) {
            for field in object.as_object().unwrap().keys() {
                assert!(document.contains(&format!("`{field}`")), "{field}");
            }
        }
        for reason in Reason::ALL {
            let row = format!("| `{reason}` | {} |", reason.explanation());
            assert!(document.contains(&row), "{row}");
        }
        assert!(document.contains(String::from_utf8(encode_line(&record_line())).unwrap().trim_end()));
    }

    #[test]
    fn a_line_reads_as_what_was_written() {
        let record = Line::Record(Record::of(&event(), 7, time()));
        let gap = Line::Gap(Gap { v: 1, seq: 8, time: time(), lost: 3, at: LostAt::Log, agent: None });
        for line in [record, gap] {
            assert_eq!(serde_json::from_slice::<Line>(&encode_line(&line)).unwrap(), line);
        }
    }

    #[test]
    fn control_characters_survive_as_escapes_and_reach_no_terminal() {
        let mut event = event();
        event.detail = Some("a\u{1b}[2J\n\u{9b}1m\u{7f}\u{202e}\u{2028}é\"\\".to_owned());
        let line = Line::Record(Record::of(&event, 7, time()));
        let bytes = encode_line(&line);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let expected = r#""detail":"a\u001b[2J\n\u009b1m\u007f\u202e\u2028é\"\\""#;
        assert!(text.contains(expected), "{text}");
        assert_eq!(serde_json::from_slice::<Line>(&bytes).unwrap(), line);
    }

    #[test]
    fn what_an_agent_chose_is_cut_between_two_characters() {
        let mut event = event();
        event.detail = Some("é".repeat(1000));
        let detail = Record::of(&event, 7, time()).detail.unwrap();
        assert_eq!(detail, format!("{}…", "é".repeat(254)));
    }

    fn record_line() -> Line {
        Line::Record(Record::of(&event(), 7, time()))
    }

    fn event() -> Event {
        let denial =
            Denial { reason: Reason::HostNotAllowed, rule: Some(Source { file: "a.yaml".into(), line: 3 }) };
        let agent = AgentName::parse("build").unwrap();
        let mut event = Event::denied(&agent, Gate::ServerName, Spoken::Of(Protocol::Tls), &denial);
        event.destination = Some(Destination::Name(HostName::parse("db.evil.test").unwrap()));
        event.address = Some("192.0.2.7".parse().unwrap());
        event.port = Some(443);
        event.path = Some(Path::Proxy);
        event.revision = Revision::parse(&"0123456789abcdef".repeat(4));
        event.process = Some(Process {
            pid: 42,
            executable: Some("/usr/bin/curl".to_owned()),
            command: "curl https://db.evil.test".to_owned(),
        });
        event
    }

    fn time() -> Time {
        "2026-11-21T10:15:14.123456Z".parse().unwrap()
    }

    fn writes(got: &[u8], expected: &str) {
        assert_eq!(String::from_utf8_lossy(got), expected);
    }
}
