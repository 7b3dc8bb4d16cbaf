//! What has to hold of a request for a line `http_access` to decide about it.

use super::acl::{Lists, Term};
use crate::{
    authoring::{
        fate::Fate,
        import::{names::Reading, overlap::is_special, ports::PortSet},
    },
    policy::special_within,
};
use ipnet::IpNet;

/// All of which has to hold for a line to decide.
pub(super) struct Conditions {
    pub(super) hosts: Option<Vec<(String, Reading)>>,
    pub(super) not_hosts: Vec<(String, Reading)>,
    /// With whether names are looked up for them.
    pub(super) networks: Option<(Vec<IpNet>, bool)>,
    pub(super) not_networks: Vec<IpNet>,
    pub(super) ports: PortSet,
    /// None: tunnels and requests.
    pub(super) tunnel: Option<bool>,
    pub(super) who: bool,
    /// The lists of clients whom it is not about.
    pub(super) excepts: Vec<String>,
    pub(super) itself: bool,
    pub(super) never: bool,
    pub(super) unknown: Option<String>,
}

impl Conditions {
    /// Those of the `names` in line `number`.
    pub(super) fn of(names: &[&str], number: usize, lists: &Lists) -> Self {
        let mut line = Self {
            hosts: None,
            not_hosts: Vec::new(),
            networks: None,
            not_networks: Vec::new(),
            ports: PortSet::all(),
            tunnel: None,
            who: false,
            excepts: Vec::new(),
            itself: false,
            never: names.is_empty(),
            unknown: None,
        };
        for name in names {
            match name.strip_prefix('!') {
                Some(name) => line.add_not(name, lists.term(name, number)),
                None => line.add(lists.term(name, number)),
            }
        }
        line
    }

    fn add(&mut self, term: Term) {
        match term {
            Term::All => {}
            Term::Who => self.who = true,
            Term::Hosts(hosts) if self.hosts.is_none() => self.hosts = Some(hosts),
            Term::Hosts(_) => self.unknown = Some("two lists of names have to hold at once".to_owned()),
            Term::Networks { networks, looks_up } if self.networks.is_none() => {
                self.networks = Some((networks, looks_up))
            }
            Term::Networks { .. } => {
                self.unknown = Some("two lists of networks have to hold at once".to_owned())
            }
            Term::Ports(ports) => self.ports = self.ports.intersection(&ports),
            Term::Tunnel if self.tunnel == Some(false) => self.never = true,
            Term::Tunnel => self.tunnel = Some(true),
            Term::Itself => self.itself = true,
            Term::Unknown(why) => self.unknown = Some(why),
        }
    }

    fn add_not(&mut self, name: &str, term: Term) {
        match term {
            Term::All => self.never = true,
            Term::Who => self.excepts.push(name.to_owned()),
            Term::Hosts(hosts) => self.not_hosts.extend(hosts),
            Term::Networks { networks, .. } => self.not_networks.extend(networks),
            Term::Ports(ports) => self.ports = self.ports.minus(&ports),
            Term::Tunnel if self.tunnel == Some(true) => self.never = true,
            Term::Tunnel => self.tunnel = Some(false),
            Term::Itself => {}
            Term::Unknown(why) => self.unknown = Some(why),
        }
    }

    pub(super) fn is_about_all_ports(&self) -> bool {
        self.ports == PortSet::all() && self.tunnel.is_none()
    }

    pub(super) fn is_everything(&self) -> bool {
        self.is_about_all_ports() && self.not_hosts.is_empty() && self.not_networks.is_empty() && !self.never
    }

    /// What is said of a line that denies more than it did, since it excepts clients.
    pub(super) fn fate(&self) -> Fate {
        if self.excepts.is_empty() { Fate::Exact } else { Fate::Narrowed }
    }

    /// Why a line that allows cannot be written.
    pub(super) fn unspeakable(&self) -> Option<String> {
        if self.never {
            return Some("no request fulfils it".to_owned());
        }
        if !self.excepts.is_empty() {
            return Some("it is about other clients".to_owned());
        }
        if self.hosts.is_some() && self.networks.is_some() {
            return Some("a rule is about names or about networks".to_owned());
        }
        if !self.leaves_out_what_is_closed() {
            return Some("a rule that leaves networks out has to be written by hand, with `deny`".to_owned());
        }
        self.unknown.clone()
    }

    /// Whether the networks that it leaves out need no rule: names never open special addresses, and neither
    /// do networks that only hold them.
    fn leaves_out_what_is_closed(&self) -> bool {
        let is_closed_in =
            |inner: &IpNet, outer: &IpNet| special_within(*outer).iter().any(|hole| hole.contains(inner));
        self.not_networks.iter().all(|inner| match &self.networks {
            None => is_special(*inner),
            Some((networks, _)) => {
                networks.iter().filter(|outer| outer.contains(inner)).all(|outer| is_closed_in(inner, outer))
                    && !networks.iter().any(|outer| inner.contains(outer))
            }
        })
    }
}
