//! Adds rules to the text of a policy file, as a unified diff.

use std::fmt::Write as _;

/// A unified diff of `file`, whose text is `text`, that adds `rules` (lines of YAML) to those of `agent`.
///
/// # Errors
/// The file is not written in the way in which lines can be added.
pub fn patch(file: &str, text: &str, agent: &str, rules: &[String]) -> Result<String, PatchError> {
    let lines: Vec<&str> = text.lines().collect();
    let section = section_of(&lines, agent)?;
    let list = key_in(&lines, &section, "rules");
    let (at, indent, key) = match list {
        Some(at) if is_open(lines[at]) => {
            let list = block(&lines, at + 1, |line| indent_of(line) > indent_of(lines[at]) || is_item(line));
            let first = lines[list.clone()].iter().find(|line| is_item(line));
            let indent = first.map_or(indent_of(lines[at]) + 2, |line| indent_of(line));
            (end_of(&lines, list), indent, None)
        }
        Some(at) => return Err(PatchError::Flow(at + 1)),
        None => {
            let indent = section.indent;
            (end_of(&lines, section.lines.clone()), indent + 2, Some(format!("{:indent$}rules:", "")))
        }
    };
    let added = key.into_iter().chain(rules.iter().map(|rule| format!("{:indent$}{rule}", "")));
    Ok(diff(file, &lines, at, &added.collect::<Vec<_>>()))
}

/// Why nothing can be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("no agent `{0}` with lines of its own: add it to `agents:` first")]
    NoAgent(String),
    #[error("line {0} holds its value in brackets: write it on lines of its own first")]
    Flow(usize),
}

/// The lines under a key.
struct Section {
    lines: std::ops::Range<usize>,
    /// Of the keys in it.
    indent: usize,
}

fn section_of(lines: &[&str], agent: &str) -> Result<Section, PatchError> {
    let none = || PatchError::NoAgent(agent.to_owned());
    let agents = lines.iter().position(|line| line.trim_end() == "agents:").ok_or_else(none)?;
    let all = block(lines, agents + 1, |line| indent_of(line) > 0);
    let spellings = [format!("{agent}:"), format!("\"{agent}\":"), format!("'{agent}':")];
    let first = all.clone().find(|at| is_content(lines[*at])).ok_or_else(none)?;
    let is_agent = |line: &str| indent_of(line) == indent_of(lines[first]);
    let is_named = |line: &str| {
        is_agent(line) && spellings.iter().any(|own| line.trim_start().starts_with(own.as_str()))
    };
    let at = all.clone().find(|at| is_named(lines[*at])).ok_or_else(none)?;
    if !is_open(lines[at]) {
        return Err(PatchError::Flow(at + 1));
    }
    let own = block(lines, at + 1, |line| indent_of(line) > indent_of(lines[at]));
    let first = own.clone().find(|at| is_content(lines[*at])).ok_or_else(none)?;
    Ok(Section { indent: indent_of(lines[first]), lines: own })
}

fn key_in(lines: &[&str], section: &Section, key: &str) -> Option<usize> {
    let is_key = |line: &str| {
        indent_of(line) == section.indent
            && line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
    };
    section.lines.clone().find(|at| is_key(lines[*at]))
}

/// The lines from `first` on that belong together: those that are `within`, and blank ones and comments.
fn block(lines: &[&str], first: usize, within: impl Fn(&str) -> bool) -> std::ops::Range<usize> {
    let end = lines[first..].iter().position(|line| is_content(line) && !within(line));
    first..end.map_or(lines.len(), |end| first + end)
}

/// Behind the last line of `range` that says something.
fn end_of(lines: &[&str], range: std::ops::Range<usize>) -> usize {
    let start = range.start;
    range.rev().find(|at| is_content(lines[*at])).map_or(start, |at| at + 1)
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_content(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
}

/// Whether what a key holds is on the lines behind it.
fn is_open(line: &str) -> bool {
    let line = line.split(" #").next().unwrap_or(line);
    line.trim_end().ends_with(':')
}

/// One hunk that adds lines in front of line `at`, counted from 0.
fn diff(file: &str, lines: &[&str], at: usize, added: &[String]) -> String {
    let (from, to) = (at.saturating_sub(CONTEXT), (at + CONTEXT).min(lines.len()));
    let (old, new) = (to - from, to - from + added.len());
    let mut text = format!("--- a/{file}\n+++ b/{file}\n@@ -{},{old} +{},{new} @@\n", from + 1, from + 1);
    for line in &lines[from..at] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {line}");
    }
    for line in added {
        let _ = writeln!(text, "+{line}");
    }
    for line in &lines[at..to] {
        let _ = writeln!(text, " {line}");
    }
    text
}

/// Lines of a hunk that stay as they are, on either side.
const CONTEXT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\n# all\nagents:\n  \"build\":   # ours\n    rules:\n      - host: a.example\n        ports: [1]\n      # more\n\n    deny:\n    - host: b.example\n  other:\n    include: [x]\n\n  flow: {rules: []}\n  wide:\n    rules: [{host: c.example}]\nroles: {}\n";

    #[test]
    fn rules_are_added_behind_the_last_one() {
        let patched = patch("p.yaml", FILE, "build", &["- host: n.example".to_owned()]).unwrap();
        assert_eq!(
            patched,
            "--- a/p.yaml\n+++ b/p.yaml\n@@ -5,6 +5,7 @@\n     rules:\n       - host: a.example\n         ports: [1]\n+      - host: n.example\n       # more\n \n     deny:\n"
        );
    }

    #[test]
    fn a_section_without_rules_gets_some() {
        let patched = patch("p.yaml", FILE, "other", &["- host: n.example".to_owned()]).unwrap();
        assert!(
            patched.contains("     include: [x]\n+    rules:\n+      - host: n.example\n \n"),
            "{patched}"
        );
    }

    #[test]
    fn what_is_written_in_brackets_is_not_guessed_at() {
        let add = |agent| patch("p.yaml", FILE, agent, &["- host: n.example".to_owned()]).unwrap_err();
        assert_eq!(add("flow"), PatchError::Flow(15));
        assert_eq!(add("wide"), PatchError::Flow(17));
        assert_eq!(add("nobody"), PatchError::NoAgent("nobody".to_owned()));
        assert_eq!(add("include"), PatchError::NoAgent("include".to_owned()));
        assert!(
            patch("p.yaml", "", "build", &[]).is_err() && patch("p.yaml", "agents:\n", "x", &[]).is_err()
        );
    }
}
