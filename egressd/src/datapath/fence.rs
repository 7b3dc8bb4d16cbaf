//! The fence as a whole: programs, maps and table, changed together.

use super::{
    budgets::{self, Budgets, TooManyBudgets},
    canary::CANARY,
    cgroup::Cgroup,
    clock::now,
    ebpf::chain,
    frames::{Frames, FramesError},
    leave::{self, Direct},
    name_events,
    named::{CutFlow, NamedFlows},
    nft::{Nft, NftError},
    permits::{Permit, Unreported},
    processes::Processes,
    ruleset::{Listeners, Place, Share},
    seal::{Cell, CellError, Forwarding, ForwardingError, Link},
    tables::Tables,
    way::{KernelReader, Ways},
    written,
};
use crate::{
    audit::Event,
    policy::{
        Agent, AgentId, Grant, GrantError, GrantSink, HostName, Moment, Origin, OriginLookup, Policy,
        Protocol, Transport,
    },
};
use aya::maps::MapError;
use egress_common::{GrantValue, MAX_NETWORKS_PER_AGENT};
use std::{
    collections::BTreeSet,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What the kernel enforces, for all agents of this daemon.
#[derive(Debug)]
pub struct Fence {
    tables: Mutex<Tables>,
    nft: Mutex<Nft>,
    frames: Mutex<Frames>,
    forwarding: Forwarding,
    named_flows: Mutex<NamedFlows>,
    budgets: Arc<Budgets>,
    processes: Processes,
    /// Why no kernel program reads server names on this host; None where they are loaded.
    no_reader: Option<String>,
    /// Why those that are loaded are not trusted; None while they are.
    mistrusted: Mutex<Option<String>>,
}

/// What the fence is made of, as it was loaded.
#[derive(Debug)]
pub struct Programs {
    pub tables: Tables,
    pub named_flows: NamedFlows,
    pub budgets: Budgets,
    /// Why the programs that read server names are not loaded, where they are not.
    pub reader: Result<(), String>,
}

/// Where an agent is met, and which listeners serve it.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub cgroup: &'a Cgroup,
    /// Of a sealed agent.
    pub link: Option<&'a Link>,
    pub listeners: Listeners,
}

impl Fence {
    /// `reader` says why the programs that read server names are not loaded, where they are not. Those
    /// that are read none before [`Self::trust_reader`].
    #[must_use]
    pub fn new(programs: Programs, nft: Nft, frames: Frames, forwarding: Forwarding) -> Self {
        let Programs { tables, named_flows, budgets, reader } = programs;
        Self {
            tables: Mutex::new(tables),
            nft: Mutex::new(nft),
            frames: Mutex::new(frames),
            forwarding,
            named_flows: Mutex::new(named_flows),
            budgets: Arc::new(budgets),
            processes: Processes::default(),
            no_reader: reader.err(),
            mistrusted: Mutex::new(Some("nothing is proven yet".to_owned())),
        }
    }

    /// Has every frame of `cell` judged, and then takes its link up. Until an agent is admitted with
    /// it, none passes.
    ///
    /// # Errors
    /// Names what the kernel refuses.
    pub fn guard(&self, cell: &Cell) -> Result<(), FenceError> {
        self.attach(cell)?;
        self.nft().close(cell.link())?;
        Ok(cell.open()?)
    }

    /// Puts the program of this daemon on the link of a cell that is up already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&self, cell: &Cell) -> Result<(), FenceError> {
        Ok(self.frames.lock().unwrap_or_else(PoisonError::into_inner).attach(cell.link())?)
    }

    /// Removes a cell that no agent has, or has any more.
    pub fn demolish(&self, cell: &Cell) {
        // A chain goes with its device on some kernels; then there is none to be removed.
        let _ = self.nft().forget(cell.link());
        cell.cut();
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).detach(&cell.link().name);
        // Last, for it gives the number to the next cell.
        cell.remove();
    }

    /// Why server names are read by the proxy; None where the kernel programs read them.
    #[must_use]
    pub fn proxied_because(&self) -> Option<String> {
        self.no_reader.clone().or_else(|| self.mistrusted().clone())
    }

    /// Whether the programs that read server names are loaded.
    #[must_use]
    pub fn has_reader(&self) -> bool {
        self.no_reader.is_none()
    }

    /// Has the kernel programs read server names from now on, unless there is a `doubt` of them: then
    /// every flow that starts goes through the proxy. Says whether that is a change: the grants that
    /// agents hold follow by [`Self::turn`].
    pub fn trust_reader(&self, doubt: Option<String>) -> bool {
        let mut held = self.mistrusted();
        let changed = held.is_some() != doubt.is_some();
        *held = doubt;
        changed
    }

    /// Has the flows of `agent` take the way that they are to take by now.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn turn(&self, agent: &Agent) -> Result<(), FenceError> {
        let mut tables = self.tables();
        let policy = agent.policy();
        let ways = self.ways(agent.id(), &policy, tables.flags(agent.id()));
        Ok(tables.retain_grants(agent.id(), &ways, now(), Some)?)
    }

    pub(super) fn ways<'a>(&self, agent: AgentId, policy: &'a Policy, flags: u32) -> Ways<'a> {
        let kernel = match (&self.no_reader, &*self.mistrusted()) {
            (Some(_), _) => KernelReader::Missing,
            // It proves them.
            (None, Some(_)) if agent != CANARY => KernelReader::Unproven,
            (None, _) => KernelReader::Proven,
        };
        let is_sealed = flags & Listeners::OWN_NETWORK != 0;
        Ways { policy, is_sealed, makes_frames: flags & Listeners::RAW_FRAMES != 0, kernel }
    }

    /// Has the host forward for sealed agents whose policy has direct flows.
    fn forward_for(&self, link: Option<&Link>, ways: &Ways<'_>) -> Result<(), FenceError> {
        match link {
            Some(_) if ways.has_direct() => {
                self.nft().ensure_tracking()?;
                Ok(self.forwarding.ensure()?)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the kernel's share of one agent holds `policy`. To be asked before it is put in force.
    ///
    /// # Errors
    /// [`FenceError::TooManyNetworks`], [`FenceError::TooManyBudgets`].
    pub fn holds(policy: &Policy) -> Result<(), FenceError> {
        budgets::fits(policy)?;
        leave::fits(policy).map_err(FenceError::TooManyNetworks)
    }

    /// Lets `agent` out by its policy.
    ///
    /// # Errors
    /// Names what could not be written; then the agent is to be dismissed.
    pub fn admit(&self, agent: &Agent, site: Site<'_>) -> Result<(), FenceError> {
        self.announce(agent, site)?;
        self.nft().open(agent.id().0)?;
        self.open(agent, site)
    }

    /// Writes down what `agent` may do, for the next [`Fence::apply_table`]: so that agents that are
    /// taken over together come into the table together, and the flows of none are cut.
    ///
    /// # Errors
    /// The cgroup is where nft does not look.
    pub fn announce(&self, agent: &Agent, site: Site<'_>) -> Result<(), FenceError> {
        let policy = agent.policy();
        let place = match site.link {
            Some(link) => Place::Link(link.clone()),
            None => Nft::locate(site.cgroup)?,
        };
        let share = Share {
            agent: agent.id().0,
            place,
            listeners: site.listeners,
            networks: leave::networks(&policy),
            direct: self.direct_of(agent.id(), &self.ways(agent.id(), &policy, site.listeners.flags)),
        };
        let mut nft = self.nft();
        if site.link.is_some() && self.ways(agent.id(), &policy, site.listeners.flags).has_direct() {
            nft.track();
        }
        nft.set(share);
        Ok(())
    }

    /// Puts the table in force as it was announced, in one transaction.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn apply_table(&self) -> Result<(), FenceError> {
        self.forwarding.repair()?;
        Ok(self.nft().apply()?)
    }

    /// Puts the share of one agent in force as it was announced.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn apply_share(&self, agent: AgentId) -> Result<(), FenceError> {
        Ok(self.nft().apply_share(agent.0)?)
    }

    /// Writes the policy of `agent` to the maps: what is no longer allowed is removed first.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn open(&self, agent: &Agent, site: Site<'_>) -> Result<(), FenceError> {
        let policy = agent.policy();
        let ways = self.ways(agent.id(), &policy, site.listeners.flags);
        self.forward_for(site.link, &ways)?;
        let mut tables = self.tables();
        let budgets = written::policy(&mut tables, &self.budgets, agent, &ways)?;
        let config = leave::with_policy(site.listeners, &policy, &budgets);
        tables.add_agent(agent.id(), site.cgroup.id(), config)?;
        Ok(site.link.map_or(Ok(()), |link| tables.add_link(agent.id(), link))?)
    }

    /// As [`Self::open`], for an agent that lives in no cell and has no share of the table: it stands
    /// for no other cgroup from then on, and frames that come out of `link` are its own.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn open_alone(&self, agent: &Agent, site: Site<'_>, link: &Link) -> Result<(), FenceError> {
        self.tables().forget_cgroups(agent.id());
        self.open(agent, site)?;
        Ok(self.tables().add_link(agent.id(), link)?)
    }

    /// What agents and rules may use up, and have.
    #[must_use]
    pub fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }

    /// Takes from the maps what an agent may do, and from what the next [`Fence::apply_table`] applies.
    pub fn forget(&self, agent: AgentId, cgroup_id: u64) {
        self.tables().remove_agent(agent, cgroup_id);
        self.budgets.forget(agent);
        self.named_flows().forget(agent);
        self.processes.forget(agent);
        self.nft().remove(agent.0);
    }

    /// Closes the fence around an agent that is gone, or cannot be served.
    ///
    /// # Errors
    /// The table cannot be applied; the programs deny all the same.
    pub fn dismiss(&self, agent: AgentId, cgroup_id: u64) -> Result<(), FenceError> {
        self.tables().remove_agent(agent, cgroup_id);
        self.budgets.forget(agent);
        self.named_flows().forget(agent);
        self.processes.forget(agent);
        let mut nft = self.nft();
        match nft.remove(agent.0).map(|share| share.place) {
            // Its chain goes with its cell.
            Some(Place::Link(_)) => Ok(()),
            Some(Place::Cgroup { .. }) | None => Ok(nft.apply()?),
        }
    }

    /// Makes the programs obey the policy that `agent` has: what is no longer allowed is cut first. Returns
    /// the flows that had named their server and are cut by that name. What the policy adds is refused by the
    /// second deny until [`Self::apply_policies`].
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn replace_policy(&self, agent: &Agent, site: Site<'_>) -> Result<Vec<CutFlow>, FenceError> {
        let policy = agent.policy();
        let ways = self.ways(agent.id(), &policy, site.listeners.flags);
        self.forward_for(site.link, &ways)?;
        let mut cut;
        {
            let mut tables = self.tables();
            let budgets = written::policy(&mut tables, &self.budgets, agent, &ways)?;
            cut = self.cut_named(agent);
            // Last: from here on open flows are judged again, by maps that are complete.
            tables.configure(agent.id(), leave::with_policy(site.listeners, &policy, &budgets))?;
        }
        // Those that a program was about to let through by the maps as they were.
        cut.extend(self.cut_named(agent));
        Ok(cut)
    }

    /// Has the second deny say what the policies of `agents` say, and the rest of the table what it should, in
    /// one transaction.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn apply_policies<'a>(
        &self,
        agents: impl IntoIterator<Item = (&'a Agent, Site<'a>)>,
    ) -> Result<(), FenceError> {
        self.forwarding.repair()?;
        // Under the lock, so that no grant comes in between and is forgotten. Maps are locked within it,
        // and never the other way round.
        let mut nft = self.nft();
        let mut changed = Vec::new();
        for (agent, site) in agents {
            let policy = agent.policy();
            let ways = self.ways(agent.id(), &policy, site.listeners.flags);
            let direct = self.direct_of(agent.id(), &ways);
            if let Some(share) = nft.share(agent.id().0) {
                share.networks = leave::networks(&policy);
                share.direct = direct;
                changed.push(agent.id().0);
            }
        }
        Ok(nft.apply_with(&changed)?)
    }

    /// Cuts the open flows of `agent` whose names its policy denies, and returns them.
    #[must_use]
    pub fn cut_named(&self, agent: &Agent) -> Vec<CutFlow> {
        self.named_flows().cut_denied(agent, now())
    }

    /// Takes the flows that the programs counted by `permit` and did not report.
    #[must_use]
    pub fn take_unreported(&self, permit: &Permit) -> Option<Unreported> {
        self.tables().take_unreported(permit, now())
    }

    /// Events of the flows of `agent`, which is about to end, that the programs counted and did not report.
    #[must_use]
    pub fn unreported(&self, agent: &Agent) -> Vec<Event> {
        let found = self.tables().unreported(agent.id());
        found.iter().map(|(permit, flows)| name_events::rest(agent, permit, *flows)).collect()
    }

    /// The grants of an earlier daemon's life, for an agent that is taken over.
    #[must_use]
    pub fn remembered_grants(&self, agent: AgentId) -> Vec<Grant> {
        self.tables().grants_of(agent)
    }

    /// Removes what `agent` was granted and what expired so long ago that no message needs it. Asks
    /// the agent what that is: walking the maps would hold up everybody's grants.
    pub fn sweep(&self, agent: &Agent) {
        let keep = u64::try_from(KEEP_EXPIRED.as_nanos()).unwrap_or(u64::MAX);
        let before = Moment(now().0.saturating_sub(keep));
        let expired = agent.take_expired(before);
        if !expired.is_empty() {
            let (policy, mut tables) = (agent.policy(), self.tables());
            let ways = self.ways(agent.id(), &policy, tables.flags(agent.id()));
            tables.forget_expired(agent.id(), &expired, &ways, before);
        }
    }

    /// The names of `agent` by whose grants a direct flow started, or a datagram was sent, in the second
    /// of `since` or later. Names that share an address share this. What speaks its name is not among
    /// them, see [`crate::policy::Resolve::connected`].
    ///
    /// Asks the kernel for no more than [`crate::policy::MAX_GRANTS`] entries, and lets others at them
    /// in between.
    #[must_use]
    pub fn used_names(&self, agent: &Agent, since: Moment) -> BTreeSet<HostName> {
        let speaks_no_name = |protocol| matches!(protocol, Protocol::Tcp | Protocol::Udp);
        if !agent.policy().allow().iter().any(|rule| rule.protocol.is_some_and(speaks_no_name)) {
            return BTreeSet::new();
        }
        let mut grants = agent.live_grants(since);
        grants.retain(|grant| speaks_no_name(grant.protocol));
        let mut names = BTreeSet::new();
        for some in grants.chunks(GRANTS_AT_ONCE) {
            let tables = self.tables();
            let held = some.iter().filter_map(|grant| Some((grant, tables.held(agent.id(), grant)?)));
            let held: Vec<_> = held.collect();
            drop(tables);
            // Read after them, so that nothing of them was used later.
            let now = now();
            let Some(seconds) = (now.0 / SECOND).checked_sub(since.0 / SECOND) else { break };
            let is_used = |value: &GrantValue| value.used_before(now.0).is_some_and(|ago| ago <= seconds);
            let used = held.iter().filter(|(_, value)| is_used(value));
            names.extend(used.map(|(grant, _)| grant.name.clone()));
        }
        names
    }

    /// Has the host forward no more than it did before there were agents, if none is left.
    ///
    /// # Errors
    /// Names what could not be put back.
    pub fn restore_forwarding(&self) -> Result<(), FenceError> {
        Ok(self.forwarding.restore()?)
    }

    /// Looks whether the second deny is in force.
    ///
    /// # Errors
    /// It is not, or that cannot be told.
    pub fn table_is_applied(&self) -> Result<(), FenceError> {
        Ok(self.nft().check()?)
    }

    fn grant(&self, agent: &Agent, grants: &[Grant]) -> Result<(), FenceError> {
        let mut tables = self.tables();
        // Looked at under the lock: a reload replaces the policy first and takes the lock second, so
        // that it finds, and removes, whatever an older policy still earned.
        let policy = agent.policy();
        let grants: Vec<Grant> = grants.iter().filter(|grant| policy.opens(grant)).cloned().collect();
        let ways = self.ways(agent.id(), &policy, tables.flags(agent.id()));
        let moment = now();
        for grant in &grants {
            tables.grant(agent.id(), grant, &ways, moment)?;
        }
        drop(tables);
        // What the proxy dials needs no leave of the table, and does not wait for it.
        if ways.direct(&grants).is_empty() { Ok(()) } else { self.open_directly(agent, grants) }
    }

    /// Whether some of `grants` are for addresses that the table does not know yet.
    fn waits_for_nft(&self, agent: &Agent, grants: &[Grant]) -> bool {
        let policy = agent.policy();
        let ways = self.ways(agent.id(), &policy, self.tables().flags(agent.id()));
        let direct = ways.direct(grants);
        // One who holds the table keeps others waiting as long.
        let is_known = || self.nft.try_lock().is_ok_and(|nft| nft.knows(agent.id().0, &direct));
        !direct.is_empty() && !is_known()
    }

    fn open_directly(&self, agent: &Agent, mut grants: Vec<Grant>) -> Result<(), FenceError> {
        let id = agent.id();
        let mut nft = self.nft();
        // A reload may have come before this lock, and has said what the table holds.
        let policy = agent.policy();
        let ways = self.ways(id, &policy, self.tables().flags(id));
        grants.retain(|grant| policy.opens(grant));
        nft.add_direct(id.0, &ways.direct(&grants))?;
        let is_full = |nft: &mut Nft| nft.share(id.0).is_some_and(|share| share.direct.len() > MAX_DIRECT);
        if !is_full(&mut nft) {
            return Ok(());
        }
        drop(nft);
        self.tables().retire_direct(id, &ways, MAX_DIRECT / 2);
        let mut nft = self.nft();
        let direct = self.direct_of(id, &ways);
        if let Some(share) = nft.share(id.0) {
            share.direct = direct;
        }
        Ok(nft.apply_share(id.0)?)
    }

    /// What names earned an agent for direct flows, also where new ones may no longer start.
    fn direct_of(&self, agent: AgentId, ways: &Ways<'_>) -> BTreeSet<Direct> {
        let mut grants = self.tables().grants_of(agent);
        grants.retain(|grant| ways.policy.opens(grant));
        ways.direct(&grants).into_iter().collect()
    }

    // Maps are changed entry by entry, each whole: a panic in between leaves nothing half done.
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named_flows(&self) -> MutexGuard<'_, NamedFlows> {
        self.named_flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Replaced whole.
    fn mistrusted(&self) -> MutexGuard<'_, Option<String>> {
        self.mistrusted.lock().unwrap_or_else(PoisonError::into_inner)
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
            // Writing maps takes microseconds, and so do sets; but who replaces the table keeps it for some
            // milliseconds.
            let write = || self.grant(agent, grants).map_err(|error| GrantError::Kernel(error.to_string()));
            if self.waits_for_nft(agent, grants) { tokio::task::block_in_place(write) } else { write() }
        })
    }
}

impl OriginLookup for Fence {
    fn origin(&self, agent: AgentId, transport: Transport, peer: SocketAddr) -> Option<Origin> {
        let raw = self.tables().origin(agent, transport, peer)?;
        Some(Origin {
            process: Some(self.processes.read(agent, raw.pid, raw.command)),
            original: raw.original,
        })
    }
}

/// Why the kernel does not enforce what it should.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error("failed to write a kernel map: {}", chain(.0))]
    Map(#[from] MapError),
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error(transparent)]
    Cell(#[from] CellError),
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    #[error("policy lists {0} networks by port, {MAX_NETWORKS_PER_AGENT} are allowed")]
    TooManyNetworks(usize),
    #[error(transparent)]
    TooManyBudgets(#[from] TooManyBudgets),
}

/// How long an expired grant stays, so that a late flow is told that it expired.
const KEEP_EXPIRED: Duration = Duration::from_secs(60);

/// Addresses that one agent may hold open for direct flows, live or not. At the bound the half
/// that expired first is given up, with the flows that are still open by it.
const MAX_DIRECT: usize = 4096;

/// Grants that are looked at under one lock: some dozens of microseconds.
const GRANTS_AT_ONCE: usize = 64;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        datapath::{Ebpf, Hierarchy, Pins, UseSecurityHooks},
        policy::{AgentName, NameTerms, Pattern, Protocol, Rule, RuleId, Source, Subject, TlsTerms},
    };
    use std::{net::IpAddr, path::Path, process::Command};

    #[test]
    fn a_name_is_used_when_a_direct_flow_starts_by_its_grant_and_not_when_a_route_is_asked_for() {
        let cgroup =
            Hierarchy::find().and_then(|all| all.create(&format!("egressd-used-{}", std::process::id())));
        let cgroup = cgroup.expect("cgroup");
        let folder = tempfile::tempdir().expect("folder");
        let pins = Pins::open(&folder.path().join("bpf")).expect("bpffs");
        let found = Ebpf::load(&pins, &cgroup, UseSecurityHooks::Never).map(|ebpf| {
            let (fence, agent) = granted(ebpf.programs, &cgroup, &pins, folder.path());
            let (start, none) = (now(), fence.used_names(&agent, Moment(0)));
            run_in(&cgroup, "exec 3<>/dev/udp/127.9.9.9/9; exec 3<>/dev/udp/127.9.9.10/22");
            let used = fence.used_names(&agent, start);
            let later = fence.used_names(&agent, now().after(Duration::from_secs(2)));
            fence.grant(&agent, &grants()[..1]).expect("granted again");
            [none, used, later, fence.used_names(&agent, start)]
        });
        pins.remove().expect("unpinned");
        cgroup.remove().expect("removed");
        let used = BTreeSet::from([name("udp.test"), name("same.test")]);
        assert_eq!(found.expect("programs"), [BTreeSet::new(), used.clone(), BTreeSet::new(), used]);
    }

    /// A fence around `cgroup`, without the second deny, and an agent with [`grants`].
    fn granted(programs: Programs, cgroup: &Cgroup, pins: &Pins, folder: &Path) -> (Fence, Agent) {
        let rules = [rule(Protocol::Udp, 9), rule(Protocol::Tcp, 22)];
        let policy = Policy::new(rules.to_vec(), Vec::new());
        let agent = Agent::new(AgentId(7), AgentName::parse("user").expect("name"), Arc::new(policy));
        agent.remember(&grants(), now()).expect("remembered");
        let nft = Nft::claim("unused", cgroup).expect("a name");
        let frames = Frames::open(pins).expect("the program");
        let fence = Fence::new(programs, nft, frames, Forwarding::new(folder));
        fence.open(&agent, Site { cgroup, link: None, listeners: Listeners::default() }).expect("opened");
        fence.grant(&agent, &grants()).expect("granted");
        (fence, agent)
    }

    fn grants() -> [Grant; 4] {
        let expires = now().after(Duration::from_secs(300));
        [
            ("udp.test", 9, Protocol::Udp, 9),
            ("same.test", 9, Protocol::Udp, 9),
            ("tcp.test", 10, Protocol::Tcp, 22),
            ("other.test", 11, Protocol::Udp, 9),
        ]
        .map(|(text, last, protocol, port)| {
            let address = IpAddr::from([127, 9, 9, last]);
            Grant { name: name(text), address, port, protocol, rule: RuleId(u32::from(port)), expires }
        })
    }

    fn rule(protocol: Protocol, port: u16) -> Rule {
        Rule {
            id: RuleId(u32::from(port)),
            source: Source { file: "test.yaml".into(), line: 1 },
            subject: Subject::Host(Pattern::parse("*.test").expect("a pattern")),
            ports: vec![port],
            protocol: Some(protocol),
            private: true,
            reason: None,
            names: NameTerms::default(),
            tls: TlsTerms::default(),
            term: Default::default(),
            budget: Default::default(),
            mode: Default::default(),
            risk: None,
        }
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text).expect("a name")
    }

    fn run_in(cgroup: &Cgroup, script: &str) {
        let script = format!("echo $$ > {}/cgroup.procs && {script}", cgroup.path().display());
        let done = Command::new("bash").args(["-c", &script]).output().expect("bash");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
