//! The bare repository that commits are fetched into, and what is asked of it.

mod room;

use super::{
    access::Lent,
    complaint,
    git::{Answer, Git},
    signature::Signed,
};
use crate::{
    config::{Access, GitSource, MAX_FILE, Repository, Verify},
    daemon::watch::is_roots,
    policy::Revision,
};
use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Gid, Uid, User, geteuid};
use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
};

/// A folder with the repository and all that git is told.
#[derive(Debug)]
pub struct Store {
    git: Git,
    repository: Repository,
    access: Access,
    reference: String,
    /// The keys of this host, if signatures are looked at.
    keys: Option<PathBuf>,
    /// Where git finds them.
    keys_for_git: PathBuf,
    /// What was signed of the commit that is looked at, and the signature.
    payload: PathBuf,
    signature: PathBuf,
    /// A folder for each revision.
    trees: PathBuf,
    /// [`MAX_STORE`]; a test has less room.
    pub(super) bound: u64,
}

/// What a commit says of itself, each in a line of at most [`MAX_TEXT`] letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub subject: String,
    pub author: String,
    /// Whose key signed it, as the file of keys has it. None where that is not looked at.
    pub signer: Option<String>,
}

const MAX_TEXT: usize = 120;

/// When a key must be one that may sign: `valid-after` and `valid-before` of the file of keys, and the dates of a
/// certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dated {
    /// Today, too: whoever signs writes the date of a commit, and could write one at which the key still counted.
    Today,
    /// When the commit says that it was made. It was in force before, and looked at then.
    AsItSays,
}

/// Files of one folder of a revision at the most.
const MAX_FILES: usize = 256;

/// Octets of the whole repository: of policies, a thousand times what any has. Where they are used up, what was
/// refused is forgotten: whoever may push, without a key, could fill it else.
const MAX_STORE: u64 = 512 << 20;

/// What a ref of the store is called that was fetched.
const TIP: &str = "refs/egressd/tip";

impl Store {
    /// Makes `folder` ready for `source`, whatever is there already. git and all that it reads is below.
    ///
    /// # Errors
    /// The folder cannot be written, or there is no such user.
    pub fn open(source: &GitSource, folder: &Path) -> Result<Self> {
        let user = user(&source.user)?;
        let [store, config, keys, trees, payload, signature] =
            ["store", "git.conf", "keys", "trees", "payload", "signature"].map(|name| folder.join(name));
        // Others find nothing by its names, and git gets through to what is its own.
        make_folder(folder, 0o711)?;
        make_folder(&trees, 0o700)?;
        make_folder(&store, 0o700)?;
        give_to(&store, user)?;
        let text = configuration(source, &keys);
        write_for_git(&config, text.as_bytes(), user)?;
        let keys_of_host = match &source.verify {
            Verify::Signed { keys } => Some(keys.clone()),
            Verify::No => None,
        };
        let transport = source.repository.transport().as_str();
        let git = Git { program: "git".into(), store: store.clone(), config, user, transport };
        let opened = Self {
            git,
            repository: source.repository.clone(),
            access: source.access.clone(),
            reference: source.reference.clone(),
            keys: keys_of_host,
            keys_for_git: keys,
            payload,
            signature,
            trees,
            bound: MAX_STORE,
        };
        if !store.join("HEAD").exists() {
            opened.git.ask(&["init", "--quiet", "--bare", "--template="])?;
        }
        Ok(opened)
    }

    /// The commit that the ref names by now, with all that it stands on. Where there is no room for more, `kept`
    /// stay, and what they stand on.
    ///
    /// # Errors
    /// The remote cannot be asked, or has no such ref, or sent what git refuses.
    pub fn fetch(&self, kept: &[Revision]) -> Result<Revision> {
        self.make_room(kept)?;
        let reference = format!("+{}:{TIP}", self.reference);
        let arguments = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "origin",
            &reference,
        ];
        let lent = Lent::to(&self.repository, &self.access, self.git.user)?;
        let answer = self.git.run_on(&arguments, Stdio::null(), &lent)?;
        let why = || complaint::in_words(&answer.complaints, &self.repository, &self.access);
        ensure!(answer.status.success(), "failed to fetch from {}: {}", self.repository, why());
        self.commit(TIP)
    }

    /// The commit that `name` stands for.
    fn commit(&self, name: &str) -> Result<Revision> {
        let commit =
            self.git.line(&["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")])?;
        Revision::parse(&commit).context("git named no commit")
    }

    /// Whether `older` is `newer`, or one of those that it stands on.
    ///
    /// # Errors
    /// One of them is not here.
    pub fn leads_to(&self, older: &Revision, newer: &Revision) -> Result<bool> {
        let answer = self.git.run(&["merge-base", "--is-ancestor", older.as_str(), newer.as_str()])?;
        match answer.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            Some(_) | None => bail!("git merge-base: {}", answer.complaint),
        }
    }

    /// Looks whether an allowed key signed the commit, if that is asked for, and reads what it says.
    ///
    /// # Errors
    /// Says whether there is no signature, or one that does not count.
    pub fn verify(&self, commit: &Revision, dated: Dated) -> Result<About> {
        let format = match &self.keys {
            None => "--format=%an%x00%s%x00",
            Some(keys) => {
                // Where we may choose who git is, we are root, and nobody else may choose who signs.
                ensure!(
                    self.git.user.is_none() || is_roots(keys),
                    "is verified with `{}`, which others than root may write: give it and its folders to root",
                    keys.display()
                );
                // As they are by now: a key that was taken away counts no more.
                let text = fs::read(keys).with_context(|| format!("failed to read `{}`", keys.display()))?;
                write_for_git(&self.keys_for_git, &text, self.git.user)?;
                let answer = self.git.run(&["verify-commit", "--raw", commit.as_str()])?;
                ensure!(answer.status.success(), "{}", unverified(&answer.complaint));
                "--format=%an%x00%s%x00%GS"
            }
        };
        let told = self.git.ask(&[
            "show",
            "--no-patch",
            "--no-show-signature",
            "--no-color",
            format,
            commit.as_str(),
        ])?;
        let told = String::from_utf8_lossy(&told);
        let mut texts = told.trim_end_matches('\n').split('\0');
        let mut next = || texts.next().unwrap_or_default();
        let (author, subject, signer) = (next(), next(), next());
        match (&self.keys, dated) {
            (Some(_), Dated::Today) => self.verify_today(commit, signer)?,
            (Some(_), Dated::AsItSays) | (None, _) => {}
        }
        Ok(About {
            subject: shown(subject),
            author: shown(author),
            signer: self.keys.as_ref().map(|_| shown(signer)),
        })
    }

    /// Looks whether the key of `signer`, which git found, may sign today. git tells ssh-keygen the date that the
    /// commit says; it is asked once more without one.
    fn verify_today(&self, commit: &Revision, signer: &str) -> Result<()> {
        let Signed { payload, signature } =
            Signed::of(&self.git.ask(&["cat-file", "commit", commit.as_str()])?)?;
        write_for_git(&self.payload, &payload, self.git.user)?;
        write_for_git(&self.signature, &signature, self.git.user)?;
        let [keys, signature] = [&self.keys_for_git, &self.signature].map(|path| path.display().to_string());
        let input = File::open(&self.payload)
            .with_context(|| format!("failed to open `{}`", self.payload.display()))?;
        let keygen = Git { program: "ssh-keygen".into(), ..self.git.clone() };
        let arguments = ["-Y", "verify", "-f", &keys, "-I", signer, "-n", "git", "-s", &signature];
        let Answer { status, complaint, .. } =
            keygen.run_on(&arguments, Stdio::from(input), &Lent::default())?;
        ensure!(
            status.success(),
            "is signed by `{}`, whose key may not sign today: {complaint}. Sign it with another key, or mend `{}`",
            shown(signer),
            self.keys.as_deref().unwrap_or(&self.keys_for_git).display()
        );
        Ok(())
    }

    /// The folder with the policies and allowlists of a commit: its YAML files in `path` and in `allowlists` below
    /// it, as git has them. Nothing is checked out, so that no filter and no link of the repository counts.
    ///
    /// # Errors
    /// There is no such folder, or something in it is no file, too large or too much.
    pub fn tree(&self, commit: &Revision, path: &str) -> Result<PathBuf> {
        let (ready, unready) = (self.trees.join(commit.as_str()), self.trees.join("unready"));
        remove(&unready)?;
        let folder = unready.join(path);
        DirBuilder::new().mode(0o700).recursive(true).create(&folder)?;
        ensure!(self.copy(commit, path, &folder)?, "there is no folder `{path}` in {commit}");
        let (beside, below) = (join(path, "allowlists"), folder.join("allowlists"));
        fs::create_dir(&below)?;
        self.copy(commit, &beside, &below)?;
        remove(&ready)?;
        fs::rename(&unready, &ready).with_context(|| format!("failed to make `{}`", ready.display()))?;
        Ok(ready)
    }

    /// Removes the folders of all revisions but `kept`.
    pub fn forget_trees_but(&self, kept: &Revision) {
        for path in fs::read_dir(&self.trees).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.file_name() != Some(OsStr::new(kept.as_str())) {
                // What is left is removed the next time.
                let _ = remove(&path);
            }
        }
    }

    /// Copies the YAML files of one folder; false where there is no such folder.
    fn copy(&self, commit: &Revision, path: &str, into: &Path) -> Result<bool> {
        let folder = format!("{}:{path}", commit.as_str());
        let kind = self.git.run(&["cat-file", "-t", &folder])?;
        if !kind.status.success() || kind.output != b"tree\n" {
            return Ok(false);
        }
        let listed = self.git.ask(&["ls-tree", "-z", "-l", &folder])?;
        let mut copied = 0;
        for entry in listed.split(|octet| *octet == 0).filter(|entry| entry.ends_with(b".yaml")) {
            copied += 1;
            ensure!(copied <= MAX_FILES, "`{path}` has more than {MAX_FILES} files");
            let Listed { object, name } = Listed::of(entry, path)?;
            let text = self.git.ask(&["cat-file", "blob", object])?;
            fs::write(into.join(name), text).with_context(|| format!("failed to write `{name}`"))?;
        }
        Ok(true)
    }
}

/// A file of a tree.
#[derive(Debug, PartialEq, Eq)]
struct Listed<'a> {
    object: &'a str,
    name: &'a str,
}

impl<'a> Listed<'a> {
    /// Reads `MODE TYPE OBJECT SIZE<tab>NAME`: git-ls-tree(1), `-l`.
    fn of(entry: &'a [u8], path: &str) -> Result<Self> {
        let strange = || format!("git lists `{path}` in another way than it used to");
        let entry = std::str::from_utf8(entry).with_context(|| format!("a name in `{path}` is not UTF-8"))?;
        let (about, name) = entry.split_once('\t').with_context(strange)?;
        let mut fields = about.split_ascii_whitespace();
        let mut field = || fields.next().with_context(strange);
        let (mode, _, object, size) = (field()?, field()?, field()?, field()?);
        let is_plain = !name.contains(['/', '\0']) && !name.chars().any(char::is_control);
        ensure!(is_plain, "{name:?} in `{path}` is no name of a file");
        // 120000 is a symbolic link, 160000 a submodule (git-fast-import(1)).
        ensure!(
            matches!(mode, "100644" | "100755"),
            "`{}` is no file but a link, a folder or a submodule",
            join(path, name)
        );
        let is_small = size.parse::<u64>().is_ok_and(|size| size <= MAX_FILE);
        ensure!(is_small, "`{}` is larger than {MAX_FILE} octets", join(path, name));
        Ok(Self { object, name })
    }
}

/// All that git is told, whatever the store or the host says elsewhere.
fn configuration(source: &GitSource, keys: &Path) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let (address, keys) = (quoted(source.repository.address()), quoted(&keys.display().to_string()));
    let transport = source.repository.transport().as_str();
    // `safe`: whose the repository is says nothing where nothing of it is run. `followRedirects`: a server that sends
    // git elsewhere would choose whom to believe in its place; it also keeps it from naming another server for objects.
    format!(
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tsshCommand = false\n\tbigFileThreshold = 2m\n\
         [safe]\n\tdirectory = *\n\
         [gc]\n\tauto = 0\n\
         [maintenance]\n\tauto = false\n\
         [transfer]\n\tfsckObjects = true\n\
         [fetch]\n\tfsckObjects = true\n\trecurseSubmodules = false\n\
         [submodule]\n\trecurse = false\n\
         [protocol]\n\tallow = never\n\
         [protocol \"{transport}\"]\n\tallow = always\n\
         [http]\n\tlowSpeedLimit = 1000\n\tlowSpeedTime = 20\n\
         \tsslVerify = true\n\tsslVersion = tlsv1.2\n\tfollowRedirects = false\n\
         [credential]\n\thelper =\n\
         [log]\n\tshowSignature = false\n\
         [gpg]\n\tformat = ssh\n\tminTrustLevel = fully\n\
         [gpg \"ssh\"]\n\tprogram = ssh-keygen\n\tallowedSignersFile = {keys}\n\
         [gpg \"openpgp\"]\n\tprogram = false\n\
         [gpg \"x509\"]\n\tprogram = false\n\
         [remote \"origin\"]\n\turl = {address}\n"
    )
}

/// Why a commit is not taken, where git says little: of one without a signature it says nothing.
fn unverified(complaint: &str) -> String {
    match complaint {
        "" => "is not signed by an allowed key".to_owned(),
        complaint if complaint.starts_with("exit status") => "is not signed".to_owned(),
        complaint => format!("is not signed by an allowed key: {complaint}"),
    }
}

/// Whom git is run as; None where we cannot choose.
fn user(name: &str) -> Result<Option<(Uid, Gid)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = User::from_name(name).with_context(|| format!("failed to look for user `{name}`"))?;
    let user = found.with_context(|| format!("there is no user `{name}` for git to run as"))?;
    ensure!(!user.uid.is_root(), "user `{name}` is root: name another for git to run as");
    Ok(Some((user.uid, user.gid)))
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().mode(mode).recursive(true).create(path);
    let made = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.with_context(|| format!("failed to make folder `{}`", path.display()))
}

fn give_to(path: &Path, user: Option<(Uid, Gid)>) -> Result<()> {
    let Some((uid, gid)) = user else { return Ok(()) };
    let given = chown(path, Some(uid.as_raw()), Some(gid.as_raw()));
    given.with_context(|| format!("failed to give `{}` to git", path.display()))
}

/// Writes what git may read and not change.
fn write_for_git(path: &Path, text: &[u8], user: Option<(Uid, Gid)>) -> Result<()> {
    let act = || {
        let unready = path.with_extension("new");
        fs::write(&unready, text)?;
        fs::set_permissions(&unready, fs::Permissions::from_mode(0o640))?;
        if let Some((_, gid)) = user {
            chown(&unready, Some(0), Some(gid.as_raw()))?;
        }
        fs::rename(&unready, path)
    };
    act().with_context(|| format!("failed to write `{}`", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A text of a commit as it may be shown.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect()
}
