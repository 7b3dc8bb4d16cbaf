//! How long the kernel says that our programs run: exact where all else is the machine's noise.

use super::lines::Line;
use crate::{fence::Fence, measures::Measures};
use aya::{
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};
use std::fs;

/// Has every agent of `fence` do its act once more while the kernel measures. What the measuring itself takes, some
/// tens of nanoseconds a run, is in it.
pub fn measure(lines: &[Line<'_>], fence: &Fence, seconds: f64, measures: &mut Measures) {
    // Until it is closed.
    let Ok(_measuring) = enable_stats(Stats::RunTime) else { return };
    for line in lines.iter().filter(|line| line.is_of(fence)) {
        let before = counts(fence);
        line.burst(seconds);
        for ((name, old_time, old_count), (_, time, count)) in before.into_iter().zip(counts(fence)) {
            // The rest ran by chance.
            if count - old_count > OFTEN {
                let each = (time - old_time) as f64 / (count - old_count) as f64;
                let case = format!("programs, {}, {}", line.case, line.subject);
                measures.add(&case, &name, "a run", "ns", each);
            }
        }
    }
}

const OFTEN: u64 = 100;

/// Name, nanoseconds and runs of each program.
fn counts(fence: &Fence) -> Vec<(String, u64, u64)> {
    let folder = fence.lab().folder().join("run/bpf/programs");
    let mut paths: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let info = |path: &std::path::PathBuf| {
        let info = ProgramInfo::from_pin(path).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, info.run_time().as_nanos() as u64, info.run_count()))
    };
    paths.iter().filter_map(info).collect()
}
