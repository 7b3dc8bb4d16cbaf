//! What config makes of files: what it compiles them to, and every error that it shows.
//!
//! Each `errors/NAME.yaml` is a policy that must be refused, each `daemon-errors/NAME.yaml` a file of the daemon's
//! own, and `NAME.txt` beside it is what people are then shown. `EGRESSD_BLESS=1 cargo test --test config` writes
//! the second from the first, and the schemas that are shipped.

#![allow(clippy::unwrap_used, reason = "tests")]

mod files;
mod lend;
mod messages;
mod packages;
mod policies;
mod schema;

use egressd::{config::load_str, policy::RecordType};
use std::path::Path;

#[test]
fn every_key_that_a_policy_may_have_is_documented() {
    let document = include_str!("../../docs/policy.md");
    for text in [
        "x: 0\n",
        "version: 1\nagents: {a: {x: 0}}\n",
        "version: 1\nagents: {a: {rules: [{x: 0}]}}\n",
        "version: 1\nagents: {a: {deny: [{x: 0}]}}\n",
        "version: 1\nagents: {a: {select: {x: 0}}}\n",
        "version: 1\nagents: {a: {secrets: [{x: 0}]}}\n",
        "version: 1\nagents: {a: {honeytokens: [{x: 0}]}}\n",
    ] {
        let error = load_str("p.yaml", text, Path::new(""), &[]).expect_err(text).to_string();
        let (_, keys) = error.split_once("known keys here: ").unwrap_or_else(|| panic!("{error}"));
        for key in keys.trim().split(", ") {
            assert!(document.contains(&format!("`{key}`")), "{key}");
        }
    }
    for kind in RecordType::ALL {
        assert!(document.contains(&format!("`{kind}`")), "{kind}");
    }
}

#[test]
fn the_policy_of_the_document_compiles() {
    let document = include_str!("../../docs/policy.md");
    let text = document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let text = text.replace("    packages: [python]\n", "").replace("[github]", "[good]");
    let included = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config/errors/included");
    // Its secret is in a file that is not here, and that a text may not name.
    let error = load_str("policy.md", &text, &included, &[]).unwrap_err();
    assert_eq!(error.diagnostics().len(), 1, "{error}");
    assert!(error.to_string().contains("secret `deploy-key` cannot be read from a file here"), "{error}");
}
