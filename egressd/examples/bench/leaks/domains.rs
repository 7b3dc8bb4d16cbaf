//! The domain that somebody registered, by the Public Suffix List.

use psl::{List, Psl, Type};

/// Which sections of the list count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sections {
    /// Suffixes of registries alone: everything below `amazonaws.com` is one domain.
    Icann,
    /// Those of hosts and clouds, too: each bucket is a domain of its own.
    All,
}

/// The registrable domain of `name`; None of a suffix itself.
pub fn registered(name: &str, sections: Sections) -> Option<&str> {
    let suffix = suffix(name, sections)?;
    let rest = name.strip_suffix(suffix)?.strip_suffix('.')?;
    let label = rest.rsplit('.').next()?;
    name.get(rest.len() - label.len()..)
}

fn suffix(name: &str, sections: Sections) -> Option<&str> {
    let suffix = List.suffix(name.as_bytes())?;
    let text = std::str::from_utf8(suffix.as_bytes()).ok()?;
    match (sections, suffix.typ()) {
        (Sections::Icann, Some(Type::Private)) => self::suffix(text.split_once('.')?.1, sections),
        (Sections::Icann | Sections::All, _) => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sections::*, *};

    #[test]
    fn what_clouds_give_away_is_registered_in_one_section_only() {
        let name = "bucket.s3.amazonaws.com";
        assert_eq!(registered(name, Icann), Some("amazonaws.com"));
        assert_eq!(registered(name, All), Some(name));
        assert_eq!(registered("a.b.example.co.uk", Icann), Some("example.co.uk"));
        assert_eq!(registered("me.github.io", Icann), Some("github.io"));
        assert_eq!(registered("co.uk", Icann), None);
        assert_eq!(registered("x.evil.test", Icann), Some("evil.test"));
    }
}
