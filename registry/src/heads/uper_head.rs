//! The head of semantic segmentation.

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, Level, LevelShape, Loss, Macs, Prediction, Problem, Task,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::ConvModule;
use convmae_framework::nn::{self, Context, Scope, Tensor, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pixel_classifier::{PixelClassifier, prediction};
use super::unmasked_levels;
use crate::checks;

/// Tells the class of every pixel from all levels: pyramid pooling of the last one, a feature pyramid from
/// there to the first, and their fusion (`UPerHead` of mmsegmentation; Xiao et al. 2018).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UperHead {
    /// Classes to tell apart: as many as the label maps have.
    #[schemars(range(min = 1, max = 255))]
    pub num_classes: usize,
    /// Channels of all convolutions.
    #[serde(default = "default_channels")]
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
    /// Sides of the grids that the last level is pooled to.
    #[serde(default = "default_pool_scales")]
    #[schemars(inner(range(min = 1, max = 1024)))]
    pub pool_scales: Vec<usize>,
    /// Probability to drop a channel before the classifier, in training.
    #[serde(default = "default_dropout")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f32,
    /// Weight of each class in the loss; 1 if left out (`class_weight` of mmsegmentation's `CrossEntropyLoss`).
    /// The sum over the pixels is divided by their number, whatever they weigh.
    #[serde(default)]
    #[schemars(extend("examples" = [[0.1, 1.0, 1.0]]))]
    pub class_weight: Option<Vec<f32>>,
    /// Whether the statistics of BatchNorm are shared among processes (`SyncBN`). A single process has none
    /// to share them with.
    #[serde(default)]
    pub sync: bool,
}

fn default_channels() -> usize {
    512
}

fn default_pool_scales() -> Vec<usize> {
    vec![1, 2, 3, 6]
}

fn default_dropout() -> f32 {
    0.1
}

#[typetag::serde]
impl Head for UperHead {
    fn task(&self) -> Task {
        Task::Segment { classes: self.num_classes }
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let (last, finer) = unmasked_levels(inputs)?;
        let channels = self.channels;
        let class_weight = checks::class_weight(self.class_weight.as_deref(), self.num_classes)?;
        let module = |scope: &Scope, inputs: usize, kernel: usize| {
            ConvModule::new(scope, inputs, channels, kernel).sync(self.sync)
        };
        let list = |name: &str, kernel: usize, inputs: &dyn Fn(&LevelShape) -> usize| {
            let conv = |(at, level)| module(&scope.child(name).child(at), inputs(level), kernel);
            finer.iter().enumerate().map(conv).collect::<Vec<_>>()
        };
        let pooled = |(at, &side)| {
            let scope = scope.child("psp_modules").child(at).child(1);
            (side, module(&scope, last.channels, 1))
        };
        let stacked = last.channels + self.pool_scales.len() * channels;
        Ok(Box::new(UperModule {
            classifier: PixelClassifier::new(scope, channels, self.num_classes, self.dropout)
                .weighted(class_weight),
            psp_modules: self.pool_scales.iter().enumerate().map(pooled).collect(),
            bottleneck: module(&scope.child("bottleneck"), stacked, 3),
            lateral_convs: list("lateral_convs", 1, &|level| level.channels),
            fpn_convs: list("fpn_convs", 3, &|_| channels),
            fpn_bottleneck: module(&scope.child("fpn_bottleneck"), inputs.levels.len() * channels, 3),
            positions: inputs.levels.iter().map(LevelShape::positions).collect(),
        }))
    }
}

convmae_framework::register!(Head: UperHead);

struct UperModule {
    classifier: PixelClassifier,
    /// For every grid that is pooled to, its side and what follows.
    psp_modules: Vec<(usize, ConvModule)>,
    bottleneck: ConvModule,
    lateral_convs: Vec<ConvModule>,
    fpn_convs: Vec<ConvModule>,
    fpn_bottleneck: ConvModule,
    /// Of every level.
    positions: Vec<usize>,
}

impl UperModule {
    fn logits(&self, features: &Features, ctx: &Context) -> nn::Result<Tensor> {
        let mut maps = features.levels.iter().map(Level::maps).collect::<nn::Result<Vec<_>>>()?;
        let last = maps.pop().ok_or_else(|| nn::Error::Value("no features reach this head".to_owned()))?;
        let mut laterals = Vec::with_capacity(maps.len() + 1);
        for (map, conv) in maps.into_iter().zip(&self.lateral_convs) {
            laterals.push(conv.forward(map, ctx)?);
        }
        laterals.push(self.pyramid_pooling(&last, ctx)?);
        // From the coarsest down each is added to the next finer one, which takes it on.
        for at in (1..laterals.len()).rev() {
            let coarser = ops::resize_bilinear(laterals[at].clone(), size(&laterals[at - 1])?)?;
            laterals[at - 1] = ops::add(laterals[at - 1].clone(), coarser)?;
        }
        let finest = size(&laterals[0])?;
        let fused = laterals.into_iter().enumerate().map(|(at, lateral)| {
            let output = match self.fpn_convs.get(at) {
                Some(conv) => conv.forward(lateral, ctx)?,
                None => lateral,
            };
            ops::resize_bilinear(output, finest)
        });
        let fused = ops::concat_channels(fused.collect::<nn::Result<_>>()?)?;
        self.classifier.logits(self.fpn_bottleneck.forward(fused, ctx)?, ctx)
    }

    /// The level, and what it is on coarser grids, fused.
    fn pyramid_pooling(&self, x: &Tensor, ctx: &Context) -> nn::Result<Tensor> {
        let pooled = self.psp_modules.iter().map(|(side, conv)| {
            let pooled = ops::adaptive_avg_pool2d(x.clone(), (*side, *side))?;
            ops::resize_bilinear(conv.forward(pooled, ctx)?, size(x)?)
        });
        let all = std::iter::once(Ok(x.clone())).chain(pooled).collect::<nn::Result<_>>()?;
        self.bottleneck.forward(ops::concat_channels(all)?, ctx)
    }
}

/// Rows and columns.
fn size(map: &Tensor) -> nn::Result<(usize, usize)> {
    let (_, height, width, _) = map.dims4()?;
    Ok((height, width))
}

impl HeadModule for UperModule {
    fn macs(&self) -> Macs {
        let [finest, last] =
            [self.positions.first(), self.positions.last()].map(|end| end.copied().unwrap_or(0));
        let pooled: u64 = self.psp_modules.iter().map(|(side, conv)| conv.macs(side * side)).sum();
        let by_level = self.lateral_convs.iter().zip(&self.fpn_convs).zip(&self.positions);
        let by_level: u64 =
            by_level.map(|((lateral, fpn), &positions)| lateral.macs(positions) + fpn.macs(positions)).sum();
        let fused = self.fpn_bottleneck.macs(finest) + self.classifier.macs(finest);
        Macs::same(pooled + self.bottleneck.macs(last) + by_level + fused)
    }

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        self.classifier.losses(self.logits(features, ctx)?, batch)
    }

    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Prediction> {
        prediction(self.logits(features, ctx)?, batch)
    }
}
