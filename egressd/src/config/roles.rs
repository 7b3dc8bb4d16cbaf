//! What sections say by the roles that they extend.

use super::{
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
        let all: Vec<_> = roles.roles.values().map(|role| (role.policy, role.section)).collect();
        for (policy, section) in all {
            roles.add(&mut Part::default(), policy, section, &mut Vec::new(), sections);
        }
        roles
    }

    /// Adds to `part`, which is what `section` of `policy` says by itself, what its roles say.
    pub(super) fn extend(
        &self,
        part: &mut Part,
        policy: &PolicyDocument,
        section: &AgentSection,
        sections: &mut Sections<'_>,
    ) {
        self.add(part, policy, section, &mut Vec::new(), sections);
    }

    /// `taken` are the roles that were added already: what two roles extend is added once.
    fn add<'b>(
        &'b self,
        part: &mut Part,
        policy: &PolicyDocument,
        section: &'b AgentSection,
        taken: &mut Vec<&'b str>,
        sections: &mut Sections<'_>,
    ) {
        for name in &section.extends {
            match self.roles.get_key_value(name.value.as_str()) {
                Some((name, _)) if taken.contains(name) => {}
                Some((name, role)) => {
                    taken.push(name);
                    part.inherit(&role.own);
                    self.add(part, role.policy, role.section, taken, sections);
                }
                None => self.missing(policy, name, sections),
            }
        }
    }

    fn missing(&self, policy: &PolicyDocument, name: &Spanned<String>, sections: &mut Sections<'_>) {
        let known: Vec<&str> = self.roles.keys().copied().collect();
        let help = match known.as_slice() {
            [] => "roles are sections under the key `roles`, beside `agents`".to_owned(),
            known => format!("known roles: {}", known.join(", ")),
        };
        let error = policy.document.error(name.referenced, format!("no role `{}`", name.value)).help(help);
        // Told once, however many come by here.
        if !sections.wrong.contains(&error) {
            sections.wrong.push(error);
        }
    }
}

impl Role<'_> {
    fn place(&self, name: &str) -> String {
        let roles = self.policy.file.roles();
        let own = roles.map(|(held, _)| held).find(|held| held.value == name);
        own.map_or_else(String::new, |own| self.policy.document.source(own.referenced).to_string())
    }
}
