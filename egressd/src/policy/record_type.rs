//! The record types that a rule can allow beside addresses.

use std::fmt;

macro_rules! types {
    ($($variant:ident = $number:literal $word:literal,)+) => {
        /// A record type that a rule can name, by its number (RFC 6895, section 3.1). A closed set:
        /// types that exist to be small tunnels (NULL, private use), that carry keys which hide server
        /// names (HTTPS, SVCB), and that ask for more than one set of records (ANY, AXFR) are not in it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum RecordType {
            $($variant = $number,)+
        }

        impl RecordType {
            /// Every type that a rule can name.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word in policies and messages.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

types! {
    Ns = 2 "NS",
    Cname = 5 "CNAME",
    Soa = 6 "SOA",
    Ptr = 12 "PTR",
    Mx = 15 "MX",
    Txt = 16 "TXT",
    Srv = 33 "SRV",
    Naptr = 35 "NAPTR",
    Sshfp = 44 "SSHFP",
    Tlsa = 52 "TLSA",
    Uri = 256 "URI",
    Caa = 257 "CAA",
}

impl RecordType {
    /// The type of this word, in upper or lower case; None for one that no rule can allow.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str().eq_ignore_ascii_case(word))
    }

    /// The type of this number; None for one that no rule can allow.
    #[must_use]
    pub fn of(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.number() == number)
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_as_it_is_written_and_has_the_number_of_its_registry() {
        for kind in RecordType::ALL {
            assert_eq!(RecordType::parse(kind.as_str()), Some(*kind));
            assert_eq!(RecordType::of(kind.number()), Some(*kind));
            let known = hickory_proto::rr::RecordType::from(kind.number());
            // The other reader knows no URI.
            assert!(known.to_string() == kind.as_str() || *kind == RecordType::Uri, "{known}");
        }
        assert_eq!(RecordType::parse("txt"), Some(RecordType::Txt));
    }

    #[test]
    fn no_rule_can_allow_a_type_that_tunnels_or_asks_for_everything() {
        for word in [
            "ANY", "*", "NULL", "KEY", "HTTPS", "SVCB", "OPT", "AXFR", "IXFR", "A", "AAAA", "TYPE16", "16",
            "",
        ] {
            assert_eq!(RecordType::parse(word), None, "{word}");
        }
        for number in [0, 1, 10, 25, 28, 41, 64, 65, 249, 250, 251, 252, 255, 65399, u16::MAX] {
            assert_eq!(RecordType::of(number), None, "{number}");
        }
    }
}
