//! A picture of several outcomes, as SVG: load, latency, replicas and cost over time.

use super::{Outcome, Point};

/// Places across: points beyond them are joined, the worst latency and the mean of all else.
const COLUMNS: usize = 400;
const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 44.0;
const TOP: f64 = 64.0;
/// Colours that people with any sight tell apart: Okabe and Ito's.
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"];

/// Draws outcomes of one load under each other on one axis of time.
pub fn plot(title: &str, objective_ms: f64, outcomes: &[Outcome]) -> String {
    let series: Vec<Vec<Point>> = outcomes.iter().map(|outcome| thinned(&outcome.points)).collect();
    let seconds = series.iter().flatten().map(|point| point.at_s).fold(1.0, f64::max);
    let height = TOP + 4.0 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        escaped(title)
    );
    text(&mut svg, (LEFT, 24.0), "start", title);
    legend(&mut svg, outcomes);
    let load: Vec<Line> = series.iter().take(1).map(|points| line(points, |point| point.rate)).collect();
    panel(&mut svg, 0, &Panel { title: "requests/s", seconds, lines: &load, mark: None, logarithmic: false });
    let latency: Vec<Line> = series.iter().map(|points| line(points, |point| point.p99_ms)).collect();
    let title = "p99 of each interval, ms";
    panel(&mut svg, 1, &Panel { title, seconds, lines: &latency, mark: Some(objective_ms), logarithmic: true });
    let replicas: Vec<Line> = series.iter().map(|points| line(points, |point| point.replicas)).collect();
    panel(&mut svg, 2, &Panel { title: "replicas", seconds, lines: &replicas, mark: None, logarithmic: false });
    let cost: Vec<Line> = replicas.iter().map(summed).collect();
    panel(&mut svg, 3, &Panel { title: "replica hours", seconds, lines: &cost, mark: None, logarithmic: false });
    svg.push_str("</svg>\n");
    svg
}

type Line = Vec<(f64, f64)>;

struct Panel<'a> {
    title: &'a str,
    seconds: f64,
    lines: &'a [Line],
    mark: Option<f64>,
    logarithmic: bool,
}

fn panel(svg: &mut String, number: u8, panel: &Panel<'_>) {
    let top = TOP + f64::from(number) * (PANEL + GAP) + 16.0;
    let bottom = top + PANEL;
    let most = panel.lines.iter().flatten().map(|(_, value)| *value).fold(panel.mark.unwrap_or(0.0), f64::max);
    let scale =
        Scale { from: if panel.logarithmic { 1.0 } else { 0.0 }, to: rounded_up(most), logarithmic: panel.logarithmic };
    let y = |value: f64| bottom - PANEL * scale.share(value);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / panel.seconds;
    text(svg, (LEFT, top - 6.0), "start", panel.title);
    for value in scale.ticks() {
        let y = y(value);
        svg.push_str(&format!("<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/>\n", WIDTH - RIGHT));
        text(svg, (LEFT - 6.0, y + 4.0), "end", &plain(value));
    }
    for tick in 0..=6_u8 {
        let at = panel.seconds * f64::from(tick) / 6.0;
        text(svg, (x(at), bottom + 15.0), "middle", &clock(at, panel.seconds));
    }
    if let Some(mark) = panel.mark {
        let y = y(mark);
        svg.push_str(&format!(
            "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#c00\" stroke-dasharray=\"5 4\"/>\n",
            WIDTH - RIGHT
        ));
    }
    let alone = panel.lines.len() == 1;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let colour = if alone && panel.title.starts_with("requests") { &"#555" } else { colour };
        let points: Vec<String> = line.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let points = points.join(" ");
        svg.push_str(&format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n"
        ));
    }
}

struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            value.max(self.from).log10() / self.to.max(10.0).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            return (0..=4_u8).map(|tick| self.to * f64::from(tick) / 4.0).collect();
        }
        (0..=6_i32).map(|power| 10_f64.powi(power)).filter(|tick| *tick <= self.to.max(10.0)).collect()
    }
}

fn legend(svg: &mut String, outcomes: &[Outcome]) {
    let mut left = LEFT;
    for (outcome, colour) in outcomes.iter().zip(COLOURS.iter().cycle()) {
        let words = format!("{}: {:.1}% over, {:.2} replicas", outcome.name, outcome.over * 100.0, outcome.replicas);
        svg.push_str(&format!("<rect x=\"{left}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n"));
        text(svg, (left + 16.0, 46.0), "start", &words);
        left += 40.0 + 6.6 * words.chars().count() as f64;
    }
}

fn line(points: &[Point], of: impl Fn(&Point) -> f64) -> Line {
    points.iter().map(|point| (point.at_s, of(point))).collect()
}

/// The area below a line so far, in hours.
fn summed(line: &Line) -> Line {
    let mut total = 0.0;
    let ends = line.iter().skip(1).map(|(at, _)| *at);
    let mut sums = vec![(0.0, 0.0)];
    for ((at, value), end) in line.iter().zip(ends) {
        total += value * (end - at) / 3600.0;
        sums.push((end, total));
    }
    sums
}

fn thinned(points: &[Point]) -> Vec<Point> {
    let each = points.len().div_ceil(COLUMNS).max(1);
    points
        .chunks(each)
        .map(|chunk| {
            let mean = |of: fn(&Point) -> f64| chunk.iter().map(of).sum::<f64>() / chunk.len() as f64;
            Point {
                at_s: chunk.first().map_or(0.0, |point| point.at_s),
                rate: mean(|point| point.rate),
                p99_ms: chunk.iter().map(|point| point.p99_ms).fold(0.0, f64::max),
                replicas: mean(|point| point.replicas),
            }
        })
        .collect()
}

/// 1, 2, 4, 6, 8 or 10 times a power of ten: quarters of it are short numbers.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|most| *most >= value).unwrap_or(value)
}

fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn clock(at: f64, seconds: f64) -> String {
    match seconds {
        long if long > 2.0 * 86_400.0 => format!("{:.1} d", at / 86_400.0),
        long if long > 7200.0 => format!("{:.1} h", at / 3600.0),
        _ => format!("{at:.0} s"),
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    svg.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
