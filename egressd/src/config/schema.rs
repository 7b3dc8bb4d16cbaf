//! JSON Schema (draft 2020-12) of the files that people write, from the types that read them. A schema says less
//! than the compiler: what it refuses, the compiler refuses too.

use super::{
    daemon::DaemonFile,
    file::{AllowlistFile, Named, OneOrMore, PolicyFile},
    ports::PortRange,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use std::borrow::Cow;

/// Of policy files.
#[must_use]
pub fn policy_schema() -> Schema {
    titled(schema_for!(PolicyFile), "Policy of egressd")
}

/// Of allowlists, which policies include.
#[must_use]
pub fn allowlist_schema() -> Schema {
    titled(schema_for!(AllowlistFile), "Allowlist of egressd")
}

/// Of the daemon's own file.
#[must_use]
pub fn daemon_schema() -> Schema {
    titled(schema_for!(DaemonFile), "Configuration of egressd")
}

fn titled(mut schema: Schema, title: &str) -> Schema {
    schema.insert("title".to_owned(), title.into());
    schema
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("NamesOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [value, { "type": "array", "items": value }] })
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, or a range of them, both ends included.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": u16::MAX },
                { "type": "string", "pattern": r"^\s*[0-9]{1,5}\s*(-\s*[0-9]{1,5}\s*)?$", "examples": ["8000-8010"] },
            ],
        })
    }
}
