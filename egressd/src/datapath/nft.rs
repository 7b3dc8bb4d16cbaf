//! Applies the ruleset with the host's `nft`.
//!
//! In nft's own language and not in its JSON: the JSON of nftables 1.0.6 (Debian 12) has no
//! `socket cgroupv2` with a level, neither read nor written, so the `nftables` crate cannot say
//! what this table has to say.

use super::{
    cgroup::{Cgroup, Hierarchy},
    elements,
    ruleset::{self, Held, Place, Seals, Share, Tracking},
    seal::{self, Link},
};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
};

/// Our table, and what it holds of each agent.
#[derive(Debug)]
pub struct Nft {
    table: String,
    root: (String, usize),
    seals: Seals,
    shares: BTreeMap<u32, Share>,
    /// What the next table says.
    tracking: Tracking,
    /// What the table in force says.
    tracks: Tracking,
    /// What the table in force is made of; None before it was looked at.
    held: Option<Held>,
}

impl Nft {
    /// Claims the table of the instance, with nothing in it that any agent may do.
    ///
    /// # Errors
    /// `nft` is missing or refuses, or the hierarchy is where `nft` does not look.
    pub fn claim(instance: &str, root: &Cgroup) -> Result<Self, NftError> {
        let table: String = format!("egressd_{instance}")
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
            .collect();
        let seals = seal::seals(instance);
        let (tracking, tracks) = (Tracking::Off, Tracking::Off);
        let (root, shares) = (location(root.path())?, BTreeMap::new());
        Ok(Self { table, root, seals, shares, tracking, tracks, held: None })
    }

    /// Makes `share` the whole of what one agent may reach. Not applied before [`Self::apply`].
    pub fn set(&mut self, share: Share) {
        self.shares.insert(share.agent, share);
    }

    /// Where the cgroup of an agent is, for its share.
    ///
    /// # Errors
    /// It is where `nft` does not look.
    pub fn locate(cgroup: &Cgroup) -> Result<Place, NftError> {
        let (path, level) = location(cgroup.path())?;
        Ok(Place::Cgroup { path, level })
    }

    /// From the next [`Self::apply`] on, connections are tracked: some agent's are forwarded.
    pub fn track(&mut self) {
        self.tracking = Tracking::On;
    }

    /// Has connections be tracked where the table in force does not say so.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn ensure_tracking(&mut self) -> Result<(), NftError> {
        self.track();
        if self.tracks == self.tracking { Ok(()) } else { self.apply() }
    }

    /// Takes the share of an agent away; not applied before [`Self::apply`].
    pub fn remove(&mut self, agent: u32) -> Option<Share> {
        self.shares.remove(&agent)
    }

    /// The share of an agent, to be changed.
    pub fn share(&mut self, agent: u32) -> Option<&mut Share> {
        self.shares.get_mut(&agent)
    }

    /// Has the table say what the shares say, in one transaction. No flow of an agent whose share stays as
    /// it is meets a refusal meanwhile.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn apply(&mut self) -> Result<(), NftError> {
        self.apply_beside("")
    }

    /// As [`Self::apply`], with the chains of those of `agents` that are sealed, in the same transaction.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn apply_with(&mut self, agents: &[u32]) -> Result<(), NftError> {
        let links = agents.iter().filter_map(|agent| self.chain_of(*agent)).collect::<String>();
        let outcome = self.apply_beside(&links);
        if outcome.is_ok() || links.is_empty() {
            return outcome;
        }
        // A link may be gone since it was looked at: then the others by themselves.
        self.apply()?;
        agents.iter().try_for_each(|agent| self.apply_chain(*agent))
    }

    /// Applies the table, and what else is to be of the same transaction.
    fn apply_beside(&mut self, rest: &str) -> Result<(), NftError> {
        // nft refuses all of it for a cgroup that is not there; one that was adopted goes when its
        // owner likes.
        let is_there = |share: &&Share| match &share.place {
            Place::Cgroup { path, .. } => Path::new(CGROUPS).join(path).is_dir(),
            Place::Link(_) => true,
        };
        let shares: Vec<Share> = self.shares.values().filter(is_there).cloned().collect();
        let root = (self.root.0.as_str(), self.root.1);
        let text =
            |held| ruleset::ruleset(&self.table, root, &self.seals, self.tracking, &shares, held) + rest;
        let held = self.held.take().map_or_else(|| self.list(), Ok)?;
        let mut applied = text(&held);
        if run(&applied).is_err() {
            // Somebody changed it, or another version of ours made it.
            applied = text(&Held::Unknown);
            run(&applied)?;
        }
        self.held = Some(Held::Objects(ruleset::objects(&applied)));
        self.tracks = self.tracking;
        Ok(())
    }

    /// What the table in force is made of.
    fn list(&self) -> Result<Held, NftError> {
        let list = Command::new("nft").args(["-t", "list", "table", "inet", &self.table]).output();
        let list = list.map_err(NftError::Run)?;
        Ok(match list.status.success() {
            true => Held::Objects(ruleset::objects(&String::from_utf8_lossy(&list.stdout))),
            false => Held::Unknown,
        })
    }

    /// Makes the table say what the share of `agent` says: all of it, or for a sealed agent the
    /// chain of its link alone.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn apply_share(&mut self, agent: u32) -> Result<(), NftError> {
        match self.shares.get(&agent).map(|share| &share.place) {
            Some(Place::Cgroup { .. }) => self.apply(),
            Some(Place::Link(_)) => self.apply_chain(agent),
            None => Ok(()),
        }
    }

    /// Applies the chain of the link of a sealed agent. No-op for others.
    fn apply_chain(&self, agent: u32) -> Result<(), NftError> {
        let Some(chain) = self.chain_of(agent) else { return Ok(()) };
        let outcome = run(&chain);
        // It may have gone meanwhile.
        if self.chain_of(agent).is_some() { outcome } else { Ok(()) }
    }

    /// What the chain of the link of a sealed agent is to say. An agent that is root of its network may have
    /// removed the link: then no frame comes, and there is no chain.
    fn chain_of(&self, agent: u32) -> Option<String> {
        let share = self.shares.get(&agent)?;
        match &share.place {
            Place::Link(link) if link.is_there() => Some(ruleset::frames(&self.table, link, Some(share))),
            Place::Link(_) | Place::Cgroup { .. } => None,
        }
    }

    /// Lets an agent that has just got its link reach what its share says. No-op where that is nothing.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn open(&mut self, agent: u32) -> Result<(), NftError> {
        let Some(share) = self.shares.get(&agent) else { return Ok(()) };
        let text = match &share.place {
            Place::Cgroup { .. } => return self.apply(),
            Place::Link(link) => ruleset::frames_of(&self.table, link, share),
        };
        if text.is_empty() { Ok(()) } else { run(&text) }
    }

    /// Has the chain of a link drop every frame until it has an agent.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn close(&self, link: &Link) -> Result<(), NftError> {
        run(&ruleset::frames(&self.table, link, None))
    }

    /// Removes the chain of a link.
    ///
    /// # Errors
    /// Says what `nft` said, for example that there is none.
    pub fn forget(&self, link: &Link) -> Result<(), NftError> {
        run(&ruleset::frames_removal(&self.table, link.number))
    }

    /// Lets `agent` reach more addresses, in one transaction. No-op for those it can reach.
    ///
    /// # Errors
    /// Says what the kernel said; then the share is as it was.
    pub fn add_direct(&mut self, agent: u32, direct: &[(u8, IpAddr, u16)]) -> Result<(), NftError> {
        let Some(share) = self.shares.get_mut(&agent) else { return Ok(()) };
        let fresh: Vec<_> = direct.iter().copied().filter(|entry| !share.direct.contains(entry)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        elements::add(&self.table, share, &fresh).map_err(NftError::Elements)?;
        share.direct.extend(fresh);
        Ok(())
    }

    /// Whether `agent` can reach all of `direct`, or has no share in the table.
    #[must_use]
    pub fn knows(&self, agent: u32, direct: &[(u8, IpAddr, u16)]) -> bool {
        self.shares.get(&agent).is_none_or(|share| direct.iter().all(|entry| share.direct.contains(entry)))
    }

    /// Looks whether the table is there, with the rule that sends agents to it.
    ///
    /// # Errors
    /// It is not, or `nft` refuses.
    pub fn check(&self) -> Result<(), NftError> {
        let list = Command::new("nft").args(["list", "chain", "inet", &self.table, "output"]).output();
        let list = list.map_err(NftError::Run)?;
        let text = String::from_utf8_lossy(&list.stdout);
        match list.status.success() && text.contains("goto agents") {
            true => Ok(()),
            false => Err(NftError::Gone(self.table.clone())),
        }
    }

    /// Removes the table.
    ///
    /// # Errors
    /// Says what `nft` said.
    pub fn delete(&self) -> Result<(), NftError> {
        run(&ruleset::removal(&self.table))
    }
}

/// Why the second deny is not in force.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("failed to run `nft` (Debian: apt-get install nftables): {0}")]
    Run(io::Error),
    #[error("nft refused the ruleset: {0}")]
    Refused(String),
    #[error("failed to add elements to sets of nft: {0}")]
    Elements(io::Error),
    #[error("table `inet {0}` is not in force")]
    Gone(String),
    #[error("cgroup `{0}` is not below `/sys/fs/cgroup`, where nft looks for it")]
    Location(String),
}

/// Where nft looks for the cgroups that it is told of.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Path of a cgroup as nft takes it, below `/sys/fs/cgroup`, and its depth in its hierarchy.
fn location(path: &Path) -> Result<(String, usize), NftError> {
    let outside = || NftError::Location(path.display().to_string());
    let below = path.strip_prefix(CGROUPS).map_err(|_| outside())?;
    let hierarchy = Hierarchy::find().map_err(|_| outside())?;
    let depth = path.strip_prefix(hierarchy.mount()).map_err(|_| outside())?.components().count();
    Ok((below.display().to_string(), depth))
}

/// Whether there is a table of that name.
///
/// # Errors
/// `nft` cannot be run.
pub fn has_table(family: &str, table: &str) -> Result<bool, NftError> {
    let list = Command::new("nft").args(["list", "table", family, table]).output().map_err(NftError::Run)?;
    Ok(list.status.success())
}

/// Applies a ruleset in one transaction.
///
/// # Errors
/// Says what `nft` said.
pub fn run(ruleset: &str) -> Result<(), NftError> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NftError::Run)?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(ruleset.as_bytes()).map_err(NftError::Run)?;
    }
    let output = nft.wait_with_output().map_err(NftError::Run)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(NftError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
