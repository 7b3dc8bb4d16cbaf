//! From files to the policy of each agent.

use super::{
    diagnostic::{ConfigError, Diagnostic},
    document::Document,
    file::{AgentSection, AllowRule, AllowlistFile, DenyRule, PolicyFile},
    identity::RuleIds,
    leaks::{self, SecretFiles},
    load::Loader,
    rule,
};
use crate::policy::{AgentName, Capability, Policy, Rule, RuleId, Source};
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

/// The most rules that one agent may have. A judgement looks at each of them once: at this bound
/// it still takes well under a millisecond.
const MAX_RULES: usize = 4096;

/// The agent whose policy serves every agent that has none of its own.
const DEFAULT: &str = "default";

/// The compiled policies of all agents.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policies {
    agents: BTreeMap<AgentName, Arc<Policy>>,
}

impl Policies {
    /// The agent's own policy; else that of the agent `default`; else one that allows nothing.
    #[must_use]
    pub fn for_agent(&self, name: &AgentName) -> Arc<Policy> {
        let default = || self.agents.iter().find(|(name, _)| name.as_str() == DEFAULT);
        let found = self.agents.get(name).or_else(|| default().map(|(_, policy)| policy));
        found.map_or_else(Arc::default, Arc::clone)
    }

    /// Whether the files name this agent.
    #[must_use]
    pub fn has(&self, name: &AgentName) -> bool {
        self.agents.contains_key(name)
    }

    /// The agents that the files name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.agents.keys()
    }
}

/// One compilation: what it has compiled, and what it found wrong.
pub(super) struct Compiler<'a> {
    loader: &'a Loader<'a>,
    ids: RuleIds,
    agents: BTreeMap<AgentName, (Source, Arc<Policy>)>,
    wrong: Vec<Diagnostic>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(loader: &'a Loader<'a>) -> Self {
        Self { loader, ids: RuleIds::default(), agents: BTreeMap::new(), wrong: Vec::new() }
    }

    /// The policies of all files, or all that is wrong with them.
    pub(super) fn finish(self) -> Result<Policies, ConfigError> {
        if !self.wrong.is_empty() {
            return Err(ConfigError::all(self.wrong));
        }
        let agents = self.agents.into_iter().map(|(name, (_, policy))| (name, policy)).collect();
        Ok(Policies { agents })
    }

    /// Notes that a file could not be read.
    pub(super) fn unreadable(&mut self, diagnostic: Diagnostic) {
        self.wrong.push(diagnostic);
    }

    /// Compiles the policy file `document`; `folder` is where it lies.
    pub(super) fn policy_file(&mut self, document: &Document, folder: &Path, files: SecretFiles<'_>) {
        let file: PolicyFile = match document.parse() {
            Ok(file) => file,
            Err(diagnostic) => return self.wrong.push(diagnostic),
        };
        self.wrong.extend(document.check_version(&file.version).err());
        for (name, section) in &file.agents.0 {
            self.agent(document, folder, files, name, section);
        }
    }

    fn agent(
        &mut self,
        document: &Document,
        folder: &Path,
        files: SecretFiles<'_>,
        name: &Spanned<String>,
        section: &AgentSection,
    ) {
        let agent = match AgentName::parse(&name.value) {
            Ok(agent) => agent,
            Err(error) => return self.wrong.push(document.error(name.referenced, error.to_string())),
        };
        if let Some((first, _)) = self.agents.get(&agent) {
            let help = format!("its policy is at {first}");
            let title = format!("agent `{agent}` has a policy already");
            return self.wrong.push(document.error(name.referenced, title).help(help));
        }
        let mut allow = self.allow_rules(document, &section.rules);
        for include in &section.include {
            allow.extend(self.include(document, folder, include));
        }
        for manager in &section.packages {
            allow.extend(self.packages(document, manager));
        }
        let deny = self.deny_rules(document, &section.deny);
        let (allow, deny) = (distinct(allow), distinct(deny));
        if allow.len() + deny.len() > MAX_RULES {
            let title = format!("agent `{agent}` has {} rules", allow.len() + deny.len());
            self.wrong.push(
                document.error(name.referenced, title).label(format!("at most {MAX_RULES} are allowed")),
            );
        }
        let source = document.source(name.referenced);
        let kept = self.capabilities(document, &section.capabilities);
        let terms = leaks::terms(document, section, files, &mut self.wrong);
        let policy =
            Policy::new(allow, deny).keeping(kept).with_host_sockets(section.host_sockets).with_leaks(terms);
        self.agents.insert(agent, (source, Arc::new(policy)));
    }

    fn capabilities(&mut self, document: &Document, words: &[Spanned<String>]) -> Vec<Capability> {
        let mut kept = Vec::new();
        for word in words {
            match Capability::parse(&word.value) {
                Some(capability) if kept.contains(&capability) => {}
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

    fn include(&mut self, document: &Document, folder: &Path, include: &Spanned<String>) -> Vec<Rule> {
        let allowlist = match self.loader.allowlist(document, folder, include) {
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

/// What compiled; what did not is added to `wrong`.
fn keep(compiled: impl Iterator<Item = Result<Rule, Diagnostic>>, wrong: &mut Vec<Diagnostic>) -> Vec<Rule> {
    compiled.filter_map(|rule| rule.map_err(|diagnostic| wrong.push(diagnostic)).ok()).collect()
}

/// Of rules that say the same of flows, the first, with what all of them say of lookups; the first
/// that names a budget sets it.
fn distinct(rules: Vec<Rule>) -> Vec<Rule> {
    let mut places: HashMap<RuleId, usize> = HashMap::new();
    let mut distinct: Vec<Rule> = Vec::new();
    for rule in rules {
        let place = *places.entry(rule.id).or_insert(distinct.len());
        match distinct.get_mut(place) {
            Some(first) => {
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
