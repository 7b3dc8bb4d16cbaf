//! What a rule says of requests, where TLS is ended for it.

use super::{
    decision::Reason,
    request::{PathError, RequestPath, RequestPattern},
};

/// The terms of a rule with `inspect: true`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Which requests may pass. None: all but those that no rule can open.
    pub allow: Option<Vec<RequestPattern>>,
    /// The most octets of one request's body.
    pub max_body: Option<u64>,
    /// The most octets of the bodies of all requests of one connection.
    pub max_bodies: Option<u64>,
    pub inject: Vec<Injection>,
}

/// A header field that is set in each request, with a value that the agent never sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// In lower case.
    pub header: String,
    /// The name of a credential in `egressd.yaml`.
    pub credential: String,
}

impl Inspection {
    /// Judges a request by its method and its target, `/path` or `/path?query`; returns the target that
    /// is to be sent: what was judged, so that the server reads what we read.
    ///
    /// # Errors
    /// No pattern allows it, or it has no one meaning.
    pub fn judge(&self, method: &str, target: &str) -> Result<String, RequestDenial> {
        if NEVER.contains(&method) {
            return Err(RequestDenial::MethodNever(method.to_owned()));
        }
        let Some(allow) = &self.allow else { return Ok(target.to_owned()) };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = RequestPath::parse(path)?;
        if !allow.iter().any(|pattern| pattern.covers(method, &path, query)) {
            return Err(RequestDenial::NotAllowed);
        }
        Ok(match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        })
    }

    /// Whether a header field called `header` could have a server read another method or path than was
    /// judged.
    #[must_use]
    pub fn refuses_header(&self, header: &str) -> bool {
        // Many servers read `_` as `-` (RFC 3875, section 4.1.18).
        self.allow.is_some() && OVERRIDES.contains(&header.replace('_', "-").as_str())
    }
}

/// Why a request is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestDenial {
    #[error("no pattern of the rule allows it")]
    NotAllowed,
    #[error("method {0} is never allowed")]
    MethodNever(String),
    #[error("what follows an upgrade cannot be judged")]
    Upgrade,
    #[error(transparent)]
    Path(#[from] PathError),
}

impl RequestDenial {
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotAllowed | Self::MethodNever(_) | Self::Upgrade => Reason::RequestNotAllowed,
            Self::Path(_) => Reason::RequestMalformed,
        }
    }
}

/// CONNECT makes a tunnel in which nothing is judged; TRACE shows the agent what it must not see (RFC
/// 9110, section 9.3.8).
const NEVER: [&str; 2] = ["CONNECT", "TRACE"];

/// By these, frameworks and gateways take another method or path for the request's own.
const OVERRIDES: [&str; 10] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-forwarded-uri",
    "x-original-path",
    "x-forwarded-path",
    "x-envoy-original-path",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_was_judged() {
        let inspection = allowing(&["GET /repos/**"]);
        let sent = |target| inspection.judge("GET", target);
        assert_eq!(sent("/repos/a?b=/../c"), Ok("/repos/a?b=/../c".to_owned()));
        assert_eq!(sent("//x/..//%72epos/./a"), Ok("/repos/a".to_owned()));
        assert_eq!(sent("/repos/../admin"), Err(RequestDenial::NotAllowed));
        assert_eq!(inspection.judge("POST", "/repos/a"), Err(RequestDenial::NotAllowed));
        assert_eq!(sent("/repos%2fa").map_err(|denial| denial.reason()), Err(Reason::RequestMalformed));
    }

    #[test]
    fn without_patterns_every_request_passes_as_it_is_but_no_trace_and_no_connect() {
        let inspection = Inspection::default();
        assert_eq!(inspection.judge("GET", "/@a%2fb//.."), Ok("/@a%2fb//..".to_owned()));
        for method in ["TRACE", "CONNECT"] {
            let denial = inspection.judge(method, "/").unwrap_err();
            assert_eq!(denial.reason(), Reason::RequestNotAllowed);
        }
        assert!(!inspection.refuses_header("x-http-method-override"));
        assert!(allowing(&["GET /"]).refuses_header("x-http-method-override"));
    }

    #[test]
    fn an_empty_list_of_patterns_allows_nothing() {
        assert_eq!(allowing(&[]).judge("GET", "/"), Err(RequestDenial::NotAllowed));
    }

    fn allowing(patterns: &[&str]) -> Inspection {
        let patterns = patterns.iter().map(|text| RequestPattern::parse(text).unwrap()).collect();
        Inspection { allow: Some(patterns), ..Inspection::default() }
    }
}
