//! The `http_access` lines of `squid.conf`.
//!
//! Read in Squid's `cf.data.pre` and its pages on access controls: the first line decides of which all lists hold,
//! and what no line is about is decided the other way round than the last one; `.example.com` is the name and all below
//! it, `example.com` the name. What Squid sees of TLS is a tunnel, opened by CONNECT.

mod acl;
mod clients;
mod conditions;
mod lines;
mod regex;

use super::{
    ImportError,
    draft::{At, Draft, Order, Remark, Section, worse},
    names::{Opening, Reading},
    ports::PortSet,
};
use crate::{
    authoring::{fate::Fate, patterns},
    policy::{Pattern, Protocol},
};
use acl::Lists;
use clients::Clients;
use conditions::Conditions;
use lines::{Lines, words};

/// Translates the lines in their order.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    draft.decide_by(Order::FirstWins);
    let Lines { whole, torn } = Lines::of(text);
    if let Some(number) = torn {
        let place = format!("{}:{number}", draft.file);
        let at = At { place: &place, was: "the last line" };
        draft.note(at, Fate::Exact, "Squid drops a line that the file ends in");
    }
    let lines: Vec<(usize, Vec<&str>)> = whole.iter().map(|(number, line)| (*number, words(line))).collect();
    let lists = Lists::of(&lines);
    let mut access = Access::new(Clients::choose(&lines, &lists, draft)?, lists);
    for (number, words) in &lines {
        let Some(why) = counts_anywhere(words) else { continue };
        let place = format!("{}:{number}", draft.file);
        draft.cut(At { place: &place, was: &words.join(" ") }, why);
    }
    for (number, words) in &lines {
        let place = format!("{}:{number}", draft.file);
        let was = words.join(" ");
        access.line(*number, At { place: &place, was: &was }, words, draft);
    }
    access.end(draft)
}

/// Why a line that is none of `http_access` may deny what stands before it, too.
fn counts_anywhere(words: &[&str]) -> Option<&'static str> {
    match words {
        // What it holds may belong to a list that is named before it.
        ["include" | "if" | "else", ..] => Some("it may hold lines that deny: paste them in its place"),
        [directive, rest @ ..] if denies_elsewhere(directive, rest) => {
            Some("it denies requests besides `http_access`")
        }
        [..] => None,
    }
}

/// Whether a line denies requests, though it is none of `http_access`.
fn denies_elsewhere(directive: &str, rest: &[&str]) -> bool {
    match rest {
        ["terminate", ..] => directive == "ssl_bump",
        _ => ELSEWHERE.contains(&directive) && rest != ["allow", "all"],
    }
}

/// Directives that deny requests, too.
const ELSEWHERE: [&str; 4] = ["adapted_http_access", "http_access2", "http_reply_access", "miss_access"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Allow,
    Deny,
}

/// What the lists mean, and the lines so far for those that come.
struct Access {
    clients: Clients,
    lists: Lists,
    /// What is left of the ports to which tunnels may be opened.
    tunnels: PortSet,
    /// What is left of the ports to which requests may be sent.
    plain: PortSet,
    /// The hosts outside of which everything is denied; None: there is no such line.
    within: Option<Vec<(String, Reading)>>,
    last: Option<(String, Act)>,
    is_over: bool,
}

impl Access {
    fn new(clients: Clients, lists: Lists) -> Self {
        Self {
            clients,
            lists,
            tunnels: PortSet::all(),
            plain: PortSet::all(),
            within: None,
            last: None,
            is_over: false,
        }
    }

    fn line(&mut self, number: usize, at: At<'_>, words: &[&str], draft: &mut Draft<'_>) {
        match words {
            ["http_access", act @ ("allow" | "deny"), names @ ..] if !self.is_over => {
                let act = if *act == "allow" { Act::Allow } else { Act::Deny };
                self.last = Some((at.place.to_owned(), act));
                if act == Act::Allow && !self.clients.are_meant(names, &self.lists) {
                    return draft.note(at, Fate::Exact, "it is about other clients");
                }
                let line = Conditions::of(names, number, &self.lists);
                match act {
                    Act::Allow => self.allow(at, line, draft),
                    Act::Deny => self.deny(at, line, draft),
                }
            }
            ["http_access", ..] if self.is_over => draft.note(at, Fate::Exact, "no request comes so far"),
            ["http_access", ..] => draft.cut(at, "it neither allows nor denies"),
            _ => {}
        }
    }

    fn end(self, draft: &mut Draft<'_>) -> Result<(), ImportError> {
        match self.last {
            None => Err(ImportError::Nothing("no line `http_access`", draft.file.to_owned())),
            Some((place, Act::Deny)) if !self.is_over => {
                let at = At { place: &place, was: "the last line denies" };
                draft.lose(
                    at,
                    Section::Rules,
                    "what no line is about is allowed then, and no rule allows every host",
                );
                Ok(())
            }
            Some((_, Act::Allow | Act::Deny)) => Ok(()),
        }
    }

    fn deny(&mut self, at: At<'_>, line: Conditions, draft: &mut Draft<'_>) {
        let is_bare = line.hosts.is_none() && line.networks.is_none() && line.unknown.is_none() && !line.who;
        let is_for_others = is_bare && line.is_everything() && !line.excepts.is_empty();
        if line.itself || line.never || is_for_others || self.clients.hold(&line.excepts) {
            return draft.note(at, Fate::Exact, "it is not about an agent that this policy is for");
        }
        if is_bare && line.is_everything() {
            self.is_over = true;
            return;
        }
        if is_bare && line.not_hosts.is_empty() && line.not_networks.is_empty() {
            self.deny_ports(&line);
            return draft.note(at, line.fate(), "it counts for the ports of the lines behind it");
        }
        if is_bare && line.not_networks.is_empty() && line.is_about_all_ports() {
            let fate = line.fate();
            self.within = Some(match self.within.take() {
                Some(within) => common(&within, &line.not_hosts),
                None => line.not_hosts,
            });
            return draft.note(at, fate, "it counts for the names of the lines behind it");
        }
        self.deny_destinations(at, line, draft);
    }

    fn deny_ports(&mut self, line: &Conditions) {
        if line.tunnel != Some(false) {
            self.tunnels = self.tunnels.minus(&line.ports);
        }
        if line.tunnel != Some(true) {
            self.plain = self.plain.minus(&line.ports);
        }
    }

    fn deny_destinations(&self, at: At<'_>, line: Conditions, draft: &mut Draft<'_>) {
        let protocols: &[Protocol] = match line.tunnel {
            None => &[],
            Some(true) => &[Protocol::Tls, Protocol::Tcp],
            Some(false) => &[Protocol::Http],
        };
        let (ports, wide) = match (line.ports == PortSet::all(), line.ports.listed()) {
            (true, _) => (Vec::new(), None),
            (false, Some(ports)) => (ports, None),
            (false, None) => (
                Vec::new(),
                Some((Fate::Narrowed, "a rule names at most 64 ports: all are denied".to_owned())),
            ),
        };
        let is_conditional = line.who
            || line.fate() != Fate::Exact
            || line.unknown.is_some()
            || !line.not_hosts.is_empty()
            || !line.not_networks.is_empty();
        let conditions = "it is denied without the conditions that no rule of ours knows".to_owned();
        let remark = worse(wide, is_conditional.then_some((Fate::Narrowed, conditions)));
        match (line.hosts, line.networks) {
            (Some(hosts), None) => {
                for (text, reading) in hosts {
                    let was = format!("{}: {text}", at.was);
                    draft.deny(At { place: at.place, was: &was }, reading, &ports, protocols, remark.clone());
                }
            }
            (None, Some((networks, _))) => {
                for network in networks {
                    let was = format!("{}: {network}", at.was);
                    draft.deny(
                        At { place: at.place, was: &was },
                        Reading::Network(network),
                        &ports,
                        protocols,
                        remark.clone(),
                    );
                }
            }
            (None, None) => {
                draft.cut(at, line.unknown.as_deref().unwrap_or("whom it is about cannot be said"))
            }
            (Some(_), Some(_)) => draft.cut(at, "a rule is about names or about networks"),
        }
    }

    fn allow(&self, at: At<'_>, line: Conditions, draft: &mut Draft<'_>) {
        if line.itself {
            return draft.note(at, Fate::Exact, "it is about Squid itself");
        }
        if let Some(why) = line.unspeakable() {
            return draft.lose(at, Section::Rules, &why);
        }
        for (text, reading) in &line.not_hosts {
            let was = format!("{}: !{text}", at.was);
            let remark = (Fate::Narrowed, "it is denied to later lines, too".to_owned());
            draft.deny(At { place: at.place, was: &was }, reading.clone(), &[], &[], Some(remark));
        }
        let (openings, remark) = self.openings(&line);
        if let Some((networks, looks_up)) = line.networks {
            let names = (Fate::Narrowed, "names that have such addresses need rules of their own".to_owned());
            let remark = worse(remark, looks_up.then_some(names));
            for network in networks {
                let was = format!("{}: {network}", at.was);
                let at = At { place: at.place, was: &was };
                match &self.within {
                    Some(_) => draft.lose(at, Section::Rules, "an earlier line denies all but some names"),
                    None => draft.allow(at, Reading::Network(network), &openings, &[], remark.clone()),
                }
            }
            return;
        }
        let hosts = match (line.hosts, &self.within) {
            (Some(hosts), Some(within)) => within_both(at, &hosts, within, draft),
            (Some(hosts), None) => hosts,
            (None, Some(within)) => within.clone(),
            (None, None) => return draft.allow(at, Reading::Everything, &openings, &[], None),
        };
        for (text, reading) in hosts {
            let was = format!("{}: {text}", at.was);
            draft.allow(At { place: at.place, was: &was }, reading, &openings, &[], remark.clone());
        }
    }

    /// What a line that allows opens: tunnels and requests to the ports that are left.
    fn openings(&self, line: &Conditions) -> (Vec<Opening>, Remark) {
        let mut remark: Remark = None;
        let is_address = line.networks.is_some();
        let mut listed = |set: PortSet, usual: u16, other: u16| {
            let set = set.intersection(&line.ports);
            let ports = set.listed().unwrap_or_else(|| {
                let why = format!("a rule names at most 64 ports: of them, {usual} is written");
                remark = worse(remark.take(), Some((Fate::Narrowed, why)));
                if set.holds(usual) { vec![usual] } else { Vec::new() }
            });
            ports.into_iter().filter(|port| *port != other || is_address).collect::<Vec<u16>>()
        };
        let tunnels = if line.tunnel == Some(false) { PortSet::none() } else { self.tunnels.clone() };
        let plain = if line.tunnel == Some(true) { PortSet::none() } else { self.plain.clone() };
        // By what is taken for granted of ports, a tunnel to 80 and a bare request to 443 are neither.
        let mut openings = super::names::tcp(&listed(tunnels, 443, 80));
        let requests = listed(plain, 80, 443);
        if !requests.is_empty() {
            openings.push(Opening { protocol: Protocol::Http, ports: requests });
        }
        (openings, remark)
    }
}

/// What is in both lists; what cannot be read is reported as lost.
fn within_both(
    at: At<'_>,
    hosts: &[(String, Reading)],
    within: &[(String, Reading)],
    draft: &mut Draft<'_>,
) -> Vec<(String, Reading)> {
    for (text, reading) in hosts.iter().chain(within) {
        if let Reading::Unreadable(why) = reading {
            let was = format!("{}: {text}", at.was);
            draft.lose(At { place: at.place, was: &was }, Section::Rules, why);
        }
    }
    common(hosts, within)
}

/// What is in both lists. Of two patterns that share a name, one is within the other.
fn common(one: &[(String, Reading)], other: &[(String, Reading)]) -> Vec<(String, Reading)> {
    let mut both = Vec::new();
    for (text, reading) in one {
        for (also, held) in other {
            let within = |outer: &Reading, inner: &Reading| match (outer, inner) {
                (Reading::Names(outer), Reading::Names(inner)) => {
                    let kept: Vec<Pattern> = inner
                        .iter()
                        .filter(|pattern| outer.iter().any(|outer| patterns::covers(outer, pattern)))
                        .cloned()
                        .collect();
                    (!kept.is_empty()).then_some(Reading::Names(kept))
                }
                (Reading::Network(outer), Reading::Network(inner)) => {
                    outer.contains(inner).then_some(Reading::Network(*inner))
                }
                _ => None,
            };
            if let Some(kept) = within(held, reading) {
                both.push((text.clone(), kept));
            } else if let Some(kept) = within(reading, held) {
                both.push((also.clone(), kept));
            }
        }
    }
    both
}
