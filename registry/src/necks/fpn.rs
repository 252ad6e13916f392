//! The feature pyramid network.

use convmae_framework::component::{
    Features, ImageShape, Level, LevelShape, Macs, Neck, NeckModule, Problem,
};
use convmae_framework::nn::{Context, Init, Result, Scope, Tensor, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{pyramid, pyramid_level, pyramid_levels};
use crate::detection::conv::{Norm, NormConv2d};

/// A pyramid of maps with the same channels: of each level a 1x1 convolution, plus what the coarser levels
/// give there, enlarged by nearest neighbours; then a 3x3 convolution. One more level is every other position
/// of the last (Lin et al. 2017; `FPN` of detectron2).
///
/// Yields `p2` for the level of stride 4, and so on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fpn {
    /// Channels of all its levels.
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
    /// What follows each convolution.
    pub norm: Norm,
    /// Whether the statistics of BatchNorm are shared among processes (`SyncBN`). A single process has none
    /// to share them with.
    pub sync: bool,
}

impl Default for Fpn {
    fn default() -> Self {
        Self { channels: 256, norm: Norm::None, sync: false }
    }
}

#[typetag::serde]
impl Neck for Fpn {
    fn build(
        &self,
        scope: &Scope,
        _: ImageShape,
        levels: &[LevelShape],
    ) -> std::result::Result<Box<dyn NeckModule>, Problem> {
        let Self { channels, norm, sync } = *self;
        if let Some([finer, coarser]) =
            levels.array_windows().find(|[finer, coarser]| coarser.stride != 2 * finer.stride)
        {
            let message = format!(
                "level `{}` of stride {} follows `{}` of stride {}: each level is half as fine as the one before",
                coarser.name, coarser.stride, finer.name, finer.stride
            );
            return Err(Problem::new("from", message));
        }
        let stage = |level: &LevelShape| -> std::result::Result<Stage, Problem> {
            let output = pyramid_level(level, channels)?;
            let conv = |name: &str, inputs: usize, kernel: usize| {
                let scope = scope.child(format!("fpn_{name}{}", output.stride.ilog2()));
                let init = Init::c2_xavier(inputs * kernel * kernel);
                NormConv2d::new(&scope, inputs, channels, kernel, norm, &init).sync(sync)
            };
            let (lateral, output_conv) = (conv("lateral", level.channels, 1), conv("output", channels, 3));
            Ok(Stage { lateral, output: output_conv, level: output })
        };
        let stages = levels.iter().map(stage).collect::<std::result::Result<Vec<_>, _>>()?;
        if stages.is_empty() {
            return Err(Problem::new("from", "no features reach this neck").help("name a backbone"));
        }
        Ok(Box::new(FpnModule { stages }))
    }
}

convmae_framework::register!(Neck: Fpn);

/// What is done with one level.
struct Stage {
    lateral: NormConv2d,
    output: NormConv2d,
    /// What comes out.
    level: LevelShape,
}

struct FpnModule {
    /// Finest first.
    stages: Vec<Stage>,
}

impl NeckModule for FpnModule {
    fn levels(&self) -> Vec<LevelShape> {
        pyramid_levels(self.stages.iter().map(|stage| &stage.level))
    }

    fn macs(&self) -> Macs {
        let of_stage = |Stage { lateral, output, level }: &Stage| {
            lateral.macs(level.positions()) + output.macs(level.positions())
        };
        Macs::same(self.stages.iter().map(of_stage).sum())
    }

    fn forward(&self, features: &Features, ctx: &Context) -> Result<Features> {
        let maps = features.levels.iter().map(Level::maps).collect::<Result<Vec<_>>>()?;
        let mut coarser: Option<Tensor> = None;
        let mut outputs = Vec::with_capacity(maps.len() + 1);
        for (Stage { lateral, output, level }, map) in self.stages.iter().zip(maps).rev() {
            let lateral = lateral.forward(map, ctx)?;
            let sum = match coarser.take() {
                Some(coarser) => ops::add(lateral, ops::resize_nearest(coarser, (level.rows, level.cols))?)?,
                None => lateral,
            };
            outputs.push(output.forward(sum.clone(), ctx)?);
            coarser = Some(sum);
        }
        outputs.reverse();
        pyramid(&self.levels(), outputs)
    }
}
