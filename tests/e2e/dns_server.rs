//! The internet's DNS: a real nsd, authoritative for `test`.

use crate::{
    lab::Namespace,
    places::{ALT, DB, DNS, EVIL, METADATA, OK, OTHER_DNS_V4, PLACES, Place, SHARED, SHARED_EVIL},
    program::Program,
};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// nsd, until it is dropped.
pub struct DnsServer {
    _program: Program,
}

impl DnsServer {
    /// Starts nsd, with its files in `folder`.
    pub fn start(inet: &Namespace, folder: &Path) -> Self {
        fs::write(folder.join("test.zone"), zone()).expect("the zone can be written");
        fs::write(folder.join("nsd.conf"), configuration(folder)).expect("nsd.conf can be written");
        let mut command = inet.command("nsd");
        command.arg("-d").arg("-c").arg(folder.join("nsd.conf"));
        Self { _program: Program::start(command) }
    }

    /// Where it answers: also as the server of [`EVIL`], and beyond the gateway.
    pub fn listens() -> Vec<SocketAddr> {
        let addresses: [IpAddr; 5] =
            [DNS.v4.into(), DNS.v6.into(), EVIL.v4.into(), EVIL.v6.into(), OTHER_DNS_V4.into()];
        addresses.map(|address| SocketAddr::new(address, 53)).to_vec()
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    let listens = DnsServer::listens();
    let listens: String = listens.iter().map(|server| format!("  ip-address: {}\n", server.ip())).collect();
    format!(
        "server:\n{listens}  \
         username: \"\"\n  \
         chroot: \"\"\n  \
         database: \"\"\n  \
         zonesdir: \"{folder}\"\n  \
         pidfile: \"{folder}/nsd.pid\"\n  \
         logfile: \"{folder}/nsd.log\"\n  \
         zonelistfile: \"{folder}/zone.list\"\n  \
         xfrdfile: \"{folder}/xfrd.state\"\n  \
         xfrdir: \"{folder}\"\n  \
         server-count: 1\n  \
         rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: \"test\"\n  zonefile: \"test.zone\"\n"
    )
}

fn zone() -> String {
    let mut zone = format!(
        "$ORIGIN test.\n\
         $TTL 60\n\
         @ SOA {ns}. hostmaster.test. 1 3600 600 86400 5\n\
         @ NS {ns}.\n",
        ns = DNS.name
    );
    for place in PLACES.into_iter().chain([DNS]) {
        zone += &both(place.name, place);
        zone += &both(&format!("*.{}", place.name), place);
        zone += &format!("{0}. TXT \"a text of {0}\"\n*.{0}. TXT \"a text below {0}\"\n", place.name);
    }
    zone += &both(SHARED_EVIL, SHARED);
    zone += &format!("v4only A {}\nv6only AAAA {}\n", OK.v4, OK.v6);
    zone += &format!("short 1 A {}\n", OK.v4);
    // Chains inside the zone: to what is allowed by another name, to what is not, and to itself.
    zone += "chain CNAME chain2\nchain2 CNAME chain3\nchain3 CNAME ok\n";
    zone += "toevil CNAME evil\nloop CNAME loop2\nloop2 CNAME loop\n";
    // Answers that a public name has no business to give.
    zone += &format!("rebind A 127.0.0.1\nrebind AAAA ::1\nmixed A {}\nmixed A 127.0.0.1\n", ALT.v4);
    zone += &format!("metadata A {METADATA}\nzero A 0.0.0.0\nlinklocal AAAA fe80::1\n");
    zone += &format!("nat64 AAAA 64:ff9b::{METADATA}\nmapped AAAA ::ffff:{}\n", EVIL.v4);
    zone += &format!("sixtofour AAAA 2002:7f00:1::\nprivate A {}\n", DB.v4);
    // Many addresses for one name, and for as many names as are asked for.
    for number in 1..=250 {
        zone += &format!("many A 10.99.1.{number}\n");
    }
    for number in 1..=60 {
        zone += &format!("*.flood A 10.99.2.{number}\n");
    }
    zone
}

fn both(name: &str, place: Place) -> String {
    format!("{name}. A {}\n{name}. AAAA {}\n", place.v4, place.v6)
}
