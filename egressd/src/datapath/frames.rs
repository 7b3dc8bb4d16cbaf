//! The program that judges frames, on the host's end of each sealed agent's link.

use super::{bpffs::Pins, ebpf::chain, links, seal::Link};
use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use std::{fs, io, path::PathBuf};

/// Attaches the program to links: by TCX, which the pins keep, or where the kernel has none, by
/// clsact, which the device keeps.
#[derive(Debug)]
pub struct Frames {
    program: SchedClassifier,
    pins: PathBuf,
}

/// Why no program judges the frames of a link.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    #[error("this kernel refuses the `frames` program: {0}")]
    Refused(String),
    #[error("failed to attach `frames` to `{link}`: {error}")]
    Attach { link: String, error: String },
    #[error("failed to replace `frames` on `{link}`: {error}")]
    Replace { link: String, error: io::Error },
}

impl Frames {
    /// The program that [`super::Ebpf::load`] pinned.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(pins: &Pins) -> Result<Self, FramesError> {
        let program = SchedClassifier::from_pin(pins.programs().join(PROGRAM));
        let program = program.map_err(|error| FramesError::Refused(chain(&error)))?;
        Ok(Self { program, pins: pins.devices() })
    }

    /// Puts the program on `link`: behind the link that an earlier daemon pinned, without a moment
    /// without either, or on a device that has none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, link: &Link) -> Result<(), FramesError> {
        let pin = self.pins.join(&link.name);
        let replace = |error| FramesError::Replace { link: link.name.clone(), error };
        let pinned = links::open(&pin).map_err(replace)?;
        let device = pinned.as_ref().map(links::device_of).transpose().map_err(replace)?;
        let program = self.program.fd().map_err(|error| FramesError::Refused(chain(&error)))?;
        match (pinned, device) {
            (Some(pinned), Some(index)) if index == link.index => {
                links::replace(pinned, program).map_err(replace)
            }
            // No pin, or that of a device which is gone.
            _ => {
                let _ = fs::remove_file(&pin);
                let created = links::create_on_device(program, link.index, &pin);
                created.or_else(|error| match error.raw_os_error() {
                    Some(libc::EINVAL) => self.attach_by_clsact(link),
                    _ => Err(FramesError::Attach { link: link.name.clone(), error: error.to_string() }),
                })
            }
        }
    }

    /// Forgets a link whose device is gone, or is about to go.
    pub fn detach(&self, name: &str) {
        // What is not there needs no removing; a filter of clsact goes with its device.
        let _ = fs::remove_file(self.pins.join(name));
    }

    /// As [`Self::attach`], for kernels before 6.6.
    fn attach_by_clsact(&mut self, link: &Link) -> Result<(), FramesError> {
        let failed = |error: String| FramesError::Attach { link: link.name.clone(), error };
        // It may be there: then attaching says whether it serves.
        let _ = tc::qdisc_add_clsact(&link.name);
        let place = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, ..NlOptions::default() };
        let options = TcAttachOptions::Netlink(place);
        let attached = match self.program.attach_with_options(&link.name, TcAttachType::Ingress, options) {
            Ok(id) => Ok(id),
            // An earlier daemon's filter has the place: replaced in one step.
            Err(_) => SchedClassifierLink::attached(
                &link.name,
                TcAttachType::Ingress,
                CLSACT_PRIORITY,
                CLSACT_HANDLE,
                None,
            )
            .map_err(ProgramError::IOError)
            .and_then(|earlier| self.program.attach_to_link(earlier)),
        };
        // Dropping it would detach it: the device keeps it for the next daemon.
        let attached = attached.and_then(|id| self.program.take_link(id));
        attached.map(std::mem::forget).map_err(|error| failed(chain(&error)))
    }
}

/// What the program is called in the object and among the pins.
pub(super) const PROGRAM: &str = "frames";

/// Before whatever else there may be.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);
