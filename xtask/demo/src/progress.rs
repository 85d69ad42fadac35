//! What a person sees while the demo works: a bar on a terminal, a line now and then elsewhere, nothing for scripts.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const PACE: Duration = Duration::from_secs(2);

/// A line on stderr. A reader that is gone, as when the terminal is closed, is no reason to stop midway.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Progress on stderr.
pub(crate) enum Progress {
    /// A terminal.
    Bar(ProgressBar),
    /// Something that keeps lines.
    Lines {
        /// When the last line was written.
        last: Instant,
        /// What it said.
        said: String,
    },
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
            return Self::Lines { last: Instant::now(), said: String::new() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Bar(bar)
    }

    /// Something that happens once, and is worth a line.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines { .. } => say(text),
            Self::Silent => {}
        }
    }

    /// From now on, so many steps.
    pub(crate) fn steps(&self, total: usize) {
        if let Self::Bar(bar) = self {
            bar.set_length(total as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
        }
    }

    /// So many steps are done; the text says how it stands.
    pub(crate) fn at(&mut self, step: usize, text: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(step as u64);
                bar.set_message(text());
            }
            Self::Lines { last, said } if last.elapsed() >= PACE => {
                *last = Instant::now();
                let text = text();
                if text != *said {
                    say(&text);
                    *said = text;
                }
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    /// Clears the bar away.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
