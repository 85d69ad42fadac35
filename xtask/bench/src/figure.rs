//! Figures: measured several times, shown as medians, written as JSON.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// One figure of a bench, with all its values.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    values: Vec<f64>,
}

impl Figure {
    pub(crate) fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
    }

    fn ends(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// The figures of a bench, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// One more value.
    pub(crate) fn add(&mut self, metric: impl Into<String>, unit: &'static str, value: f64) {
        let metric = metric.into();
        match self.0.iter_mut().find(|figure| figure.metric == metric) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { metric, unit, values: vec![value] }),
        }
    }

    pub(crate) fn median(&self, metric: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.metric == metric).map(Figure::median)
    }

    pub(crate) fn show(&self) {
        println!("{:32} {:>12}   {:>12} {:>12}", "", "median", "least", "most");
        for figure in &self.0 {
            let (least, most) = figure.ends();
            let [median, least, most] = [figure.median(), least, most].map(short);
            println!("{:32} {median:>12}   {least:>12} {most:>12}  {}", figure.metric, figure.unit);
        }
    }

    /// Appends a JSON object per figure.
    pub(crate) fn write(&self, bench: &str, path: &Path) -> Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening {} to append the figures", path.display()))?;
        for figure in &self.0 {
            let line = json!({
                "bench": bench,
                "metric": figure.metric,
                "value": figure.median(),
                "unit": figure.unit,
                "n": figure.values.len(),
            });
            writeln!(file, "{line}").with_context(|| format!("writing to {}", path.display()))?;
        }
        Ok(())
    }
}

/// With three or four digits that mean something.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.3} G", value / 1e9),
        size if size >= 1e6 => format!("{:.3} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_lower_of_the_two_in_the_middle() {
        let mut figures = Figures::default();
        for value in [4.0, 1.0, 3.0, 2.0] {
            figures.add("x", "us", value);
        }
        assert_eq!(figures.median("x"), Some(2.0));
        assert_eq!(figures.median("y"), None);
    }
}
