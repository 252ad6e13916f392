//! Images as rows of pixels: the input of a patch embedding and the target of the reconstruction.

// Loops over a known number of lines become shuffles of vectors where they are inlined.

use rayon::prelude::*;

use super::Buffer;
use super::images::Uploaded;
use crate::{PatchLayout, Result};

/// The pixels under the windows of a convolution with kernel = stride = `k`, at the kept patches only.
///
/// From images `[B, channels, rows * cell * k, cols * cell * k]` to `[B, P * cell * cell, channels * k * k]`, with columns
/// (channel, row, column) as in a flattened weight `[O, channels, k, k]`. A layout of `B * M` takes patches of every image `M` times.
pub fn windows(images: &Uploaded, k: usize, layout: &PatchLayout) -> Result<Buffer> {
    let PatchLayout { rows, cols, cell, kept, .. } = *layout;
    let (batch, channels, height, width) = images.shape.dims4()?;
    assert_eq!((height, width), (rows * cell * k, cols * cell * k));
    let per_image = layout.batch() / batch * kept;
    let (images, row_len) = (&images.values, channels * k * k);
    let mut output = Buffer::unspecified(layout.ids.len() * cell * cell * row_len);
    output.par_chunks_mut(cell * cell * row_len).enumerate().for_each(|(patch, output)| {
        let image = &images[patch / per_image * channels * height * width..][..channels * height * width];
        let id = layout.ids[patch] as usize;
        let (top, left) = (id / cols * cell * k, id % cols * cell * k);
        for (position, output) in output.chunks_exact_mut(row_len).enumerate() {
            let (top, left) = (top + position / cell * k, left + position % cell * k);
            for (line, output) in output.chunks_exact_mut(k).enumerate() {
                let (channel, row) = (line / k, line % k);
                output.copy_from_slice(&image[(channel * height + top + row) * width + left..][..k]);
            }
        }
    });
    Ok(output)
}

/// Images `[B, channels, height, width]` to patches of `p x p` pixels, `[B, L, p * p * channels]`, the index within a patch
/// being `(row * p + column) * channels + channel` (`patchify` of the official `models_convmae.py`).
pub fn patchify(images: &[f32], channels: usize, height: usize, width: usize, p: usize) -> Vec<f32> {
    assert!(height.is_multiple_of(p) && width.is_multiple_of(p));
    assert!(images.len().is_multiple_of(channels * height * width));
    let mut output = vec![0.0; images.len()];
    let cols = width / p;
    output.par_chunks_mut(p * p * channels).enumerate().for_each(|(patch, output)| {
        let (image, patch) = (patch / (height / p * cols), patch % (height / p * cols));
        let (top, left) = (patch / cols * p, patch % cols * p);
        for (y, output) in output.chunks_exact_mut(p * channels).enumerate() {
            let line =
                |channel| &images[((image * channels + channel) * height + top + y) * width + left..][..p];
            if channels == 3 {
                interleave([line(0), line(1), line(2)], output);
                continue;
            }
            for channel in 0..channels {
                for (output, value) in output[channel..].iter_mut().step_by(channels).zip(line(channel)) {
                    *output = *value;
                }
            }
        }
    });
    output
}

/// The inverse of [`patchify`]: patches `[B, L, p * p * channels]` to images `[B, channels, height, width]`.
pub fn unpatchify(patches: &[f32], channels: usize, height: usize, width: usize, p: usize) -> Vec<f32> {
    assert!(height.is_multiple_of(p) && width.is_multiple_of(p));
    assert!(patches.len().is_multiple_of(channels * height * width));
    let mut output = vec![0.0; patches.len()];
    let (rows, cols) = (height / p, width / p);
    output.par_chunks_mut(width).enumerate().for_each(|(line, output)| {
        let (image, channel, y) = (line / height / channels, line / height % channels, line % height);
        for (x, output) in output.iter_mut().enumerate() {
            let patch = (image * rows + y / p) * cols + x / p;
            *output = patches[((patch * p + y % p) * p + x % p) * channels + channel];
        }
    });
    output
}

/// Joins `k x k` positions of each patch into one row.
///
/// From `[B * P, cell * cell, channels]` to `[B * P, (cell / k)^2, channels * k * k]`, with columns (channel, row, column): a
/// convolution with kernel = stride = `k` is then a product with its flattened weight.
pub fn merge_cells(x: &[f32], channels: usize, cell: usize, k: usize) -> Result<Buffer> {
    let mut output = Buffer::unspecified(x.len());
    let groups = Groups { channels, cell, k };
    groups.each_patch(x, &mut output, |x, output| match k * k {
        4 => merge_patch::<4>(groups, x, output),
        16 => merge_patch::<16>(groups, x, output),
        taps => groups.each_position(|position, group, tap| {
            let values = output[group..].iter_mut().skip(tap).step_by(taps);
            for (output, x) in values.zip(&x[position..][..channels]) {
                *output = *x;
            }
        }),
    });
    Ok(output)
}

/// The inverse of [`merge_cells`], which is also its backward.
pub fn split_cells(merged: &[f32], channels: usize, cell: usize, k: usize) -> Result<Buffer> {
    let mut output = Buffer::unspecified(merged.len());
    let groups = Groups { channels, cell, k };
    groups.each_patch(merged, &mut output, |merged, output| match k * k {
        4 => split_patch::<4>(groups, merged, output),
        16 => split_patch::<16>(groups, merged, output),
        taps => groups.each_position(|position, group, tap| {
            let values = merged[group..].iter().skip(tap).step_by(taps);
            for (output, merged) in output[position..][..channels].iter_mut().zip(values) {
                *output = *merged;
            }
        }),
    });
    Ok(output)
}

/// Patches whose positions come in groups of `k x k`.
#[derive(Clone, Copy)]
struct Groups {
    channels: usize,
    cell: usize,
    k: usize,
}

impl Groups {
    fn each_patch(self, from: &[f32], to: &mut [f32], copy: impl Fn(&[f32], &mut [f32]) + Sync) {
        let Self { channels, cell, k } = self;
        let patch = cell * cell * channels;
        assert!(cell.is_multiple_of(k) && from.len().is_multiple_of(patch));
        from.par_chunks(patch).zip(to.par_chunks_mut(patch)).for_each(|(from, to)| copy(from, to));
    }

    /// Calls `copy` for every position of a patch: where its channels start, where the values of its group start, and which of
    /// the group's positions it is.
    #[inline(always)]
    fn each_position(self, mut copy: impl FnMut(usize, usize, usize)) {
        let Self { channels, cell, k } = self;
        for position in 0..cell * cell {
            let (row, col) = (position / cell, position % cell);
            let group = row / k * (cell / k) + col / k;
            copy(position * channels, group * k * k * channels, row % k * k + col % k);
        }
    }

    /// Where the channels of the positions of a group start, group by group.
    #[inline(always)]
    fn each_group<const TAPS: usize>(self, mut copy: impl FnMut(usize, [usize; TAPS])) {
        let Self { channels, cell, k } = self;
        for group in 0..cell * cell / TAPS {
            let (top, left) = (group / (cell / k) * k, group % (cell / k) * k);
            let mut positions = [0; TAPS];
            for (tap, position) in positions.iter_mut().enumerate() {
                *position = ((top + tap / k) * cell + left + tap % k) * channels;
            }
            copy(group * TAPS * channels, positions);
        }
    }
}

/// Lines of equal length as the columns of a row-major matrix, `[length, N]`.
#[inline(always)]
fn interleave<const N: usize>(lines: [&[f32]; N], output: &mut [f32]) {
    let (rows, _) = output.as_chunks_mut::<N>();
    for (at, row) in rows.iter_mut().enumerate() {
        for (value, line) in row.iter_mut().zip(lines) {
            *value = line[at];
        }
    }
}

#[inline(always)]
fn merge_patch<const TAPS: usize>(groups: Groups, x: &[f32], output: &mut [f32]) {
    groups.each_group::<TAPS>(|group, positions| {
        let lines = positions.map(|position| &x[position..][..groups.channels]);
        interleave(lines, &mut output[group..][..TAPS * groups.channels]);
    });
}

#[inline(always)]
fn split_patch<const TAPS: usize>(groups: Groups, merged: &[f32], output: &mut [f32]) {
    groups.each_group::<TAPS>(|group, positions| {
        let (merged, _) = merged[group..][..TAPS * groups.channels].as_chunks::<TAPS>();
        for (tap, position) in positions.into_iter().enumerate() {
            let line = &mut output[position..][..groups.channels];
            for (output, merged) in line.iter_mut().zip(merged) {
                *output = merged[tap];
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn images(values: Vec<f32>, shape: (usize, usize, usize, usize)) -> Uploaded {
        Uploaded { values: values.into(), shape: shape.into() }
    }

    fn ramp(len: usize) -> Vec<f32> {
        (0..len).map(|i| i as f32).collect()
    }

    #[test]
    fn a_window_holds_its_pixels_in_the_order_of_a_flattened_weight() {
        // 2 channels, 4 x 4 pixels, 2 x 2 patches of one 2 x 2 window each; patch 2 is the lower left one.
        let layout = PatchLayout::new(2, 2, 1, 1, vec![2]).unwrap();
        let rows = windows(&images(ramp(32), (1, 2, 4, 4)), 2, &layout).unwrap();
        assert_eq!(rows[..], [8.0, 9.0, 12.0, 13.0, 24.0, 25.0, 28.0, 29.0]);
    }

    #[test]
    fn patches_of_an_image_are_taken_as_often_as_there_are_selections_of_them() {
        let images = images(ramp(2 * 3 * 8 * 8), (2, 3, 8, 8));
        let layout = PatchLayout::new(2, 2, 2, 1, vec![3, 1, 0, 2]).unwrap();
        let taken = windows(&images, 2, &layout).unwrap();
        let whole = windows(&images, 2, &PatchLayout::dense(2, 2, 2, 2)).unwrap();
        let patches: Vec<&[f32]> = whole.chunks_exact(4 * 12).collect();
        assert_eq!(taken[..], [patches[3], patches[1], patches[4], patches[4 + 2]].concat());
    }

    #[test]
    fn patchify_puts_the_channel_last() {
        let patches = patchify(&ramp(3 * 4 * 4), 3, 4, 4, 2);
        assert_eq!(patches[..6], [0.0, 16.0, 32.0, 1.0, 17.0, 33.0]);
        assert_eq!(patches[12..15], [2.0, 18.0, 34.0]);
    }

    #[test]
    fn merged_cells_are_ordered_as_a_flattened_weight() {
        // One patch of 2 x 2 positions with channels (c, 10 + c).
        let merged = merge_cells(&[0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0], 2, 2, 2).unwrap();
        assert_eq!(merged[..], [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    }

    #[test]
    fn windows_of_the_whole_image_are_the_merged_windows_of_its_pixels() {
        // A window of 4 pixels at cell 2 is a merge of 4 x 4 windows of 1 pixel at cell 8.
        let (rows, cols) = (2, 3);
        let images = images(ramp(2 * 3 * rows * 8 * cols * 8), (2, 3, rows * 8, cols * 8));
        let fine = windows(&images, 1, &PatchLayout::dense(2, rows, cols, 8)).unwrap();
        let coarse = windows(&images, 4, &PatchLayout::dense(2, rows, cols, 2)).unwrap();
        assert_eq!(merge_cells(&fine, 3, 8, 4).unwrap()[..], coarse[..]);
    }

    proptest! {
        #[test]
        fn unpatchify_inverts_patchify(
            batch in 1usize..3, channels in 1usize..4, rows in 1usize..4, cols in 1usize..4, p in 1usize..5,
        ) {
            let (height, width) = (rows * p, cols * p);
            let images = ramp(batch * channels * height * width);
            let patches = patchify(&images, channels, height, width, p);
            prop_assert_eq!(unpatchify(&patches, channels, height, width, p), images);
        }

        #[test]
        fn split_cells_inverts_merge_cells(
            patches in 1usize..4, channels in 1usize..5, k in 1usize..6, groups in 1usize..3,
        ) {
            let cell = k * groups;
            let x = ramp(patches * cell * cell * channels);
            let merged = merge_cells(&x, channels, cell, k).unwrap();
            prop_assert_eq!(split_cells(&merged, channels, cell, k).unwrap().into_vec(), x.clone());
            let mut sorted = merged.into_vec();
            sorted.sort_by(f32::total_cmp);
            prop_assert_eq!(sorted, x);
        }
    }
}
