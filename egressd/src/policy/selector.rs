//! Which agents a policy is for.

use super::{
    agent::AgentName,
    glob::{covers, covers_text},
};
use std::{collections::BTreeMap, ffi::OsStr, path::Path};

/// What is known of an agent before it has a policy. Whoever starts or adopts it says so; it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The name that was asked for: of several agents with that name, each has a number behind it.
    pub name: AgentName,
    /// The user that the first process runs as; None of an agent that was adopted.
    pub uid: Option<u32>,
    /// The path of the cgroup in its hierarchy, of an agent that was adopted.
    pub cgroup: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Workload {
    /// One of which only the name is known.
    #[must_use]
    pub fn named(name: AgentName) -> Self {
        Self { name, uid: None, cgroup: None, labels: BTreeMap::new() }
    }

    /// What it is called where nobody gave it a name: as its cgroup if that was adopted, else `agent`, which stands
    /// for what is no name, too.
    #[must_use]
    pub fn usual_name(cgroup: Option<&Path>) -> AgentName {
        let stem = cgroup.and_then(Path::file_stem).and_then(OsStr::to_str).unwrap_or_default();
        AgentName::parse(stem).or_else(|_| AgentName::parse("agent")).expect("`agent` is a name")
    }
}

/// What a workload must be to be meant. By default, none is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// In which `*` stands for any letters.
    pub name: Option<String>,
    /// A path, in which `*` stands for any letters of a segment, and a segment `**` for one or more.
    pub cgroup: Option<String>,
    pub uid: Option<u32>,
    /// Each of which it must have, with a value in which `*` stands for any letters.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether `workload` is all that is asked.
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        let Self { name, cgroup, uid, labels } = self;
        let has = |(key, pattern): (&String, &String)| {
            workload.labels.get(key).is_some_and(|value| covers_text(pattern, value))
        };
        *self != Self::default()
            && name.as_ref().is_none_or(|pattern| covers_text(pattern, workload.name.as_str()))
            && cgroup
                .as_ref()
                .is_none_or(|pattern| workload.cgroup.as_ref().is_some_and(|path| covers_path(pattern, path)))
            && uid.is_none_or(|uid| workload.uid == Some(uid))
            && labels.iter().all(has)
    }
}

fn covers_path(pattern: &str, path: &str) -> bool {
    let segments = |text: &'_ str| -> Vec<String> {
        text.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
    };
    covers(&segments(pattern), &segments(path), |own| own == "**", |own, other| covers_text(own, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_without_a_name_is_called_as_its_cgroup_where_that_is_a_name() {
        let called = |path: Option<&str>| Workload::usual_name(path.map(Path::new)).to_string();
        for (path, name) in [
            (Some("/system.slice/ci-1.service"), "ci-1"),
            (Some("/a/b/"), "b"),
            (Some("/"), "agent"),
            (Some("/a b"), "agent"),
            (None, "agent"),
        ] {
            assert_eq!(called(path), name, "{path:?}");
        }
    }

    #[test]
    fn a_selector_asks_for_all_that_it_names_and_means_nobody_where_it_names_nothing() {
        let labels = BTreeMap::from([("team".to_owned(), "web-7".to_owned())]);
        let name = AgentName::parse("ci-12").expect("a name");
        let workload =
            Workload { name, uid: Some(7), cgroup: Some("/system.slice/ci-12.service".to_owned()), labels };
        let of = |name: &str, cgroup: &str, uid: Option<u32>, label: Option<(&str, &str)>| Selector {
            name: (!name.is_empty()).then(|| name.to_owned()),
            cgroup: (!cgroup.is_empty()).then(|| cgroup.to_owned()),
            uid,
            labels: label.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        for (selector, selects) in [
            (Selector::default(), false),
            (of("ci-*", "", None, None), true),
            (of("ci", "", None, None), false),
            (of("", "/system.slice/*", None, None), true),
            (of("", "/system.slice/ci-*.service/", None, None), true),
            (of("", "/system.slice/**", None, None), true),
            (of("", "/*", None, None), false),
            (of("", "/**", None, None), true),
            (of("", "/system.slice", None, None), false),
            (of("", "", Some(7), None), true),
            (of("", "", Some(8), None), false),
            (of("", "", None, Some(("team", "web-*"))), true),
            (of("", "", None, Some(("team", "web"))), false),
            (of("", "", None, Some(("other", "*"))), false),
            (of("ci-*", "/system.slice/*", Some(7), Some(("team", "web-7"))), true),
            (of("ci-*", "/user.slice/*", Some(7), Some(("team", "web-7"))), false),
        ] {
            assert_eq!(selector.selects(&workload), selects, "{selector:?}");
        }
        let nameless = Workload::named(workload.name.clone());
        assert!(!of("", "/**", None, None).selects(&nameless), "no cgroup is known");
        assert!(!of("", "", Some(0), None).selects(&nameless), "no user is known");
    }
}
