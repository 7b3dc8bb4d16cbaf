//! Rules that people lend by a command.

use egressd::config::{LentRule, Wish, lent};
use jiff::Timestamp;

#[test]
fn a_wish_is_read_as_people_write_destinations() {
    for (text, expected) in [
        ("api.example.com", "api.example.com 443 tls"),
        ("API.example.com:8443", "api.example.com 8443 tls"),
        ("api.example.com:80", "api.example.com 80 http"),
        ("https://api.example.com/a/b?c", "api.example.com 443 tls"),
        ("*.api.example.com", "*.api.example.com 443 tls"),
        ("**.api.example.com:8443", "**.api.example.com 8443 tls"),
        ("192.0.2.7:22", "192.0.2.7/32 22 tcp"),
        ("[2001:db8::1]:22", "2001:db8::1/128 22 tcp"),
        ("192.0.2.0/24:22", "192.0.2.0/24 22 tcp"),
        ("[2001:db8::/32]:22", "2001:db8::/32 22 tcp"),
    ] {
        let rule =
            wish(text).compile(Timestamp::UNIX_EPOCH).unwrap_or_else(|error| panic!("{text}: {error}"));
        let protocol = rule.protocol.unwrap();
        assert_eq!(format!("{} {} {protocol}", rule.subject, rule.ports[0]), expected, "{text}");
        assert_eq!(rule.term.until, Timestamp::from_second(3600).ok());
        assert!(!rule.private && rule.budget.max_bytes.is_none());
    }
}

#[test]
fn a_wish_that_no_rule_may_say_is_refused_in_the_words_of_policies() {
    for (change, says) in [
        (Wish { destination: "*.com".to_owned(), ..wish("") }, "wildcard `*.com` is too wide"),
        (Wish { destination: "*.github.io".to_owned(), ..wish("") }, "too wide"),
        (wish("a b.example"), "invalid host `a b.example`"),
        (wish("a.example:99999"), "`99999` is not a port"),
        (wish("a.example:0"), "port"),
        (wish("a.example:53"), "port 53 cannot be opened"),
        (wish("192.0.2.7"), "which port? write `192.0.2.7:PORT`"),
        (wish("2001:db8::/32"), "which port? write `[2001:db8::/32]:PORT`"),
        (Wish { protocol: Some("tls".to_owned()), ..wish("192.0.2.7:443") }, "cannot check a server name"),
        (Wish { protocol: Some("gopher".to_owned()), ..wish("a.example") }, "unknown protocol `gopher`"),
        (Wish { private: true, ..wish("192.0.2.7:22") }, "`private` belongs to a rule with `host`"),
        (Wish { lasts: "soon".to_owned(), ..wish("a.example") }, "invalid duration `soon`"),
        (Wish { lasts: "-1h".to_owned(), ..wish("a.example") }, "invalid duration `-1h`"),
        (Wish { lasts: "31d".to_owned(), ..wish("a.example") }, "longer than 30 days"),
        (Wish { bytes: Some("10 lots".to_owned()), ..wish("a.example") }, "invalid size `10 lots`"),
        (Wish { bytes: Some("0".to_owned()), ..wish("a.example") }, "no octets would let nothing pass"),
        (Wish { uses: Some(0), ..wish("a.example") }, "lets nothing pass"),
        (Wish { reason: Some("x".repeat(257)), ..wish("a.example") }, "more than 256 octets"),
        (wish("a.example\"}\n- {host: evil.example"), "invalid host"),
    ] {
        let error = change.compile(Timestamp::UNIX_EPOCH).expect_err(&change.destination).to_string();
        assert!(error.contains(says), "{}: {error}", change.destination);
    }
}

#[test]
fn what_is_lent_reads_the_same_after_a_restart() {
    for destination in ["*.api.example.com:8443", "192.0.2.0/24:22", "[2001:db8::1]:22"] {
        let rule = Wish { bytes: Some("10MB".to_owned()), uses: Some(3), ..wish(destination) };
        let rule = rule.compile(Timestamp::UNIX_EPOCH).unwrap();
        let kept = LentRule {
            host: rule.subject.to_string(),
            ports: rule.ports.clone(),
            protocol: rule.protocol.map(|protocol| protocol.to_string()),
            private: rule.private,
            reason: rule.reason.clone(),
            until: rule.term.until.unwrap(),
            budget: rule.budget,
        };
        assert_eq!(lent(&kept).unwrap(), rule);
    }
}

fn wish(destination: &str) -> Wish {
    Wish { destination: destination.to_owned(), lasts: "1h".to_owned(), ..Wish::default() }
}
