//! `egressctl policy test`: the cases that stand beside policies.

use super::source::load_one;
use crate::output::{Colour, Format, json, sanitise};
use anyhow::{Context, ensure};
use egressd::{
    authoring::{CaseFile, Outcome, cases::SUFFIX, uncovered},
    config::{self, Policies},
};
use serde::Serialize;
use std::{
    fs,
    io::{self, Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Try the cases beside policies (`NAME.test.yaml`) by the matcher that enforces
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Test {
    /// Files of cases, or folders with such
    #[arg(value_name = "FILE", default_value = ".")]
    files: Vec<PathBuf>,

    /// List the rules that decided no case
    #[arg(long)]
    coverage: bool,
}

const AFTER: &str = "A file of cases:
  version: 1
  policy: build.yaml            # unless said, NAME.yaml beside NAME.test.yaml
  cases:
    - agent: build              # unless said, default
      allow: [api.example.com, \"db.example.com:5432/tcp\"]
      deny: [gist.github.com, {host: \"192.0.2.1:22\", reason: address-not-granted}]
      observe: [new.example.com]
    - labels: {team: web-1}     # or cgroup, uid, agent: what a section may select by
      allow: [cdn.example.com]

Exit codes:
  0  every case holds
  1  one does not
  2  a file does not compile, could not be read, is about an agent that its policy does not name, or
     there are no cases";

impl Test {
    pub fn act(self, format: Format) -> anyhow::Result<ExitCode> {
        let (mut outcomes, mut rest) = (Vec::new(), Vec::new());
        for path in case_files(&self.files)? {
            let (policies, held) = run(&path)?;
            if self.coverage {
                let rules = uncovered(&policies, &held).into_iter();
                rest.extend(rules.map(|(source, subject)| Uncovered { rule: source.to_string(), subject }));
            }
            outcomes.extend(held);
        }
        let has_failed = outcomes.iter().any(|outcome| !outcome.passed);
        let report = Report { cases: outcomes, uncovered: self.coverage.then_some(rest) };
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &report)?,
            Format::Text => print(&mut out, Colour::of(&stdout()), &report)?,
        }
        Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

#[derive(Debug, Serialize)]
struct Report {
    cases: Vec<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncovered: Option<Vec<Uncovered>>,
}

/// A rule that decided no case.
#[derive(Debug, Serialize)]
struct Uncovered {
    rule: String,
    subject: String,
}

fn run(path: &Path) -> anyhow::Result<(Policies, Vec<Outcome>)> {
    let cases = CaseFile::parse(&path.display().to_string(), &config::read_text(path)?)?;
    let policy = match &cases.policy {
        Some(policy) => path.parent().unwrap_or(Path::new("")).join(policy),
        None => beside(path)?,
    };
    let policies = load_one(&policy)?;
    let outcomes = cases.run(&policies, jiff::Timestamp::now())?;
    Ok((policies, outcomes))
}

/// `NAME.yaml` of `NAME.test.yaml`.
fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
    let name = name.with_context(|| {
        format!("`{}` does not say which policy it is about: add the key `policy`", path.display())
    })?;
    Ok(path.with_file_name(format!("{name}.yaml")))
}

/// The files of cases among `paths`, and those in the folders among them, by name.
fn case_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let listed = fs::read_dir(path).with_context(|| format!("failed to list `{}`", path.display()))?;
        let mut found = Vec::new();
        for entry in listed {
            let entry = entry.with_context(|| format!("failed to list `{}`", path.display()))?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(SUFFIX) && !name.starts_with('.') {
                found.push(entry);
            }
        }
        ensure!(!found.is_empty(), "`{}` holds no cases (`*{SUFFIX}`)", path.display());
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn print(out: &mut impl Write, colour: Colour, report: &Report) -> io::Result<()> {
    for Outcome { place, agent, flow, expected, decided, rule, .. } in
        report.cases.iter().filter(|outcome| !outcome.passed)
    {
        let word = colour.denied("failed");
        let (place, flow, agent) = (sanitise(place), sanitise(flow), sanitise(agent));
        write!(out, "{place}: {word}: {flow}, agent `{agent}`: expected {expected}, decided {decided}")?;
        match rule {
            Some(rule) => writeln!(out, " by {}", sanitise(rule))?,
            None => writeln!(out)?,
        }
    }
    for Uncovered { rule, subject } in report.uncovered.iter().flatten() {
        writeln!(out, "{}: {}: `{}`", sanitise(rule), colour.hint("no case"), sanitise(subject))?;
    }
    let failed = report.cases.iter().filter(|outcome| !outcome.passed).count();
    let uncovered =
        report.uncovered.as_ref().map(|rules| format!(", {} rule(s) without a case", rules.len()));
    let (cases, uncovered) = (report.cases.len(), uncovered.unwrap_or_default());
    writeln!(out, "{cases} case(s), {failed} failed{uncovered}")
}
