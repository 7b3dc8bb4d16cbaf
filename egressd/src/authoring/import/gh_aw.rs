//! The `network:` of a GitHub Agentic Workflow.
//!
//! Read in github/gh-aw (`docs/src/content/docs/reference/network.md`) and github/gh-aw-firewall
//! (`src/domain-patterns.ts`): a domain means itself and all below it, over HTTP and HTTPS unless it starts
//! with a scheme; what is blocked wins, and holds for all below it, too. The page says that `*.example.com` means
//! `example.com`, too, the firewall reads it as what is below: the narrower one is taken to allow, the wider one to deny.
//! Requests to an address are denied, whatever is allowed.

use super::{
    ImportError,
    draft::{Allow, At, Draft, Remark, Section, Written},
    names::{Dialect, Numbers, Opening, Reach, read as read_host, tcp, web},
    tree::{self, Node},
};
use crate::{
    authoring::fate::Fate,
    policy::{Approval, Pattern, Protocol, Subject},
};

const ALLOWED: Dialect = Dialect {
    plain: Reach::AndBelow,
    star: Reach::Below,
    two_stars: None,
    inner: Reach::Below,
    numbers: Numbers::Nothing,
};
const BLOCKED: Dialect = Dialect { star: Reach::AndBelow, ..ALLOWED };

/// Translates the front matter of a workflow, or a YAML file with the key `network`.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let (front, first) = front_matter(text);
    let documents = tree::yaml(draft.file, front, first)?;
    let Some(network) = documents.iter().find_map(|document| document.get("network")) else {
        return Err(ImportError::Nothing("no `network`", draft.file.to_owned()));
    };
    let blocked: Vec<&Node> = network.get("blocked").map(Node::items).unwrap_or_default().iter().collect();
    match network.text() {
        // `network: defaults` is short for `allowed: [defaults]`.
        Some(_) => allow(network, &blocked, draft),
        None => {
            for entry in network.get("allowed").map(Node::items).unwrap_or_default() {
                allow(entry, &blocked, draft);
            }
        }
    }
    for entry in &blocked {
        block(entry, draft);
    }
    for url in network.at(&["firewall", "allow-urls"]).map(Node::items).unwrap_or_default() {
        let was = url.show();
        draft.lose(
            At { place: &url.place, was: &was },
            Section::Rules,
            "paths of a URL need a rule with `inspect: true`",
        );
    }
    Ok(())
}

/// What stands between the lines `---`, and the number of its first line; else all of the text.
fn front_matter(text: &str) -> (&str, u64) {
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else {
        return (text, 1);
    };
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return (&rest[..end], 2);
        }
        end += line.len();
    }
    (text, 1)
}

fn allow(entry: &Node, blocked: &[&Node], draft: &mut Draft<'_>) {
    let was = entry.show();
    let at = At { place: &entry.place, was: &was };
    let Some(text) = entry.text() else { return draft.lose(at, Section::Rules, "not a domain") };
    if is_identifier(text) {
        if blocked.iter().any(|entry| entry.text() == Some(text)) {
            return draft.note(at, Fate::Exact, "`blocked` takes all of it back");
        }
        return ecosystem(at, text, draft);
    }
    let (host, openings) = scheme(text);
    draft.allow(at, read_host(host, ALLOWED), &openings, &[], apex_remark(host));
}

fn apex_remark(host: &str) -> Remark {
    let name = host.strip_prefix("*.")?;
    let why = format!("its page counts `{name}` in, its firewall does not");
    Some((Fate::Narrowed, why))
}

/// What `https://example.com` opens.
fn scheme(text: &str) -> (&str, Vec<Opening>) {
    let text = text.trim();
    let (host, openings) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, tcp(&[443])),
        (None, Some(host)) => (host, tcp(&[80])),
        (None, None) => (text, web()),
    };
    (host.strip_suffix('/').unwrap_or(host), openings)
}

fn block(entry: &Node, draft: &mut Draft<'_>) {
    let was = entry.show();
    let at = At { place: &entry.place, was: &was };
    let text = entry.text().unwrap_or_default();
    if is_identifier(text) {
        // A list of hosts that gh-aw knows, and we do not.
        return draft.cut(at, "which hosts an ecosystem has is not known here: list them instead");
    }
    let (host, openings) = scheme(text);
    // `http://` takes nothing from HTTPS, but the other way round nobody would expect it.
    let protocols: &[Protocol] = match openings.as_slice() {
        [one] if one.protocol == Protocol::Http => &[Protocol::Http],
        _ => &[],
    };
    draft.deny(at, read_host(host, BLOCKED), &[], protocols, None);
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
}

fn ecosystem(at: At<'_>, identifier: &str, draft: &mut Draft<'_>) {
    let Some(known) = ECOSYSTEMS.iter().find(|known| known.identifier == identifier) else {
        return draft.lose(
            at,
            Section::Include,
            "no allowlist of ours is about it: name the hosts that are needed",
        );
    };
    match draft.may_widen() {
        true => known.include(at, draft),
        false => known.name_hosts(at, draft),
    }
}

/// A list of hosts that gh-aw keeps by a name, and what we have about the same.
struct Ecosystem {
    identifier: &'static str,
    /// Those that are in both lists.
    hosts: &'static [&'static str],
    /// Our allowlist, which may hold more.
    include: &'static str,
    /// The package tools whose registries it holds.
    packages: &'static [&'static str],
}

impl Ecosystem {
    /// What it allows for sure.
    fn name_hosts(&self, at: At<'_>, draft: &mut Draft<'_>) {
        let allow = |pattern| Allow {
            subject: Subject::Host(pattern),
            protocol: Protocol::Tls,
            ports: vec![443],
            requests: Vec::new(),
            approval: Approval::NotNeeded,
        };
        let patterns = self.hosts.iter().filter_map(|host| Pattern::parse(host).ok());
        let written = patterns.map(|pattern| Written::Allow(allow(pattern))).collect();
        let why = format!("of its hosts, those stand here that our allowlist `{}` has, too", self.include);
        draft.push_written(at, Section::Rules, written, Some((Fate::Narrowed, why)));
        if !self.packages.is_empty() {
            let line = format!("packages: [{}]", self.packages.join(", "));
            let why =
                format!("the registry that a machine is configured for may be another: `{line}` opens it");
            draft.lose(at, Section::Packages, &why);
        }
    }

    /// What we have instead.
    fn include(&self, at: At<'_>, draft: &mut Draft<'_>) {
        let own = |what: &str| Some((Fate::Widened, format!("{what} may hold hosts that it does not")));
        let include = vec![Written::Include(self.include.to_owned())];
        draft.push_written(at, Section::Include, include, own("our allowlist"));
        let packages: Vec<Written> =
            self.packages.iter().map(|tool| Written::Packages((*tool).to_owned())).collect();
        if !packages.is_empty() {
            draft.push_written(at, Section::Packages, packages, own("what this machine is configured for"));
        }
    }
}

const fn ecosystem_of(
    identifier: &'static str,
    include: &'static str,
    packages: &'static [&'static str],
    hosts: &'static [&'static str],
) -> Ecosystem {
    Ecosystem { identifier, hosts, include, packages }
}

/// Read in github/gh-aw (`pkg/workflow/data/ecosystem_domains.json`, and the engines of `domains.go`).
const ECOSYSTEMS: [Ecosystem; 18] = [
    ecosystem_of("claude", "anthropic", &[], &["api.anthropic.com"]),
    ecosystem_of("codex", "openai", &[], &["api.openai.com", "chatgpt.com"]),
    ecosystem_of("copilot", "github-copilot", &[], &["api.githubcopilot.com"]),
    ecosystem_of(
        "copilot-vendor",
        "github-copilot",
        &[],
        &[
            "api.individual.githubcopilot.com",
            "api.business.githubcopilot.com",
            "api.enterprise.githubcopilot.com",
        ],
    ),
    ecosystem_of(
        "dotnet",
        "dotnet",
        &[],
        &["dotnet.microsoft.com", "builds.dotnet.microsoft.com", "api.nuget.org"],
    ),
    ecosystem_of("gemini", "google-ai", &[], &["generativelanguage.googleapis.com"]),
    ecosystem_of(
        "github",
        "github",
        &[],
        &[
            "github.com",
            "api.github.com",
            "codeload.github.com",
            "raw.githubusercontent.com",
            "objects.githubusercontent.com",
            "release-assets.githubusercontent.com",
            "github-cloud.githubusercontent.com",
            "docs.github.com",
        ],
    ),
    ecosystem_of(
        "go",
        "go",
        &[],
        &["go.dev", "pkg.go.dev", "proxy.golang.org", "sum.golang.org", "vuln.go.dev"],
    ),
    ecosystem_of(
        "haskell",
        "haskell",
        &[],
        &["get-ghcup.haskell.org", "downloads.haskell.org", "hackage.haskell.org"],
    ),
    ecosystem_of(
        "java",
        "java",
        &[],
        &[
            "api.adoptium.net",
            "repo.maven.apache.org",
            "repo1.maven.org",
            "services.gradle.org",
            "downloads.gradle.org",
            "plugins.gradle.org",
            "plugins-artifacts.gradle.org",
        ],
    ),
    ecosystem_of("node", "node", &["node"], &["nodejs.org"]),
    ecosystem_of("python", "python", &["python"], &["bootstrap.pypa.io", "pip.pypa.io"]),
    ecosystem_of("python-native", "python", &["python", "rust"], &["bootstrap.pypa.io", "pip.pypa.io"]),
    ecosystem_of("ruby", "ruby", &[], &["cache.ruby-lang.org", "rubygems.org", "index.rubygems.org"]),
    ecosystem_of("rust", "rust", &["rust"], &["static.rust-lang.org", "sh.rustup.rs"]),
    ecosystem_of("swift", "swift", &[], &["swift.org", "www.swift.org", "download.swift.org"]),
    ecosystem_of(
        "threat-detection",
        "github-copilot",
        &[],
        &[
            "api.githubcopilot.com",
            "api.individual.githubcopilot.com",
            "api.business.githubcopilot.com",
            "api.enterprise.githubcopilot.com",
        ],
    ),
    ecosystem_of("zig", "zig", &[], &["ziglang.org"]),
];

#[cfg(test)]
mod tests {
    use super::{super::names::Reading, *};

    #[test]
    fn front_matter_ends_at_its_second_line_of_dashes() {
        assert_eq!(front_matter("---\na: 1\n---\n# text\n---\n"), ("a: 1\n", 2));
        assert_eq!(front_matter("a: 1\n"), ("a: 1\n", 1));
        assert_eq!(front_matter("---\na: 1\n"), ("---\na: 1\n", 1));
    }

    #[test]
    fn an_entry_without_a_dot_is_an_ecosystem() {
        assert!(
            is_identifier("python-native") && !is_identifier("crates.example") && !is_identifier("https://a")
        );
        assert!(matches!(read_host("example.com", ALLOWED), Reading::Names(names) if names.len() == 2));
    }
}
