//! Flows that the kernel programs permitted and counted: of a name and address they report one in a while,
//! and how many it stands for.

use crate::policy::{AgentId, HostName, RuleId};
use std::{collections::BTreeSet, net::IpAddr};

/// What flows were permitted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permit {
    pub agent: AgentId,
    pub name: HostName,
    pub address: IpAddr,
    pub port: u16,
}

/// Flows that no event stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreported {
    pub count: u32,
    pub rule: RuleId,
}

/// What was reported lately, and may have been counted since.
#[derive(Debug, Default)]
pub struct Permits {
    recent: BTreeSet<Permit>,
}

impl Permits {
    /// Notes an event of the programs.
    pub fn note(&mut self, agent: AgentId, name: HostName, address: IpAddr, port: u16) {
        if self.recent.len() < MAX_RECENT {
            self.recent.insert(Permit { agent, name, address, port });
        }
    }

    /// What `take` finds of each that was noted. One of which nothing is found is noted no longer.
    pub fn rest(
        &mut self,
        take: impl Fn(&Permit) -> Option<Unreported>,
    ) -> Vec<(AgentId, Permit, Unreported)> {
        let mut found = Vec::new();
        self.recent.retain(|permit| {
            let unreported = take(permit);
            found.extend(unreported.map(|flows| (permit.agent, permit.clone(), flows)));
            unreported.is_some()
        });
        found
    }
}

/// Names and addresses that are asked for in a round: a system call each. Of more than these, the last
/// flows are told with the next one, or when their agent ends.
const MAX_RECENT: usize = 1024;
