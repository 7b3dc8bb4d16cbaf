//! The policy that is being written, line by line of the other tool's.

use super::{
    ImportError, Options, Widening,
    names::{Opening, Reading},
    order::{self, allows, denies},
    overlap::{is_datagram, overlap},
    parts,
};
use crate::{
    authoring::fate::{Fate, Translated, quote},
    policy::{Approval, Pattern, Protocol, Subject, special_within},
};
use ipnet::IpNet;

/// What has been translated so far.
pub(super) struct Draft<'a> {
    pub(super) file: &'a str,
    pub(super) options: &'a Options,
    order: Order,
    lines: Vec<Line>,
}

/// Which line decides where several are about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Any that denies.
    DenyWins,
    /// The first.
    FirstWins,
}

/// One line of the other tool's, and what stands for it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) section: Section,
    pub(super) translated: Translated,
    pub(super) written: Vec<Written>,
    /// It denies what cannot be said, so that nothing behind it may be allowed.
    pub(super) cuts: bool,
}

/// The part of our file where a line belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Include,
    Packages,
    Rules,
    Deny,
}

/// An item of our file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Include(String),
    Packages(String),
    Allow(Allow),
    Deny(Deny),
}

/// A rule of ours that allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allow {
    pub(super) subject: Subject,
    pub(super) protocol: Protocol,
    /// Never empty.
    pub(super) ports: Vec<u16>,
    /// Empty: TLS is not ended.
    pub(super) requests: Vec<String>,
    pub(super) approval: Approval,
}

/// A rule of ours that denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deny {
    pub(super) subject: Subject,
    /// None: all.
    pub(super) protocol: Option<Protocol>,
    /// Empty: all.
    pub(super) ports: Vec<u16>,
}

/// Where a line stands, and how it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) place: &'a str,
    pub(super) was: &'a str,
}

/// What is to be said of a line besides what its names say.
pub(super) type Remark = Option<(Fate, String)>;

impl<'a> Draft<'a> {
    pub(super) fn new(file: &'a str, options: &'a Options) -> Self {
        Self { file, options, order: Order::DenyWins, lines: Vec::new() }
    }

    pub(super) fn decide_by(&mut self, order: Order) {
        self.order = order;
    }

    /// The one of `names` that was chosen, or the only one; None where there is none.
    ///
    /// # Errors
    /// None of them was chosen, and there are several; or another one was chosen.
    pub(super) fn choose<'n>(&self, names: &'n [String]) -> Result<Option<&'n str>, ImportError> {
        let (file, all) = (self.file.to_owned(), || names.join(", "));
        match (&self.options.only, names) {
            (Some(only), _) => match names.iter().find(|name| *name == only) {
                Some(name) => Ok(Some(name)),
                None => Err(ImportError::NoSuch { file, only: quote(only), names: all() }),
            },
            (None, []) => Ok(None),
            (None, [name]) => Ok(Some(name)),
            (None, _) => Err(ImportError::Several { file, names: all() }),
        }
    }

    pub(super) fn may_widen(&self) -> bool {
        self.options.widening == Widening::Allowed
    }

    /// How many items of our file stand for the lines.
    pub(super) fn size(&self) -> usize {
        self.lines.iter().map(|line| line.written.len()).sum()
    }

    /// Whether no line was translated.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Allows what `reading` means on `openings`; with `requests`, only these of them.
    pub(super) fn allow(
        &mut self,
        at: At<'_>,
        reading: Reading,
        openings: &[Opening],
        requests: &[String],
        remark: Remark,
    ) {
        let (patterns, fate) = match reading {
            Reading::Everything => {
                return self.lose(
                    at,
                    Section::Rules,
                    "no rule allows every host: name those that are needed",
                );
            }
            Reading::Unreadable(why) => return self.lose(at, Section::Rules, &why),
            Reading::Network(network) => return self.allow_network(at, network, openings, remark),
            Reading::NoHost(network) => {
                let why = format!("no entry there means {}, so that it opens nothing", noun(network));
                return self.lose(
                    at,
                    Section::Rules,
                    &format!("{why}: write a rule with `cidr` if it is needed"),
                );
            }
            Reading::Wider(patterns) if !self.may_widen() => {
                let why =
                    format!("`*` stands only first, as a whole label; {} would be wider", shown(&patterns));
                return self.lose(at, Section::Rules, &why);
            }
            Reading::Wider(patterns) => {
                (patterns, Some((Fate::Widened, "`*` stands only first, as a whole label".to_owned())))
            }
            Reading::Names(patterns) => (patterns, remark),
        };
        if patterns.iter().any(|pattern| pattern.name().labels().next_back() == Some("localhost")) {
            return self.lose(at, Section::Rules, "no name opens this host itself");
        }
        let mut remark = fate;
        if let Some(suffix) = patterns.iter().find(|pattern| pattern.is_public_suffix()) {
            let why = format!("strangers can register names below `{}`", suffix.name());
            if !self.may_widen() {
                return self.lose(at, Section::Rules, &format!("{why}: name the hosts one by one"));
            }
            remark = worse(remark, Some((Fate::Widened, why)));
        }
        let subjects: Vec<Subject> = patterns.into_iter().map(Subject::Host).collect();
        self.write_allow(at, &subjects, openings, requests, remark);
    }

    fn allow_network(&mut self, at: At<'_>, network: IpNet, openings: &[Opening], remark: Remark) {
        let carried = [Protocol::Tcp, Protocol::Udp].map(|protocol| Opening {
            protocol,
            ports: openings
                .iter()
                .filter(|opening| is_datagram(opening.protocol) == is_datagram(protocol))
                .flat_map(|opening| opening.ports.iter().copied())
                .collect(),
        });
        let closed = special_within(network).first().map(|hole| {
            (Fate::Narrowed, format!("special networks inside, such as {hole}, need a rule of their own"))
        });
        self.write_allow(at, &[Subject::Network(network)], &carried, &[], worse(remark, closed));
    }

    fn write_allow(
        &mut self,
        at: At<'_>,
        subjects: &[Subject],
        openings: &[Opening],
        requests: &[String],
        remark: Remark,
    ) {
        let mut written = Vec::new();
        let mut remark = remark;
        for opening in openings {
            let mut ports = opening.ports.clone();
            ports.sort_unstable();
            ports.dedup();
            if ports.contains(&DNS) {
                ports.retain(|port| *port != DNS);
                remark = worse(
                    remark,
                    Some((Fate::Narrowed, "port 53 always reaches the resolver of egressd".to_owned())),
                );
            }
            if ports.is_empty() {
                continue;
            }
            written.extend(subjects.iter().map(|subject| {
                Written::Allow(Allow {
                    subject: subject.clone(),
                    protocol: opening.protocol,
                    ports: ports.clone(),
                    requests: requests.to_vec(),
                    approval: Approval::NotNeeded,
                })
            }));
        }
        if written.is_empty() {
            let why = remark.map_or_else(|| "no port is left".to_owned(), |(_, why)| why);
            return self.lose(at, Section::Rules, &why);
        }
        self.push(at, Section::Rules, written, remark, false);
    }

    /// Has people asked about what `reading` means on `openings`. Where a line so far allows some of it, they would not
    /// be, so that it is denied; no `ports` mean all of them.
    pub(super) fn ask(&mut self, at: At<'_>, reading: Reading, ports: &[u16], openings: &[Opening]) {
        let subjects: Vec<Subject> = match &reading {
            Reading::Names(patterns) if !patterns.iter().any(Pattern::is_public_suffix) => {
                patterns.iter().cloned().map(Subject::Host).collect()
            }
            Reading::Everything => {
                return self
                    .cut(at, "people are asked about everything: `approve_unknown: true` does so here");
            }
            Reading::Names(_)
            | Reading::Network(_)
            | Reading::NoHost(_)
            | Reading::Wider(_)
            | Reading::Unreadable(_) => Vec::new(),
        };
        let deny =
            |subject: &Subject| Deny { subject: subject.clone(), protocol: None, ports: ports.to_vec() };
        let is_allowed = |subject: &Subject| {
            let deny = deny(subject);
            self.lines.iter().flat_map(allows).any(|allow| overlap(allow, &deny))
        };
        if subjects.is_empty() || subjects.iter().any(is_allowed) {
            let why = "people are asked only where no other rule allows: it is denied".to_owned();
            return self.deny(at, reading, ports, &[], Some((Fate::Narrowed, why)));
        }
        let asks = |opening: &Opening| {
            let (protocol, ports) = (opening.protocol, opening.ports.clone());
            let approval = Approval::Required;
            let allow = move |subject| Allow {
                subject,
                protocol,
                ports: ports.clone(),
                requests: Vec::new(),
                approval,
            };
            subjects.clone().into_iter().map(move |subject| Written::Allow(allow(subject)))
        };
        let written = openings.iter().flat_map(asks).collect();
        self.push(at, Section::Rules, written, None, false);
    }

    /// Denies what `reading` means; no ports and no protocols mean all of them. What cannot be said cuts off everything that
    /// it could deny.
    pub(super) fn deny(
        &mut self,
        at: At<'_>,
        reading: Reading,
        ports: &[u16],
        protocols: &[Protocol],
        remark: Remark,
    ) {
        let (subjects, remark) = match reading {
            Reading::Names(patterns) => (patterns.into_iter().map(Subject::Host).collect::<Vec<_>>(), remark),
            Reading::Network(network) => (vec![Subject::Network(network)], remark),
            Reading::NoHost(network) => {
                let why = format!("no entry there means {}, so that it denies nothing", noun(network));
                (vec![Subject::Network(network)], worse(remark, Some((Fate::Narrowed, why))))
            }
            Reading::Wider(patterns) => (
                patterns.into_iter().map(Subject::Host).collect(),
                worse(remark, Some((Fate::Narrowed, "it denies more names than it did".to_owned()))),
            ),
            Reading::Everything => return self.cut(at, "everything is denied"),
            Reading::Unreadable(why) => return self.cut(at, &why),
        };
        let any = [None];
        let some: Vec<Option<Protocol>> = protocols.iter().copied().map(Some).collect();
        let protocols: &[Option<Protocol>] = if some.is_empty() { &any } else { &some };
        let deny = |subject: Subject| {
            let ports = ports.to_vec();
            protocols.iter().map(move |protocol| {
                Written::Deny(Deny { subject: subject.clone(), protocol: *protocol, ports: ports.clone() })
            })
        };
        let written = subjects.into_iter().flat_map(deny).collect();
        self.push(at, Section::Deny, written, remark, false);
    }

    /// A denial that no rule of ours says.
    pub(super) fn cut(&mut self, at: At<'_>, why: &str) {
        match self.may_widen() {
            true => self.push(
                at,
                Section::Deny,
                Vec::new(),
                Some((Fate::Widened, format!("{why}; the denial was left out"))),
                false,
            ),
            false => self.push(at, Section::Deny, Vec::new(), Some((Fate::Lost, why.to_owned())), true),
        }
    }

    pub(super) fn lose(&mut self, at: At<'_>, section: Section, why: &str) {
        self.push(at, section, Vec::new(), Some((Fate::Lost, why.to_owned())), false);
    }

    /// Takes back what lines so far allow whose text `is_meant`; whether any of these denies something, which stays.
    pub(super) fn take_back(&mut self, by: At<'_>, is_meant: impl Fn(&str) -> bool) -> bool {
        let mut is_denied = false;
        for line in self.lines.iter_mut().filter(|line| is_meant(&line.translated.was)) {
            is_denied |= line.cuts || !denies(line).is_empty();
            let is_allowed = allows(line).next().is_some();
            if is_allowed {
                line.written.retain(|written| matches!(written, Written::Deny(_)));
                line.translated.fate = Fate::Exact;
                line.translated.why = Some(format!("taken back at {}", by.place));
            }
        }
        is_denied
    }

    /// Something that needs no rule, or that is to be known of the whole file.
    pub(super) fn note(&mut self, at: At<'_>, fate: Fate, why: &str) {
        self.push(at, Section::Rules, Vec::new(), Some((fate, why.to_owned())), false);
    }

    pub(super) fn push_written(
        &mut self,
        at: At<'_>,
        section: Section,
        written: Vec<Written>,
        remark: Remark,
    ) {
        self.push(at, section, written, remark, false);
    }

    fn push(&mut self, at: At<'_>, section: Section, written: Vec<Written>, remark: Remark, cuts: bool) {
        let (fate, why) = remark.map_or((Fate::Exact, None), |(fate, why)| (fate, Some(quote(&why))));
        let place = at.place.to_owned();
        let translated = Translated { place, was: quote(at.was), became: Vec::new(), fate, why };
        self.lines.push(Line { section, translated, written, cuts });
    }

    /// The lines, once they mean the same in our order, where denials win.
    pub(super) fn finish(self) -> Vec<Line> {
        let mut lines = self.lines;
        match self.order {
            Order::DenyWins => order::deny_wins(&mut lines),
            Order::FirstWins => order::first_wins(&mut lines),
        }
        let joined = parts::join(&mut lines);
        for line in &mut lines {
            line.translated.became = line.written.iter().map(super::yaml::item).collect();
        }
        for (line, first) in joined {
            let became = lines.get(first).map(|first| first.translated.became.clone()).unwrap_or_default();
            if let Some(line) = lines.get_mut(line) {
                line.translated.became.extend(became);
            }
        }
        lines
    }
}

/// The most ports that a rule of ours names.
pub(super) const MAX_PORTS: usize = 64;

/// The worse of two remarks, with the words of both.
pub(super) fn worse(one: Remark, other: Remark) -> Remark {
    match (one, other) {
        (Some((one_fate, one_why)), Some((other_fate, other_why))) => {
            Some((one_fate.max(other_fate), format!("{one_why}; {other_why}")))
        }
        (one, other) => one.or(other),
    }
}

fn noun(network: IpNet) -> &'static str {
    if network.prefix_len() == network.max_prefix_len() { "an address" } else { "a network" }
}

fn shown(patterns: &[Pattern]) -> String {
    patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(" and ")
}

/// Whatever server an agent asks there, egressd answers.
const DNS: u16 = 53;
