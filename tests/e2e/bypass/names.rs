//! Ways out by names: what a question carries, and whom it is asked of.

use super::entry::{Entry, way};

pub const WAYS: &[Entry] = &[way(
    "B44-tcp",
    "a question over TCP to another server",
    "dig +tcp +time=1 +tries=1 {mark}.{host} @{ip}",
)
.works_as("dig +tcp +time=2 +tries=1 ok.test | grep -q 10.99.0.10")];
