//! The plot of a study: precision over compression, a line through the buckets of each mode and a
//! dot for each page. Where no engine counts vision tokens, over tokens of text.

use std::fmt::Write as _;

use super::report::Study;

const WIDTH: f32 = 860.0;
const HEIGHT: f32 = 520.0;
const LEFT: f32 = 70.0;
const RIGHT: f32 = 150.0;
const TOP: f32 = 56.0;
const BOTTOM: f32 = 64.0;
/// Colors that stay apart for people who see fewer of them; more modes begin anew with dashes.
const COLORS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
];

/// A point of the plot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    x: f32,
    /// Precision, 0 to 1.
    y: f32,
}

/// Where values lie on the page.
struct Axes {
    most_x: f32,
    least_y: f32,
}

impl Axes {
    fn x(&self, value: f32) -> f32 {
        LEFT + value / self.most_x * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f32) -> f32 {
        let share = (value - self.least_y) / (1.0 - self.least_y);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

/// Draws it.
pub(super) fn svg(study: &Study) -> String {
    let by_compression = study.pages.iter().any(|page| page.compression().is_some());
    let value = |text_tokens: f32, compression: Option<f32>| {
        if by_compression {
            compression
        } else {
            Some(text_tokens)
        }
    };
    let dots = |mode: &str| -> Vec<Point> {
        let pages = study.pages.iter().filter(|page| page.mode == mode);
        let points = pages.filter_map(|page| {
            let x = value(page.text_tokens as f32, page.compression())?;
            Some(Point {
                x,
                y: page.precision,
            })
        });
        points.collect()
    };
    let all = study.modes.iter().flat_map(|mode| dots(mode));
    let (most_x, least_y) = all.fold((0.0_f32, 1.0_f32), |(x, y), point| {
        (x.max(point.x), y.min(point.y))
    });
    let step = step(most_x);
    let axes = Axes {
        most_x: ((most_x / step).ceil() * step).max(step),
        least_y: ((least_y * 10.0).floor() / 10.0).min(0.9),
    };
    let mut out = head(study);
    grid(&axes, step, by_compression, &mut out);
    for (at, mode) in study.modes.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let dash = if at < COLORS.len() { "none" } else { "6 4" };
        for point in dots(mode) {
            add(
                &mut out,
                format_args!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{color}\" \
                     fill-opacity=\"0.35\"/>",
                    axes.x(point.x),
                    axes.y(point.y)
                ),
            );
        }
        let mut means: Vec<Point> = study
            .buckets()
            .iter()
            .filter(|bucket| bucket.mode == *mode)
            .filter_map(|bucket| {
                let x = value(bucket.text_tokens, bucket.compression)?;
                Some(Point {
                    x,
                    y: bucket.precision,
                })
            })
            .collect();
        means.sort_by(|a, b| a.x.total_cmp(&b.x));
        line(&axes, &means, color, dash, &mut out);
        legend(at, mode, color, dash, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

fn add(out: &mut String, element: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(element);
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    out.push('\n');
}

fn head(study: &Study) -> String {
    let engine = &study.engine;
    let mut out = String::new();
    add(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">"
        ),
    );
    add(
        &mut out,
        format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"),
    );
    let n_pages = study.pages.len() / study.modes.len().max(1);
    add(
        &mut out,
        format_args!(
            "<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">How well text is read: {} {}, {n_pages} \
             pages</text>",
            escaped(&engine.name),
            escaped(&engine.version)
        ),
    );
    add(
        &mut out,
        format_args!(
            "<text x=\"{LEFT}\" y=\"43\" fill=\"#555555\">lines: means of pages with about as much \
             text; dots: pages; text counted by {}</text>",
            escaped(&study.tokenizer)
        ),
    );
    out
}

fn grid(axes: &Axes, step: f32, by_compression: bool, out: &mut String) {
    let (left, right) = (LEFT, WIDTH - RIGHT);
    let bottom = HEIGHT - BOTTOM;
    let n_rows = ((1.0 - axes.least_y) * 10.0).round() as u32;
    for row in 0..=n_rows {
        let value = 1.0 - row as f32 / 10.0;
        let y = axes.y(value);
        add(
            out,
            format_args!(
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" \
                 y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
                left - 8.0,
                y + 4.5,
                value * 100.0
            ),
        );
    }
    let n_columns = (axes.most_x / step).round() as u32;
    for column in 0..=n_columns {
        let value = column as f32 * step;
        let x = axes.x(value);
        let times = if by_compression { "×" } else { "" };
        add(
            out,
            format_args!(
                "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#555555\"/><text x=\"{x:.1}\" \
                 y=\"{:.1}\" text-anchor=\"middle\">{value}{times}</text>",
                bottom + 20.0
            ),
        );
    }
    let words = if by_compression {
        "tokens of text for each token of the page's image"
    } else {
        "tokens of text on the page"
    };
    add(
        out,
        format_args!(
            "<path d=\"M{left} {bottom}H{right}\" stroke=\"#555555\"/><text x=\"{:.1}\" \
             y=\"{:.1}\" text-anchor=\"middle\">{words}</text>",
            (left + right) / 2.0,
            HEIGHT - 18.0
        ),
    );
    add(
        out,
        format_args!(
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">precision \
             of characters</text>",
            (TOP + bottom) / 2.0
        ),
    );
}

fn line(axes: &Axes, means: &[Point], color: &str, dash: &str, out: &mut String) {
    let mut path = String::new();
    for (at, point) in means.iter().enumerate() {
        let letter = if at == 0 { 'M' } else { 'L' };
        let (x, y) = (axes.x(point.x), axes.y(point.y));
        path.push_str(&format!("{letter}{x:.1} {y:.1}"));
        add(
            out,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"#ffffff\" \
                 stroke=\"{color}\" stroke-width=\"2\"/>"
            ),
        );
    }
    if means.len() > 1 {
        add(
            out,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" \
                 stroke-dasharray=\"{dash}\"/>"
            ),
        );
    }
}

fn legend(at: usize, mode: &str, color: &str, dash: &str, out: &mut String) {
    let (x, y) = (WIDTH - RIGHT + 20.0, TOP + 12.0 + 22.0 * at as f32);
    add(
        out,
        format_args!(
            "<path d=\"M{x} {y}h24\" stroke=\"{color}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dash}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 32.0,
            y + 4.5,
            escaped(mode)
        ),
    );
}

/// A round distance between marks, for about eight of them.
fn step(most: f32) -> f32 {
    let rough = (most / 8.0).max(f32::MIN_POSITIVE);
    let power = 10_f32.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= rough)
        .unwrap_or(10.0);
    (factor * power).max(1.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::study::report::example;

    #[test]
    fn plot_has_a_line_for_each_mode_with_two_buckets_and_a_dot_for_each_page() {
        let drawn = svg(&example());
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        // Pages of `lines` have no compression, so they are not on this plot.
        assert_eq!(drawn.matches("r=\"2.5\"").count(), 2);
        assert_eq!(drawn.matches("r=\"4.5\"").count(), 2);
        assert!(drawn.contains(">tiny<") && drawn.contains("token of the page's image"));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }

    #[test]
    fn engines_without_vision_tokens_are_drawn_over_the_text() {
        let mut study = example();
        study.modes = vec!["lines".into()];
        study.pages.retain(|page| page.mode == "lines");
        study.engine.name = "a<b".into();
        let drawn = svg(&study);
        assert!(drawn.contains("tokens of text on the page"));
        assert!(drawn.contains("a&lt;b") && drawn.contains("700"));
    }

    #[test]
    fn marks_stand_at_round_numbers() {
        for (most, expected) in [(0.0, 1.0), (11.7, 2.0), (650.0, 100.0), (4000.0, 500.0)] {
            assert_eq!(step(most), expected, "{most}");
        }
    }
}
