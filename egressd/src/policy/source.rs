//! Where a rule is written.

use std::{fmt, ops::Deref, sync::Arc};

/// Where a rule is written, as `file:line`; `file:line@revision` where the file is that of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    pub file: SourceFile,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", &*self.file, self.line)?;
        self.file.revision().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// The file of a rule, as people are to read its name, and the revision that it is of. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceFile(Arc<(Box<str>, Option<Revision>)>);

impl SourceFile {
    #[must_use]
    pub fn new(name: &str, revision: Option<Revision>) -> Self {
        Self(Arc::new((name.into(), revision)))
    }

    #[must_use]
    pub fn revision(&self) -> Option<&Revision> {
        self.0.1.as_ref()
    }
}

impl From<&str> for SourceFile {
    fn from(name: &str) -> Self {
        Self::new(name, None)
    }
}

impl Deref for SourceFile {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.0
    }
}

/// The commit that policies were read from. Displays as its first [`Revision::SHOWN`] digits. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Enough to tell the commits of any repository of policies apart.
    pub const SHOWN: usize = 12;

    /// Reads the name of a commit as git writes it in full: 40 or 64 hexadecimal digits, in small letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |octet: u8| octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet);
        let is_whole = matches!(text.len(), 40 | 64) && text.bytes().all(is_digit);
        is_whole.then(|| Self(text.into()))
    }

    /// All digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..Self::SHOWN).unwrap_or(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_named_by_file_line_and_revision() {
        let revision = Revision::parse("0123456789abcdef0123456789abcdef01234567");
        assert_eq!(Source { file: "a.yaml".into(), line: 3 }.to_string(), "a.yaml:3");
        let file = SourceFile::new("p/a.yaml", revision);
        assert_eq!(Source { file, line: 3 }.to_string(), "p/a.yaml:3@0123456789ab");
    }

    #[test]
    fn what_is_no_whole_commit_is_no_revision() {
        for text in ["", "main", "0123456789ab", "--upload-pack=x", &"g".repeat(40), &"A".repeat(40)] {
            assert_eq!(Revision::parse(text), None, "{text}");
        }
        assert!(Revision::parse(&"a".repeat(64)).is_some());
    }
}
