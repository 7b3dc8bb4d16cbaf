//! Cells: the namespaces of sealed agents, and the link by which each reaches the host.
//!
//! The resolver and the proxy listen inside; only direct flows take the link. The host's end judges
//! every frame: see `frames.rs` of the kernel programs, and the netdev chain in `ruleset.rs`.

mod forwarding;
mod namespaces;
mod offload;
pub(super) mod rtnl;

pub use forwarding::{Forwarding, ForwardingError};
pub use namespaces::Namespaces;

use super::ruleset::Seals;
use egress_common::{AGENT_MAC, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, MAX_AGENTS};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnl::{End, Rtnl};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// One agent's namespaces and link.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Which of the daemon's cells: 0 to [`MAX_AGENTS`] - 1.
    number: u32,
    folder: PathBuf,
    link: Link,
}

/// The host's end of a link, and who is at the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub number: u32,
    /// The agent's addresses.
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// Why an agent could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    #[error("{MAX_AGENTS} cells are in use")]
    Full,
    #[error("failed to make the namespaces of a cell: {0}")]
    Namespaces(io::Error),
    #[error("failed to {act} `{link}`: {error}")]
    Link { act: &'static str, link: String, error: io::Error },
    #[error("the link of cell {0} is gone")]
    Gone(u32),
}

impl Cell {
    /// Makes a cell below `folder` for the daemon that is called `instance`. Its link is down until
    /// [`Self::open`], so that whatever judges its frames can be put in place before there is one.
    ///
    /// # Errors
    /// Names what the kernel refuses; nothing of the cell stays.
    pub fn create(folder: &Path, instance: &str) -> Result<Self, CellError> {
        let number = claim(folder)?;
        let folder = folder.join(number.to_string());
        let cell = Self::build(folder.clone(), instance, number);
        if cell.is_err() {
            remove(&folder, &name(instance, number));
        }
        cell
    }

    /// The cell that an earlier daemon left as `number`.
    ///
    /// # Errors
    /// Its link is gone.
    pub fn find(folder: &Path, instance: &str, number: u32) -> Result<Self, CellError> {
        let name = name(instance, number);
        let index = index(&name).map_err(|_| CellError::Gone(number))?;
        Ok(Self { number, folder: folder.join(number.to_string()), link: Link::new(name, index, number) })
    }

    /// Removes the cells below `folder` that are not among `kept`: an earlier daemon died with them.
    pub fn sweep(folder: &Path, instance: &str, kept: &[u32]) {
        let numbers = fs::read_dir(folder).into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for number in numbers.filter(|number| !kept.contains(number)) {
            remove(&folder.join(number.to_string()), &name(instance, number));
        }
    }

    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        Namespaces::held_in(&self.folder)
    }

    /// Takes the link up on both ends.
    ///
    /// # Errors
    /// Names what the kernel refuses.
    pub fn open(&self) -> Result<(), CellError> {
        let named = |act| move |error| self.failed(act, error);
        let inside = self.namespaces().within(|| self.link.furnish_inside());
        inside.and_then(|done| done).map_err(named("set up the inner end of"))?;
        self.link.furnish_outside().map_err(named("set up"))
    }

    /// Has the inner end complete checksums itself. Who makes raw frames chooses where one is to be
    /// written: left to a later device, it would change a destination that was judged.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn complete_checksums(&self) -> Result<(), CellError> {
        let done = self.namespaces().within(|| offload::take_over_checksums(INNER));
        done.and_then(|done| done).map_err(|error| self.failed("complete the checksums of", error))
    }

    /// Removes the link. Processes that are still inside have no way out.
    pub fn cut(&self) {
        cut(&self.link.name);
    }

    /// Removes what is left: from then on the number is another cell's.
    pub fn remove(&self) {
        remove(&self.folder, &self.link.name);
    }

    fn build(folder: PathBuf, instance: &str, number: u32) -> Result<Self, CellError> {
        let namespaces = Namespaces::create(&folder).map_err(CellError::Namespaces)?;
        let name = name(instance, number);
        let made = || -> io::Result<u32> {
            let network = fs::File::open(namespaces.network())?;
            let near = End { name: &name, mac: GATEWAY_MAC, index: 0 };
            let far = End { name: INNER, mac: AGENT_MAC, index: 0 };
            Rtnl::open()?.add_pair(near, far, network.as_fd())?;
            index(&name)
        };
        let failed = |error| CellError::Link { act: "make", link: name.clone(), error };
        let index = made().map_err(failed)?;
        Ok(Self { number, folder, link: Link::new(name, index, number) })
    }

    fn failed(&self, act: &'static str, error: io::Error) -> CellError {
        CellError::Link { act, link: self.link.name.clone(), error }
    }
}

impl Link {
    /// Whether the host's end is still there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        index(&self.name).is_ok_and(|index| index == self.index)
    }

    /// Indices are the kernel's, and no two devices of a namespace share one: so no two agents, of
    /// whichever daemon, share an address.
    fn new(name: String, index: u32, number: u32) -> Self {
        let [.., c, d] = (index % 0xfffe + 1).to_be_bytes();
        let [a, b, ..] = NETWORK_V4;
        let host = u128::from(index) + 1;
        let v6 = Ipv6Addr::from(u128::from(NETWORK_V6) | host);
        Self { name, index, number, v4: Ipv4Addr::new(a, b, c, d), v6 }
    }

    /// The inner end: one address of each family, and one way out.
    pub(super) fn furnish_inside(&self) -> io::Result<()> {
        let rtnl = Rtnl::open()?;
        rtnl.set_up(LOOPBACK)?;
        let index = index(INNER)?;
        quieten(INNER)?;
        rtnl.set_up(index)?;
        let gateway = IpAddr::from(GATEWAY_V4);
        rtnl.add_address(index, self.v4.into())?;
        rtnl.add_neighbour(index, gateway, GATEWAY_MAC)?;
        rtnl.add_route(index, gateway)?;
        rtnl.add_default_route(index, gateway, self.v4.into())?;
        if has_ipv6() {
            let gateway = IpAddr::from(GATEWAY_V6);
            rtnl.add_address(index, self.v6.into())?;
            rtnl.add_neighbour(index, gateway, GATEWAY_MAC)?;
            rtnl.add_route(index, gateway)?;
            rtnl.add_default_route(index, gateway, self.v6.into())?;
        }
        Ok(())
    }

    fn furnish_outside(&self) -> io::Result<()> {
        let rtnl = Rtnl::open()?;
        quieten(&self.name)?;
        rtnl.set_up(self.index)?;
        rtnl.add_address(self.index, GATEWAY_V4.into())?;
        rtnl.add_neighbour(self.index, self.v4.into(), AGENT_MAC)?;
        rtnl.add_route(self.index, self.v4.into())?;
        if has_ipv6() {
            rtnl.add_address(self.index, GATEWAY_V6.into())?;
            rtnl.add_neighbour(self.index, self.v6.into(), AGENT_MAC)?;
            rtnl.add_route(self.index, self.v6.into())?;
        }
        Ok(())
    }
}

/// What the devices on the host's end are called, and which addresses are behind them.
#[must_use]
pub fn seals(instance: &str) -> Seals {
    Seals {
        devices: format!("{}*", prefix(instance)),
        v4: IpNet::from(Ipv4Net::new_assert(Ipv4Addr::from_octets(NETWORK_V4), 16)),
        v6: IpNet::from(Ipv6Net::new_assert(NETWORK_V6, 64)),
    }
}

/// The addresses of sealed agents: a part of the shared space of RFC 6598 that carriers do not
/// route to customers, and a unique local prefix of our own (RFC 4193).
const NETWORK_V4: [u8; 4] = [100, 127, 0, 0];
const NETWORK_V6: Ipv6Addr = Ipv6Addr::new(0xfd65, 0x6772, 0x6573, 0x7364, 0, 0, 0, 0);

/// What the agent's end is called inside.
pub(super) const INNER: &str = "eth0";

/// The loopback device is the first of every network namespace (net/core/dev.c, LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;

/// Takes the lowest number that is free.
fn claim(folder: &Path) -> Result<u32, CellError> {
    fs::create_dir_all(folder).map_err(CellError::Namespaces)?;
    for number in 0..MAX_AGENTS {
        match fs::create_dir(folder.join(number.to_string())) {
            Ok(()) => return Ok(number),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(CellError::Namespaces(error)),
        }
    }
    Err(CellError::Full)
}

fn cut(link: &str) {
    // What is not there needs no removing.
    if let Ok(index) = index(link) {
        let _ = Rtnl::open().and_then(|rtnl| rtnl.delete(index));
    }
}

fn remove(folder: &Path, link: &str) {
    cut(link);
    Namespaces::held_in(folder).release();
    let _ = fs::remove_dir(folder);
}

/// 15 octets at the most (IFNAMSIZ), and different for each daemon of a host.
fn name(instance: &str, number: u32) -> String {
    format!("{}{number}", prefix(instance))
}

fn prefix(instance: &str) -> String {
    let hash = egress_common::fnv1a(instance.bytes());
    format!("egd{:05x}n", hash & 0x000f_ffff)
}

pub(super) fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// A kernel without IPv6 has no settings for it.
pub(super) fn has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|disabled| disabled.trim() == "0")
}

/// No addresses but those that we give, and no asking around for routers.
fn quieten(device: &str) -> io::Result<()> {
    if !has_ipv6() {
        return Ok(());
    }
    // 1: IN6_ADDR_GEN_MODE_NONE (include/uapi/linux/if_link.h).
    for (setting, value) in [("addr_gen_mode", "1"), ("accept_ra", "0"), ("dad_transmits", "0")] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{device}/{setting}"), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_links_share_an_address() {
        let link = |index| Link::new("x".to_owned(), index, 0);
        assert_eq!(link(7).v4, Ipv4Addr::new(100, 127, 0, 8));
        assert_eq!(link(0xfffd).v4, Ipv4Addr::new(100, 127, 255, 254));
        assert_eq!(link(7).v6, "fd65:6772:6573:7364::8".parse::<Ipv6Addr>().unwrap());
        assert_ne!(link(7).v6, link(8).v6);
    }

    #[test]
    fn names_of_devices_are_short_enough() {
        assert!(name("a-rather-long-name-of-an-instance", MAX_AGENTS - 1).len() <= 15);
        assert_ne!(name("left", 0), name("right", 0));
    }
}
