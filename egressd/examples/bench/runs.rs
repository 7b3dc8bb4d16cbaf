//! How long the kernel says that our programs run: exact where all else is the machine's noise.

use crate::{fence::Fence, measures::Measures};
use aya::{
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};
use std::{fs, path::Path};

/// Has `act`, which says how often it did something, be done once more while the kernel measures; adds what each
/// program of `fence` took of each. What the measuring itself takes, some tens of nanoseconds a run, is in it.
pub fn measure(fence: &Fence, case: &str, act: impl FnOnce() -> f64, measures: &mut Measures) {
    // Until it is closed.
    let Ok(_measuring) = enable_stats(Stats::RunTime) else { return };
    let before = counts(fence);
    let acts = act();
    for ((name, old_time, old_count), (_, time, count)) in before.into_iter().zip(counts(fence)) {
        let (time, runs) = ((time - old_time) as f64, (count - old_count) as f64);
        // The rest ran by chance.
        if runs / acts > 0.01 {
            measures.add(&format!("programs: {case}"), &name, "runs of each", "runs", runs / acts);
            measures.add(&format!("programs: {case}"), &name, "time of each", "ns", time / acts);
        }
    }
}

/// Name, nanoseconds and runs of each program.
fn counts(fence: &Fence) -> Vec<(String, u64, u64)> {
    let folder = fence.lab().folder().join("run/bpf/programs");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let info = |path: &Path| {
        let info = ProgramInfo::from_pin(path).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, info.run_time().as_nanos() as u64, info.run_count()))
    };
    paths.iter().filter_map(|path| info(path)).collect()
}
