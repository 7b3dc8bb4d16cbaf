//! From blocks to the text of a file.

use super::{
    lines::Line,
    tree::{Block, Entry, Kind},
};
use std::fmt::Write as _;

/// The text of a file.
pub(super) fn write(file: &Block) -> String {
    let mut text = String::new();
    block(&mut text, file, 0);
    text
}

fn block(text: &mut String, own: &Block, indent: usize) {
    for (nth, entry) in own.entries.iter().enumerate() {
        lead(text, entry, indent, nth == 0);
        match own.kind {
            Kind::Mapping => pair(text, entry, indent),
            Kind::Sequence => item(text, entry, indent),
        }
    }
    comments(text, &own.tail, indent, false);
}

/// The comments above an entry, and the empty lines around them but for those at the start of a block.
fn lead(text: &mut String, entry: &Entry, indent: usize, is_first: bool) {
    comments(text, &entry.lead, indent, is_first);
    let is_headed = !entry.lead.is_empty();
    if entry.is_apart && (is_headed || !is_first) {
        text.push('\n');
    }
}

fn comments(text: &mut String, lines: &[Line], indent: usize, is_first: bool) {
    for (nth, line) in lines.iter().enumerate() {
        if line.is_apart && !(is_first && nth == 0) {
            text.push('\n');
        }
        let comment = line.comment.as_deref().unwrap_or_default().trim();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:indent$}{comment}", "");
    }
}

fn pair(text: &mut String, entry: &Entry, indent: usize) {
    let _ = write!(text, "{:indent$}", "");
    key_and_value(text, entry, indent);
}

fn key_and_value(text: &mut String, entry: &Entry, indent: usize) {
    text.push_str(&entry.key);
    text.push(':');
    if !entry.value.is_empty() {
        text.push(' ');
        text.push_str(&quoted(&entry.value));
    }
    end(text, entry);
    if let Some(below) = &entry.block {
        block(text, below, indent + STEP);
    }
}

fn item(text: &mut String, entry: &Entry, indent: usize) {
    let Some(below) = &entry.block else {
        let _ = write!(text, "{:indent$}- {}", "", quoted(&entry.value));
        return end(text, entry);
    };
    let Some((first, rest)) = below.entries.split_first() else { return };
    // Above the dash, for there is no room behind it.
    comments(text, &first.lead, indent, true);
    let _ = write!(text, "{:indent$}- ", "");
    key_and_value(text, first, indent + STEP);
    let rest = Block { kind: below.kind, entries: rest.to_vec(), tail: below.tail.clone() };
    for entry in &rest.entries {
        lead(text, entry, indent + STEP, false);
        pair(text, entry, indent + STEP);
    }
    comments(text, &rest.tail, indent + STEP, false);
}

/// How much further a block is indented than what it stands below.
const STEP: usize = 2;

/// The comment behind a value, as far from it as it was, and the end of the line.
fn end(text: &mut String, entry: &Entry) {
    text.push_str(entry.comment.as_deref().unwrap_or_default());
    text.push('\n');
}

/// A value in single quotes in double ones, where these say the same.
fn quoted(value: &str) -> String {
    let inside = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match inside.filter(|inside| !inside.contains(['\'', '"', '\\']) && !value.eq("'")) {
        Some(inside) => format!("\"{inside}\""),
        None => value.to_owned(),
    }
}
