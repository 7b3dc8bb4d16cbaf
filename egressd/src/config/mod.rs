//! Policy files and the daemon's own file: from YAML to values, with errors that show the line.

mod access;
mod approval;
mod budget;
mod compile;
mod credential;
mod daemon;
mod diagnostic;
mod document;
mod file;
mod identity;
mod inspect;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod leaks;
mod lend;
mod load;
mod mode;
mod names;
mod packages;
mod ports;
mod repository;
mod roles;
mod rule;
mod schema;
mod section;
mod select;
mod similar;
mod source;
mod term;
mod tls;
mod upstream;
mod words;

pub use access::Access;
pub use compile::{Policies, names_in};
pub use credential::{Credential, CredentialSource};
pub use daemon::{DaemonConfig, Dnssec, Reload};
pub use diagnostic::{ConfigError, Diagnostic};
pub use lend::{LentRule, MAX_LENT, Wish, lasting, lent};
pub use load::{
    Allowlists, KeptFile, Loader, MAX_FILE, Tree, is_allowlist, load, load_dir, load_str, parse, read_text,
};
pub use packages::{Ask, Child, Installed, Manager, Registries, Run, Scheme, Site, ToolError};
pub use repository::{Login, Repository, Transport};
pub use schema::{allowlist_schema, daemon_schema, policy_schema};
pub use section::Include;
pub use source::{GitSource, Rewrites, Verify};
pub use upstream::{Carriage, Upstream, UpstreamError};
