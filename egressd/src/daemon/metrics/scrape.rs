//! Who reads the figures over TCP: processes of this host, and no agent.

use crate::{
    control::{self, protocol::Check},
    daemon::{Daemon, Lifetime, answers::Answers},
    datapath::peer_socket,
};
use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, time::sleep};

/// What is known of the listener.
#[derive(Debug, Default)]
pub struct Scrapes {
    denied: AtomicU64,
    /// Why nobody can connect.
    failure: Mutex<Option<String>>,
}

impl Scrapes {
    /// Connections that were hung up on.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// How long to wait for an address that somebody else has. Nobody is worse fenced meanwhile.
const RETRY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Answers monitors, if they have an address, until the daemon ends.
    pub(in crate::daemon) async fn keep_answering_monitors(self: Arc<Self>) {
        let Some(address) = self.monitored_at() else { return };
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::error!(%error, "failed to listen for metrics on `{address}`");
                    self.scrapes.set_failure(Some(error.to_string()));
                    sleep(RETRY).await;
                }
            }
        };
        self.scrapes.set_failure(None);
        let guard = Arc::clone(&self);
        let may_read = Arc::new(move |peer, own| guard.lets_read(peer, own));
        let answers = Arc::new(Answers(Arc::clone(&self)));
        control::serve_metrics(listener, answers, may_read, self.shutdown.clone()).await;
    }

    /// Whether monitors are answered. None where they have no address.
    pub(in crate::daemon) fn monitors_are_answered(&self) -> Option<Check> {
        let address = self.monitored_at()?;
        let failure = self.scrapes.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (passed, detail) = match failure {
            Some(why) => (false, format!("failed to listen on `{address}`: {why}")),
            None => (true, format!("answers on `{address}`")),
        };
        Some(Check { name: "metrics".to_owned(), passed, detail })
    }

    /// Where monitors are answered: the address is that of the service, and not of each command beside it.
    fn monitored_at(&self) -> Option<SocketAddr> {
        match self.options.lifetime {
            Lifetime::Service => self.options.config.metrics,
            Lifetime::Command => None,
        }
    }

    fn lets_read(&self, peer: SocketAddr, own: SocketAddr) -> bool {
        let Err(stranger) = self.known(peer, own) else { return true };
        self.scrapes.denied.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%stranger, "denied a reader of metrics");
        false
    }

    /// Whether the socket at `peer` is that of a process of this host that is no agent's.
    fn known(&self, peer: SocketAddr, own: SocketAddr) -> Result<(), Stranger> {
        let socket = peer_socket(peer, own).map_err(Stranger::Unseen)?;
        // A policy may let an agent have the proxy connect to this host.
        if is_ours(socket.inode).map_err(Stranger::Unseen)? {
            return Err(Stranger::Relayed);
        }
        // Also where the cgroup is gone: it may have been one that an agent made.
        let folder = self.hierarchy.folder_of(socket.cgroup).ok_or(Stranger::Nowhere)?;
        let agents = self.agents.all();
        let is_agents = agents.iter().any(|running| folder.starts_with(running.home.cgroup.path()));
        if is_agents || self.hierarchy.is_of_a_daemon(&folder) {
            return Err(Stranger::Agent(folder));
        }
        Ok(())
    }
}

/// Why somebody may not read the figures.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error("its socket is none of this host: {0}")]
    Unseen(io::Error),
    #[error("it is relayed by this daemon")]
    Relayed,
    #[error("the cgroup of its socket is gone")]
    Nowhere,
    #[error("its socket is an agent's, of `{0}`")]
    Agent(PathBuf),
}

/// Whether this process has the socket `inode`.
fn is_ours(inode: u32) -> io::Result<bool> {
    let link = format!("socket:[{inode}]");
    let is_it =
        |entry: fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str());
    Ok(fs::read_dir("/proc/self/fd")?.flatten().any(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::UdpSocket, os::fd::AsRawFd, os::unix::fs::MetadataExt};

    #[test]
    fn a_socket_is_ours_for_as_long_as_it_is_open() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
        let inode = u32::try_from(inode).unwrap();
        assert!(is_ours(inode).unwrap());
        drop(socket);
        assert!(!is_ours(inode).unwrap());
    }
}
