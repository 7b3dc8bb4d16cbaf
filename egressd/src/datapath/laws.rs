//! What holds for all bytes that the kernel could hand over.

use super::{
    cgroup::cgroup2_mount,
    events::{event, read},
    name_events,
};
use crate::{
    audit::{Line, Record, Time, Verdict, laws::is_one_line},
    policy::{Agent, AgentId, AgentName, Moment, Policy},
};
use egress_common::NameEvent;
use std::sync::Arc;

/// Whatever stands in the ring buffer, it is skipped or becomes one line of the log.
pub fn kernel_event(item: &[u8]) {
    let Some(mut raw) = read::<egress_common::Event>(item) else { return };
    // What `/proc` says of a process is not the reader's doing.
    raw.pid = 0;
    let Ok(name) = AgentName::parse("agent") else { return };
    let agent = Agent::new(AgentId(raw.agent), name, Arc::new(Policy::default()));
    for agent in [None, Some(&agent)] {
        let event = match read::<NameEvent>(item) {
            Some(named) => name_events::event(agent, &NameEvent { event: raw, ..named }, Moment(0)),
            None => event(agent, &raw),
        };
        assert_eq!(event.verdict == Verdict::Deny, event.reason.is_some());
        is_one_line(&Line::Record(Record::of(&event, 1, Time::from(jiff::Timestamp::UNIX_EPOCH))));
    }
}

/// A mount point is found in a line that says cgroup2, and nowhere else.
pub fn mountinfo(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Some(path) = cgroup2_mount(line) {
            assert!(line.contains(" - cgroup2") && line.contains(&path.display().to_string()), "{line:?}");
        }
    }
}
