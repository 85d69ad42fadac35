//! What a person sees while a scenario runs: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const PACE: Duration = Duration::from_secs(10);

/// Progress on stderr.
pub(crate) enum Progress {
    /// A terminal, and what each text begins with.
    Bar(ProgressBar, String),
    /// Something that keeps lines, likewise.
    Lines { last: Instant, head: String },
    /// Nobody.
    Silent,
}

impl Progress {
    /// What fits this process' stderr; all that is said begins like this.
    pub(crate) fn new(silent: bool, head: String) -> Self {
        if silent {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: Instant::now(), head };
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self::Bar(bar, head)
    }

    /// Has something written without a bar in its way.
    pub(crate) fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        match self {
            Self::Bar(bar, _) => bar.suspend(write),
            Self::Lines { .. } | Self::Silent => write(),
        }
    }

    /// So much of this phase is done.
    pub(crate) fn at(&mut self, done: u64, of: u64, text: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar, head) => {
                bar.set_length(of.max(1));
                bar.set_position(done);
                bar.set_message(format!("{head}{}", text()));
            }
            Self::Lines { last, head } if last.elapsed() >= PACE => {
                *last = Instant::now();
                eprintln!("{head}{}", text());
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar, _) = self {
            bar.finish_and_clear();
        }
    }
}
