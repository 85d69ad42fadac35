//! What a person sees while a scenario runs: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const PACE: Duration = Duration::from_secs(10);

/// Progress on stderr.
pub(crate) enum Progress {
    /// A terminal.
    Bar(ProgressBar),
    /// Something that keeps lines.
    Lines { last: Instant },
    /// Nobody.
    Silent,
}

impl Progress {
    /// What fits this process' stderr.
    pub(crate) fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: Instant::now() };
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// So much of this phase is done.
    pub(crate) fn at(&mut self, done: u64, of: u64, text: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(of.max(1));
                bar.set_position(done);
                bar.set_message(text());
            }
            Self::Lines { last } if last.elapsed() >= PACE => {
                *last = Instant::now();
                eprintln!("{}", text());
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
