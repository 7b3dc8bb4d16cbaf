//! The regular expressions of `dstdom_regex` that say what a pattern of ours says.

use crate::{authoring::import::names::Reading, policy::Pattern};

/// What `regex` means, if it is one of the usual spellings of a name and what is below it.
pub(super) fn read(regex: &str) -> Reading {
    let unsaid = || Reading::Unreadable("no pattern of ours says what this expression does".to_owned());
    let Some(body) = regex.strip_suffix('$') else { return unsaid() };
    let spellings: &[(&str, &[&str])] = match body.strip_prefix('^') {
        Some(_) => &ANCHORED,
        None => &LOOSE,
    };
    let body = body.strip_prefix('^').unwrap_or(body);
    for (prefix, stars) in spellings {
        let Some(name) = body.strip_prefix(prefix).and_then(literal) else { continue };
        let patterns: Option<Vec<Pattern>> =
            stars.iter().map(|stars| Pattern::parse(&format!("{stars}{name}")).ok()).collect();
        if let Some(patterns) = patterns {
            return Reading::Names(patterns);
        }
    }
    unsaid()
}

/// What may stand between `^` and a name, with what it means.
const ANCHORED: [(&str, &[&str]); 10] = [
    (r"([^.]+\.)+", &["**."]),
    (r"([^.]+\.)*", &["", "**."]),
    (r"[^.]+\.", &["*."]),
    (r"([^.]+\.)?", &["", "*."]),
    (r"(.+\.)?", &["", "**."]),
    (r"(.*\.)?", &["", "**."]),
    (r".+\.", &["**."]),
    (r".*\.", &["**."]),
    (r"(.*\.)", &["**."]),
    ("", &[""]),
];

/// What may stand before a name where the expression may begin anywhere.
const LOOSE: [(&str, &[&str]); 4] =
    [(r"(^|\.)", &["", "**."]), (r"(\.|^)", &["", "**."]), (r"\.", &["**."]), (r".*\.", &["**."])];

/// The name of an expression in which nothing but dots is escaped. A bare `.` is any letter, so it is none.
fn literal(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split(r"\.").collect();
    let is_plain = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    parts.iter().all(is_plain).then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_expressions_are_patterns() {
        for (regex, patterns) in [
            (r"^api\.example\.com$", "api.example.com"),
            (r"\.example\.com$", "**.example.com"),
            (r"(^|\.)example\.com$", "example.com **.example.com"),
            (r"^[^.]+\.example\.com$", "*.example.com"),
            (r"^([^.]+\.)+example\.com$", "**.example.com"),
            (r"^(.+\.)?example\.com$", "example.com **.example.com"),
        ] {
            let Reading::Names(read) = read(regex) else { panic!("{regex}") };
            assert_eq!(
                read.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                patterns,
                "{regex}"
            );
        }
    }

    #[test]
    fn what_matches_more_than_it_seems_is_no_pattern() {
        for regex in
            [r"example\.com$", r"^example.com$", r"\.example\.com", r"^api-.*\.example\.com$", "x", "$", ""]
        {
            assert!(matches!(read(regex), Reading::Unreadable(_)), "{regex}");
        }
    }
}
