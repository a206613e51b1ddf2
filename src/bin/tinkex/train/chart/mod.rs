//! The loss curve, drawn as SVG by hand: a single chart, whose output is stable for golden tests (`docs/decisions/0008`).

mod scale;

use std::fmt::{Display, Write as _};

use self::scale::Scale;
use super::step_metrics::Metrics;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Maximum number of points of a line: a run may have millions of steps.
const MAX_POINTS: usize = 1000;
/// From so many steps on, a moving average is drawn.
const MIN_SMOOTHED: usize = 20;

/// Step and loss.
type Point = (f64, f64);

/// Draws the loss of each step as a thin line, its moving average as a thick one, and that of each evaluation as a dashed line
/// with dots.
pub(crate) fn svg(title: &str, metrics: &[Metrics]) -> String {
    let finite = |points: &mut dyn Iterator<Item = Point>| -> Vec<Point> {
        points.filter(|(_, loss)| loss.is_finite()).collect()
    };
    let losses = finite(&mut metrics.iter().map(|line| (line.step as f64, line.loss)));
    let evaluations = finite(&mut metrics.iter().filter_map(|line| Some((line.step as f64, line.eval_loss?))));
    let all = || losses.iter().chain(&evaluations).copied();
    let steps = Scale::steps(all().map(|(step, _)| step));
    let scale = Scale::losses(&all().map(|(_, loss)| loss).collect::<Vec<_>>());
    let x = |step: f64| LEFT + (WIDTH - LEFT - RIGHT) * steps.position(step);
    let y = |loss: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * scale.position(loss);
    let points = |line: &[Point]| {
        thinned(line).iter().map(|(step, loss)| format!("{:.1},{:.1}", x(*step), y(*loss))).collect::<Vec<_>>()
    };

    let mut drawing = Drawing(String::new());
    drawing.add(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
    ));
    drawing.add(format_args!("<title>{}: loss by step</title>", escaped(title)));
    drawing.add(r#"<rect width="100%" height="100%" fill="white"/>"#);
    let logarithmic = if scale.is_logarithmic() { ", logarithmic" } else { "" };
    drawing.text(LEFT, 18.0, "start", &format!("{}: loss per token (nats{logarithmic}) by step", escaped(title)));
    for (loss, label) in scale.ticks() {
        let (at, end) = (y(loss), WIDTH - RIGHT);
        drawing.add(format_args!(r##"<path d="M{LEFT} {at:.1}H{end}" stroke="#ddd"/>"##));
        drawing.text(LEFT - 6.0, at + 4.0, "end", &label);
    }
    for (step, label) in steps.ticks() {
        drawing.text(x(step), HEIGHT - BOTTOM + 18.0, "middle", &label);
    }
    drawing.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0, "middle", "step");

    let smoothed = moving_average(&losses);
    let raw = if smoothed.is_empty() { Style::AVERAGE } else { Style::STEPS };
    let dots = |line: &[Point]| if line.len() == 1 { points(line) } else { Vec::new() };
    drawing.line("loss", raw, &points(&losses), &dots(&losses));
    if !smoothed.is_empty() {
        drawing.line("average", Style::AVERAGE, &points(&smoothed), &[]);
    }
    if !evaluations.is_empty() {
        let points = points(&evaluations);
        drawing.line("eval", Style::EVALUATION, &points, &points);
    }
    let entries = [
        (Some(raw), "each step".to_owned()),
        (Some(Style::AVERAGE).filter(|_| !smoothed.is_empty()), format!("mean of {} steps", window(losses.len()))),
        (Some(Style::EVALUATION).filter(|_| !evaluations.is_empty()), "evaluation".to_owned()),
    ];
    let mut left = LEFT;
    for (style, label) in entries.into_iter().filter_map(|(style, label)| Some((style?, label))) {
        let ends = [format!("{:.1},34.0", left), format!("{:.1},34.0", left + 30.0)];
        let dot = [format!("{:.1},34.0", left + 15.0)];
        drawing.line("legend", style, &ends, if style == Style::EVALUATION { &dot } else { &[] });
        drawing.text(left + 36.0, 38.0, "start", &label);
        left += 150.0;
    }
    drawing.add("</svg>");
    drawing.0
}

/// How a line is drawn. Lines differ in width and dashes as well as in color.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Style {
    color: &'static str,
    more: &'static str,
}

impl Style {
    const STEPS: Style = Style { color: "#93c5fd", more: "stroke-width=\"1\"" };
    const AVERAGE: Style = Style { color: "#1d4ed8", more: "stroke-width=\"2\"" };
    const EVALUATION: Style = Style { color: "#b91c1c", more: "stroke-width=\"1.5\" stroke-dasharray=\"5 3\"" };
}

struct Drawing(String);

impl Drawing {
    fn add(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        writeln!(self.0, "{line}").unwrap_or_default();
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.add(format_args!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    fn line(&mut self, class: &str, Style { color, more }: Style, points: &[String], dots: &[String]) {
        let points = points.join(" ");
        self.add(format_args!(r#"<polyline class="{class}" points="{points}" fill="none" stroke="{color}" {more}/>"#));
        for (x, y) in dots.iter().filter_map(|dot| dot.split_once(',')) {
            self.add(format_args!(r#"<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>"#));
        }
    }
}

/// The number of steps in the moving average of so many steps.
fn window(steps: usize) -> usize {
    (steps / 20).clamp(2, 200)
}

/// The mean of each step and those before it; nothing for a short line.
fn moving_average(line: &[Point]) -> Vec<Point> {
    if line.len() < MIN_SMOOTHED {
        return Vec::new();
    }
    let window = window(line.len());
    let mean =
        |(step, part): (f64, &[Point])| (step, part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64);
    let full = line.windows(window).zip(line.iter().skip(window - 1)).map(|(part, (step, _))| (*step, part));
    full.map(mean).collect()
}

/// The line with the highest and the lowest point of each section, if it has too many points.
fn thinned(line: &[Point]) -> Vec<Point> {
    if line.len() <= MAX_POINTS {
        return line.to_vec();
    }
    let section = line.len().div_ceil(MAX_POINTS / 2);
    let ends = |part: &[Point]| {
        let order = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let mut ends = [part.iter().min_by(order), part.iter().max_by(order)];
        ends.sort_by(|a, b| {
            a.map(|point| point.0).partial_cmp(&b.map(|point| point.0)).unwrap_or(std::cmp::Ordering::Equal)
        });
        ends.into_iter().flatten().copied().collect::<Vec<_>>()
    };
    line.chunks(section).flat_map(ends).collect()
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

    fn points(drawn: &str, class: &str) -> Vec<Point> {
        let points = drawn.split(&format!("class=\"{class}\" points=\"")).nth(1).unwrap().split('"').next().unwrap();
        let number = |text: &str| text.parse::<f64>().unwrap();
        points.split(' ').map(|point| point.split_once(',').map(|(x, y)| (number(x), number(y))).unwrap()).collect()
    }

    /// Every tag is closed, in order, and has its attributes in quotes.
    fn assert_well_formed(drawn: &str) {
        let mut open = Vec::new();
        for tag in drawn.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').unwrap();
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{tag}");
            let name = tag.split_whitespace().next().unwrap();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(name),
            }
            assert!(text.split('&').skip(1).all(|entity| ["amp;", "lt;", "gt;"].iter().any(|e| entity.starts_with(e))));
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_decreasing_loss_draws_a_falling_line() {
        let drawn = svg("a<b&c", &[line(1, 4.0, None), line(2, 2.0, Some(3.0)), line(3, 1.0, Some(2.0))]);
        assert!(drawn.contains("a&lt;b&amp;c"), "{drawn}");
        assert_well_formed(&drawn);
        let points = points(&drawn, "loss");
        assert_eq!(points.len(), 3);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{points:?}");
        assert!(points.iter().all(|(x, y)| (LEFT..=WIDTH).contains(x) && (TOP..=HEIGHT).contains(y)));
        // Two evaluations, and one in the legend.
        assert_eq!(drawn.matches("<circle").count(), 3);
        assert!(drawn.contains(">evaluation</text>") && drawn.contains("stroke-dasharray"), "{drawn}");
    }

    #[test]
    fn first_steps_do_not_flatten_the_rest() {
        let losses = (1..=200_u64).map(|step| if step <= 3 { 12.0 } else { 1.1 - 0.001 * step as f64 });
        let drawn = svg("run", &(1..).zip(losses).map(|(step, loss)| line(step, loss, None)).collect::<Vec<_>>());
        assert!(drawn.contains("logarithmic"), "{drawn}");
        let points = points(&drawn, "loss");
        let height = points.last().unwrap().1 - points[3].1;
        assert!(height > 0.05 * (HEIGHT - TOP - BOTTOM), "{height}");
        assert_well_formed(&drawn);
    }

    #[test]
    fn a_long_run_is_smoothed_and_thinned() {
        let noisy = |step: u64| 2.0 + if step % 2 == 0 { 1.0 } else { -1.0 };
        let drawn = svg("run", &(1..=100_000).map(|step| line(step, noisy(step), None)).collect::<Vec<_>>());
        assert!(drawn.len() < 100_000, "{}", drawn.len());
        let average = points(&drawn, "average");
        assert!(average.iter().all(|(_, y)| (y - average[0].1).abs() < 1.0), "{average:?}");
        assert!(drawn.contains(">mean of 200 steps</text>") && drawn.contains(">each step</text>"));
        assert!(!svg("run", &[line(1, 1.0, None)]).contains("mean of"));
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        for metrics in [
            vec![],
            vec![line(1, f64::NAN, Some(f64::INFINITY))],
            vec![line(1, 0.0, None)],
            vec![line(1, 0.0, None), line(2, 9.0, None)],
            vec![line(1, -1.0, None), line(2, 1e-300, None)],
        ] {
            let drawn = svg("run", &metrics);
            let attributes = drawn.replace("text-anchor", "");
            assert!(!attributes.contains("NaN") && !attributes.contains("inf"), "{drawn}");
            assert_well_formed(&drawn);
        }
    }
}
