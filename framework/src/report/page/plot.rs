//! One curve chart as inline SVG.

use std::ops::{Range, RangeInclusive};

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
pub(super) use plotters::style::RGBColor;

use super::number::tick;
use super::thin::{outline, stretch};

/// A line of a chart.
pub(super) struct Line {
    pub(super) points: Vec<(f64, f64)>,
    /// That of [`palette::key`](super::palette::key): the style sheet has a rule for it.
    pub(super) color: RGBColor,
    /// Whether it is drawn faintly: every value, behind their average.
    pub(super) is_faint: bool,
}

const GRID: RGBColor = RGBColor(0xE3, 0xE3, 0xE0);
const TEXT: RGBColor = RGBColor(0x6B, 0x6B, 0x66);
/// Plotters draws at whole units; twice what is shown keeps curves smooth.
const SIZE: (u32, u32) = (1040, 460);
/// Values beyond are of no run, which computes in f32, and a logarithmic axis of them has no end.
const DRAWABLE: RangeInclusive<f64> = f32::MIN_POSITIVE as f64..=f32::MAX as f64;
/// More points than this are not told apart at that size.
const MOST_POINTS: usize = 600;
/// Up to here each point gets a dot.
const MOST_DOTS: usize = 40;

/// The chart of `lines` over the step, or `None` where nothing finite is to be drawn.
pub(super) fn chart(lines: &[Line], log_scale: bool, label: &str) -> Option<String> {
    let finite = || lines.iter().flat_map(|line| &line.points).filter(|point| is_drawable(point, log_scale));
    let x = range(finite().map(|point| point.0))?;
    let y = range(finite().map(|point| point.1))?;
    let mut svg = String::new();
    let drawn = {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&root, lines, x, y, log_scale)
    };
    // Only the writing of a file could fail, and this one is in memory.
    drawn.ok()?;
    Some(inline(&svg, label))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawingError = DrawingAreaErrorKind<std::io::Error>;

fn draw(
    root: &Area<'_>,
    lines: &[Line],
    x: Range<f64>,
    y: Range<f64>,
    log_scale: bool,
) -> Result<(), DrawingError> {
    let mut builder = ChartBuilder::on(root);
    builder.margin(16).margin_right(28).x_label_area_size(44).y_label_area_size(92);
    if log_scale {
        let y = y.start / 1.1..y.end * 1.1;
        fill(&mut builder.build_cartesian_2d(x, y.log_scale())?, lines, true)?;
    } else {
        let margin = 0.04 * (y.end - y.start);
        // A figure that is never negative is not shown as if it could be.
        let low = if y.start >= 0.0 { (y.start - margin).max(0.0) } else { y.start - margin };
        fill(&mut builder.build_cartesian_2d(x, low..y.end + margin)?, lines, false)?;
    }
    root.present()
}

fn fill<'a, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>,
    lines: &[Line],
    log_scale: bool,
) -> Result<(), DrawingError>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(2))
        .axis_style(GRID.stroke_width(2))
        .label_style(("sans-serif", 28).into_font().color(&TEXT))
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|value| tick(*value))
        .y_label_formatter(&|value| tick(*value))
        .draw()?;
    for line in lines {
        let style =
            if line.is_faint { line.color.mix(0.3).stroke_width(2) } else { line.color.stroke_width(4) };
        let points: Vec<_> = thin(&line.points);
        // A value that is not a number interrupts the line.
        for run in points.split(|point| !is_drawable(point, log_scale)) {
            chart.draw_series(LineSeries::new(run.iter().copied(), style))?;
        }
        if !line.is_faint && points.len() <= MOST_DOTS {
            let dots = points.iter().filter(|point| is_drawable(point, log_scale));
            chart.draw_series(dots.map(|&point| Circle::new(point, 5, style.color.filled())))?;
        }
    }
    Ok(())
}

fn is_drawable(point: &(f64, f64), log_scale: bool) -> bool {
    let value = point.1;
    DRAWABLE.contains(&value) || !log_scale && (value == 0.0 || value.abs() <= *DRAWABLE.end())
}

/// The smallest and the largest value, apart even if there is only one.
fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low < high {
        return Some(low..high);
    }
    let margin = if low == 0.0 { 0.5 } else { low.abs() / 2.0 };
    low.is_finite().then_some(low - margin..low + margin)
}

/// At most about [`MOST_POINTS`] points with the same outline: the extremes of each stretch.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let values: Vec<_> = points.iter().map(|point| point.1).collect();
    outline(&values, stretch(points.len(), MOST_POINTS)).into_iter().map(|i| points[i]).collect()
}

/// The drawing without what a stand-alone file needs, scaled by the page.
fn inline(svg: &str, label: &str) -> String {
    let content =
        svg.find("<svg").and_then(|start| svg[start..].find('>').map(|end| &svg[start + end + 1..]));
    let (width, height) = SIZE;
    let label = maud::html! { (label) }.into_string();
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">{}",
        content.unwrap_or("</svg>")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn line(values: &[f64]) -> Vec<Line> {
        let points = values.iter().enumerate().map(|(i, &value)| (i as f64, value)).collect();
        vec![Line { points, color: RGBColor(0x2F, 0x6D, 0xB5), is_faint: false }]
    }

    #[test]
    fn a_chart_needs_nothing_from_elsewhere() {
        let svg = chart(&line(&[3.0, 2.0, 1.0]), false, "loss <&\">").unwrap();
        assert!(svg.starts_with("<svg class=\"plot\"") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("http"));
        assert!(svg.contains("loss &lt;&amp;&quot;&gt;"));
        assert!(svg.contains("<polyline"));
    }

    #[test]
    fn values_that_are_not_numbers_interrupt_the_line() {
        let svg = chart(&line(&[3.0, 2.0, f64::NAN, 1.0, 1.5]), false, "").unwrap();
        let strokes = svg.lines().filter(|line| line.contains("<polyline") && line.contains("#2F6DB5"));
        assert_eq!(strokes.count(), 2);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn one_point_and_equal_points_can_be_drawn() {
        for values in [&[2.0][..], &[0.0], &[1.0, 1.0], &[-1.0]] {
            assert!(chart(&line(values), false, "").is_some(), "{values:?}");
        }
        assert!(chart(&line(&[2.0]), true, "").is_some());
    }

    #[test]
    fn nothing_finite_is_no_chart() {
        assert!(chart(&line(&[]), false, "").is_none());
        assert!(chart(&line(&[f64::NAN, f64::INFINITY]), false, "").is_none());
        assert!(chart(&line(&[-1.0, 0.0]), true, "").is_none());
    }

    #[test]
    fn values_that_no_run_has_are_left_out() {
        for value in [1e-310, f64::MIN_POSITIVE, 1.7e308, f64::MAX] {
            assert!(chart(&line(&[value]), true, "").is_none(), "{value}");
            assert!(chart(&line(&[1.0, value, 0.5]), true, "").is_some(), "{value}");
            assert!(chart(&line(&[-1.0, value, 0.5]), false, "").is_some(), "{value}");
        }
        assert!(chart(&line(&[f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)]), true, "").is_some());
    }

    #[test]
    fn a_long_series_keeps_its_extremes() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        points[54_321].1 = 99.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= MOST_POINTS && thinned.contains(&(54_321.0, 99.0)));
        assert!(thinned.is_sorted_by_key(|point| point.0));
    }
}
