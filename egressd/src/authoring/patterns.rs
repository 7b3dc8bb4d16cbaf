//! What patterns of host names have to do with each other.

use crate::policy::Pattern;

/// Whether there is a name that both are about.
pub(super) fn overlap(one: &Pattern, other: &Pattern) -> bool {
    match (one, other) {
        (Pattern::Exact(name), _) => other.matches(name),
        (_, Pattern::Exact(name)) => one.matches(name),
        (Pattern::OneLabel(one), Pattern::OneLabel(other)) => one == other,
        (Pattern::OneLabel(one), Pattern::AnyLabels(zone))
        | (Pattern::AnyLabels(zone), Pattern::OneLabel(one)) => is_at_or_below(one.as_str(), zone.as_str()),
        (Pattern::AnyLabels(one), Pattern::AnyLabels(other)) => {
            is_at_or_below(one.as_str(), other.as_str()) || is_at_or_below(other.as_str(), one.as_str())
        }
    }
}

/// Whether every name of `inner` is one of `outer`.
pub(super) fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    match (outer, inner) {
        (_, Pattern::Exact(name)) => outer.matches(name),
        (Pattern::Exact(_), Pattern::OneLabel(_) | Pattern::AnyLabels(_)) => false,
        (Pattern::OneLabel(outer), Pattern::OneLabel(inner)) => outer == inner,
        (Pattern::OneLabel(_), Pattern::AnyLabels(_)) => false,
        (Pattern::AnyLabels(outer), Pattern::OneLabel(inner) | Pattern::AnyLabels(inner)) => {
            inner == outer || Pattern::AnyLabels(outer.clone()).matches(inner)
        }
    }
}

fn is_at_or_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_a_name_is_in_both() {
        for (one, other, is_so) in [
            ("a.test", "a.test", true),
            ("a.test", "*.test", true),
            ("*.a.test", "**.a.test", true),
            ("*.a.test", "**.b.a.test", false),
            ("*.b.a.test", "**.a.test", true),
            ("*.a.test", "*.b.a.test", false),
            ("**.a.test", "**.b.a.test", true),
            ("**.a.test", "**.ba.test", false),
            ("a.test", "**.a.test", false),
        ] {
            let (left, right) = (Pattern::parse(one).unwrap(), Pattern::parse(other).unwrap());
            assert_eq!(overlap(&left, &right), is_so, "{one} {other}");
            assert_eq!(overlap(&right, &left), is_so, "{other} {one}");
        }
    }
}
