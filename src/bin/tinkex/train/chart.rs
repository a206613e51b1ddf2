//! The loss curve, drawn as SVG by hand: a single chart, whose output is stable for golden tests (`docs/decisions/0008`).

use std::fmt::Write as _;

use super::step_metrics::Metrics;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;
/// Number of intervals between grid lines or labels, on each axis.
const TICKS: u32 = 5;

/// Draws the loss of each step as a line, and that of each evaluation as a dashed line with dots.
pub(crate) fn svg(title: &str, metrics: &[Metrics]) -> String {
    let losses: Vec<(f64, f64)> = metrics.iter().map(|line| (line.step as f64, line.loss)).collect();
    let evaluations: Vec<(f64, f64)> =
        metrics.iter().filter_map(|line| Some((line.step as f64, line.eval_loss?))).collect();
    let all = || losses.iter().chain(&evaluations).filter(|(_, loss)| loss.is_finite());
    let last = all().map(|(step, _)| *step).fold(1.0, f64::max);
    let top = all().map(|(_, loss)| *loss).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let x = |step: f64| LEFT + (WIDTH - LEFT - RIGHT) * step / last;
    let y = |loss: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (loss / top);

    let mut svg = String::new();
    let mut add = |line: std::fmt::Arguments<'_>| writeln!(svg, "{line}").unwrap_or_default();
    add(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
    ));
    add(format_args!(r#"<rect width="100%" height="100%" fill="white"/>"#));
    add(format_args!(r#"<text x="{LEFT}" y="18">{}: loss per token (nats) by step</text>"#, escaped(title)));
    for tick in 0..=TICKS {
        let loss = top * f64::from(tick) / f64::from(TICKS);
        add(format_args!(
            r##"<path d="M{LEFT} {at:.1}H{end}" stroke="#ddd"/><text x="{label}" y="{text:.1}" text-anchor="end">{loss:.2}</text>"##,
            at = y(loss),
            end = WIDTH - RIGHT,
            label = LEFT - 6.0,
            text = y(loss) + 4.0,
        ));
    }
    // Steps are integers, and there may be fewer steps than ticks.
    let mut steps: Vec<f64> = (0..=TICKS).map(|tick| (last * f64::from(tick) / f64::from(TICKS)).round()).collect();
    steps.dedup();
    for step in steps {
        add(format_args!(
            r#"<text x="{at:.1}" y="{below}" text-anchor="middle">{step}</text>"#,
            at = x(step),
            below = HEIGHT - BOTTOM + 18.0,
        ));
    }
    let points = |line: &[(f64, f64)]| {
        let finite = line.iter().filter(|(_, loss)| loss.is_finite());
        finite.map(|(step, loss)| format!("{:.1},{:.1}", x(*step), y(*loss))).collect::<Vec<_>>()
    };
    add(format_args!(
        r##"<polyline class="loss" points="{}" fill="none" stroke="#2563eb" stroke-width="1.5"/>"##,
        points(&losses).join(" ")
    ));
    if !evaluations.is_empty() {
        let points = points(&evaluations);
        add(format_args!(
            r##"<polyline class="eval" points="{}" fill="none" stroke="#dc2626" stroke-dasharray="4 3"/>"##,
            points.join(" ")
        ));
        for (at, height) in points.iter().filter_map(|point| point.split_once(',')) {
            add(format_args!(r##"<circle cx="{at}" cy="{height}" r="3" fill="#dc2626"/>"##));
        }
        add(format_args!(
            r##"<text x="{end}" y="18" text-anchor="end"><tspan fill="#2563eb">training</tspan> <tspan fill="#dc2626">evaluation</tspan></text>"##,
            end = WIDTH - RIGHT,
        ));
    }
    add(format_args!("</svg>"));
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, loss: f64, eval_loss: Option<f64>) -> Metrics {
        Metrics { step, loss, eval_loss, ..Metrics::default() }
    }

    #[test]
    fn a_decreasing_loss_draws_a_falling_line() {
        let drawn = svg("a<b", &[line(1, 4.0, None), line(2, 2.0, Some(3.0)), line(3, 1.0, Some(2.0))]);
        assert!(drawn.contains("a&lt;b") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
        let points = drawn.split("class=\"loss\" points=\"").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| {
                let (x, y) = point.split_once(',').unwrap();
                (x.parse().unwrap(), y.parse().unwrap())
            })
            .collect();
        assert_eq!(points.len(), 3);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{points:?}");
        assert!(points.iter().all(|(x, y)| (LEFT..=WIDTH).contains(x) && (TOP..=HEIGHT).contains(y)));
        assert_eq!(drawn.matches("<circle").count(), 2);
    }

    #[test]
    fn step_labels_are_distinct_and_evenly_spaced() {
        let labels = |last: u64| {
            let drawn = svg("run", &[line(last, 1.0, None)]);
            let labels = drawn.lines().filter_map(|line| line.strip_suffix("</text>")?.split_once("\"middle\">"));
            labels.map(|(_, label)| label.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(labels(1), ["0", "1"]);
        assert_eq!(labels(3), ["0", "1", "2", "3"]);
        assert_eq!(labels(200), ["0", "40", "80", "120", "160", "200"]);
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        for metrics in [vec![], vec![line(1, f64::NAN, Some(f64::INFINITY))], vec![line(1, 0.0, None)]] {
            let drawn = svg("run", &metrics);
            let attributes = drawn.replace("text-anchor", "");
            assert!(!attributes.contains("NaN") && !attributes.contains("inf"), "{drawn}");
        }
    }
}
