//! Benign names: what agents asked for in traces, by agent and registered domain.

use super::{
    alone::{A, AAAA},
    domains::{Sections, registered},
    subject::Query,
};
use egressd::policy::HostName;
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// One trace, or one half of it.
pub struct Corpus {
    pub title: String,
    pub lasts: Duration,
    pub agents: usize,
    pub pairs: Vec<Pair>,
    /// Rows that no resolver would forward for anyone: no host name, or a public suffix itself.
    pub skipped: usize,
    /// Rows that ask for something else than addresses.
    pub other_types: usize,
}

/// What one agent asked for of one domain. Names equal to the domain are left out: a rule that allows it
/// names it exactly. Some have no other.
pub struct Pair {
    /// The agent's number in the corpus.
    pub agent: usize,
    pub domain: String,
    pub queries: Vec<Query>,
}

/// One line of a trace.
pub struct Row {
    at: Duration,
    agent: String,
    name: String,
    kind: u16,
}

/// The rows of a gzipped TSV file in the order of their time; None if it is not here.
pub fn read(file: &Path) -> Option<Vec<Row>> {
    if !file.exists() {
        return None;
    }
    let output = Command::new("gzip").arg("-dc").arg(file).stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut rows: Vec<Row> = text.lines().filter_map(Row::parse).collect();
    rows.sort_by_key(|row| row.at);
    Some(rows)
}

impl Row {
    pub fn at(&self) -> Duration {
        self.at
    }

    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split('\t');
        let at = Duration::try_from_secs_f64(columns.next()?.parse().ok()?).ok()?;
        let (agent, name) = (columns.next()?.to_owned(), columns.next()?.to_ascii_lowercase());
        Some(Self { at, agent, name, kind: columns.next()?.parse().ok()? })
    }
}

impl Corpus {
    /// The rows between two moments, whose first is the beginning of the corpus.
    pub fn of(title: &str, rows: &[Row], from: Duration, until: Duration, sections: Sections) -> Self {
        let mut corpus = Self {
            title: title.to_owned(),
            lasts: until - from,
            agents: 0,
            pairs: Vec::new(),
            skipped: 0,
            other_types: 0,
        };
        let mut agents: BTreeMap<&str, usize> = BTreeMap::new();
        let mut pairs: BTreeMap<(usize, &str), Vec<Query>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.at >= from && row.at < until) {
            let count = agents.len();
            let agent = *agents.entry(&row.agent).or_insert(count);
            let is_host_name = HostName::parse(&row.name).is_ok();
            let Some(domain) = registered(&row.name, sections).filter(|_| is_host_name) else {
                corpus.skipped += 1;
                continue;
            };
            if !matches!(row.kind, A | AAAA) {
                corpus.other_types += 1;
                continue;
            }
            let queries = pairs.entry((agent, domain)).or_default();
            if domain != row.name {
                let name = row.name.clone().into_bytes();
                queries.push(Query { at: row.at - from, agent: 0, name, kind: row.kind });
            }
        }
        let pair = |((agent, domain), queries): ((usize, &str), _)| Pair {
            agent,
            domain: domain.to_owned(),
            queries,
        };
        corpus.agents = agents.len();
        corpus.pairs = pairs.into_iter().map(pair).collect();
        corpus
    }

    /// Questions for names below their domains.
    pub fn queries(&self) -> usize {
        self.pairs.iter().map(|pair| pair.queries.len()).sum()
    }

    pub fn agent_hours(&self) -> f64 {
        self.agents as f64 * self.lasts.as_secs_f64() / 3600.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_by_agent_and_domain() {
        let text = "#t_rel\tagent\tname\tqtype\tttl\n1.5\ta\tx.Example.com\t1\t60\n2\tb\tx.example.com\t28\t0\n\
                    3\ta\texample.com\t1\t1\n4\ta\tlocal\t6\t1\n5\ta\ty.example.com\t33\t1\n";
        let rows: Vec<Row> = text.lines().filter_map(Row::parse).collect();
        let seconds = Duration::from_secs;
        let corpus = Corpus::of("test", &rows, seconds(1), seconds(9), Sections::Icann);
        assert_eq!((corpus.agents, corpus.pairs.len(), corpus.queries()), (2, 2, 2));
        assert_eq!((corpus.skipped, corpus.other_types), (1, 1));
        assert_eq!(corpus.pairs[0].queries[0].at, Duration::from_millis(500));
    }
}
