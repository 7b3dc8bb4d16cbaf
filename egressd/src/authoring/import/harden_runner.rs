//! The `allowed-endpoints` of `step-security/harden-runner` in a GitHub workflow.
//!
//! Read in step-security/agent (`config.go`, `dnsproxy.go`): endpoints stand apart by white space, without a
//! port they mean 443, and `*.example.com` is what ends with `.example.com`, however deep. A network is a name to it.

use super::{
    ImportError,
    draft::{At, Draft, Section},
    names::{Dialect, Numbers, Reach, distinct, read as read_host, split_port, tcp},
    tree::{self, Node},
};
use crate::authoring::fate::Fate;
use std::collections::HashMap;

const DIALECT: Dialect = Dialect {
    plain: Reach::Only,
    star: Reach::Below,
    two_stars: None,
    inner: Reach::Below,
    numbers: Numbers::Addresses,
};

/// Translates the endpoints of the one step, of a workflow or standing alone, or of the job that is chosen.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let documents = tree::yaml(draft.file, text, 1)?;
    let (jobs, steps): (Vec<String>, Vec<&Node>) = documents.iter().flat_map(steps).unzip();
    // A job may have several steps.
    let names = distinct(&jobs);
    let is_meant = |job: &String, name: &String| {
        draft.options.only.as_ref().is_none_or(|only| only == name || only == job)
    };
    let chosen: Vec<(&String, &Node)> = jobs
        .iter()
        .zip(&names)
        .zip(steps)
        .filter(|((job, name), _)| is_meant(job, name))
        .map(|((_, name), step)| (name, step))
        .collect();
    let Some((_, first)) = chosen.first() else {
        if !names.is_empty() {
            draft.choose(&names)?;
        }
        return Err(ImportError::Nothing("no step of harden-runner", draft.file.to_owned()));
    };
    if chosen.iter().any(|(_, step)| endpoints(step) != endpoints(first)) {
        let names = chosen.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ImportError::Several { file: draft.file.to_owned(), names });
    }
    step(first, text, draft);
    Ok(())
}

/// The steps with their jobs.
fn steps(document: &Node) -> Vec<(String, &Node)> {
    let jobs = document.get("jobs").map(Node::entries).unwrap_or_default();
    let in_jobs = jobs.iter().flat_map(|job| {
        let (name, steps) = (job.0.clone(), job.1.get("steps").map(Node::items).unwrap_or_default());
        steps.iter().map(move |step| (name.clone(), step))
    });
    // A list of steps, as people paste them, and the `runs` of a composite action.
    let loose = document.get("steps").or_else(|| document.at(&["runs", "steps"])).unwrap_or(document);
    let loose = loose.items().iter().map(|step| (String::new(), step));
    in_jobs.chain(loose).filter(|(_, step)| is_harden_runner(step)).collect()
}

fn is_harden_runner(step: &Node) -> bool {
    let uses = step.get("uses").and_then(Node::text).unwrap_or_default();
    uses.to_ascii_lowercase().starts_with("step-security/harden-runner@")
}

fn endpoints(step: &Node) -> Vec<&str> {
    let list = step.at(&["with", "allowed-endpoints"]).map(Node::items).unwrap_or_default();
    list.iter().filter_map(Node::text).flat_map(str::split_whitespace).collect()
}

fn step(step: &Node, text: &str, draft: &mut Draft<'_>) {
    let policy = step.at(&["with", "egress-policy"]);
    if policy.and_then(Node::text) != Some("block") {
        let place = policy.map_or(step.place.as_str(), |policy| policy.place.as_str());
        let was = policy.map_or_else(
            || "no egress-policy".to_owned(),
            |policy| format!("egress-policy: {}", policy.show()),
        );
        draft.note(
            At { place, was: &was },
            Fate::Narrowed,
            "it only watched; what is not allowed here is denied",
        );
    }
    if let Some(stored) = stored(step) {
        let why = "its endpoints are not in this file: paste them as `allowed-endpoints`";
        draft.lose(At { place: &stored.place, was: "a policy of the policy store" }, Section::Rules, why);
    }
    let Some(list) = step.at(&["with", "allowed-endpoints"]) else {
        let at = At { place: &step.place, was: "no allowed-endpoints" };
        return draft.note(at, Fate::Exact, "nothing is allowed");
    };
    let lines = Lines::behind(list, text);
    for endpoint in endpoints(step) {
        let place = format!("{}:{}", draft.file, lines.of(endpoint));
        let at = At { place: &place, was: endpoint };
        if endpoint.contains("${{") || endpoint.contains("}}") {
            draft.lose(at, Section::Rules, "an expression has no value before the workflow runs");
            continue;
        }
        let (host, port) = split_port(endpoint);
        match port.unwrap_or(Ok(443)) {
            Ok(port) => draft.allow(at, read_host(host, DIALECT), &tcp(&[port]), &[], None),
            Err(why) => draft.lose(at, Section::Rules, &why),
        }
    }
}

/// What says that endpoints are taken from elsewhere.
fn stored(step: &Node) -> Option<&Node> {
    let chosen = step.at(&["with", "use-policy-store"]).filter(|word| word.text() == Some("true"));
    chosen.or_else(|| step.at(&["with", "policy"]))
}

/// The first line of each word, at or behind that of the block that holds them.
struct Lines<'t> {
    start: usize,
    of: HashMap<&'t str, usize>,
}

impl<'t> Lines<'t> {
    fn behind(list: &Node, text: &'t str) -> Self {
        let start = list.place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok()).unwrap_or(1);
        let mut of = HashMap::new();
        for (index, line) in text.lines().enumerate().skip(start.saturating_sub(1)) {
            for word in line.split(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'')) {
                of.entry(word).or_insert(index + 1);
            }
        }
        Self { start, of }
    }

    fn of(&self, word: &str) -> usize {
        self.of.get(word).copied().unwrap_or(self.start)
    }
}
