//! Hellos that are wrong, each in its own way, and what is no hello at all.

use super::{
    Case, Verdict,
    craft::{Craft, Extension, block, long, message, record, records, server_name, server_names},
};

pub fn cases() -> Vec<Case> {
    [not_tls(), framing(), fields(), extensions(), names(), lists()].concat()
}

fn not_tls() -> Vec<Case> {
    let first_bytes: [(&str, &[u8]); 9] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("one octet", b"\0"),
        ("hello of SSL 2.0", b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"),
        ("alert first", b"\x15\x03\x03\x00\x02\x01\x70"),
        ("change_cipher_spec first", b"\x14\x03\x03\x00\x01\x01"),
        ("application data first", b"\x17\x03\x03\x00\x05early"),
        ("heartbeat first", b"\x18\x03\x03\x00\x03\x01\x00\x00"),
        ("PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n"),
    ];
    let behind = |bytes: &[u8]| [bytes, &hello()].concat();
    let cases = first_bytes.map(|(title, bytes)| Case::denied(title, bytes.to_vec(), "not-tls"));
    let with_hello = first_bytes
        .map(|(title, bytes)| Case::denied(&format!("{title}, and a hello"), behind(bytes), "not-tls"));
    [cases, with_hello].concat()
}

fn framing() -> Vec<Case> {
    let malformed = |title: &str, bytes| Case::denied(title, bytes, "hello-malformed");
    let waits = |title: &str, bytes| Case::new(title, bytes, Verdict::Waits);
    let (whole, inner) = (hello(), Craft::named(b"ok.test").message());
    let edited = |at: usize, octets: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + octets.len()].copy_from_slice(octets);
        bytes
    };
    let (first, second) = inner.split_at(70);
    let oversized = Craft::with(&[server_name(b"ok.test"), (21, vec![0; 16_400])]).message();
    let message_length = u16::try_from(inner.len() - 4).expect("it is small");
    let record_length = u16::try_from(inner.len()).expect("it is small");
    vec![
        malformed("record of SSL 2.0", edited(1, &[2, 0])),
        malformed("record of DTLS 1.0", edited(1, &[254, 255])),
        malformed("record of TLS 2.0", edited(1, &[4])),
        malformed("empty record in front", [&b"\x16\x03\x01\x00\x00"[..], &whole].concat()),
        malformed("record that is too long", record(&oversized)).unreadable(),
        malformed("record of 65535 octets", [&b"\x16\x03\x01\xff\xff"[..], &[0; 100]].concat()).unreadable(),
        waits("record that says one octet more", edited(3, &(record_length + 1).to_be_bytes())),
        malformed("record that says one octet less", {
            let mut bytes = edited(3, &(record_length - 1).to_be_bytes());
            bytes.extend_from_slice(&[0; 50]);
            bytes
        })
        .unreadable(),
        malformed("message that says one octet less", edited(7, &(message_length - 1).to_be_bytes())),
        Case {
            proxy: Verdict::Waits,
            ..malformed("message that says one octet more", edited(7, &(message_length + 1).to_be_bytes()))
        }
        .unreadable(),
        Case::denied("message that says 16 MiB", edited(6, &[255, 255, 255]), "hello-too-large").unreadable(),
        Case::denied("message that says 65536 octets", edited(6, &[1, 0, 0]), "hello-too-large").unreadable(),
        malformed("bytes behind the hello in its record", record(&[&inner[..], &[20, 0, 0, 0]].concat())),
        malformed("two hellos in one record", record(&[inner.clone(), inner.clone()].concat())),
        malformed(
            "an empty record between",
            [record(first), b"\x16\x03\x01\x00\x00".to_vec(), record(second)].concat(),
        )
        .unreadable(),
        malformed(
            "an alert between",
            [record(first), b"\x15\x03\x03\x00\x02\x01\x70".to_vec(), record(second)].concat(),
        )
        .unreadable(),
        malformed(
            "change_cipher_spec between",
            [record(first), b"\x14\x03\x03\x00\x01\x01".to_vec(), record(second)].concat(),
        )
        .unreadable(),
        malformed(
            "records of two versions, one wrong",
            [record(first), [&[22, 2, 0][..], &long(second)].concat()].concat(),
        )
        .unreadable(),
        malformed("nonsense between", [&record(first)[..], b"\xff", &record(second)].concat()).unreadable(),
        Case::denied("hello of 70000 octets", records(&large(70_000), 16_384), "hello-too-large")
            .unreadable(),
        Case::denied("many records of one octet", records(&large(20_000), 1), "hello-too-large").unreadable(),
        waits("nothing", vec![]),
        waits("half a record header", whole[..3].to_vec()),
        waits("half a hello", whole[..whole.len() / 2].to_vec()),
        waits("all but one octet", whole[..whole.len() - 1].to_vec()),
    ]
}

fn fields() -> Vec<Case> {
    let malformed = |title: &str, craft: Craft| Case::denied(title, craft.record(), "hello-malformed");
    let nameless = |title: &str, craft: Craft| Case::denied(title, craft.record(), "server-name-missing");
    let ok = Craft::named(b"ok.test");
    let body = ok.message()[4..].to_vec();
    let mut cases = vec![
        malformed("a ServerHello", Craft { kind: 2, ..ok.clone() }),
        malformed("a HelloRequest", Craft { kind: 0, ..ok.clone() }),
        malformed("session of 33 octets", Craft { session: vec![5; 33], ..ok.clone() }),
        malformed("session of 255 octets", Craft { session: vec![5; 255], ..ok.clone() }),
        malformed("no cipher suites", Craft { ciphers: vec![], ..ok.clone() }),
        malformed("half a cipher suite", Craft { ciphers: vec![0x13], ..ok.clone() }),
        malformed("three halves of cipher suites", Craft { ciphers: vec![0x13, 1, 0x13], ..ok.clone() }),
        malformed("no compressions", Craft { compressions: vec![], ..ok.clone() }),
        malformed("nothing but compression", Craft { compressions: vec![1], ..ok.clone() }),
        malformed("nothing but compressions", Craft { compressions: vec![1, 64], ..ok.clone() }).unreadable(),
        nameless("no block of extensions", Craft { extensions: None, ..ok.clone() }),
        nameless("an empty block of extensions", Craft { extensions: Some(vec![]), ..ok.clone() }),
        nameless("no name", Craft::with(&[])),
    ];
    // Cut short at every octet, with the lengths in front right.
    cases.extend((0..body.len()).map(|end| {
        let case = Case::denied(
            &format!("body of {end} octets"),
            record(&message(1, &body[..end])),
            "hello-malformed",
        );
        match end {
            // Without its extensions it is a hello.
            73 => Case::denied(&case.title, case.bytes, "server-name-missing"),
            // The kernel takes it for the first piece of one.
            0..41 => case.unreadable(),
            _ => case,
        }
    }));
    cases
}

fn extensions() -> Vec<Case> {
    let malformed = |title: &str, bytes| Case::denied(title, bytes, "hello-malformed");
    let name = || server_name(b"ok.test");
    let with = |extensions: &[Extension]| Craft::with(extensions).record();
    // A block of extensions that ends in `end`, and says that it is `more` octets longer than it is.
    let block_of = |end: &[u8], more: i32| {
        let bare = Craft { extensions: None, ..Craft::with(&[]) }.message();
        let octets = [&block(&[name(), (13, vec![0, 2, 4, 3])]), end].concat();
        let length = u16::try_from(i32::try_from(octets.len()).expect("small") + more).expect("small");
        record(&message(1, &[&bare[4..], &length.to_be_bytes(), &octets].concat()))
    };
    let many = |last: Extension| {
        let extensions = (1..31).map(|kind| (0x5500 + kind, vec![])).chain([name(), last]);
        Craft::exactly(extensions.collect()).record()
    };
    let mut cases = vec![
        malformed("block that says one octet less", block_of(&[], -1)),
        malformed("block that says one octet more", block_of(&[], 1)),
        malformed("block that says 4 octets less, so that it ends within an extension", block_of(&[], -4)),
        malformed("block that leaves out its last extension", block_of(&block(&[(43, vec![2, 3, 4])]), -7)),
        malformed("an octet behind the last extension", block_of(&[0], 0)),
        malformed("two octets behind the last extension", block_of(&[0, 0], 0)),
        malformed("three octets behind the last extension", block_of(&[0, 43, 0], 0)),
        malformed("last extension that says one octet more", block_of(&[0, 43, 0, 1], 0)),
        malformed("last extension that says 65535 octets", block_of(&[0, 43, 255, 255], 0)),
        malformed("name twice", with(&[name(), name()])),
        malformed("two names", with(&[name(), server_name(b"evil.test")])),
        malformed("a bad name and a good one", with(&[server_name(b"\0"), name()])),
        malformed("unknown type twice", with(&[name(), (0x7777, vec![]), (0x7777, vec![1])])),
        malformed("GREASE twice", with(&[(0x0a0a, vec![]), name(), (0x0a0a, vec![])])),
        malformed("first and last alike", many((0x5501, vec![]))),
        malformed("last two alike", many((0, vec![]))),
        malformed("pre-shared key in front", with(&[(41, vec![]), name()])),
        malformed("pre-shared key twice", Craft::exactly(vec![name(), (41, vec![]), (41, vec![])]).record()),
        malformed("a bad name, and a type twice", with(&[server_name(b"."), (9, vec![]), (9, vec![])])),
        malformed("33 extensions, and a type twice", {
            let extensions = (1..33).map(|kind| (0x5500 + kind, vec![])).chain([name(), (0x5501, vec![])]);
            Craft::exactly(extensions.collect()).record()
        })
        .unreadable(),
    ];
    for kind in [5, 10, 13, 16, 21, 23, 35, 42, 43, 45, 51, 0x44cd, 0xfe0d, 0xff01, 0xffff] {
        let twice = vec![name(), (kind, vec![]), (9_999, vec![]), (kind, vec![])];
        cases.push(malformed(&format!("type {kind} twice"), Craft::exactly(twice).record()));
    }
    cases
}

fn names() -> Vec<Case> {
    let label = |length| "a".repeat(length);
    let too_long = [label(63), label(63), label(63), label(62)].join(".");
    let titles_and_names: Vec<(&str, Vec<u8>)> = vec![
        ("NUL", b"\0".to_vec()),
        ("NUL inside", b"ok.test\0.evil.test".to_vec()),
        ("NUL behind", b"ok.test\0".to_vec()),
        ("root dot", b"ok.test.".to_vec()),
        ("two dots at the end", b"ok.test..".to_vec()),
        ("nothing but a dot", b".".to_vec()),
        ("dot in front", b".ok.test".to_vec()),
        ("empty label", b"ok..test".to_vec()),
        ("254 octets", too_long.into_bytes()),
        ("255 octets", vec![b'a'; 255]),
        ("1000 octets", vec![b'a'; 1_000]),
        ("IPv4 address", b"192.0.2.1".to_vec()),
        ("IPv6 address", b"2001:db8::1".to_vec()),
        ("IPv6 address in brackets", b"[2001:db8::1]".to_vec()),
        ("number", b"3221225985".to_vec()),
        ("octal number", b"ok.017".to_vec()),
        ("hexadecimal number", b"ok.0x7F000001".to_vec()),
        ("half a hexadecimal number", b"ok.0X".to_vec()),
        ("UTF-8", "b\u{fc}cher.test".as_bytes().to_vec()),
        ("ISO 8859-1", b"b\xfccher.test".to_vec()),
        ("full stop of another script", "ok\u{3002}test".as_bytes().to_vec()),
        ("space", b"ok test".to_vec()),
        ("space behind", b"ok.test ".to_vec()),
        ("line end", b"ok.test\r\n".to_vec()),
        ("star", b"*.test".to_vec()),
        ("slash", b"ok.test/".to_vec()),
        ("port", b"ok.test:443".to_vec()),
        ("user", b"evil@ok.test".to_vec()),
        ("percent", b"ok%2etest".to_vec()),
        ("hyphen in front", b"-ok.test".to_vec()),
        ("hyphen behind", b"ok-.test".to_vec()),
        ("hyphen alone", b"ok.-.test".to_vec()),
        ("hyphen at the end", b"ok.test-".to_vec()),
    ];
    let mut cases: Vec<Case> = titles_and_names
        .into_iter()
        .map(|(title, name)| {
            Case::denied(&format!("name: {title}"), Craft::named(&name).record(), "name-invalid")
        })
        .collect();
    // The kernel does not look into these: such names earn no grants.
    for (title, name) in [
        ("A-label that is not valid", "xn--ok.test".to_owned()),
        ("label of 64 octets", format!("{}.test", label(64))),
    ] {
        let case =
            Case::denied(&format!("name: {title}"), Craft::named(name.as_bytes()).record(), "name-invalid");
        cases.push(Case { kernel: Verdict::Named(name), ..case });
    }
    cases
}

/// The list in the extension, wrong in every direction.
fn lists() -> Vec<Case> {
    let invalid = |title: &str, data: &[u8]| {
        let bytes = Craft::with(&[(0, data.to_vec())]).record();
        Case::denied(&format!("list: {title}"), bytes, "name-invalid")
    };
    let of = |names: &[(u8, &[u8])]| server_names(names).1;
    let edited = |at: usize, by: i16| {
        let mut list = of(&[(0, b"ok.test")]);
        list[at] = list[at].wrapping_add_signed(i8::try_from(by).expect("small"));
        list
    };
    let mut cases = vec![
        invalid("no octet", &[]),
        invalid("one octet", &[0]),
        invalid("empty", &[0, 0]),
        invalid("a type alone", &[0, 1, 0]),
        invalid("a type and half a length", &[0, 2, 0, 0]),
        invalid("an empty name", &of(&[(0, b"")])),
        invalid("type 1", &of(&[(1, b"ok.test")])),
        invalid("type 255", &of(&[(255, b"ok.test")])),
        invalid("two names", &of(&[(0, b"ok.test"), (0, b"evil.test")])),
        invalid("the same name twice", &of(&[(0, b"ok.test"), (0, b"ok.test")])),
        invalid("another type in front", &of(&[(7, b"x"), (0, b"ok.test")])),
        invalid("another type behind", &of(&[(0, b"ok.test"), (7, b"x")])),
        invalid("another type between", &of(&[(0, b"ok.test"), (7, b"x"), (0, b"evil.test")])),
        invalid("an octet behind", &[of(&[(0, b"ok.test")]), vec![0]].concat()),
        invalid("another list behind", &[of(&[(0, b"ok.test")]), of(&[(0, b"evil.test")])].concat()),
    ];
    for (at, what) in [(1, "list"), (4, "name")] {
        for by in [-3, -1, 1, 3, 100] {
            cases.push(invalid(&format!("length of the {what} off by {by}"), &edited(at, by)));
        }
    }
    for (at, what) in [(0, "list"), (3, "name")] {
        cases.push(invalid(&format!("length of the {what} off by 256"), &edited(at, 1)));
    }
    cases
}

fn hello() -> Vec<u8> {
    Craft::named(b"ok.test").record()
}

/// A message of some `length` octets: more than its extensions alone could have.
fn large(length: usize) -> Vec<u8> {
    let half = length / 4 * 2;
    let padding = (21, vec![0; half]);
    Craft { ciphers: vec![0x13; half], ..Craft::with(&[server_name(b"ok.test"), padding]) }.message()
}
