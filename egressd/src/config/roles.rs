//! What sections say by the roles that they extend.

use super::{
    diagnostic::Diagnostic,
    file::AgentSection,
    section::{Part, PolicyDocument, Sections},
};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

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
        roles
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
    fn place(&self, name: &str) -> String {
        let roles = self.policy.file.roles();
        let own = roles.map(|(held, _)| held).find(|held| held.value == name);
        own.map_or_else(String::new, |own| self.policy.document.source(own.referenced).to_string())
    }
}
