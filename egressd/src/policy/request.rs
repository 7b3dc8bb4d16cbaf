//! Methods and paths of requests, and patterns of them.

use super::glob::{covers, covers_text};
use std::fmt;

/// `METHOD /path`, as a rule's `allow` lists it: which requests may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPattern {
    /// None: every method.
    method: Option<String>,
    /// Between the slashes.
    segments: Vec<String>,
    /// None: whatever the query is.
    query: Option<String>,
}

impl RequestPattern {
    /// Parses `GET /repos/**`, `* /graphql` or `GET /search?q=*`.
    ///
    /// In a segment `*` stands for any octets, also none; a segment `**` for any number of segments, of
    /// which at the end of the pattern there must be one. A query is compared as it is written.
    ///
    /// # Errors
    /// The method is no word in capitals, or the path is not in the form in which paths are compared.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (method, target) = text.split_once(' ').ok_or(PatternError::Form)?;
        let is_word = !method.is_empty() && method.bytes().all(|octet| octet.is_ascii_uppercase());
        if method != "*" && !is_word {
            return Err(PatternError::Method(method.to_owned()));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if !path.starts_with('/') {
            return Err(PatternError::Form);
        }
        if query.is_some_and(|query| !query.bytes().all(|octet| octet.is_ascii_graphic())) {
            return Err(PatternError::Query);
        }
        let normal = RequestPath::parse(path)?;
        if normal.text != path {
            return Err(PatternError::Normal(normal.text));
        }
        let segments: Vec<String> = normal.segments().map(str::to_owned).collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(PatternError::Long);
        }
        Ok(Self {
            method: (method != "*").then(|| method.to_owned()),
            segments,
            query: query.map(str::to_owned),
        })
    }

    /// Whether a request with this method, path and query may pass by this pattern.
    #[must_use]
    pub fn covers(&self, method: &str, path: &RequestPath, query: Option<&str>) -> bool {
        let segments: Vec<&str> = path.segments().collect();
        self.method.as_ref().is_none_or(|own| own == method)
            && covers(
                &self.segments,
                &segments,
                |own| own == ANY_SEGMENTS,
                |own, other| covers_segment(own, other),
            )
            && self.query.as_ref().is_none_or(|own| query.is_some_and(|query| covers_text(own, query)))
    }
}

impl fmt::Display for RequestPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} /{}", self.method.as_deref().unwrap_or("*"), self.segments.join("/"))?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// Why a text is no pattern of requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("expected a method and a path, as in `GET /repos/**`")]
    Form,
    #[error("`{0}` is not a method: expected capital letters, or `*` for every method")]
    Method(String),
    #[error("paths are compared in their normal form, which is `{0}`")]
    Normal(String),
    #[error("a query holds visible ASCII characters")]
    Query,
    #[error("at most {MAX_SEGMENTS} segments are allowed")]
    Long,
    #[error(transparent)]
    Path(#[from] PathError),
}

/// A path that every server reads in the same way: unreserved characters are not encoded, there are no
/// dot segments and no empty ones but at the end (RFC 3986, section 6.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath {
    text: String,
}

impl RequestPath {
    /// Brings `path` into its normal form.
    ///
    /// # Errors
    /// Servers disagree about what it means, whatever its form.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH {
            return Err(PathError::Long);
        }
        let path = path.strip_prefix('/').ok_or(PathError::Relative)?;
        let decoded = decode_unreserved(path)?;
        let mut segments: Vec<&str> = Vec::new();
        let mut ends_in_folder = true;
        for segment in decoded.split('/') {
            ends_in_folder = matches!(segment, "" | "." | "..");
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop().ok_or(PathError::AboveRoot)?),
                segment => segments.push(segment),
            }
        }
        if ends_in_folder {
            segments.push("");
        }
        Ok(Self { text: format!("/{}", segments.join("/")) })
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a path has no one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not begin with `/`")]
    Relative,
    #[error("the path is longer than {MAX_PATH} octets")]
    Long,
    #[error("the path climbs above its root")]
    AboveRoot,
    #[error("the path holds a character that has to be encoded, or that servers read differently")]
    Character,
    #[error("the path holds `%` without two hexadecimal digits behind it")]
    Percent,
    #[error("the path holds an encoded character that servers read differently")]
    Encoded,
    #[error("the path is not UTF-8 once decoded")]
    NotText,
}

/// The longest path that is judged: servers commonly stop at 8 KiB.
pub const MAX_PATH: usize = 8 * 1024;

/// The most segments of a pattern. Comparing takes time by the product of both lengths.
const MAX_SEGMENTS: usize = 32;

const ANY_SEGMENTS: &str = "**";

/// Decodes what means the same in both forms, and spells the rest in one way (RFC 3986, section 6.2.2.2).
fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let mut normal = String::with_capacity(path.len());
    let mut meant = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        if *octet != b'%' {
            // A backslash is a slash to some; what follows `;` is to some no part of the path.
            if !octet.is_ascii_graphic() || matches!(octet, b'\\' | b';' | b'#' | b'?') {
                return Err(PathError::Character);
            }
            normal.push(char::from(*octet));
            meant.push(*octet);
            continue;
        }
        let code = encoded(rest).ok_or(PathError::Percent)?;
        rest = rest.get(2..).unwrap_or_default();
        if matches!(code, b'/' | b'\\' | b';' | 0..=0x1f | 0x7f) {
            return Err(PathError::Encoded);
        }
        meant.push(code);
        if code.is_ascii_alphanumeric() || matches!(code, b'-' | b'.' | b'_' | b'~') {
            normal.push(char::from(code));
        } else {
            normal.push_str(&format!("%{code:02X}"));
        }
    }
    // `%25` before two digits, however those are written, is another character to whoever decodes twice.
    if meant.windows(3).any(|three| three.starts_with(b"%") && encoded(&three[1..]).is_some()) {
        return Err(PathError::Encoded);
    }
    std::str::from_utf8(&meant).map(|_| normal).map_err(|_| PathError::NotText)
}

/// The octet that the first two digits of `digits` stand for.
fn encoded(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// An empty segment is only at the end of a path, and no `*` stands for it.
fn covers_segment(own: &str, other: &str) -> bool {
    if other.is_empty() { own.is_empty() } else { covers_text(own, other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_covers_what_it_says() {
        covers_all("GET /repos/**", &["/repos/", "/repos/a", "/repos/a/b/c", "/repos/a/"]);
        covers_none("GET /repos/**", &["/repos", "/", "/repo", "/x/repos/a", "/reposx/a"]);
        covers_all("GET /**", &["/", "/a", "/a/b"]);
        covers_all("GET /", &["/"]);
        covers_none("GET /", &["/a"]);
        covers_all("GET /repos/*/pulls", &["/repos/a/pulls"]);
        covers_none("GET /repos/*/pulls", &["/repos/a/b/pulls", "/repos/pulls", "/repos/a/pulls/"]);
        covers_all("GET /v*/x", &["/v/x", "/v1/x", "/v1.2/x"]);
        covers_all("GET /a/**/z", &["/a/z", "/a/b/z", "/a/z/z", "/a/b/c/z"]);
        covers_none("GET /a/**/z", &["/a/b", "/a/z/", "/b/z"]);
        covers_all("GET /*.git/info/refs", &["/x.git/info/refs", "/.git/info/refs"]);
        covers_none("GET /*", &["/", "/a/b"]);
        covers_all("GET /caf%C3%A9", &["/caf%c3%a9"]);
        covers_none("GET /Repos", &["/repos"]);
    }

    #[test]
    fn a_method_and_a_query_are_compared_where_the_pattern_names_them() {
        let covers = |pattern: &str, method: &str, query: Option<&str>| {
            RequestPattern::parse(pattern).unwrap().covers(method, &path("/x"), query)
        };
        assert!(covers("* /x", "DELETE", Some("a")) && covers("GET /x", "GET", Some("a")));
        assert!(!covers("GET /x", "get", None) && !covers("GET /x", "POST", None));
        assert!(covers("GET /x?a=*", "GET", Some("a=")) && covers("GET /x?a=*", "GET", Some("a=1")));
        assert!(!covers("GET /x?a=*", "GET", None) && !covers("GET /x?a=1", "GET", Some("a=1&b=2")));
    }

    #[test]
    fn a_path_that_servers_read_differently_is_refused() {
        for (text, error) in [
            ("x", PathError::Relative),
            ("", PathError::Relative),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
            ("/a%2fb", PathError::Encoded),
            ("/a%5Cb", PathError::Encoded),
            ("/a%00", PathError::Encoded),
            ("/a%0d%0a", PathError::Encoded),
            ("/a%3bb", PathError::Encoded),
            ("/%252e%252e/a", PathError::Encoded),
            ("/%25%32%65%25%32%65/a", PathError::Encoded),
            ("/%25%32e/a", PathError::Encoded),
            ("/%252%65/a", PathError::Encoded),
            ("/%25%35%63", PathError::Encoded),
            ("/a\\b", PathError::Character),
            ("/a;b=c/d", PathError::Character),
            ("/a b", PathError::Character),
            ("/a#b", PathError::Character),
            ("/caf\u{e9}", PathError::Character),
            ("/a%", PathError::Percent),
            ("/a%2", PathError::Percent),
            ("/a%zz", PathError::Percent),
            ("/%c3", PathError::NotText),
            ("/%c0%ae%c0%ae/", PathError::NotText),
        ] {
            assert_eq!(RequestPath::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(RequestPath::parse(&format!("/{}", "a".repeat(MAX_PATH))), Err(PathError::Long));
    }

    #[test]
    fn a_path_has_one_normal_form() {
        for (text, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/a//b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/", "/a/"),
            ("/%61%2Db%7e", "/a-b~"),
            ("/a%20b", "/a%20b"),
            ("/%e2%82%ac", "/%E2%82%AC"),
            ("/100%25", "/100%25"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
            ("/...", "/..."),
        ] {
            assert_eq!(path(text).to_string(), normal, "{text:?}");
        }
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for (text, error) in [
            ("/x", PatternError::Form),
            ("GET x", PatternError::Form),
            ("GET", PatternError::Form),
            ("get /x", PatternError::Method("get".to_owned())),
            (" /x", PatternError::Method(String::new())),
            ("GET /a//b", PatternError::Normal("/a/b".to_owned())),
            ("GET /%61", PatternError::Normal("/a".to_owned())),
            ("GET /a;b", PatternError::Path(PathError::Character)),
            ("GET /a?b c", PatternError::Query),
        ] {
            assert_eq!(RequestPattern::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(RequestPattern::parse(&format!("GET {}", "/a".repeat(33))), Err(PatternError::Long));
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = format!("GET {}", "/**/*a*a*a*".repeat(16));
        let path = path(&format!("/{}", "aaaa/".repeat(1_500)));
        assert!(!RequestPattern::parse(&pattern).unwrap().covers("GET", &path, None));
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(text in "/([a-z%0-9A-F./*;\\\\]|%25|%3[0-9]|%6[0-9a-f]){0,24}") {
            if let Ok(normal) = RequestPath::parse(&text) {
                prop_assert_eq!(RequestPath::parse(&normal.text), Ok(normal.clone()));
                prop_assert!(!normal.segments().any(|segment| matches!(segment, "." | "..")));
            }
        }

        #[test]
        fn stars_agree_with_a_matcher_that_tries_everything(own in "[ab*]{0,8}", other in "[ab]{0,8}") {
            prop_assert_eq!(covers_text(&own, &other), tries_everything(own.as_bytes(), other.as_bytes()));
        }
    }

    fn tries_everything(own: &[u8], other: &[u8]) -> bool {
        match own.split_first() {
            None => other.is_empty(),
            Some((b'*', rest)) => (0..=other.len()).any(|skipped| tries_everything(rest, &other[skipped..])),
            Some((octet, rest)) => other
                .split_first()
                .is_some_and(|(first, after)| first == octet && tries_everything(rest, after)),
        }
    }

    fn covers_all(pattern: &str, paths: &[&str]) {
        let parsed = RequestPattern::parse(pattern).unwrap();
        assert_eq!(parsed.to_string(), pattern);
        for text in paths {
            assert!(parsed.covers("GET", &path(text), None), "{pattern}: {text}");
        }
    }

    fn covers_none(pattern: &str, paths: &[&str]) {
        for text in paths {
            assert!(
                !RequestPattern::parse(pattern).unwrap().covers("GET", &path(text), None),
                "{pattern}: {text}"
            );
        }
    }

    fn path(text: &str) -> RequestPath {
        RequestPath::parse(text).unwrap()
    }
}
