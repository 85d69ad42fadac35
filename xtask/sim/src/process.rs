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

/// Counts the most memory from now on, where the system can do that.
pub(crate) fn forget_peak() {
    // Where it cannot, the peak is that of the whole process: of several runs, the highest so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
