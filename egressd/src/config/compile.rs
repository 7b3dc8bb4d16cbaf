//! From files to the policy of each agent.

use super::{
    diagnostic::{ConfigError, Diagnostic},
    document::Document,
    file::{AgentSection, AllowlistFile, Named, PolicyFile},
    load::Loader,
    roles::Roles,
    section::{Include, PolicyDocument, Sections},
    select,
};
use crate::policy::{AgentName, Policy, Selector, Source, Workload};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// The agent whose policy serves every agent that has none of its own.
const DEFAULT: &str = "default";

/// The compiled policies of all agents.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policies {
    agents: BTreeMap<AgentName, Arc<Policy>>,
    /// In the order of the files.
    selectors: Vec<(Selector, AgentName)>,
    includes: BTreeMap<AgentName, Vec<Include>>,
    places: BTreeMap<AgentName, Source>,
}

impl Policies {
    /// The policy of an agent of which only the name is known.
    #[must_use]
    pub fn for_agent(&self, name: &AgentName) -> Arc<Policy> {
        self.for_workload(&Workload::named(name.clone()))
    }

    /// The policy of the section of that name; else of the first that selects the workload; else of
    /// `default`; else one that allows nothing.
    #[must_use]
    pub fn for_workload(&self, workload: &Workload) -> Arc<Policy> {
        let section = self.section_for(workload).and_then(|name| self.agents.get(name));
        section.map_or_else(Arc::default, Arc::clone)
    }

    /// The name of the section that is for `workload`.
    #[must_use]
    pub fn section_for(&self, workload: &Workload) -> Option<&AgentName> {
        let own = || self.agents.keys().find(|name| **name == workload.name);
        let selected = || {
            let found = self.selectors.iter().find(|(selector, _)| selector.selects(workload));
            found.map(|(_, name)| name)
        };
        let default = || self.agents.keys().find(|name| name.as_str() == DEFAULT);
        own().or_else(selected).or_else(default)
    }

    /// The allowlists that the policy of this very agent includes, its own first.
    #[must_use]
    pub fn includes(&self, name: &AgentName) -> &[Include] {
        self.includes.get(name).map_or(&[], Vec::as_slice)
    }

    /// Where the section of this very agent is written.
    #[must_use]
    pub fn place(&self, name: &AgentName) -> Option<&Source> {
        self.places.get(name)
    }

    /// Which workloads are meant by which agent's section, in the order in which they are asked.
    #[must_use]
    pub fn selectors(&self) -> &[(Selector, AgentName)] {
        &self.selectors
    }

    /// The agents that the files name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.agents.keys()
    }
}

/// The agents that a policy file names, where it is for these names alone: without `default`, and without a section
/// that selects. None of a file that is for others, too, or that cannot be read, of which a compilation tells more.
#[must_use]
pub fn names_in(text: &str) -> Vec<String> {
    let Ok(file) = Document::new("policy", text).parse::<PolicyFile>() else { return Vec::new() };
    let is_for_others =
        |(name, section): &(Spanned<String>, AgentSection)| name.value == DEFAULT || section.select.is_some();
    match file.agents().any(is_for_others) {
        true => Vec::new(),
        false => file.agents().map(|(name, _)| name.value.clone()).collect(),
    }
}

/// What counts of a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    All,
    /// What other files may extend, and no agent.
    Roles,
}

/// One compilation: what it has read, and what it found wrong.
pub(super) struct Compiler<'a> {
    loader: &'a Loader<'a>,
    files: Vec<PolicyDocument>,
    wrong: Vec<Diagnostic>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(loader: &'a Loader<'a>) -> Self {
        Self { loader, files: Vec::new(), wrong: Vec::new() }
    }

    /// Notes that a file could not be read.
    pub(super) fn unreadable(&mut self, diagnostic: Diagnostic) {
        self.wrong.push(diagnostic);
    }

    /// Reads the policy file `document`; `folder` is where it lies. A text that somebody handed in may not
    /// name files of secrets.
    pub(super) fn policy_file(
        &mut self,
        document: Document,
        folder: &Path,
        taken: Taken,
        may_name_secrets: bool,
    ) {
        match document.parse::<PolicyFile>() {
            Ok(file) => {
                self.wrong.extend(document.check_version(&file.version).err());
                if !file.has_sections() {
                    let error = document.error(file.version.referenced, "key `agents` is missing");
                    self.wrong
                        .push(error.help("a policy that allows nothing is `version: 1` and `agents: {}`"));
                }
                let file = match taken {
                    Taken::All => file,
                    Taken::Roles => PolicyFile { agents: None, ..file },
                };
                let folder = folder.to_owned();
                self.files.push(PolicyDocument { document, folder, may_name_secrets, file });
            }
            Err(diagnostic) => self.wrong.push(diagnostic),
        }
    }

    /// Reads the allowlist `document` as the policy of an agent `default`.
    pub(super) fn allowlist_file(&mut self, document: Document, folder: &Path) {
        match document.parse::<AllowlistFile>() {
            Ok(AllowlistFile { version, name, rules }) => {
                self.wrong.extend(document.check_version(&version).err());
                let name = Spanned { value: DEFAULT.to_owned(), ..name };
                let section = AgentSection { rules, ..AgentSection::default() };
                let file = PolicyFile { version, roles: None, agents: Some(Named(vec![(name, section)])) };
                let folder = folder.to_owned();
                self.files.push(PolicyDocument { document, folder, may_name_secrets: false, file });
            }
            Err(diagnostic) => self.wrong.push(diagnostic),
        }
    }

    /// The policies of all files, or all that is wrong with them.
    pub(super) fn finish(self) -> Result<Policies, ConfigError> {
        let Self { loader, files, wrong } = self;
        let mut sections = Sections::new(loader, wrong);
        let roles = Roles::compile(&files, &mut sections);
        let mut agents: BTreeMap<AgentName, (Source, Arc<Policy>)> = BTreeMap::new();
        let mut selectors = Vec::new();
        let mut includes = BTreeMap::new();
        for policy in &files {
            for (name, section) in policy.file.agents() {
                let mut part = sections.part(policy, section);
                let agent = match name_of(policy, name, &agents) {
                    Ok(agent) => agent,
                    Err(diagnostic) => {
                        sections.wrong.push(diagnostic);
                        continue;
                    }
                };
                roles.extend(&mut part, section);
                let included = part.take_includes();
                let whole = match part.into_policy() {
                    Ok(whole) => whole,
                    Err(text) => {
                        let title = format!("agent `{agent}` has too much: {text}");
                        sections.wrong.push(policy.document.error(name.referenced, title));
                        continue;
                    }
                };
                match section.select.as_ref().map(|select| select::selector(&policy.document, select)) {
                    Some(Ok(selector)) => selectors.push((selector, agent.clone())),
                    Some(Err(diagnostic)) => sections.wrong.push(diagnostic),
                    None => {}
                }
                includes.insert(agent.clone(), included);
                let source = policy.document.source(name.referenced);
                agents.insert(agent, (source, Arc::new(whole)));
            }
        }
        if !sections.wrong.is_empty() {
            return Err(ConfigError::all(sections.wrong));
        }
        let places = agents.iter().map(|(name, (place, _))| (name.clone(), place.clone())).collect();
        let agents = agents.into_iter().map(|(name, (_, policy))| (name, policy)).collect();
        Ok(Policies { agents, selectors, includes, places })
    }
}

/// The agent that a section is about, which must not be among `agents`.
fn name_of(
    policy: &PolicyDocument,
    name: &Spanned<String>,
    agents: &BTreeMap<AgentName, (Source, Arc<Policy>)>,
) -> Result<AgentName, Diagnostic> {
    let error = |title: String| policy.document.error(name.referenced, title);
    let agent = AgentName::parse(&name.value).map_err(|cause| error(cause.to_string()))?;
    match agents.get(&agent) {
        Some((first, _)) => {
            Err(error(format!("agent `{agent}` has a policy already"))
                .help(format!("its policy is at {first}")))
        }
        None => Ok(agent),
    }
}
