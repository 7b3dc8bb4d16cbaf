//! The first gate: a resolver that answers only the names that an agent's policy allows.
//!
//! `query` and `answer` are pure and are all that reads and writes an agent's bytes; `chain` reads
//! an upstream's answers. What is asked upstream is rebuilt from the parsed name, never relayed.
//!
//! **Invariant:** a denied name is answered here. Nothing of a query reaches `upstream` before
//! `gate` has [leave](crate::policy::Leave) for its name.

mod answer;
mod chain;
mod foresight;
mod gate;
mod grid;
mod hot;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod ledger;
mod local;
mod lookups;
mod people;
mod pinned;
mod query;
mod report;
mod roster;
mod screen;
mod serve;
mod tcp;
mod upstream;
mod warm;
mod watch;
pub mod workers;

pub use chain::{Found, FoundRecords};
pub use foresight::{Foresight, Foretold, Unanswered};
pub use gate::Gate;
pub use lookups::Price;
pub use query::Family;
pub use report::Asker;
pub use serve::{Sockets, serve};
pub use upstream::{
    Ask, Carriage, LookupError, Server, Signatures, Terms, Upstream, UpstreamError, host_servers,
};
pub use watch::Watch;
pub use workers::Workers;
