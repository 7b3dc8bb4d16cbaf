//! Asking the real resolvers, in questions of our own.
//!
//! Each question is built from a [`HostName`]: lower case, over UDP spelt at random again (a defence
//! against forged answers, which the resolver checks), our own id and source port, our own EDNS. The
//! response is not trusted further than `chain` reads it.

mod fleet;
mod health;
mod server;
mod tls;
mod validate;

use self::{
    fleet::Fleet,
    server::{Line, Seal},
    validate::Validator,
};
use super::{
    chain::{Chain, ChainError, Found, FoundRecords, Step},
    query::Family,
};
use crate::policy::{HostName, RecordType};
use hickory_resolver::{
    proto::{
        op::{DnsResponse, Query},
        rr::{Name, RecordType as WireType},
    },
    system_conf::read_system_conf,
};
pub use server::{Carriage, Server};
use std::{fmt, future::Future, net::SocketAddr, path::PathBuf, pin::Pin, time::Duration};

/// What a lookup comes to, in its own time.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, LookupError>> + Send + 'a>>;

/// Where names are asked for.
pub trait Ask: Send + Sync {
    /// What `name` resolves to, aliases followed, within [`DEADLINE`].
    fn ask<'a>(
        &'a self,
        name: &'a HostName,
        family: Family,
    ) -> Pin<Box<dyn Future<Output = Result<Found, LookupError>> + Send + 'a>>;

    /// Who may be asked, in the order of the configuration.
    fn servers(&self) -> Vec<Server> {
        Vec::new()
    }

    /// The records of another type that `name` has, aliases followed, within [`DEADLINE`]. Whoever
    /// knows addresses only has none.
    fn ask_records<'a>(&'a self, name: &'a HostName, kind: RecordType) -> Lookup<'a, FoundRecords> {
        Box::pin(async move { Err(LookupError::Type(name.clone(), kind)) })
    }
}

impl Ask for Upstream {
    fn ask<'a>(
        &'a self,
        name: &'a HostName,
        family: Family,
    ) -> Pin<Box<dyn Future<Output = Result<Found, LookupError>> + Send + 'a>> {
        Box::pin(in_time(self.find(name, family)))
    }

    fn servers(&self) -> Vec<Server> {
        self.fleet.lines().iter().map(|line| line.server.clone()).collect()
    }

    fn ask_records<'a>(&'a self, name: &'a HostName, kind: RecordType) -> Lookup<'a, FoundRecords> {
        Box::pin(in_time(self.find_records(name, kind)))
    }
}

/// The resolvers that are asked.
pub struct Upstream {
    fleet: Fleet,
    validator: Option<Validator>,
}

/// Which resolvers are asked, and what is believed of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The first is asked first until another is known to be faster.
    pub servers: Vec<Server>,
    /// A file of the authorities that resolvers over TLS are believed by; None: the host's.
    pub authorities: Option<PathBuf>,
    pub signatures: Signatures,
}

/// Whether the signatures of answers are looked at (DNSSEC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signatures {
    Ignore,
    /// By the keys in the file `anchor`; None: by those of the root.
    Validate {
        anchor: Option<PathBuf>,
    },
}

impl Upstream {
    /// The resolvers by these terms.
    ///
    /// # Errors
    /// There is none, or more than [`MAX_SERVERS`], or a file that the terms name cannot be read.
    pub fn new(terms: &Terms) -> Result<Self, UpstreamError> {
        if terms.servers.is_empty() || terms.servers.len() > MAX_SERVERS {
            return Err(UpstreamError::Count(terms.servers.len()));
        }
        let needs_tls = |server: &Server| match server.carriage {
            Carriage::Tls { .. } | Carriage::Https { .. } => true,
            Carriage::Udp | Carriage::Tcp => false,
        };
        let tls = terms.servers.iter().any(needs_tls).then(|| tls::client(terms.authorities.as_deref()));
        let tls = tls.transpose()?;
        let fleet =
            Fleet::new(terms.servers.iter().map(|server| Line::new(server.clone(), tls.clone())).collect());
        let validator = match &terms.signatures {
            Signatures::Ignore => None,
            Signatures::Validate { anchor } => Some(Validator::new(fleet.clone(), anchor.as_deref())?),
        };
        Ok(Self { fleet, validator })
    }

    /// The resolvers at `servers`, UDP first, TCP where an answer does not fit.
    ///
    /// # Errors
    /// There is none, or more than [`MAX_SERVERS`].
    pub fn to(servers: &[SocketAddr]) -> Result<Self, UpstreamError> {
        let servers = servers.iter().copied().map(Server::from).collect();
        Self::new(&Terms { servers, authorities: None, signatures: Signatures::Ignore })
    }

    async fn find(&self, name: &HostName, family: Family) -> Result<Found, LookupError> {
        let kind = match family {
            Family::V4 => WireType::A,
            Family::V6 => WireType::AAAA,
        };
        let mut chain = Chain::new(question_name(name)?, family);
        loop {
            let response = self.question(chain.name(), kind).await?;
            if let Step::Found(found) = chain.follow(&response)? {
                return Ok(found);
            }
        }
    }

    async fn find_records(&self, name: &HostName, kind: RecordType) -> Result<FoundRecords, LookupError> {
        let mut chain = Chain::of_records(question_name(name)?, kind);
        loop {
            let response = self.question(chain.name(), kind.number().into()).await?;
            if let Step::Found(found) = chain.follow_records(&response)? {
                return Ok(found);
            }
        }
    }

    async fn question(&self, name: &Name, kind: WireType) -> Result<DnsResponse, LookupError> {
        let question = Query::query(name.clone(), kind);
        match &self.validator {
            Some(validator) => validator.ask(&question).await,
            None => self.fleet.ask(&question, Seal::None).await,
        }
    }
}

async fn in_time<T>(lookup: impl Future<Output = Result<T, LookupError>>) -> Result<T, LookupError> {
    tokio::time::timeout(DEADLINE, lookup).await.unwrap_or(Err(LookupError::Deadline))
}

fn question_name(name: &HostName) -> Result<Name, LookupError> {
    Name::from_ascii(format!("{name}.")).map_err(|_| LookupError::Name(name.clone()))
}

/// The resolvers of this host, as `/etc/resolv.conf` names them. Its search domains and options
/// play no part: names are complete.
///
/// # Errors
/// The file cannot be read.
pub fn host_servers() -> Result<Vec<Server>, UpstreamError> {
    let (config, _) = read_system_conf().map_err(|error| UpstreamError::HostConfig(error.to_string()))?;
    let addresses = config.name_servers.iter().map(|server| SocketAddr::new(server.ip, DNS_PORT));
    Ok(addresses.take(MAX_HOST_SERVERS).map(Server::from).collect())
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fleet.lines().iter().map(|line| &line.server)).finish()
    }
}

/// Why the resolvers to ask are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    #[error("failed to read the host's resolvers from /etc/resolv.conf: {0}")]
    HostConfig(String),
    #[error("{0} upstream resolvers are configured, 1 to {MAX_SERVERS} are allowed")]
    Count(usize),
    #[error("failed to set up an upstream resolver: {0}")]
    Setup(String),
    #[error("failed to read the authorities of upstream resolvers from `{}`: {why}", path.display())]
    Authorities { path: PathBuf, why: String },
    #[error("failed to read the anchor of dnssec from `{}`: {why}", path.display())]
    Anchor { path: PathBuf, why: String },
}

/// Why a lookup brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("no upstream resolver answered within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("upstream resolver {address} failed: {why}")]
    Server { address: SocketAddr, why: String },
    #[error("upstream resolvers failed: {0}")]
    Unanswered(String),
    #[error("answer for `{0}` is bogus: its dnssec signatures do not hold")]
    Bogus(Name),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("`{0}` cannot be put into a question")]
    Name(HostName),
    #[error("no upstream knows {1} records of `{0}`")]
    Type(HostName, RecordType),
}

/// The most that one lookup takes, over all servers and aliases. What stub resolvers wait for.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// The most resolvers that may be configured.
pub const MAX_SERVERS: usize = 8;

/// As many as the C library reads from `/etc/resolv.conf`.
const MAX_HOST_SERVERS: usize = 3;

const DNS_PORT: u16 = 53;
