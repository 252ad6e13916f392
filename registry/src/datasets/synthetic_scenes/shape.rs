//! The shapes, as signed distances: negative inside. Formulas follow Inigo Quilez, "2D distance functions".

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A shape, which is a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShapeClass {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// An equilateral triangle.
    Triangle,
    /// A star of five points.
    Star,
    /// A ring.
    Ring,
    /// A cross of two bars.
    Cross,
    /// A regular hexagon.
    Hexagon,
    /// A crescent moon.
    Crescent,
    /// A heart.
    Heart,
    /// A bar with round ends.
    Pill,
}

impl ShapeClass {
    /// Every shape.
    pub const ALL: [Self; 10] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Ring,
        Self::Cross,
        Self::Hexagon,
        Self::Crescent,
        Self::Heart,
        Self::Pill,
    ];

    /// The name, as in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Cross => "cross",
            Self::Hexagon => "hexagon",
            Self::Crescent => "crescent",
            Self::Heart => "heart",
            Self::Pill => "pill",
        }
    }

    /// Distance from a point to the outline of the shape about the origin, y pointing up. All of the shape
    /// lies within the unit circle.
    pub fn distance(self, [x, y]: [f32; 2]) -> f32 {
        match self {
            Self::Circle => x.hypot(y) - 0.92,
            Self::Square => rectangle(x, y, 0.7, 0.7),
            Self::Triangle => triangle(x, y + 0.12, 0.8),
            Self::Star => star(x, y, 1.0),
            Self::Ring => (x.hypot(y) - 0.68).abs() - 0.27,
            Self::Cross => rectangle(x, y, 0.92, 0.3).min(rectangle(x, y, 0.3, 0.92)),
            Self::Hexagon => (x.abs() * 0.866_025_4 + y.abs() * 0.5).max(y.abs()) - 0.82,
            Self::Crescent => ((x + 0.05).hypot(y) - 0.92).max(0.76 - (x - 0.42).hypot(y)),
            Self::Heart => heart(x.abs() / 1.45, y / 1.45 + 0.54) * 1.45,
            Self::Pill => (x - x.clamp(-0.58, 0.58)).hypot(y) - 0.38,
        }
    }
}

fn rectangle(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    let (x, y) = (x.abs() - half_width, y.abs() - half_height);
    x.max(0.0).hypot(y.max(0.0)) + x.max(y).min(0.0)
}

fn triangle(x: f32, y: f32, radius: f32) -> f32 {
    let slope = 3.0_f32.sqrt();
    let (mut x, mut y) = (x.abs() - radius, y + radius / slope);
    if x + slope * y > 0.0 {
        (x, y) = ((x - slope * y) / 2.0, (-slope * x - y) / 2.0);
    }
    x -= x.clamp(-2.0 * radius, 0.0);
    -x.hypot(y) * y.signum()
}

fn star(x: f32, y: f32, radius: f32) -> f32 {
    const POINTS: f32 = 5.0;
    const INNER: f32 = 0.48;
    // Folded into the half of one point: a segment from its tip to the notch.
    let half = std::f32::consts::PI / POINTS;
    let angle = x.atan2(y);
    let folded = (angle - (angle / (2.0 * half)).round() * 2.0 * half).abs();
    let length = x.hypot(y);
    let (x, y) = (length * folded.sin(), length * folded.cos());
    let (tip, notch) = ([0.0, radius], [radius * INNER * half.sin(), radius * INNER * half.cos()]);
    let edge = [notch[0] - tip[0], notch[1] - tip[1]];
    let along = ((x - tip[0]) * edge[0] + (y - tip[1]) * edge[1]) / (edge[0] * edge[0] + edge[1] * edge[1]);
    let along = along.clamp(0.0, 1.0);
    let side = edge[0] * (y - tip[1]) - edge[1] * (x - tip[0]);
    (x - tip[0] - along * edge[0]).hypot(y - tip[1] - along * edge[1]) * side.signum()
}

/// For `x >= 0`; the tip is at the origin, the heart spans `y` up to 1.1.
fn heart(x: f32, y: f32) -> f32 {
    if x + y > 1.0 {
        return (x - 0.25).hypot(y - 0.75) - 2.0_f32.sqrt() / 4.0;
    }
    let along = (x + y).max(0.0) / 2.0;
    x.hypot(y - 1.0).min((x - along).hypot(y - along)) * (x - y).signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = [f32; 2]> {
        (-120..=120).flat_map(|y| (-120..=120).map(move |x| [x as f32 / 100.0, y as f32 / 100.0]))
    }

    #[test]
    fn every_shape_lies_within_the_unit_circle_and_fills_a_part_of_it() {
        for shape in ShapeClass::ALL {
            let inside: Vec<_> = grid().filter(|&point| shape.distance(point) < 0.0).collect();
            assert!(inside.iter().all(|[x, y]| x.hypot(*y) <= 1.0), "{shape:?}");
            let area = inside.len() as f32 / 10_000.0;
            assert!((0.8..2.8).contains(&area), "{shape:?} has area {area}");
        }
    }

    #[test]
    fn distances_never_grow_faster_than_the_way() {
        for shape in ShapeClass::ALL {
            for point in grid() {
                let near = [point[0] + 0.006, point[1] - 0.008];
                let change = (shape.distance(point) - shape.distance(near)).abs();
                assert!(change <= 0.0101, "{shape:?} at {point:?}: {change}");
            }
        }
    }
}
