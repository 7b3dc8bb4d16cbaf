//! Builds hellos, right and wrong ones.

/// The fields of a ClientHello (RFC 8446, section 4.1.2).
#[derive(Debug, Clone)]
pub struct Craft {
    pub kind: u8,
    pub version: [u8; 2],
    pub session: Vec<u8>,
    pub ciphers: Vec<u8>,
    pub compressions: Vec<u8>,
    /// None: not even the length of the block.
    pub extensions: Option<Vec<Extension>>,
}

/// Type and data.
pub type Extension = (u16, Vec<u8>);

impl Craft {
    /// As a small client sends it: the extensions given, and signature algorithms and versions behind them.
    pub fn with(extensions: &[Extension]) -> Self {
        let common = [(13, vec![0, 2, 4, 3]), (43, vec![2, 3, 4])];
        Self::exactly([extensions, &common].concat())
    }

    pub fn exactly(extensions: Vec<Extension>) -> Self {
        Self {
            kind: 1,
            version: [3, 3],
            session: vec![5; 32],
            ciphers: vec![0x13, 1],
            compressions: vec![0],
            extensions: Some(extensions),
        }
    }

    pub fn named(name: &[u8]) -> Self {
        Self::with(&[server_name(name)])
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let extensions = self.extensions.as_ref().map(|extensions| long(&block(extensions)));
        let body = [
            &self.version[..],
            &[7; 32],
            &short(&self.session),
            &long(&self.ciphers),
            &short(&self.compressions),
            &extensions.unwrap_or_default(),
        ];
        message(self.kind, &body.concat())
    }

    /// In one record.
    pub fn record(&self) -> Vec<u8> {
        record(&self.message())
    }
}

/// A handshake message of `kind`.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is small").to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

/// The record that carries `fragment`.
pub fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &long(fragment)].concat()
}

/// Records with `size` octets of `message` each.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

pub fn block(extensions: &[Extension]) -> Vec<u8> {
    extensions.iter().flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &long(data)].concat()).collect()
}

/// The extension with one name (RFC 6066, section 3).
pub fn server_name(name: &[u8]) -> Extension {
    server_names(&[(0, name)])
}

/// The extension with these entries.
pub fn server_names(names: &[(u8, &[u8])]) -> Extension {
    let entries: Vec<u8> =
        names.iter().flat_map(|(kind, name)| [&[*kind], &long(name)[..]].concat()).collect();
    (0, long(&entries))
}

/// Behind its length in one octet.
pub fn short(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).expect("it is short")], data].concat()
}

/// Behind its length in two octets.
pub fn long(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).expect("it is not that long").to_be_bytes()[..], data].concat()
}
