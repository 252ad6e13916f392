//! The feature pyramid of `ViTDet`.

use convmae_framework::component::{Features, ImageShape, LevelShape, Macs, Neck, NeckModule, Problem};
use convmae_framework::nn::layers::{ConvTranspose2d, LayerNorm, Window};
use convmae_framework::nn::ops::{self, Gelu, Sequential};
use convmae_framework::nn::{Context, Error, Init, Result, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{pyramid, pyramid_level, pyramid_levels};
use crate::detection::conv::{Norm, NormConv2d};

/// A pyramid of maps with the same channels from ONE level: 4 times and twice as fine by transposed
/// convolutions, as it is, and half as fine by the largest of 2x2 positions; each followed by a 1x1 and a 3x3
/// convolution with LayerNorm. One more level is every other position of the last (`SimpleFeaturePyramid` of
/// detectron2; Li et al. 2022).
///
/// Yields `p2` to `p6` for a level of stride 16.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimpleFeaturePyramid {
    /// Channels of all its levels.
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
}

impl Default for SimpleFeaturePyramid {
    fn default() -> Self {
        Self { channels: 256 }
    }
}

#[typetag::serde]
impl Neck for SimpleFeaturePyramid {
    fn build(
        &self,
        scope: &Scope,
        _: ImageShape,
        levels: &[LevelShape],
    ) -> std::result::Result<Box<dyn NeckModule>, Problem> {
        let [input] = levels else {
            let names: Vec<_> = levels.iter().map(|level| format!("`{}`", level.name)).collect();
            return Err(Problem::new(
                "from",
                format!("it takes one level, not {}: {}", levels.len(), names.join(", ")),
            )
            .help("name the level, as in `from: backbone.s3`"));
        };
        let level = pyramid_level(input, self.channels)?;
        if level.stride < 4 || input.channels < 4 || level.rows.min(level.cols) < 2 {
            let message = format!(
                "level `{}` of stride {}, {} channels and {} x {} positions cannot be made 4 times as fine and half as fine",
                input.name, level.stride, input.channels, level.rows, level.cols
            );
            return Err(Problem::new("from", message));
        }
        let stages = [2, 1, 0, -1].map(|steps| Stage::new(scope, steps, input.channels, &level));
        Ok(Box::new(SimpleFeaturePyramidModule { stages, positions: level.positions() }))
    }
}

convmae_framework::register!(Neck: SimpleFeaturePyramid);

/// What makes one level of the input.
struct Stage {
    /// How often the input becomes twice as fine; half as fine where negative.
    steps: i32,
    deconvs: Vec<ConvTranspose2d>,
    /// Between two transposed convolutions.
    norm: Option<LayerNorm>,
    convs: [NormConv2d; 2],
    level: LevelShape,
}

/// `size` doubled so often, or halved.
fn doubled(size: usize, steps: i32) -> usize {
    if steps < 0 { size >> -steps } else { size << steps }
}

impl Stage {
    /// From so many channels; `input` is the level of the pyramid that is as fine as the input.
    fn new(scope: &Scope, steps: i32, inputs: usize, input: &LevelShape) -> Self {
        let (rows, cols) = (doubled(input.rows, steps), doubled(input.cols, steps));
        let stride = doubled(input.stride, -steps);
        let name = format!("p{}", stride.ilog2());
        let level = LevelShape { name, rows, cols, kept: rows * cols, stride, ..input.clone() };
        let scope = scope.child(format!("simfp_{}", stride.ilog2()));
        let deconv = |at: usize, inputs: usize| ConvTranspose2d::new(&scope.child(at), inputs, inputs / 2, 2);
        // The numbers are those of a `Sequential` that also holds GELU and max pooling.
        let (deconvs, norm, first) = match steps {
            2 => {
                let norm = LayerNorm::new(&scope.child(1), inputs / 2, 1e-6);
                (vec![deconv(0, inputs), deconv(3, inputs / 2)], Some(norm), 4)
            }
            1 => (vec![deconv(0, inputs)], None, 1),
            0 => (Vec::new(), None, 0),
            _ => (Vec::new(), None, 1),
        };
        let inputs = inputs >> deconvs.len();
        let conv = |at: usize, inputs: usize, kernel: usize| {
            let init = Init::kaiming_uniform(inputs * kernel * kernel);
            NormConv2d::new(&scope.child(at), inputs, level.channels, kernel, Norm::Layer, &init)
        };
        let convs = [conv(first, inputs, 1), conv(first + 1, level.channels, 3)];
        Self { steps, deconvs, norm, convs, level }
    }

    fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        let x = match self.steps {
            ..0 => ops::max_pool2d(x, 2, Window { stride: 2, ..Window::default() })?,
            _ => x,
        };
        let mut layers = Sequential::new();
        for (at, deconv) in self.deconvs.iter().enumerate() {
            layers = layers.then(deconv.clone());
            if let (0, Some(norm)) = (at, &self.norm) {
                layers = layers.then(norm.clone()).then(Gelu);
            }
        }
        layers.then_all(self.convs.iter().map(NormConv2d::layers)).forward(x, ctx)
    }

    /// Of one image, from so many positions of the input.
    fn macs(&self, positions: usize) -> u64 {
        // Each transposed convolution makes four positions of one.
        let deconvs = self.deconvs.iter().enumerate();
        let deconvs: u64 = deconvs.map(|(at, deconv)| deconv.macs(positions << (2 * at))).sum();
        deconvs + self.convs.iter().map(|conv| conv.macs(self.level.positions())).sum::<u64>()
    }
}

struct SimpleFeaturePyramidModule {
    stages: [Stage; 4],
    /// Of the input.
    positions: usize,
}

impl NeckModule for SimpleFeaturePyramidModule {
    fn levels(&self) -> Vec<LevelShape> {
        pyramid_levels(self.stages.iter().map(|stage| &stage.level))
    }

    fn macs(&self) -> Macs {
        Macs::same(self.stages.iter().map(|stage| stage.macs(self.positions)).sum())
    }

    fn forward(&self, features: &Features, ctx: &Context) -> Result<Features> {
        let none = || Error::Value("no features reach this neck".to_owned());
        let map = features.levels.first().ok_or_else(none)?.maps()?;
        let maps = self.stages.iter().map(|stage| stage.forward(map.clone(), ctx)).collect::<Result<_>>()?;
        pyramid(&self.levels(), maps)
    }
}
