//! ClientHellos with the verdicts that the kernel and the proxy must come to: those of real programs, and
//! crafted ones, valid and hostile. Tests of several targets share them; nothing here knows of egressd.

mod craft;
mod hostile;
pub mod mutate;
mod real;
mod valid;

/// Every hello that there is.
pub fn all() -> Vec<Case> {
    [real::cases(), valid::cases(), hostile::cases()].concat()
}

/// The first bytes of a flow.
#[derive(Debug, Clone)]
pub struct Case {
    pub title: String,
    pub bytes: Vec<u8>,
    pub proxy: Verdict,
    pub kernel: Verdict,
}

/// What is made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server name that is found.
    Named(String),
    /// The name of the reason.
    Denied(String),
    /// More has to come.
    Waits,
}

impl Case {
    fn named(title: &str, bytes: Vec<u8>, name: &str) -> Self {
        Self::new(title, bytes, Verdict::Named(name.to_owned()))
    }

    fn denied(title: &str, bytes: Vec<u8>, reason: &str) -> Self {
        Self::new(title, bytes, Verdict::Denied(reason.to_owned()))
    }

    fn new(title: &str, bytes: Vec<u8>, verdict: Verdict) -> Self {
        Self { title: title.to_owned(), bytes, kernel: verdict.clone(), proxy: verdict }
    }

    /// The same, but the kernel leaves it to the proxy.
    fn unreadable(self) -> Self {
        Self { kernel: Verdict::Denied("hello-unreadable".to_owned()), ..self }
    }
}
