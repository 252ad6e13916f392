//! Anchors (`detectron2.modeling.anchor_generator.DefaultAnchorGenerator`).

/// Boxes of a few shapes at every position of maps.
#[derive(Debug, Clone)]
pub struct AnchorGenerator {
    /// Of each level: its anchors around the origin, and its stride in pixels.
    levels: Vec<(Vec<[f32; 4]>, usize)>,
    offset: f32,
}

impl AnchorGenerator {
    /// Of levels with the roots of the anchors' areas and their strides; `aspect_ratios` are heights over widths. Anchors are
    /// centred `offset` strides behind the corner of their cell.
    pub fn new(levels: &[(Vec<f64>, usize)], aspect_ratios: &[f64], offset: f32) -> Self {
        let cell = |size: f64| {
            aspect_ratios.iter().map(move |ratio| {
                let width = (size * size / ratio).sqrt();
                let height = ratio * width;
                [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0].map(|side| side as f32)
            })
        };
        let level = |(sizes, stride): &(Vec<f64>, usize)| {
            (sizes.iter().flat_map(|&size| cell(size)).collect(), *stride)
        };
        Self { levels: levels.iter().map(level).collect(), offset }
    }

    /// How many anchors a position of a level has.
    pub fn num_cell_anchors(&self, level: usize) -> usize {
        self.levels[level].0.len()
    }

    /// The anchors of a level whose map has a height and a width: those of one position after the other, `[H * W * A]`.
    pub fn grid_anchors(&self, level: usize, [height, width]: [usize; 2]) -> Vec<[f32; 4]> {
        let (cell, stride) = &self.levels[level];
        let stride = *stride as f32;
        let shift = |at: usize| self.offset * stride + at as f32 * stride;
        let positions = (0..height).flat_map(|y| (0..width).map(move |x| (shift(x), shift(y))));
        positions
            .flat_map(|(x, y)| cell.iter().map(move |[x0, y0, x1, y1]| [x0 + x, y0 + y, x1 + x, y1 + y]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, assert_near};
    use super::*;

    #[test]
    fn they_are_those_of_detectron2() {
        let golden = Golden::read("anchors");
        let levels = [32, 64, 128, 256, 512].map(|size: u16| (vec![f64::from(size)], usize::from(size / 8)));
        let generator = AnchorGenerator::new(&levels, &[0.5, 1.0, 2.0], 0.0);
        for (level, side) in [64, 32, 16, 8, 4].into_iter().enumerate() {
            assert_eq!(generator.num_cell_anchors(level), 3);
            let anchors = generator.grid_anchors(level, [side; 2]);
            let name = format!("anchors_p{}", level + 2);
            assert_near(&name, anchors.as_flattened(), &golden.floats(&name), 1e-6);
        }
    }

    #[test]
    fn positions_go_row_by_row_and_are_shifted_by_the_offset() {
        let generator = AnchorGenerator::new(&[(vec![2.0, 4.0], 8)], &[1.0], 0.5);
        let anchors = generator.grid_anchors(0, [2, 1]);
        assert_eq!(anchors[..2], [[3.0, 3.0, 5.0, 5.0], [2.0, 2.0, 6.0, 6.0]]);
        assert_eq!(anchors[2..], [[3.0, 11.0, 5.0, 13.0], [2.0, 10.0, 6.0, 14.0]]);
    }
}
