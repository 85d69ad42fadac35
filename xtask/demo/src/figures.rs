//! Numbers for people and for programs.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// Many measurements of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<u64>);

impl Sample {
    /// Of these values.
    pub(crate) fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The least value that `percent` per cent of them do not exceed (nearest rank); `None` without values.
    pub(crate) fn percentile(&self, percent: usize) -> Option<u64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The largest.
    pub(crate) fn max(&self) -> Option<u64> {
        self.0.last().copied()
    }
}

/// One figure for programs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) metric: &'static str,
    /// The value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// Of how many measurements.
    pub(crate) count: usize,
}

/// Appends figures to a file, a JSON object per line.
pub(crate) fn append(path: &Path, bench: &str, figures: &[Figure]) -> Result<()> {
    let mut text = String::new();
    for Figure { metric, value, unit, count } in figures {
        let line = json!({ "bench": bench, "metric": metric, "value": value, "unit": unit, "n": count });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing figures to {}", path.display()))
}

/// Two columns, the first as wide as its widest.
pub(crate) fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(String, String)| format!("  {name:<width$}  {value}\n");
    rows.iter().map(line).collect()
}

/// Microseconds, as people read them.
pub(crate) fn micros(value: Option<u64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(micros) if micros < 1_000 => format!("{micros} µs"),
        Some(micros) if micros < 1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        Some(micros) => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample = Sample::new((1..=200).rev().collect());
        assert_eq!(sample.percentile(50), Some(100));
        assert_eq!(sample.percentile(99), Some(198));
        assert_eq!((sample.percentile(100), sample.max()), (Some(200), Some(200)));
        assert_eq!(Sample::new(vec![7]).percentile(50), Some(7));
        assert_eq!(Sample::default().percentile(50), None);
    }

    #[test]
    fn figures_are_one_json_object_per_line_and_are_appended() {
        let path = std::env::temp_dir().join(format!("peerage-figures-{}", std::process::id()));
        let figure = Figure { metric: "form", value: 0.5, unit: "s", count: 12 };
        append(&path, "demo_mesh", std::slice::from_ref(&figure)).unwrap();
        append(&path, "demo_mesh", &[figure]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            json!({ "bench": "demo_mesh", "metric": "form", "value": 0.5, "unit": "s", "n": 12 })
        );
    }

    #[test]
    fn spans_have_the_unit_that_people_would_choose() {
        assert_eq!(micros(Some(950)), "950 µs");
        assert_eq!(micros(Some(1_250)), "1.2 ms");
        assert_eq!(micros(Some(2_000_000)), "2.00 s");
    }
}
