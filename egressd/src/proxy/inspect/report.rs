//! Records of requests.

use super::session::Session;
use crate::{
    audit::{Event, Gate, Path, Spoken},
    policy::{Permit, Protocol},
    proxy::{
        origin::{Caller, Sought},
        refuse::Refusal,
    },
};
use http::request::Parts;

/// Method and path of a request, as records have them: without the query, where tokens are, and at most
/// [`MAX_SHOWN`] octets of it.
#[must_use]
pub fn shown(head: &Parts) -> String {
    let mut shown = format!("{} {}", head.method, head.uri.path());
    if shown.len() > MAX_SHOWN {
        let end = (0..=MAX_SHOWN).rev().find(|end| shown.is_char_boundary(*end)).unwrap_or(0);
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

/// Records a request that is allowed.
pub fn permit(session: &Session, sought: &Sought, shown: String) {
    let caller = &session.caller;
    let protocol = Spoken::Of(session.permit.protocol());
    let event = Event::allowed(caller.agent.name(), Gate::ServerName, protocol, &session.permit);
    caller.gate.recorder.record(Event {
        path: Some(Path::Inspection),
        process: caller.process.clone(),
        destination: sought.destination.clone().or(event.destination.clone()),
        detail: Some(shown),
        ..event
    });
}

/// Records a request that is denied.
pub fn denial(session: &Session, refusal: &Refusal, shown: &str) {
    let detail = match &refusal.detail {
        Some(detail) => format!("{shown}: {detail}"),
        None => shown.to_owned(),
    };
    flow_denial(&session.caller, &session.sought, &session.permit, refusal, Some(detail));
}

/// Records a flow that is denied before it had a request.
pub fn flow_denial(
    caller: &Caller,
    sought: &Sought,
    permit: &Permit,
    refusal: &Refusal,
    detail: Option<String>,
) {
    let protocol = Spoken::Of(Protocol::Tls);
    let event = Event::denied(caller.agent.name(), Gate::ServerName, protocol, &refusal.denial);
    caller.gate.recorder.record(Event {
        path: Some(Path::Inspection),
        process: caller.process.clone(),
        destination: sought.destination.clone().or_else(|| Some(permit.destination().clone())),
        address: permit.address(),
        port: Some(permit.port()),
        rule: event.rule.clone().or_else(|| permit.source().cloned()),
        detail,
        ..event
    });
}

/// As much of a request as a record shows.
const MAX_SHOWN: usize = 200;
