//! One curve chart as inline SVG.

use std::ops::{Range, RangeInclusive};

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
pub(super) use plotters::style::RGBColor;

use super::number::tick;
use super::thin::{outline, stretch};
use crate::report::pdf::PdfPage;

/// A line of a chart.
pub(super) struct Line {
    pub(super) points: Vec<(f64, f64)>,
    /// That of [`palette::key`](super::palette::key): the style sheet has a rule for it.
    pub(super) color: RGBColor,
    /// Whether it is drawn faintly: every value, behind their average.
    pub(super) is_faint: bool,
    /// An area around it: places with the lowest and the highest value.
    pub(super) band: Vec<(f64, f64, f64)>,
    /// Bars at its points: places with a value, and how far the bar goes to both sides.
    pub(super) bars: Vec<(f64, f64, f64)>,
}

impl Line {
    /// A line without points.
    pub(super) fn new(color: RGBColor) -> Self {
        Self { points: Vec::new(), color, is_faint: false, band: Vec::new(), bars: Vec::new() }
    }

    /// All places and values that have to be in sight.
    fn extent(&self) -> impl Iterator<Item = (f64, f64)> {
        let band = self.band.iter().flat_map(|&(x, low, high)| [(x, low), (x, high)]);
        let bars = self.bars.iter().flat_map(|&(x, value, by)| [(x, value - by), (x, value + by)]);
        self.points.iter().copied().chain(band).chain(bars)
    }
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
    Some(inline(&Drawing { lines, log_scale, labels: None, frame: None }.svg()?, label))
}

/// The chart of `lines` over numbers, or over the places 0, 1, .. with these labels.
pub(super) fn chart_over(lines: &[Line], labels: Option<&[&str]>, label: &str) -> Option<String> {
    Some(inline(&Drawing { lines, log_scale: false, labels, frame: None }.svg()?, label))
}

/// What is drawn.
pub(super) struct Drawing<'a> {
    pub(super) lines: &'a [Line],
    pub(super) log_scale: bool,
    /// Those of the places 0, 1, .. along the axis.
    pub(super) labels: Option<&'a [&'a str]>,
    /// What is said around it, where nothing else says it.
    pub(super) frame: Option<&'a Frame<'a>>,
}

/// What a figure of its own says around its lines.
pub(super) struct Frame<'a> {
    /// What stands along the axes.
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Names and colours of the lines; nothing of a single one.
    pub(super) legend: Vec<(&'a str, RGBColor)>,
}

impl Drawing<'_> {
    /// As an SVG file; `None` where nothing finite is to be drawn.
    pub(super) fn svg(&self) -> Option<String> {
        let (x, y) = self.ranges()?;
        let mut svg = String::new();
        // Only the writing of a file could fail, and this one is in memory.
        self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), x, y).ok()?;
        Some(svg)
    }

    /// As a PDF file; `None` where nothing finite is to be drawn.
    pub(super) fn pdf(&self) -> Option<Vec<u8>> {
        let (x, y) = self.ranges()?;
        let mut pdf = Vec::new();
        self.draw(&PdfPage::new(&mut pdf, SIZE).into_drawing_area(), x, y).ok()?;
        Some(pdf)
    }

    fn ranges(&self) -> Option<(Range<f64>, Range<f64>)> {
        let finite =
            || self.lines.iter().flat_map(Line::extent).filter(|point| is_drawable(point, self.log_scale));
        let x = match self.labels {
            Some(labels) => -0.5..labels.len() as f64 - 0.5,
            None => range(finite().map(|point| point.0))?,
        };
        // Bars at the ends would lie on the frame.
        let has_bars = self.labels.is_none() && self.lines.iter().any(|line| !line.bars.is_empty());
        let margin = if has_bars { 0.05 * (x.end - x.start) } else { 0.0 };
        let x = x.start - margin..x.end + margin;
        Some((x, range(finite().map(|point| point.1))?))
    }

    fn draw<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        x: Range<f64>,
        y: Range<f64>,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let mut builder = ChartBuilder::on(root);
        // Room for the names of the axes.
        let (below, left) = if self.frame.is_some() { (80, 132) } else { (44, 92) };
        builder.margin(16).margin_right(28).x_label_area_size(below).y_label_area_size(left);
        if self.frame.is_some() {
            root.fill(&WHITE)?;
        }
        if self.log_scale {
            let y = y.start / 1.1..y.end * 1.1;
            self.fill(&mut builder.build_cartesian_2d(x, y.log_scale())?)?;
        } else {
            let margin = 0.04 * (y.end - y.start);
            // A figure that is never negative is not shown as if it could be.
            let low = if y.start >= 0.0 { (y.start - margin).max(0.0) } else { y.start - margin };
            self.fill(&mut builder.build_cartesian_2d(x, low..y.end + margin)?)?;
        }
        root.present()
    }

    fn fill<'c, DB, Y>(
        &self,
        chart: &mut ChartContext<'c, DB, Cartesian2d<RangedCoordf64, Y>>,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
    where
        DB: DrawingBackend + 'c,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(GRID.stroke_width(2))
            .label_style(("sans-serif", 28).into_font().color(&TEXT))
            // Half a place from each end: labels at every half.
            .x_labels(self.labels.map_or(6, |labels| 2 * labels.len() + 1))
            .y_labels(5);
        if let Some(frame) = self.frame {
            mesh.x_desc(frame.x).y_desc(frame.y).axis_desc_style(("sans-serif", 32).into_font());
        }
        mesh.x_label_formatter(&|value| self.x_label(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        self.fill_lines(chart)?;
        for &(name, color) in self.frame.iter().flat_map(|frame| &frame.legend) {
            let sample =
                move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 40, y)], color.stroke_width(5));
            chart.draw_series(LineSeries::new([], color))?.label(name).legend(sample);
        }
        if self.frame.is_some_and(|frame| !frame.legend.is_empty()) {
            let mut legend = chart.configure_series_labels();
            legend.position(SeriesLabelPosition::UpperRight).legend_area_size(52).margin(12);
            legend
                .label_font(("sans-serif", 28))
                .background_style(WHITE.mix(0.8))
                .border_style(GRID)
                .draw()?;
        }
        Ok(())
    }

    fn fill_lines<'c, DB, Y>(
        &self,
        chart: &mut ChartContext<'c, DB, Cartesian2d<RangedCoordf64, Y>>,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
    where
        DB: DrawingBackend + 'c,
        Y: Ranged<ValueType = f64>,
    {
        for line in self.lines {
            for outline in self.bands(line) {
                chart.draw_series([Polygon::new(outline, line.color.mix(0.18).filled())])?;
            }
        }
        for line in self.lines {
            let style =
                if line.is_faint { line.color.mix(0.3).stroke_width(2) } else { line.color.stroke_width(4) };
            let points: Vec<_> = thin(&line.points);
            // A value that is not a number interrupts the line.
            for run in points.split(|point| !is_drawable(point, self.log_scale)) {
                chart.draw_series(LineSeries::new(run.iter().copied(), style))?;
            }
            for &(x, value, by) in &line.bars {
                let ends = [(x, value - by), (x, value + by)];
                if ends.iter().all(|end| is_drawable(end, self.log_scale)) {
                    chart.draw_series(LineSeries::new(ends, line.color.stroke_width(3)))?;
                }
            }
            if !line.is_faint && points.len() <= MOST_DOTS {
                let dots = points.iter().filter(|point| is_drawable(point, self.log_scale));
                chart.draw_series(dots.map(|&point| Circle::new(point, 5, style.color.filled())))?;
            }
        }
        Ok(())
    }

    /// The outlines of a line's band, which a value that is not a number interrupts.
    fn bands(&self, line: &Line) -> Vec<Vec<(f64, f64)>> {
        let thinned: Vec<_> =
            line.band.iter().step_by(line.band.len().div_ceil(MOST_POINTS).max(1)).collect();
        let is_outside = |(x, low, high): &&(f64, f64, f64)| {
            [low, high].iter().any(|y| !is_drawable(&(*x, **y), self.log_scale))
        };
        let outline = |part: &[&(f64, f64, f64)]| {
            let below = part.iter().map(|(x, low, _)| (*x, *low));
            let above = part.iter().rev().map(|(x, _, high)| (*x, *high));
            below.chain(above).collect()
        };
        thinned.split(is_outside).filter(|part| part.len() > 1).map(outline).collect()
    }

    fn x_label(&self, value: f64) -> String {
        let Some(labels) = self.labels else { return tick(value) };
        let place = value.round();
        let label =
            labels.get(place.max(0.0) as usize).filter(|_| (value - place).abs() < 1e-6 && place >= 0.0);
        label.map(|label| (*label).to_owned()).unwrap_or_default()
    }
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
        vec![Line { points, ..Line::new(RGBColor(0x2F, 0x6D, 0xB5)) }]
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
    fn a_band_and_bars_are_in_sight_and_labels_at_their_places() {
        let mut lines = line(&[1.0, 2.0, 3.0]);
        lines[0].band = vec![(0.0, 0.0, 2.0), (1.0, 1.0, 9.0), (2.0, 2.0, f64::NAN)];
        lines[0].bars = vec![(1.0, 2.0, 40.0)];
        let svg = chart_over(&lines, Some(&["low", "<&>", "high"]), "").unwrap();
        assert!(svg.contains("<polygon") && svg.contains("40"), "{svg}");
        assert!(svg.contains("low") && svg.contains("&lt;&amp;&gt;") && svg.contains("high"), "{svg}");
        assert!(!svg.contains("NaN"));
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
