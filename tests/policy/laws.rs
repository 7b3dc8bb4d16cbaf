//! What holds for every name and every pattern.

use egressd::policy::{HostName, Pattern};
use proptest::{collection::vec, prelude::*};

proptest! {
    #[test]
    fn a_pattern_matches_as_a_list_of_labels_does(labels in labels(), suffix in labels(), below in labels()) {
        // Names that have the suffix are rare by chance, so half of them are made to.
        let under: Vec<&str> = below.iter().chain(&suffix).map(String::as_str).collect();
        let any: Vec<&str> = labels.iter().map(String::as_str).collect();
        for name in [under, any] {
            let Ok(host) = HostName::parse(&name.join(".")) else { continue };
            let ends = name.len() >= suffix.len() && name[name.len() - suffix.len()..] == suffix[..];
            let depth = name.len().saturating_sub(suffix.len());
            let suffix = suffix.join(".");
            let matches = |pattern: String| Pattern::parse(&pattern).unwrap().matches(&host);
            prop_assert_eq!(matches(suffix.clone()), ends && depth == 0);
            prop_assert_eq!(matches(format!("*.{suffix}")), ends && depth == 1);
            prop_assert_eq!(matches(format!("**.{suffix}")), ends && depth >= 1);
        }
    }

    #[test]
    fn a_name_that_was_parsed_parses_to_itself(text in "[a-zA-Z0-9_.-]{0,40}") {
        if let Ok(name) = HostName::parse(&text) {
            prop_assert_eq!(HostName::parse(name.as_str()), Ok(name.clone()));
            prop_assert_eq!(HostName::parse(&format!("{name}.")), Ok(name.clone()));
            prop_assert_eq!(HostName::parse(&name.as_str().to_uppercase()), Ok(name));
        }
    }

    #[test]
    fn no_octets_make_the_parser_panic_or_let_odd_ones_through(octets in vec(any::<u8>(), 0..300)) {
        if let Ok(name) = HostName::from_ascii(&octets) {
            prop_assert!(name.as_str().len() <= 253);
            prop_assert!(name.labels().all(|label| (1..=63).contains(&label.len())));
            let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-_.".contains(&octet);
            prop_assert!(name.as_str().bytes().all(allowed));
        }
    }

    #[test]
    fn a_pattern_shows_itself_as_it_is_written(stars in "(\\*\\*?\\.)?", labels in labels()) {
        let text = format!("{stars}{}", labels.join("."));
        prop_assert_eq!(Pattern::parse(&text).unwrap().to_string(), text);
    }
}

/// Few letters, so that names often share labels; the last label is never a number.
fn labels() -> impl Strategy<Value = Vec<String>> {
    (vec("[ab1]{1,2}", 0..4), "[ab]{1,2}").prop_map(|(mut labels, last)| {
        labels.push(last);
        labels
    })
}
