//! Lines to publish.

use egressd::{
    audit::{
        Alert, Event, Gate, Line, Record, RecordedAlert, RecordedChange, RecordedOperator, Sign, Spoken, Time,
    },
    policy::{
        AgentName, Denial, Destination, HostName, LeakAction, LeakFlag, Process, Protocol, Reason, Source,
    },
};
use std::sync::Arc;

/// A denial of `host` to the agent `build`.
pub fn denial(seq: u64, host: &str) -> Arc<Line> {
    Arc::new(Line::Record(Record::of(&event("build", host), seq, Time::now())))
}

/// A flag over the agent `build`, with what a terminal would obey.
pub fn alert(seq: u64) -> Arc<Line> {
    let alert = Alert {
        agent: AgentName::parse("build").unwrap(),
        sign: Sign::Leak(LeakFlag::EncodedNames, LeakAction::Freeze),
        zone: Some(HostName::parse("cdn.example").unwrap()),
        rule: Some(Source { file: "build.yaml".into(), line: 7 }),
        evidence: "5 names in 41 s, such as `nbswy3dp`\u{1b}[2J".to_owned(),
    };
    Arc::new(Line::Alert(RecordedAlert::of(&alert, seq, Time::now())))
}

/// A grant to the agent `build`, with what a terminal would obey.
pub fn change(seq: u64) -> Arc<Line> {
    let command = "egressctl allow api.example.com".to_owned();
    Arc::new(Line::Change(RecordedChange {
        v: 1,
        seq,
        time: Time::now(),
        agent: Some("build".to_owned()),
        change: "allowed".into(),
        grant: Some(7),
        destination: "api.example.com".to_owned(),
        ports: vec![443],
        protocol: Some("tls".to_owned()),
        until: None,
        uses: Some(3),
        bytes: None,
        why: Some("a look\u{1b}[2J".to_owned()),
        by: Some(RecordedOperator { uid: 0, login_uid: Some(1000), pid: 42, command }),
        detail: None,
    }))
}

/// A denial of a TLS flow of curl to `host`.
pub fn event(agent: &str, host: &str) -> Event {
    let agent = AgentName::parse(agent).unwrap();
    let denial = Denial::because(Reason::HostNotAllowed);
    let mut event = Event::denied(&agent, Gate::ServerName, Spoken::Of(Protocol::Tls), &denial);
    event.destination = Some(Destination::Name(HostName::parse(host).unwrap()));
    event.address = Some("192.0.2.7".parse().unwrap());
    event.port = Some(443);
    event.process = Some(Process {
        pid: 42,
        executable: Some("/usr/bin/curl".to_owned()),
        command: format!("curl https://{host}"),
    });
    event
}
