//! git, as a program that is trusted with nothing: another user, no capability, no configuration but ours, and
//! bounds on time, memory and output.

use super::access::{Lent, keep};
use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{Signal, killpg},
    },
    unistd::{Gid, Pid, Uid},
};
use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// How git is run.
#[derive(Debug, Clone)]
pub struct Git {
    /// The program: git, or ssh-keygen beside it.
    pub program: OsString,
    /// The bare repository.
    pub store: PathBuf,
    /// The one file of configuration that is obeyed beside that of the store.
    pub config: PathBuf,
    /// None: as whoever we are, who is not root.
    pub user: Option<(Uid, Gid)>,
    /// The one transport that is allowed, as git calls it.
    pub transport: &'static str,
}

/// What git answered.
#[derive(Debug)]
pub struct Answer {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    /// The last thing that it complained of, in one line.
    pub complaint: String,
    /// All of it.
    pub complaints: Vec<String>,
}

/// How long one command may take: a fetch over a slow link is the longest.
const DEADLINE: Duration = Duration::from_secs(60);

/// Octets that one command may print: a list of files, or the largest of them.
const MAX_OUTPUT: u64 = 4 << 20;

/// Octets of the largest file that git may write: of all that one fetch brings.
const MAX_FILE: u64 = 128 << 20;

/// Octets of memory that git may ask for.
const MAX_MEMORY: u64 = 2 << 30;

/// Seconds of a processor.
const MAX_PROCESSOR: u64 = 60;

/// Octets of what it complains of that are read, and letters that are shown.
const MAX_COMPLAINT: u64 = 16 << 10;
const SHOWN: usize = 200;

/// Where git and what it runs are found: never where a user's PATH leads.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const ENVIRONMENT: [(&str, &str); 9] = [
    ("PATH", PATH),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_LITERAL_PATHSPECS", "1"),
];

impl Git {
    /// What git prints.
    ///
    /// # Errors
    /// It cannot be run, fails, or exceeds a bound.
    pub fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let answer = self.run(arguments)?;
        match answer.status.success() {
            true => Ok(answer.output),
            false => bail!("{}: {}", self.named(arguments), answer.complaint),
        }
    }

    /// The same as one line of text.
    ///
    /// # Errors
    /// See [`Self::ask`]; also where it is no text.
    pub fn line(&self, arguments: &[&str]) -> Result<String> {
        let answer = String::from_utf8(self.ask(arguments)?).context("git answered with what is no text")?;
        Ok(answer.trim_end_matches('\n').to_owned())
    }

    /// What git answers, also where it says no.
    ///
    /// # Errors
    /// It cannot be run, or exceeds a bound.
    pub fn run(&self, arguments: &[&str]) -> Result<Answer> {
        self.run_on(arguments, Stdio::null(), &Lent::default())
    }

    /// The same, with an input, and with what is lent for this command.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub fn run_on(&self, arguments: &[&str], input: Stdio, lent: &Lent) -> Result<Answer> {
        let spawned = self.command(arguments, lent).stdin(input).spawn();
        let mut child =
            spawned.with_context(|| format!("failed to run `{}`", self.program.to_string_lossy()))?;
        let outcome = wait(&mut child);
        if outcome.is_err() {
            // The whole group: what git started must not outlive it. ESRCH means that it has ended.
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
        outcome.with_context(|| self.named(arguments))
    }

    fn named(&self, arguments: &[&str]) -> String {
        format!("{} {}", self.program.to_string_lossy(), arguments.first().unwrap_or(&""))
    }

    fn command(&self, arguments: &[&str], lent: &Lent) -> Command {
        let mut command = Command::new(&self.program);
        if let Some((uid, gid)) = self.user {
            // Command gives up every further group as it changes the user, and the kernel all capabilities.
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
            .env_clear()
            .envs(ENVIRONMENT)
            .env("GIT_CONFIG_GLOBAL", &self.config)
            .env("GIT_DIR", &self.store)
            .env("TMPDIR", &self.store)
            // Beside `protocol.*` of the configuration: `ext` runs what the address says.
            .env("GIT_ALLOW_PROTOCOL", self.transport)
            .args(lent.options.iter().flat_map(|option| ["-c", option.as_str()]))
            .args(arguments)
            .current_dir("/")
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let descriptors = lent.descriptors();
        // SAFETY: between fork and exec, `keep` and `confine` make system calls and nothing else.
        unsafe { command.pre_exec(move || keep(&descriptors).and_then(|()| confine())) };
        command
    }
}

/// Bounds this process and all that it will start.
fn confine() -> io::Result<()> {
    prctl::set_no_new_privs()?;
    // Should the daemon be killed meanwhile.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    for (resource, bound) in [
        (Resource::RLIMIT_FSIZE, MAX_FILE),
        (Resource::RLIMIT_AS, MAX_MEMORY),
        (Resource::RLIMIT_CPU, MAX_PROCESSOR),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, bound, bound)?;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    Ok(())
}

fn wait(child: &mut Child) -> Result<Answer> {
    let end = Instant::now() + DEADLINE;
    let output = child.stdout.take().map(|pipe| collect(pipe, MAX_OUTPUT));
    let errors = child.stderr.take().map(|pipe| collect(pipe, MAX_COMPLAINT));
    let received = |pipe: Option<Receiver<Vec<u8>>>| {
        let left = end.saturating_duration_since(Instant::now());
        let octets = pipe.map_or(Ok(Vec::new()), |pipe| pipe.recv_timeout(left));
        octets.with_context(|| format!("no answer within {} seconds", DEADLINE.as_secs()))
    };
    let output = received(output)?;
    if output.len() as u64 > MAX_OUTPUT {
        bail!("answered with more than {MAX_OUTPUT} octets");
    }
    let complaints = lines(&received(errors)?);
    let status = loop {
        match child.try_wait().context("failed to wait for it")? {
            Some(status) => break status,
            None if Instant::now() > end => bail!("no end within {} seconds", DEADLINE.as_secs()),
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    let complaint = complaints.last().cloned().unwrap_or_else(|| status.to_string());
    Ok(Answer { status, output, complaint, complaints })
}

/// Reads `pipe` in a thread of its own: as much as `bound` has room for and an octet, of the rest nothing.
fn collect(pipe: impl Read + Send + 'static, bound: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut octets = Vec::new();
        // What came before an error still counts; nobody may be left to hear of it.
        let _ = pipe.take(bound + 1).read_to_end(&mut octets);
        let _ = sender.send(octets);
    });
    receiver
}

/// The lines that say something, without control characters. A remote may have written them.
fn lines(errors: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(errors);
    let shown = |line: &str| line.trim().chars().filter(|letter| !letter.is_control()).take(SHOWN).collect();
    text.lines().map(shown).filter(|line: &String| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_has_no_capability_and_can_gain_none() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can run programs as others");
            return;
        }
        let user = Some((Uid::from_raw(64_321), Gid::from_raw(64_322)));
        let status = sh(user, "cat /proc/self/status").unwrap();
        let has = |name: &str, value: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), value, "{name} of {status}");
        };
        has("Uid:", "64321 64321 64321 64321");
        has("Gid:", "64322 64322 64322 64322");
        has("Groups:", "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            has(set, "0000000000000000");
        }
        has("NoNewPrivs:", "1");
    }

    #[test]
    fn git_sees_nothing_of_the_environment_but_ours() {
        let seen = sh(None, "env").unwrap();
        let names: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let ours = |name: &&str| {
            ENVIRONMENT.iter().any(|(own, _)| own == name)
                || ["GIT_ALLOW_PROTOCOL", "GIT_CONFIG_GLOBAL", "GIT_DIR", "TMPDIR", "PWD", "SHLVL", "_"]
                    .contains(name)
        };
        assert!(names.iter().all(ours), "{names:?}");
        assert!(seen.contains(&format!("PATH={PATH}\n")), "{seen}");
    }

    #[test]
    fn git_is_allowed_one_transport() {
        let (store, config) = ("/nonexistent".into(), "/dev/null".into());
        let git = Git { program: "git".into(), store, config, user: None, transport: "ssh" };
        for address in ["https://127.0.0.1:1/p", "git://127.0.0.1:1/p", "/nonexistent", "ext::true"] {
            let why = git.run(&["ls-remote", address]).unwrap().complaints.concat();
            assert!(why.contains("not allowed"), "{address}: {why}");
        }
    }

    #[test]
    fn what_exceeds_a_bound_is_ended_with_all_that_it_started() {
        let endless = sh(None, "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done");
        assert!(format!("{:#}", endless.unwrap_err()).contains("more than"), "an output without end");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("large").display().to_string();
        assert!(sh(None, &format!("head -c {} /dev/zero > {file}", MAX_FILE + 1)).is_err());
        assert!(std::fs::metadata(file).unwrap().len() <= MAX_FILE);
    }

    #[test]
    fn a_complaint_is_one_line_that_no_terminal_obeys() {
        let failed = sh(None, "echo first >&2; printf 'remote: \\033[2Jwhy\\n\\n' >&2; exit 3").unwrap_err();
        assert_eq!(failed.to_string(), "sh -c: remote: [2Jwhy");
    }

    fn sh(user: Option<(Uid, Gid)>, script: &str) -> Result<String> {
        // In the place of git.
        let (store, config) = ("/".into(), "/dev/null".into());
        let git = Git { program: "sh".into(), store, config, user, transport: "file" };
        git.line(&["-c", script])
    }
}
