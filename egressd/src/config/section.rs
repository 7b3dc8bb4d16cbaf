//! From one section of a file, an agent's or a role's, to what it says by itself.

use super::{
    budget,
    diagnostic::Diagnostic,
    document::Document,
    file::{AgentSection, AllowRule, AllowlistFile, DenyRule, PolicyFile},
    identity::RuleIds,
    leaks::{self, LeakPart, SecretFiles},
    load::Loader,
    mode, rule,
};
use crate::policy::{Budget, Capability, Mode, Policy, Rule, RuleId, Source, SourceFile};
use serde_saphyr::Spanned;
use std::{collections::HashMap, path::PathBuf};

/// A policy file that was read, and where it lies.
#[derive(Debug)]
pub(super) struct PolicyDocument {
    pub(super) document: Document,
    pub(super) folder: PathBuf,
    pub(super) may_name_secrets: bool,
    pub(super) file: PolicyFile,
}

impl PolicyDocument {
    fn secret_files(&self, loader: &Loader<'_>) -> SecretFiles<'_> {
        match (self.may_name_secrets, loader.reads_secrets()) {
            (true, true) => SecretFiles::Below(&self.folder),
            (true, false) => SecretFiles::Elsewhere,
            (false, _) => SecretFiles::Denied,
        }
    }
}

/// An allowlist that a policy includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    pub name: String,
    /// Where it is included.
    pub source: Source,
    /// The file of the allowlist.
    pub file: SourceFile,
    /// Its rules, also those that the policy has from elsewhere.
    pub rules: Vec<RuleId>,
}

/// What sections say, the nearest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    capabilities: Vec<Capability>,
    host_sockets: Option<bool>,
    mode: Option<Mode>,
    approve_unknown: Option<bool>,
    budget: Budget,
    leaks: LeakPart,
    includes: Vec<Include>,
}

impl Part {
    /// The same with what `parent` says besides: lists go on with its own, and what is said once is said
    /// by the nearest.
    pub(super) fn inherit(&mut self, parent: &Self) {
        self.allow.extend(parent.allow.iter().cloned());
        self.deny.extend(parent.deny.iter().cloned());
        self.capabilities.extend(&parent.capabilities);
        self.host_sockets = self.host_sockets.or(parent.host_sockets);
        self.mode = self.mode.or(parent.mode);
        self.approve_unknown = self.approve_unknown.or(parent.approve_unknown);
        self.budget = self.budget.or(parent.budget);
        self.leaks.inherit(&parent.leaks);
        self.includes.extend(parent.includes.iter().cloned());
    }

    /// What was included; afterwards, nothing was.
    pub(super) fn take_includes(&mut self) -> Vec<Include> {
        std::mem::take(&mut self.includes)
    }

    /// The policy of an agent that all of this is said of.
    ///
    /// # Errors
    /// There is too much of it.
    pub(super) fn into_policy(self) -> Result<Policy, String> {
        let Self {
            allow,
            deny,
            mut capabilities,
            host_sockets,
            mode,
            approve_unknown,
            budget,
            leaks,
            includes: _,
        } = self;
        let (allow, deny) = (distinct(allow), distinct(deny));
        if allow.len() + deny.len() > MAX_RULES {
            return Err(format!("{} rules, at most {MAX_RULES} are allowed", allow.len() + deny.len()));
        }
        capabilities.sort_unstable();
        capabilities.dedup();
        Ok(Policy::new(allow, deny)
            .keeping(capabilities)
            .with_host_sockets(host_sockets.unwrap_or_default())
            .in_mode(mode.unwrap_or_default())
            .asking_about_unknown(approve_unknown.unwrap_or_default())
            .with_budget(budget)
            .with_leaks(leaks.into_terms()?))
    }
}

/// The most rules that one agent may have. A judgement looks at each of them once: at this bound
/// it still takes well under a millisecond.
const MAX_RULES: usize = 4096;

/// What compiles sections, and what was found wrong with them.
pub(super) struct Sections<'a> {
    loader: &'a Loader<'a>,
    ids: RuleIds,
    pub(super) wrong: Vec<Diagnostic>,
}

impl<'a> Sections<'a> {
    pub(super) fn new(loader: &'a Loader<'a>, wrong: Vec<Diagnostic>) -> Self {
        Self { loader, ids: RuleIds::default(), wrong }
    }

    /// What `section` of `policy` says by itself.
    pub(super) fn part(&mut self, policy: &PolicyDocument, section: &AgentSection) -> Part {
        let document = &policy.document;
        let mut allow = self.allow_rules(document, &section.rules);
        let mut includes = Vec::new();
        for include in &section.include {
            let rules = self.include(policy, include);
            includes.extend(included(document, include, &rules));
            allow.extend(rules);
        }
        for manager in &section.packages {
            allow.extend(self.packages(document, manager));
        }
        Part {
            allow,
            deny: self.deny_rules(document, &section.deny),
            capabilities: self.capabilities(document, &section.capabilities),
            host_sockets: section.host_sockets,
            mode: self.mode(document, section.mode.as_ref()),
            approve_unknown: section.approve_unknown,
            budget: self.budget(document, section),
            leaks: leaks::part(document, section, policy.secret_files(self.loader), &mut self.wrong),
            includes,
        }
    }

    fn mode(&mut self, document: &Document, word: Option<&Spanned<String>>) -> Option<Mode> {
        let mode = mode::mode(document, word).map_err(|diagnostic| self.wrong.push(diagnostic)).ok();
        word.and(mode)
    }

    fn budget(&mut self, document: &Document, section: &AgentSection) -> Budget {
        let AgentSection { max_bytes, max_connections, rate, .. } = section;
        let keys = budget::Keys {
            max_bytes: max_bytes.as_ref(),
            max_connections: max_connections.as_ref(),
            rate: rate.as_ref(),
        };
        budget::budget(document, keys).unwrap_or_else(|diagnostic| {
            self.wrong.push(diagnostic);
            Budget::default()
        })
    }

    fn capabilities(&mut self, document: &Document, words: &[Spanned<String>]) -> Vec<Capability> {
        let mut kept = Vec::new();
        for word in words {
            match Capability::parse(&word.value) {
                Some(capability) => kept.push(capability),
                None => {
                    let known = Capability::ALL.map(Capability::as_str).join("` or `");
                    let title = format!("capability `{}` cannot be kept", word.value);
                    self.wrong
                        .push(document.error(word.referenced, title).label(format!("expected `{known}`")));
                }
            }
        }
        kept
    }

    fn include(&mut self, policy: &PolicyDocument, include: &Spanned<String>) -> Vec<Rule> {
        let allowlist = match self.loader.allowlist(&policy.document, &policy.folder, include) {
            Ok(allowlist) => allowlist,
            Err(diagnostic) => {
                self.wrong.push(diagnostic);
                return Vec::new();
            }
        };
        let file: AllowlistFile = match allowlist.parse() {
            Ok(file) => file,
            Err(diagnostic) => {
                self.wrong.push(diagnostic);
                return Vec::new();
            }
        };
        self.wrong.extend(allowlist.check_version(&file.version).err());
        if file.name.value != include.value {
            let title = format!("allowlist is named `{}`", file.name.value);
            let label = format!("its file is included as `{}`", include.value);
            self.wrong.push(allowlist.error(file.name.referenced, title).label(label));
        }
        self.allow_rules(&allowlist, &file.rules)
    }

    fn packages(&mut self, document: &Document, word: &Spanned<String>) -> Vec<Rule> {
        let sites = match self.loader.sites(document, word) {
            Ok(sites) => sites,
            Err(diagnostic) => {
                self.wrong.push(diagnostic);
                return Vec::new();
            }
        };
        let source = document.source(word.referenced);
        sites.iter().filter_map(|site| rule::registry(site, &word.value, &source, &mut self.ids)).collect()
    }

    fn allow_rules(&mut self, document: &Document, rules: &[Spanned<AllowRule>]) -> Vec<Rule> {
        let known = self.loader.credentials();
        let compiled = rules.iter().map(|rule| rule::allow(document, rule, known, &mut self.ids));
        keep(compiled, &mut self.wrong)
    }

    fn deny_rules(&mut self, document: &Document, rules: &[Spanned<DenyRule>]) -> Vec<Rule> {
        let compiled = rules.iter().map(|rule| rule::deny(document, rule, &mut self.ids));
        keep(compiled, &mut self.wrong)
    }
}

/// None where nothing came of it.
fn included(document: &Document, include: &Spanned<String>, rules: &[Rule]) -> Option<Include> {
    Some(Include {
        name: include.value.clone(),
        source: document.source(include.referenced),
        file: rules.first()?.source.file.clone(),
        rules: rules.iter().map(|rule| rule.id).collect(),
    })
}

/// What compiled; what did not is added to `wrong`.
fn keep(
    compiled: impl Iterator<Item = Result<Vec<Rule>, Diagnostic>>,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<Rule> {
    let kept = compiled.filter_map(|rules| rules.map_err(|diagnostic| wrong.push(diagnostic)).ok());
    kept.flatten().collect()
}

/// Of rules that say the same of flows, the first, with what all of them say of lookups; the first
/// that names a bound or a budget sets it.
fn distinct(rules: Vec<Rule>) -> Vec<Rule> {
    let mut places: HashMap<RuleId, usize> = HashMap::new();
    let mut distinct: Vec<Rule> = Vec::new();
    for rule in rules {
        let place = *places.entry(rule.id).or_insert(distinct.len());
        match distinct.get_mut(place) {
            Some(first) => {
                first.budget = first.budget.or(rule.budget);
                first.names.leak_budget = first.names.leak_budget.or(rule.names.leak_budget);
                first.names.types.extend(rule.names.types);
                first.names.types.sort_unstable();
                first.names.types.dedup();
            }
            None => distinct.push(rule),
        }
    }
    distinct
}
