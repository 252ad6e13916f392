//! Necks: features to features.

mod feature_2_pyramid;
mod fpn;
mod simple_feature_pyramid;
#[cfg(test)]
mod tests;

pub use feature_2_pyramid::Feature2Pyramid;
pub use fpn::Fpn;
pub use simple_feature_pyramid::SimpleFeaturePyramid;

use convmae_framework::component::{Features, Level, LevelShape, Problem};
use convmae_framework::nn::layers::Window;
use convmae_framework::nn::{Result, Tensor, ops};

/// A level of a pyramid from a map whose positions are as far apart: `p2` for a stride of 4, and so on.
fn pyramid_level(like: &LevelShape, channels: usize) -> std::result::Result<LevelShape, Problem> {
    let LevelShape { name, rows, cols, kept, cell, stride, .. } = like;
    if *kept != rows * cols {
        return Err(Problem::new("from", format!("level `{name}` is masked: it holds a part of each image"))
            .help("remove the masker from the model, and the `from` of the backbone that names it"));
    }
    if !stride.is_power_of_two() {
        let message = format!("the stride of level `{name}` is {stride}, which is no power of 2");
        return Err(Problem::new("from", message).help("levels of a pyramid are named by it: 4 is `p2`"));
    }
    let (rows, cols) = (rows * cell, cols * cell);
    Ok(LevelShape {
        name: format!("p{}", stride.ilog2()),
        rows,
        cols,
        kept: rows * cols,
        cell: 1,
        prefix_tokens: 0,
        channels,
        stride: *stride,
    })
}

/// The level behind the last one of a pyramid, every other position of it (`LastLevelMaxPool` of detectron2).
fn subsampled_level(last: &LevelShape) -> LevelShape {
    let (rows, cols, stride) = (last.rows.div_ceil(2), last.cols.div_ceil(2), 2 * last.stride);
    let name = format!("p{}", stride.ilog2());
    LevelShape { name, rows, cols, kept: rows * cols, stride, ..last.clone() }
}

/// All levels of a pyramid: its own, and the [`subsampled_level`].
fn pyramid_levels<'a>(own: impl Iterator<Item = &'a LevelShape>) -> Vec<LevelShape> {
    let mut levels: Vec<_> = own.cloned().collect();
    levels.extend(levels.last().map(subsampled_level));
    levels
}

/// The features of a pyramid from the maps `[B, H, W, C]` of all levels but the last, which is
/// [`subsampled_level`].
fn pyramid(levels: &[LevelShape], mut maps: Vec<Tensor>) -> Result<Features> {
    if let Some(last) = maps.last().cloned() {
        maps.push(ops::max_pool2d(last, 1, Window { stride: 2, ..Window::default() })?);
    }
    let level = |(shape, map): (&LevelShape, Tensor)| -> Result<Level> {
        Ok(Level { shape: shape.clone(), tokens: ops::to_tokens(map)? })
    };
    Ok(Features { levels: levels.iter().zip(maps).map(level).collect::<Result<_>>()?, mask: None })
}
