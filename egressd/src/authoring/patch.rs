//! Adds rules to the text of a policy file, as a unified diff.

use std::fmt::Write as _;

/// A unified diff of `file`, whose text is `text`, that adds `rules` (lines of YAML) to those of `agent`.
///
/// # Errors
/// The file is not written in the way in which lines can be added.
pub fn patch(file: &str, text: &str, agent: &str, rules: &[String]) -> Result<String, PatchError> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let ends_within_a_line = lines.pop_if(|last| last.is_empty()).is_none();
    let mut edit = edit(&lines, agent, rules)?;
    // Of a file with the line ends of another system.
    if lines.iter().all(|line| line.ends_with('\r')) {
        edit.added.iter_mut().for_each(|line| line.push('\r'));
    }
    if let (true, true, Some(last)) = (ends_within_a_line, edit.at == lines.len(), lines.last()) {
        edit.added.insert(0, (*last).to_owned());
        edit = Edit { at: edit.at - 1, removed: 1, ..edit };
    }
    Ok(diff(file, &lines, ends_within_a_line, &edit))
}

/// Why nothing can be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("no agent `{0}` with lines of its own: add it to `agents:` first")]
    NoAgent(String),
    #[error("line {0} holds its value in brackets: write it on lines of its own first")]
    Flow(usize),
}

/// Lines in the place of others.
struct Edit {
    /// The first line that changes, or before which lines are added, counted from 0.
    at: usize,
    removed: usize,
    added: Vec<String>,
}

fn edit(lines: &[&str], agent: &str, rules: &[String]) -> Result<Edit, PatchError> {
    let items = |indent: usize| rules.iter().map(move |rule| format!("{:indent$}{rule}", ""));
    let headed = |indent: usize| std::iter::once(format!("{:indent$}rules:", "")).chain(items(indent + 2));
    let agent_at = line_of(lines, agent)?;
    let indent = indent_of(lines[agent_at]);
    if let Some(opened) = opened(lines[agent_at], "{", "}") {
        let added = std::iter::once(opened).chain(headed(indent + 2)).collect();
        return Ok(Edit { at: agent_at, removed: 1, added });
    }
    let section = section_at(lines, agent_at, agent)?;
    let Some(at) = key_in(lines, &section, "rules") else {
        let at = end_of(lines, section.lines.clone());
        return Ok(Edit { at, removed: 0, added: headed(section.indent).collect() });
    };
    let indent = indent_of(lines[at]);
    if let Some(opened) = opened(lines[at], "[", "]") {
        let added = std::iter::once(opened).chain(items(indent + 2)).collect();
        return Ok(Edit { at, removed: 1, added });
    }
    if !is_open(lines[at]) {
        return Err(PatchError::Flow(at + 1));
    }
    let list = block(lines, at + 1, |line| indent_of(line) > indent || is_item(line));
    let first = lines[list.clone()].iter().find(|line| is_item(line));
    let indent = first.map_or(indent + 2, |line| indent_of(line));
    Ok(Edit { at: end_of(lines, list), removed: 0, added: items(indent).collect() })
}

/// The line of a key that holds nothing in brackets, without these.
fn opened(line: &str, open: &str, close: &str) -> Option<String> {
    let (key, value) = line.split_once(':')?;
    let rest = value.trim_start().strip_prefix(open)?.trim_start().strip_prefix(close)?;
    match rest.trim() {
        "" => Some(format!("{key}:")),
        comment if comment.starts_with('#') && rest.starts_with([' ', '\t']) => {
            Some(format!("{key}:   {comment}"))
        }
        _ => None,
    }
}

/// The lines under a key.
struct Section {
    lines: std::ops::Range<usize>,
    /// Of the keys in it.
    indent: usize,
}

/// The line of the agent's key.
fn line_of(lines: &[&str], agent: &str) -> Result<usize, PatchError> {
    let none = || PatchError::NoAgent(agent.to_owned());
    let agents = lines.iter().position(|line| line.trim_end() == "agents:").ok_or_else(none)?;
    let mut all = block(lines, agents + 1, |line| indent_of(line) > 0);
    let spellings = [format!("{agent}:"), format!("\"{agent}\":"), format!("'{agent}':")];
    let first = all.clone().find(|at| is_content(lines[*at])).ok_or_else(none)?;
    let is_agent = |line: &str| indent_of(line) == indent_of(lines[first]);
    let is_named = |line: &str| {
        is_agent(line) && spellings.iter().any(|own| line.trim_start().starts_with(own.as_str()))
    };
    all.find(|at| is_named(lines[*at])).ok_or_else(none)
}

fn section_at(lines: &[&str], at: usize, agent: &str) -> Result<Section, PatchError> {
    if !is_open(lines[at]) {
        return Err(PatchError::Flow(at + 1));
    }
    let own = block(lines, at + 1, |line| indent_of(line) > indent_of(lines[at]));
    let first = own.clone().find(|at| is_content(lines[*at]));
    let first = first.ok_or_else(|| PatchError::NoAgent(agent.to_owned()))?;
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

/// One hunk that makes `edit`. A file may end within a line, which it then says of it.
fn diff(file: &str, lines: &[&str], ends_within_a_line: bool, edit: &Edit) -> String {
    let Edit { at, removed, added } = edit;
    let behind = at + removed;
    let (from, to) = (at.saturating_sub(CONTEXT), (behind + CONTEXT).min(lines.len()));
    let (old, new) = (to - from, to - from - removed + added.len());
    // A name with blanks ends at a tab.
    let end = if file.contains(' ') { "\t" } else { "" };
    let mut text =
        format!("--- a/{file}{end}\n+++ b/{file}{end}\n@@ -{},{old} +{},{new} @@\n", from + 1, from + 1);
    let write = |sign: char, range: std::ops::Range<usize>, text: &mut String| {
        for at in range {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{sign}{}", lines[at]);
            if ends_within_a_line && at + 1 == lines.len() {
                text.push_str("\\ No newline at end of file\n");
            }
        }
    };
    write(' ', from..*at, &mut text);
    write('-', *at..behind, &mut text);
    for line in added {
        let _ = writeln!(text, "+{line}");
    }
    write(' ', behind..to, &mut text);
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
    fn empty_brackets_are_replaced() {
        let added = |text: &str, agent| {
            let patched = patch("p.yaml", text, agent, &["- host: n.example".to_owned()]).unwrap();
            patched.split_once(" @@\n").unwrap().1.to_owned()
        };
        let text = "agents:\n  build:\n    rules: [ ]  # none yet\n    deny: []\n  empty: {}\n";
        assert_eq!(
            added(text, "build"),
            " agents:\n   build:\n-    rules: [ ]  # none yet\n+    rules:   # none yet\n+      - host: n.example\n     deny: []\n   empty: {}\n"
        );
        assert_eq!(
            added(text, "empty"),
            "   build:\n     rules: [ ]  # none yet\n     deny: []\n-  empty: {}\n+  empty:\n+    rules:\n+      - host: n.example\n"
        );
    }

    /// As `patch` and `git` read it.
    #[test]
    fn a_file_keeps_the_ends_of_its_lines() {
        let added = |text: &str| patch("my p.yaml", text, "a", &["- host: n.example".to_owned()]).unwrap();
        assert_eq!(
            added("agents:\n  a:\n    rules:\n    - host: x"),
            "--- a/my p.yaml\t\n+++ b/my p.yaml\t\n@@ -1,4 +1,5 @@\n agents:\n   a:\n     rules:\n-    - host: x\n\\ No newline at end of file\n+    - host: x\n+    - host: n.example\n"
        );
        assert!(added("agents:\n  a:\n    rules: []").ends_with(
            "-    rules: []\n\\ No newline at end of file\n+    rules:\n+      - host: n.example\n"
        ));
        assert!(
            added("agents:\n  a:\n    rules:\n    - host: x\n    deny: []")
                .ends_with("+    - host: n.example\n     deny: []\n\\ No newline at end of file\n")
        );
        assert!(
            added("agents:\r\n  a:\r\n    rules:\r\n    - host: x\r\n")
                .ends_with("     rules:\r\n     - host: x\r\n+    - host: n.example\r\n")
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
