//! Hellos that are unusual, and right.

use super::{
    Case,
    craft::{Craft, Extension, long, records, server_name, short},
    mutate::Random,
};

pub fn cases() -> Vec<Case> {
    [names(), shapes(), sizes(), greased()].concat()
}

fn names() -> Vec<Case> {
    let longest =
        [("a", 63), ("b", 63), ("c", 63), ("d", 61)].map(|(letter, count)| letter.repeat(count)).join(".");
    let names = [
        ("one letter", "a"),
        ("upper case", "OK.Test"),
        ("all upper case", "OK.TEST"),
        ("underscore", "_dmarc.ok.test"),
        ("hyphens inside", "a--b.ok-ok.test"),
        ("digits in front", "1.2.3.test"),
        ("last label begins with a digit", "ok.7t"),
        ("last label begins like hexadecimal", "ok.0xg"),
        ("a valid A-label", "xn--bcher-kva.test"),
        ("a label of 63 octets and 253 in all", longest.as_str()),
        ("another name", "evil.test"),
    ];
    let case = |(title, name): (&str, &str)| {
        Case::named(title, Craft::named(name.as_bytes()).record(), &name.to_ascii_lowercase())
    };
    names.map(case).to_vec()
}

fn shapes() -> Vec<Case> {
    let hello = Craft::named(b"ok.test");
    let record = hello.record();
    let with = |extensions: &[Extension]| Craft::with(extensions).record();
    let versioned = |version: u8| [&[22, 3, version][..], &record[3..]].concat();
    let ok = |title: &str, bytes| Case::named(title, bytes, "ok.test");
    let name = server_name(b"ok.test");
    let bare = Craft::exactly(vec![name.clone()]);
    let grease_for_ech = [&[0, 0, 1, 0, 1, 9][..], &long(&[5; 32]), &long(&[6; 144])].concat();
    vec![
        ok("small", record.clone()),
        ok("nothing but a name", bare.record()),
        ok("no session", Craft { session: vec![], ..bare.clone() }.record()),
        ok("one octet of session", Craft { session: vec![1], ..bare }.record()),
        ok("record of SSL 3.0", versioned(0)),
        ok("record of TLS 1.2", versioned(3)),
        ok("record of a version to come", versioned(255)),
        ok("hello of SSL 3.0", Craft { version: [3, 0], ..hello.clone() }.record()),
        ok("hello of a version to come", Craft { version: [9, 9], ..hello.clone() }.record()),
        ok("compression behind none", Craft { compressions: vec![0, 1], ..hello.clone() }.record()),
        ok("compression before none", Craft { compressions: vec![1, 0], ..hello.clone() }.record())
            .unreadable(),
        ok("all compressions", Craft { compressions: (0..=254).collect(), ..hello.clone() }.record()),
        ok("name in front", with(&[name.clone(), (16, vec![0, 3, 2, b'h', b'2'])])),
        ok("name behind", with(&[(16, vec![0, 3, 2, b'h', b'2']), name.clone()])),
        ok("name last", Craft::exactly(vec![(13, vec![0, 2, 4, 3]), name.clone()]).record()),
        ok(
            "pre-shared key last",
            Craft::exactly(vec![name.clone(), (13, vec![0, 2, 4, 3]), pre_shared_key(100)]).record(),
        ),
        ok("an empty extension of an unknown type", with(&[(0x7777, vec![]), name.clone()])),
        ok("encrypted client hello", with(&[(0xfe0d, grease_for_ech), name])),
        ok("change_cipher_spec behind", [&record[..], b"\x14\x03\x03\x00\x01\x01"].concat()),
        ok("early data behind", [&record[..], b"\x17\x03\x03\x00\x05early"].concat()),
        ok("another hello behind", [record.clone(), Craft::named(b"evil.test").record()].concat()),
        ok("nonsense behind", [&record[..], b"\xff\xff\xff"].concat()),
        ok("two records", records(&hello.message(), 60)).unreadable(),
        ok("records of one octet", records(&hello.message(), 1)).unreadable(),
        ok("all but one octet in a record", records(&hello.message(), hello.message().len() - 1))
            .unreadable(),
        ok(
            "one octet in a first record",
            [&b"\x16\x03\x01\x00\x01\x01"[..], &records(&hello.message()[1..], 9_999)].concat(),
        )
        .unreadable(),
    ]
}

fn sizes() -> Vec<Case> {
    let padded = |length: usize| Craft::with(&[server_name(b"ok.test"), (21, vec![0; length])]).message();
    let shortest = padded(0).len();
    let of_length = |length: usize| padded(length - shortest);
    let many = |count: u16| (1..count).map(|kind| (0x5500 + kind, vec![])).chain([server_name(b"ok.test")]);
    let ok = |title: String, bytes| Case::named(&title, bytes, "ok.test");
    let mut cases: Vec<Case> = [511, 512, 513, 1_500, 4_096, 14_000, 16_383, 16_384]
        .into_iter()
        .map(|length| ok(format!("hello of {length} octets"), records(&of_length(length), 16_384)))
        .collect();
    cases.extend([16_385, 20_000, 60_000].map(|length| {
        ok(format!("hello of {length} octets"), records(&of_length(length), 16_384)).unreadable()
    }));
    cases.extend(
        [1, 8, 31, 32]
            .map(|count| ok(format!("{count} extensions"), Craft::exactly(many(count).collect()).record())),
    );
    cases.extend([33, 40, 200].map(|count| {
        ok(format!("{count} extensions"), Craft::exactly(many(count).collect()).record()).unreadable()
    }));
    let ciphers = Craft { ciphers: vec![0x13; 4_000], ..Craft::named(b"ok.test") };
    cases.push(ok("two thousand cipher suites".to_owned(), ciphers.record()));
    cases
}

/// As browsers have them: GREASE wherever it may stand (RFC 8701), extensions in any order, key shares of
/// several groups, encrypted client hello as GREASE, padding.
fn greased() -> Vec<Case> {
    let mut random = Random::new(7);
    let mut cases = Vec::new();
    for round in 0..60 {
        let grease = |random: &mut Random| 0x0a0a + 0x1010 * u16::try_from(random.below(16)).unwrap_or(0);
        let (first, mut last) = (grease(&mut random), grease(&mut random));
        if last == first {
            last = if first == 0x0a0a { 0x1a1a } else { 0x0a0a };
        }
        let mut middle = browser_extensions(&mut random, first);
        random.shuffle(&mut middle);
        let mut extensions = vec![(first, vec![])];
        extensions.extend(middle);
        extensions.push((last, vec![0]));
        if random.below(2) == 0 {
            let length = random.below(300);
            extensions.push((21, vec![0; length]));
        }
        if random.below(3) == 0 {
            extensions.push(pre_shared_key(random.below(2_000)));
        }
        let ciphers = [&first.to_be_bytes()[..], &[0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b]].concat();
        let hello = Craft { ciphers, ..Craft::exactly(extensions) };
        cases.push(Case::named(&format!("as of a browser, round {round}"), hello.record(), "ok.test"));
    }
    cases
}

fn browser_extensions(random: &mut Random, grease: u16) -> Vec<Extension> {
    let key_share = |group: u16, length: usize| [&group.to_be_bytes()[..], &long(&vec![9; length])].concat();
    let shares = [key_share(grease, 1), key_share(0x11ec, 1_216), key_share(29, 32)].concat();
    let groups = [&grease.to_be_bytes()[..], &[0x11, 0xec, 0, 29, 0, 23, 0, 24]].concat();
    let versions = [&grease.to_be_bytes()[..], &[3, 4, 3, 3]].concat();
    let payload = [144, 176, 208, 240][random.below(4)];
    let ech = [&[0, 0, 1, 0, 1, 200][..], &long(&[5; 32]), &long(&vec![6; payload])].concat();
    let mut extensions = vec![
        server_name(b"ok.test"),
        (5, vec![1, 0, 0, 0, 0]),
        (10, long(&groups)),
        (11, vec![1, 0]),
        (13, vec![0, 4, 4, 3, 8, 4]),
        (16, long(&[&short(b"h2")[..], &short(b"http/1.1")].concat())),
        (18, vec![]),
        (23, vec![]),
        (27, vec![2, 0, 2]),
        (35, vec![8; random.below(2) * 200]),
        (43, short(&versions)),
        (45, vec![1, 1]),
        (51, long(&shares)),
        (0x44cd, vec![0, 3, 2, b'h', b'2']),
        (0xfe0d, ech),
        (0xff01, vec![0]),
    ];
    // Not every client sends all of them; the name and the algorithms they do.
    let left_out = random.below(6);
    for _ in 0..left_out {
        let at = random.below(extensions.len());
        if !matches!(extensions[at].0, 0 | 13) {
            extensions.remove(at);
        }
    }
    extensions
}

/// With a ticket of so many octets (RFC 8446, section 4.2.11).
fn pre_shared_key(ticket: usize) -> Extension {
    let identity = [&long(&vec![1; ticket.max(1)])[..], &[0, 0, 0, 9]].concat();
    (41, [long(&identity), long(&short(&[2; 32]))].concat())
}
