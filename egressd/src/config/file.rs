//! The keys of policy and allowlist files. Anything that is not named here is refused.

use super::{ports::PortRange, words};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;
use std::{fmt, marker::PhantomData, path::PathBuf};

/// A policy file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    /// Of the format.
    #[schemars(with = "words::Version")]
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowlistFile {
    /// Of the format.
    #[schemars(with = "words::Version")]
    pub(super) version: Spanned<u64>,
    /// That of the file, without `.yaml`.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// What is allowed.
    #[schemars(with = "Vec<AllowRule>")]
    pub(super) rules: Vec<Spanned<AllowRule>>,
}

/// What one agent may reach, or whoever extends a role. Nothing, where every list is empty.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentSection {
    /// Which agents it is for, beside the one of its name.
    #[schemars(with = "Option<SelectSection>")]
    pub(super) select: Option<Spanned<SelectSection>>,
    /// Names of roles.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) extends: Vec<Spanned<String>>,
    /// Names of allowlists.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) include: Vec<Spanned<String>>,
    /// Package managers, whose registries are opened.
    #[serde(default)]
    #[schemars(with = "Vec<words::Manager>")]
    pub(super) packages: Vec<Spanned<String>>,
    /// What is allowed.
    #[serde(default)]
    #[schemars(with = "Vec<AllowRule>")]
    pub(super) rules: Vec<Spanned<AllowRule>>,
    /// What is denied, whatever allows it.
    #[serde(default)]
    #[schemars(with = "Vec<DenyRule>")]
    pub(super) deny: Vec<Spanned<DenyRule>>,
    /// What the agent may do to its own network namespace, if it is sealed.
    #[serde(default)]
    #[schemars(with = "Vec<words::Capability>")]
    pub(super) capabilities: Vec<Spanned<String>>,
    /// Whether it may speak to Unix sockets of the host.
    pub(super) host_sockets: Option<bool>,
    /// Whether what its policy denies stays here.
    #[schemars(with = "Option<words::Mode>")]
    pub(super) mode: Option<Spanned<String>>,
    /// Whether somebody is asked about destinations that no rule knows.
    pub(super) approve_unknown: Option<bool>,
    /// Octets that may leave, over all rules.
    #[schemars(with = "Option<words::Size>")]
    pub(super) max_bytes: Option<Spanned<String>>,
    /// Flows that may start.
    #[schemars(with = "Option<std::num::NonZeroU64>")]
    pub(super) max_connections: Option<Spanned<u64>>,
    /// How many of them in how long.
    #[schemars(with = "Option<words::Rate>")]
    pub(super) rate: Option<Spanned<String>>,
    /// Bytes a day, over all rules.
    #[schemars(with = "Option<u64>")]
    pub(super) leak_budget: Option<Spanned<u64>>,
    /// Words of flags, with words of actions.
    #[schemars(with = "Option<words::LeakActions>")]
    pub(super) leak_actions: Option<Named<Spanned<String>>>,
    /// Secrets that no name may hold.
    #[serde(default)]
    pub(super) secrets: Vec<SecretFile>,
    /// What looks like a secret, and raises a flag where it is seen.
    #[serde(default)]
    pub(super) honeytokens: Vec<Honeytoken>,
}

/// What an agent must be to be meant: all of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectSection {
    /// A glob.
    #[schemars(with = "Option<String>")]
    pub(super) name: Option<Spanned<String>>,
    /// A glob over paths, as `/proc/PID/cgroup` has them.
    #[schemars(with = "Option<String>")]
    pub(super) cgroup: Option<Spanned<String>>,
    /// The user that it is launched as.
    #[schemars(with = "Option<u32>")]
    pub(super) uid: Option<Spanned<u32>>,
    /// All of them, each with this value.
    #[schemars(with = "Option<Named<String>>")]
    pub(super) labels: Option<Named<Spanned<String>>>,
}

/// A secret that no name may hold, in a file of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretFile {
    /// What is shown of it.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Relative to the folder of the policy.
    #[schemars(with = "String")]
    pub(super) file: Spanned<String>,
}

/// What looks like a secret, is none, and was planted where only a thief finds it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Honeytoken {
    /// What is shown of it.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// What is looked for.
    #[schemars(with = "String")]
    pub(super) value: Spanned<String>,
}

/// A rule that allows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["host"]}, {"required": ["hosts"]}, {"required": ["cidr"]}]))]
pub(super) struct AllowRule {
    /// A name, or a wildcard.
    #[schemars(with = "Option<words::Host>")]
    pub(super) host: Option<Spanned<String>>,
    /// As many rules as there are names.
    #[schemars(with = "Option<Vec<words::Host>>")]
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// A network.
    #[schemars(with = "Option<words::Network>")]
    pub(super) cidr: Option<Spanned<String>>,
    /// 443 of TLS and QUIC, 80 of HTTP, if it is left out.
    #[schemars(with = "Option<Vec<PortRange>>")]
    pub(super) ports: Option<Spanned<Vec<Spanned<PortRange>>>>,
    /// TLS, if it is left out.
    #[schemars(with = "Option<words::Protocol>")]
    pub(super) protocol: Option<Spanned<String>>,
    /// For whoever reads the rule, and the denial.
    pub(super) reason: Option<String>,
    /// What an agent can do there, as somebody judged it.
    #[schemars(with = "Option<words::Risk>")]
    pub(super) risk: Option<Spanned<String>>,
    /// Whether what would be denied without it stays here: `observe` lets it out, and records it.
    #[schemars(with = "Option<words::Mode>")]
    pub(super) mode: Option<Spanned<String>>,
    /// A day, or a moment.
    #[schemars(with = "Option<words::Expires>")]
    pub(super) expires: Option<Spanned<String>>,
    /// A duration, from the start of the agent on.
    #[serde(rename = "for")]
    #[schemars(with = "Option<words::Lasts>")]
    pub(super) lasts: Option<Spanned<String>>,
    /// Whether somebody has to say yes first.
    #[schemars(with = "Option<words::Approval>")]
    pub(super) approval: Option<Spanned<String>>,
    /// Octets that may leave by it.
    #[schemars(with = "Option<words::Size>")]
    pub(super) max_bytes: Option<Spanned<String>>,
    /// Flows that may start by it.
    #[schemars(with = "Option<std::num::NonZeroU64>")]
    pub(super) max_connections: Option<Spanned<u64>>,
    /// How many of them in how long.
    #[schemars(with = "Option<words::Rate>")]
    pub(super) rate: Option<Spanned<String>>,
    /// Whether its answers may be private addresses.
    #[schemars(with = "Option<bool>")]
    pub(super) private: Option<Spanned<bool>>,
    /// Whether its wildcard may stand at or above a public suffix, below which strangers have names.
    #[schemars(with = "Option<bool>")]
    pub(super) danger_public_suffix: Option<Spanned<bool>>,
    /// Bytes a day, through names of a wildcard.
    #[schemars(with = "Option<u64>")]
    pub(super) leak_budget: Option<Spanned<u64>>,
    /// Record types beside addresses.
    #[schemars(with = "Option<Vec<words::RecordType>>")]
    pub(super) types: Option<Spanned<Vec<Spanned<String>>>>,
    /// Who reads the server name.
    #[schemars(with = "Option<words::Gate>")]
    pub(super) gate: Option<Spanned<String>>,
    /// What becomes of Encrypted Client Hello.
    #[schemars(with = "Option<words::Ech>")]
    pub(super) ech: Option<Spanned<String>>,
    /// Whether TLS is ended, and requests are judged.
    #[schemars(with = "Option<bool>")]
    pub(super) inspect: Option<Spanned<bool>>,
    /// Methods and paths.
    #[schemars(with = "Option<Vec<words::Request>>")]
    pub(super) allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Octets of one request's body.
    #[schemars(with = "Option<words::Size>")]
    pub(super) max_body: Option<Spanned<String>>,
    /// Octets of the bodies of one connection.
    #[schemars(with = "Option<words::Size>")]
    pub(super) max_bodies: Option<Spanned<String>>,
    /// Header fields that requests are given, with credentials that the agent never sees.
    pub(super) inject: Option<OneOrMore<InjectSection>>,
}

/// A header field that the agent does not see.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InjectSection {
    /// As in `authorization`.
    #[schemars(with = "String")]
    pub(super) header: Spanned<String>,
    /// The name of a credential.
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
}

/// Where a credential is, in the daemon's own file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialSection {
    /// A file of root's alone.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) file: Option<Spanned<PathBuf>>,
    /// A variable of the daemon's environment.
    #[schemars(with = "Option<String>")]
    pub(super) environment: Option<Spanned<String>>,
    /// What is sent, with `{}` for the credential: as in `Bearer {}`.
    #[schemars(with = "Option<String>")]
    pub(super) format: Option<Spanned<String>>,
}

/// A rule that denies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["host"]}, {"required": ["hosts"]}, {"required": ["cidr"]}]))]
pub(super) struct DenyRule {
    /// A name, or a wildcard.
    #[schemars(with = "Option<words::Host>")]
    pub(super) host: Option<Spanned<String>>,
    /// As many rules as there are names.
    #[schemars(with = "Option<Vec<words::Host>>")]
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// A network.
    #[schemars(with = "Option<words::Network>")]
    pub(super) cidr: Option<Spanned<String>>,
    /// Every port, if it is left out.
    #[schemars(with = "Option<Vec<PortRange>>")]
    pub(super) ports: Option<Spanned<Vec<Spanned<PortRange>>>>,
    /// Every protocol, if it is left out.
    #[schemars(with = "Option<words::Protocol>")]
    pub(super) protocol: Option<Spanned<String>>,
    /// For whoever reads the rule, and the denial.
    pub(super) reason: Option<String>,
    /// Whether what it denies stays here.
    #[schemars(with = "Option<words::Mode>")]
    pub(super) mode: Option<Spanned<String>>,
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
