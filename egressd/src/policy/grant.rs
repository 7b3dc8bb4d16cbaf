//! Leave to reach one address until a moment.

use super::{
    agent::Agent,
    host::HostName,
    moment::Moment,
    rule::{Protocol, RuleId},
};
use std::{collections::HashMap, future::Future, net::IpAddr, pin::Pin};

/// The most live grants that one agent may hold. A name with 64 addresses and two ports takes
/// 128; 4,096 are 32 of those at once, and keep an agent's share of the kernel maps below 1 MiB.
pub const MAX_GRANTS: usize = 4096;

/// Leave to reach `address` at `port` until `expires`, bound to the rule and name that earned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub name: HostName,
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub rule: RuleId,
    /// New flows may start before this moment.
    pub expires: Moment,
}

/// Puts grants where the kernel sees them. Implemented by the datapath.
pub trait GrantSink: Send + Sync {
    /// Installs all of `grants` for `agent` and returns when the kernel obeys them.
    fn install<'a>(
        &'a self,
        agent: &'a Agent,
        grants: &'a [Grant],
    ) -> Pin<Box<dyn Future<Output = Result<(), GrantError>> + Send + 'a>>;
}

/// Why grants were not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("agent holds {MAX_GRANTS} live grants, its bound")]
    Quota,
    #[error("policy was replaced while the name was looked up")]
    Superseded,
    #[error("failed to write grants to the kernel: {0}")]
    Kernel(String),
}

/// The grants of one agent.
#[derive(Debug, Default)]
pub struct Grants {
    expires: HashMap<Key, (RuleId, Moment)>,
    /// What was forgotten to make room, for the next [`Grants::take_expired`]. No more than a few
    /// times [`MAX_GRANTS`]: a grant lives longer than the time between two takings.
    made_room: Vec<Grant>,
}

type Key = (IpAddr, u16, Protocol, HostName);

impl Grants {
    /// Inserts all of `grants`, or none. A grant that is held already lives to the later moment.
    ///
    /// # Errors
    /// [`GrantError::Quota`] when more than [`MAX_GRANTS`] would live.
    pub fn insert(&mut self, grants: &[Grant], now: Moment) -> Result<(), GrantError> {
        let fresh = |held: &Self| grants.iter().filter(|g| !held.expires.contains_key(&key(g))).count();
        if self.expires.len() + fresh(self) > MAX_GRANTS {
            self.made_room = self.take_expired(now);
            if self.expires.len() + fresh(self) > MAX_GRANTS {
                return Err(GrantError::Quota);
            }
        }
        for grant in grants {
            let held = self.expires.entry(key(grant)).or_insert((grant.rule, grant.expires));
            *held = (grant.rule, held.1.max(grant.expires));
        }
        Ok(())
    }

    /// When the grant that `name` earned for this address and port ends; None if there is none.
    #[must_use]
    pub fn expiry(&self, name: &HostName, address: IpAddr, port: u16, protocol: Protocol) -> Option<Moment> {
        self.expires.get(&(address, port, protocol, name.clone())).map(|(_, expires)| *expires)
    }

    /// Whether any name holds a live grant for this address, port and protocol.
    #[must_use]
    pub fn has(&self, address: IpAddr, port: u16, protocol: Protocol, now: Moment) -> bool {
        self.at(address, port, protocol).is_some_and(|(_, expires)| expires > now)
    }

    /// The grant for this address and port that lives longest, whichever name earned it: its rule,
    /// and when it ends.
    #[must_use]
    pub fn at(&self, address: IpAddr, port: u16, protocol: Protocol) -> Option<(RuleId, Moment)> {
        let is_for = |key: &Key| (key.0, key.1, key.2) == (address, port, protocol);
        let held = self.expires.iter().filter(|(key, _)| is_for(key)).map(|(_, held)| *held);
        // The id settles a tie, so that the verdict does not hang on the order of a hash table.
        held.max_by_key(|(rule, expires)| (*expires, *rule))
    }

    /// The grants that are live at `now`.
    pub fn live(&self, now: Moment) -> impl Iterator<Item = Grant> + '_ {
        self.expires
            .iter()
            .filter(move |(_, (_, expires))| *expires > now)
            .map(|(key, held)| grant(key, *held))
    }

    /// Forgets what expired before `moment`, and returns it: whoever wrote it elsewhere removes it.
    pub fn take_expired(&mut self, moment: Moment) -> Vec<Grant> {
        let mut expired = std::mem::take(&mut self.made_room);
        let gone = self.expires.extract_if(|_, (_, expires)| *expires <= moment);
        expired.extend(gone.map(|(key, held)| grant(&key, held)));
        expired
    }

    /// A name that earned a grant for `address`, live or not.
    #[must_use]
    pub fn name_at(&self, address: IpAddr) -> Option<HostName> {
        self.expires.keys().find(|(held, ..)| *held == address).map(|(.., name)| name.clone())
    }

    /// Forgets the grants for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&Grant) -> bool) {
        self.expires.retain(|key, held| keep(&grant(key, *held)));
    }
}

fn grant((address, port, protocol, name): &Key, (rule, expires): (RuleId, Moment)) -> Grant {
    Grant { name: name.clone(), address: *address, port: *port, protocol: *protocol, rule, expires }
}

fn key(grant: &Grant) -> Key {
    (grant.address, grant.port, grant.protocol, grant.name.clone())
}
