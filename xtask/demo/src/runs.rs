//! Many runs together: what is usual, and what was worst.

use std::fmt;

use crate::figures::{Figure, micros};

/// What is shown of many runs: the figure's name for programs, what people call it. The worst is the highest in all.
const SHOWN: [(&str, &str); 17] = [
    ("form", "time to form"),
    ("delivery_p50", "delivery to a peer, p50"),
    ("delivery_p99", "delivery to a peer, p99"),
    ("delivery_max", "delivery to a peer, max"),
    ("delivery_all_p50", "delivery to everyone, p50"),
    ("delivery_all_p99", "delivery to everyone, p99"),
    ("delivery_all_max", "delivery to everyone, max"),
    ("wire_per_payload", "bytes on the wire per payload byte and receiver"),
    ("memory_median", "memory per process, median"),
    ("memory_peak_max", "memory per process, most ever"),
    ("connect_p50", "connecting, p50"),
    ("divide_p50", "a division by a node, p50"),
    ("divide_p99", "a division by a node, p99"),
    ("killed_call", "until the call of a killed node fails"),
    ("killed_later", "until a later call to it fails"),
    ("broker_away", "the broker away"),
    ("broker_memory_peak", "memory of a broker, most ever"),
];

/// The results of runs with consecutive seeds.
#[derive(Default)]
pub(crate) struct Runs {
    seeds: Vec<u64>,
    failed: Vec<u64>,
    figures: Vec<Figure>,
}

impl Runs {
    /// Adds a run. One that did not come to an end has no figures.
    pub(crate) fn add(&mut self, seed: u64, passed: bool, figures: Vec<Figure>) {
        self.seeds.push(seed);
        if !passed {
            self.failed.push(seed);
        }
        self.figures.extend(figures);
    }

    /// The seeds of those that failed.
    pub(crate) fn failed(&self) -> &[u64] {
        &self.failed
    }

    /// The median (of two in the middle, the lower) and the highest, with their unit; `None` when no run has the figure.
    fn spread(&self, metric: &str) -> Option<(f64, f64, &'static str)> {
        let of_it: Vec<_> = self.figures.iter().filter(|figure| figure.metric == metric).collect();
        let mut values: Vec<_> = of_it.iter().map(|figure| figure.value).collect();
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len().saturating_sub(1) / 2)?;
        Some((*median, *values.last()?, of_it.first()?.unit))
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, .., last] = self.seeds.as_slice() else { return Ok(()) };
        writeln!(f, "{} runs, --seed {first} to {last}", self.seeds.len())?;
        let width = SHOWN.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
        writeln!(f, "  {:width$}  {:>10}  {:>10}", "", "median", "worst")?;
        for (metric, name) in SHOWN {
            let Some((median, worst, unit)) = self.spread(metric) else { continue };
            let [median, worst] = [median, worst].map(|value| people(value, unit));
            writeln!(f, "  {name:width$}  {median:>10}  {worst:>10}")?;
        }
        writeln!(f, "{} of {} runs passed", self.seeds.len() - self.failed.len(), self.seeds.len())
    }
}

/// A value as people read it.
fn people(value: f64, unit: &str) -> String {
    match unit {
        "s" => format!("{value:.2} s"),
        "ms" => micros(Some((value * 1e3).round() as u64)),
        "KiB" => format!("{:.1} MiB", value / 1024.0),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(values: &[f64]) -> Runs {
        let mut runs = Runs::default();
        for (seed, value) in (1..).zip(values) {
            let figure = Figure { metric: "form", value: *value, unit: "s", count: 12 };
            runs.add(seed, *value < 9.0, vec![figure]);
        }
        runs
    }

    #[test]
    fn median_and_worst_are_values_of_runs_whatever_their_order() {
        assert_eq!(runs(&[3.0, 1.0, 2.0]).spread("form"), Some((2.0, 3.0, "s")));
        assert_eq!(runs(&[4.0, 1.0, 2.0, 3.0]).spread("form"), Some((2.0, 4.0, "s")));
        assert_eq!(runs(&[1.0]).spread("lines"), None);
    }

    #[test]
    fn a_failed_run_is_counted_and_remembered_by_its_seed() {
        let runs = runs(&[1.0, 9.0, 2.0]);
        assert_eq!(runs.failed(), [2]);
        assert!(runs.to_string().ends_with("2 of 3 runs passed\n"), "{runs}");
    }

    #[test]
    fn a_run_that_came_to_no_end_leaves_the_figures_of_the_others() {
        let mut runs = runs(&[1.0, 2.0]);
        runs.add(3, false, Vec::new());
        assert_eq!(runs.spread("form"), Some((1.0, 2.0, "s")));
        assert!(runs.to_string().contains("3 runs, --seed 1 to 3"), "{runs}");
    }

    #[test]
    fn values_have_the_units_that_people_read() {
        assert_eq!(people(0.061, "s"), "0.06 s");
        assert_eq!(people(1.25, "ms"), "1.2 ms");
        assert_eq!(people(9728.0, "KiB"), "9.5 MiB");
        assert_eq!(people(1.137, "B/B"), "1.14");
    }
}
