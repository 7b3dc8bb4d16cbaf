//! The `network:` of a GitHub Agentic Workflow.
//!
//! Read in github/gh-aw (`docs/src/content/docs/reference/network.md`) and github/gh-aw-firewall
//! (`src/domain-patterns.ts`): a domain means itself and all below it, over HTTP and HTTPS unless it starts
//! with a scheme; what is blocked wins, and holds for all below it, too. The page says that `*.example.com` means
//! `example.com`, too, the firewall reads it as what is below: the narrower one is taken to allow, the wider one to deny.
//! Requests to an address are denied, whatever is allowed.

use super::{
    ImportError,
    draft::{At, Draft, Remark, Section, Written, worse},
    names::{Dialect, Numbers, Opening, Reach, read as read_host, tcp, web},
    tree::{self, Node},
};
use crate::{authoring::fate::Fate, policy::Protocol};

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
    let Some((_, include, packages)) = ECOSYSTEMS.iter().find(|(own, _, _)| *own == identifier) else {
        return draft.lose(
            at,
            Section::Include,
            "no allowlist of ours is about it: name the hosts that are needed",
        );
    };
    let why = "our lists are narrower: see their files, and add what is missing".to_owned();
    let remark = worse(Some((Fate::Narrowed, why)), None);
    let of = |names: &[&str], write: fn(String) -> Written| {
        names.iter().map(|name| write((*name).to_owned())).collect()
    };
    if !include.is_empty() {
        draft.push_written(at, Section::Include, of(include, Written::Include), remark.clone());
    }
    if !packages.is_empty() {
        draft.push_written(at, Section::Packages, of(packages, Written::Packages), remark);
    }
}

/// Ecosystems of gh-aw, with our allowlists and package tools.
const ECOSYSTEMS: [(&str, &[&str], &[&str]); 17] = [
    ("claude", &["anthropic"], &[]),
    ("codex", &["openai"], &[]),
    ("copilot", &["github-copilot"], &[]),
    ("dotnet", &["dotnet"], &[]),
    ("gemini", &["google-ai"], &[]),
    ("github", &["github"], &[]),
    ("go", &["go"], &[]),
    ("haskell", &["haskell"], &[]),
    ("java", &["java"], &[]),
    ("node", &["node"], &["node"]),
    ("python", &["python"], &["python"]),
    ("python-native", &["python"], &["python", "rust"]),
    ("ruby", &["ruby"], &[]),
    ("rust", &["rust"], &["rust"]),
    ("swift", &["swift"], &[]),
    ("threat-detection", &["github", "github-copilot"], &[]),
    ("zig", &["zig"], &[]),
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
