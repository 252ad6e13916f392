//! One curve as an SVG file.

use plotters::prelude::*;

/// What is drawn.
pub struct Curve {
    /// What stands above it.
    pub title: String,
    /// What stands along its axes.
    pub axes: [&'static str; 2],
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// An SVG file of it; `None` where a value is not finite.
    pub fn svg(&self) -> Option<String> {
        let Self { title, axes: [x_axis, y_axis], points } = self;
        let is_finite = points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
        let (first, last) = (points.first()?.0, points.last()?.0);
        let highest = points.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
        let mut svg = String::new();
        let draw = |svg: &mut String| -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
            let area = SVGBackend::with_string(svg, (900, 420)).into_drawing_area();
            area.fill(&WHITE)?;
            let mut builder = ChartBuilder::on(&area);
            builder.margin(16).x_label_area_size(44).y_label_area_size(84).caption(title, ("sans-serif", 20));
            let mut chart = builder.build_cartesian_2d(first..last.max(first + 1e-9), 0.0..1.05 * highest)?;
            let mut mesh = chart.configure_mesh();
            mesh.disable_x_mesh()
                .x_desc(*x_axis)
                .y_desc(*y_axis)
                .y_label_formatter(&|value| format!("{value:.1e}"));
            mesh.draw()?;
            chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?;
            area.present()
        };
        // Only the writing of a file could fail, and this one is in memory.
        is_finite.then(|| draw(&mut svg)).and_then(Result::ok)?;
        Some(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_a_file_of_its_own_and_what_is_not_finite_is_none() {
        let curve = |last: f64| Curve {
            title: "warm-up".to_owned(),
            axes: ["epochs", "learning rate"],
            points: vec![(0.0, 0.0), (1.0, last)],
        };
        let svg = curve(1e-3).svg().unwrap_or_default();
        assert!(svg.starts_with("<svg") && svg.contains("warm-up") && svg.contains("polyline"), "{svg}");
        assert_eq!(curve(f64::NAN).svg(), None);
    }
}
