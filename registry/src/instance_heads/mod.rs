//! Instance heads: the links of Mask R-CNN (He et al. 2017).

mod box_head;
mod mask_head;
mod rpn;
#[cfg(test)]
mod tests;

pub use box_head::BoxHead;
pub use mask_head::MaskHead;
pub use rpn::Rpn;

use convmae_framework::component::{Features, InstanceHeadInputs, Level, LevelShape, Problem};
use convmae_framework::nn::{self, Error, Init, Scope, Tensor};

use crate::detection::conv::{Norm, NormConv2d};
use crate::detection::roi_pooler::RoiPooler;

/// How many regions of an image come in, and a pooler of the levels, for a head that pools regions.
fn pooling(
    inputs: &InstanceHeadInputs,
    output_size: usize,
    sampling_ratio: usize,
) -> Result<(usize, RoiPooler), Problem> {
    let regions = inputs.regions.ok_or_else(|| {
        Problem::new("from", "no instance head comes before it, whose regions it needs")
            .help("name one beside the levels, such as `from: [neck, rpn]`")
    })?;
    let strides: Vec<usize> = inputs.levels.iter().map(|level| level.stride).collect();
    let doubles = |pair: &[usize]| pair[1] == 2 * pair[0];
    if !strides.iter().all(|stride| stride.is_power_of_two()) || !strides.windows(2).all(doubles) {
        return Err(Problem::new("from", format!("its levels have the strides {strides:?}"))
            .help("regions are pooled from levels of which each has twice the stride of the one before: 4, 8, 16, ..."));
    }
    Ok((regions, RoiPooler { output_size, strides, sampling_ratio }))
}

/// The channels of the levels, which are the same of all.
fn channels_of(inputs: &InstanceHeadInputs) -> Result<usize, Problem> {
    let [first, others @ ..] = inputs.levels.as_slice() else {
        return Err(Problem::new("from", "no features reach this head").help("name a neck"));
    };
    match others.iter().find(|level| level.channels != first.channels) {
        None => Ok(first.channels),
        Some(LevelShape { name, channels, .. }) => Err(Problem::new(
            "from",
            format!("level `{}` has {} channels, level `{name}` {channels}", first.name, first.channels),
        )
        .help("take the levels of a neck: `Fpn` makes them alike")),
    }
}

/// 3x3 convolutions with `ReLU` on maps of some channels, called `<name>1` and so on, and the channels of the last.
fn tower(
    scope: &Scope,
    name: &str,
    channels: usize,
    dims: &[usize],
    norm: Norm,
    sync: bool,
) -> (Vec<NormConv2d>, usize) {
    let mut inputs = channels;
    let conv = |(at, &outputs): (usize, &usize)| {
        let (scope, init) = (scope.child(format!("{name}{}", at + 1)), Init::kaiming_normal(outputs * 9));
        let inputs = std::mem::replace(&mut inputs, outputs);
        NormConv2d::new(&scope, inputs, outputs, 3, norm, &init).sync(sync).relu()
    };
    let convs = dims.iter().enumerate().map(conv).collect();
    (convs, inputs)
}

/// The maps of the levels, `[B, H, W, C]` each.
fn maps(features: &Features) -> nn::Result<Vec<Tensor>> {
    features.levels.iter().map(Level::maps).collect()
}

/// An error with the name of the image that it is about.
fn of_image(id: &str) -> impl Fn(Error) -> Error + '_ {
    move |error| Error::Value(format!("{id}: {error}"))
}
