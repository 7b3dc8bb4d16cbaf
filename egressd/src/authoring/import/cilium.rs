//! The egress rules of `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`.
//!
//! Read in cilium/cilium (`pkg/fqdn/matchpattern`, `pkg/policy/api`, `Documentation/security/policy`): in a
//! `matchPattern` a `*` stands for letters within one label, and since 1.19 a leading `**.` for any number of labels (one,
//! before); a rule without `toPorts` is about every port; `egressDeny` wins; rules for names and networks are never about
//! what runs in the cluster.

use super::{
    ImportError,
    draft::{At, Draft, Remark, Section, worse},
    names::{Dialect, Numbers, Opening, Reach, Reading, distinct, network, read as read_host, tcp, udp},
    ports::PortSet,
    tree::{self, Node},
};
use crate::{
    authoring::fate::{Fate, quote},
    policy::Protocol,
};
use ipnet::IpNet;
use std::collections::BTreeSet;

const NAME: Dialect = Dialect {
    plain: Reach::Only,
    star: Reach::OneLabel,
    two_stars: Some(Reach::Below),
    inner: Reach::OneLabel,
    // An address is no name, so that it matches nothing.
    numbers: Numbers::Nothing,
};

/// Translates the policies that are about the same endpoints, or the one that is chosen.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let documents = tree::yaml(draft.file, text, 1)?;
    let policies = documents.iter().flat_map(|document| match document.get("items") {
        Some(items) => items.items(),
        None => std::slice::from_ref(document),
    });
    let policies: Vec<&Node> = policies
        .filter(|policy| {
            matches!(
                policy.get("kind").and_then(Node::text),
                Some("CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy")
            )
        })
        .collect();
    let mut specs: Vec<Spec<'_>> = policies.iter().flat_map(|policy| Spec::of(policy)).collect();
    if specs.is_empty() {
        return Err(ImportError::Nothing("no policy of Cilium", draft.file.to_owned()));
    }
    if let Some(only) = &draft.options.only {
        let names = listed(&labels(&specs));
        specs = chosen(&specs, only);
        if specs.is_empty() {
            return Err(ImportError::NoSuch { file: draft.file.to_owned(), only: quote(only), names });
        }
    }
    if specs.windows(2).any(|pair| matches!(pair, [one, other] if one.about() != other.about())) {
        return Err(ImportError::Several { file: draft.file.to_owned(), names: listed(&labels(&specs)) });
    }
    for Spec { node: spec, .. } in specs {
        for rule in spec.get("egress").map(Node::items).unwrap_or_default() {
            Rule { node: rule, act: Act::Allow }.write(draft);
        }
        for rule in spec.get("egressDeny").map(Node::items).unwrap_or_default() {
            Rule { node: rule, act: Act::Deny }.write(draft);
        }
    }
    Ok(())
}

/// The specs that `only` names: by their label, or all of a policy by its name, with its namespace or without.
fn chosen<'n>(specs: &[Spec<'n>], only: &str) -> Vec<Spec<'n>> {
    let labels = labels(specs);
    let labelled = labels.iter().find(|(label, _)| label == only).map(|(_, spec)| *spec);
    let is_labelled = |spec: &Spec<'_>| {
        labelled
            .is_some_and(|chosen| chosen.full_name() == spec.full_name() && chosen.about() == spec.about())
    };
    let among = |is_meant: &dyn Fn(&Spec<'n>) -> bool| -> Vec<Spec<'n>> {
        specs.iter().filter(|spec| is_meant(spec)).copied().collect()
    };
    let ways: [Vec<Spec<'n>>; 3] =
        [among(&is_labelled), among(&|spec| spec.full_name() == only), among(&|spec| spec.name == only)];
    ways.into_iter().find(|specs| !specs.is_empty()).unwrap_or_default()
}

/// What tells specs apart that are about other endpoints, with the first of each.
fn labels<'s, 'n>(specs: &'s [Spec<'n>]) -> Vec<(String, &'s Spec<'n>)> {
    let mut seen = BTreeSet::new();
    let firsts: Vec<&Spec<'n>> =
        specs.iter().filter(|spec| seen.insert((spec.full_name(), spec.about()))).collect();
    let names: Vec<String> = firsts.iter().map(|spec| spec.full_name()).collect();
    distinct(&names).into_iter().zip(firsts).collect()
}

fn listed(labels: &[(String, &Spec<'_>)]) -> String {
    quote(&labels.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(", "))
}

/// A part of a policy that selects endpoints.
#[derive(Debug, Clone, Copy)]
struct Spec<'n> {
    /// None of what is for the whole cluster.
    namespace: Option<&'n str>,
    name: &'n str,
    node: &'n Node,
}

impl<'n> Spec<'n> {
    fn of(policy: &'n Node) -> impl Iterator<Item = Self> {
        let word = |key| policy.at(&["metadata", key]).and_then(Node::text);
        let is_of_cluster = policy.get("kind").and_then(Node::text) == Some("CiliumClusterwideNetworkPolicy");
        let namespace = if is_of_cluster { None } else { Some(word("namespace").unwrap_or("default")) };
        let name = word("name").unwrap_or_default();
        let specs = policy.get("specs").map(Node::items).unwrap_or_default();
        policy.get("spec").into_iter().chain(specs).map(move |node| Self { namespace, name, node })
    }

    /// Which endpoints it is about. A selector selects within the namespace of its policy.
    fn about(&self) -> (Option<&'n str>, Option<String>) {
        let selector = self.node.get("endpointSelector").or_else(|| self.node.get("nodeSelector"));
        (self.namespace, selector.map(Node::show))
    }

    fn full_name(&self) -> String {
        self.namespace.map_or_else(|| self.name.to_owned(), |namespace| format!("{namespace}/{}", self.name))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Allow,
    Deny,
}

/// An entry of `egress` or `egressDeny`.
struct Rule<'n> {
    node: &'n Node,
    act: Act,
}

impl Rule<'_> {
    fn write(&self, draft: &mut Draft<'_>) {
        if self.node.entries().is_empty() {
            return draft.note(at(self.node, "{}"), Fate::Exact, "it is about nothing");
        }
        // All parts of a rule have to hold, so that one which is not understood takes the others with it.
        if let Some((key, _)) = self.node.entries().iter().find(|(key, _)| !understands(key)) {
            return self.refuse(self.node, &format!("`{key}` has no counterpart"), draft);
        }
        let ports = match Ports::read(self.node.get("toPorts")) {
            Ok(ports) => ports,
            Err(why) => return self.refuse(self.node, &why, draft),
        };
        for (key, value) in self.node.entries() {
            match key.as_str() {
                "toFQDNs" => value.items().iter().for_each(|selector| self.fqdn(selector, &ports, draft)),
                "toCIDR" => {
                    value.items().iter().for_each(|cidr| self.cidr(cidr, cidr.text(), &[], &ports, draft))
                }
                "toCIDRSet" => value.items().iter().for_each(|set| self.cidr_set(set, &ports, draft)),
                "toEntities" => value.items().iter().for_each(|entity| self.entity(entity, &ports, draft)),
                "toEndpoints" | "toServices" | "toNodes" => self.in_cluster(key, value, &ports, draft),
                _ => {}
            }
        }
        let is_open = self.node.entries().iter().all(|(key, _)| key == "toPorts");
        if is_open {
            self.refuse(self.node, "it is about every host: name those that are needed", draft);
        }
    }

    fn refuse(&self, node: &Node, why: &str, draft: &mut Draft<'_>) {
        let was = node.show();
        match self.act {
            Act::Allow => draft.lose(at(node, &was), Section::Rules, why),
            Act::Deny => draft.cut(at(node, &was), why),
        }
    }

    fn fqdn(&self, selector: &Node, ports: &Ports, draft: &mut Draft<'_>) {
        let was = selector.show();
        let at = at(selector, &was);
        let (name, pattern) = (selector.get("matchName"), selector.get("matchPattern"));
        let (text, is_pattern) = match (name.and_then(Node::text), pattern.and_then(Node::text)) {
            (Some(name), None) => (name, false),
            (None, Some(pattern)) => (pattern, true),
            (Some(_), Some(_)) | (None, None) => {
                return self.refuse(selector, "expected `matchName` or `matchPattern`", draft);
            }
        };
        let text = text.trim_end_matches('.');
        let reading = match (is_pattern, read_host(text, NAME)) {
            (false, Reading::Names(_)) if text.contains('*') => {
                Reading::Unreadable("`matchName` knows no `*`".to_owned())
            }
            (_, reading) => reading,
        };
        match self.act {
            Act::Allow => {
                let (openings, remark) = ports.openings();
                let since = (Fate::Exact, "as Cilium reads it since 1.19".to_owned());
                let remark = worse(remark, text.starts_with("**.").then_some(since));
                draft.allow(at, reading, &openings, &[], remark);
            }
            Act::Deny => ports.deny(at, reading, draft),
        }
    }

    fn cidr_set(&self, set: &Node, ports: &Ports, draft: &mut Draft<'_>) {
        let except: Option<Vec<IpNet>> = set
            .get("except")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .map(|except| network(except.text().unwrap_or_default()))
            .collect();
        match except {
            Some(except) => self.cidr(set, set.get("cidr").and_then(Node::text), &except, ports, draft),
            None => self.refuse(set, "`except` holds something else than networks", draft),
        }
    }

    fn cidr(&self, node: &Node, text: Option<&str>, except: &[IpNet], ports: &Ports, draft: &mut Draft<'_>) {
        let was = node.show();
        let Some(whole) = text.and_then(network) else {
            return self.refuse(node, "expected a network such as 192.0.2.0/24", draft);
        };
        let Some(parts) = without(whole, except) else {
            let why = format!("without its exceptions it falls into more than {MAX_PARTS} networks");
            return self.refuse(node, &why, draft);
        };
        for part in parts {
            let reading = Reading::Network(part);
            match self.act {
                Act::Allow => {
                    let (openings, remark) = ports.openings();
                    draft.allow(at(node, &was), reading, &openings, &[], remark);
                }
                Act::Deny => ports.deny(at(node, &was), reading, draft),
            }
        }
    }

    fn entity(&self, entity: &Node, ports: &Ports, draft: &mut Draft<'_>) {
        let word = entity.text().unwrap_or_default();
        let networks: &[&str] = match word {
            "world" | "all" => &["0.0.0.0/0", "::/0"],
            "world-ipv4" => &["0.0.0.0/0"],
            "world-ipv6" => &["::/0"],
            _ => &[],
        };
        let was = format!("toEntities: {word}");
        let at = at(entity, &was);
        match (self.act, networks) {
            (Act::Allow, []) => draft.lose(at, Section::Rules, "what runs in a cluster has no name here"),
            (Act::Allow, _) => {
                draft.lose(at, Section::Rules, "no rule allows every host: name those that are needed")
            }
            (Act::Deny, []) => draft.note(at, Fate::Exact, "no rule allows it"),
            (Act::Deny, networks) => {
                for network in networks.iter().filter_map(|text| network(text)) {
                    ports.deny(at, Reading::Network(network), draft);
                }
            }
        }
    }

    fn in_cluster(&self, key: &str, value: &Node, ports: &Ports, draft: &mut Draft<'_>) {
        let was = format!("{key}: {}", value.show());
        let at = at(value, &was);
        match self.act {
            Act::Allow if ports.is_dns() => {
                draft.note(
                    at,
                    Fate::Exact,
                    "names are looked up through the resolver of egressd without a rule",
                );
            }
            Act::Allow => draft.lose(at, Section::Rules, "what runs in a cluster has no name here"),
            Act::Deny => draft.note(at, Fate::Exact, "no rule allows it"),
        }
    }
}

fn understands(key: &str) -> bool {
    ["toFQDNs", "toCIDR", "toCIDRSet", "toEntities", "toEndpoints", "toServices", "toNodes", "toPorts"]
        .contains(&key)
}

fn at<'a>(node: &'a Node, was: &'a str) -> At<'a> {
    At { place: &node.place, was }
}

/// The ports of a rule.
struct Ports {
    tcp: PortSet,
    udp: PortSet,
    /// Protocols that no rule of ours lets pass.
    others: bool,
}

impl Ports {
    fn read(node: Option<&Node>) -> Result<Self, String> {
        let Some(node) = node.filter(|node| !node.items().is_empty()) else {
            return Ok(Self { tcp: PortSet::all(), udp: PortSet::all(), others: true });
        };
        let mut ports = Self { tcp: PortSet::none(), udp: PortSet::none(), others: false };
        for entry in node.items() {
            for (key, value) in entry.entries() {
                let is_lookups = key == "rules" && value.entries().iter().all(|(key, _)| key == "dns");
                if key != "ports" && !is_lookups {
                    return Err(format!("`{key}` of `toPorts` has no counterpart"));
                }
            }
            match entry.get("ports").map(Node::items) {
                Some(list) if !list.is_empty() => list.iter().try_for_each(|port| ports.add(port))?,
                Some(_) | None => ports = Self { tcp: PortSet::all(), udp: PortSet::all(), others: true },
            }
        }
        Ok(ports)
    }

    fn add(&mut self, port: &Node) -> Result<(), String> {
        let text = port.get("port").and_then(Node::text).unwrap_or("0");
        let first: u16 =
            text.parse().map_err(|_| format!("port `{text}` has a name, whose number is not known here"))?;
        let last = match port.get("endPort").and_then(Node::text) {
            Some(end) => end.parse().map_err(|_| format!("`{end}` is not a port"))?,
            None => first,
        };
        let set = match first {
            0 => PortSet::all(),
            _ => PortSet::range(first, last.max(first)).ok_or_else(|| format!("`{text}` is not a port"))?,
        };
        let protocol = port.get("protocol").and_then(Node::text).unwrap_or("ANY").to_ascii_uppercase();
        match protocol.as_str() {
            "TCP" => self.tcp = self.tcp.union(&set),
            "UDP" => self.udp = self.udp.union(&set),
            "ANY" => {
                self.tcp = self.tcp.union(&set);
                self.udp = self.udp.union(&set);
            }
            _ => self.others = true,
        }
        Ok(())
    }

    /// What a rule that allows opens. A wide set of ports becomes those of the web.
    fn openings(&self) -> (Vec<Opening>, Remark) {
        let mut remark: Remark = None;
        let usual =
            |ports: &[u16], set: &PortSet| ports.iter().copied().filter(|port| set.holds(*port)).collect();
        let mut listed = |set: &PortSet, web: &[u16]| {
            set.listed().unwrap_or_else(|| {
                let why = "a rule names at most 64 ports: 443 and 80 are written, as far as they are in it"
                    .to_owned();
                remark = Some((Fate::Narrowed, why));
                usual(web, set)
            })
        };
        let mut openings = tcp(&listed(&self.tcp, &[443, 80]));
        openings.extend(udp(&listed(&self.udp, &[443])));
        let sctp = (Fate::Narrowed, "only TCP and UDP pass".to_owned());
        let remark = if remark.is_none() && self.others { Some(sctp) } else { remark };
        (openings, remark)
    }

    fn deny(&self, at: At<'_>, reading: Reading, draft: &mut Draft<'_>) {
        let transports: [(&PortSet, &[Protocol]); 2] = [
            (&self.tcp, &[Protocol::Tls, Protocol::Http, Protocol::Tcp]),
            (&self.udp, &[Protocol::Udp, Protocol::Quic]),
        ];
        if self.tcp == PortSet::all() && self.udp == PortSet::all() {
            return draft.deny(at, reading, &[], &[], None);
        }
        for (set, protocols) in transports {
            if set.is_empty() {
                continue;
            }
            let wide = (Fate::Narrowed, "a rule names at most 64 ports: all are denied".to_owned());
            match set.listed() {
                Some(ports) => draft.deny(at, reading.clone(), &ports, protocols, None),
                None => {
                    let remark = (*set != PortSet::all()).then_some(wide);
                    draft.deny(at, reading.clone(), &[], protocols, remark);
                }
            }
        }
    }

    fn is_dns(&self) -> bool {
        let is_53 = |set: &PortSet| set.listed().is_some_and(|ports| ports.iter().all(|port| *port == 53));
        is_53(&self.tcp) && is_53(&self.udp) && !self.others
    }
}

/// `whole` without `except`, as networks; None where these are more than [`MAX_PARTS`].
fn without(whole: IpNet, except: &[IpNet]) -> Option<Vec<IpNet>> {
    let mut parts = vec![whole];
    for hole in except {
        let mut rest = Vec::new();
        for part in parts {
            cut_out(part, hole, &mut rest);
        }
        parts = rest;
        if parts.len() > MAX_PARTS {
            return None;
        }
    }
    Some(parts)
}

fn cut_out(part: IpNet, hole: &IpNet, rest: &mut Vec<IpNet>) {
    if hole.contains(&part) {
        return;
    }
    if !part.contains(hole) {
        return rest.push(part);
    }
    // Half of it holds the hole, and the other half does not: 128 halvings at most.
    if let Ok(halves) = part.subnets(part.prefix_len().saturating_add(1)) {
        halves.for_each(|half| cut_out(half, hole, rest));
    }
}

/// Of one network: a hole of one address in an IPv6 /0 leaves 128 parts.
const MAX_PARTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_its_exceptions_is_the_rest_of_it() {
        let parts = |whole: &str, except: &[&str]| {
            let except: Vec<IpNet> = except.iter().map(|text| text.parse().unwrap()).collect();
            without(whole.parse().unwrap(), &except)
                .map(|parts| parts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(parts("10.0.0.0/8", &["10.128.0.0/9"]).unwrap(), ["10.0.0.0/9"]);
        assert_eq!(parts("10.0.0.0/30", &["10.0.0.1/32"]).unwrap(), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(parts("10.0.0.0/8", &["10.0.0.0/7"]).unwrap().len(), 0);
        assert_eq!(parts("10.0.0.0/8", &["192.0.2.0/24"]).unwrap(), ["10.0.0.0/8"]);
        assert_eq!(parts("::/0", &["::1/128"]).unwrap().len(), 128);
    }
}
