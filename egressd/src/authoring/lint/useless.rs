//! Rules without which nothing would be different.

use super::{Finding, Lint};
use crate::{
    authoring::reach::{
        NameCells, NetworkCells, Openings, denied_at_address, open_to_address, open_to_name, open_to_names,
        openings,
    },
    config::Include,
    policy::{Approval, HostName, Pattern, Policy, Reason, Rule, RuleId, Subject},
};
use std::{collections::BTreeSet, net::IpAddr};

/// Rules that decide nothing, in the order of the policy.
pub(super) fn find(policy: &Policy) -> Vec<Finding> {
    let samples = Samples::of(policy);
    let allow = policy.allow().iter().filter_map(|rule| useless(policy, rule, &samples.of_rule(rule)));
    let deny = policy.deny().iter().filter_map(|rule| idle(policy, rule, &samples.of_rule(rule)));
    allow.chain(deny).collect()
}

/// Includes of which every rule is another file's already, or is among `useless`.
pub(super) fn dead_includes(policy: &Policy, includes: &[Include], useless: &[Finding]) -> Vec<Finding> {
    let adds = |include: &Include, id: &RuleId| {
        let own = |rule: &&Rule| rule.id == *id && rule.source.file == include.file;
        let rule = policy.allow().iter().find(own);
        rule.is_some_and(|rule| !useless.iter().any(|finding| finding.place == rule.source))
    };
    let dead = includes.iter().filter(|include| !include.rules.iter().any(|id| adds(include, id)));
    let finding = |include: &Include| {
        let text = format!("allowlist `{}` adds nothing: other rules allow or deny all of it", include.name);
        Finding::new(Lint::DeadInclude, &include.source, text, "leave it out")
    };
    dead.map(finding).collect()
}

/// A destination of each class that a policy tells apart.
struct Samples {
    names: Vec<HostName>,
    addresses: Vec<IpAddr>,
}

impl Samples {
    fn of(policy: &Policy) -> Self {
        let names = NameCells::of(&[policy]).cells(None).map(|cell| cell.sample).collect();
        let addresses = NetworkCells::of(&[policy]).cells().map(|cell| cell.sample).collect();
        Self { names, addresses }
    }

    /// Those that `rule` is about.
    fn of_rule(&self, rule: &Rule) -> OfRule {
        match &rule.subject {
            Subject::Host(Pattern::Exact(name)) => OfRule::Names(vec![name.clone()]),
            Subject::Host(pattern) => {
                OfRule::Names(self.names.iter().filter(|name| pattern.matches(name)).cloned().collect())
            }
            Subject::Network(network) => {
                let held = self.addresses.iter().filter(|address| network.contains(*address));
                OfRule::Addresses(held.copied().collect())
            }
        }
    }
}

enum OfRule {
    Names(Vec<HostName>),
    Addresses(Vec<IpAddr>),
}

impl OfRule {
    /// What `policy` opens to each.
    fn open_by(&self, policy: &Policy) -> Vec<Openings> {
        match self {
            Self::Names(names) => names.iter().map(|name| open_to_name(policy, name)).collect(),
            Self::Addresses(addresses) => {
                addresses.iter().map(|address| open_to_address(policy, *address)).collect()
            }
        }
    }
}

fn useless(policy: &Policy, rule: &Rule, samples: &OfRule) -> Option<Finding> {
    // A rule that ends before this one hides it only for a while, one that somebody is asked about not at all.
    let is_free =
        |held: &Rule| held.names.approval == Approval::NotNeeded || rule.names.approval == Approval::Required;
    let lasts = |held: &&Rule| (!held.term.is_bounded() || held.term == rule.term) && is_free(held);
    let lasting = policy.allow().iter().filter(lasts).cloned().collect();
    let policy = &policy.with_rules(lasting, policy.deny().to_vec());
    let open = samples.open_by(policy);
    if open.iter().any(|open| open.values().any(|open| open.rule == rule.id)) {
        return None;
    }
    let alone = policy.with_rules(vec![rule.clone()], policy.deny().to_vec());
    let own = samples.open_by(&alone);
    if own.iter().all(Openings::is_empty) {
        return closed(policy, rule, samples);
    }
    let asked = |open: &Openings| openings(rule).filter_map(|at| open.get(&at).cloned()).collect::<Vec<_>>();
    let first = open.iter().flat_map(asked).next()?;
    let decides = policy.allow().iter().find(|held| held.id == first.rule)?;
    let by = format!("`{}` ({})", decides.subject, decides.source);
    if decides.tls != rule.tls || decides.budget != rule.budget {
        let text =
            format!("what this rule asks of flows to `{}` is never asked: they go by {by}", rule.subject);
        return Some(Finding::of(
            Lint::ShadowedTerms,
            rule,
            text,
            "put it before the other rule, or leave it out",
        ));
    }
    let others = policy.allow().iter().filter(|held| held.id != rule.id).cloned().collect();
    let without = samples.open_by(&policy.with_rules(others, policy.deny().to_vec()));
    let text = || format!("what this rule allows of `{}` is allowed by {by} already", rule.subject);
    (without == open).then(|| Finding::of(Lint::ShadowedRule, rule, text(), "leave one of them out"))
}

/// Why `rule` opens nothing, even by itself.
fn closed(policy: &Policy, rule: &Rule, samples: &OfRule) -> Option<Finding> {
    let alone = policy.with_rules(vec![rule.clone()], Vec::new());
    if samples.open_by(&alone).iter().all(Openings::is_empty) {
        return resolver(policy, rule, samples);
    }
    let subject = &rule.subject;
    let deny = policy.deny().iter().find(|deny| meets(deny, samples))?;
    let text = format!("nothing of `{subject}` is allowed: `{}` ({}) denies it", deny.subject, deny.source);
    Some(Finding::of(Lint::DeniedRule, rule, text, "leave out this rule, or the one that denies"))
}

fn meets(deny: &Rule, samples: &OfRule) -> bool {
    match (&deny.subject, samples) {
        (Subject::Host(pattern), OfRule::Names(names)) => names.iter().any(|name| pattern.matches(name)),
        (Subject::Network(network), OfRule::Addresses(addresses)) => {
            addresses.iter().any(|address| network.contains(address))
        }
        (Subject::Host(_), OfRule::Addresses(_)) | (Subject::Network(_), OfRule::Names(_)) => false,
    }
}

fn resolver(policy: &Policy, rule: &Rule, samples: &OfRule) -> Option<Finding> {
    let OfRule::Names(names) = samples else { return None };
    let name = names.first()?;
    let reason = policy.with_rules(vec![rule.clone()], Vec::new()).lookup(name).err()?.reason;
    let text = || format!("every name of `{}` is a resolver's, which no wildcard opens", rule.subject);
    let help = "name the one resolver that is meant, or leave the rule out";
    (reason == Reason::ResolverNotAllowed).then(|| Finding::of(Lint::ResolverWildcard, rule, text(), help))
}

fn idle(policy: &Policy, deny: &Rule, samples: &OfRule) -> Option<Finding> {
    let others: Vec<Rule> = policy.deny().iter().filter(|held| held.id != deny.id).cloned().collect();
    let without = policy.with_rules(policy.allow().to_vec(), others);
    if samples.open_by(policy) != samples.open_by(&without) || takes_from_names(policy, &without, samples) {
        return None;
    }
    let undenied = policy.with_rules(policy.allow().to_vec(), Vec::new());
    let denies = |open: &Openings| {
        open.keys().any(|(port, protocol)| deny.covers_port(*port) && deny.covers_protocol(*protocol))
    };
    let subject = &deny.subject;
    let text = match samples.open_by(&undenied).iter().any(denies) {
        true => format!("what it says of `{subject}` is denied by other rules already"),
        false => format!("no rule allows anything of `{subject}` that it denies"),
    };
    Some(Finding::of(Lint::IdleDeny, deny, text, "leave it out, unless it is to stand against rules to come"))
}

/// Whether without a rule names could resolve to addresses to which they cannot with it.
fn takes_from_names(policy: &Policy, without: &Policy, samples: &OfRule) -> bool {
    let OfRule::Addresses(addresses) = samples else { return false };
    let open: BTreeSet<_> = open_to_names(policy);
    addresses.iter().any(|address| {
        denied_at_address(policy, *address, &open).len() != denied_at_address(without, *address, &open).len()
    })
}
