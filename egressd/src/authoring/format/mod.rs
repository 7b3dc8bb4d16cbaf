//! One layout for policy files, which says the same with the same comments, or none.

mod lines;
mod order;
mod tree;
mod write;

pub use lines::FormatError;

use crate::config::Policies;

/// `text`, a policy or an allowlist, in the one layout: indented by two, the keys of a rule in the order of the
/// documentation, wildcards in double quotes, single blank lines. Comments stay with the line that they stand
/// above or behind. Rules stay in their order, and what is written in braces stays as it is.
///
/// # Errors
/// It holds what cannot be laid out without guessing, at the line that is told.
pub fn format(text: &str) -> Result<String, FormatError> {
    let tree = tree::parse(&lines::read(text)?)?;
    let written = write::write(&order::sort(tree));
    match is_settled(text, &written) {
        true => Ok(written),
        false => Err(FormatError::unsure()),
    }
}

/// Whether two sets of policies have the same agents, and mean the same wherever it is written.
#[must_use]
pub fn means_the_same(one: &Policies, other: &Policies) -> bool {
    one.names().eq(other.names())
        && one.selectors() == other.selectors()
        && one
            .names()
            .all(|name| one.for_agent(name).without_places() == other.for_agent(name).without_places())
}

/// Whether `written` has the comments of `text`, and would be written again as it is.
fn is_settled(text: &str, written: &str) -> bool {
    let comments = |text| {
        let mut comments = lines::read(text).map(|lines| lines::comments(&lines)).unwrap_or_default();
        comments.sort();
        comments
    };
    let again = lines::read(written).and_then(|lines| tree::parse(&lines));
    again.is_ok_and(|tree| write::write(&order::sort(tree)) == written) && comments(text) == comments(written)
}
