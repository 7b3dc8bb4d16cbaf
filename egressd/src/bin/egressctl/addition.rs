//! A patch that adds rules to a policy file, and the folder in which it applies.

use crate::output::complain;
use anyhow::{Context, anyhow};
use egressd::{authoring, config::read_text};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A patch as `patch -p1` and `git apply` read it.
pub struct Addition {
    pub patch: String,
    /// Where it applies, unless that is here.
    folder: Option<PathBuf>,
}

impl Addition {
    /// Adds `rules` to those of the first of `agents` in `file` to which they can be added.
    pub fn to(file: &Path, agents: &[&str], rules: &[String]) -> anyhow::Result<Self> {
        let text = read_text(file)?;
        let (name, folder) = named(file)?;
        let mut outcome = Ok(String::new());
        for agent in agents {
            outcome = authoring::patch(&name, &text, agent, rules);
            if outcome.is_ok() {
                break;
            }
        }
        let patch = outcome.with_context(|| format!("failed to add rules to `{}`", file.display()))?;
        Ok(Self { patch, folder })
    }

    /// Says on stderr where it applies, unless that is here.
    pub fn say_where(&self) {
        if let Some(folder) = &self.folder {
            complain(&anyhow!("the patch is for `{}`: apply it there", folder.display()));
        }
    }
}

/// What a patch calls `file`: by its path from here or, where it is not below this folder, by its name in its own.
/// Neither `patch` nor `git` follows a path that is absolute or leads upwards.
fn named(file: &Path) -> anyhow::Result<(String, Option<PathBuf>)> {
    let failed = || format!("failed to find `{}`", file.display());
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(parent).with_context(failed)?;
    let own = file.file_name().with_context(failed)?;
    let here = fs::canonicalize(".").context("failed to find this folder")?;
    let (path, folder) = match folder.strip_prefix(&here) {
        Ok(below) => (below.join(own), None),
        Err(_) => (PathBuf::from(own), Some(folder)),
    };
    let name = path.to_str().filter(|name| !name.contains(char::is_control));
    let name = name.with_context(|| format!("`{}` has no name that a patch can hold", file.display()))?;
    Ok((name.to_owned(), folder))
}
