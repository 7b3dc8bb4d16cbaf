//! What may stand where, for the schema of policy files: the types stand for texts that are read elsewhere.

use super::packages;
use crate::policy;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// Types that are never made, each with its place in the schema.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $schema:expr;)+) => {
        $(
            $(#[doc = $doc])+
            pub(super) enum $name {}

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    let mut schema = $schema;
                    schema.insert("description".to_owned(), concat!($($doc),+).trim_ascii().into());
                    schema
                }
            }
        )+
    };
}

words! {
    /// There is one version so far.
    Version = json_schema!({ "const": 1 });
    /// A name, `*.` and a name for one label below it, or `**.` and a name for all below it.
    Host = json_schema!({ "type": "string", "pattern": HOST });
    /// What a flow must speak: TLS that names the host (the default), HTTP/1.1 that names it, QUIC that names it,
    /// or any bytes over TCP or UDP.
    Protocol = one_of(policy::Protocol::ALL.map(policy::Protocol::as_str));
    /// Who reads the server name of a flow.
    Gate = one_of(policy::GateChoice::ALL.map(policy::GateChoice::as_str));
    /// `enforce`, or `observe`: what would be denied is let out, and recorded.
    Mode = one_of(policy::Mode::ALL.map(policy::Mode::as_str));
    /// What becomes of Encrypted Client Hello.
    Ech = one_of(policy::Ech::ALL.map(policy::Ech::as_str));
    /// A type of DNS records beside A and AAAA, which need no mention.
    RecordType = one_of(policy::RecordType::ALL.iter().map(|kind| kind.as_str()));
    /// What the agent may do to its own network namespace.
    Capability = one_of(policy::Capability::ALL.map(policy::Capability::as_str));
    /// A package manager: the registry that this machine is configured for is opened.
    Manager = one_of(packages::Manager::ALL.map(packages::Manager::as_str));
    /// What a flag does that names raise.
    LeakAction = one_of(policy::LeakAction::ALL.map(policy::LeakAction::as_str));
    /// Whether the signatures of answers are looked at.
    Dnssec = one_of(["off", "validate"]);
    /// What an agent can do there: read what is there, change what belongs to whom it works for, or write where
    /// strangers can read.
    Risk = one_of(policy::Risk::ALL.map(policy::Risk::as_str));
    /// Whether somebody has to say yes first.
    Approval = one_of(["required"]);
    /// When policy files are read again: when they change, or when somebody asks for it.
    Reload = one_of(["auto", "manual"]);
    /// Whether a commit must be signed by one of `keys`.
    Verify = one_of(["none", "signed"]);
    /// How often the repository is asked: a duration, or `never`.
    Interval = json_schema!({ "type": "string", "examples": ["60s", "never"] });
    /// Octets, as a number or with a unit.
    Size = json_schema!({ "type": ["string", "integer"], "examples": ["64kB", "10MB"] });
    /// So many at once, and in each such time.
    Rate = json_schema!({ "type": "string", "examples": ["10/s", "600/min", "1000/h"] });
    /// To the end of a day (UTC), or to a moment.
    Expires = json_schema!({ "type": "string", "examples": ["2026-12-31", "2026-12-31T18:00:00Z"] });
    /// A duration, from the start of the agent on.
    Lasts = json_schema!({ "type": "string", "examples": ["90s", "30m", "2h", "7d"] });
    /// An IPv4 or IPv6 network.
    Network = json_schema!({ "type": "string", "examples": ["192.0.2.0/24", "2001:db8::/32"] });
    /// A method and a path, with `*` for one segment and `**` for the rest.
    Request = json_schema!({ "type": "string", "examples": ["GET /repos/**"] });
}

/// For what a parser reads that knows more than can be said here: letters, digits, dots and hyphens.
const HOST: &str = r"^(\*\*?\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$";

fn one_of(words: impl IntoIterator<Item = &'static str>) -> Schema {
    let words: Vec<&str> = words.into_iter().collect();
    json_schema!({ "type": "string", "enum": words })
}

/// Flags with what they do.
pub(super) enum LeakActions {}

impl JsonSchema for LeakActions {
    fn schema_name() -> Cow<'static, str> {
        "LeakActions".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let action = generator.subschema_for::<LeakAction>();
        let flags =
            policy::LeakFlag::ALL.iter().map(|flag| (flag.as_str().to_owned(), action.clone().to_value()));
        let flags: serde_json::Map<String, serde_json::Value> = flags.collect();
        json_schema!({ "type": "object", "properties": flags, "additionalProperties": false })
    }
}
