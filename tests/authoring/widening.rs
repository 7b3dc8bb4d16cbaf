//! Imports open nothing that the other tool leaves shut.

use crate::world::translate;
use egressd::authoring::{Fate, import::Kind};

#[test]
fn a_network_opens_nothing_where_a_tool_knows_names_only() {
    for (kind, text) in [
        (Kind::Codex, "[network]\nallowed_domains = ['10.0.0.0/8']\n"),
        (Kind::Srt, r#"{"network": {"allowedDomains": ["10.0.0.0/8"]}}"#),
        (Kind::ClaudeCode, r#"{"sandbox": {"network": {"allowedDomains": ["10.0.0.0/8"]}}}"#),
        (Kind::GhAw, "network: {allowed: [\"10.0.0.0/8\"]}\n"),
        (Kind::Copilot, "10.0.0.0/8\n"),
        (
            Kind::HardenRunner,
            "- uses: step-security/harden-runner@v2\n  with: {allowed-endpoints: 10.0.0.0/8}\n",
        ),
        (Kind::Docker, "docker sandbox network proxy x --policy deny --allow-host 10.0.0.0/8\n"),
        (Kind::Squid, "acl s dstdomain 10.0.0.0/8\nhttp_access allow s\nhttp_access deny all\n"),
        (Kind::Squid, "acl s dstdomain 10.0.0.0/8\nhttp_access deny !s\nhttp_access allow localhost\n"),
    ] {
        let translation = translate(kind, text);
        translation.denies(&["10.1.2.3:443/tcp", "10.1.2.3:80/tcp"]);
        assert!(translation.says(Fate::Lost, "10.0.0.0/8").contains("means a network"), "{kind}");
    }
    let known = "sbx policy allow network 10.0.0.0/8:22\n";
    translate(Kind::Docker, known).is_exact().allows(&["10.1.2.3:22/tcp"]);
}

#[test]
fn an_address_opens_nothing_in_gh_aw_and_a_network_that_is_denied_stays_so() {
    let translation = translate(Kind::GhAw, "network: {allowed: [192.0.2.7, a.test]}\n");
    translation.allows(&["a.test"]).denies(&["192.0.2.7:443/tcp"]).says(Fate::Lost, "192.0.2.7");
    let settings = r#"{"network": {"allowedDomains": ["192.0.2.7"], "deniedDomains": ["192.0.2.0/24"]}}"#;
    translate(Kind::Srt, settings).denies(&["192.0.2.7:443/tcp"]).says(Fate::Narrowed, "192.0.2.0/24");
}
