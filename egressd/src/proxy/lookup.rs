//! Turns a destination that an agent named into permits for addresses.

use super::{judge::judge, origin::Caller};
use crate::policy::{Denial, Destination, HostName, Permit, Protocol, Question, Reason};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Judges `destination` in the first of `protocols` that a rule allows; if it is a name, only then
/// looks it up, and judges each of its addresses. Never returns an empty list.
///
/// # Errors
/// No rule allows it, the lookup fails, or none of the addresses is granted to that name.
pub async fn permits(
    caller: &Caller,
    destination: &Destination,
    port: u16,
    protocols: &[Protocol],
) -> Result<Vec<Permit>, Denial> {
    let name = match destination {
        Destination::Name(name) => name,
        Destination::Address(address) => {
            let permit = judge(&caller.agent, destination, Some(*address), port, protocols, caller.now())?;
            return Ok(vec![permit]);
        }
    };
    let allowed = match judge(&caller.agent, destination, None, port, protocols, caller.now()) {
        Err(denial) if denial.reason == Reason::ApprovalRequired => {
            approve(caller, destination, port, denial).await?;
            judge(&caller.agent, destination, None, port, protocols, caller.now())?
        }
        judged => judged?,
    };
    let protocol = [allowed.protocol()];
    let mut denial = Denial { reason: Reason::UpstreamFailed, rule: allowed.source().cloned() };
    let mut permits = Vec::new();
    for address in resolve(caller, name).await? {
        match judge(&caller.agent, destination, Some(address), port, &protocol, caller.now()) {
            Ok(permit) => permits.push(permit),
            Err(denied) => denial = denied,
        }
    }
    if permits.is_empty() { Err(denial) } else { Ok(permits) }
}

/// Waits until somebody decides about what met `denial`, if anybody is asked.
async fn approve(
    caller: &Caller,
    destination: &Destination,
    port: u16,
    denial: Denial,
) -> Result<(), Denial> {
    let Some(approvals) = caller.gate.approvals() else { return Err(denial) };
    let (destination, process) = (destination.clone(), caller.process.clone());
    let question = Question { destination, port: Some(port), protocol: None, process };
    approvals.ask(&caller.agent, question).await
}

/// How long a lookup may take: as long as stub resolvers wait by default for two servers.
pub const TIMEOUT: Duration = Duration::from_secs(10);

async fn resolve(caller: &Caller, name: &HostName) -> Result<Vec<IpAddr>, Denial> {
    match timeout(TIMEOUT, asked(caller, name)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Denial::because(Reason::UpstreamFailed)),
    }
}

async fn asked(caller: &Caller, name: &HostName) -> Result<Vec<IpAddr>, Denial> {
    let Some(workers) = &caller.gate.workers else {
        return caller.gate.resolve.resolve(&caller.agent, name).await;
    };
    let (gate, agent, name) = (Arc::clone(&caller.gate), Arc::clone(&caller.agent), name.clone());
    let answer = workers.outside(async move { gate.resolve.resolve(&agent, &name).await }).await;
    answer.unwrap_or_else(|_panicked| Err(Denial::because(Reason::UpstreamFailed)))
}
