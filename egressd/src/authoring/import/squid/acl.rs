//! The lists of `squid.conf` that say what a request is about.

use super::regex;
use crate::authoring::import::{
    names::{Dialect, Numbers, Reach, Reading, network, read},
    ports::PortSet,
};
use ipnet::IpNet;
use std::collections::HashMap;

/// What a name in `http_access` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// Every request.
    All,
    /// Who asks: its address, its user, its certificate.
    Who,
    /// Destinations by name, with their texts.
    Hosts(Vec<(String, Reading)>),
    /// Destinations by address; of a name, its addresses are looked up unless told otherwise.
    Networks {
        networks: Vec<IpNet>,
        looks_up: bool,
    },
    Ports(PortSet),
    /// Tunnels, which are opened by the method CONNECT.
    Tunnel,
    /// Requests to Squid itself.
    Itself,
    Unknown(String),
}

/// The lists by their names, with the number of their first line. A list may be written in several lines, and what
/// stands in any of them counts wherever the list is named.
pub(super) struct Lists(HashMap<String, (usize, Term)>);

impl Lists {
    /// Those of all lines `acl NAME TYPE [flags] values`.
    pub(super) fn of(lines: &[(usize, Vec<&str>)]) -> Self {
        let mut lists = Self::predefined();
        for (number, words) in lines {
            if let ["acl", name, kind, values @ ..] = words.as_slice() {
                lists.add(*number, name, kind, values);
            }
        }
        lists
    }

    /// The lists that Squid has without a line (its `cf.data.pre`).
    fn predefined() -> Self {
        let networks = |texts: &[&str]| Term::Networks {
            networks: texts.iter().filter_map(|text| network(text)).collect(),
            looks_up: true,
        };
        let lists = [
            ("all", Term::All),
            ("localhost", Term::Who),
            ("manager", Term::Itself),
            ("CONNECT", Term::Tunnel),
            ("to_localhost", networks(&["127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"])),
            ("to_linklocal", networks(&["169.254.0.0/16", "fe80::/10"])),
        ];
        Self(lists.into_iter().map(|(name, term)| (name.to_owned(), (0, term))).collect())
    }

    /// What `name` stands for in line `number`.
    pub(super) fn term(&self, name: &str, number: usize) -> Term {
        match self.0.get(name) {
            Some((first, term)) if *first <= number => term.clone(),
            // Squid refuses the file.
            Some(_) => Term::Unknown(format!("there is no list `{name}` before it")),
            None => Term::Unknown(format!("there is no list `{name}`")),
        }
    }

    pub(super) fn is_of_clients(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some((_, Term::Who)))
    }

    pub(super) fn is_of_destinations(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some((_, Term::Hosts(_) | Term::Networks { .. })))
    }

    fn add(&mut self, number: usize, name: &str, kind: &str, values: &[&str]) {
        let values: Vec<&str> = values.iter().copied().filter(|value| !FLAGS.contains(value)).collect();
        let looks_up = values.len() == values.iter().filter(|value| **value != "-n").count();
        let values: Vec<&str> = values.into_iter().filter(|value| *value != "-n").collect();
        let term = match values.iter().find(|value| value.starts_with('"')) {
            Some(file) => Term::Unknown(format!("its values are in {file}: paste them in its place")),
            None if values.len() > MAX_VALUES => {
                Term::Unknown(format!("it has more than {MAX_VALUES} values"))
            }
            None => term(kind, &values, looks_up),
        };
        let joined = match self.0.remove(name) {
            // However it is spelt, it is about Squid's own pages.
            Some((first, Term::Itself)) => (first, Term::Itself),
            Some((first, held)) => (first, join(held, term)),
            None => (number, term),
        };
        self.0.insert(name.to_owned(), joined);
    }
}

/// The most values of one line: as many as a policy of ours has rules.
const MAX_VALUES: usize = 4096;

/// `+i` and `-i` are about the case of expressions, which names do not have.
const FLAGS: [&str; 3] = ["-i", "+i", "--"];

const PLAIN: Dialect = Dialect {
    plain: Reach::Only,
    star: Reach::Only,
    two_stars: None,
    inner: Reach::Only,
    numbers: Numbers::Addresses,
};
const DOTTED: Dialect = Dialect { plain: Reach::AndBelow, ..PLAIN };

fn term(kind: &str, values: &[&str], looks_up: bool) -> Term {
    match kind {
        "dstdomain" => Term::Hosts(values.iter().map(|value| ((*value).to_owned(), domain(value))).collect()),
        "dstdom_regex" => {
            Term::Hosts(values.iter().map(|value| ((*value).to_owned(), regex::read(value))).collect())
        }
        "dst" => match values {
            ["all"] => Term::All,
            _ => networks(values, looks_up),
        },
        "port" => ports(values),
        "method" if values.iter().all(|value| value.eq_ignore_ascii_case("CONNECT")) => Term::Tunnel,
        "src"
            if values
                .iter()
                .any(|value| matches!(*value, "all" | "0.0.0.0/0" | "0/0" | "0.0.0.0/0.0.0.0" | "::/0")) =>
        {
            Term::All
        }
        "src" | "srcdomain" | "srcdom_regex" | "proxy_auth" | "proxy_auth_regex" | "ident"
        | "ident_regex" | "arp" | "eui64" | "user_cert" | "ext_user" | "localip" | "localport"
        | "myportname" | "peername" => Term::Who,
        "proto" if values.iter().all(|value| *value == "cache_object") => Term::Itself,
        _ => Term::Unknown(format!("no rule of ours is about `{kind}`")),
    }
}

fn domain(value: &str) -> Reading {
    match value.strip_prefix('.') {
        Some(name) if network(name).is_none() => read(name, DOTTED),
        Some(_) | None if value.contains('*') => Reading::Unreadable("`dstdomain` knows no `*`".to_owned()),
        Some(_) | None => read(value, PLAIN),
    }
}

fn networks(values: &[&str], looks_up: bool) -> Term {
    let read: Option<Vec<IpNet>> = values.iter().map(|value| network(&prefix(value))).collect();
    match read {
        Some(networks) => Term::Networks { networks, looks_up },
        None => Term::Unknown("expected networks such as 192.0.2.0/24".to_owned()),
    }
}

/// `192.0.2.0/255.255.255.0` with the length of its prefix.
fn prefix(value: &str) -> String {
    let Some((address, mask)) = value.split_once('/') else { return value.to_owned() };
    match mask.parse().ok().and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok()) {
        Some(length) => format!("{address}/{length}"),
        None => value.to_owned(),
    }
}

fn ports(values: &[&str]) -> Term {
    let mut set = PortSet::none();
    for value in values {
        match PortSet::parse(value) {
            Some(ports) => set = set.union(&ports),
            // Port 0 stands for none, as in Squid's own list of safe ports of old.
            None if *value == "0" => {}
            None => return Term::Unknown(format!("`{value}` is not a port")),
        }
    }
    Term::Ports(set)
}

fn join(one: Term, other: Term) -> Term {
    match (one, other) {
        (Term::Hosts(mut one), Term::Hosts(other)) => {
            one.extend(other);
            Term::Hosts(one)
        }
        (Term::Ports(one), Term::Ports(other)) => Term::Ports(one.union(&other)),
        (
            Term::Networks { networks: mut one, looks_up },
            Term::Networks { networks: other, looks_up: also },
        ) => {
            one.extend(other);
            Term::Networks { networks: one, looks_up: looks_up || also }
        }
        (one, other) if one == other => one,
        (Term::Unknown(why), _) | (_, Term::Unknown(why)) => Term::Unknown(why),
        _ => Term::Unknown("its lines are of different types".to_owned()),
    }
}
