//! A signed commit, taken apart as git takes it apart.

use anyhow::{Context, Result, bail, ensure};

/// What was signed, and the signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Signed {
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
}

/// The header of a signature, of repositories with SHA-1 and with SHA-256.
const HEADERS: [&[u8]; 2] = [b"gpgsig ", b"gpgsig-sha256 "];

impl Signed {
    /// Reads a commit as the repository has it: headers, an empty line, the message. A header goes on in lines
    /// that begin with a space (git's `Documentation/gitformat-signature`).
    ///
    /// # Errors
    /// It has no signature, or more than one: which of them git looks at is not for us to guess.
    pub fn of(commit: &[u8]) -> Result<Self> {
        let (mut payload, mut signature) = (Vec::new(), Vec::new());
        let (mut signatures, mut is_inside, mut lines) = (0, false, commit.split_inclusive(|o| *o == b'\n'));
        for line in lines.by_ref() {
            let begins = HEADERS.iter().find_map(|header| line.strip_prefix(*header));
            match (begins, line) {
                (_, b"\n") => {
                    payload.extend_from_slice(line);
                    break;
                }
                (Some(first), _) => {
                    (signatures, is_inside) = (signatures + 1, true);
                    signature.extend_from_slice(first);
                }
                (None, [b' ', rest @ ..]) if is_inside => signature.extend_from_slice(rest),
                (None, _) if line.starts_with(b"gpgsig") => bail!("has a signature of an unknown kind"),
                (None, _) => {
                    is_inside = false;
                    payload.extend_from_slice(line);
                }
            }
        }
        lines.for_each(|line| payload.extend_from_slice(line));
        ensure!(signatures == 1, "has {signatures} signatures, where one is looked at");
        std::str::from_utf8(&signature).context("has a signature that is no text")?;
        Ok(Self { payload, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_the_commit_without_its_signature() {
        let commit =
            b"tree 1\nauthor me\ngpgsig -----BEGIN\n abc\n \n -----END\nencoding x\n\nsay\n\ngpgsig why\n";
        let signed = Signed::of(commit).unwrap();
        assert_eq!(signed.signature, b"-----BEGIN\nabc\n\n-----END\n");
        assert_eq!(signed.payload, b"tree 1\nauthor me\nencoding x\n\nsay\n\ngpgsig why\n");
    }

    #[test]
    fn a_commit_with_no_signature_or_with_several_is_not_guessed_about() {
        for commit in [
            &b""[..],
            b"tree 1\n\ngpgsig abc\n",
            b"tree 1\ngpgsig a\ngpgsig b\n\n",
            b"tree 1\ngpgsig a\ngpgsig-sha256 b\n\n",
            b"tree 1\ngpgsigs a\ngpgsig b\n\n",
            b"tree 1\ngpgsig \xff\n\n",
        ] {
            assert!(Signed::of(commit).is_err(), "{commit:?}");
        }
    }
}
