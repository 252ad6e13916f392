//! The region proposal network.

use convmae_framework::component::{
    Features, Found, InstanceHead, InstanceHeadInputs, InstanceHeadModule, LevelShape, Loss, Macs, Problem,
    Regions,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::{Context, Init, Result, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{channels_of, maps, of_image};
use crate::detection::anchors::AnchorGenerator;
use crate::detection::box_coder::Box2BoxTransform;
use crate::detection::conv::{Norm, NormConv2d};
use crate::detection::losses::{AnchorTargets, rpn_losses};
use crate::detection::matcher::{Label, Matcher};
use crate::detection::proposals::{LevelPredictions, ProposalSelection};
use crate::detection::targets::{Draw, GroundTruth, LabelAndSample};

/// Proposes regions that may hold an object: convolutions that all levels share tell at each position whether
/// anchors hold one, and where it is (`RPN` of detectron2; Ren et al. 2015). Losses: `cls` and `loc`.
///
/// Under the prefix `proposal_generator.rpn_head` it takes the official weights.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rpn {
    /// The roots of the anchors' areas in pixels, one for each level.
    #[schemars(length(min = 1), inner(range(min = 0.001)))]
    pub anchor_sizes: Vec<f64>,
    /// Heights of anchors over their widths.
    #[schemars(length(min = 1), inner(range(min = 0.001)))]
    pub aspect_ratios: Vec<f64>,
    /// How far behind the corner of their cell anchors are centred, in strides.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub anchor_offset: f32,
    /// 3x3 convolutions before the predictions.
    #[schemars(range(min = 1, max = 64))]
    pub num_convs: usize,
    /// Overlaps (IoU) with an object below which an anchor is background, and from which on it is positive.
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub iou_thresholds: [f32; 2],
    /// Anchors of an image that it is trained on.
    #[schemars(range(min = 1))]
    pub batch_size_per_image: usize,
    /// The part of these that is positive at most.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub positive_fraction: f64,
    /// Anchors of a level with the largest logits that are looked at, in training and in evaluation.
    #[schemars(inner(range(min = 1)))]
    pub pre_nms_topk: [usize; 2],
    /// Proposals of an image at most, in training and in evaluation.
    #[schemars(inner(range(min = 1)))]
    pub post_nms_topk: [usize; 2],
    /// Overlap (IoU) above which the better of two proposals of a level suppresses the other.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub nms_thresh: f64,
    /// Difference up to which the loss of deltas is quadratic; at 0 it is L1.
    #[schemars(range(min = 0.0))]
    pub smooth_l1_beta: f32,
}

impl Default for Rpn {
    fn default() -> Self {
        Self {
            anchor_sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            aspect_ratios: vec![0.5, 1.0, 2.0],
            anchor_offset: 0.0,
            num_convs: 1,
            iou_thresholds: [0.3, 0.7],
            batch_size_per_image: 256,
            positive_fraction: 0.5,
            pre_nms_topk: [2000, 1000],
            post_nms_topk: [1000, 1000],
            nms_thresh: 0.7,
            smooth_l1_beta: 0.0,
        }
    }
}

#[typetag::serde]
impl InstanceHead for Rpn {
    fn classes(&self) -> Option<usize> {
        None
    }

    fn build(
        &self,
        scope: &Scope,
        inputs: &InstanceHeadInputs,
    ) -> Result<Box<dyn InstanceHeadModule>, Problem> {
        let channels = channels_of(inputs)?;
        let (levels, sizes) = (inputs.levels.len(), self.anchor_sizes.len());
        if levels != sizes {
            return Err(Problem::new("anchor_sizes", format!("there are {sizes} for {levels} levels"))
                .help("state one for each level"));
        }
        let [low, high] = self.iou_thresholds;
        if low > high {
            return Err(Problem::new("iou_thresholds", format!("{low} is above {high}"))
                .help("[background below, positive from], such as [0.3, 0.7]"));
        }
        let init = Init::Normal { std: 0.01 };
        let anchors = self.aspect_ratios.len();
        let predictor = |name: &str, outputs: usize| {
            NormConv2d::new(&scope.child(name), channels, outputs, 1, Norm::None, &init)
        };
        let conv = |at: usize| {
            let scope = scope.child("conv");
            // A single one has no number in detectron2.
            let scope = if self.num_convs == 1 { scope } else { scope.child(format!("conv{at}")) };
            NormConv2d::new(&scope, channels, channels, 3, Norm::None, &init).relu()
        };
        let cells = inputs.levels.iter().zip(&self.anchor_sizes);
        let cells: Vec<_> = cells.map(|(level, &size)| (vec![size], level.stride)).collect();
        Ok(Box::new(RpnModule {
            convs: (0..self.num_convs).map(conv).collect(),
            objectness_logits: predictor("objectness_logits", anchors),
            anchor_deltas: predictor("anchor_deltas", 4 * anchors),
            anchors: AnchorGenerator::new(&cells, &self.aspect_ratios, self.anchor_offset),
            coder: Box2BoxTransform::new([1.0; 4]),
            sampling: LabelAndSample {
                matcher: Matcher {
                    below: Label::Negative,
                    thresholds: vec![(low, Label::Ignored), (high, Label::Positive)],
                    allow_low_quality_matches: true,
                },
                batch_size_per_image: self.batch_size_per_image,
                positive_fraction: self.positive_fraction,
            },
            levels: inputs.levels.clone(),
            spec: self.clone(),
        }))
    }
}

convmae_framework::register!(InstanceHead: Rpn);

struct RpnModule {
    convs: Vec<NormConv2d>,
    objectness_logits: NormConv2d,
    anchor_deltas: NormConv2d,
    anchors: AnchorGenerator,
    coder: Box2BoxTransform,
    sampling: LabelAndSample,
    levels: Vec<LevelShape>,
    spec: Rpn,
}

/// What is predicted of the anchors of the levels.
struct Predictions {
    /// Of each level `[B, H, W, A]`.
    logits: Vec<Tensor>,
    /// Of each level `[B, H, W, 4 A]`.
    deltas: Vec<Tensor>,
    /// Of each level `[H * W * A]`.
    anchors: Vec<Vec<[f32; 4]>>,
}

impl RpnModule {
    fn predict(&self, features: &Features, ctx: &Context) -> Result<Predictions> {
        let (mut logits, mut deltas, mut anchors) = (Vec::new(), Vec::new(), Vec::new());
        for (level, map) in maps(features)?.into_iter().enumerate() {
            let (_, height, width, _) = map.dims4()?;
            anchors.push(self.anchors.grid_anchors(level, [height, width]));
            let x = self.convs.iter().try_fold(map, |x, conv| conv.forward(x, ctx))?;
            logits.push(self.objectness_logits.forward(x.clone(), ctx)?);
            deltas.push(self.anchor_deltas.forward(x, ctx)?);
            let name = &features.levels[level].shape.name;
            ctx.record(&format!("objectness_logits.{name}"), &logits[level])?;
            ctx.record(&format!("anchor_deltas.{name}"), &deltas[level])?;
        }
        Ok(Predictions { logits, deltas, anchors })
    }

    fn losses(&self, predictions: &Predictions, batch: &Batch, ctx: &Context) -> Result<Vec<Loss>> {
        let anchors = predictions.anchors.concat();
        let images = batch.targets.iter().zip(ctx.image_streams(batch.len())).enumerate();
        let targets = images.map(|(image, (target, mut rng))| {
            let draw = Draw::of(ctx, "rpn", image, anchors.len(), &mut rng)?;
            Ok(self.sampling.anchors(&anchors, &GroundTruth::of(target).boxes, &self.coder, draw))
        });
        let targets: Vec<AnchorTargets> = targets.collect::<Result<_>>()?;
        let normalizer = (self.spec.batch_size_per_image * batch.len()) as f32;
        let Predictions { logits, deltas, .. } = predictions;
        let [cls, loc] = rpn_losses(logits, deltas, &targets, self.spec.smooth_l1_beta, normalizer)?;
        Ok(vec![Loss::new("cls", cls), Loss::new("loc", loc)])
    }

    fn propose(&self, predictions: &Predictions, batch: &Batch, training: bool) -> Result<Vec<Regions>> {
        let mut logits = Tensor::to_vecs(predictions.logits.iter().chain(&predictions.deltas))?;
        let deltas = logits.split_off(predictions.logits.len());
        let phase = usize::from(!training);
        let selection = ProposalSelection {
            pre_nms_topk: self.spec.pre_nms_topk[phase],
            post_nms_topk: self.spec.post_nms_topk[phase],
            nms_thresh: self.spec.nms_thresh,
        };
        let of_image = |(image, &size): (usize, &[usize; 2])| {
            let levels = predictions.anchors.iter().zip(logits.iter().zip(&deltas));
            let levels = levels.map(|(anchors, (logits, deltas))| LevelPredictions {
                anchors,
                logits: &logits[image * anchors.len()..][..anchors.len()],
                deltas: &deltas.as_chunks().0[image * anchors.len()..][..anchors.len()],
            });
            let levels: Vec<_> = levels.collect();
            selection
                .find_top_rpn_proposals(&levels, &self.coder, size, training)
                .map_err(of_image(&batch.ids[image]))
        };
        batch.sizes.iter().enumerate().map(of_image).collect()
    }
}

impl InstanceHeadModule for RpnModule {
    fn regions(&self) -> usize {
        self.spec.post_nms_topk[1]
    }

    fn macs(&self) -> Macs {
        let convs = || self.convs.iter().chain([&self.objectness_logits, &self.anchor_deltas]);
        let level = |level: &LevelShape| convs().map(|conv| conv.macs(level.positions())).sum::<u64>();
        Macs::same(self.levels.iter().map(level).sum())
    }

    fn forward(
        &self,
        features: &Features,
        _: Option<&[Regions]>,
        batch: &Batch,
        ctx: &Context,
    ) -> Result<Found> {
        let predictions = self.predict(features, ctx)?;
        let losses = if ctx.training { self.losses(&predictions, batch, ctx)? } else { Vec::new() };
        Ok(Found { losses, regions: self.propose(&predictions, batch, ctx.training)? })
    }
}
