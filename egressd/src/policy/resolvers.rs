//! Public resolvers that speak DNS where a port-53 rule does not see it.

use super::host::HostName;

/// Whether `name` is a known resolver's over HTTPS, TLS or QUIC (RFC 8484, 7858, 9250). Whoever may
/// connect to it asks for whatever name there, past every rule.
pub(super) fn is_resolver(name: &HostName) -> bool {
    let name = name.as_str();
    let below_dots = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
    std::iter::once(name).chain(below_dots).any(|zone| ZONES.binary_search(&zone).is_ok())
}

/// Zones that are resolvers' through and through: the name itself, and all below it, where some give
/// each customer a name. Sorted by octets. Facts, not policy: a list of strangers is never whole, so
/// that a policy without wide wildcards is what really holds; it closes the ways that programs try by
/// themselves. `resolver.arpa` is how they find others (RFC 9462, section 4).
pub const ZONES: [&str; 149] = [
    "8888.google",
    "adult-filter-dns.cleanbrowsing.org",
    "ahadns.com",
    "ahadns.net",
    "alekberg.net",
    "alidns.com",
    "anycast.uncensoreddns.org",
    "basic.bravedns.com",
    "bebasid.com",
    "blahdns.com",
    "canadianshield.cira.ca",
    "chewbacca.meganerd.nl",
    "cloudflare-dns.com",
    "cloudflare-gateway.com",
    "d.adguard-dns.com",
    "dandelionsprout.asuscomm.com",
    "dns-family.adguard.com",
    "dns-gcp.aaflalo.me",
    "dns-nosec.quad9.net",
    "dns-unfiltered.adguard.com",
    "dns.aa.net.uk",
    "dns.aaflalo.me",
    "dns.adguard-dns.com",
    "dns.adguard.com",
    "dns.artikel10.org",
    "dns.brahma.world",
    "dns.circl.lu",
    "dns.cloudflare.com",
    "dns.comss.one",
    "dns.controld.com",
    "dns.decloudus.com",
    "dns.digitale-gesellschaft.ch",
    "dns.dns-over-https.com",
    "dns.dnsguard.pub",
    "dns.east.comss.one",
    "dns.eth.limo",
    "dns.flatuslifir.is",
    "dns.froth.zone",
    "dns.google",
    "dns.google.com",
    "dns.hostux.net",
    "dns.kernel-error.de",
    "dns.larsdebruin.net",
    "dns.levonet.sk",
    "dns.mullvad.net",
    "dns.neutopia.org",
    "dns.nextdns.io",
    "dns.njal.la",
    "dns.opendns.com",
    "dns.oszx.co",
    "dns.pub",
    "dns.pumplex.com",
    "dns.quad9.net",
    "dns.rubyfish.cn",
    "dns.sb",
    "dns.seby.io",
    "dns.surfsharkdns.com",
    "dns.switch.ch",
    "dns.t53.de",
    "dns.telekom.de",
    "dns.tuna.tsinghua.edu.cn",
    "dns.twnic.tw",
    "dns.umbrella.com",
    "dns.yandex.net",
    "dns0.eu",
    "dns1.nextdns.io",
    "dns10.quad9.net",
    "dns11.quad9.net",
    "dns12.quad9.net",
    "dns2.nextdns.io",
    "dns4all.eu",
    "dns9.quad9.net",
    "dnsforfamily.com",
    "dnsforge.de",
    "dnsotls.lab.nic.cl",
    "dnsovertls.sinodun.com",
    "dnsovertls1.sinodun.com",
    "dnsovertls2.sinodun.com",
    "dnsovertls3.sinodun.com",
    "doh-2.seby.io",
    "doh-ipv6.crypto.sx",
    "doh.360.cn",
    "doh.applied-privacy.net",
    "doh.bortzmeyer.fr",
    "doh.cleanbrowsing.org",
    "doh.cox.net",
    "doh.crypto.sx",
    "doh.dns.apple.com",
    "doh.dnslify.com",
    "doh.ffmuc.net",
    "doh.li",
    "doh.libredns.gr",
    "doh.linuxsec.org",
    "doh.mullvad.net",
    "doh.onedns.net",
    "doh.opendns.com",
    "doh.powerdns.org",
    "doh.pub",
    "doh.qis.io",
    "doh.quickline.ch",
    "doh.safesurfer.io",
    "doh.sandbox.opendns.com",
    "doh.sb",
    "doh.seby.io",
    "doh.tiar.app",
    "doh.tiarap.org",
    "doh.umbrella.com",
    "doh.xfinity.com",
    "dot.360.cn",
    "dot.bortzmeyer.fr",
    "dot.cox.net",
    "dot.ffmuc.net",
    "dot.libredns.gr",
    "dot.onedns.net",
    "dot.pub",
    "dot.sb",
    "dot.seby.io",
    "dot.tiar.app",
    "dot.xfinity.com",
    "dot1.applied-privacy.net",
    "family-filter-dns.cleanbrowsing.org",
    "family.adguard-dns.com",
    "familyshield.opendns.com",
    "fdns1.dismail.de",
    "fdns2.dismail.de",
    "freedns.controld.com",
    "getdnsapi.net",
    "google-public-dns-a.google.com",
    "google-public-dns-b.google.com",
    "ibksturm.synology.me",
    "joindns4.eu",
    "jp.tiar.app",
    "jp.tiarap.org",
    "kaitain.restena.lu",
    "odoh1.surfdomeinen.nl",
    "odvr.nic.cz",
    "one.one.one.one",
    "ordns.he.net",
    "pi-dns.com",
    "public.dns.iij.jp",
    "resolver-eu.lelux.fi",
    "resolver.arpa",
    "rethinkdns.com",
    "security-filter-dns.cleanbrowsing.org",
    "steering.nextdns.io",
    "tls-dns-u.odvr.dns-oarc.net",
    "unfiltered.adguard-dns.com",
    "unicast.uncensoreddns.org",
    "wikimedia-dns.org",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_resolvers_is_sorted_and_holds_no_name_twice_or_for_nothing() {
        assert!(ZONES.is_sorted_by(|one, next| one < next));
        for zone in ZONES {
            assert_eq!(HostName::parse(zone).unwrap().as_str(), zone);
            let above = zone.match_indices('.').map(|(dot, _)| &zone[dot + 1..]);
            assert!(above.clone().all(|above| !ZONES.contains(&above)), "{zone} is in a zone of the list");
            assert!(above.count() > 0, "{zone} is a whole top-level domain");
        }
    }

    #[test]
    fn a_resolver_is_known_by_its_name_and_by_the_names_of_its_customers() {
        for name in [
            "dns.google",
            "dns64.dns.google",
            "cloudflare-dns.com",
            "mozilla.cloudflare-dns.com",
            "abc123.cloudflare-gateway.com",
            "one.one.one.one",
            "dns.quad9.net",
            "abc123.dns.nextdns.io",
            "f00.d.adguard-dns.com",
            "abc.dns.controld.com",
            "_dns.resolver.arpa",
        ] {
            assert!(is(name), "{name}");
        }
        for name in
            ["google", "google.com", "www.quad9.net", "xdns.google", "dns.google.evil.test", "nextdns.io"]
        {
            assert!(!is(name), "{name}");
        }
    }

    fn is(name: &str) -> bool {
        is_resolver(&HostName::parse(name).unwrap())
    }
}
