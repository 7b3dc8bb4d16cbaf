//! The audit log on disk: JSON lines, only ever appended to, rotated by size.

use super::{
    encode::encode_line,
    health::LogHealth,
    record::Line,
    recover::{Recovered, recover},
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The log's file, and the lines that could not be written yet.
///
/// A line that was handed over counts as written when the kernel took it: there is no fsync per
/// line, so that a power cut may tear the end, which [`Log::open`] repairs.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Octets in the file.
    size: u64,
    rotate_at: u64,
    /// Whole lines, except that the first may have begun to be written.
    waiting: Vec<u8>,
    dropped: u64,
    torn: bool,
    /// No file could be started at the path, where the one that is open is not any more.
    is_away: bool,
    health: Arc<LogHealth>,
}

impl Log {
    /// Opens the log at `path`, made with mode 0600 where it does not exist, and repairs its end.
    ///
    /// Returns what the log held at its end, too, so that the numbering goes on.
    ///
    /// # Errors
    /// The file cannot be opened, is no regular file, or another daemon writes it.
    pub fn open(path: &Path) -> Result<(Self, Recovered), LogError> {
        Self::open_rotating_at(path, ROTATE_AT)
    }

    fn open_rotating_at(path: &Path, rotate_at: u64) -> Result<(Self, Recovered), LogError> {
        let failed = |source| LogError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let file = open_alone(path)?;
        let recovered = recover(path, &rotated(path, 1)).map_err(failed)?;
        let mut log = Self {
            path: path.to_owned(),
            size: file.metadata().map_err(failed)?.len(),
            file,
            rotate_at,
            waiting: Vec::new(),
            dropped: 0,
            torn: recovered.torn,
            is_away: false,
            health: Arc::default(),
        };
        if recovered.ends_within_a_line {
            log.waiting.push(b'\n');
            log.flush();
        }
        Ok((log, recovered))
    }

    /// The log's counters, which stay readable while the log is written.
    #[must_use]
    pub fn health(&self) -> Arc<LogHealth> {
        Arc::clone(&self.health)
    }

    /// Whether somebody moved or deleted the file, so that lines go where nobody looks.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::symlink_metadata(&self.path).map(identity).ok();
        self.file.metadata().is_ok_and(|open| there != Some(identity(open)))
    }

    /// Starts another file where [`Log::is_elsewhere`] says so, once no line is written in part. Until it can be
    /// started, lines go to the one that is open: a folder that is gone is not made, for agents might see it.
    pub fn come_back(&mut self) {
        if !self.waiting.is_empty() || !self.is_elsewhere() {
            return;
        }
        let started = self.start_anew();
        self.is_away = started.is_err();
        match started {
            Ok(()) => {
                tracing::warn!(path = %self.path.display(), "audit log was moved or deleted: another is started");
                self.health.succeeded(0);
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn start_anew(&mut self) -> Result<(), LogError> {
        let failed = |source| LogError::Open { path: self.path.clone(), source };
        let file = open_alone(&self.path)?;
        let found = recover(&self.path, &rotated(&self.path, 1)).map_err(failed)?;
        self.size = file.metadata().map_err(failed)?.len();
        self.file = file;
        if found.ends_within_a_line {
            self.waiting.push(b'\n');
        }
        Ok(())
    }

    /// Appends `lines`. What cannot be written waits for the next call, up to [`MAX_WAITING`]
    /// octets; what comes on top is counted for [`Log::take_dropped`].
    pub fn append(&mut self, lines: &[Arc<Line>]) {
        for line in lines {
            let bytes = encode_line(line.as_ref());
            if self.waiting.len() + bytes.len() > MAX_WAITING {
                self.dropped += 1;
                self.health.gave_up_a_line();
            } else {
                self.waiting.extend_from_slice(&bytes);
            }
        }
        self.flush();
    }

    /// How many lines were given up since the last call; 0 as long as the log can't be written.
    pub fn take_dropped(&mut self) -> u64 {
        if self.waiting.is_empty() { std::mem::take(&mut self.dropped) } else { 0 }
    }

    /// Whether the log was found with its last line torn; told once.
    pub fn take_torn(&mut self) -> bool {
        std::mem::take(&mut self.torn)
    }

    /// Whether lines wait for the next attempt.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || self.dropped > 0
    }

    fn flush(&mut self) {
        let waiting = self.waiting.len();
        let outcome = write_some(&mut self.file, &mut self.waiting);
        self.size += (waiting - self.waiting.len()) as u64;
        match outcome {
            Ok(()) if waiting > 0 && self.is_away => self.health.wrote(waiting as u64),
            Ok(()) if waiting > 0 => self.health.succeeded(waiting as u64),
            Ok(()) => {}
            Err(error) => self.report("write", &error),
        }
        if self.waiting.is_empty() && self.size >= self.rotate_at {
            match self.rotate() {
                Ok(()) => {}
                Err(error) => self.report("rotate", &error),
            }
        }
    }

    /// Starts a file. The one that is open stays in use until the other is in its place.
    fn rotate(&mut self) -> io::Result<()> {
        let next = with_suffix(&self.path, "next");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = open_for_append(&next)?;
        file.try_lock().map_err(io::Error::from)?;
        for age in (1..KEEP).rev() {
            rename_if_there(&rotated(&self.path, age), &rotated(&self.path, age + 1))?;
        }
        fs::rename(&self.path, rotated(&self.path, 1))?;
        fs::rename(&next, &self.path)?;
        self.file = file;
        self.size = 0;
        Ok(())
    }

    fn report(&self, act: &str, error: &io::Error) {
        self.fail(&format!("failed to {act} audit log `{}`: {error}", self.path.display()));
    }

    fn fail(&self, text: &str) {
        // Once per spell of failures: the counter tells the rest.
        if self.health.read().last_error.is_none() {
            tracing::error!(path = %self.path.display(), error = text, "audit log cannot be kept");
        }
        self.health.failed(text, self.waiting.len());
    }
}

impl Drop for Log {
    /// A last attempt at what waits, then down to the disk.
    fn drop(&mut self) {
        self.flush();
        if let Err(error) = self.file.sync_data() {
            self.report("sync", &error);
        }
    }
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("failed to open audit log `{path}`: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("audit log `{0}` is written by another daemon: stop it, or give this one another file")]
    Busy(PathBuf),
}

/// Octets after which a file is put aside: some 100,000 records, and quick to search.
const ROTATE_AT: u64 = 64 << 20;
/// Files that are kept beside the one that is written: half a gibibyte in all.
const KEEP: u32 = 8;
/// Octets that may wait while the disk is full or broken: some 6,000 records.
const MAX_WAITING: usize = 4 << 20;

/// Opens the file for nobody else to write.
fn open_alone(path: &Path) -> Result<File, LogError> {
    let failed = |source| LogError::Open { path: path.to_owned(), source };
    let file = open_for_append(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Busy(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // Nobody may hand us a link to a file of theirs, or a pipe to wait for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Writes from the front of `waiting`, and leaves there what was not taken.
fn write_some(file: &mut File, waiting: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    let outcome = loop {
        match file.write(&waiting[written..]) {
            Ok(0) if written == waiting.len() => break Ok(()),
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(octets) => written += octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    waiting.drain(..written);
    outcome
}

fn rotated(path: &Path, age: u32) -> PathBuf {
    with_suffix(path, &age.to_string())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Gap, LostAt, SCHEMA_VERSION, Time};

    #[test]
    fn the_numbering_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/audit.jsonl");
        let (mut log, recovered) = Log::open(&path).unwrap();
        assert_eq!((recovered.next_seq, recovered.lines.len()), (1, 0));
        log.append(&lines(1..=3));
        drop(log);
        let (_log, recovered) = Log::open(&path).unwrap();
        assert_eq!((recovered.next_seq, recovered.lines.len(), recovered.torn), (4, 3, false));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_last_line_is_reported_and_the_next_starts_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Log::open(&path).unwrap().0.append(&lines(1..=2));
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"v\":1,\"seq\":3,\"ti");
        fs::write(&path, text).unwrap();
        let (mut log, recovered) = Log::open(&path).unwrap();
        assert_eq!((recovered.next_seq, recovered.torn), (4, true));
        log.append(&lines(4..=4));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.lines().last().unwrap().starts_with("{\"v\":1,\"seq\":4,"), "{text}");
    }

    #[test]
    fn a_last_line_that_only_lacks_its_newline_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Log::open(&path).unwrap().0.append(&lines(1..=2));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.trim_end()).unwrap();
        let (mut log, recovered) = Log::open(&path).unwrap();
        assert_eq!((recovered.next_seq, recovered.torn), (3, false));
        log.append(&lines(3..=3));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn a_full_file_is_put_aside_and_eight_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut log, _) = Log::open_rotating_at(&path, 1).unwrap();
        for seq in 1..=10 {
            log.append(&lines(seq..=seq));
        }
        drop(log);
        assert!(rotated(&path, 8).exists() && !rotated(&path, 9).exists());
        let (_log, recovered) = Log::open(&path).unwrap();
        assert_eq!(recovered.next_seq, 11, "the file before is read where the last is empty");
    }

    #[test]
    fn a_log_that_was_moved_or_deleted_is_started_anew_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("deep/audit.jsonl"), folder.path().join("moved"));
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let (mut log, _) = Log::open(&path).unwrap();
        let mut write = |seq| {
            log.come_back();
            log.append(&lines(seq..=seq));
            (log.is_elsewhere(), log.health().read().last_error)
        };
        assert_eq!(write(1), (false, None));
        fs::rename(&path, &moved).unwrap();
        assert_eq!(write(2), (false, None));
        assert!(text(&moved).lines().count() == 1 && text(&path).starts_with("{\"v\":1,\"seq\":2,"));
        fs::remove_file(&path).unwrap();
        assert_eq!(write(3), (false, None));
        assert!(text(&path).starts_with("{\"v\":1,\"seq\":3,"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "of somebody").unwrap();
        assert_eq!(write(4), (false, None));
        assert!(text(&path).starts_with("of somebody\n{\"v\":1,\"seq\":4,"), "{}", text(&path));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        let (is_elsewhere, error) = write(5);
        assert!(is_elsewhere && text(&moved).lines().count() == 1, "a link is not followed");
        assert!(error.is_some_and(|error| error.contains("failed to open audit log")), "and it is told");
    }

    #[test]
    fn a_log_that_cannot_be_started_anew_is_no_healthy_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut log, _) = Log::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        log.come_back();
        log.append(&lines(1..=1));
        let health = log.health().read();
        assert!(health.last_error.is_some_and(|error| error.contains("failed to open audit log")));
        assert_eq!((health.failures, health.waiting), (1, 0));
        fs::remove_dir(&path).unwrap();
        log.come_back();
        assert_eq!(log.health().read().last_error, None);
    }

    #[test]
    fn two_daemons_never_write_one_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let _first = Log::open(&path).unwrap();
        assert!(matches!(Log::open(&path), Err(LogError::Busy(_))));
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(Log::open(&path), Err(LogError::Open { .. })));
    }

    #[test]
    fn a_disk_that_is_full_loses_nothing_until_too_much_waits_and_then_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut log, _) = Log::open(&path).unwrap();
        let disk =
            std::mem::replace(&mut log.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
        let line_length = encode_line(lines(1..=1)[0].as_ref()).len();
        let fitting = (MAX_WAITING / line_length) as u64;
        log.append(&vec![Arc::clone(&lines(1..=1)[0]); MAX_WAITING / line_length + 5]);
        let health = log.health().read();
        assert_eq!((health.failures, health.dropped, health.written), (1, 5, 0));
        assert!(health.last_error.unwrap().contains("No space left"));
        assert_eq!(log.take_dropped(), 0, "the gap waits until it can be written");
        log.file = disk;
        log.append(&[]);
        assert_eq!(log.take_dropped(), 5);
        assert_eq!(log.health().read().last_error, None);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count() as u64, fitting);
    }

    fn lines(seqs: std::ops::RangeInclusive<u64>) -> Vec<Arc<Line>> {
        let gap =
            |seq| Gap { v: SCHEMA_VERSION, seq, time: Time::now(), lost: 1, at: LostAt::Queue, agent: None };
        seqs.map(|seq| Arc::new(Line::Gap(gap(seq)))).collect()
    }
}
