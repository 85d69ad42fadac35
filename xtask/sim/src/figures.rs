//! Figures: of one run or of several, for people and for programs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// One figure, with a value for each run.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<Goal>,
    values: Vec<f64>,
}

impl Figure {
    /// Of two in the middle, the lower.
    pub(crate) fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// The value farthest on the wrong side, as far as the goal says which that is; otherwise the highest.
    pub(crate) fn worst(&self) -> f64 {
        match self.goal {
            Some(Goal::AtLeast(_)) => self.values.iter().copied().fold(f64::INFINITY, f64::min),
            _ => self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Whether every run reached the goal.
    pub(crate) fn is_reached(&self) -> bool {
        self.values.iter().all(|value| match self.goal {
            None => true,
            Some(Goal::AtMost(most)) => *value <= most,
            Some(Goal::AtLeast(least)) => *value >= least,
        })
    }
}

/// The figures of a scenario, in the order in which they first came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    pub(crate) fn add(&mut self, metric: impl Into<String>, unit: &'static str, value: f64) {
        self.put(metric.into(), unit, None, value);
    }

    pub(crate) fn add_at_most(
        &mut self,
        metric: impl Into<String>,
        unit: &'static str,
        value: f64,
        goal: f64,
    ) {
        self.put(metric.into(), unit, Some(Goal::AtMost(goal)), value);
    }

    pub(crate) fn add_at_least(
        &mut self,
        metric: impl Into<String>,
        unit: &'static str,
        value: f64,
        goal: f64,
    ) {
        self.put(metric.into(), unit, Some(Goal::AtLeast(goal)), value);
    }

    fn put(&mut self, metric: String, unit: &'static str, goal: Option<Goal>, value: f64) {
        match self.0.iter_mut().find(|figure| figure.metric == metric) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { metric, unit, goal, values: vec![value] }),
        }
    }

    /// All of another run.
    pub(crate) fn merge(&mut self, other: &Self) {
        for figure in &other.0 {
            for value in &figure.values {
                self.put(figure.metric.clone(), figure.unit, figure.goal, *value);
            }
        }
    }

    pub(crate) fn all(&self) -> &[Figure] {
        &self.0
    }

    /// Those that missed their goals.
    pub(crate) fn missed(&self) -> Vec<&str> {
        self.0.iter().filter(|figure| !figure.is_reached()).map(|figure| figure.metric.as_str()).collect()
    }

    /// A table: a value each, or the median and the worst of several.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let several = self.0.iter().any(|figure| figure.values.len() > 1);
        if several {
            text.push_str(&format!("{:26} {:>12} {:>12}\n", "", "median", "worst"));
        }
        for figure in &self.0 {
            text.push_str(&format!("{:26} {:>12}", figure.metric, short(figure.median())));
            if several {
                text.push_str(&format!(" {:>12}", short(figure.worst())));
            }
            text.push_str(&format!(" {:8}", figure.unit));
            if let Some(goal) = figure.goal {
                let (sign, goal) = match goal {
                    Goal::AtMost(most) => ("<=", most),
                    Goal::AtLeast(least) => (">=", least),
                };
                let verdict = if figure.is_reached() { "reached" } else { "MISSED" };
                text.push_str(&format!(" {sign} {} {verdict}", short(goal)));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }
}

/// Whether a file can be written, and makes it if it is not there.
pub(crate) fn check(path: &Path) -> Result<()> {
    open(path).map(drop)
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("opening {} to write to it", path.display()))
}

/// Appends a JSON object per figure, with the command that gives it again; of several runs the median and the worst.
pub(crate) fn append(path: &Path, scenario: &str, command: &str, figures: &[Figure]) -> Result<()> {
    let mut file = open(path)?;
    for figure in figures {
        let mut line = json!({
            "scenario": scenario,
            "metric": figure.metric,
            "value": figure.median(),
            "unit": figure.unit,
            "n": figure.values.len(),
            "command": command,
        });
        if let Some(line) = line.as_object_mut() {
            if figure.values.len() > 1 {
                line.insert("worst".to_owned(), json!(figure.worst()));
            }
            if let Some(goal) = figure.goal {
                let (most, limit) = match goal {
                    Goal::AtMost(limit) => ("at_most", limit),
                    Goal::AtLeast(limit) => ("at_least", limit),
                };
                line.insert(most.to_owned(), json!(limit));
                line.insert("reached".to_owned(), json!(figure.is_reached()));
            }
        }
        writeln!(file, "{line}").with_context(|| format!("writing to {}", path.display()))?;
    }
    Ok(())
}

/// With the digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "none".to_owned(),
        size if size >= 1e9 => format!("{:.3} G", value / 1e9),
        size if size >= 1e6 => format!("{:.3} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

/// The value that so many per cent do not exceed, by nearest rank; sorts.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * percent / 100.0).ceil().max(1.0) as usize;
    values.get(rank.min(values.len()).max(1) - 1).copied().unwrap_or(f64::NAN)
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub(crate) fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_runs_is_on_the_wrong_side_of_the_goal() {
        let mut figures = Figures::default();
        for value in [0.999, 1.0, 0.97] {
            figures.add_at_least("delivered", "share", value, 0.99);
        }
        let figure = figures.all().first().unwrap();
        assert_eq!((figure.median(), figure.worst()), (0.999, 0.97));
        assert_eq!(figures.missed(), ["delivered"]);
        assert!(figures.table().contains("MISSED"), "{}", figures.table());
    }

    #[test]
    fn a_percentile_is_by_nearest_rank() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 99.0), 99.0);
        assert_eq!(percentile(&mut values, 50.0), 50.0);
        assert_eq!(percentile(&mut [7.0], 1.0), 7.0);
        assert!(percentile(&mut [], 50.0).is_nan());
    }
}
