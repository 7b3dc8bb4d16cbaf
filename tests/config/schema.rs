//! The schemas that editors use, held against what the compiler does.

use egressd::config::{allowlist_schema, daemon_schema, is_allowlist, policy_schema};
use jsonschema::Validator;
use serde_json::Value;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[test]
fn the_schemas_that_are_shipped_are_those_of_the_types() {
    for (name, schema) in
        [("policy", policy_schema()), ("allowlist", allowlist_schema()), ("daemon", daemon_schema())]
    {
        let path = root().join(format!("schemas/{name}.schema.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if env::var_os("EGRESSD_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert!(text == fs::read_to_string(&path).unwrap_or_default(), "{} is old", path.display());
    }
}

#[test]
fn every_file_that_is_shipped_names_its_schema_and_obeys_it() {
    for path in yaml(&root().join("allowlists")) {
        let text = fs::read_to_string(&path).unwrap();
        let kind = if is_allowlist(&text) { "allowlist" } else { "policy" };
        let header = format!("# yaml-language-server: $schema=../schemas/{kind}.schema.json\n");
        assert!(text.starts_with(&header), "{}: the first line is not {header}", path.display());
        let schema = if is_allowlist(&text) { allowlist_schema() } else { policy_schema() };
        obeys(&validator(&schema), &path, &text);
    }
}

#[test]
fn the_policy_of_the_document_obeys_the_schema() {
    let document = include_str!("../../docs/policy.md");
    let text = document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    obeys(&validator(&policy_schema()), Path::new("docs/policy.md"), text);
}

#[test]
fn the_schema_knows_the_mistakes_that_are_about_keys_and_words() {
    let schema = validator(&policy_schema());
    for name in [
        "capability-unknown",
        "ech-unknown",
        "gate-unknown",
        "mode-unknown",
        "mode-unknown-rule",
        "no-version",
        "packages-unknown",
        "ports-too-large",
        "ports-zero",
        "protocol-unknown",
        "rule-is-a-word",
        "select-key",
        "two-subjects",
        "types-unknown",
        "unknown-key",
        "unknown-top-key",
        "wildcard-inside",
        "wrong-version",
    ] {
        let path = root().join(format!("tests/config/errors/{name}.yaml"));
        let value = value(&fs::read_to_string(&path).unwrap());
        assert!(!schema.is_valid(&value), "{name}");
    }
}

fn obeys(schema: &Validator, path: &Path, text: &str) {
    let value = value(text);
    let wrong: Vec<String> =
        schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
}

fn validator(schema: &schemars::Schema) -> Validator {
    jsonschema::validator_for(schema.as_value()).unwrap()
}

fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn yaml(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap().map(|found| found.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
