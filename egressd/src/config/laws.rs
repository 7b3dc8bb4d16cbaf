//! What holds for all texts that somebody could take for a policy.

use super::{
    compile::Policies,
    load::Loader,
    packages::{Manager, Registries, Site, ToolError, sites_in},
};
use crate::policy::{AgentName, HostName, Pattern, Protocol, Rule, Subject};
use std::path::Path;

/// A text is a policy, the same whenever it is read, or it is shown what is wrong with it.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = || load(text);
    match read() {
        Ok(policies) => {
            assert_eq!(read().ok().as_ref(), Some(&policies), "it reads the same again");
            for name in policies.names() {
                let policy = policies.for_agent(name);
                policy.allow().iter().for_each(|rule| allows_what_it_says(rule, text));
                policy.deny().iter().for_each(|rule| has_a_place(rule, text));
            }
        }
        Err(error) => {
            assert!(!error.diagnostics().is_empty());
            for diagnostic in error.diagnostics() {
                assert!(!diagnostic.title().is_empty());
                assert!(diagnostic.line().is_none_or(|line| line <= text.matches('\n').count() + 1));
            }
            assert!(!error.render(true).is_empty() && !error.render(false).is_empty());
        }
    }
}

/// A site that is found has a destination that a rule can name.
pub fn registry_site(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for site in sites_in(text).take(MAX_SITES) {
        assert!(site.port != 0 && site.destination().is_some(), "{site:?}");
    }
}

/// Sites overlap: there are as many as `http` stands in a text.
const MAX_SITES: usize = 64;

/// The name that a rule with this host is about.
pub fn name_in_rule(name: &str) -> Option<HostName> {
    // JSON is YAML, and quotes everything.
    let host = serde_json::to_string(name).ok()?;
    let text = format!("version: 1\nagents: {{default: {{deny: [{{host: {host}}}]}}}}\n");
    let policies = load(&text).ok()?;
    let policy = policies.for_agent(&AgentName::parse("any").ok()?);
    match &policy.deny().first()?.subject {
        Subject::Host(Pattern::Exact(name)) => Some(name.clone()),
        Subject::Host(Pattern::OneLabel(_) | Pattern::AnyLabels(_)) | Subject::Network(_) => None,
    }
}

/// The policies of a text, on a machine whose package tools are all configured for one mirror.
///
/// # Errors
/// As those of a file.
pub fn load(text: &str) -> Result<Policies, super::ConfigError> {
    Loader::new(&[]).with_registries(&OneMirror).load_str("policy.yaml", text, Path::new("/nonexistent"))
}

fn allows_what_it_says(rule: &Rule, text: &str) {
    has_a_place(rule, text);
    assert!(!rule.ports.is_empty() && !rule.ports.contains(&53), "{rule:?}");
    match &rule.subject {
        Subject::Host(pattern) => {
            let is_dangerous = pattern.is_public_suffix();
            assert!(!is_dangerous || text.contains("danger_public_suffix"), "{rule:?}");
        }
        Subject::Network(_) => {
            assert!(matches!(rule.protocol, Some(Protocol::Tcp | Protocol::Udp)), "{rule:?}");
            assert!(!rule.private, "{rule:?}");
        }
    }
}

fn has_a_place(rule: &Rule, text: &str) {
    assert!(rule.id.0 != 0);
    assert!((1..=text.lines().count().max(1)).contains(&(rule.source.line as usize)), "{rule:?}");
    assert!(rule.ports.is_sorted_by(|one, next| one < next) && !rule.ports.contains(&0), "{rule:?}");
}

/// Tools that are all configured for one place.
struct OneMirror;

impl Registries for OneMirror {
    fn sites(&self, _manager: Manager) -> Result<Vec<Site>, ToolError> {
        Ok(Site::parse("https://mirror.example/").into_iter().collect())
    }
}
