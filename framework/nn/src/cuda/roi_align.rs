//! Bilinear samples of regions of interest in maps `[B, H, W, C]`, averaged over bins.

use cudarc::driver::CudaSlice;

use super::buffer::{unspecified, upload_plain, upload_slice, zeros};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;
use crate::cpu::roi_align::Region;

pub use crate::cpu::roi_align::{Roi, RoiAlign, RoiLevel};

static KERNELS: Source = source!("roi_align");

/// `[R, output[0], output[1], C]` from the maps of all levels; zeros where a region is beside its map.
pub fn forward(align: &RoiAlign, maps: &[Buffer], rois: &[Roi]) -> Result<Buffer> {
    let ([rows, cols], channels) = (align.output, align.channels);
    let y = zeros(rois.len() * rows * cols * channels)?;
    for (number, (map, &RoiLevel { height, width, .. })) in maps.iter().zip(&align.levels).enumerate() {
        assert_eq!(map.len(), align.batch * height * width * channels);
        let regions = align.regions(number, rois);
        let count = regions.len() * rows * cols * channels;
        let (regions, weights) = upload_regions(&regions)?;
        let arguments = arguments![y, *map, regions, weights, height, width, rows, cols, channels, count];
        KERNELS.launch("roi_align", Grid::elements(count), arguments)?;
    }
    Ok(y)
}

/// The gradients of the maps from that of the output: each pixel gathers from the regions that cover it, in their order.
pub fn backward(align: &RoiAlign, grad: &Values, rois: &[Roi]) -> Result<Vec<Buffer>> {
    let ([rows, cols], channels) = (align.output, align.channels);
    assert_eq!(grad.len(), rois.len() * rows * cols * channels);
    let of_level = |(number, &RoiLevel { height, width, .. }): (usize, &RoiLevel)| {
        let regions = align.regions(number, rois);
        let (starts, covering) = by_line(&regions, align.batch, height);
        let (starts, covering) = (upload_plain(&starts)?, upload_plain(&covering)?);
        let (regions, weights) = upload_regions(&regions)?;
        let grad_map = unspecified(align.batch * height * width * channels)?;
        let arguments = arguments![
            grad_map,
            *grad,
            regions,
            weights,
            starts,
            covering,
            height,
            width,
            rows,
            cols,
            channels,
            grad_map.len()
        ];
        KERNELS.launch("roi_align_grad", Grid::elements(grad_map.len()), arguments)?;
        Ok(grad_map)
    };
    align.levels.iter().enumerate().map(of_level).collect()
}

/// The regions as the kernels read them, 8 numbers each, and all weights.
fn upload_regions(regions: &[Region]) -> Result<(CudaSlice<u32>, Buffer)> {
    let (mut records, mut weights) = (Vec::new(), Vec::new());
    for Region { index, image, rows, cols } in regions {
        records.extend([*index, *image]);
        for side in [rows, cols] {
            records.extend([side.start, side.pixels, weights.len()]);
            weights.extend_from_slice(&side.weights);
        }
    }
    let records: Vec<u32> = records.into_iter().map(|number| number as u32).collect();
    Ok((upload_plain(&records)?, upload_slice(&weights)?))
}

/// Where the regions that cover each line of a map start, `[lines + 1]`, and these regions, one line's behind the other's.
fn by_line(regions: &[Region], batch: usize, height: usize) -> (Vec<u32>, Vec<u32>) {
    let mut lines = vec![Vec::new(); batch * height];
    for (number, Region { image, rows, .. }) in (0..).zip(regions) {
        for line in &mut lines[image * height + rows.start..][..rows.pixels] {
            line.push(number);
        }
    }
    let ends = lines.iter().scan(0, |end, line| {
        *end += line.len() as u32;
        Some(*end)
    });
    (std::iter::once(0).chain(ends).collect(), lines.concat())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::roi_align as cpu;
    use crate::testing::noise;

    #[test]
    fn regions_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "products are added without rounding");
        for (count, output, sampling_ratio, channels) in
            [(0, [7, 7], 0, 3), (9, [2, 3], 0, 1), (60, [7, 7], 2, 33)]
        {
            let levels = [(24, 20, 0.5), (12, 10, 0.25)];
            let levels = levels.map(|(height, width, scale)| RoiLevel { height, width, scale }).to_vec();
            let align = RoiAlign { levels, batch: 2, channels, output, sampling_ratio };
            let roi = |i: usize| {
                let [x, y] = [(i * 7 % 60) as f32 - 9.0, (i * 11 % 50) as f32 - 5.0];
                Roi { level: i % 2, image: i / 2 % 2, bbox: [x, y, x + i as f32, y + 12.5] }
            };
            let rois: Vec<Roi> = (0..count).map(roi).collect();
            let maps = [2 * 24 * 20 * channels, 2 * 12 * 10 * channels].map(|len| noise(1, len));
            let grad = noise(2, count * output[0] * output[1] * channels);
            let (of_card, of_cpu) = (maps.each_ref().map(|map| on_card(map)), maps.map(Into::into));
            let y = forward(&align, &of_card, &rois).unwrap();
            case.same(&y, &cpu::forward(&align, &of_cpu, &rois).unwrap());
            let grads = backward(&align, &on_card(&grad), &rois).unwrap();
            for (grad, expected) in grads.iter().zip(cpu::backward(&align, &grad, &rois).unwrap()) {
                case.same(grad, &expected);
            }
        }
    }
}
