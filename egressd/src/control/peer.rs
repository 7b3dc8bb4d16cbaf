//! Who may speak to the daemon.

use crate::policy::Operator;
use nix::unistd::Uid;
use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};
use tokio::net::UnixStream;

/// Tells whether a process belongs to an agent. What it cannot tell it must call an agent.
pub type IsAgent = std::sync::Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// Lets root and the daemon's own user in, unless the process is an agent's, and says who it is.
pub fn admit(stream: &UnixStream, is_agent: &IsAgent) -> Result<Operator, Stranger> {
    let credentials = stream.peer_cred().map_err(Stranger::Unreadable)?;
    let uid = credentials.uid();
    if uid != 0 && uid != Uid::effective().as_raw() {
        return Err(Stranger::User(uid));
    }
    // A process of another pid namespace that we cannot see has pid 0.
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    let pid = pid.ok_or(Stranger::Unseen)?;
    if is_agent(pid) {
        return Err(Stranger::Agent(pid));
    }
    let operator = Operator { uid, login_uid: login_uid(pid), pid, command: command(pid) };
    // An agent's process may connect, hand the socket to another and die, so that its number is
    // another's when we look: it must still live after we looked.
    match still_lives(stream) {
        Ok(true) => Ok(operator),
        Ok(false) => Err(Stranger::Unseen),
        Err(error) => Err(Stranger::Unreadable(error)),
    }
}

/// Why a peer is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    #[error("user {0} may not use the control socket: only root and the daemon's own user may")]
    User(u32),
    #[error("process {0} belongs to an agent: agents may not use the control socket")]
    Agent(u32),
    #[error("the process at the other end cannot be seen from here")]
    Unseen,
    #[error("failed to read credentials of the peer: {0}")]
    Unreadable(io::Error),
}

/// Who logged in, whatever users the process has been since: proc_pid_loginuid(5).
fn login_uid(pid: u32) -> Option<u32> {
    let login: u32 = read_some(&format!("/proc/{pid}/loginuid"))?.trim().parse().ok()?;
    (login != u32::MAX).then_some(login)
}

/// Its arguments, joined by spaces; empty where they cannot be read.
fn command(pid: u32) -> String {
    let text = read_some(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.split_terminator('\0').collect::<Vec<_>>().join(" ")
}

/// The first [`MAX_COMMAND`] octets of a file of proc(5).
fn read_some(path: &str) -> Option<String> {
    let mut octets = Vec::new();
    File::open(path).ok()?.take(MAX_COMMAND).read_to_end(&mut octets).ok()?;
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// Octets of a command line: records hold as many.
const MAX_COMMAND: u64 = 512;

/// Whether the process that connected still lives, by its pidfd (`SO_PEERPIDFD`, Linux 6.5).
/// Older kernels cannot say, and there we trust the number.
fn still_lives(stream: &UnixStream) -> io::Result<bool> {
    match peer_pidfd(stream) {
        Ok(pidfd) => has_not_ended(&pidfd),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A pidfd is readable once its process has ended: pidfd_open(2).
fn has_not_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut polled = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `polled` is one valid pollfd and outlives the call, which does not wait.
    match unsafe { libc::poll(&raw mut polled, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready == 0),
    }
}

fn peer_pidfd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `pidfd` and `length` outlive the call, and `length` is the size of `pidfd`.
    let outcome = unsafe {
        let value = (&raw mut pidfd).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD, value, &raw mut length)
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::net as std_unix,
        process::{Command, Stdio},
        sync::Arc,
    };

    #[tokio::test]
    async fn root_is_let_in_and_an_agent_is_not() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let operator = admit(&ours, &is_agent(false)).unwrap();
        assert_eq!((operator.uid, operator.pid), (Uid::effective().as_raw(), std::process::id()));
        assert!(operator.command.contains("egressd"), "{}", operator.command);
        assert!(
            matches!(admit(&ours, &is_agent(true)), Err(Stranger::Agent(pid)) if pid == std::process::id())
        );
    }

    #[tokio::test]
    async fn a_socket_that_outlived_the_process_that_connected_is_not_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std_unix::UnixListener::bind(&path).unwrap();
        let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(&path).stdin(Stdio::null());
        assert!(python.status().unwrap().success());
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(stream).unwrap();
        assert!(matches!(admit(&stream, &is_agent(false)), Err(Stranger::Unseen)));
    }

    fn is_agent(answer: bool) -> IsAgent {
        Arc::new(move |_| answer)
    }
}
