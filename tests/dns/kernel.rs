//! The kernel's side of a lookup, without a kernel.

use egressd::{
    dns::{
        Watch,
        ledger::{Alert, Ledger},
    },
    policy::{
        Agent, AgentId, AgentName, Grant, GrantError, GrantSink, Origin, OriginLookup, Process, Transport,
    },
};
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Remembers the grants that were installed.
pub struct Kernel {
    granted: Mutex<Vec<Grant>>,
    /// One permit for each installation that may end.
    pub leave: Semaphore,
    /// How many installations began.
    pub begun: Semaphore,
    failure: Option<GrantError>,
}

impl Kernel {
    pub fn willing() -> Self {
        let kernel = Self::held();
        kernel.leave.add_permits(1_000_000);
        kernel
    }

    /// Installs nothing until the test adds permits to `leave`.
    pub fn held() -> Self {
        let (leave, begun) = (Semaphore::new(0), Semaphore::new(0));
        Self { granted: Mutex::default(), leave, begun, failure: None }
    }

    pub fn failing(failure: GrantError) -> Self {
        Self { failure: Some(failure), ..Self::willing() }
    }

    pub fn granted(&self) -> Vec<Grant> {
        self.granted.lock().unwrap().clone()
    }
}

impl GrantSink for Kernel {
    fn install<'a>(
        &'a self,
        _: &'a Agent,
        grants: &'a [Grant],
    ) -> Pin<Box<dyn Future<Output = Result<(), GrantError>> + Send + 'a>> {
        Box::pin(async {
            self.begun.add_permits(1);
            self.leave.acquire().await.unwrap().forget();
            if let Some(failure) = &self.failure {
                return Err(failure.clone());
            }
            self.granted.lock().unwrap().extend_from_slice(grants);
            Ok(())
        })
    }
}

/// Remembers what it heard of leaks.
#[derive(Default)]
pub struct Watcher {
    alerts: Mutex<Vec<Alert>>,
    /// How often a ledger was to be remembered.
    charged: AtomicUsize,
    /// It no longer can be.
    pub forgets: AtomicBool,
}

impl Watcher {
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.lock().unwrap().clone()
    }

    pub fn charged(&self) -> usize {
        self.charged.load(Ordering::SeqCst)
    }
}

impl Watch for Watcher {
    fn open(&self, _: &Agent) -> Ledger {
        Ledger::new([1, 2])
    }

    fn charged(&self, _: &AgentName, _: &Ledger) -> bool {
        self.charged.fetch_add(1, Ordering::SeqCst);
        !self.forgets.load(Ordering::SeqCst)
    }

    fn raised(&self, _: &Agent, alert: Alert) {
        self.alerts.lock().unwrap().push(alert);
    }

    fn quarantine(&self, agent: &Agent, _: &Ledger) {
        agent.quarantine(true);
    }
}

/// Every query comes from one process.
pub struct OneProcess;

impl OriginLookup for OneProcess {
    fn origin(&self, _: AgentId, _: Transport, _: SocketAddr) -> Option<Origin> {
        Some(Origin { process: Some(process()), original: None })
    }
}

pub fn process() -> Process {
    Process { pid: 7, executable: None, command: "curl".to_owned() }
}
