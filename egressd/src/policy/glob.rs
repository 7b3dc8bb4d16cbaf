//! Patterns of texts, in which a star stands for any part.

/// Whether `other` is `own`, in which `*` stands for any octets.
pub(super) fn covers_text(own: &str, other: &str) -> bool {
    let own: Vec<u8> = own.bytes().collect();
    let end = own.iter().rev().take_while(|octet| **octet == b'*').count();
    // Stars at the end stand for nothing, too.
    covers(&own, other.as_bytes(), |own| *own == b'*', |own, other| own == other)
        || covers(&own[..own.len() - end], other.as_bytes(), |own| *own == b'*', |own, other| own == other)
}

/// Whether `pattern` covers all of `items`; a star in it stands for any number of them, at the end for one
/// at the least. Only the last star is ever tried again, which bounds the time by the product of lengths.
pub(super) fn covers<P, I>(
    pattern: &[P],
    items: &[I],
    is_star: impl Fn(&P) -> bool,
    is_same: impl Fn(&P, &I) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(current) = items.get(item) {
        match (pattern.get(at), star) {
            (Some(own), _) if is_star(own) => {
                star = Some((at, item));
                at += 1;
            }
            (Some(own), _) if is_same(own, current) => {
                at += 1;
                item += 1;
            }
            (_, Some((place, covered))) => {
                star = Some((place, covered + 1));
                at = place + 1;
                item = covered + 1;
            }
            (_, None) => return false,
        }
    }
    at == pattern.len()
}
