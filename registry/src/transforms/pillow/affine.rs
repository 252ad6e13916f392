//! `Image.transform(..., AFFINE)`: shears, shifts and rotations at the size of the image.

use image::{GrayImage, Luma, Rgb, RgbImage};

/// Where each pixel of the result comes from: `x = x[0] * column + x[1] * row + x[2]`, and `y` likewise, at
/// the centres of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    x: [f64; 3],
    y: [f64; 3],
}

impl Affine {
    /// Rows move to the side, the more the lower they are.
    pub fn shear_x(factor: f64) -> Self {
        Self { x: [1.0, factor, 0.0], y: [0.0, 1.0, 0.0] }
    }

    /// Columns move up or down, the more the further right they are.
    pub fn shear_y(factor: f64) -> Self {
        Self { x: [1.0, 0.0, 0.0], y: [factor, 1.0, 0.0] }
    }

    /// The pixel at `(x, y)` comes to `(0, 0)`.
    pub fn translation(x: f64, y: f64) -> Self {
        Self { x: [1.0, 0.0, x], y: [0.0, 1.0, y] }
    }

    /// Counter-clockwise about the middle of an image of the given size (`Image.rotate` without `expand`).
    pub fn rotation(degrees: f64, (width, height): (u32, u32)) -> Self {
        let angle = -degrees.rem_euclid(360.0).to_radians();
        let [cos, sin] = [angle.cos(), angle.sin()].map(round_to_15_decimals);
        let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        Self { x: [cos, sin, cos * -x + sin * -y + x], y: [-sin, cos, -sin * -x + cos * -y + y] }
    }

    /// The place in the original of the middle of a pixel of the result, if there is one.
    fn source(&self, column: u32, row: u32, (width, height): (u32, u32)) -> Option<(f64, f64)> {
        let (column, row) = (f64::from(column) + 0.5, f64::from(row) + 0.5);
        let [x, y] = [self.x, self.y].map(|by| by[0] * column + by[1] * row + by[2]);
        let inside = x >= 0.0 && x < f64::from(width) && y >= 0.0 && y < f64::from(height);
        inside.then_some((x, y))
    }

    /// Where a point of the original comes to, in pixels from the top left corner.
    pub fn target(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let ([a, b, c], [d, e, f]) = (self.x, self.y);
        let determinant = a * e - b * d;
        let (x, y) = (x - c, y - f);
        [(e * x - b * y) / determinant, (a * y - d * x) / determinant]
    }

    /// The image moved, pixels between pixels found by Pillow's cubic (a = -1, cut off to whole levels, not
    /// rounded).
    pub fn bicubic(&self, image: &RgbImage, fill: [u8; 3]) -> RgbImage {
        let (width, height) = image.dimensions();
        let mut moved = RgbImage::from_pixel(width, height, Rgb(fill));
        let source = Neighbours { pixels: image.as_raw().as_chunks().0, width, height };
        for (column, row, pixel) in moved.enumerate_pixels_mut() {
            if let Some((x, y)) = self.source(column, row, (width, height)) {
                // A cast to u8 truncates and clips.
                pixel.0 = source.at(x - 0.5, y - 0.5).map(|value| value as u8);
            }
        }
        moved
    }

    /// A mask or label map moved, every pixel taking the nearest value.
    pub fn nearest(&self, map: &GrayImage, fill: u8) -> GrayImage {
        GrayImage::from_fn(map.width(), map.height(), |column, row| {
            self.source(column, row, map.dimensions())
                .map_or(Luma([fill]), |(x, y)| *map.get_pixel(x as u32, y as u32))
        })
    }
}

/// As Python's `round(value, 15)`, which rounds the decimal digits.
fn round_to_15_decimals(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// An image to interpolate in.
struct Neighbours<'a> {
    pixels: &'a [[u8; 3]],
    width: u32,
    height: u32,
}

impl Neighbours<'_> {
    /// The colour at a place, where whole numbers are the middles of pixels.
    fn at(&self, x: f64, y: f64) -> [f64; 3] {
        let (left, top) = (floor(x), floor(y));
        let (dx, dy) = (x - left as f64, y - top as f64);
        let float = |color: [u8; 3]| color.map(f64::from);
        // On a row or a column of pixels, the other direction is exact.
        if dy == 0.0 {
            return cubic(self.four(top, left).map(float), dx);
        }
        let rows = [-1, 0, 1, 2].map(|step| self.four(top + step, left));
        if dx == 0.0 {
            return cubic(rows.map(|row| float(row[1])), dy);
        }
        // All rows at once, which the compiler turns into vectors: by column, the channels of the four rows.
        let mut columns = [[0.0; 12]; 4];
        for (at, row) in rows.into_iter().enumerate() {
            for (column, color) in columns.iter_mut().zip(row) {
                column[3 * at..3 * at + 3].copy_from_slice(&float(color));
            }
        }
        let between = cubic(columns, dx);
        let (rows, _) = between.as_chunks::<3>();
        cubic([rows[0], rows[1], rows[2], rows[3]], dy)
    }

    /// Four pixels of a row: at `left`, the one before it and the two after it. Beyond the border, those at
    /// the border.
    fn four(&self, row: i32, left: i32) -> [[u8; 3]; 4] {
        let clamp = |at: i32, length: u32| at.clamp(0, length as i32 - 1) as usize;
        let width = self.width as usize;
        let line = &self.pixels[clamp(row, self.height) * width..][..width];
        let within = usize::try_from(left - 1).ok().and_then(|first| line.get(first..)?.first_chunk());
        within.copied().unwrap_or_else(|| [-1, 0, 1, 2].map(|step| line[clamp(left + step, self.width)]))
    }
}

/// Of a number from -1 on: the standard library's is a call on a plain x86-64.
fn floor(value: f64) -> i32 {
    if value < 0.0 { -1 } else { value as i32 }
}

/// Between the second and the third of four values, at the fraction `d`; for several at once, in Pillow's
/// order of operations.
fn cubic<const N: usize>([v1, v2, v3, v4]: [[f64; N]; 4], d: f64) -> [f64; N] {
    std::array::from_fn(|at| {
        let [v1, v2, v3, v4] = [v1[at], v2[at], v3[at], v4[at]];
        let p2 = v3 - v1;
        let p3 = 2.0 * (v1 - v2) + v3 - v4;
        let p4 = v2 - v1 - v3 + v4;
        v2 + d * (p2 + d * (p3 + d * p4))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(7, 5, |x, y| Rgb([(x * 31) as u8, (y * 50) as u8, (x * y) as u8]))
    }

    #[test]
    fn whole_pixels_are_moved_as_they_are() {
        let moved = Affine::translation(2.0, -1.0).bicubic(&image(), [9, 8, 7]);
        for (x, y, pixel) in moved.enumerate_pixels() {
            let from = (x < 5 && y > 0).then(|| image().get_pixel(x + 2, y - 1).0);
            assert_eq!(pixel.0, from.unwrap_or([9, 8, 7]), "{x} {y}");
        }
    }

    #[test]
    fn nothing_is_the_identity() {
        for affine in [Affine::shear_x(0.0), Affine::shear_y(0.0), Affine::rotation(0.0, (7, 5))] {
            assert!(affine.bicubic(&image(), [0; 3]) == image(), "{affine:?}");
        }
    }

    #[test]
    fn maps_move_with_the_image() {
        let map = GrayImage::from_fn(7, 5, |x, y| Luma([(x * 10 + y) as u8]));
        let moved = Affine::translation(2.0, 0.0).nearest(&map, 255);
        assert_eq!(moved.get_pixel(1, 3).0, [33]);
        assert_eq!(moved.get_pixel(5, 0).0, [255]);
    }

    #[test]
    fn a_positive_angle_is_counter_clockwise() {
        let map = GrayImage::from_fn(9, 9, |x, y| Luma([u8::from(x > 6 && y == 4)]));
        let turned = Affine::rotation(90.0, (9, 9)).nearest(&map, 0);
        assert_eq!((turned.get_pixel(4, 0).0, turned.get_pixel(8, 4).0), ([1], [0]));
    }

    #[test]
    fn a_point_comes_to_where_its_pixel_does() {
        for affine in [
            Affine::shear_x(0.3),
            Affine::shear_y(-0.2),
            Affine::translation(2.0, -1.0),
            Affine::rotation(30.0, (7, 5)),
        ] {
            for (column, row) in (0..5).flat_map(|row| (0..7).map(move |column| (column, row))) {
                let Some((x, y)) = affine.source(column, row, (7, 5)) else { continue };
                let [x, y] = affine.target([x, y]);
                let error = (x - f64::from(column) - 0.5).hypot(y - f64::from(row) - 0.5);
                assert!(error < 1e-12, "{affine:?} {column} {row}: {x} {y}");
            }
        }
    }

    #[test]
    fn an_image_of_one_pixel_has_neighbours() {
        let image = RgbImage::from_pixel(1, 1, Rgb([3, 4, 5]));
        assert!(Affine::translation(0.3, -0.2).bicubic(&image, [0; 3]) == image);
    }
}
