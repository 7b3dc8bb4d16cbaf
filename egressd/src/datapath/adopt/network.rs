//! The network namespace of an adopted agent, where it is not ours.

use crate::datapath::seal::Namespaces;
use nix::mount::{MsFlags, mount};
use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Holds the network namespace at `source` open in `folder`, for listeners in it and for the next
/// daemon.
///
/// # Errors
/// The kernel refuses.
pub fn hold(folder: &Path, source: &Path) -> io::Result<Namespaces> {
    fs::create_dir_all(folder)?;
    let network = Namespaces::held_in(folder);
    File::create(network.network())?;
    mount(Some(source), &network.network(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(network)
}

/// The namespace that is held in `folder`, if one is.
#[must_use]
pub fn held_in(folder: &Path) -> Option<Namespaces> {
    let network = Namespaces::held_in(folder);
    network.network().exists().then_some(network)
}

/// Lets go of what [`hold`] holds.
pub fn release(folder: &Path) {
    Namespaces::held_in(folder).release();
    // What is not there needs no removing.
    let _ = fs::remove_dir(folder);
}
