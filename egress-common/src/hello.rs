//! The ClientHello, as the kernel programs read it: whole in one record, or not at all.
//!
//! What the proxy denies, this denies too, and for the same reason. What it cannot tell from a valid hello
//! is [`Unread::Unreadable`]: the proxy may read it.

use core::ptr;

/// The most extensions of a ClientHello that the programs walk. Browsers send about 20.
pub const MAX_EXTENSIONS: u32 = 32;

/// The longest record of a ClientHello, with its header (RFC 8446, section 5.1).
pub const MAX_HELLO: u32 = RECORD_HEADER + 16_384;

/// The longest name (RFC 1035, section 2.3.4).
pub const MAX_NAME: u32 = 253;

/// First octet of every TLS record that carries a handshake (RFC 8446, section 5.1).
pub const HANDSHAKE: u8 = 22;

/// Octets in front of what a record carries.
pub const RECORD_HEADER: u32 = 5;

/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3).
pub const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Bytes that lie where they lie: in a slice, a message or a packet.
pub trait Source {
    /// The `N` octets from `at` on, counted from the begin of the record; None if they are not all there.
    fn octets<const N: usize>(&mut self, at: u32) -> Option<[u8; N]>;
}

/// What a ClientHello says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Octets of its record, with the header.
    pub length: u32,
    /// Where the server name is, counted from the begin of the record; 0 before one was found.
    name_at: u32,
    /// As it stands there: 1 to 253 octets, any case.
    name_length: u32,
    /// [`Self::ECH`], [`Self::EARLY_DATA`], and what the reader needs for itself.
    flags: u32,
}

impl Hello {
    /// It has Encrypted Client Hello, or its GREASE (RFC 9849, section 5).
    pub const ECH: u32 = 1;
    /// Data may follow before the server answers (RFC 8446, section 4.2.10).
    pub const EARLY_DATA: u32 = 2;
    /// Its list of server names is not one host name.
    const NOT_ONE_NAME: u32 = 4;
    /// Its last extension so far is pre_shared_key, behind which none may stand.
    const ENDED: u32 = 8;
    const NAME: u32 = 16;

    /// Whether one of the flags is set.
    #[inline(always)]
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        // Volatile, here and below: what lies in memory, the kernel's verifier takes for unknown. Of what
        // it knows, it would walk every order in which extensions can set it.
        unsafe { ptr::read_volatile(&raw const self.flags) & flag != 0 }
    }

    #[inline(always)]
    fn set(&mut self, flag: u32) {
        unsafe { ptr::write_volatile(&raw mut self.flags, ptr::read_volatile(&raw const self.flags) | flag) };
    }

    #[inline(always)]
    fn begin(&mut self, length: u32) {
        self.length = length;
        unsafe {
            ptr::write_volatile(&raw mut self.name_at, 0);
            ptr::write_volatile(&raw mut self.name_length, 0);
            ptr::write_volatile(&raw mut self.flags, 0);
        }
    }

    #[inline(always)]
    fn names(&mut self, at: u32, length: u32) {
        unsafe {
            ptr::write_volatile(&raw mut self.name_at, at);
            ptr::write_volatile(&raw mut self.name_length, length);
        }
        self.set(Self::NAME);
    }

    /// Where the name is, and its octets; None before one was found.
    #[inline(always)]
    #[must_use]
    pub fn name(&self) -> Option<(u32, u32)> {
        let name = unsafe {
            (ptr::read_volatile(&raw const self.name_at), ptr::read_volatile(&raw const self.name_length))
        };
        self.has(Self::NAME).then_some(name)
    }
}

/// Why there is no hello to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not whole: so many octets are needed.
    More(u32),
    /// The source ends before the hello does, where it was said to be whole.
    Cut,
    /// Not a TLS handshake.
    NotTls,
    /// Not a valid ClientHello.
    Malformed,
    /// Over several records, too long, too many extensions.
    Unreadable,
    /// It names no server.
    Nameless,
    /// Its list of server names is not one host name.
    NotOneName,
}

/// Reads the head of a record of which `there` octets are there, and how long the record is.
///
/// # Errors
/// `More` before the first octets say, else what they show.
#[inline(always)]
pub fn record_length(source: &mut impl Source, there: u32) -> Result<u32, Unread> {
    if there == 0 {
        return Err(Unread::More(RECORD_HEADER));
    }
    let [kind] = source.octets(0).ok_or(Unread::Cut)?;
    if kind != HANDSHAKE {
        return Err(Unread::NotTls);
    }
    if there < RECORD_HEADER {
        return Err(Unread::More(RECORD_HEADER));
    }
    let [_, major, _, high, low] = source.octets(0).ok_or(Unread::Cut)?;
    let carried = be16(high, low);
    if major != 3 || carried == 0 {
        return Err(Unread::Malformed);
    }
    // Less than this is no hello, but may be the first piece of one.
    if !(SHORTEST..=MAX_HELLO - RECORD_HEADER).contains(&carried) {
        return Err(Unread::Unreadable);
    }
    match RECORD_HEADER + carried {
        length if there < length => Err(Unread::More(length)),
        length => Ok(length),
    }
}

/// Reads the hello in a record of `length` octets, as [`record_length`] says. `kinds` is scratch. If the
/// source is cut, `hello` holds what was found up to there.
///
/// # Errors
/// Never `More`.
#[inline(always)]
pub fn read(
    source: &mut impl Source,
    length: u32,
    hello: &mut Hello,
    kinds: &mut [u16; MAX_EXTENSIONS as usize],
) -> Result<(), Unread> {
    hello.begin(length);
    let mut at = extensions(source, length)?;
    for index in 0..MAX_EXTENSIONS {
        if at == length {
            break;
        }
        at = extension(source, at, length, index, hello, kinds)?;
    }
    if at != length {
        return Err(Unread::Unreadable);
    }
    // Told only here: a hello that is malformed has no name, be it a good or a bad one.
    if hello.has(Hello::NOT_ONE_NAME) {
        return Err(Unread::NotOneName);
    }
    if hello.has(Hello::NAME) { Ok(()) } else { Err(Unread::Nameless) }
}

/// Everything before the extensions (RFC 8446, section 4.1.2); returns where they begin.
#[inline(always)]
fn extensions(source: &mut impl Source, length: u32) -> Result<u32, Unread> {
    let [kind, top, high, low] = source.octets(RECORD_HEADER).ok_or(Unread::Cut)?;
    if kind != CLIENT_HELLO {
        return Err(Unread::Malformed);
    }
    let body = (top as u32) << 16 | be16(high, low);
    if RECORD_HEADER + 4 + body > length {
        return Err(Unread::Unreadable);
    }
    if RECORD_HEADER + 4 + body < length {
        return Err(Unread::Malformed);
    }
    let [session] = source.octets(SESSION).ok_or(Unread::Cut)?;
    if session > 32 {
        return Err(Unread::Malformed);
    }
    let at = SESSION + 1 + session as u32;
    if at + 2 > length {
        return Err(Unread::Malformed);
    }
    let [high, low] = source.octets(at).ok_or(Unread::Cut)?;
    let ciphers = be16(high, low);
    if ciphers == 0 || ciphers & 1 != 0 {
        return Err(Unread::Malformed);
    }
    let at = at + 2 + ciphers;
    if at + 2 > length {
        return Err(Unread::Malformed);
    }
    let [compressions, first] = source.octets(at).ok_or(Unread::Cut)?;
    if compressions == 0 {
        return Err(Unread::Malformed);
    }
    let at = at + 1 + compressions as u32;
    // A hello of before there were extensions ends here.
    if at != length && at + 2 > length {
        return Err(Unread::Malformed);
    }
    // Nobody compresses. Where other methods stand in front, no compression may be behind them.
    if first != 0 {
        return Err(if compressions == 1 { Unread::Malformed } else { Unread::Unreadable });
    }
    if at == length {
        return Ok(length);
    }
    let [high, low] = source.octets(at).ok_or(Unread::Cut)?;
    if at + 2 + be16(high, low) != length {
        return Err(Unread::Malformed);
    }
    Ok(at + 2)
}

/// Reads the extension at `at`; returns where the next one begins.
#[inline(always)]
fn extension(
    source: &mut impl Source,
    at: u32,
    length: u32,
    index: u32,
    hello: &mut Hello,
    kinds: &mut [u16; MAX_EXTENSIONS as usize],
) -> Result<u32, Unread> {
    if at + 4 > length || hello.has(Hello::ENDED) {
        return Err(Unread::Malformed);
    }
    let [kind_high, kind_low, high, low] = source.octets(at).ok_or(Unread::Cut)?;
    let (kind, size) = (be16(kind_high, kind_low) as u16, be16(high, low));
    let next = at + 4 + size;
    if next > length {
        return Err(Unread::Malformed);
    }
    // RFC 8446, section 4.2: no type twice.
    for earlier in 0..index as usize {
        if kinds.get(earlier) == Some(&kind) {
            return Err(Unread::Malformed);
        }
    }
    if let Some(place) = kinds.get_mut(index as usize) {
        *place = kind;
    }
    match kind {
        SERVER_NAME => match server_name(source, at + 4, size)? {
            Some((at, length)) => hello.names(at, length),
            None => hello.set(Hello::NOT_ONE_NAME),
        },
        PRE_SHARED_KEY => hello.set(Hello::ENDED),
        EARLY_DATA => hello.set(Hello::EARLY_DATA),
        ENCRYPTED_CLIENT_HELLO => hello.set(Hello::ECH),
        _ => {}
    }
    Ok(next)
}

/// Where the one entry of a list of `size` octets is, of type `host_name` (RFC 6066, section 3), and how
/// long; None if it is not that.
#[inline(always)]
fn server_name(source: &mut impl Source, at: u32, size: u32) -> Result<Option<(u32, u32)>, Unread> {
    if size < 6 {
        return Ok(None);
    }
    let [list_high, list_low, kind, high, low] = source.octets(at).ok_or(Unread::Cut)?;
    let (list, name) = (be16(list_high, list_low), be16(high, low));
    if list + 2 != size || kind != HOST_NAME || name + 3 != list || name > MAX_NAME {
        return Ok(None);
    }
    Ok(Some((at + 5, name)))
}

/// A name, as the maps hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub length: u32,
    /// [`crate::fnv1a`] of it.
    pub hash: u64,
    /// Whether it is a host name as the policy takes one; but the length of labels, and what is behind
    /// `xn--`, are not looked at: no name that is not valid there is ever granted.
    pub is_valid: bool,
}

/// Folds the `length` octets of `name` to lower case, and hashes them. A root dot makes a name that is not
/// valid (RFC 6066, section 3: without a trailing dot).
#[inline(always)]
pub fn fold(name: &mut [u8; 256], length: u32) -> Name {
    let mut state = START;
    let mut hash = FNV_OFFSET;
    let end = apart(length);
    for (index, octet) in name.iter_mut().take(MAX_NAME as usize).enumerate() {
        if index as u32 >= end {
            break;
        }
        let class = CLASSES[*octet as usize];
        // An upper-case letter and its lower-case one differ in this bit.
        *octet |= class & UPPER;
        let class = class & 7;
        state = STEPS[(state << 3 | class) as usize & 63];
        hash = (hash ^ *octet as u64).wrapping_mul(FNV_PRIME);
    }
    Name { length, hash, is_valid: state == WORD }
}

/// The same number, of which the kernel's verifier does not know that it is. Where a loop ends at it, it
/// would else take each length that a name can have for a case of its own from there on.
#[inline(always)]
#[must_use]
pub fn apart(number: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number as u64;
        unsafe { core::arch::asm!("{0} ^= 0", inout(reg) number) };
        return number as u32;
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

const fn be16(high: u8, low: u8) -> u32 {
    (high as u32) << 8 | low as u32
}

// RFC 8446, sections 4 and 4.2; RFC 6066, section 1.1; RFC 9849, section 5.
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const HOST_NAME: u8 = 0;
/// Behind the header of the record and that of the handshake, version and random.
const SESSION: u32 = RECORD_HEADER + 4 + 2 + 32;
/// Octets of a handshake header with the shortest hello: no session, one cipher, one compression.
const SHORTEST: u32 = 4 + 2 + 32 + 1 + 4 + 2;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

// What an octet of a name is.
const OTHER: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const ZERO: u8 = 3;
const X: u8 = 4;
const HEX_LETTER: u8 = 5;
const HYPHEN: u8 = 6;
const DOT: u8 = 7;
const UPPER: u8 = 0x20;

const CLASSES: [u8; 256] = {
    let mut classes = [OTHER; 256];
    let mut index = 0;
    while index < 256 {
        let octet = index as u8;
        let upper = if octet.is_ascii_uppercase() { UPPER } else { 0 };
        classes[index] = match octet.to_ascii_lowercase() {
            b'a'..=b'f' => HEX_LETTER | upper,
            b'x' => X | upper,
            b'g'..=b'z' | b'_' => LETTER | upper,
            b'0' => ZERO,
            b'1'..=b'9' => DIGIT,
            b'-' => HYPHEN,
            b'.' => DOT,
            _ => OTHER,
        };
        index += 1;
    }
    classes
};

// What a label is so far; of the last one, only a word makes a host name (WHATWG URL, section 3.5).
const START: u8 = 0;
const WORD: u8 = 1;
const NUMBER: u8 = 2;
const NOUGHT: u8 = 3;
const HEX: u8 = 4;
const ENDS_IN_HYPHEN: u8 = 5;
const BAD: u8 = 6;

/// What a label becomes by one more octet: a row for each state, a column for each class.
const STEPS: [u8; 64] = {
    let rows = [
        [BAD, WORD, NUMBER, NOUGHT, WORD, WORD, BAD, BAD],
        [BAD, WORD, WORD, WORD, WORD, WORD, ENDS_IN_HYPHEN, START],
        [BAD, WORD, NUMBER, NUMBER, WORD, WORD, ENDS_IN_HYPHEN, START],
        [BAD, WORD, NUMBER, NUMBER, HEX, WORD, ENDS_IN_HYPHEN, START],
        [BAD, WORD, HEX, HEX, WORD, HEX, ENDS_IN_HYPHEN, START],
        [BAD, WORD, WORD, WORD, WORD, WORD, ENDS_IN_HYPHEN, BAD],
        [BAD; 8],
        [BAD; 8],
    ];
    let mut steps = [BAD; 64];
    let mut index = 0;
    while index < 64 {
        steps[index] = rows[index / 8][index % 8];
        index += 1;
    }
    steps
};

/// Bytes in memory: for tests, and for whoever wants the kernel's word in user space.
impl Source for &[u8] {
    #[inline(always)]
    fn octets<const N: usize>(&mut self, at: u32) -> Option<[u8; N]> {
        self.get(at as usize..)?.first_chunk().copied()
    }
}

/// The whole verdict on `bytes` in user space: the length of the record, and the name.
///
/// # Errors
/// As [`record_length`] and [`read`].
pub fn read_slice(bytes: &[u8]) -> Result<(Hello, [u8; 256], Name), Unread> {
    let mut source = bytes;
    let length = record_length(&mut source, bytes.len() as u32)?;
    let (mut hello, mut kinds) = (Hello::default(), [0; MAX_EXTENSIONS as usize]);
    read(&mut source, length, &mut hello, &mut kinds)?;
    let mut name = [0; 256];
    let (at, length) = hello.name().ok_or(Unread::Nameless)?;
    let found = bytes.get(at as usize..).unwrap_or_default();
    for (to, from) in name.iter_mut().zip(found.iter().take(length as usize)) {
        *to = *from;
    }
    let folded = fold(&mut name, length);
    Ok((hello, name, folded))
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::{vec, vec::Vec};

    #[test]
    fn a_hello_is_read_with_its_name_in_lower_case() {
        for sent in [&b"ok.test"[..], b"OK.Test"] {
            let bytes = hello(&[name(sent), (13, vec![0, 2, 4, 3]), (0xfe0d, vec![])]);
            let (hello, name, folded) = read_slice(&bytes).unwrap();
            assert_eq!(hello.length as usize, bytes.len());
            assert!(hello.has(Hello::ECH));
            assert_eq!(&name[..8], b"ok.test\0");
            let is = Name { length: 7, hash: crate::fnv1a(*b"ok.test"), is_valid: true };
            assert_eq!(folded, is);
        }
    }

    #[test]
    fn a_hello_that_is_not_whole_says_how_much_is_needed() {
        let bytes = hello(&[name(b"ok.test"), (13, vec![])]);
        for there in 0..bytes.len() {
            let needed = if there < 5 { 5 } else { bytes.len() as u32 };
            assert_eq!(read_slice(&bytes[..there]), Err(Unread::More(needed)));
        }
        assert_eq!(read_slice(b"G"), Err(Unread::NotTls));
    }

    #[test]
    fn what_is_not_one_valid_hello_in_one_record_is_told_apart() {
        let signatures = (13, vec![0, 2, 4, 3]);
        refuses(&hello(core::slice::from_ref(&signatures)), Unread::Nameless);
        refuses(&hello(&[name(b"ok.test"), signatures.clone(), name(b"ok.test")]), Unread::Malformed);
        refuses(&hello(&[name(b"ok.test"), signatures.clone(), (9, vec![]), (9, vec![])]), Unread::Malformed);
        refuses(&hello(&[(41, vec![]), name(b"ok.test"), signatures.clone()]), Unread::Malformed);
        refuses(&hello(&[(0, vec![0, 4, 7, 0, 1, b'a']), signatures.clone()]), Unread::NotOneName);
        refuses(
            &hello(&[(0, vec![0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b']), signatures.clone()]),
            Unread::NotOneName,
        );
        let many: Vec<_> = (100..133).map(|kind| (kind, vec![])).collect();
        refuses(&hello(&many), Unread::Unreadable);
        let whole = hello(&[name(b"ok.test"), signatures]);
        for change in [(0, 21, Unread::NotTls), (1, 4, Unread::Malformed), (5, 2, Unread::Malformed)] {
            let mut bytes = whole.clone();
            bytes[change.0] = change.1;
            refuses(&bytes, change.2);
        }
        let mut longer = whole.clone();
        longer[8] += 1;
        refuses(&longer, Unread::Unreadable);
        let mut shorter = whole;
        shorter[8] -= 1;
        refuses(&shorter, Unread::Malformed);
    }

    #[test]
    fn a_name_is_valid_as_the_policy_takes_names() {
        let is_valid = |text: &[u8]| {
            let mut name = [0; 256];
            name[..text.len()].copy_from_slice(text);
            fold(&mut name, text.len() as u32).is_valid
        };
        let longest = [[b'a'; 63]; 3].join(&b'.');
        for text in
            [&b"a"[..], b"_dmarc.ok.test", b"a--b.test", b"0x.test", b"1.a", b"a.0xg", b"1-1", &longest]
        {
            assert!(is_valid(text), "{text:?}");
        }
        let cases = [
            &b"."[..],
            b"..",
            b"a.",
            b"a..",
            b".a",
            b"a..b",
            b"a b",
            b"a\0b",
            b"-a",
            b"a-",
            b"a-.b",
            b"1",
            b"a.127",
        ];
        for text in cases.into_iter().chain([&b"a.0x7f"[..], b"a.0", b"a.0x", b"\xe3"]) {
            assert!(!is_valid(text), "{text:?}");
        }
    }

    fn refuses(bytes: &[u8], why: Unread) {
        assert_eq!(read_slice(bytes), Err(why), "{bytes:?}");
    }

    fn name(text: &[u8]) -> (u16, Vec<u8>) {
        let length = text.len() as u8;
        (0, [&[0, length + 3, 0, 0, length][..], text].concat())
    }

    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let two = |length: usize| (length as u16).to_be_bytes();
        let list: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &two(data.len()), data].concat())
            .collect();
        let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &two(list.len()), &list].concat();
        let handshake = [&[1, 0][..], &two(body.len()), &body].concat();
        [&[22, 3, 1][..], &two(handshake.len()), &handshake].concat()
    }
}
