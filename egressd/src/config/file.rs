//! The keys of policy and allowlist files. Anything that is not named here is refused.

use super::ports::PortRange;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;
use std::{fmt, marker::PhantomData, path::PathBuf};

/// A policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    pub(super) version: Spanned<u64>,
    /// What agents have in common, and extend.
    pub(super) roles: Option<Named<AgentSection>>,
    /// May be left out where there are roles.
    pub(super) agents: Option<Named<AgentSection>>,
}

impl PolicyFile {
    pub(super) fn has_sections(&self) -> bool {
        self.roles.is_some() || self.agents.is_some()
    }

    pub(super) fn roles(&self) -> impl Iterator<Item = &(Spanned<String>, AgentSection)> {
        self.roles.iter().flat_map(|roles| &roles.0)
    }

    pub(super) fn agents(&self) -> impl Iterator<Item = &(Spanned<String>, AgentSection)> {
        self.agents.iter().flat_map(|agents| &agents.0)
    }
}

/// An allowlist file, which policies include by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowlistFile {
    pub(super) version: Spanned<u64>,
    pub(super) name: Spanned<String>,
    pub(super) rules: Vec<Spanned<AllowRule>>,
}

/// What one agent may reach, or whoever extends a role. Nothing, where every list is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentSection {
    /// Which agents it is for, beside the one of its name.
    pub(super) select: Option<Spanned<SelectSection>>,
    /// Names of roles.
    #[serde(default)]
    pub(super) extends: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) include: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) packages: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) rules: Vec<Spanned<AllowRule>>,
    #[serde(default)]
    pub(super) deny: Vec<Spanned<DenyRule>>,
    #[serde(default)]
    pub(super) capabilities: Vec<Spanned<String>>,
    pub(super) host_sockets: Option<bool>,
    /// Bytes a day, over all rules.
    pub(super) leak_budget: Option<Spanned<u64>>,
    /// Words of flags, with words of actions.
    pub(super) leak_actions: Option<Named<Spanned<String>>>,
    #[serde(default)]
    pub(super) secrets: Vec<SecretFile>,
    #[serde(default)]
    pub(super) honeytokens: Vec<Honeytoken>,
}

/// What an agent must be to be meant: all of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectSection {
    pub(super) name: Option<Spanned<String>>,
    pub(super) cgroup: Option<Spanned<String>>,
    pub(super) uid: Option<Spanned<u32>>,
    pub(super) labels: Option<Named<Spanned<String>>>,
}

/// A secret that no name may hold, in a file of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretFile {
    pub(super) name: Spanned<String>,
    pub(super) file: Spanned<String>,
}

/// What looks like a secret, is none, and was planted where only a thief finds it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Honeytoken {
    pub(super) name: Spanned<String>,
    pub(super) value: Spanned<String>,
}

/// A rule that allows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowRule {
    pub(super) host: Option<Spanned<String>>,
    /// As many rules as there are names.
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) cidr: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<Vec<Spanned<PortRange>>>>,
    pub(super) protocol: Option<Spanned<String>>,
    pub(super) reason: Option<String>,
    /// A day, or a moment.
    pub(super) expires: Option<Spanned<String>>,
    /// A duration, from the start of the agent on.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<String>>,
    pub(super) private: Option<Spanned<bool>>,
    pub(super) danger_public_suffix: Option<Spanned<bool>>,
    /// Bytes a day, through names of a wildcard.
    pub(super) leak_budget: Option<Spanned<u64>>,
    /// Record types beside addresses.
    pub(super) types: Option<Spanned<Vec<Spanned<String>>>>,
    /// Who reads the server name.
    pub(super) gate: Option<Spanned<String>>,
    /// What becomes of Encrypted Client Hello.
    pub(super) ech: Option<Spanned<String>>,
    /// Whether TLS is ended, and requests are judged.
    pub(super) inspect: Option<Spanned<bool>>,
    /// Methods and paths.
    pub(super) allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Octets of one request's body.
    pub(super) max_body: Option<Spanned<String>>,
    /// Octets of the bodies of one connection.
    pub(super) max_bytes: Option<Spanned<String>>,
    pub(super) inject: Option<OneOrMore<InjectSection>>,
}

/// A header field that the agent does not see.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InjectSection {
    pub(super) header: Spanned<String>,
    /// The name of a credential.
    pub(super) from: Spanned<String>,
}

/// Where a credential is, in the daemon's own file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialSection {
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) environment: Option<Spanned<String>>,
    pub(super) format: Option<Spanned<String>>,
}

/// A rule that denies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyRule {
    pub(super) host: Option<Spanned<String>>,
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) cidr: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<Vec<Spanned<PortRange>>>>,
    pub(super) protocol: Option<Spanned<String>>,
    pub(super) reason: Option<String>,
}

/// A mapping whose keys are names, in the order of the file; each key keeps its place.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(Spanned<String>, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of names")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut named = Vec::new();
        while let Some(pair) = map.next_entry()? {
            named.push(pair);
        }
        Ok(Named(named))
    }
}

/// A mapping, or a list of such.
#[derive(Debug)]
pub(super) struct OneOrMore<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor(PhantomData))
    }
}

struct OneOrMoreVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, or a list of mappings")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMore(vec![one]))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Self::Value, S::Error> {
        let mut all = Vec::new();
        while let Some(one) = sequence.next_element()? {
            all.push(one);
        }
        Ok(OneOrMore(all))
    }
}
