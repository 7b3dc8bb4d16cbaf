//! What a policy verb reads: files, folders with files, and what git remembers of either.

use super::{links::refuse_links, revision::Revision};
use anyhow::{bail, ensure};
use egressd::{
    authoring::cases::SUFFIX,
    config::{self, ConfigError, DaemonConfig, Loader, Policies},
    policy::{AgentName, Workload},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Policies, and what their places are to be called by.
pub struct Loaded {
    pub policies: Policies,
    renamed: Option<(String, String)>,
}

impl Loaded {
    /// The policies at `text`: a file, a folder, or `REVISION:PATH` where no file is called so.
    pub fn of(text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        ensure!(
            path.exists() || text.contains(':'),
            "failed to find `{text}`: of a revision, name a file or folder: `{text}:./policy.yaml`"
        );
        if path.exists() {
            return Ok(Self { policies: load_one(path)?, renamed: None });
        }
        let revision = Revision::read(text)?;
        let renamed = revision.renamed();
        let rename = |error: anyhow::Error| {
            let told = format!("{error:#}").replace(&renamed.0, &renamed.1);
            anyhow::anyhow!(told).context(format!("`{text}` is not a policy"))
        };
        let policies = load_one(revision.path()).map_err(rename)?;
        Ok(Self { policies, renamed: Some(renamed) })
    }

    /// `place` as whoever asked knows it.
    pub fn place(&self, place: &str) -> String {
        match &self.renamed {
            Some((from, to)) => place.replace(from, to),
            None => place.to_owned(),
        }
    }
}

/// The policies of files, and of the files in folders, as the daemon compiles them.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Policies> {
    let dirs = DaemonConfig::default().allowlist_dirs;
    Ok(Loader::new(&dirs).without_secrets().load(&files(paths)?)?)
}

/// The same of files among which allowlists may be, each of which is the policy of an agent `default`: first
/// the policies, which may lean on each other's roles, then allowlist by allowlist.
pub fn load_each(paths: &[PathBuf]) -> anyhow::Result<Vec<Policies>> {
    let (mut policies, mut loaded) = (Vec::new(), Vec::new());
    let dirs = DaemonConfig::default().allowlist_dirs;
    for path in files(paths)? {
        let text = config::read_text(&path)?;
        match config::is_allowlist(&text) {
            true => loaded.push(draft(&path, &text, &dirs)?),
            false => policies.push(path),
        }
    }
    if !policies.is_empty() {
        let loader = Loader::new(&dirs).without_secrets();
        loaded.insert(0, leaning(&policies, |beside| loader.load_with(&policies, beside))?);
    }
    Ok(loaded)
}

/// The policies of a file, which may be an allowlist, or of a folder.
pub fn load_one(path: &Path) -> anyhow::Result<Policies> {
    if path.is_dir() {
        return load(&[path.to_owned()]);
    }
    refuse_links(path)?;
    draft(path, &config::read_text(path)?, &DaemonConfig::default().allowlist_dirs)
}

/// The policies of the text that the file at `path` has, or will have. It may extend roles of the files beside it.
pub fn draft(path: &Path, text: &str, dirs: &[PathBuf]) -> anyhow::Result<Policies> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (loader, name) = (Loader::new(dirs).without_secrets(), path.display().to_string());
    leaning(&[path.to_owned()], |beside| loader.draft(&name, text, folder, beside))
}

/// What `load` makes of `files` by themselves, else with the files whose roles they may extend.
fn leaning(
    files: &[PathBuf],
    load: impl Fn(&[PathBuf]) -> Result<Policies, ConfigError>,
) -> anyhow::Result<Policies> {
    let alone = match load(&[]) {
        Ok(policies) => return Ok(policies),
        Err(error) => error,
    };
    let beside = beside(files);
    if beside.is_empty() {
        return Err(alone.into());
    }
    let error = match load(&beside) {
        Ok(policies) => return Ok(policies),
        Err(error) => error,
    };
    // Of a file beside that is wrong itself, and not what keeps these from it, nobody asked.
    let is_better = error.diagnostics().len() <= alone.diagnostics().len();
    Err(if is_better { error } else { alone }.into())
}

/// The files with roles beside `files`; none where a folder cannot be listed.
fn beside(files: &[PathBuf]) -> Vec<PathBuf> {
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    let listed = |folder: &&Path| {
        let folder = if *folder == Path::new("") { Path::new(".") } else { folder };
        config::load_dir(folder).unwrap_or_default()
    };
    let is_given =
        |found: &PathBuf| files.iter().any(|file| Path::new(".").join(file) == Path::new(".").join(found));
    let has_roles = |path: &PathBuf| {
        config::read_text(path).is_ok_and(|text| text.contains("roles") && !config::is_allowlist(&text))
    };
    let found = folders.iter().flat_map(listed).filter(|found| !is_given(found));
    found.filter(|found| refuse_links(found).is_ok() && has_roles(found)).collect()
}

/// The agent that is asked about: the one that was named, else `default`, else the only one.
pub fn agent_of(policies: &Policies, named: Option<&str>) -> anyhow::Result<AgentName> {
    let agent = AgentName::parse(named.unwrap_or("default"))?;
    let mut names = policies.names();
    match (names.next(), names.next()) {
        // Nothing is allowed to whomever.
        (None, _) => Ok(agent),
        (Some(_), _) if policies.section_for(&Workload::named(agent.clone())).is_some() => Ok(agent),
        (Some(only), None) if named.is_none() => Ok(only.clone()),
        (Some(_), _) => {
            let known: Vec<&str> = policies.names().map(AgentName::as_str).collect();
            bail!("no policy for agent `{agent}`: choose one with --agent: {}", known.join(", "))
        }
    }
}

/// The policy files among `paths`, and those in the folders among them. Files of cases, which a shell lists with
/// the others, are passed over.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths.iter().filter(|path| !path.to_string_lossy().ends_with(SUFFIX) || path.is_dir()) {
        refuse_links(path)?;
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = config::load_dir(path)?;
        ensure!(!found.is_empty(), "`{}` holds no policy file (`*.yaml`)", path.display());
        files.extend(found);
    }
    if let (true, Some(cases)) = (files.is_empty(), paths.first()) {
        bail!("`{}` holds cases and no policy: try `egressctl policy test`", cases.display());
    }
    Ok(files)
}
