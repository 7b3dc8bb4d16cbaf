//! Where files come from, and the bounds on reading them.

use super::{
    compile::{Compiler, Policies, Taken},
    credential::Credential,
    daemon::DEFAULT_CACHE_DIR,
    diagnostic::{ConfigError, Diagnostic},
    document::Document,
    packages::{Installed, Manager, Registries, Site},
    similar,
};
use crate::policy::{Revision, SourceFile};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_saphyr::Spanned;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The largest file that is read, in octets: 1 MiB, some hundred times the largest allowlist.
pub const MAX_FILE: u64 = 1 << 20;

/// Loads policy files. Allowlists are searched beside the file, then in `allowlist_dirs`.
///
/// # Errors
/// Shows everything that is wrong with the files; then none of them is in force.
pub fn load(files: &[PathBuf], allowlist_dirs: &[PathBuf]) -> Result<Policies, ConfigError> {
    Loader::new(allowlist_dirs).load(files)
}

/// Loads a policy from its text; its rules name `name` as their file.
///
/// Errors quote lines of the allowlists that the text includes, so `base_dir` and
/// `allowlist_dirs` must be folders that whoever wrote the text may read. It may name no file of a
/// secret.
///
/// # Errors
/// Shows everything that is wrong with the text.
pub fn load_str(
    name: &str,
    text: &str,
    base_dir: &Path,
    allowlist_dirs: &[PathBuf],
) -> Result<Policies, ConfigError> {
    Loader::new(allowlist_dirs).load_str(name, text, base_dir)
}

/// The policy files of a folder: every `*.yaml`, sorted by name, without hidden files and cases
/// (`*.test.yaml`).
///
/// # Errors
/// The folder could not be read.
pub fn load_dir(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed =
        |error: io::Error| Diagnostic::general(format!("failed to list `{}`: {error}", folder.display()));
    let mut files = Vec::new();
    for found in fs::read_dir(folder).map_err(failed)? {
        let path = found.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(b".yaml") && !name.ends_with(CASES) && !name.starts_with(b".") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// How the names of files end that hold cases for a policy, and are none.
const CASES: &[u8] = b".test.yaml";

/// The text of a file of at most [`MAX_FILE`] octets.
///
/// # Errors
/// It could not be read, or is no text.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let document = read(path).map_err(|error| Diagnostic::general(error.to_string()))?;
    Ok(document.text().to_owned())
}

/// Reads `text` as strictly as policies are: without anchors, tags and doubled keys, and within their bounds.
///
/// # Errors
/// Shows the place in the file that is called `name`.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    Ok(Document::new(name, text).parse()?)
}

/// Loads policies with what they need besides their own text.
pub struct Loader<'a> {
    allowlist_dirs: &'a [PathBuf],
    registries: &'a dyn Registries,
    credentials: Option<&'a [Credential]>,
    tree: Option<&'a Tree>,
    kept: Option<&'a Allowlists>,
    reads_secrets: bool,
    found: RefCell<Allowlists>,
}

/// Allowlists that lay beside a policy, by the names by which it includes them.
pub type Allowlists = BTreeMap<String, KeptFile>;

/// A file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// As its rules are named in records.
    pub file: String,
    pub text: String,
}

/// The files of a revision, where they lie on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The folder that stands for the top of the repository: files are named from there.
    pub root: PathBuf,
    pub revision: Revision,
    /// Whether whoever wrote them may have the daemon read files of secrets.
    pub may_name_secrets: bool,
}

/// What the tools answered is remembered for the life of the process.
static INSTALLED: LazyLock<Installed> = LazyLock::new(|| Installed::new(PathBuf::from(DEFAULT_CACHE_DIR)));

impl<'a> Loader<'a> {
    #[must_use]
    pub fn new(allowlist_dirs: &'a [PathBuf]) -> Self {
        Self {
            allowlist_dirs,
            registries: &*INSTALLED,
            credentials: None,
            tree: None,
            kept: None,
            reads_secrets: true,
            found: RefCell::default(),
        }
    }

    /// The same, with `packages` answered by `registries` instead of the installed tools.
    #[must_use]
    pub fn with_registries(self, registries: &'a dyn Registries) -> Self {
        Self { registries, ..self }
    }

    /// The same, where rules may inject none but these credentials. Otherwise it is not known which there
    /// are.
    #[must_use]
    pub fn with_credentials(self, credentials: &'a [Credential]) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// The same, where files below the root of `tree` are those of its revision.
    #[must_use]
    pub fn of_revision(self, tree: &'a Tree) -> Self {
        Self { tree: Some(tree), ..self }
    }

    /// The same, where `kept` is all that lies beside policies, whatever lies there by now.
    #[must_use]
    pub fn with_kept(self, kept: &'a Allowlists) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The same, without what is in files of secrets: they may lie on another host. Not for policies that are to be
    /// in force.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        Self { reads_secrets: false, ..self }
    }

    /// The allowlists beside policies that were included so far.
    #[must_use]
    pub fn found(self) -> Allowlists {
        self.found.into_inner()
    }

    /// See [`load`].
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, files: &[PathBuf]) -> Result<Policies, ConfigError> {
        self.load_with(files, &[])
    }

    /// The same, where the files may extend the roles of `beside`, whose agents are not among the policies.
    ///
    /// # Errors
    /// As [`load`]; also of what is wrong with the roles of `beside`.
    pub fn load_with(&self, files: &[PathBuf], beside: &[PathBuf]) -> Result<Policies, ConfigError> {
        let may_name_secrets = self.tree.is_none_or(|tree| tree.may_name_secrets);
        let mut compiler = Compiler::new(self);
        self.add(&mut compiler, files, Taken::All, may_name_secrets);
        self.add(&mut compiler, beside, Taken::Roles, may_name_secrets);
        compiler.finish()
    }

    /// See [`load_str`].
    ///
    /// # Errors
    /// As [`load_str`].
    pub fn load_str(&self, name: &str, text: &str, base_dir: &Path) -> Result<Policies, ConfigError> {
        if text.len() as u64 > MAX_FILE {
            let error = ReadError::TooLarge(PathBuf::from(name), MAX_FILE);
            return Err(Diagnostic::general(error.to_string()).into());
        }
        let mut compiler = Compiler::new(self);
        compiler.policy_file(Document::new(name, text), base_dir, Taken::All, false);
        compiler.finish()
    }

    /// Loads a policy from the text that its file in `folder` has or will have, or an allowlist, as the policy
    /// of an agent `default`; it may extend the roles of `beside`. For whoever may write that file: it may name files
    /// of secrets.
    ///
    /// # Errors
    /// As [`load`].
    pub fn draft(
        &self,
        name: &str,
        text: &str,
        folder: &Path,
        beside: &[PathBuf],
    ) -> Result<Policies, ConfigError> {
        let mut compiler = Compiler::new(self);
        match is_allowlist(text) {
            true => compiler.allowlist_file(Document::new(name, text), folder),
            false => compiler.policy_file(Document::new(name, text), folder, Taken::All, true),
        }
        self.add(&mut compiler, beside, Taken::Roles, true);
        compiler.finish()
    }

    fn add(&self, compiler: &mut Compiler<'_>, files: &[PathBuf], taken: Taken, may_name_secrets: bool) {
        for path in files {
            let folder = path.parent().unwrap_or(Path::new(""));
            match self.read(path) {
                Ok(document) => compiler.policy_file(document, folder, taken, may_name_secrets),
                Err(error) => compiler.unreadable(Diagnostic::general(error.to_string())),
            }
        }
    }

    /// Reads a file, and names it as people know it.
    fn read(&self, path: &Path) -> Result<Document, ReadError> {
        let text = text_of(path)?;
        let within = self.tree.and_then(|tree| Some((path.strip_prefix(&tree.root).ok()?, &tree.revision)));
        let (name, revision) = match within {
            Some((name, revision)) => (name, Some(revision.clone())),
            None => (path, None),
        };
        Ok(Document::of(SourceFile::new(&name.display().to_string(), revision), &text))
    }

    /// Whether files of secrets are read.
    pub(super) fn reads_secrets(&self) -> bool {
        self.reads_secrets
    }

    /// What [`Self::with_credentials`] was told.
    pub(super) fn credentials(&self) -> Option<&'a [Credential]> {
        self.credentials
    }

    /// The sites of the package manager that a policy names as `word`.
    pub(super) fn sites(&self, document: &Document, word: &Spanned<String>) -> Result<Vec<Site>, Diagnostic> {
        let known = Manager::ALL.into_iter().find(|manager| manager.as_str() == word.value);
        let manager = known.ok_or_else(|| {
            let words = Manager::ALL.map(Manager::as_str).join(", ");
            document
                .error(word.referenced, format!("unknown package manager `{}`", word.value))
                .help(format!("known package managers: {words}"))
        })?;
        self.registries.sites(manager).map_err(|error| {
            document
                .error(word.referenced, format!("failed to learn the registry of `{manager}`"))
                .label(error.to_string())
                .help("install the tool, or replace this by rules that name the hosts")
        })
    }

    /// The allowlist that a policy file in `folder` includes by its name.
    pub(super) fn allowlist(
        &self,
        document: &Document,
        folder: &Path,
        include: &Spanned<String>,
    ) -> Result<Document, Diagnostic> {
        let name = include.value.as_str();
        let error = |title: String| document.error(include.referenced, title);
        // A name, never a path: a policy must not reach outside the folders of allowlists.
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
            return Err(error(format!("invalid allowlist name {name:?}"))
                .help("write the name of the file without folder and `.yaml`: letters, digits and `-`"));
        }
        let beside = match self.kept {
            Some(_) => Vec::new(),
            None => vec![folder.join("allowlists"), folder.to_owned()],
        };
        if let Some(KeptFile { file, text }) = self.kept.and_then(|kept| kept.get(name)) {
            return Ok(Document::new(file, text));
        }
        for folder in beside.iter().chain(self.allowlist_dirs) {
            let path = folder.join(format!("{name}.yaml"));
            match self.read(&path) {
                Ok(allowlist) => {
                    if beside.contains(folder) {
                        self.note(name, &path, &allowlist);
                    }
                    return Ok(allowlist);
                }
                Err(ReadError::Failed(_, cause)) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(error(cause.to_string())),
            }
        }
        let error = error(format!("no allowlist `{name}`"));
        Err(error.help(similar::missing(name, beside.iter().chain(self.allowlist_dirs))))
    }

    /// Keeps in mind what was found beside a policy.
    fn note(&self, name: &str, path: &Path, allowlist: &Document) {
        let kept = KeptFile { file: path.display().to_string(), text: allowlist.text().to_owned() };
        self.found.borrow_mut().insert(name.to_owned(), kept);
    }
}

/// Whether a text is to be an allowlist, by its keys: it may be no good one.
#[must_use]
pub fn is_allowlist(text: &str) -> bool {
    let has =
        |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
    has("rules") && !has("agents") && !has("roles")
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("failed to read `{}`: {}", .0.display(), .1)]
    Failed(PathBuf, io::Error),
    #[error("failed to read `{}`: not a regular file", .0.display())]
    NotRegular(PathBuf),
    #[error("failed to read `{}`: larger than {} octets", .0.display(), .1)]
    TooLarge(PathBuf, u64),
    #[error("failed to read `{}`: not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

/// Reads a regular file of at most [`MAX_FILE`] octets.
pub(super) fn read(path: &Path) -> Result<Document, ReadError> {
    Ok(Document::new(&path.display().to_string(), &text_of(path)?))
}

fn text_of(path: &Path) -> Result<String, ReadError> {
    let octets = read_octets(path, MAX_FILE)?;
    String::from_utf8(octets).map_err(|_| ReadError::NotText(path.to_owned()))
}

/// Reads a regular file of at most `bound` octets.
pub(super) fn read_octets(path: &Path, bound: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |error| ReadError::Failed(path.to_owned(), error);
    let file = open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(ReadError::NotRegular(path.to_owned()));
    }
    let mut octets = Vec::new();
    file.take(bound + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > bound {
        return Err(ReadError::TooLarge(path.to_owned(), bound));
    }
    Ok(octets)
}

/// Without waiting for a writer, should the path be a FIFO.
fn open(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}
