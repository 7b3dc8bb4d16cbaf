//! What holds for all bytes that the kernel could hand over.

use super::{
    cgroup::cgroup2_mount,
    events::{event, read},
    name_events,
};
use crate::{
    audit::{Line, Record, Time, Verdict, laws::is_one_line},
    policy::{Agent, AgentId, AgentName, Moment, Policy, Reason},
};
use egress_common::{
    NameEvent, fnv1a,
    hello::{self, Hello, MAX_NAME, Unread},
};
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

/// The server name that the kernel programs find in a ClientHello, how many octets the hello has, and
/// whether it has Encrypted Client Hello. None as long as it is not whole.
///
/// # Errors
/// The reason of the denial.
pub fn server_name(bytes: &[u8]) -> Result<Option<(String, usize, bool)>, Reason> {
    let (hello, name, folded) = match hello::read_slice(bytes) {
        Ok(read) => read,
        Err(Unread::More(octets)) => {
            assert!(octets as usize > bytes.len(), "what is needed is not there yet");
            return Ok(None);
        }
        Err(Unread::NotTls) => return Err(Reason::NotTls),
        Err(Unread::Malformed) => return Err(Reason::HelloMalformed),
        Err(Unread::Unreadable) => return Err(Reason::HelloUnreadable),
        Err(Unread::Nameless) => return Err(Reason::ServerNameMissing),
        Err(Unread::NotOneName) => return Err(Reason::NameInvalid),
        Err(Unread::Cut) => panic!("a hello that is whole is not cut"),
    };
    if !folded.is_valid {
        return Err(Reason::NameInvalid);
    }
    let name = &name[..folded.length as usize];
    assert_eq!(folded.hash, fnv1a(name.iter().copied()), "maps hold the same hash");
    let name = String::from_utf8(name.to_vec()).expect("a valid name is ASCII");
    Ok(Some((name, hello.length as usize, hello.has(Hello::ECH))))
}

/// Whether the kernel programs take `name` for one; and as what.
pub fn name_folded(name: &[u8]) -> Option<String> {
    let mut held = [0; 256];
    let length = u32::try_from(name.len()).ok().filter(|length| *length <= MAX_NAME)?;
    held[..name.len()].copy_from_slice(name);
    let folded = hello::fold(&mut held, length);
    let name = held.get(..folded.length as usize).filter(|_| folded.is_valid)?;
    String::from_utf8(name.to_vec()).ok()
}
