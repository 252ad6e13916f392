//! Bilinear samples of regions of interest (RoIs) in maps `[B, H, W, C]`, averaged over bins.
//!
//! Bilinear interpolation, its border and the mean are products of a weight of the row and one of the column. So a bin is a
//! weighted sum of rows, then of columns, and a pixel that many samples share is read once.

use rayon::prelude::*;

use super::Buffer;
use super::simd::vectorized;
use crate::Result;
use crate::profile;

/// Regions of maps of given sizes.
#[derive(Debug, Clone)]
pub struct RoiAlign {
    /// The maps: one, or the levels of a pyramid.
    pub levels: Vec<RoiLevel>,
    /// Images, `B`.
    pub batch: usize,
    /// Channels, `C`.
    pub channels: usize,
    /// Bins of a region, down and across.
    pub output: [usize; 2],
    /// Samples of a bin along each side; 0 for one per pixel, rounded up.
    pub sampling_ratio: usize,
}

/// One of the maps.
#[derive(Debug, Clone, Copy)]
pub struct RoiLevel {
    /// Height, `H`.
    pub height: usize,
    /// Width, `W`.
    pub width: usize,
    /// What coordinates are multiplied by: 1 over the stride.
    pub scale: f32,
}

/// A region of interest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roi {
    /// Index of its map.
    pub level: usize,
    /// Index of its image.
    pub image: usize,
    /// `[x0, y0, x1, y1]` in pixels of the image.
    pub bbox: [f32; 4],
}

/// A region as weights of the pixels of its map.
#[derive(Debug)]
pub struct Region {
    /// Its index among all regions.
    pub index: usize,
    /// Index of its image.
    pub image: usize,
    /// Of rows.
    pub rows: BinWeights,
    /// Of columns.
    pub cols: BinWeights,
}

/// The weights of pixels in the bins of one side of a region, `[bins, pixels]`.
#[derive(Debug)]
pub struct BinWeights {
    /// The first pixel.
    pub start: usize,
    /// How many there are; none of a region beside the map.
    pub pixels: usize,
    /// Row-major; most are 0.
    pub weights: Vec<f32>,
}

impl BinWeights {
    /// Of a region from `start` to `end` in a map of `size` pixels: detectron2's `ROIAlign` with `aligned=True`, in `f32` as there.
    fn new([start, end]: [f32; 2], bins: usize, sampling_ratio: usize, size: usize) -> Self {
        let length = (end - start) / bins as f32;
        let samples = if sampling_ratio > 0 { sampling_ratio } else { length.ceil() as usize };
        let weight = 1.0 / samples as f32;
        let mut taps = Vec::new();
        for bin in 0..bins {
            let bin_start = start + bin as f32 * length;
            for sample in near(bin_start, length, samples, size) {
                let position = bin_start + (sample as f32 + 0.5) * length / samples as f32;
                if !(-1.0..=size as f32).contains(&position) {
                    continue;
                }
                let position = position.max(0.0);
                let below = (position as usize).min(size - 1);
                let share = if below == size - 1 { 0.0 } else { position - below as f32 };
                taps.push((bin, below, (1.0 - share) * weight));
                if share > 0.0 {
                    taps.push((bin, below + 1, share * weight));
                }
            }
        }
        let start = taps.iter().map(|tap| tap.1).min().unwrap_or_default();
        let pixels = taps.iter().map(|tap| tap.1 + 1 - start).max().unwrap_or_default();
        let mut weights = vec![0.0; bins * pixels];
        for (bin, pixel, weight) in taps {
            weights[bin * pixels + pixel - start] += weight;
        }
        Self { start, pixels, weights }
    }

    /// The pixels of a bin and their weights, without those that have none: their distance from the first.
    fn of_bin(&self, bin: usize) -> impl Iterator<Item = (usize, f32)> {
        let weights = self.weights[bin * self.pixels..][..self.pixels].iter();
        weights.copied().enumerate().filter(|&(_, weight)| weight != 0.0)
    }

    /// The bins that a pixel is part of, and its weights.
    fn of_pixel(&self, pixel: usize) -> impl Iterator<Item = (usize, f32)> {
        let is_covered = (self.start..self.start + self.pixels).contains(&pixel);
        let first = if is_covered { pixel - self.start } else { self.weights.len() };
        let weights = self.weights.iter().skip(first).step_by(self.pixels.max(1));
        weights.copied().enumerate().filter(|&(_, weight)| weight != 0.0)
    }
}

/// The samples of a bin that may lie within the map, or a pixel around it: a huge region has more than can be counted.
fn near(bin_start: f32, length: f32, samples: usize, size: usize) -> std::ops::Range<usize> {
    if length <= 0.0 {
        return 0..samples;
    }
    let sample_of = |position: f32| (position - bin_start) / length * samples as f32;
    let (first, last) = (sample_of(-1.0) - 2.0, sample_of(size as f32) + 2.0);
    first.max(0.0) as usize..(last.max(0.0) as usize).min(samples)
}

impl RoiAlign {
    /// Values of a region in the output.
    fn values(&self) -> usize {
        self.output[0] * self.output[1] * self.channels
    }

    /// The regions of a level that cover any of its pixels, in order.
    pub fn regions(&self, level: usize, rois: &[Roi]) -> Vec<Region> {
        let RoiLevel { height, width, scale } = self.levels[level];
        let side = |[start, end]: [f32; 2], bins, size| {
            let ends = [start * scale - 0.5, end * scale - 0.5];
            BinWeights::new(ends, bins, self.sampling_ratio, size)
        };
        let of_level = rois.iter().enumerate().filter(|(_, roi)| roi.level == level);
        let regions = of_level.map(|(index, &Roi { image, bbox: [x0, y0, x1, y1], .. })| {
            let rows = side([y0, y1], self.output[0], height);
            Region { index, image, rows, cols: side([x0, x1], self.output[1], width) }
        });
        regions.filter(|region| region.rows.pixels * region.cols.pixels > 0).collect()
    }
}

/// `[R, output[0], output[1], C]` from the maps of all levels; zeros where a region is beside its map.
pub fn forward(align: &RoiAlign, maps: &[Buffer], rois: &[Roi]) -> Result<Buffer> {
    let _span = profile::kernel("RoIAlign");
    let mut regions: Vec<Option<Region>> = rois.iter().map(|_| None).collect();
    for level in 0..maps.len() {
        for region in align.regions(level, rois) {
            let index = region.index;
            regions[index] = Some(region);
        }
    }
    let mut y = Buffer::unspecified(rois.len() * align.values());
    let parts = (y.par_chunks_mut(align.values()), rois, regions).into_par_iter();
    parts.for_each(|(y, roi, region)| {
        y.fill(0.0);
        let (level, map) = (align.levels[roi.level], &maps[roi.level]);
        assert_eq!(map.len(), align.batch * level.height * level.width * align.channels);
        if let Some(region) = region {
            vectorized(|| sample(y, map, level, &region, align));
        }
    });
    Ok(y)
}

/// Adds to the bins of a region, `[output[0], output[1], C]`.
#[inline(always)]
fn sample(y: &mut [f32], map: &[f32], level: RoiLevel, region: &Region, align: &RoiAlign) {
    let Region { image, rows, cols, .. } = region;
    let (channels, line) = (align.channels, level.width * align.channels);
    let mut sum = vec![0.0; cols.pixels * channels];
    for (row, y) in y.chunks_exact_mut(align.output[1] * channels).enumerate() {
        sum.fill(0.0);
        for (pixel, weight) in rows.of_bin(row) {
            let start = (image * level.height + rows.start + pixel) * line + cols.start * channels;
            add_scaled(&mut sum, &map[start..], weight);
        }
        for (bin, y) in y.chunks_exact_mut(channels).enumerate() {
            for (pixel, weight) in cols.of_bin(bin) {
                add_scaled(y, &sum[pixel * channels..], weight);
            }
        }
    }
}

/// The gradients of the maps from that of the output: each line of a map gathers from the regions that cover it, in their order.
pub fn backward(align: &RoiAlign, grad: &[f32], rois: &[Roi]) -> Result<Vec<Buffer>> {
    let _span = profile::kernel("RoIAlign gradient");
    assert_eq!(grad.len(), rois.len() * align.values());
    let of_level = |(number, &level): (usize, &RoiLevel)| {
        let regions = align.regions(number, rois);
        let line = level.width * align.channels;
        let mut grad_map = Buffer::unspecified(align.batch * level.height * line);
        grad_map.par_chunks_mut(line).enumerate().for_each(|(index, grad_line)| {
            grad_line.fill(0.0);
            let (image, row) = (index / level.height, index % level.height);
            for region in regions.iter().filter(|region| region.image == image) {
                let grad = &grad[region.index * align.values()..][..align.values()];
                vectorized(|| scatter(grad_line, grad, region, row, align));
            }
        });
        grad_map
    };
    Ok(align.levels.iter().enumerate().map(of_level).collect())
}

/// Adds the gradient of a region's bins, `[output[0], output[1], C]`, to one line of its map.
#[inline(always)]
fn scatter(grad_line: &mut [f32], grad: &[f32], region: &Region, row: usize, align: &RoiAlign) {
    let (channels, width) = (align.channels, align.output[1] * align.channels);
    let mut of_row = region.rows.of_pixel(row).peekable();
    if of_row.peek().is_none() {
        return;
    }
    let mut sum = vec![0.0; width];
    for (bin, weight) in of_row {
        add_scaled(&mut sum, &grad[bin * width..], weight);
    }
    let grad_line = &mut grad_line[region.cols.start * channels..];
    for (bin, sum) in sum.chunks_exact(channels).enumerate() {
        for (pixel, weight) in region.cols.of_bin(bin) {
            add_scaled(&mut grad_line[pixel * channels..][..channels], sum, weight);
        }
    }
}

/// `y += weight * x`, for as many values as `y` has.
#[inline(always)]
fn add_scaled(y: &mut [f32], x: &[f32], weight: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += weight * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_of_two_pixels_has_two_samples_and_a_border_repeats_its_pixel() {
        // From 0.5 to 4.5 in two bins: samples at 1 and 2, then at 3 and 4.
        let bins = BinWeights::new([0.5, 4.5], 2, 0, 5);
        assert_eq!((bins.start, bins.pixels), (1, 4));
        assert_eq!(bins.weights, [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(bins.of_pixel(3).collect::<Vec<_>>(), [(1, 0.5)]);
        assert_eq!(bins.of_pixel(5).count() + bins.of_pixel(0).count(), 0);
        // Samples at -1.5, -0.5 and 0.5: up to a pixel before the map is its first pixel, what is farther away is 0.
        let bins = BinWeights::new([-2.0, 1.0], 3, 1, 5);
        assert_eq!((bins.start, bins.pixels, &bins.weights[..]), (0, 2, &[0.0, 0.0, 1.0, 0.0, 0.5, 0.5][..]));
    }

    #[test]
    fn a_huge_region_takes_no_longer_than_its_map() {
        let bins = BinWeights::new([-1e9, 1e9], 7, 0, 3);
        assert!(bins.start + bins.pixels <= 3);
        assert!(bins.weights.iter().all(|&weight| weight < 1e-6));
        assert!(BinWeights::new([0.0, f32::MAX], 1, 0, 3).pixels <= 3);
    }
}
