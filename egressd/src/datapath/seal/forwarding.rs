//! Forwarding: a host that is no router becomes one for its sealed agents, and for nobody else.
//!
//! Where the host forwards already, nothing is touched. Where it does not, it is told to, and a
//! table of its own drops whatever neither comes from an agent nor answers one, so that the host
//! forwards no more for others than it did.

use super::super::nft::{self, NftError};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// What turns forwarding on. All daemons of a network namespace share one table and one lock.
#[derive(Debug)]
pub struct Forwarding {
    lock: PathBuf,
}

/// Why frames of agents go no further than this host.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    #[error("failed to use `{path}`: {error}", path = .0.display(), error = .1)]
    Setting(PathBuf, io::Error),
    #[error(transparent)]
    Nft(#[from] NftError),
}

type Outcome<T> = Result<T, ForwardingError>;

impl Forwarding {
    /// `folder` is one that all daemons of this host share.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { lock: folder.join("forwarding.lock") }
    }

    /// Has the host forward for agents, unless it forwards already.
    ///
    /// # Errors
    /// Names the setting, or what `nft` said.
    pub fn ensure(&self) -> Outcome<()> {
        let _turn = self.turn()?;
        let missing = missing()?;
        if missing.is_empty() {
            return Ok(());
        }
        missing.iter().try_for_each(|setting| write(&self.mark(setting)?, ""))?;
        // First the guard: nobody else's packet is forwarded in between.
        nft::run(&missing.iter().map(|setting| guard(setting.family)).collect::<String>())?;
        if missing.iter().any(|setting| setting.family == "ip6") {
            keep_router_advertisements()?;
        }
        missing.iter().try_for_each(|setting| write(setting.path, "1"))
    }

    /// Puts back what [`Self::ensure`] changed, once no agent of any daemon is left.
    ///
    /// # Errors
    /// Names the setting, or what `nft` said.
    pub fn restore(&self) -> Outcome<()> {
        let _turn = self.turn()?;
        if is_used() {
            return Ok(());
        }
        for setting in self.turned_on()? {
            write(setting.path, "0")?;
            nft::run(&removal(setting.family))?;
            // Nobody reads it again but to do the same once more.
            let _ = fs::remove_file(self.mark(setting)?);
        }
        Ok(())
    }

    /// Puts the tables back that somebody flushed: without them, the host would forward for everybody.
    ///
    /// # Errors
    /// Names the setting, or what `nft` said.
    pub fn repair(&self) -> Outcome<()> {
        let _turn = self.turn()?;
        for setting in self.turned_on()? {
            if !nft::has_table(setting.family, GUARD)? {
                nft::run(&guard(setting.family))?;
            }
        }
        Ok(())
    }

    /// The settings that we, or another daemon, turned on.
    fn turned_on(&self) -> Outcome<Vec<&'static Setting>> {
        let mut found = Vec::new();
        for setting in &SETTINGS {
            if Path::new(&self.mark(setting)?).exists() {
                found.push(setting);
            }
        }
        Ok(found)
    }

    /// The file that says so, of this network namespace.
    fn mark(&self, setting: &Setting) -> Outcome<String> {
        let number = namespace_cookie()
            .map_err(|error| ForwardingError::Setting("/proc/self/ns/net".into(), error))?;
        let folder = self.lock.parent().unwrap_or(Path::new("/run"));
        Ok(folder.join(format!("forwarding-{number}-{}", setting.family)).display().to_string())
    }

    fn turn(&self) -> Outcome<Flock<File>> {
        let named = |error| ForwardingError::Setting(self.lock.clone(), error);
        let file = File::create(&self.lock).map_err(named)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| named(error.into()))
    }
}

/// What tells this network namespace from every other since the kernel started: SO_NETNS_COOKIE,
/// Linux 5.14.
fn namespace_cookie() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the option takes 8 octets, which `cookie` has.
    let result = unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length)
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// include/uapi/asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

struct Setting {
    path: &'static str,
    /// As nft calls it.
    family: &'static str,
}

impl Setting {
    fn exists(&self) -> bool {
        Path::new(self.path).exists()
    }
}

const SETTINGS: [Setting; 2] = [
    Setting { path: "/proc/sys/net/ipv4/ip_forward", family: "ip" },
    Setting { path: "/proc/sys/net/ipv6/conf/all/forwarding", family: "ip6" },
];

/// The table that exists, for a family, where we turned its forwarding on. Devices of every instance begin so.
const GUARD: &str = "egressd_forwarding";
const DEVICES: &str = "egd";

/// The settings that are off.
fn missing() -> Outcome<Vec<&'static Setting>> {
    let mut missing = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.exists()) {
        if read(setting.path)?.trim() == "0" {
            missing.push(setting);
        }
    }
    Ok(missing)
}

/// A host that takes its routes from router advertisements stops doing so when it forwards, unless
/// it is told to go on: accept_ra of 2 (Documentation/networking/ip-sysctl.rst).
fn keep_router_advertisements() -> Outcome<()> {
    let folder = Path::new("/proc/sys/net/ipv6/conf");
    let devices = fs::read_dir(folder).map_err(|error| ForwardingError::Setting(folder.to_owned(), error))?;
    for device in devices.flatten() {
        let path = device.path().join("accept_ra");
        let path = path.to_string_lossy();
        if read(&path).is_ok_and(|value| value.trim() == "1") {
            write(&path, "2")?;
        }
    }
    Ok(())
}

fn guard(family: &str) -> String {
    format!(
        "{}table {family} {GUARD} {{\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority -10; policy drop;\n\
         \t\tiifname \"{DEVICES}*\" accept\n\
         \t\toifname \"{DEVICES}*\" ct state established,related accept\n\
         \t}}\n}}\n",
        removal(family)
    )
}

/// Also where there is none: nft makes it first.
fn removal(family: &str) -> String {
    format!("table {family} {GUARD}\ndelete table {family} {GUARD}\n")
}

/// Whether any daemon has a link in this network namespace.
fn is_used() -> bool {
    let looks_like_ours = |name: &str| {
        name.strip_prefix(DEVICES)
            .and_then(|rest| rest.split_once('n'))
            .is_some_and(|(hash, number)| hash.len() == 5 && number.parse::<u32>().is_ok())
    };
    nix::net::if_::if_nameindex()
        .is_ok_and(|links| links.iter().any(|link| link.name().to_str().is_ok_and(looks_like_ours)))
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| ForwardingError::Setting(path.into(), error))
}

fn write(path: &str, value: &str) -> Outcome<()> {
    fs::write(path, value).map_err(|error| ForwardingError::Setting(path.into(), error))
}
