//! Ends a connection so that its program, its person or its model can read why.

use super::{
    hello::Misread,
    origin::{Caller, Sought},
    wire::AgentStream,
};
use crate::policy::{self, Denial, Protocol, Reason};
use http::StatusCode;
use std::time::Duration;
use tokio::time::timeout;

/// A fatal alert, access_denied (RFC 8446, section 6.2). Every TLS library shows its name.
pub const ALERT: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 49];

/// Records the denial of a flow, and ends its connection: with `last` if its program would read
/// that, else with a reset.
pub async fn refuse(
    caller: &Caller,
    agent: AgentStream,
    sought: &Sought,
    protocol: Protocol,
    refusal: Refusal,
    last: Option<&[u8]>,
) {
    caller.record_denial(sought, protocol, &refusal.denial, refusal.detail);
    match last {
        Some(last) => part(agent, last).await,
        None => agent.0.reset(),
    }
}

/// A denial, and what its reason cannot say.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub denial: Denial,
    pub detail: Option<String>,
}

impl Refusal {
    #[must_use]
    pub fn explained(reason: Reason, why: impl std::fmt::Display) -> Self {
        Self { denial: Denial::because(reason), detail: Some(why.to_string()) }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { denial, detail: None }
    }
}

impl From<Misread> for Refusal {
    fn from(misread: Misread) -> Self {
        Self { denial: Denial::because(misread.reason), detail: misread.detail }
    }
}

/// Sends `last`, then ends the connection.
///
/// A reset overtakes bytes that were not read yet, so the agent first gets a moment to read them
/// and to close: at most [`PARTING`], in which at most [`MAX_DISCARDED`] octets are thrown away.
pub async fn part(mut agent: AgentStream, last: &[u8]) {
    let farewell = async {
        agent.0.send(last).await?;
        agent.0.finish().await?;
        let mut discarded = 0;
        while discarded < MAX_DISCARDED {
            let at_hand = agent.0.buffer().len();
            agent.0.consume(at_hand);
            match agent.0.fill().await? {
                0 => break,
                more => discarded += more,
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever the outcome, the connection ends below.
    let _ = timeout(PARTING, farewell).await;
    agent.0.reset();
}

/// How long an agent may take to read its denial.
pub const PARTING: Duration = Duration::from_secs(2);

/// The most that an agent may go on sending while it is told that it is denied: libraries send a
/// whole body before they look for the answer.
pub const MAX_DISCARDED: usize = 4 * 1024 * 1024;

/// The answer to a denied HTTP request.
#[must_use]
pub fn response(caller: &Caller, sought: &Sought, protocol: Protocol, denial: &Denial) -> Vec<u8> {
    let body = explain(caller, sought, protocol, denial, None);
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Egressd-Reason: {}\r\nConnection: close\r\n\r\n",
        status(denial.reason),
        body.len(),
        denial.reason,
    );
    (head + &body).into_bytes()
}

/// The text of the answer to a denied request that is not ours to frame.
#[must_use]
pub fn denied_body(caller: &Caller, sought: &Sought, protocol: Protocol, refusal: &Refusal) -> String {
    explain(caller, sought, protocol, &refusal.denial, refusal.detail.as_deref())
}

/// The number of the answer to a request that is denied for `reason`.
#[must_use]
pub fn status_code(reason: Reason) -> StatusCode {
    let number = status(reason).split(' ').next().and_then(|number| number.parse().ok());
    number.unwrap_or(StatusCode::FORBIDDEN)
}

/// The text of the answer where a request is allowed but its upstream cannot be reached.
#[must_use]
pub fn unreachable_body(why: &str) -> String {
    format!("egressd allows this request, but {why}\n")
}

/// The answer where a flow is allowed but its upstream cannot be reached.
#[must_use]
pub fn bad_gateway(why: &str) -> Vec<u8> {
    let body = unreachable_body(why);
    let length = body.len();
    format!(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn explain(
    caller: &Caller,
    sought: &Sought,
    protocol: Protocol,
    denial: &Denial,
    detail: Option<&str>,
) -> String {
    let reason = denial.reason;
    let mut text = format!("egressd denied this request.\nreason: {reason}: {}\n", reason.explanation());
    if let Some(detail) = detail {
        text += &format!("detail: {detail}\n");
    }
    if let (Some(destination), Some(port)) = (&sought.destination, sought.port) {
        text += &format!("destination: {destination} port {port} ({protocol})\n");
    }
    text += &format!("agent: {}\n", caller.agent.name());
    if let Some(rule) = &denial.rule {
        text += &format!("rule: {rule}\n");
    }
    text + &remedy(sought, protocol, reason)
}

/// What whoever owns the policy can do; the agent cannot.
fn remedy(sought: &Sought, protocol: Protocol, reason: Reason) -> String {
    let rule = sought
        .destination
        .as_ref()
        .and_then(|destination| policy::remedy(destination, sought.port, Some(protocol), reason));
    match rule {
        Some(rule) => format!("remedy: the owner of the policy can add\n  {rule}\n"),
        None if reason == Reason::DeniedByRule => {
            "remedy: none but to change the deny rule; use another destination\n".to_owned()
        }
        None if reason == Reason::RequestNotAllowed => {
            "remedy: the owner of the policy can add it to what the rule allows, if it is of a kind that may be\n"
                .to_owned()
        }
        None if reason == Reason::BodyTooLarge => {
            "remedy: the owner of the policy can raise the bound of the rule\n".to_owned()
        }
        None if reason == Reason::BudgetSpent || reason == Reason::RateExceeded => {
            "remedy: the owner of the policy can raise the budget of the rule or of the agent\n".to_owned()
        }
        None => "remedy: none in the policy; the request itself has to change\n".to_owned(),
    }
}

fn status(reason: Reason) -> &'static str {
    match reason {
        Reason::RequestMalformed | Reason::NameInvalid => "400 Bad Request",
        Reason::HelloTimeout => "408 Request Timeout",
        Reason::BodyTooLarge => "413 Content Too Large",
        Reason::QuotaExceeded | Reason::LeakBudgetSpent | Reason::BudgetSpent | Reason::RateExceeded => {
            "429 Too Many Requests"
        }
        Reason::UpstreamFailed | Reason::UpstreamUntrusted | Reason::GrantNotInstalled => "502 Bad Gateway",
        Reason::HostNotAllowed
        | Reason::DeniedByRule
        | Reason::PortNotAllowed
        | Reason::ProtocolNotAllowed
        | Reason::QueryTypeNotAllowed
        | Reason::QueryMalformed
        | Reason::AddressSpecialPurpose
        | Reason::AddressNotGranted
        | Reason::GrantExpired
        | Reason::RuleRemoved
        | Reason::SocketTypeNotAllowed
        | Reason::UnixSocketNotAllowed
        | Reason::DeviceNotAllowed
        | Reason::SystemCallNotAllowed
        | Reason::PacketNotAllowed
        | Reason::SourceForged
        | Reason::InboundNotAllowed
        | Reason::AgentUnknown
        | Reason::OriginalDestinationUnknown
        | Reason::NotTls
        | Reason::HelloUnreadable
        | Reason::HelloSkipped
        | Reason::ServerNameChanged
        | Reason::EchNotAllowed
        | Reason::InitialMalformed
        | Reason::RequestNotAllowed
        | Reason::InspectionRefused
        | Reason::HelloMalformed
        | Reason::HelloTooLarge
        | Reason::ServerNameMissing
        | Reason::ServerNameNotGranted
        | Reason::ResolverNotAllowed
        | Reason::NamesFrozen
        | Reason::NameSuspicious
        | Reason::RuleExpired
        | Reason::ApprovalRequired
        | Reason::ApprovalDenied
        | Reason::ApprovalTimedOut
        | Reason::ApprovalsExceeded
        | Reason::AgentQuarantined => "403 Forbidden",
    }
}
