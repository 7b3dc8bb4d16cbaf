//! Policy files whose changes are told as they happen: inotify(7) on their folders, never on the files, whose
//! names editors and `git checkout` give to others.

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, timeout},
};

/// What is to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Every YAML file in them; they need not be there.
    pub folders: Vec<PathBuf>,
    pub files: Vec<PathBuf>,
}

impl Wanted {
    /// What of it others than root may write, in files or folders: agents might be among them.
    pub fn writable_by_others(&self) -> Option<PathBuf> {
        let in_folder = |folder: &PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect::<Vec<_>>()
        };
        let folders = self.folders.iter().filter(|folder| folder.is_dir());
        let around = self.files.iter().filter_map(|file| Some(file.parent()?.to_owned()));
        let mut all = folders
            .flat_map(|folder| std::iter::once(folder.clone()).chain(in_folder(folder)))
            .chain(around)
            .chain(self.files.iter().cloned());
        all.find(|path| path.exists() && !is_roots(path))
    }
}

/// Whether root alone decides what is at `path`, and what has that name.
pub fn is_roots(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    let is_safe = |path: &Path, sticky: u32| {
        let found = fs::metadata(path);
        found.is_ok_and(|found| found.uid() == 0 && (found.mode() & 0o022 == 0 || found.mode() & sticky != 0))
    };
    // In a folder as /tmp is, others can make names, but cannot take this one away.
    is_safe(&path, 0) && path.ancestors().skip(1).all(|folder| is_safe(folder, 0o1000))
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Files changed, and nobody writes to any of them.
    Changed,
    /// Somebody writes to this file and does not close it: what it says is not to be obeyed.
    Unfinished(OsString),
}

/// Tells of changes. Folders that come and go, and the links that lead to them, are followed by
/// [`Watch::arm`], which is to be called after each change.
#[derive(Debug)]
pub struct Watch {
    queue: AsyncFd<Queue>,
    folders: HashMap<WatchDescriptor, Names>,
    /// Files that somebody wrote to and has not closed yet.
    unfinished: BTreeSet<(WatchDescriptor, OsString)>,
    /// Something changed of which nobody was told.
    has_changed: bool,
    /// It was told that a file is unfinished, and nothing changed since.
    is_told: bool,
}

/// How long nothing may change before a change is told: what is written together is told together.
const QUIET: Duration = Duration::from_millis(20);

/// How long a change is held back at the most by others, and how long a file may be written before that is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the way to a folder is looked at again, where it changes while it is looked at.
const MAX_LOOKS: usize = 16;

/// IN_MODIFY for files that are being written, IN_ATTRIB for those that others may no longer write.
const MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

impl Watch {
    /// A watch of nothing. Needs a runtime.
    ///
    /// # Errors
    /// The kernel gives no more queues: sysctl fs.inotify.max_user_instances.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self {
            // SAFETY: the queue owns its descriptor, which is valid and neither replaced nor closed in here.
            queue: unsafe { AsyncFd::register(Queue(inotify))? },
            folders: HashMap::new(),
            unfinished: BTreeSet::new(),
            has_changed: false,
            is_told: false,
        })
    }

    /// Watches what is `wanted`, as it is by now, and nothing else.
    ///
    /// # Errors
    /// The kernel watches no more folders: sysctl fs.inotify.max_user_watches.
    pub fn arm(&mut self, wanted: &Wanted) -> io::Result<()> {
        let mut plan = HashMap::new();
        for folder in &wanted.folders {
            self.entry(&mut plan, folder)?;
            if let Some(watched) = self.add(folder)? {
                let names: &mut Names = plan.entry(watched).or_default();
                names.all_yaml = true;
            }
        }
        for file in &wanted.files {
            self.entry(&mut plan, file)?;
        }
        for gone in self.folders.keys().filter(|watched| !plan.contains_key(watched)) {
            // What was removed is watched no more by itself.
            let _ = self.queue.get_ref().0.rm_watch(*gone);
        }
        self.folders = plan;
        self.unfinished.retain(|(watched, _)| self.folders.contains_key(watched));
        Ok(())
    }

    /// Waits for a change, and until no other follows it. Cancelling loses none.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub async fn settled(&mut self) -> io::Result<Told> {
        if !self.has_changed || self.is_told {
            self.changed().await?;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let wait = if self.is_unfinished() { left } else { QUIET.min(left) };
            match timeout(wait, self.changed()).await {
                Ok(outcome) => outcome?,
                Err(_) => break,
            }
        }
        if let Some((_, name)) = self.unfinished.first() {
            self.is_told = true;
            return Ok(Told::Unfinished(name.clone()));
        }
        self.has_changed = false;
        Ok(Told::Changed)
    }

    /// Whether somebody writes to a file, so that none is to be read.
    pub fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Waits for the next change of a file that is wanted.
    async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.queue.readable().await?;
            let read = ready.try_io(|queue| Ok(queue.get_ref().0.read_events()?));
            drop(ready);
            // Otherwise somebody read it before us: wait on.
            let Ok(events) = read else { continue };
            let matter = events?.into_iter().filter(|event| self.note(event)).count();
            if matter > 0 {
                (self.has_changed, self.is_told) = (true, false);
                return Ok(());
            }
        }
    }

    /// Whether `event` is about what is wanted.
    fn note(&mut self, event: &InotifyEvent) -> bool {
        let is = |mask: AddWatchFlags| event.mask.intersects(mask);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            // That a file was closed may be among what is lost.
            self.unfinished.clear();
            return true;
        }
        let Some(names) = self.folders.get(&event.wd) else { return false };
        let Some(name) = &event.name else { return !is(AddWatchFlags::IN_IGNORED) };
        if !names.hold(name) {
            return false;
        }
        let place = (event.wd, name.clone());
        if is(AddWatchFlags::IN_MODIFY) {
            self.unfinished.insert(place);
        } else if !is(AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CREATE) {
            self.unfinished.remove(&place);
        }
        true
    }

    /// Plans to hear of the entry at `path`, and, where it is a link, of what it leads to.
    fn entry(&self, plan: &mut HashMap<WatchDescriptor, Names>, path: &Path) -> io::Result<()> {
        self.name_of(plan, path)?;
        match fs::canonicalize(path) {
            Ok(real) if real != path => self.name_of(plan, &real),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Plans to hear of the name at the end of `path`; where its folder is not there, of the way to it.
    fn name_of(&self, plan: &mut HashMap<WatchDescriptor, Names>, path: &Path) -> io::Result<()> {
        for _ in 0..MAX_LOOKS {
            let mut way = path;
            while let (Some(folder), Some(name)) = (way.parent(), way.file_name()) {
                if let Some(watched) = self.add(folder)? {
                    plan.entry(watched).or_default().some.insert(name.to_owned());
                    break;
                }
                way = folder;
            }
            // It may have come before it was watched.
            if way == path || !way.exists() {
                break;
            }
        }
        Ok(())
    }

    /// None where there is no such folder.
    fn add(&self, folder: &Path) -> io::Result<Option<WatchDescriptor>> {
        match self.queue.get_ref().0.add_watch(folder, MASK) {
            Ok(watched) => Ok(Some(watched)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Which names of a folder matter.
#[derive(Debug, Default)]
struct Names {
    all_yaml: bool,
    some: BTreeSet<OsString>,
}

impl Names {
    fn hold(&self, name: &OsStr) -> bool {
        // `..data` and its like are the links that Kubernetes swaps below those of the files.
        let is_yaml = || name.as_bytes().ends_with(b".yaml") || name.as_bytes().starts_with(b"..");
        self.some.contains(name) || (self.all_yaml && is_yaml())
    }
}

#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::Write,
        os::unix::fs::{PermissionsExt, symlink},
    };

    #[tokio::test]
    async fn every_way_to_change_a_file_is_told() {
        let lab = Lab::new();
        let mut watch = lab.watch();
        fs::write(lab.at("p/a.yaml"), "1").unwrap();
        tells(&mut watch, "a file that comes").await;
        fs::write(lab.at("p/a.yaml"), "2").unwrap();
        tells(&mut watch, "a file that is written").await;
        fs::write(lab.at("p/.a.swp"), "3").unwrap();
        fs::rename(lab.at("p/.a.swp"), lab.at("p/a.yaml")).unwrap();
        tells(&mut watch, "a rename over it").await;
        fs::remove_file(lab.at("p/a.yaml")).unwrap();
        tells(&mut watch, "a file that goes").await;
        symlink("/dev/null", lab.at("p/b.yaml")).unwrap();
        tells(&mut watch, "a link").await;
    }

    #[test]
    fn what_others_may_write_is_found() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root has files of root's");
            return;
        }
        let lab = Lab::new();
        let wanted = Wanted { folders: vec![lab.at("p")], files: vec![lab.at("p/x")] };
        assert_eq!(wanted.writable_by_others(), None);
        fs::write(lab.at("p/a.yaml"), "1").unwrap();
        assert_eq!(wanted.writable_by_others(), None);
        let others = |path: &str, mode| fs::set_permissions(lab.at(path), fs::Permissions::from_mode(mode));
        others("p/a.yaml", 0o666).unwrap();
        assert_eq!(wanted.writable_by_others(), Some(lab.at("p/a.yaml")));
        others("p/a.yaml", 0o644).unwrap();
        others("p", 0o1777).unwrap();
        assert_eq!(wanted.writable_by_others(), Some(lab.at("p")));
        others("p", 0o755).unwrap();
        others("", 0o777).unwrap();
        assert_eq!(wanted.writable_by_others(), Some(lab.at("p")), "its folder can be given to another");
    }

    #[tokio::test]
    async fn what_is_no_policy_is_not_told() {
        let lab = Lab::new();
        let mut watch = lab.watch();
        for name in ["p/notes.txt", "p/.a.yaml.swp", "other"] {
            fs::write(lab.at(name), "1").unwrap();
        }
        assert!(timeout(QUIET * 5, watch.settled()).await.is_err());
    }

    #[tokio::test]
    async fn a_folder_that_is_swapped_by_rename_or_link_is_told_and_followed() {
        let lab = Lab::new();
        fs::create_dir(lab.at("p2")).unwrap();
        symlink(lab.at("p2"), lab.at("link")).unwrap();
        let wanted = Wanted { folders: vec![lab.at("p"), lab.at("link")], files: Vec::new() };
        let mut watch = Watch::new().unwrap();
        watch.arm(&wanted).unwrap();
        fs::rename(lab.at("p"), lab.at("old")).unwrap();
        fs::create_dir(lab.at("p")).unwrap();
        tells(&mut watch, "the swap").await;
        watch.arm(&wanted).unwrap();
        fs::write(lab.at("p/a.yaml"), "1").unwrap();
        tells(&mut watch, "a file in the other folder").await;
        fs::create_dir(lab.at("p3")).unwrap();
        symlink(lab.at("p3"), lab.at("link.new")).unwrap();
        fs::rename(lab.at("link.new"), lab.at("link")).unwrap();
        tells(&mut watch, "the link").await;
        watch.arm(&wanted).unwrap();
        fs::write(lab.at("p3/a.yaml"), "1").unwrap();
        tells(&mut watch, "a file behind the other link").await;
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_yet_is_told_when_it_comes() {
        let lab = Lab::new();
        let wanted = Wanted { folders: vec![lab.at("far/away/p")], files: vec![lab.at("far/x.yaml")] };
        let mut watch = Watch::new().unwrap();
        watch.arm(&wanted).unwrap();
        fs::create_dir(lab.at("far")).unwrap();
        tells(&mut watch, "the first folder").await;
        watch.arm(&wanted).unwrap();
        fs::create_dir_all(lab.at("far/away/p")).unwrap();
        tells(&mut watch, "the last folder").await;
        watch.arm(&wanted).unwrap();
        fs::write(lab.at("far/away/p/a.yaml"), "1").unwrap();
        tells(&mut watch, "a file").await;
        fs::write(lab.at("far/x.yaml"), "1").unwrap();
        tells(&mut watch, "a file that is named").await;
    }

    #[tokio::test]
    async fn a_file_that_is_half_written_is_waited_for() {
        let lab = Lab::new();
        let mut watch = lab.watch();
        let mut file = File::create(lab.at("p/a.yaml")).unwrap();
        file.write_all(b"half").unwrap();
        assert!(timeout(QUIET * 5, watch.settled()).await.is_err());
        let told = timeout(Duration::from_secs(10), watch.settled()).await.unwrap().unwrap();
        assert_eq!(told, Told::Unfinished("a.yaml".into()));
        assert!(timeout(PATIENCE, watch.settled()).await.is_err(), "it is said once");
        drop(file);
        tells(&mut watch, "the whole file").await;
    }

    async fn tells(watch: &mut Watch, what: &str) {
        let told = timeout(Duration::from_secs(10), watch.settled()).await;
        let told = told.unwrap_or_else(|_| panic!("not told of {what}")).unwrap();
        assert_eq!(told, Told::Changed, "{what}");
    }

    struct Lab(tempfile::TempDir);

    impl Lab {
        /// With a folder `p`.
        fn new() -> Self {
            let lab = Self(tempfile::tempdir().unwrap());
            fs::create_dir(lab.at("p")).unwrap();
            lab
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        fn watch(&self) -> Watch {
            let mut watch = Watch::new().unwrap();
            watch.arm(&Wanted { folders: vec![self.at("p")], files: Vec::new() }).unwrap();
            watch
        }
    }
}
