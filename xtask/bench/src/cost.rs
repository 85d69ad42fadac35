//! What this process has used so far.

use std::time::Duration;

/// Processor time of all threads of this process that still run, from the scheduler's own count in nanoseconds. None where
/// there is no `/proc`.
pub(crate) fn cpu() -> Option<Duration> {
    threads(std::process::id(), |_| true)
}

/// The same without the main thread.
pub(crate) fn cpu_beside_main() -> Option<Duration> {
    threads(std::process::id(), |thread| thread != std::process::id())
}

/// The same of another process.
pub(crate) fn cpu_of(process: u32) -> Option<Duration> {
    threads(process, |_| true)
}

fn threads(process: u32, wanted: impl Fn(u32) -> bool) -> Option<Duration> {
    let mut nanos = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let path = task.ok()?.path();
        let thread = path.file_name()?.to_str()?.parse().ok()?;
        // A thread that has just ended has no file any more.
        let Ok(text) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        if wanted(thread) {
            nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    Some(Duration::from_nanos(nanos))
}

/// What all processors of the machine together spent on packets and the like outside of processes, in ticks of 10 ms. On
/// loopback much of that is done on the time of who sends.
pub(crate) fn softirq() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: u64 = stat.lines().next()?.split_whitespace().nth(7)?.parse().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

/// The cores that this process may use.
pub(crate) fn cores() -> Option<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    // Such as "0-3,8".
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

/// Resident memory in bytes.
pub(crate) fn resident() -> Option<u64> {
    resident_of(std::process::id())
}

/// The same of another process.
pub(crate) fn resident_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
