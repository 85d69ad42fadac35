//! What this process takes, as the system tells it.

/// Memory in MiB: now, and the most since [`forget_peak`]; `None` where the system has no `/proc`.
pub(crate) fn memory() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib / 1024.0)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// Seconds of processor time that this thread has taken; `None` where the system has no `/proc`.
pub(crate) fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The name, in brackets, may hold anything. Times are in hundredths of a second on every Linux.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// Counts the most memory from now on, where the system can do that.
pub(crate) fn forget_peak() {
    // Where it cannot, the peak is that of the whole process: of several runs, the highest so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
