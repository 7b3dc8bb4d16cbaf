//! What one flow uses up of the budgets of its agent and its rule.

use crate::{
    audit::{Event, Gate as Judged, Path, Recorder, Spoken},
    policy::{Agent, AgentId, AgentName, Denial, Permit, RuleId, Spend, Usage},
};
use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Pays for one flow: before anything of it goes to its upstream.
pub struct Purse {
    spend: Option<Arc<dyn Spend>>,
    recorder: Recorder,
    agent: (AgentId, AgentName),
    permit: Permit,
    /// What could not be paid is on record.
    is_told: AtomicBool,
}

impl Purse {
    #[must_use]
    pub fn of(agent: &Agent, permit: &Permit, spend: Option<Arc<dyn Spend>>, recorder: Recorder) -> Self {
        let agent = (agent.id(), agent.name().clone());
        Self { spend, recorder, agent, permit: permit.clone(), is_told: AtomicBool::new(false) }
    }

    /// The rule that pays.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.permit.rule()
    }

    /// Takes a flow, and the octets that go with its first step.
    ///
    /// # Errors
    /// The denial that it meets; nothing is taken.
    pub fn begin(&self, octets: usize) -> Result<(), Denial> {
        self.take(Usage { octets: octets as u64, flows: 1 })
    }

    /// Takes `octets`, which are about to go, where whoever asks can still be answered.
    ///
    /// # Errors
    /// The denial that they meet, which is on no record; nothing is taken.
    pub fn advance(&self, octets: usize) -> Result<(), Denial> {
        self.take(Usage { octets: octets as u64, flows: 0 })
    }

    /// Takes `octets`, which are about to go.
    ///
    /// # Errors
    /// They may not; that is on record, once.
    pub fn pay(&self, octets: usize) -> io::Result<()> {
        self.take(Usage { octets: octets as u64, flows: 0 }).map_err(|denial| {
            self.tell(&denial);
            io::ErrorKind::PermissionDenied.into()
        })
    }

    /// Takes as many of `octets` as there are, which are about to go. Never 0 of more than 0.
    ///
    /// # Errors
    /// Not one may; that is on record, once.
    pub fn pay_some(&self, octets: usize) -> io::Result<usize> {
        let mut some = octets;
        while some > 1 {
            if self.take(Usage { octets: some as u64, flows: 0 }).is_ok() {
                return Ok(some);
            }
            some /= 2;
        }
        self.pay(some).map(|()| some)
    }

    /// Gives back what was paid for, and did not go.
    pub fn give_back(&self, octets: usize) {
        if let Some(spend) = self.spend.as_ref().filter(|_| octets > 0) {
            spend.give_back(self.agent.0, &self.permit, Usage { octets: octets as u64, flows: 0 });
        }
    }

    fn take(&self, usage: Usage) -> Result<(), Denial> {
        self.spend.as_ref().map_or(Ok(()), |spend| spend.spend(self.agent.0, &self.permit, usage))
    }

    fn tell(&self, denial: &Denial) {
        if self.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let protocol = Spoken::Of(self.permit.protocol());
        self.recorder.record(Event {
            path: Some(Path::Proxy),
            destination: Some(self.permit.destination().clone()),
            address: self.permit.address(),
            port: Some(self.permit.port()),
            detail: Some("live flow cut: nothing is left for it".to_owned()),
            ..Event::denied(&self.agent.1, Judged::ServerName, protocol, denial)
        });
    }
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purse").field("permit", &self.permit).finish_non_exhaustive()
    }
}
