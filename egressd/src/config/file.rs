//! The keys of policy and allowlist files. Anything that is not named here is refused.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_saphyr::Spanned;
use std::{fmt, marker::PhantomData};

/// A policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    pub(super) version: Spanned<u64>,
    pub(super) agents: Named<AgentSection>,
}

/// An allowlist file, which policies include by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowlistFile {
    pub(super) version: Spanned<u64>,
    pub(super) name: Spanned<String>,
    pub(super) rules: Vec<Spanned<AllowRule>>,
}

/// What one agent may reach. Nothing, where every list is empty.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentSection {
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
    #[serde(default)]
    pub(super) host_sockets: bool,
    /// Bytes a day, over all rules.
    pub(super) leak_budget: Option<Spanned<u64>>,
    /// Words of flags, with words of actions.
    pub(super) leak_actions: Option<Named<Spanned<String>>>,
    #[serde(default)]
    pub(super) secrets: Vec<SecretFile>,
    #[serde(default)]
    pub(super) honeytokens: Vec<Honeytoken>,
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
    pub(super) cidr: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<Vec<Spanned<u16>>>>,
    pub(super) protocol: Option<Spanned<String>>,
    pub(super) reason: Option<String>,
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
}

/// A rule that denies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyRule {
    pub(super) host: Option<Spanned<String>>,
    pub(super) cidr: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<Vec<Spanned<u16>>>>,
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
