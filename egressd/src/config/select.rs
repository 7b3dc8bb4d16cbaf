//! Which agents a section is for.

use super::{diagnostic::Diagnostic, document::Document, file::SelectSection};
use crate::policy::Selector;
use serde_saphyr::Spanned;

/// The selector that a section's key sets.
pub(super) fn selector(
    document: &Document,
    section: &Spanned<SelectSection>,
) -> Result<Selector, Diagnostic> {
    let SelectSection { name, cgroup, uid, labels } = &section.value;
    let labels = labels.iter().flat_map(|labels| &labels.0);
    let selector = Selector {
        name: name.as_ref().map(|name| name.value.clone()),
        cgroup: cgroup.as_ref().map(|path| cgroup_path(document, path)).transpose()?,
        uid: uid.as_ref().map(|uid| uid.value),
        labels: labels.map(|(key, value)| (key.value.clone(), value.value.clone())).collect(),
    };
    match selector == Selector::default() {
        false => Ok(selector),
        true => Err(document
            .error(section.referenced, "`select` is empty, and selects nobody")
            .help("known keys here: name, cgroup, uid, labels")),
    }
}

fn cgroup_path(document: &Document, path: &Spanned<String>) -> Result<String, Diagnostic> {
    match path.value.starts_with('/') {
        true => Ok(path.value.clone()),
        false => Err(document
            .error(path.referenced, format!("`{}` is no path of a cgroup", path.value))
            .help("as in `/proc/PID/cgroup`: for example, /system.slice/ci-*.service")),
    }
}
