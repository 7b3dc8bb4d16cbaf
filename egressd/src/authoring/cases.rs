//! Cases that stand beside a policy: what it must allow and deny, tried by the function that decides.

use crate::{
    config::{self, ConfigError, Policies},
    policy::{
        AgentName, AgentNameError, Asked, AskedError, Denial, Flow, Grants, Moment, Occasion, Permit, Policy,
        Reason, RequestDenial, Source, Workload,
    },
};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{Location, Spanned};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How the names of files with cases end.
pub const SUFFIX: &str = ".test.yaml";

/// A file of cases.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// The policy that they are about, as the file names it, relative to its own folder. None: the file beside
    /// it with the same name, without `.test`.
    pub policy: Option<PathBuf>,
    cases: Vec<Case>,
}

impl CaseFile {
    /// Reads the text of the file `name`.
    ///
    /// # Errors
    /// Shows what is wrong with it, and where.
    pub fn parse(name: &str, text: &str) -> Result<Self, CaseError> {
        let file: File = config::parse(name, text)?;
        if file.version != 1 {
            return Err(CaseError::Version(name.to_owned(), file.version));
        }
        let mut cases = Vec::new();
        for section in file.cases {
            section.into_cases(name, &mut cases)?;
        }
        match cases.is_empty() {
            true => Err(CaseError::Empty(name.to_owned())),
            false => Ok(Self { policy: file.policy.map(PathBuf::from), cases }),
        }
    }

    /// What `policies` say at `now` of each case, of an agent that was just started, in the order of the file.
    ///
    /// # Errors
    /// A case is about an agent that no section names or selects. The policy of `default` would serve it,
    /// or none, and what it denies would tell nothing of the one that was meant.
    pub fn run(&self, policies: &Policies, now: Timestamp) -> Result<Vec<Outcome>, CaseError> {
        let occasion = Occasion { time: now, age: Duration::ZERO };
        let outcome = |case: &Case| match is_known(policies, &case.workload) {
            true => Ok(case.run(&policies.for_workload(&case.workload), occasion)),
            false => {
                let known: Vec<&str> = policies.names().map(AgentName::as_str).collect();
                let agent = case.workload.name.clone();
                Err(CaseError::NoAgent(case.place.clone(), agent, known.join(", ")))
            }
        };
        self.cases.iter().map(outcome).collect()
    }
}

/// What a policy said of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// `file:line` of the case.
    pub place: String,
    pub agent: String,
    /// `HOST:PORT/PROTOCOL`, and of a URL what is asked for there.
    pub flow: String,
    pub passed: bool,
    /// `allow`, `deny` or `observe`, or the last two with ` (REASON)`.
    pub expected: String,
    /// The same.
    pub decided: String,
    /// The rule that decided, or came nearest.
    pub rule: Option<String>,
    #[serde(skip)]
    decided_by: Option<Source>,
}

fn is_known(policies: &Policies, workload: &Workload) -> bool {
    let is_selected = || policies.selectors().iter().any(|(selector, _)| selector.selects(workload));
    policies.names().any(|name| *name == workload.name) || is_selected() || policies.names().next().is_none()
}

/// The rules of `policies` that decided none of `outcomes`, in the order of their files.
#[must_use]
pub fn uncovered(policies: &Policies, outcomes: &[Outcome]) -> Vec<(Source, String)> {
    let covered: HashSet<&Source> =
        outcomes.iter().filter_map(|outcome| outcome.decided_by.as_ref()).collect();
    let mut rules: Vec<(Source, String)> = Vec::new();
    for agent in policies.names() {
        let policy = policies.for_agent(agent);
        for rule in policy.allow().iter().chain(policy.deny()) {
            let found = (rule.source.clone(), rule.subject.to_string());
            if !covered.contains(&rule.source) && !rules.contains(&found) {
                rules.push(found);
            }
        }
    }
    rules.sort_by(|(one, _), (other, _)| (&one.file, one.line).cmp(&(&other.file, other.line)));
    rules
}

/// Why a file of cases could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error("{0}: version {1} is not known: write `version: 1`")]
    Version(String, u64),
    #[error("{0}: there is no case in it: write `cases: [{{allow: [api.example.com]}}]`")]
    Empty(String),
    #[error("{0}: `{1}` is no destination: {2}")]
    Destination(String, String, AskedError),
    #[error("{0}: {1}")]
    Agent(String, AgentNameError),
    #[error("{0}: `{1}` is no path of a cgroup: write it as in `/proc/PID/cgroup`")]
    Cgroup(String, String),
    #[error("{0}: no agent `{1}`: the policy names {2}")]
    NoAgent(String, AgentName, String),
    #[error("{0}: `{1}` is no reason: they are listed in docs/audit-schema.md, such as `host-not-allowed`")]
    Reason(String, String),
}

#[derive(Debug, Clone)]
struct Case {
    place: String,
    workload: Workload,
    asked: Asked,
    expected: Expected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Allow,
    /// For this reason, or for any.
    Deny(Option<Reason>),
    /// It leaves, and is recorded as one that would be denied: for this reason, or for any.
    Observe(Option<Reason>),
}

impl Case {
    fn run(&self, given: &Policy, occasion: Occasion) -> Outcome {
        let policy = given.at(Some(occasion));
        let flow = self.asked.flow(&policy);
        let ended = |reason| given.ended_rule(flow.destination.name()?, reason, Some(occasion));
        let (decided, by) = match policy.decide(&flow, &Grants::default(), Moment::default()) {
            Ok(permit) => self.permitted(&permit),
            Err(denial) => match ended(denial.reason) {
                Some(rule) => (Expected::Deny(Some(Reason::RuleExpired)), Some(rule.source.clone())),
                None => {
                    let (port, protocol) = (Some(flow.port), Some(flow.protocol));
                    let Denial { reason, rule } = given.or_asked(denial, &flow.destination, port, protocol);
                    (Expected::Deny(Some(reason)), rule)
                }
            },
        };
        let passed = match (self.expected, decided) {
            (Expected::Deny(None), Expected::Deny(_)) | (Expected::Observe(None), Expected::Observe(_)) => {
                true
            }
            (expected, decided) => expected == decided,
        };
        let is_rule = match decided {
            Expected::Allow | Expected::Observe(_) => true,
            Expected::Deny(reason) => {
                matches!(
                    reason,
                    Some(Reason::DeniedByRule | Reason::RequestNotAllowed | Reason::RequestMalformed)
                )
            }
        };
        Outcome {
            place: self.place.clone(),
            agent: self.workload.name.to_string(),
            flow: self.show(&flow),
            passed,
            expected: self.expected.to_string(),
            decided: decided.to_string(),
            rule: by.as_ref().map(ToString::to_string),
            decided_by: by.filter(|_| is_rule),
        }
    }

    /// What becomes of a flow that leaves, and by which rule.
    fn permitted(&self, permit: &Permit) -> (Expected, Option<Source>) {
        let source = permit.source().cloned();
        if let Some(denial) = self.request_denied(permit) {
            return (Expected::Deny(Some(denial.reason())), source);
        }
        let Some(Denial { reason, rule }) = permit.observed() else { return (Expected::Allow, source) };
        let denying = rule.clone().filter(|_| *reason == Reason::DeniedByRule);
        (Expected::Observe(Some(*reason)), denying.or(source))
    }

    /// Why a rule that inspects lets a URL of the case not pass.
    fn request_denied(&self, permit: &Permit) -> Option<RequestDenial> {
        self.asked.request.as_ref()?.judge(permit.inspection()?).err()
    }

    fn show(&self, flow: &Flow) -> String {
        let destination = flow.destination.to_string();
        let host = if destination.contains(':') { format!("[{destination}]") } else { destination };
        let request = self.asked.request.as_ref().map(|request| format!(" {request}"));
        format!("{host}:{}/{}{}", flow.port, flow.protocol, request.unwrap_or_default())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny(None) => f.write_str("deny"),
            Self::Deny(Some(reason)) => write!(f, "deny ({reason})"),
            Self::Observe(None) => f.write_str("observe"),
            Self::Observe(Some(reason)) => write!(f, "observe ({reason})"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    policy: Option<String>,
    cases: Vec<Section>,
}

/// Cases of one agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    agent: Option<Spanned<String>>,
    uid: Option<u32>,
    cgroup: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<Denied>>,
    #[serde(default)]
    observe: Vec<Spanned<Denied>>,
}

impl Section {
    fn into_cases(self, file: &str, cases: &mut Vec<Case>) -> Result<(), CaseError> {
        let place = |location: Location| format!("{file}:{}", location.line());
        let workload = self.workload(file)?;
        let mut push = |place: String, host: &str, expected| {
            let asked = Asked::parse(host)
                .map_err(|error| CaseError::Destination(place.clone(), host.to_owned(), error))?;
            cases.push(Case { place, workload: workload.clone(), asked, expected });
            Ok::<(), CaseError>(())
        };
        for host in &self.allow {
            push(place(host.referenced), &host.value, Expected::Allow)?;
        }
        let denied = self.deny.iter().map(|denied| (denied, Expected::Deny as fn(_) -> _));
        let observed = self.observe.iter().map(|denied| (denied, Expected::Observe as fn(_) -> _));
        for (denied, expected) in denied.chain(observed) {
            let place = place(denied.referenced);
            let word = denied.value.reason.as_ref();
            let reason =
                word.map(|word| word.parse().map_err(|_| CaseError::Reason(place.clone(), word.clone())));
            push(place.clone(), &denied.value.host, expected(reason.transpose()?))?;
        }
        Ok(())
    }

    /// Whom the cases are about: a name that no file has is served by `default`, as an agent's is.
    fn workload(&self, file: &str) -> Result<Workload, CaseError> {
        let place = |location: Location| format!("{file}:{}", location.line());
        if let Some(path) = self.cgroup.as_ref().filter(|path| !path.value.starts_with('/')) {
            return Err(CaseError::Cgroup(place(path.referenced), path.value.clone()));
        }
        let is_selected = self.uid.is_some() || self.cgroup.is_some() || !self.labels.is_empty();
        let cgroup = self.cgroup.as_ref().map(|path| path.value.clone());
        let named = |word: &str, at| AgentName::parse(word).map_err(|error| CaseError::Agent(at, error));
        let name = match (&self.agent, is_selected) {
            (Some(name), _) => named(&name.value, place(name.referenced))?,
            (None, true) => Workload::usual_name(cgroup.as_deref().map(Path::new)),
            (None, false) => named("default", file.to_owned())?,
        };
        Ok(Workload { uid: self.uid, cgroup, labels: self.labels.clone(), ..Workload::named(name) })
    }
}

/// A destination, or one with the reason.
#[derive(Debug)]
struct Denied {
    host: String,
    reason: Option<String>,
}

impl<'de> Deserialize<'de> for Denied {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DeniedVisitor)
    }
}

struct DeniedVisitor;

impl<'de> Visitor<'de> for DeniedVisitor {
    type Value = Denied;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a destination, or `host` and `reason`")
    }

    fn visit_str<E>(self, text: &str) -> Result<Denied, E> {
        Ok(Denied { host: text.to_owned(), reason: None })
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Denied, M::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            host: String,
            reason: Option<String>,
        }
        let Whole { host, reason } = Whole::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Denied { host, reason })
    }
}
