//! Numbers as people write them on a command line: spans of time, ranges of them, and rates.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value, and the words that it was given in: so that a command can be repeated as it was.
#[derive(Clone, Debug)]
pub(crate) struct Given<T> {
    text: String,
    pub(crate) value: T,
}

impl<T> Given<T> {
    /// A reader of arguments that keeps the words.
    pub(crate) fn by(read: fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Self, String> + Clone {
        move |text| read(text).map(|value| Self { text: text.to_owned(), value })
    }
}

impl<T> fmt::Display for Given<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads `250ms`, `30s`, `10m`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span; it takes a number and ms, s or m, such as 250ms or 30s");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let unit = match text.get(digits.len()..) {
        Some("ms") => 0.001,
        Some("s") => 1.0,
        Some("m") => 60.0,
        _ => return Err(wrong()),
    };
    if !(0.0..=1e9).contains(&number) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(number * unit))
}

/// Reads `5ms..50ms`, or one span that is both ends.
pub(crate) fn spans(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to) = (span(from)?, span(to)?);
    if from > to {
        return Err(format!("`{text}` ends before it begins; it takes the least first, such as 5ms..50ms"));
    }
    Ok(from..=to)
}

/// Reads bytes a second: `125000`, `500k`, `10M`.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is no rate; it takes bytes a second, such as 500k or 10M, and at least 1k");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let unit = match text.get(digits.len()..) {
        Some("") => 1.0,
        Some("k") => 1e3,
        Some("M") => 1e6,
        Some("G") => 1e9,
        _ => return Err(wrong()),
    };
    if !(1e3..=1e12).contains(&(number * unit)) {
        return Err(wrong());
    }
    Ok((number * unit) as u64)
}

/// Reads a share or a probability: 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let read = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    read.ok_or_else(|| format!("`{text}` is no share; it takes a number from 0 to 1, such as 0.05"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_what_makes_no_sense_is_named() {
        let millis = Duration::from_millis;
        assert_eq!(span("1.5s"), Ok(millis(1500)));
        assert_eq!(spans("5ms..50ms"), Ok(millis(5)..=millis(50)));
        assert_eq!(spans("2m"), Ok(millis(120_000)..=millis(120_000)));
        assert_eq!((rate("500k"), rate("10M"), rate("2000")), (Ok(500_000), Ok(10_000_000), Ok(2000)));
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["", "5", "5h", "-1s", "NaNs", "s"] {
            assert!(span(text).unwrap_err().contains(&format!("`{text}`")), "{text}");
        }
        for text in ["50ms..5ms", "5ms..", "..5ms"] {
            assert!(spans(text).is_err(), "{text}");
        }
        for text in ["10", "k", "1T", "-5M"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["1.1", "-0.1", "NaN", "half"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
