//! Where an object is, as outlines or as pixels.

use image::GrayImage;

use super::Rle;

/// Where an object is.
#[derive(Debug, Clone, PartialEq)]
pub enum Mask {
    /// Outlines of its parts: `[x, y]` in pixels, `[0, 0]` being the top left corner of the image.
    Polygons(Vec<Vec<[f64; 2]>>),
    /// Its pixels.
    Rle(Rle),
}

impl Mask {
    /// Moves the mask into another image of `height` x `width` pixels: the corners of polygons by `point`,
    /// then cut at the border of the image (Sutherland and Hodgman 1974), and the pixels of run lengths by
    /// `pixels`, which yields a mask of this size. Whether something is left of it.
    pub fn transform(
        &mut self,
        (height, width): (usize, usize),
        point: impl Fn([f64; 2]) -> [f64; 2],
        pixels: impl FnOnce(&GrayImage) -> GrayImage,
    ) -> bool {
        match self {
            Self::Polygons(polygons) => {
                for polygon in &mut *polygons {
                    let moved = polygon.iter().map(|&corner| point(corner)).collect();
                    *polygon = clip(moved, [width as f64, height as f64]);
                }
                polygons.retain(|polygon| area(polygon) > 0.0);
            }
            Self::Rle(runs) => *runs = Rle::encode(&pixels(&runs.decode())),
        }
        !self.is_empty()
    }

    /// Whether there is no polygon, or no pixel.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Polygons(polygons) => polygons.is_empty(),
            Self::Rle(runs) => runs.counts().iter().skip(1).step_by(2).all(|&on| on == 0),
        }
    }

    /// The pixels that it covers in an image of a height and a width, polygons as COCO rasterises them; none if the image has more than
    /// `u32` can count.
    pub fn rasterize(&self, [height, width]: [usize; 2]) -> Option<Rle> {
        match self {
            Self::Rle(runs) => Some(runs.clone()),
            Self::Polygons(polygons) => {
                let polygons: Vec<Vec<f64>> =
                    polygons.iter().map(|corners| corners.as_flattened().to_vec()).collect();
                hotcoco::mask::fr_polys(&polygons, height as u32, width as u32).ok().map(Rle::from)
            }
        }
    }

    /// The box around it, `[x0, y0, x1, y1]` in pixels, the end exclusive; none if it is empty.
    pub fn bounds(&self) -> Option<[f32; 4]> {
        match self {
            Self::Polygons(polygons) => {
                let corners = polygons.iter().flatten().map(|&[x, y]| [x, y, x, y]);
                let bounds = corners
                    .reduce(|[x0, y0, x1, y1], [x, y, ..]| [x0.min(x), y0.min(y), x1.max(x), y1.max(y)]);
                bounds.map(|bounds| bounds.map(|side| side as f32))
            }
            Self::Rle(runs) => bounds(&runs.decode()),
        }
    }
}

/// The box around the pixels of a map that are above 0, `[x0, y0, x1, y1]`, the end exclusive; none if there
/// are none.
pub fn bounds(map: &GrayImage) -> Option<[f32; 4]> {
    let on = map.enumerate_pixels().filter(|pixel| pixel.2.0[0] > 0);
    let bounds = on.map(|(x, y, _)| [x, y, x + 1, y + 1]);
    let bounds = bounds.reduce(|[x0, y0, x1, y1], [a, b, c, d]| [x0.min(a), y0.min(b), x1.max(c), y1.max(d)]);
    bounds.map(|bounds| bounds.map(|side| side as f32))
}

/// The part of a polygon within an image of a width and a height, cut by one of its sides after the other.
fn clip(polygon: Vec<[f64; 2]>, size: [f64; 2]) -> Vec<[f64; 2]> {
    let sides = [(0, 0.0, 1.0), (0, size[0], -1.0), (1, 0.0, 1.0), (1, size[1], -1.0)];
    sides.into_iter().fold(polygon, |polygon, (axis, border, sign)| {
        let inside = |corner: [f64; 2]| (corner[axis] - border) * sign;
        let before = polygon.iter().cycle().skip(polygon.len().saturating_sub(1));
        let mut cut = Vec::with_capacity(polygon.len() + 1);
        for (&from, &to) in before.zip(&polygon) {
            let (start, end) = (inside(from), inside(to));
            if (start < 0.0) != (end < 0.0) {
                let fraction = start / (start - end);
                let mut crossing: [f64; 2] =
                    std::array::from_fn(|axis| from[axis] + fraction * (to[axis] - from[axis]));
                crossing[axis] = border;
                cut.push(crossing);
            }
            if end >= 0.0 {
                cut.push(to);
            }
        }
        cut
    })
}

/// Of a simple polygon, by the shoelace formula.
fn area(polygon: &[[f64; 2]]) -> f64 {
    let next = polygon.iter().cycle().skip(1);
    let twice: f64 = polygon.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum();
    twice.abs() / 2.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::panic)]

    use image::{Luma, imageops};
    use proptest::prelude::*;

    use super::*;

    fn polygon(corners: &[[f64; 2]]) -> Mask {
        Mask::Polygons(vec![corners.to_vec()])
    }

    fn unused(_: &GrayImage) -> GrayImage {
        panic!("polygons have no pixels")
    }

    #[test]
    fn a_polygon_is_cut_at_the_border_of_the_image() {
        // A triangle over the left border: what is left of it is a trapezium.
        let mut mask = polygon(&[[-2.0, 2.0], [2.0, 0.0], [2.0, 4.0]]);
        assert!(mask.transform((4, 4), |corner| corner, unused));
        assert_eq!(mask.bounds(), Some([0.0, 0.0, 2.0, 4.0]));
        let Mask::Polygons(polygons) = mask else { panic!("a polygon stays one") };
        assert_eq!(area(&polygons[0]), 6.0);
    }

    #[test]
    fn a_polygon_covers_the_pixels_that_it_does_in_coco() {
        // Two squares, which have the pixels between their corners.
        let square = |x: f64| vec![[x, 1.0], [x + 2.0, 1.0], [x + 2.0, 3.0], [x, 3.0]];
        let runs = Mask::Polygons(vec![square(0.0), square(3.0)]).rasterize([4, 6]).unwrap();
        let expected = GrayImage::from_fn(6, 4, |x, y| {
            Luma([u8::from([0, 1, 3, 4].contains(&x) && [1, 2].contains(&y))])
        });
        assert_eq!(runs, Rle::encode(&expected));
        assert_eq!(Mask::Rle(runs.clone()).rasterize([4, 6]), Some(runs));
    }

    #[test]
    fn nothing_is_left_of_a_polygon_outside() {
        let mut mask = polygon(&[[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]);
        assert!(!mask.transform((4, 4), |[x, y]| [x - 2.0, y], unused));
        assert_eq!(mask.bounds(), None);
    }

    #[test]
    fn run_lengths_are_moved_as_pixels() {
        let map = GrayImage::from_fn(3, 2, |x, _| Luma([if x == 0 { 255 } else { 0 }]));
        let mut mask = Mask::Rle(Rle::encode(&map));
        assert!(mask.transform((2, 3), |corner| corner, imageops::flip_horizontal));
        assert_eq!(mask.bounds(), Some([2.0, 0.0, 3.0, 2.0]));
        assert!(!mask.is_empty() && Mask::Rle(Rle::new([2, 3], vec![2, 0, 4]).unwrap()).is_empty());
        assert!(!mask.transform((2, 3), |corner| corner, |_| GrayImage::new(3, 2)));
        assert_eq!(mask.bounds(), None);
    }

    proptest! {
        /// The area of a polygon is that of its part within the image and that of its parts beyond each side.
        #[test]
        fn the_parts_of_a_cut_triangle_add_up(
            corners in prop::array::uniform3(prop::array::uniform2(-4.0_f64..8.0)),
        ) {
            let part = |[x, y]: [f64; 2], size: [f64; 2]| {
                area(&clip(corners.iter().map(|corner| [corner[0] - x, corner[1] - y]).collect(), size))
            };
            let columns = [(-10.0, 10.0), (0.0, 4.0), (4.0, 10.0)];
            let parts = columns.iter().flat_map(|&(x, width)| columns.map(|(y, height)| ([x, y], [width, height])));
            let sum: f64 = parts.map(|(corner, size)| part(corner, size)).sum();
            prop_assert!((sum - area(&corners)).abs() < 1e-9, "{sum} {}", area(&corners));
        }
    }
}
