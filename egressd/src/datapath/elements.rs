//! Adds elements to the sets of our table, over nfnetlink: an answer of the resolver waits for them, and
//! starting `nft` takes a hundred times as long.

use super::ruleset::{Place, Share};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_NETFILTER};
use std::{io, net::IpAddr};

/// Lets `share` reach `direct`, in one transaction. What is there already stays.
///
/// # Errors
/// The kernel refuses: for example, there is no such set.
pub fn add(table: &str, share: &Share, direct: &[(u8, IpAddr, u16)]) -> io::Result<()> {
    let (batch, count) = batch(table, share, direct);
    let mut netlink = Socket::new(NETLINK_NETFILTER)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    netlink.send(&batch, 0)?;
    // All of it is done when the call returns: what is not acknowledged by then never will be.
    for _ in 0..count {
        let (answer, _) = netlink.recv_from_full()?;
        acknowledged(&answer)?;
    }
    Ok(())
}

/// The transaction, and how many acknowledgements it has.
fn batch(table: &str, share: &Share, direct: &[(u8, IpAddr, u16)]) -> (Vec<u8>, usize) {
    let (family, number) = match &share.place {
        Place::Cgroup { .. } => (NFPROTO_INET, share.agent),
        Place::Link(link) => (NFPROTO_NETDEV, link.number),
    };
    let mut octets = message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
    let mut count = 0;
    for (word, is_v4) in [("direct4", true), ("direct6", false)] {
        let keys = direct.iter().filter(|(_, address, _)| address.is_ipv4() == is_v4).map(key);
        let elements: Vec<Vec<u8>> = keys.map(|key| element(&key)).collect();
        for some in elements.chunks(MAX_ELEMENTS) {
            let attributes = [
                attribute(NFTA_SET_ELEM_LIST_TABLE, &text(table)),
                attribute(NFTA_SET_ELEM_LIST_SET, &text(&format!("{word}_{number}"))),
                attribute(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, &some.concat()),
            ];
            let flags = NLM_F_CREATE | NLM_F_ACK;
            octets.extend(message(NEW_ELEMENTS, flags, family, 0, &attributes.concat()));
            count += 1;
        }
    }
    octets.extend(message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]));
    (octets, count)
}

/// Elements of one message: its attribute is counted in 16 bits.
const MAX_ELEMENTS: usize = 512;

/// As the sets are declared: address, protocol, port, each in whole words of 32 bits.
fn key((protocol, address, port): &(u8, IpAddr, u16)) -> Vec<u8> {
    let mut key = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let [high, low] = port.to_be_bytes();
    key.extend([*protocol, 0, 0, 0, high, low, 0, 0]);
    key
}

fn element(key: &[u8]) -> Vec<u8> {
    let value = attribute(NFTA_DATA_VALUE, key);
    attribute(NFTA_LIST_ELEM | NESTED, &attribute(NFTA_SET_ELEM_KEY | NESTED, &value))
}

/// include/uapi/linux/netlink.h, struct nlmsghdr, and nfnetlink.h, struct nfgenmsg.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + 4 + attributes.len()).unwrap_or(u32::MAX);
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    octets.extend([0; 8]);
    octets.extend([family, 0]);
    octets.extend(resource.to_be_bytes());
    octets.extend(attributes);
    octets
}

/// struct nlattr, filled up to whole words of 32 bits.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(content);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// An NLMSG_ERROR, whose first number is 0 or an errno below zero.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let code = answer.get(16..20).and_then(|octets| octets.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("expected an acknowledgement of the kernel")),
    }
}

// include/uapi/linux/netlink.h, netfilter.h, netfilter/nfnetlink.h, netfilter/nf_tables.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;
const NFPROTO_INET: u8 = 1;
const NFPROTO_NETDEV: u8 = 5;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// NFT_MSG_NEWSETELEM.
const NEW_ELEMENTS: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::{
        nft,
        ruleset::{Held, Listeners, Seals, Tracking, objects, ruleset},
        seal,
    };
    use nix::sched::{CloneFlags, unshare};
    use std::{process::Command, thread};

    #[test]
    fn what_is_added_is_what_nft_would_have_added() {
        in_a_network_of_its_own(|| {
            apply();
            let many = (1..=1200_u16).map(|port| (egress_common::UDP, [192, 0, 2, 9].into(), port));
            let mut direct: Vec<_> = many.collect();
            direct.push((egress_common::TCP, "192.0.2.7".parse().expect("v4"), 443));
            direct.push((egress_common::TCP, "2001:db8::7".parse().expect("v6"), 8443));
            add(TABLE, &share(7), &direct).expect("added");
            // Again: what is there stays.
            add(TABLE, &share(7), &direct[1199..]).expect("added");
            let listed = list();
            for element in ["192.0.2.7 . tcp . 443", "2001:db8::7 . tcp . 8443", "192.0.2.9 . udp . 1200"] {
                assert!(listed.contains(element), "{element} in {listed}");
            }
            assert_eq!(listed.matches(" . udp . ").count(), 1200);
        });
    }

    #[test]
    fn where_there_is_no_set_the_kernel_says_so() {
        in_a_network_of_its_own(|| {
            let error = add(TABLE, &share(7), &[(egress_common::TCP, [192, 0, 2, 7].into(), 443)]);
            assert_eq!(error.expect_err("no table").raw_os_error(), Some(libc::ENOENT));
        });
    }

    #[test]
    fn a_table_that_is_written_again_holds_what_stays_and_nothing_of_what_went() {
        in_a_network_of_its_own(|| {
            let mut staying = share(7);
            staying.direct.insert((egress_common::TCP, [192, 0, 2, 7].into(), 443));
            write(&[staying.clone(), share(8)], &Held::Unknown);
            let both = list();
            assert!(both.contains("chain agent_8 {") && both.contains("set direct6_8 {"), "{both}");
            write(&[staying], &Held::Objects(objects(&both)));
            let one = list();
            assert!(!one.contains("_8"), "{one}");
            assert!(one.contains("chain agent_7 {") && one.contains("192.0.2.7 . tcp . 443"), "{one}");
            write(&[], &Held::Objects(objects(&one)));
            assert!(!list().contains("_7"), "{}", list());
        });
    }

    const TABLE: &str = "egressd_elements";

    fn share(agent: u32) -> Share {
        let place = Place::Cgroup { path: "/".to_owned(), level: 0 };
        let (listeners, networks) = (Listeners::default(), Vec::new());
        Share { agent, place, listeners, networks, direct: Default::default() }
    }

    fn apply() {
        write(&[share(7)], &Held::Unknown);
    }

    fn write(shares: &[Share], held: &Held) {
        let seals: Seals = seal::seals("elements");
        let text = ruleset(TABLE, ("/", 0), &seals, Tracking::Off, shares, held);
        // Of the whole only the sets matter, and cgroups that are not there are refused.
        let without = |line: &&str| !line.contains("cgroupv2") && !line.contains("goto agent");
        let text: Vec<_> = text.lines().filter(without).collect();
        nft::run(&(text.join("\n") + "\n")).expect("applied");
    }

    fn list() -> String {
        let listed = Command::new("nft").args(["-n", "list", "table", "inet", TABLE]).output().expect("nft");
        String::from_utf8_lossy(&listed.stdout)
            .replace(" . 6 . ", " . tcp . ")
            .replace(" . 17 . ", " . udp . ")
    }

    fn in_a_network_of_its_own(act: impl FnOnce() + Send + 'static) {
        let inside = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            act();
        };
        thread::spawn(inside).join().expect("no panic");
    }
}
