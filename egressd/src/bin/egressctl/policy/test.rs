//! `egressctl policy test`: the cases that stand beside policies.

use super::{links::refuse_links, source::load_one};
use crate::output::{Colour, Format, json, sanitise};
use anyhow::{Context, bail, ensure};
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
    refuse_links(path)?;
    let text = config::read_text(path)?;
    let name = path.display().to_string();
    ensure!(
        !is_policy(&text),
        "`{name}` holds a policy and no cases: try `egressctl policy check`, or name its cases (`NAME{SUFFIX}`)"
    );
    let cases = CaseFile::parse(&name, &text)?;
    let policy = match &cases.policy {
        // Without what stays where it is, as in `policies/./build.yaml`.
        Some(policy) => path.parent().unwrap_or(Path::new("")).join(policy).components().collect(),
        None => beside(path)?,
    };
    let policies = load_one(&policy)?;
    let outcomes = cases.run(&policies, jiff::Timestamp::now())?;
    Ok((policies, outcomes))
}

/// Whether a text is to be a policy or an allowlist, by its keys.
fn is_policy(text: &str) -> bool {
    let has = |key| text.lines().any(|line| line.starts_with(key));
    config::is_allowlist(text) || ((has("agents:") || has("roles:")) && !has("cases:"))
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
        let found = cases_in(path)?;
        if found.is_empty() {
            bail!("`{}` holds no cases (`*{SUFFIX}`){}", path.display(), hint(path));
        }
        files.extend(found);
    }
    Ok(files)
}

/// The files of cases of one folder, by name.
fn cases_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in listed(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(SUFFIX) && !name.starts_with('.') {
            found.push(path);
        }
    }
    Ok(found)
}

/// The folder right below that holds some.
fn hint(folder: &Path) -> String {
    let below = listed(folder).unwrap_or_default().into_iter().filter(|path| path.is_dir());
    let has_cases = |path: &PathBuf| cases_in(path).is_ok_and(|found| !found.is_empty());
    let found = below.filter(has_cases).map(|path| path.components().collect::<PathBuf>()).next();
    found.map_or_else(String::new, |path| format!(": try `egressctl policy test {}`", path.display()))
}

/// What a folder holds, by name.
fn listed(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let failed = || format!("failed to list `{}`", folder.display());
    let listed = fs::read_dir(folder).with_context(failed)?;
    let mut paths =
        listed.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>().with_context(failed)?;
    paths.sort();
    Ok(paths)
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
