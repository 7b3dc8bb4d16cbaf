//! Policies from real git servers, by https and by ssh: who proves what to whom, and what becomes of those who do not.

use crate::{
    AGENT,
    fence::Fence,
    git::{ALT, OK, Repository, revision, source},
    git_server::{Certificate, PASSWORD, ShellServer, USER, WebServer, known},
    lab::Lab,
    policies::with,
    program::{self, Outcome, Program, poll},
    programs,
    talker::Talker,
    traces,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn policies_come_by_https_from_a_server_of_an_own_authority_with_a_password() {
    let host = Host::new();
    let server = WebServer::start(&host.lab);
    let (ca, token) = (server.authority(), host.secret("token", &format!("{USER}:{PASSWORD}\n")));
    let (fence, repository) = host
        .follows(&WebServer::address("/private/repository/.git"), &[("ca", &ca), ("credentials", &token)]);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://alt.test/");
    let commit = repository.commit(&with(&[OK, ALT]), Some("ada"));
    takes(&fence, &commit);
    talker.does("fetch https://alt.test/");
    let status = fence.ctl(&["status"]);
    assert!(status.says("https://10.99.0.10:8443/private/repository/.git"), "{status:#?}");
    is_told_nowhere(&fence, PASSWORD);
    fs::write(&token, format!("{USER}:another\n")).expect("ours");
    repository.commit(&with(&[OK]), Some("ada"));
    refuses(&fence, &format!("does not take what is in `credentials` {}", token.display()), &commit);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("ours");
    refuses(&fence, "may be read by others than root", &commit);
    fs::remove_file(&token).expect("ours");
    refuses(&fence, &format!("failed to read `credentials` {}", token.display()), &commit);
    is_told_nowhere(&fence, "another");
}

#[test]
fn a_password_in_the_address_is_enough_and_is_shown_nowhere() {
    let host = Host::new();
    let server = WebServer::start(&host.lab);
    let address = WebServer::address("/private/repository/.git");
    let address = address.replace("https://", &format!("https://{USER}:{}@", PASSWORD.replace('-', "%2D")));
    let (fence, repository) = host.follows(&address, &[("ca", &server.authority())]);
    takes(&fence, &repository.commit(&with(&[OK, ALT]), Some("ada")));
    is_told_nowhere(&fence, PASSWORD);
    is_told_nowhere(&fence, "%2D");
}

#[test]
fn a_server_that_does_not_prove_who_it_is_changes_nothing_and_the_status_says_why() {
    let host = Host::new();
    let server = WebServer::start(&host.lab);
    let ca = server.authority();
    let (fence, repository) = host.follows(&WebServer::address("/repository/.git"), &[("ca", &ca)]);
    let mut talker = Talker::start(&fence.agent(AGENT));
    let first = repository.head();
    let second = repository.commit(&with(&[OK, ALT]), Some("ada"));
    for (certificate, why) in [
        (Certificate::Stranger, format!("is not of an authority of `ca` {}", ca.display())),
        (Certificate::OtherName, "is for another name".to_owned()),
        (Certificate::Expired, "or its time is over".to_owned()),
    ] {
        server.shows(certificate);
        refuses(&fence, &why, &first);
        talker.does("fetch https://ok.test/");
        talker.fails("fetch https://alt.test/");
    }
    server.shows(Certificate::Good);
    takes(&fence, &second);
    talker.does("fetch https://alt.test/");
}

#[test]
fn a_server_that_sends_away_or_denies_is_not_followed() {
    let host = Host::new();
    let _traces = Traces(host.lab.name().to_owned());
    let server = WebServer::start(&host.lab);
    let ca = server.authority();
    let _repository = host.repository();
    for (path, why) in [
        ("/elsewhere/repository/.git", "sends us to another address"),
        ("/plain/repository/.git", "sends us to another address"),
        ("/private/repository/.git", "asks who we are"),
        ("/forbidden/repository/.git", "does not let whom `credentials` stand for"),
        ("/nowhere/.git", "has no such repository"),
    ] {
        host.configure(&WebServer::address(path), &[("ca", &ca)]);
        let outcome = host.egressd("true");
        assert!(outcome.says(why) && !outcome.says(FOLLOWED), "{path}: {outcome:#?}");
    }
    host.configure(&WebServer::address("/repository/.git"), &[("ca", &ca)]);
    let outcome = host.egressd("true");
    assert!(outcome.says(FOLLOWED), "the same server, where it sends nobody away: {outcome:#?}");
}

#[test]
fn an_own_authority_is_believed_in_the_place_of_those_of_the_host() {
    let host = Host::new();
    let _traces = Traces(host.lab.name().to_owned());
    let server = WebServer::start(&host.lab);
    server.shows(Certificate::Stranger);
    let _repository = host.repository();
    // As a folder and as a file: what curl believes if it is not told otherwise.
    let stage = "c=$(dirname $0)/certs; mkdir -p $c && cp $0 $c/ca-certificates.crt && \
                 cp $0 $c/$(openssl x509 -in $0 -noout -hash).0 && mount --bind $c /etc/ssl/certs";
    let stage = stage.replace("$0", &server.authority().with_file_name("stranger.pem").display().to_string());
    let address = WebServer::address("/repository/.git");
    host.configure(&address, &[]);
    let twin = host.egressd(&stage);
    assert!(twin.says(FOLLOWED), "the host believes this authority: {twin:#?}");
    host.configure(&address, &[("ca", &server.authority())]);
    let outcome = host.egressd(&stage);
    assert!(outcome.says("is not of an authority of `ca`") && !outcome.says(FOLLOWED), "{outcome:#?}");
}

#[test]
fn a_password_is_in_no_argument_and_no_environment_while_git_uses_it() {
    let host = Host::new();
    let server = WebServer::start(&host.lab);
    let (ca, token) = (server.authority(), host.secret("token", &format!("{USER}:{PASSWORD}\n")));
    let (fence, repository) = host
        .follows(&WebServer::address("/private/repository/.git"), &[("ca", &ca), ("credentials", &token)]);
    let commit = repository.commit(&with(&[OK, ALT]), Some("ada"));
    let header = "cG9saWNpZXM6b3Blbi1zZXNhbWUtNDcxMQ==";
    let asked = server.slowly(|| {
        let asked = Program::start(fence.ctl_command(&["reload"]));
        let git = poll("git, which waits for the server", || helper_of_git(fence.lab().folder()));
        // Servers live elsewhere, and tell their scripts the password: in this scenario, and in those beside it.
        let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
        let here = network(&git).expect("git waits");
        for process in processes().filter(|process| network(process).as_ref() == Some(&here)) {
            for file in ["cmdline", "environ"] {
                let text = fs::read(process.join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let is_told = text.contains(PASSWORD) || text.contains(header);
                assert!(!is_told, "{} of {}", file, process.display());
            }
        }
        let is_memory =
            |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.display().to_string().contains("memfd:"));
        let holds = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default().contains(header);
        let mut open =
            fs::read_dir(git.join("fd")).expect("root may look").flatten().map(|entry| entry.path());
        let secret = open.find(|path| is_memory(path) && holds(path)).expect("git is lent it in memory");
        let read = fence.agent(AGENT).run(&format!("cat {}", secret.display()));
        assert!(!read.succeeded() && !read.says(header), "an agent reads no memory of git: {read:#?}");
        asked
    });
    let outcome = asked.finish();
    assert!(outcome.succeeded(), "{outcome:#?}");
    assert_eq!(revision(&fence), commit);
    let read = fence.agent(AGENT).run(&format!("cat {}", token.display()));
    assert!(!read.succeeded() && !read.says(PASSWORD), "the file is not there for agents: {read:#?}");
}

#[test]
fn policies_come_by_ssh_with_a_key_from_a_server_whose_key_is_known() {
    let host = Host::new();
    let (key, public) = host.key("deploy");
    let (_, other) = host.key("other");
    let server = ShellServer::start(&host.lab, &public);
    let hosts = host.secret("known_hosts", &server.known());
    let address = ShellServer::address(&host.lab.folder().join("git/repository"));
    let (fence, repository) = host.follows(&address, &[("identity", &key), ("known_hosts", &hosts)]);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://alt.test/");
    let first = repository.commit(&with(&[OK]), Some("ada"));
    takes(&fence, &first);
    let second = repository.commit(&with(&[OK, ALT]), Some("ada"));
    for (text, why) in
        [(known(&other), "somebody may be in between"), (String::new(), "`ssh-keyscan -p 2222 ")]
    {
        fs::write(&hosts, text).expect("ours");
        refuses(&fence, why, &first);
    }
    fs::write(&hosts, server.known()).expect("ours");
    let good = fs::read(&key).expect("ours");
    let stranger = fs::read(key.with_file_name("other")).expect("ours");
    for (text, why) in [
        (&stranger[..], format!("does not take the key in `identity` {}", key.display())),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHI",
            "has a passphrase".to_owned(),
        ),
        (b"nonsense", "is no private key".to_owned()),
    ] {
        fs::write(&key, text).expect("ours");
        refuses(&fence, &why, &first);
    }
    talker.fails("fetch https://alt.test/");
    // As editors leave it that end no last line.
    fs::write(&key, good.trim_ascii_end()).expect("ours");
    takes(&fence, &second);
    talker.does("fetch https://alt.test/");
    let read = fence.agent(AGENT).run(&format!("cat {}", key.display()));
    assert!(!read.succeeded() && !read.says("PRIVATE KEY"), "an agent has no key: {read:#?}");
    is_told_nowhere(&fence, "PRIVATE KEY");
}

#[test]
fn nothing_of_this_host_tells_ssh_what_to_do() {
    let host = Host::new();
    let _traces = Traces(host.lab.name().to_owned());
    let (key, public) = host.key("deploy");
    let server = ShellServer::start(&host.lab, &public);
    let hosts = host.secret("known_hosts", &server.known());
    let _repository = host.repository();
    let ran = host.lab.folder().join("ran");
    fs::write(&ran, "").expect("a file of the lab");
    fs::set_permissions(&ran, fs::Permissions::from_mode(0o666)).expect("it is ours");
    // ssh ends a command whose output is closed: `>>` would close it before anything is written.
    let stage = "mkdir -p $0.etc && printf 'Host *\\n  ProxyCommand echo ran | tee -a $0\\n' > $0.etc/ssh_config && \
                 mount --bind $0.etc /etc/ssh";
    let stage = stage.replace("$0", &ran.display().to_string());
    let address = ShellServer::address(&host.lab.folder().join("git/repository"));
    host.configure(&address, &[("identity", &key), ("known_hosts", &hosts)]);
    let has_run = || !fs::read_to_string(&ran).expect("it is there").is_empty();
    let outcome = host.egressd(&stage);
    assert!(outcome.says(FOLLOWED) && !has_run(), "{outcome:#?}");
    let twin = host.staged(&stage, &["ssh", "-o", "BatchMode=yes", "root@10.99.0.10", "true"]);
    poll(&format!("what counts for others: {twin:#?}"), || has_run().then_some(()));
}

/// A lab whose host follows a repository.
struct Host {
    lab: Lab,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new();
        // git is somebody else.
        fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::create_dir(lab.folder().join("secrets")).expect("a folder of the lab");
        fs::set_permissions(lab.folder().join("secrets"), fs::Permissions::from_mode(0o700))
            .expect("it is ours");
        Self { lab }
    }

    /// A file that root alone may read.
    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.folder().join("secrets").join(name);
        fs::write(&path, text).expect("a file of the lab");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        path
    }

    /// A key of ssh, and its public half.
    fn key(&self, name: &str) -> (PathBuf, String) {
        let path = self.lab.folder().join("secrets").join(name);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path);
        assert!(program::run(keygen).succeeded(), "ssh-keygen makes a key");
        let public = fs::read_to_string(path.with_extension("pub")).expect("the public half");
        (path, public)
    }

    /// One that allows [`OK`].
    fn repository(&self) -> Repository {
        let repository = Repository::new(self.lab.folder().join("git"));
        repository.commit(&with(&[OK]), Some("ada"));
        repository
    }

    /// Writes the daemon's own file: the repository is asked when somebody says so.
    fn configure(&self, address: &str, keys: &[(&str, &Path)]) -> PathBuf {
        let folder = self.lab.folder();
        let keys: String =
            keys.iter().map(|(name, path)| format!("  {name}: {}\n", path.display())).collect();
        let text = format!(
            "version: 1\nstate_dir: {}\nsource:\n  git: {address}\n  path: p\n  interval: never\n  \
             verify: signed\n  keys: {}\n{keys}",
            folder.join("state").display(),
            folder.join("git/signers").display()
        );
        let config = folder.join("egressd.yaml");
        fs::write(&config, text).expect("a file of the lab");
        config
    }

    /// A fence whose policies come from there.
    fn follows(self, address: &str, keys: &[(&str, &Path)]) -> (Fence, Repository) {
        let repository = self.repository();
        let config = self.configure(address, keys);
        let flags: &'static [&'static str] = vec!["--config", &*config.display().to_string().leak()].leak();
        (Fence::start_without_policy(self.lab, programs(), flags), repository)
    }

    /// What egressd says that is started by a shell that runs `stage` first, in a mount namespace of its own: it
    /// asks the repository, and ends with [`FOLLOWED`] or before.
    fn egressd(&self, stage: &str) -> Outcome {
        let folder = self.lab.folder();
        // What the one before put in force would be in force without asking.
        let _ = fs::remove_dir_all(folder.join("state"));
        let [config, run, log] =
            ["egressd.yaml", "run", "audit.jsonl"].map(|name| folder.join(name).display().to_string());
        let egressd = programs().egressd.display().to_string();
        let own = [&*egressd, "--config", &config, "--run-dir", &run, "--audit-log", &log];
        let outcome = self.staged(stage, &[&own[..], &["--instance", self.lab.name()]].concat());
        assert!(!outcome.succeeded(), "it lives in a private mount namespace: {outcome:#?}");
        outcome
    }

    fn staged(&self, stage: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.lab.bare_command("unshare");
        let script = format!("{stage}\nexec \"$@\"");
        command.args(["--mount", "bash", "-c", &script, "bash"]).args(arguments);
        program::run(command)
    }
}

/// What a daemon without a fence left, until it is dropped.
struct Traces(String);

impl Drop for Traces {
    fn drop(&mut self) {
        traces::remove(&self.0);
    }
}

/// What egressd says that has policies, and would not outlive its mount namespace.
const FOLLOWED: &str = "private mount namespace";

/// The newest commit is put in force, and is this one.
fn takes(fence: &Fence, commit: &str) {
    let asked = fence.ctl(&["reload"]);
    assert!(asked.succeeded(), "{asked:#?}");
    assert_eq!(revision(fence), commit);
    assert!(fence.ctl(&["status", "-q"]).succeeded());
}

/// The repository cannot be asked, whoever asks is told `why`, and `commit` stays.
fn refuses(fence: &Fence, why: &str, commit: &str) {
    for verb in ["reload", "status"] {
        let told = fence.ctl(&[verb]);
        assert!(!told.succeeded() && told.says(why), "{why}: {told:#?}");
    }
    assert!(source(fence)["failure"]["why"].as_str().is_some_and(|told| told.contains(why)), "{why}");
    assert_eq!(revision(fence), commit);
}

/// Neither by the daemon nor by what it keeps and answers.
fn is_told_nowhere(fence: &Fence, secret: &str) {
    let asks: [&[&str]; 5] = [
        &["status"],
        &["status", "-o", "json"],
        &["policy", "history", "-o", "json"],
        &["metrics"],
        &["tail", "-n", "1000", "--all", "-o", "json"],
    ];
    for ask in asks {
        assert!(!fence.ctl(ask).says(secret), "{ask:?}");
    }
    let log = fs::read_to_string(fence.audit_log()).unwrap_or_default();
    let told = [fence.daemon().stdout(), fence.daemon().stderr(), log].concat();
    assert!(!told.contains(secret), "{told}");
    let mut kept = Command::new("grep");
    kept.args(["-rF", "--", secret]).arg(fence.lab().folder().join("state"));
    let kept = program::run(kept);
    assert_eq!(kept.code, 1, "{kept:#?}");
}

/// What git runs to speak to a server, of the daemon that keeps its files in `folder`.
fn helper_of_git(folder: &Path) -> Option<PathBuf> {
    let folder = folder.display().to_string();
    let has = |process: &Path, file: &str, text: &str| {
        fs::read(process.join(file)).is_ok_and(|read| String::from_utf8_lossy(&read).contains(text))
    };
    processes().find(|process| has(process, "cmdline", "remote-https") && has(process, "environ", &folder))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").expect("it is there").flatten();
    let is_number = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
    entries.filter(is_number).map(|entry| entry.path())
}
