//! A file line by line: how far each is indented, what it says, and the comment behind it.

/// One line that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    pub(super) indent: usize,
    /// Without the comment; empty in a line that is nothing else.
    pub(super) content: String,
    /// With its `#` and what stands before it.
    pub(super) comment: Option<String>,
    /// Whether empty lines stand above.
    pub(super) is_apart: bool,
}

/// Why a file is not laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}: lay it out by hand", if *line == 0 { String::new() } else { format!("line {line}: ") })]
pub struct FormatError {
    /// From 1; 0 where it is no single line.
    line: usize,
    why: &'static str,
}

impl FormatError {
    pub(super) fn at(line: usize, why: &'static str) -> Self {
        Self { line, why }
    }

    pub(super) fn unsure() -> Self {
        Self::at(0, "the file could lose something")
    }
}

/// The lines of `text` that are not empty.
pub(super) fn read(text: &str) -> Result<Vec<Line>, FormatError> {
    let mut lines = Vec::new();
    let mut is_apart = false;
    for (number, line) in text.lines().enumerate().map(|(nth, line)| (nth + 1, line)) {
        if line.contains(['\t', '\r', '\u{feff}', '\u{85}', '\u{2028}', '\u{2029}']) {
            return Err(FormatError::at(number, "there is a tab or an unusual line break"));
        }
        let trimmed = line.trim_start_matches(' ');
        if trimmed.trim_end().is_empty() {
            is_apart = true;
            continue;
        }
        if line.starts_with("---") || line.starts_with("...") || line.starts_with('%') {
            return Err(FormatError::at(number, "there is a mark of a document"));
        }
        let (content, comment) = split_comment(trimmed).map_err(|why| FormatError::at(number, why))?;
        let indent = line.len() - trimmed.len();
        lines.push(Line { number, indent, content, comment, is_apart });
        is_apart = false;
    }
    Ok(lines)
}

/// The texts of all comments.
pub(super) fn comments(lines: &[Line]) -> Vec<String> {
    lines.iter().filter_map(|line| line.comment.as_ref()).map(|comment| comment.trim().to_owned()).collect()
}

/// What a line says, and the comment with the spaces in front of it.
fn split_comment(line: &str) -> Result<(String, Option<String>), &'static str> {
    let mut scan = Scan::default();
    for (at, letter) in line.char_indices() {
        if letter == '#' && scan.may_be_comment() {
            if scan.depth > 0 {
                return Err("a value goes on over several lines");
            }
            let content = line.get(..at).unwrap_or_default().trim_end();
            let comment = line.get(content.len()..).unwrap_or_default().trim_end();
            return Ok((content.to_owned(), Some(comment.to_owned())));
        }
        scan.step(letter);
    }
    match scan.quote.is_some() || scan.depth > 0 {
        true => Err("a value goes on over several lines"),
        false => Ok((line.trim_end().to_owned(), None)),
    }
}

/// Where in a line the reader is.
#[derive(Debug, Default)]
struct Scan {
    quote: Option<char>,
    is_escaped: bool,
    /// Of brackets and braces.
    depth: usize,
    /// Whether something was said since a value could begin.
    is_inside: bool,
    before: Option<char>,
}

impl Scan {
    fn may_be_comment(&self) -> bool {
        self.quote.is_none() && self.before.is_none_or(|before| before == ' ')
    }

    fn step(&mut self, letter: char) {
        match self.quote {
            Some('"') if self.is_escaped => self.is_escaped = false,
            Some('"') if letter == '\\' => self.is_escaped = true,
            // A doubled single quote closes and opens again, which is the same to us.
            Some(quote) if letter == quote => self.quote = None,
            Some(_) => {}
            None => self.step_unquoted(letter),
        }
        self.before = Some(letter);
    }

    fn step_unquoted(&mut self, letter: char) {
        match letter {
            '"' | '\'' if !self.is_inside || self.before == Some('\'') => {
                self.quote = Some(letter);
                self.is_inside = true;
            }
            '[' | '{' if !self.is_inside => self.depth += 1,
            ']' | '}' if self.depth > 0 => {
                self.depth -= 1;
                self.is_inside = true;
            }
            ',' if self.depth > 0 => self.is_inside = false,
            ' ' if matches!(self.before, Some(':' | '-' | ',')) => self.is_inside = false,
            ' ' => {}
            '-' if !self.is_inside => {}
            _ => self.is_inside = true,
        }
    }
}
