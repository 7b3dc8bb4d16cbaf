//! The server name extension of a ClientHello, read as strictly as its strictest reader (RFC 6066,
//! section 3): one entry, of type `host_name`, that is a host name.
//!
//! Some readers take the rest of a list for one name as soon as they meet a type of name that they do
//! not know; others read on, and could find another host name there.

use super::record::vector;
use crate::policy::HostName;

/// The one name in the `data` of the extension.
///
/// # Errors
/// Says in words why there is no such name.
pub fn parse(data: &[u8]) -> Result<HostName, String> {
    let name = only_entry(data).ok_or("server name is not one entry of type host_name")?;
    // RFC 6066, section 3: without a trailing dot.
    if name.ends_with(b".") {
        return Err("server name ends with a dot".to_owned());
    }
    HostName::from_ascii(name).map_err(|error| error.to_string())
}

/// The list is as long as the type, the length and the name of its one entry.
fn only_entry(data: &[u8]) -> Option<&[u8]> {
    let (list, []) = vector(data, 2)? else { return None };
    let (&HOST_NAME, entry) = list.split_first()? else { return None };
    let (name, []) = vector(entry, 2)? else { return None };
    Some(name)
}

const HOST_NAME: u8 = 0;
