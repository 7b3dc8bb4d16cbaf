//! What git needs to reach a server and to be believed by it, lent for one fetch.
//!
//! git is another user, and reads no file of root's. Secrets and what servers are believed by are lent as memory
//! that it inherits: a file without a name (memfd_create(2)), which git and what it runs open again through `/proc`.
//! An argument could be read by everybody on this host, a variable by whatever of that user looks, in git and in all
//! that it runs. A copy in a file would stay behind where the daemon is killed, and outlive the file that it is a copy
//! of. What is left is that processes of git's user can read the memory while a fetch lasts: hence `user`.

use crate::{
    config::{Access, Login, Repository},
    daemon::watch::is_roots,
};
use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, fchmod},
    },
    unistd::{Gid, Uid, fchown, geteuid},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

/// Memory that git may read for one command, and the options that tell where.
#[derive(Debug, Default)]
pub struct Lent {
    memory: Vec<OwnedFd>,
    /// `NAME=VALUE` of git's configuration. They hold no secret, and count more than what is in any file.
    pub options: Vec<String>,
}

/// Octets of a secret at the most: a token, or a private key.
const MAX_SECRET: u64 = 64 << 10;

/// Octets of authorities and of keys of servers at the most: those of the world are a quarter of it.
const MAX_PUBLIC: u64 = 1 << 20;

/// Who a token is sent for where nobody says: servers look at the token.
const TOKENS_USER: &str = "x-access-token";

/// How ssh is run: with nothing of this host's or anybody's configuration, asking nobody, and with one key for
/// servers whose keys are known.
const SSH: &str = "ssh -F none -T -a -x -o BatchMode=yes -o LogLevel=ERROR \
                   -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no \
                   -o VerifyHostKeyDNS=no -o CheckHostIP=no -o CanonicalizeHostname=no \
                   -o IdentitiesOnly=yes -o IdentityAgent=none -o PreferredAuthentications=publickey \
                   -o ProxyCommand=none -o ControlPath=none -o PermitLocalCommand=no -o ClearAllForwardings=yes \
                   -o ConnectTimeout=20 -o ServerAliveInterval=10 -o ServerAliveCountMax=2";

impl Lent {
    /// Reads the files that `access` names, as they are by now: whoever renews one has to tell nobody.
    ///
    /// # Errors
    /// A file cannot be read, says what it should not, or others may read or write it.
    pub fn to(repository: &Repository, access: &Access, user: Option<(Uid, Gid)>) -> Result<Self> {
        let mut lent = Self::default();
        match access {
            Access::Open => {}
            Access::Https { ca, credentials } => {
                if let Some(ca) = ca {
                    lent.authorities(&public("ca", ca)?, user)?;
                }
                let secret = credentials.as_deref().map(|path| secret("credentials", path)).transpose()?;
                if let Some(header) = header(repository.login(), secret.as_deref())
                    .with_context(|| format!("`credentials` {}", shown(credentials.as_deref())))?
                {
                    lent.header(repository, &header, user)?;
                }
            }
            Access::Ssh { identity, known_hosts } => {
                let key = key(secret("identity", identity)?)
                    .with_context(|| format!("`identity` {}", shown(Some(identity))))?;
                lent.ssh(&key, &public("known_hosts", known_hosts)?, user)?;
            }
        }
        Ok(lent)
    }

    /// What a child has to keep open.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.memory.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Where curl is given a file of authorities it still believes those of a folder, which is the host's unless it
    /// is told of another: one that is not there.
    fn authorities(&mut self, text: &[u8], user: Option<(Uid, Gid)>) -> Result<()> {
        let memory = self.memory(text, user)?;
        self.options.push(format!("http.sslCAInfo=/proc/self/fd/{memory}"));
        self.options.push("http.sslCAPath=/nonexistent".to_owned());
        Ok(())
    }

    /// The header is for this server alone, should git ever ask another.
    fn header(&mut self, repository: &Repository, header: &str, user: Option<(Uid, Gid)>) -> Result<()> {
        let server = repository.server();
        let text = format!("[http \"https://{server}\"]\n\textraHeader = \"{header}\"\n");
        let memory = self.memory(text.as_bytes(), user)?;
        self.options.push(format!("include.path=/proc/self/fd/{memory}"));
        Ok(())
    }

    /// ssh closes what it inherits, but its parent is git, which a shell knows by its number.
    fn ssh(&mut self, identity: &[u8], known_hosts: &[u8], user: Option<(Uid, Gid)>) -> Result<()> {
        let (identity, known_hosts) = (self.memory(identity, user)?, self.memory(known_hosts, user)?);
        let at = |memory: RawFd| format!("/proc/$PPID/fd/{memory}");
        let (identity, known_hosts) = (at(identity), at(known_hosts));
        let command = format!("{SSH} -o IdentityFile={identity} -o UserKnownHostsFile={known_hosts}");
        self.options.push(format!("core.sshCommand={command}"));
        self.options.push("ssh.variant=ssh".to_owned());
        Ok(())
    }

    /// Memory with this text that `user` alone may read, and nobody write.
    fn memory(&mut self, text: &[u8], user: Option<(Uid, Gid)>) -> Result<RawFd> {
        let act = || -> io::Result<OwnedFd> {
            let mut file = File::from(unnamed()?);
            file.write_all(text)?;
            fchmod(&file, Mode::S_IRUSR)?;
            if let Some((uid, gid)) = user {
                fchown(&file, Some(uid), Some(gid))?;
            }
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
            Ok(file.into())
        };
        let memory = act().context("failed to lend git what it needs for the server")?;
        let number = memory.as_raw_fd();
        self.memory.push(memory);
        Ok(number)
    }
}

/// Lets a child keep `descriptors` when it executes its program. Between fork and exec.
pub fn keep(descriptors: &[RawFd]) -> io::Result<()> {
    for descriptor in descriptors {
        // SAFETY: it is open in the parent for as long as `Lent` lives, and fork copied it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(*descriptor) };
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

fn unnamed() -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create("egressd", flags | NOT_EXECUTABLE) {
        Err(Errno::EINVAL) => memfd_create("egressd", flags),
        outcome => outcome,
    }
}

/// MFD_NOEXEC_SEAL of Linux 6.3: hosts with sysctl vm.memfd_noexec=2 want it, older ones do not know it.
const NOT_EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(8);

/// The header field that says who we are: `USER:PASSWORD` or a token of the file, else what the address says.
fn header(login: Option<&Login>, secret: Option<&[u8]>) -> Result<Option<String>> {
    let user = login.map_or(TOKENS_USER, |login| login.user.as_str());
    let text = match (secret, login.and_then(|login| login.password.as_ref())) {
        (Some(secret), _) => {
            let secret = std::str::from_utf8(secret).ok().map(str::trim).filter(|text| !text.is_empty());
            let secret = secret.filter(|text| !text.contains(char::is_control));
            let secret = secret.context("is not one line with `USER:PASSWORD`, or a token")?;
            if secret.contains(':') { secret.to_owned() } else { format!("{user}:{secret}") }
        }
        (None, Some(password)) => format!("{user}:{password}"),
        (None, None) => return Ok(None),
    };
    Ok(Some(format!("Authorization: Basic {}", BASE64.encode(text.as_bytes()))))
}

/// The key as ssh reads it, which says nothing of one that it cannot use but that the server refused it.
fn key(mut key: Vec<u8>) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(&key).unwrap_or_default().trim_start();
    ensure!(
        text.starts_with("-----BEGIN ")
            && text.lines().next().is_some_and(|line| line.contains("PRIVATE KEY")),
        "is no private key: `ssh-keygen -t ed25519 -N '' -f FILE` makes one"
    );
    let is_open = match text.strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----") {
        Some(body) => body.trim_start().starts_with(WITHOUT_PASSPHRASE),
        None => !text.contains("ENCRYPTED"),
    };
    ensure!(
        is_open,
        "has a passphrase, and nobody is there to type it: `ssh-keygen -p -N '' -f FILE` takes it off"
    );
    // Without the end of its last line ssh does not know it.
    key.push(b'\n');
    Ok(key)
}

/// `openssh-key-v1`, a zero octet, and `none` as the name of a cipher (OpenSSH's PROTOCOL.key), in base64.
const WITHOUT_PASSPHRASE: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// What nobody but root may read.
fn secret(name: &str, path: &Path) -> Result<Vec<u8>> {
    let (text, file) = read(name, path, MAX_SECRET)?;
    let found = file.metadata().with_context(|| format!("failed to look at `{name}` {}", path.display()))?;
    ensure!(
        found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0,
        "`{name}` {} may be read by others than root: give it to root, and `chmod 600` it",
        path.display()
    );
    Ok(text)
}

/// What everybody may read, and nobody but root write.
fn public(name: &str, path: &Path) -> Result<Vec<u8>> {
    Ok(read(name, path, MAX_PUBLIC)?.0)
}

/// Where we are root, others may not write it, for they would choose who is believed.
fn read(name: &str, path: &Path, bound: u64) -> Result<(Vec<u8>, File)> {
    let file = File::open(path).with_context(|| format!("failed to read `{name}` {}", path.display()))?;
    ensure!(
        !geteuid().is_root() || is_roots(path),
        "`{name}` {} may be written by others than root: give it and its folders to root",
        path.display()
    );
    let mut text = Vec::new();
    let taken = (&file).take(bound + 1).read_to_end(&mut text);
    taken.with_context(|| format!("failed to read `{name}` {}", path.display()))?;
    ensure!(text.len() as u64 <= bound, "`{name}` {} has more than {bound} octets", path.display());
    Ok((text, file))
}

fn shown(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    #[test]
    fn a_secret_stands_in_no_option_and_nobody_else_may_read_the_memory() {
        let lab = Lab::new();
        let repository = repository("https://git.example/p");
        let access =
            Access::Https { ca: Some(lab.file("ca", "PEM")), credentials: Some(lab.file("t", "me:top")) };
        let lent = Lent::to(&repository, &access, None).unwrap();
        assert_eq!(lent.options.len(), 3, "{lent:?}");
        assert!(!format!("{lent:?}").contains(&BASE64.encode(b"me:top")));
        let text = lab.lent(&lent, 1);
        assert_eq!(
            text,
            "[http \"https://git.example\"]\n\textraHeader = \"Authorization: Basic bWU6dG9w\"\n"
        );
        for memory in &lent.memory {
            assert_eq!(File::from(memory.try_clone().unwrap()).metadata().unwrap().mode() & 0o777, 0o400);
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_not_used() {
        let lab = Lab::new();
        let path = lab.file("token", "secret");
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = format!("{:#}", secret("credentials", &path).unwrap_err());
            assert!(
                why.contains("others than root") && why.contains("token") && !why.contains("secret"),
                "{why}"
            );
        }
        assert!(secret("credentials", &lab.0.path().join("none")).is_err());
        let long = lab.file("long", &"x".repeat(MAX_SECRET as usize + 1));
        assert!(format!("{:#}", secret("credentials", &long).unwrap_err()).contains("more than"));
    }

    #[test]
    fn a_token_is_sent_for_whom_the_address_names_and_a_password_for_whom_the_file_names() {
        let login = |user: &str, password: Option<&str>| Login {
            user: user.to_owned(),
            password: password.map(str::to_owned),
        };
        let (me, all) = (login("me", None), login("me", Some("top")));
        for (login, secret, wanted) in [
            (None, Some("top\n"), "x-access-token:top"),
            (None, Some(" you:t:op \r\n"), "you:t:op"),
            (Some(&me), Some("top"), "me:top"),
            (Some(&me), Some("you:top"), "you:top"),
            (Some(&all), None, "me:top"),
        ] {
            let sent = header(login, secret.map(str::as_bytes)).unwrap().unwrap();
            assert_eq!(
                sent,
                format!("Authorization: Basic {}", BASE64.encode(wanted.as_bytes())),
                "{wanted}"
            );
        }
        assert_eq!(header(Some(&me), None).unwrap(), None, "who we are is nothing without a proof");
        for wrong in ["", "\n", "a\nb", "a\tb", "a\0b"] {
            assert!(header(None, Some(wrong.as_bytes())).is_err(), "{wrong:?}");
        }
        assert!(header(None, Some(b"\xff")).is_err());
    }

    #[test]
    fn a_key_that_ssh_could_not_use_is_refused_with_the_reason() {
        let lab = Lab::new();
        let made = |name: &str, kind: &str, passphrase: &str, format: &[&str]| {
            let path = lab.0.path().join(name);
            let mut keygen = std::process::Command::new("ssh-keygen");
            keygen.args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(&path).args(format);
            assert!(keygen.status().unwrap().success());
            fs::read(path).unwrap()
        };
        for (name, kind, format) in
            [("a", "ed25519", &[][..]), ("b", "ecdsa", &["-m", "PEM"]), ("c", "ecdsa", &["-m", "PKCS8"])]
        {
            let open = made(name, kind, "", format);
            assert_eq!(key(open.clone()).unwrap(), [&open[..], b"\n"].concat());
            let locked = made(&format!("{name}-locked"), kind, "secret", format);
            assert!(key(locked).unwrap_err().to_string().starts_with("has a passphrase"), "{name}");
        }
        for text in ["", "ssh-ed25519 AAAA", "-----BEGIN CERTIFICATE-----", "\u{0}"] {
            assert!(key(text.as_bytes().to_vec()).unwrap_err().to_string().starts_with("is no private key"));
        }
    }

    fn repository(address: &str) -> Repository {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("egressd.yaml");
        fs::write(&path, format!("version: 1\nsource: {{git: \"{address}\"}}\n")).unwrap();
        crate::config::DaemonConfig::load(&path).unwrap().source.unwrap().repository
    }

    struct Lab(tempfile::TempDir);

    impl Lab {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }

        /// What is read by whoever opens it again.
        fn lent(&self, lent: &Lent, index: usize) -> String {
            fs::read_to_string(format!("/proc/self/fd/{}", lent.memory[index].as_raw_fd())).unwrap()
        }
    }
}
