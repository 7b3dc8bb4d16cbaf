//! Policy files as git remembers them. git is run as a program that reads objects and nothing else.

use anyhow::{Context, bail, ensure};
use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// What stood at a path in a revision, in a folder of its own that goes with this value.
pub struct Revision {
    scratch: Scratch,
    path: PathBuf,
    /// `REVISION:FOLDER`.
    label: String,
}

impl Revision {
    /// Reads `REVISION:PATH`, a file or a folder, with the policies and allowlists beside it. As git has it, a
    /// path is that from the top of the repository, one with `./` from here.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let (revision, path) = text.split_once(':').context("expected REVISION:PATH")?;
        ensure!(!revision.starts_with('-') && !revision.is_empty(), "`{revision}` is no revision");
        let path = path.trim_end_matches('/');
        // Of git, `.` is a name and `./` the folder where we are.
        let here = format!("{path}/");
        let is_here = path.rsplit('/').next().is_some_and(|last| matches!(last, "." | ".."));
        let path = if is_here { here.as_str() } else { path };
        let scratch = Scratch::new()?;
        let (folder, name) = match kind(&format!("{revision}:{path}"))?.as_str() {
            "tree" => (path, None),
            "blob" => {
                let (folder, name) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
                (folder, Some(name))
            }
            other => bail!("`{text}` is a {other} and not a file or folder"),
        };
        let label = format!("{revision}:{folder}");
        copy(&label, &scratch.0, name)?;
        let beside = join(&label, "allowlists");
        if kind(&beside).is_ok_and(|kind| kind == "tree") {
            let below = scratch.0.join("allowlists");
            fs::create_dir(&below).with_context(|| format!("failed to make `{}`", below.display()))?;
            copy(&beside, &below, None)?;
        }
        let path = name.map_or_else(|| scratch.0.clone(), |name| scratch.0.join(name));
        Ok(Self { scratch, path, label })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What places start with, and what they are to start with.
    pub fn renamed(&self) -> (String, String) {
        let label = join(&self.label, "");
        (format!("{}/", self.scratch.0.display()), label)
    }
}

/// A folder that only we may look into, removed with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("egressctl-{}-{nth}", std::process::id()));
        // Fails where it is there already, so that nobody can have prepared it.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("failed to make `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is in a folder for such.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The most files of one folder that are read: as many as egressd reads of a commit.
const MAX_FILES: usize = 256;

/// The most octets that git may answer with: those of the largest policy file.
const MAX_ANSWER: u64 = egressd::config::MAX_FILE;

fn join(folder: &str, name: &str) -> String {
    if folder.ends_with([':', '/']) { format!("{folder}{name}") } else { format!("{folder}/{name}") }
}

fn kind(object: &str) -> anyhow::Result<String> {
    let answer = git(["cat-file", "-t", object]).map_err(|error| match git(["rev-parse", object]) {
        // It knows what was perhaps meant.
        Err(hint) if hint.to_string().contains("Did you mean") => hint,
        Ok(_) | Err(_) => error,
    });
    let answer = answer.with_context(|| format!("failed to find `{object}`"))?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// Copies the YAML files of the tree `folder`, and the file `name`, to `into`.
fn copy(folder: &str, into: &Path, name: Option<&str>) -> anyhow::Result<()> {
    let listed = git(["ls-tree", "--full-tree", "-z", folder])
        .with_context(|| format!("failed to list `{folder}`"))?;
    let listed = String::from_utf8(listed).with_context(|| format!("names in `{folder}` are not UTF-8"))?;
    let mut copied = 0;
    for line in listed.split('\0').filter(|line| !line.is_empty()) {
        let (about, file) =
            line.split_once('\t').context("git lists files in another way than it used to")?;
        if !file.ends_with(".yaml") && name != Some(file) {
            continue;
        }
        let is_plain = !file.contains('/') && file != ".." && !file.chars().any(char::is_control);
        ensure!(is_plain, "{file:?} in `{folder}` is no name of a file");
        // 120000 is a symbolic link, 160000 a submodule (git-fast-import(1)).
        let is_file = about.starts_with("100");
        let is_asked = name.is_none_or(|name| name == file);
        ensure!(
            is_file || !is_asked,
            "`{}` is no file but a link, a folder or a submodule: egressd refuses a commit with it",
            join(folder, file)
        );
        if !is_file {
            continue;
        }
        copied += 1;
        ensure!(copied <= MAX_FILES, "`{folder}` has more than {MAX_FILES} files");
        let object =
            about.split_whitespace().nth(2).context("git lists files in another way than it used to")?;
        let text = git(["cat-file", "blob", object]).with_context(|| format!("failed to read `{file}`"))?;
        fs::write(into.join(file), text).with_context(|| format!("failed to write `{file}`"))?;
    }
    Ok(())
}

/// What git answers. It reads no configuration but the repository's own, of which nothing that would run a
/// program is obeyed by these commands; it fetches nothing, and writes nothing.
fn git<'a>(arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("git");
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(ENVIRONMENT.map(|(name, value)| (OsStr::new(name), OsStr::new(value))));
    command.args(SETTINGS.into_iter().flat_map(|setting| ["-c", setting]));
    command.args(["--no-pager", "--no-replace-objects", "--literal-pathspecs"]).args(arguments);
    let streams = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().context("failed to run `git`")?;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).context("failed to read what git answers")?;
    }
    if answer.len() as u64 > MAX_ANSWER {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        bail!("git answered with more than {MAX_ANSWER} octets");
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What it complains of is only shown.
        let _ = stderr.take(MAX_COMPLAINT).read_to_string(&mut complaint);
    }
    let status = child.wait().context("failed to wait for git")?;
    ensure!(status.success(), "{}", told(&complaint));
    Ok(answer)
}

/// What git complains of, with its hints, on one line.
fn told(complaint: &str) -> String {
    let plain = |line: &str| line.trim_start_matches("fatal: ").trim_start_matches("hint: ").to_owned();
    let lines: Vec<String> = complaint.lines().map(plain).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "git failed".to_owned() } else { lines.join(": ") }
}

const MAX_COMPLAINT: u64 = 4096;

const ENVIRONMENT: [(&str, &str); 8] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    // A partial clone would ask whoever it came from for what it lacks.
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_ADVICE", "0"),
    ("LC_ALL", "C"),
];

/// `safe.directory`: whose the repository is says nothing where nothing of it is run.
const SETTINGS: [&str; 5] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "protocol.allow=never",
    "safe.directory=*",
];
