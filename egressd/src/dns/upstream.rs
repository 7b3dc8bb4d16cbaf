//! Asking the real resolvers, in questions of our own.
//!
//! Each question is built from a [`HostName`]: lower case spelt at random again (a defence against
//! forged answers, which the resolver checks), our own id and source port, our own EDNS. The
//! response is not trusted further than `chain` reads it.

use super::{
    chain::{Chain, ChainError, Found, Step, negative_ttl},
    query::Family,
};
use crate::policy::HostName;
use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{DnsError, DnsHandle, NetError, runtime::TokioRuntimeProvider, xfer::FirstAnswer},
    proto::{
        op::{DnsRequestOptions, DnsResponse, Query, ResponseCode},
        rr::{Name, RecordType},
    },
    system_conf::read_system_conf,
};
use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Where names are asked for.
pub trait Ask: Send + Sync {
    /// What `name` resolves to, aliases followed, within [`DEADLINE`].
    fn ask<'a>(
        &'a self,
        name: &'a HostName,
        family: Family,
    ) -> Pin<Box<dyn Future<Output = Result<Found, LookupError>> + Send + 'a>>;
}

impl Ask for Upstream {
    fn ask<'a>(
        &'a self,
        name: &'a HostName,
        family: Family,
    ) -> Pin<Box<dyn Future<Output = Result<Found, LookupError>> + Send + 'a>> {
        Box::pin(self.find(name, family))
    }
}

/// The resolvers that are asked, in their order, beginning with the one that answered last.
pub struct Upstream {
    servers: Vec<Server>,
    first: AtomicUsize,
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
}

impl Upstream {
    /// The resolvers of this host, as `/etc/resolv.conf` names them. Its search domains and options
    /// play no part: names are complete.
    ///
    /// # Errors
    /// The file cannot be read, or names no resolver.
    pub fn from_host() -> Result<Self, UpstreamError> {
        let (config, _) = read_system_conf().map_err(|error| UpstreamError::HostConfig(error.to_string()))?;
        let addresses = config.name_servers.iter().map(|server| SocketAddr::new(server.ip, DNS_PORT));
        Self::to(&addresses.take(MAX_HOST_SERVERS).collect::<Vec<_>>())
    }

    /// The resolvers at `servers`, UDP first, TCP where an answer does not fit.
    ///
    /// # Errors
    /// There is none, or more than [`MAX_SERVERS`].
    pub fn to(servers: &[SocketAddr]) -> Result<Self, UpstreamError> {
        if servers.is_empty() || servers.len() > MAX_SERVERS {
            return Err(UpstreamError::Count(servers.len()));
        }
        let share = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        let timeout = DEADLINE / share;
        let servers = servers.iter().map(|address| Server::new(*address, timeout));
        Ok(Self { servers: servers.collect::<Result<_, _>>()?, first: AtomicUsize::new(0) })
    }

    /// What `name` resolves to, aliases followed, within [`DEADLINE`].
    ///
    /// # Errors
    /// No resolver answered, or not with anything that can be used.
    async fn find(&self, name: &HostName, family: Family) -> Result<Found, LookupError> {
        let found = tokio::time::timeout(DEADLINE, self.follow(name, family)).await;
        found.unwrap_or(Err(LookupError::Deadline))
    }

    async fn follow(&self, name: &HostName, family: Family) -> Result<Found, LookupError> {
        let unlikely = |_| LookupError::Name(name.clone());
        let mut name = Name::from_ascii(format!("{name}.")).map_err(unlikely)?;
        let mut chain = Chain::new(name.clone(), family);
        loop {
            let response = match self.ask(name, family).await? {
                Reply::Response(response) => response,
                Reply::Absent(found) => return Ok(found),
            };
            match chain.follow(&response)? {
                Step::Found(found) => return Ok(found),
                Step::Alias(next) => name = next,
            }
        }
    }

    /// Asks one server after the other, until one answers.
    async fn ask(&self, name: Name, family: Family) -> Result<Reply, LookupError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failure = LookupError::Deadline;
        for turn in 0..self.servers.len() {
            let index = (first + turn) % self.servers.len();
            match self.servers[index].ask(name.clone(), family).await {
                Ok(reply) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Server {
    fn new(address: SocketAddr, timeout: Duration) -> Result<Self, UpstreamError> {
        let setup = |error: NetError| UpstreamError::Setup(error.to_string());
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.case_randomization = true;
        options.num_concurrent_reqs = 1;
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let config = NameServerConfig::new(address.ip(), true, connections.into());
        let context = PoolContext::new(options, TlsConfig::new().map_err(setup)?);
        let pool = NameServerPool::from_config([config], Arc::new(context), TokioRuntimeProvider::default());
        Ok(Self { address, pool })
    }

    async fn ask(&self, name: Name, family: Family) -> Result<Reply, LookupError> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let question = Query::query(name, kind);
        let failed = |why: String| LookupError::Server { address: self.address, why };
        match self.pool.lookup(question.clone(), DnsRequestOptions::default()).first_answer().await {
            Ok(response) => match unusable(&response, &question) {
                None => Ok(Reply::Response(response)),
                Some(why) => Err(failed(why)),
            },
            Err(error) => {
                absence(&error, &question).map(Reply::Absent).ok_or_else(|| failed(error.to_string()))
            }
        }
    }
}

/// What one server said.
enum Reply {
    Response(DnsResponse),
    /// Nothing at the very name that was asked for.
    Absent(Found),
}

fn unusable(response: &DnsResponse, question: &Query) -> Option<String> {
    if !matches!(&response.queries[..], [asked] if asks_the_same(asked, question)) {
        return Some("it answered another question".to_owned());
    }
    let code = response.metadata.response_code;
    let is_final = code == ResponseCode::NoError || code == ResponseCode::NXDomain;
    (!is_final || response.metadata.truncation).then(|| format!("it answered {code}"))
}

fn absence(error: &NetError, question: &Query) -> Option<Found> {
    let NetError::Dns(DnsError::NoRecordsFound(absent)) = error else { return None };
    if !asks_the_same(&absent.query, question) {
        return None;
    }
    let ttl = negative_ttl(absent.negative_ttl);
    if absent.response_code == ResponseCode::NXDomain {
        Some(Found::NoName { ttl })
    } else {
        (absent.response_code == ResponseCode::NoError).then_some(Found::NoData { ttl })
    }
}

fn asks_the_same(one: &Query, other: &Query) -> bool {
    one.name() == other.name()
        && one.query_type() == other.query_type()
        && one.query_class() == other.query_class()
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.servers.iter().map(|server| server.address)).finish()
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
}

/// Why a lookup brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("no upstream resolver answered within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("upstream resolver {address} failed: {why}")]
    Server { address: SocketAddr, why: String },
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("`{0}` cannot be put into a question")]
    Name(HostName),
}

/// The most that one lookup takes, over all servers and aliases. What stub resolvers wait for.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// The most resolvers that may be configured: each gets an equal share of the deadline.
pub const MAX_SERVERS: usize = 8;

/// As many as the C library reads from `/etc/resolv.conf`.
const MAX_HOST_SERVERS: usize = 3;

const DNS_PORT: u16 = 53;
