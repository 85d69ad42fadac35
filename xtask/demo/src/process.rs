//! One process, as its parent sees it.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command as Spawn};
use tokio::sync::mpsc;

/// What a process printed last, besides reports: this many lines are kept, to be shown when it fails.
const KEPT_LINES: usize = 30;

/// What a process does.
#[derive(Debug)]
pub(crate) enum Happening<R> {
    /// It said something.
    Said(R),
    /// Its output ended: it is gone, or as good as gone.
    Ended,
}

/// A running process. Dropped, it is killed; and when this program dies without dropping anything, the process
/// sees the end of its input and ends by itself.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    printed: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts this program once more, with these words. What the process does arrives on the channel, with its number; lines
    /// that `decode` does not know are what it printed.
    pub(crate) fn start<R: Send + 'static>(
        words: &[&str],
        number: usize,
        decode: fn(&str) -> Option<R>,
        to: mpsc::UnboundedSender<(usize, Happening<R>)>,
    ) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program's own file")?;
        let mut spawn = Spawn::new(program);
        spawn.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        spawn.kill_on_drop(true);
        // A group of its own: Ctrl-C reaches the parent alone, which then ends its children in its own order.
        #[cfg(unix)]
        spawn.process_group(0);
        let mut child =
            spawn.spawn().with_context(|| format!("starting process {number} ({})", words.join(" ")))?;
        let input = child.stdin.take();
        let printed = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(output) = child.stdout.take() {
            let printed = Arc::clone(&printed);
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let Some(report) = decode(&line) else {
                        keep(&printed, line);
                        continue;
                    };
                    if to.send((number, Happening::Said(report))).is_err() {
                        return;
                    }
                }
                // Nobody listens any more when this fails, so nobody needs it.
                let _ = to.send((number, Happening::Ended));
            });
        }
        if let Some(output) = child.stderr.take() {
            let printed = Arc::clone(&printed);
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    keep(&printed, line);
                }
            });
        }
        Ok(Self { child, input, printed })
    }

    /// Tells it something, in one line. A process that is gone is noticed by the end of its output, not here.
    pub(crate) async fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let line = format!("{line}\n");
            if input.write_all(line.as_bytes()).await.is_err() {
                self.input = None;
            }
        }
    }

    /// SIGKILL: no goodbye, no flush, as when the power goes.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.start_kill().context("killing a process")
    }

    /// Takes its end away: the process is reaped when this returns. One that does not end in time is killed.
    pub(crate) async fn reap(&mut self, within: Duration) -> Result<std::process::ExitStatus> {
        self.input = None;
        if let Ok(status) = tokio::time::timeout(within, self.child.wait()).await {
            return status.context("waiting for a process");
        }
        self.kill()?;
        self.child.wait().await.context("waiting for a killed process")
    }

    /// What it printed last.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How much memory it uses, where the system says so.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let path = format!("/proc/{}/status", self.child.id()?);
        Memory::parse(&std::fs::read_to_string(path).ok()?)
    }
}

fn keep(printed: &Mutex<VecDeque<String>>, line: String) {
    let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
    if printed.len() == KEPT_LINES {
        printed.pop_front();
    }
    printed.push_back(line);
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// In memory now.
    pub(crate) resident: u64,
    /// The most there ever was.
    pub(crate) peak: u64,
}

impl Memory {
    /// Reads Linux' `/proc/PID/status`.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        Some(Self { resident: field("VmRSS")?, peak: field("VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_systems_own_page() {
        let page = "Name:\tx\nVmHWM:\t    8120 kB\nVmRSS:\t    7004 kB\n";
        assert_eq!(Memory::parse(page), Some(Memory { resident: 7004, peak: 8120 }));
        assert_eq!(Memory::parse("Name:\tx\n"), None);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let printed = Mutex::new(VecDeque::new());
        (0..KEPT_LINES + 5).for_each(|number| keep(&printed, number.to_string()));
        let kept = printed.into_inner().unwrap();
        assert_eq!((kept.len(), kept.front().map(String::as_str)), (KEPT_LINES, Some("5")));
    }
}
