//! The fence as a whole: programs, maps and table, changed together.

use super::{
    cgroup::Cgroup,
    clock::now,
    ebpf::chain,
    nft::{Nft, NftError},
    ruleset::{Listeners, Share},
    tables::{NetworkEntry, NetworkList, Tables, transport_of},
};
use crate::policy::{
    Agent, AgentId, Grant, GrantError, GrantSink, Origin, OriginLookup, Policy, Process, Protocol, Rule,
    RuleId, Subject, Transport,
};
use aya::maps::MapError;
use egress_common::{DropReason, TCP, UDP};
use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What the kernel enforces, for all agents of this daemon.
#[derive(Debug)]
pub struct Fence {
    tables: Mutex<Tables>,
    nft: Mutex<Nft>,
}

impl Fence {
    #[must_use]
    pub fn new(tables: Tables, nft: Nft) -> Self {
        Self { tables: Mutex::new(tables), nft: Mutex::new(nft) }
    }

    /// Whether the kernel's share of one agent holds `policy`. To be asked before it is put in force.
    ///
    /// # Errors
    /// [`FenceError::TooManyNetworks`].
    pub fn holds(policy: &Policy) -> Result<(), FenceError> {
        let count = networks(policy.allow()).len().max(denied_networks(policy.deny()).len());
        if count <= MAX_NETWORKS { Ok(()) } else { Err(FenceError::TooManyNetworks(count)) }
    }

    /// Lets `agent`, whose processes are in `cgroup`, out by its policy.
    ///
    /// # Errors
    /// Names what could not be written; then the agent is unknown and everything is denied.
    pub fn admit(&self, agent: &Agent, cgroup: &Cgroup, listeners: Listeners) -> Result<(), FenceError> {
        let policy = agent.policy();
        let (path, level) = Nft::locate(cgroup)?;
        {
            let mut nft = self.nft();
            nft.set(Share {
                agent: agent.id().0,
                cgroup: path,
                level,
                listeners,
                networks: networks(policy.allow()),
                direct: direct(&agent.live_grants(now())).into_iter().collect(),
            });
            nft.apply()?;
        }
        let mut tables = self.tables();
        write_policy(&mut tables, agent.id(), &policy)?;
        tables.add_agent(agent.id(), cgroup.id(), with_flags(listeners, &policy))?;
        Ok(())
    }

    /// Writes down what `admit` of several agents needs, without applying the table each time.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn apply_table(&self) -> Result<(), FenceError> {
        Ok(self.nft().apply()?)
    }

    /// Closes the fence around an agent that is gone.
    ///
    /// # Errors
    /// The table cannot be applied; the programs deny all the same.
    pub fn dismiss(&self, agent: AgentId, cgroup: &Cgroup) -> Result<(), FenceError> {
        self.tables().remove_agent(agent, cgroup.id());
        let mut nft = self.nft();
        nft.remove(agent.0);
        Ok(nft.apply()?)
    }

    /// Makes the kernel obey the policy that `agent` has: what is no longer allowed is cut first.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn replace_policy(&self, agent: &Agent, listeners: Listeners) -> Result<(), FenceError> {
        let policy = agent.policy();
        {
            let mut tables = self.tables();
            tables.retain_grants(agent.id(), now(), |grant| policy.opens(grant))?;
            write_policy(&mut tables, agent.id(), &policy)?;
            tables.configure(agent.id(), with_flags(listeners, &policy))?;
        }
        let mut nft = self.nft();
        let live = direct(&agent.live_grants(now()));
        if let Some(share) = nft.share(agent.id().0) {
            share.networks = networks(policy.allow());
            share.direct = live.into_iter().collect();
        }
        Ok(nft.apply()?)
    }

    /// The grants of an earlier daemon's life, for an agent that is taken over.
    #[must_use]
    pub fn remembered_grants(&self, agent: AgentId) -> Vec<Grant> {
        self.tables().grants_of(agent)
    }

    /// Removes what expired so long ago that no message needs it.
    pub fn sweep(&self) {
        let keep = KEEP_EXPIRED.as_nanos();
        let before = now().0.saturating_sub(u64::try_from(keep).unwrap_or(u64::MAX));
        self.tables().sweep(crate::policy::Moment(before));
    }

    /// The exact deny counters of `agent`, and how many of its events were lost.
    #[must_use]
    pub fn counters(&self, agent: AgentId) -> (Vec<(DropReason, u64)>, u64) {
        let tables = self.tables();
        (tables.counters(agent), tables.lost_events(agent))
    }

    /// Looks whether the second deny is in force.
    ///
    /// # Errors
    /// It is not, or that cannot be told.
    pub fn table_is_applied(&self) -> Result<(), FenceError> {
        Ok(self.nft().check()?)
    }

    /// Removes the table; the programs go with their pins.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn delete_table(&self) -> Result<(), FenceError> {
        Ok(self.nft().delete()?)
    }

    fn grant(&self, agent: &Agent, grants: &[Grant]) -> Result<(), FenceError> {
        let mut tables = self.tables();
        // Looked at under the lock: a reload replaces the policy first and takes the lock second, so
        // that it finds, and removes, whatever an older policy still earned.
        let policy = agent.policy();
        let grants: Vec<Grant> = grants.iter().filter(|grant| policy.opens(grant)).cloned().collect();
        let moment = now();
        for grant in &grants {
            tables.grant(agent.id(), grant, moment)?;
        }
        drop(tables);
        let direct = direct(&grants);
        // What the proxy dials needs no leave of the table, and does not wait for it.
        if direct.is_empty() { Ok(()) } else { Ok(self.nft().add_direct(agent.id().0, &direct)?) }
    }

    // Maps are changed entry by entry, each whole: a panic in between leaves nothing half done.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nft(&self) -> MutexGuard<'_, Nft> {
        self.nft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GrantSink for Fence {
    fn install<'a>(
        &'a self,
        agent: &'a Agent,
        grants: &'a [Grant],
    ) -> Pin<Box<dyn Future<Output = Result<(), GrantError>> + Send + 'a>> {
        Box::pin(async move {
            // Writing maps takes microseconds; only direct grants wait for nft, some milliseconds.
            let write = || self.grant(agent, grants).map_err(|error| GrantError::Kernel(error.to_string()));
            if direct(grants).is_empty() { write() } else { tokio::task::block_in_place(write) }
        })
    }
}

impl OriginLookup for Fence {
    fn origin(&self, agent: AgentId, transport: Transport, peer: SocketAddr) -> Option<Origin> {
        let raw = self.tables().origin(agent, transport, peer)?;
        Some(Origin { process: Some(process(raw.pid, raw.command)), original: raw.original })
    }
}

/// What `/proc` still says of a process; else what the kernel wrote down.
#[must_use]
pub fn process(pid: u32, command: String) -> Process {
    let folder = format!("/proc/{pid}");
    let executable = std::fs::read_link(format!("{folder}/exe")).ok().map(|path| path.display().to_string());
    let arguments = std::fs::read(format!("{folder}/cmdline")).ok().filter(|line| !line.is_empty());
    let command = match arguments {
        Some(line) => {
            let line = String::from_utf8_lossy(&line[..line.len().min(MAX_COMMAND)]).into_owned();
            line.trim_end_matches('\0').replace('\0', " ")
        }
        None => command,
    };
    Process { pid, executable, command }
}

/// Why the kernel does not enforce what it should.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error("failed to write a kernel map: {}", chain(.0))]
    Map(#[from] MapError),
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error("policy lists {0} networks by port, {MAX_NETWORKS} are allowed")]
    TooManyNetworks(usize),
}

/// Entries that one agent may have in each of the two network tries.
const MAX_NETWORKS: usize = egress_common::MAX_NETWORKS_PER_AGENT as usize;

/// How long an expired grant stays, so that a late flow is told that it expired.
const KEEP_EXPIRED: std::time::Duration = std::time::Duration::from_secs(600);

/// Octets of a command line that a record keeps.
const MAX_COMMAND: usize = 512;

fn write_policy(tables: &mut Tables, agent: AgentId, policy: &Policy) -> Result<(), FenceError> {
    tables.set_networks(NetworkList::Denied, agent, &denied_networks(policy.deny()))?;
    tables.set_networks(NetworkList::Allowed, agent, &networks(policy.allow()))?;
    let rules: Vec<RuleId> = policy.allow().iter().map(|rule| rule.id).collect();
    Ok(tables.set_rules(agent, &rules)?)
}

fn with_flags(listeners: Listeners, policy: &Policy) -> Listeners {
    let denies_networks = u8::from(!denied_networks(policy.deny()).is_empty());
    Listeners { denies_networks, ..listeners }
}

fn networks(rules: &[Rule]) -> Vec<NetworkEntry> {
    let entries = |rule: &Rule| {
        let Subject::Network(network) = rule.subject else { return Vec::new() };
        let transport = rule.protocol.map_or(TCP, transport_of);
        rule.ports
            .iter()
            .map(|port| NetworkEntry { network, port: *port, transport, rule: rule.id })
            .collect()
    };
    rules.iter().flat_map(entries).collect()
}

fn denied_networks(rules: &[Rule]) -> Vec<NetworkEntry> {
    let entries = |rule: &Rule| {
        let Subject::Network(network) = rule.subject else { return Vec::new() };
        let transport = rule.protocol.map_or(0, transport_of);
        let ports: &[u16] = if rule.ports.is_empty() { &[0] } else { &rule.ports };
        ports.iter().map(|port| NetworkEntry { network, port: *port, transport, rule: rule.id }).collect()
    };
    rules.iter().flat_map(entries).collect()
}

/// The grants that need no proxy: what nft must let pass to their addresses.
fn direct(grants: &[Grant]) -> Vec<(u8, IpAddr, u16)> {
    grants
        .iter()
        .filter_map(|grant| match grant.protocol {
            Protocol::Tcp => Some((TCP, grant.address, grant.port)),
            Protocol::Udp => Some((UDP, grant.address, grant.port)),
            Protocol::Tls | Protocol::Http => None,
        })
        .collect()
}
