//! All addresses there are, in as many classes as the networks of rules tell apart.

use crate::policy::{Policy, Subject, special_within};
use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr};

/// The networks that rules speak of, and the special ones within them, which no rule opens unnamed.
#[derive(Debug, Default)]
pub(in crate::authoring) struct NetworkCells {
    /// Wider ones first.
    networks: Vec<IpNet>,
    named: BTreeSet<IpNet>,
}

/// The addresses of a network without those of the narrower ones within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authoring) struct NetworkCell {
    pub(in crate::authoring) network: IpNet,
    /// One of them.
    pub(in crate::authoring) sample: IpAddr,
}

impl NetworkCells {
    /// The classes that the networks of `policies` make.
    pub(in crate::authoring) fn of(policies: &[&Policy]) -> Self {
        let rules = policies.iter().flat_map(|policy| policy.allow().iter().chain(policy.deny()));
        let named: BTreeSet<IpNet> = rules
            .filter_map(|rule| match &rule.subject {
                Subject::Network(network) => Some(*network),
                Subject::Host(_) => None,
            })
            .collect();
        let special = named.iter().flat_map(|network| special_within(*network));
        let all: BTreeSet<IpNet> = named.iter().copied().chain(special).collect();
        let mut networks: Vec<IpNet> = all.into_iter().collect();
        networks.sort_by_key(|network| (network.prefix_len(), *network));
        Self { networks, named }
    }

    /// Every class that is not empty, and whose addresses are found on the wire.
    pub(in crate::authoring) fn cells(&self) -> impl Iterator<Item = NetworkCell> + '_ {
        let cell = |network: &IpNet| {
            let sample = self.sample(network)?;
            // What leaves as IPv4 is judged as IPv4.
            (sample == sample.to_canonical()).then_some(NetworkCell { network: *network, sample })
        };
        self.networks.iter().filter_map(cell)
    }

    /// Whether a rule names this very network; else it is a special one.
    pub(in crate::authoring) fn is_named(&self, network: &IpNet) -> bool {
        self.named.contains(network)
    }

    /// The networks within `network`, and narrower, wider ones first.
    pub(in crate::authoring) fn inside<'a>(&'a self, network: &'a IpNet) -> impl Iterator<Item = IpNet> + 'a {
        self.networks.iter().filter(move |inner| network.contains(*inner) && network != *inner).copied()
    }

    /// The first address that no narrower network holds.
    fn sample(&self, network: &IpNet) -> Option<IpAddr> {
        let mut address = network.network();
        // Each turn leaves a network behind for good.
        while let Some(inner) = self.inside(network).find(|inner| inner.contains(&address)) {
            if inner.broadcast() == network.broadcast() {
                return None;
            }
            address = next(inner.broadcast())?;
        }
        Some(address)
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => u32::from(address).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => u128::from(address).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}
