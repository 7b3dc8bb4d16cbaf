//! What sections say by the roles that they extend.

use super::{
    diagnostic::Diagnostic,
    file::AgentSection,
    section::{Part, PolicyDocument, Sections},
};
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};

/// The roles of all files, each compiled once.
#[derive(Debug, Default)]
pub(super) struct Roles<'a> {
    roles: BTreeMap<&'a str, Role<'a>>,
}

#[derive(Debug)]
struct Role<'a> {
    policy: &'a PolicyDocument,
    section: &'a AgentSection,
    /// What it says by itself.
    own: Part,
}

impl<'a> Roles<'a> {
    /// Compiles the roles of `files`. What is wrong with them is told, also of those that nobody extends.
    pub(super) fn compile(files: &'a [PolicyDocument], sections: &mut Sections<'_>) -> Self {
        let mut roles = Self::default();
        for policy in files {
            for (name, section) in policy.file.roles() {
                if let Some(first) = roles.roles.get(name.value.as_str()) {
                    let place = first.place(&name.value);
                    let title = format!("there is a role `{}` already", name.value);
                    let error = policy.document.error(name.referenced, title);
                    sections.wrong.push(error.help(format!("it is at {place}")));
                    continue;
                }
                if let Some(select) = &section.select {
                    let error = policy.document.error(select.referenced, "a role selects nobody");
                    sections.wrong.push(error.help("`select` belongs to a section under `agents`"));
                }
                let own = sections.part(policy, section);
                roles.roles.insert(&name.value, Role { policy, section, own });
            }
        }
        for policy in files {
            let all = policy.file.roles().chain(policy.file.agents());
            let named = all.flat_map(|(_, section)| &section.extends);
            let missing = named.filter(|name| !roles.roles.contains_key(name.value.as_str()));
            sections.wrong.extend(missing.map(|name| roles.missing(policy, name)));
        }
        sections.wrong.extend(roles.circles());
        roles
    }

    /// Where a role extends itself, by way of others or not: each is told once.
    fn circles(&self) -> Vec<Diagnostic> {
        let mut wrong = Vec::new();
        let mut done: BTreeSet<&str> = BTreeSet::new();
        for start in self.roles.keys() {
            // Depth first, with the parent of each that comes next; not by recursion, for a chain may be long.
            let mut path: Vec<(&str, usize)> = vec![(start, 0)];
            let mut on_path: BTreeSet<&str> = BTreeSet::from([*start]);
            while let Some((name, next)) = path.last_mut() {
                let role = self.roles.get(*name);
                let Some((role, parent)) =
                    role.and_then(|role| Some((role, role.section.extends.get(*next)?)))
                else {
                    done.insert(name);
                    on_path.remove(*name);
                    path.pop();
                    continue;
                };
                *next += 1;
                let Some((known, _)) = self.roles.get_key_value(parent.value.as_str()) else { continue };
                if on_path.contains(known) {
                    wrong.push(role.circle(parent, &path));
                } else if !done.contains(known) {
                    on_path.insert(known);
                    path.push((known, 0));
                }
            }
        }
        wrong
    }

    /// Adds to `part`, which is what `section` says by itself, what its roles say.
    pub(super) fn extend(&self, part: &mut Part, section: &AgentSection) {
        self.add(part, section, &mut Vec::new());
    }

    /// `taken` are the roles that were added already: what two roles extend is added once.
    fn add<'b>(&'b self, part: &mut Part, section: &AgentSection, taken: &mut Vec<&'b str>) {
        for name in &section.extends {
            // One that is missing is told already.
            if let Some((name, role)) = self.roles.get_key_value(name.value.as_str())
                && !taken.contains(name)
            {
                taken.push(name);
                part.inherit(&role.own);
                self.add(part, role.section, taken);
            }
        }
    }

    fn missing(&self, policy: &PolicyDocument, name: &Spanned<String>) -> Diagnostic {
        let known: Vec<&str> = self.roles.keys().copied().collect();
        let help = match known.as_slice() {
            [] => "roles are sections under the key `roles`, beside `agents`".to_owned(),
            known => format!("known roles: {}", known.join(", ")),
        };
        policy.document.error(name.referenced, format!("no role `{}`", name.value)).help(help)
    }
}

impl Role<'_> {
    /// That this one, the last of `path`, extends `parent`, which is on it.
    fn circle(&self, parent: &Spanned<String>, path: &[(&str, usize)]) -> Diagnostic {
        let names = path.iter().map(|(name, _)| *name).skip_while(|name| *name != parent.value);
        let between: Vec<&str> = names.skip(1).take(MAX_SHOWN).collect();
        let error =
            self.policy.document.error(parent.referenced, format!("role `{}` extends itself", parent.value));
        match between.as_slice() {
            [] => error.help("leave it out"),
            between => error.help(format!("by way of {}: leave one out", between.join(", "))),
        }
    }

    fn place(&self, name: &str) -> String {
        let roles = self.policy.file.roles();
        let own = roles.map(|(held, _)| held).find(|held| held.value == name);
        own.map_or_else(String::new, |own| self.policy.document.source(own.referenced).to_string())
    }
}

/// The most roles of a circle that are named.
const MAX_SHOWN: usize = 16;
