//! Ways out by TLS, HTTP and the proxy.

use super::entry::{Entry, way};

pub const WAYS: &[Entry] = &[way(
    "B58-openssl",
    "a true server name at another address",
    "openssl s_client -connect {url}:443 -servername ok.test < /dev/null",
)
.works_as("curl -sSf -m 5 {dash} https://ok.test/")];
