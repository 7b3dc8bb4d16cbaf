//! The blocks of a file, with the comments above each of their entries.

use super::lines::{FormatError, Line};

/// What stands indented below a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) entries: Vec<Entry>,
    /// Comments behind the last entry.
    pub(super) tail: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mapping,
    Sequence,
}

/// A key with its value, or an item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Comments above it.
    pub(super) lead: Vec<Line>,
    pub(super) is_apart: bool,
    /// As it is written; empty in an item.
    pub(super) key: String,
    /// What stands in the same line; empty before a block.
    pub(super) value: String,
    pub(super) comment: Option<String>,
    pub(super) block: Option<Block>,
}

/// Reads a file whose outermost block is a mapping.
pub(super) fn parse(lines: &[Line]) -> Result<Block, FormatError> {
    let mut parser = Parser { lines: lines.to_vec(), at: 0 };
    let block = parser.block(0)?;
    match parser.lines.get(parser.at) {
        Some(line) => Err(FormatError::at(line.number, "the indentation fits no block")),
        None if block.kind == Kind::Sequence => Err(FormatError::at(1, "a file is no list")),
        None => Ok(block),
    }
}

struct Parser {
    lines: Vec<Line>,
    at: usize,
}

impl Parser {
    /// The block whose entries are indented by `indent`.
    fn block(&mut self, indent: usize) -> Result<Block, FormatError> {
        let first = self.next_content().ok_or_else(|| FormatError::at(0, "there is nothing in it"))?;
        let kind = if is_item(&first.content) { Kind::Sequence } else { Kind::Mapping };
        let mut block = Block { kind, entries: Vec::new(), tail: Vec::new() };
        while let Some(line) = self.next_content().filter(|line| line.indent == indent) {
            if is_item(&line.content) != (kind == Kind::Sequence) {
                break;
            }
            block.entries.push(self.entry(kind)?);
        }
        block.tail = self.tail(indent);
        Ok(block)
    }

    fn entry(&mut self, kind: Kind) -> Result<Entry, FormatError> {
        let lead = self.lead();
        let Some(line) = self.lines.get(self.at).cloned() else {
            return Err(FormatError::unsure());
        };
        match kind {
            Kind::Sequence => self.item(lead, &line),
            Kind::Mapping => self.pair(lead, line),
        }
    }

    fn pair(&mut self, lead: Vec<Line>, line: Line) -> Result<Entry, FormatError> {
        let refuse = |why| Err(FormatError::at(line.number, why));
        let Some((key, value)) = split_key(&line.content) else {
            return refuse("this is no key with a value, or a value goes on over several lines");
        };
        if value.starts_with(['|', '>', '&', '*', '!', '?', '@', '`', '%']) {
            return refuse("this kind of value is not laid out");
        }
        self.at += 1;
        let block = if value.is_empty() { self.below(line.indent)? } else { None };
        let (key, value) = (key.to_owned(), value.to_owned());
        Ok(Entry { lead, is_apart: line.is_apart, key, value, comment: line.comment, block })
    }

    /// The block below a key, if there is one. A list may stand as far left as its key.
    fn below(&mut self, indent: usize) -> Result<Option<Block>, FormatError> {
        match self.next_content() {
            Some(next) if next.indent > indent => {
                let indent = next.indent;
                self.block(indent).map(Some)
            }
            Some(next) if next.indent == indent && is_item(&next.content) => self.block(indent).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    fn item(&mut self, lead: Vec<Line>, line: &Line) -> Result<Entry, FormatError> {
        let rest = line.content.strip_prefix('-').unwrap_or_default();
        let content = rest.trim_start_matches(' ');
        if content.is_empty() || is_item(content) || content.starts_with(['|', '>', '&', '*', '!', '?']) {
            return Err(FormatError::at(line.number, "this kind of item is not laid out"));
        }
        let entry = Entry {
            lead,
            is_apart: line.is_apart,
            key: String::new(),
            value: String::new(),
            comment: None,
            block: None,
        };
        if split_key(content).is_none() {
            self.at += 1;
            return Ok(Entry { value: content.to_owned(), comment: line.comment.clone(), ..entry });
        }
        // The mapping begins behind the dash.
        let indent = line.indent + 1 + rest.len() - content.len();
        let content = content.to_owned();
        if let Some(held) = self.lines.get_mut(self.at) {
            *held = Line { indent, content, is_apart: false, ..line.clone() };
        }
        Ok(Entry { block: Some(self.block(indent)?), ..entry })
    }

    /// Comments that stand above the next content.
    fn lead(&mut self) -> Vec<Line> {
        let comments = self.lines.iter().skip(self.at).take_while(|line| line.content.is_empty());
        let lead: Vec<Line> = comments.cloned().collect();
        self.at += lead.len();
        lead
    }

    /// Comments behind the last entry of a block that are indented as it is, where something less indented
    /// follows.
    fn tail(&mut self, indent: usize) -> Vec<Line> {
        let is_last = self.next_content().is_none_or(|next| next.indent < indent);
        let is_inside = |line: &&Line| line.content.is_empty() && line.indent >= indent && is_last;
        let tail: Vec<Line> = self.lines.iter().skip(self.at).take_while(is_inside).cloned().collect();
        self.at += tail.len();
        tail
    }

    fn next_content(&self) -> Option<&Line> {
        self.lines.iter().skip(self.at).find(|line| !line.content.is_empty())
    }
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

/// The key of a line and its value, which may be empty; None for what is only a value.
fn split_key(content: &str) -> Option<(&str, &str)> {
    let end = match content.chars().next()? {
        quote @ ('"' | '\'') => {
            let rest = content.get(1..)?;
            let closing = rest.find(quote)?;
            closing + 2
        }
        '[' | '{' | '?' | '&' | '*' | '!' | ']' | '}' | ',' | '#' => return None,
        _ => content.find(": ").or_else(|| content.strip_suffix(':').map(str::len))?,
    };
    let value = content.get(end..)?.strip_prefix(':')?;
    let is_key = value.is_empty() || value.starts_with(' ');
    is_key.then_some((content.get(..end)?, value.trim()))
}
