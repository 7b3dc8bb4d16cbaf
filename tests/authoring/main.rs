//! What people do with policies before they are in force.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cases;
mod change;
mod cilium;
mod diff;
mod export;
mod format;
mod import;
mod lint;
mod observe;
mod random;
mod widening;
mod world;

use egressd::{
    config::{Policies, load_str},
    policy::{AgentName, Policy},
};
use std::{path::Path, sync::Arc};

/// The policies of a text.
fn policies(text: &str) -> Policies {
    load_str("policy.yaml", text, Path::new("/nonexistent"), &[])
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The policy of the agent `default`, of which `section` is what stands below its name.
fn policy(section: &str) -> Arc<Policy> {
    policies(&file(section)).for_agent(&AgentName::parse("default").unwrap())
}

fn file(section: &str) -> String {
    let agent: String = section.lines().map(|line| format!("    {line}\n")).collect();
    format!("version: 1\nagents:\n  default:\n{agent}")
}
