//! The daemon's figures, on the wire and as the text that monitors read.

use crate::audit::is_unprintable;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

/// One element of `GET /v1/metrics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// As in `egressd_denials_total`.
    pub name: String,
    pub kind: MetricKind,
    pub help: String,
    /// No two have the same labels.
    pub samples: Vec<Sample>,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// It only grows, until the daemon starts anew.
    Counter,
    Gauge,
}

impl MetricKind {
    /// The word of the text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Metrics as text: the exposition format of Prometheus, version 0.0.4, which OpenMetrics grew from. node_exporter
/// reads no other from files.
pub struct Exposition<'a>(pub &'a [Metric]);

impl Exposition<'_> {
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

impl fmt::Display for Exposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Metric { name, kind, help, samples } in self.0 {
            writeln!(f, "# HELP {name} {}", escaped(help))?;
            writeln!(f, "# TYPE {name} {}", kind.as_str())?;
            for Sample { labels, value } in samples {
                writeln!(f, "{name}{} {value}", Labels(labels))?;
            }
        }
        Ok(())
    }
}

struct Labels<'a>(&'a BTreeMap<String, String>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = '{';
        for (label, value) in self.0 {
            write!(f, "{separator}{label}=\"{}\"", escaped(value))?;
            separator = ',';
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

/// `text` with nothing in it that would end a label, or that a terminal would obey.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            // Its own escape has a backslash, which is one of the text by then.
            other if is_unprintable(other) => {
                escaped.push('\\');
                escaped.extend(other.escape_default());
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_the_format() {
        let sample = |labels: &[(&str, &str)], value| Sample {
            labels: labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
            value,
        };
        let metric = |name: &str, kind, samples| Metric {
            name: name.to_owned(),
            kind,
            help: "A \\ and\na line.".to_owned(),
            samples,
        };
        let hostile = "a\\b\"c\nd\u{1b}[2J";
        let metrics = [
            metric("a_total", MetricKind::Counter, vec![sample(&[("x", hostile), ("a", "é")], 3.0)]),
            metric("b_seconds", MetricKind::Gauge, vec![sample(&[], 1_763_791_099.123)]),
            metric("c", MetricKind::Gauge, Vec::new()),
        ];
        let expected = concat!(
            "# HELP a_total A \\\\ and\\na line.\n# TYPE a_total counter\n",
            "a_total{a=\"é\",x=\"a\\\\b\\\"c\\nd\\\\u{1b}[2J\"} 3\n",
            "# HELP b_seconds A \\\\ and\\na line.\n# TYPE b_seconds gauge\nb_seconds 1763791099.123\n",
            "# HELP c A \\\\ and\\na line.\n# TYPE c gauge\n",
        );
        assert_eq!(Exposition(&metrics).to_string(), expected);
    }

    #[test]
    fn no_number_is_written_with_an_exponent_or_cut() {
        let text = |value| {
            let samples = vec![Sample { labels: BTreeMap::new(), value }];
            let metric =
                Metric { name: "a".to_owned(), kind: MetricKind::Gauge, help: String::new(), samples };
            Exposition(&[metric]).to_string().lines().last().map(str::to_owned)
        };
        assert_eq!(text(9_007_199_254_740_991.0).as_deref(), Some("a 9007199254740991"));
        assert_eq!(text(0.125).as_deref(), Some("a 0.125"));
    }
}
