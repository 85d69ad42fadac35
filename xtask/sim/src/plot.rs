//! A curve as a picture: SVG, written by hand, readable without anything else.

use std::path::Path;

use anyhow::{Context, Result};

/// A line through points, and what they mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

impl Curve {
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.svg()).with_context(|| format!("writing the plot to {}", path.display()))
    }

    fn svg(&self) -> String {
        let (x_end, x_step) = scale(self.points.iter().map(|point| point.0).fold(0.0, f64::max));
        let (y_end, y_step) = scale(self.points.iter().map(|point| point.1).fold(0.0, f64::max));
        let across = |x: f64| LEFT + x / x_end * (WIDTH - LEFT - RIGHT);
        let down = |y: f64| HEIGHT - BOTTOM - y / y_end * (HEIGHT - TOP - BOTTOM);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, words: &str| {
            let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            svg.push_str(&format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{words}</text>\n"
            ));
        };
        text(WIDTH / 2.0, 22.0, "middle", " font-size=\"14\"", &self.title);
        text((LEFT + right) / 2.0, HEIGHT - 14.0, "middle", "", &self.x);
        let middle = (TOP + bottom) / 2.0;
        text(18.0, middle, "middle", &format!(" transform=\"rotate(-90 18 {middle:.1})\""), &self.y);
        for tick in ticks(x_end, x_step) {
            text(across(tick), bottom + 18.0, "middle", "", &label(tick));
        }
        for tick in ticks(y_end, y_step) {
            text(LEFT - 8.0, down(tick) + 4.0, "end", "", &label(tick));
        }
        let mut line = |x1: f64, y1: f64, x2: f64, y2: f64, colour: &str| {
            svg.push_str(&format!(
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>\n"
            ));
        };
        for tick in ticks(x_end, x_step) {
            line(across(tick), TOP, across(tick), bottom, "#ddd");
        }
        for tick in ticks(y_end, y_step) {
            line(LEFT, down(tick), right, down(tick), "#ddd");
        }
        line(LEFT, TOP, LEFT, bottom, "black");
        line(LEFT, bottom, right, bottom, "black");
        let points: Vec<String> =
            self.points.iter().map(|(x, y)| format!("{:.1},{:.1}", across(*x), down(*y))).collect();
        svg.push_str(&format!(
            "<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2\" points=\"{}\"/>\n</svg>\n",
            points.join(" ")
        ));
        svg
    }
}

/// A round end of an axis that reaches `most`, and the step of its marks.
fn scale(most: f64) -> (f64, f64) {
    if !(most.is_finite() && most > 0.0) {
        return (1.0, 0.2);
    }
    let unit = 10_f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|times| times * unit)
        .find(|step| most / step <= 5.0)
        .unwrap_or(10.0 * unit);
    ((most / step - 1e-9).ceil().max(1.0) * step, step)
}

fn ticks(end: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=(end / step).round() as u32).map(move |tick| f64::from(tick) * step)
}

fn label(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(scale(1.0), (1.0, 0.2));
        assert_eq!(scale(437.0), (500.0, 100.0));
        assert_eq!(scale(0.0), (1.0, 0.2));
        assert_eq!(label(0.2), "0.2");
        assert_eq!(label(100.0), "100");
    }

    #[test]
    fn a_curve_stays_within_its_picture_and_its_words_cannot_break_it() {
        let curve = Curve {
            title: "a < b & c".to_owned(),
            x: "time, ms".to_owned(),
            y: "share".to_owned(),
            points: vec![(0.0, 0.0), (250.0, 0.5), (437.0, 1.0)],
        };
        let svg = curve.svg();
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("time, ms"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            assert!((LEFT..=WIDTH).contains(&x.parse::<f64>().unwrap()), "{point}");
            assert!((TOP..=HEIGHT - BOTTOM).contains(&y.parse::<f64>().unwrap()), "{point}");
        }
    }
}
