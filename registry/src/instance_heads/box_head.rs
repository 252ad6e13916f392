//! The head of boxes and classes.

use convmae_framework::component::{
    Features, Found, InstanceHead, InstanceHeadInputs, InstanceHeadModule, Loss, Macs, Problem, Regions,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::Linear;
use convmae_framework::nn::ops::{MergeCells, Relu, Sequential};
use convmae_framework::nn::{Context, Error, Init, Result, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{channels_of, maps, pooling, tower};
use crate::detection::box_coder::Box2BoxTransform;
use crate::detection::conv::{Norm, NormConv2d};
use crate::detection::detections::{DetectionSelection, refined_boxes};
use crate::detection::losses::fast_rcnn_losses;
use crate::detection::matcher::{Label, Matcher};
use crate::detection::roi_pooler::RoiPooler;
use crate::detection::targets::{Draw, GroundTruth, LabelAndSample, SampledProposals};

/// Tells the class of every region and moves its box onto the object: `RoIAlign`, convolutions, linear layers
/// (`FastRCNNConvFCHead` and `FastRCNNOutputLayers` of detectron2; Girshick 2015). Losses: `cls` and
/// `box_reg`.
///
/// Under the prefix `roi_heads` it takes the official weights. In a cascade (Cai and Vasconcelos 2018) several
/// follow each other, all but the last with `refine: true`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BoxHead {
    /// Classes to tell apart, background not counted: as many as the dataset has. COCO has 80.
    #[schemars(range(min = 1, max = 65535))]
    pub num_classes: usize,
    /// Bins along each side of a pooled region.
    #[schemars(range(min = 1, max = 64))]
    pub pooler_resolution: usize,
    /// Samples of a bin along each side; 0 for one per position of the level.
    #[schemars(range(max = 16))]
    pub sampling_ratio: usize,
    /// Channels of the 3x3 convolutions.
    #[schemars(inner(range(min = 1, max = 65536)))]
    pub conv_dims: Vec<usize>,
    /// Channels of the linear layers behind them.
    #[schemars(inner(range(min = 1, max = 65536)))]
    pub fc_dims: Vec<usize>,
    /// What normalises the convolutions.
    pub norm: Norm,
    /// Whether the statistics of BatchNorm are shared among processes (`SyncBN`). A single process has none
    /// to share them with.
    pub sync: bool,
    /// Overlap (IoU) with an object from which on a region is to predict it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub iou_threshold: f32,
    /// Regions of an image that it is trained on.
    #[schemars(range(min = 1))]
    pub batch_size_per_image: usize,
    /// The part of these that holds an object at most.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub positive_fraction: f64,
    /// Whether it is trained on the boxes of the objects themselves, too.
    pub proposal_append_gt: bool,
    /// Factors of the deltas of a box: of its centre along x and y, of its width and height.
    #[schemars(inner(range(min = 0.001)))]
    pub bbox_reg_weights: [f32; 4],
    /// Whether the box is the same whatever the class.
    pub cls_agnostic_bbox_reg: bool,
    /// Difference up to which the loss of deltas is quadratic; at 0 it is L1.
    #[schemars(range(min = 0.0))]
    pub smooth_l1_beta: f32,
    /// Probability up to which an object is not detected.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score_thresh: f32,
    /// Overlap (IoU) above which the better of two detections of a class suppresses the other.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub nms_thresh: f64,
    /// Detections of an image at most.
    #[schemars(range(min = 1))]
    pub topk_per_image: usize,
    /// Whether it hands on all regions with their moved boxes, as the next stage of a cascade takes them, in
    /// place of detections.
    pub refine: bool,
}

impl Default for BoxHead {
    fn default() -> Self {
        Self {
            num_classes: 80,
            pooler_resolution: 7,
            sampling_ratio: 0,
            conv_dims: Vec::new(),
            fc_dims: vec![1024, 1024],
            norm: Norm::None,
            sync: false,
            iou_threshold: 0.5,
            batch_size_per_image: 512,
            positive_fraction: 0.25,
            proposal_append_gt: true,
            bbox_reg_weights: [10.0, 10.0, 5.0, 5.0],
            cls_agnostic_bbox_reg: false,
            smooth_l1_beta: 0.0,
            score_thresh: 0.05,
            nms_thresh: 0.5,
            topk_per_image: 100,
            refine: false,
        }
    }
}

#[typetag::serde]
impl InstanceHead for BoxHead {
    fn classes(&self) -> Option<usize> {
        Some(self.num_classes)
    }

    fn build(
        &self,
        scope: &Scope,
        inputs: &InstanceHeadInputs,
    ) -> Result<Box<dyn InstanceHeadModule>, Problem> {
        let (regions, pooler) = pooling(inputs, self.pooler_resolution, self.sampling_ratio)?;
        let (head, predictor) = (scope.child("box_head"), scope.child("box_predictor"));
        let (convs, channels) =
            tower(&head, "conv", channels_of(inputs)?, &self.conv_dims, self.norm, self.sync);
        let mut features = channels * self.pooler_resolution * self.pooler_resolution;
        let mut fcs = Vec::new();
        for (at, &outputs) in self.fc_dims.iter().enumerate() {
            let (scope, init) = (head.child(format!("fc{}", at + 1)), Init::c2_xavier(features));
            fcs.push(Linear::with_init(&scope, features, outputs, &init, Some(&Init::ZEROS)));
            features = outputs;
        }
        let predictor = |name: &str, outputs: usize, std: f32| {
            let scope = predictor.child(name);
            Linear::with_init(&scope, features, outputs, &Init::Normal { std }, Some(&Init::ZEROS))
        };
        let boxes = if self.cls_agnostic_bbox_reg { 1 } else { self.num_classes };
        Ok(Box::new(BoxModule {
            pooler,
            convs,
            fcs,
            cls_score: predictor("cls_score", self.num_classes + 1, 0.01),
            bbox_pred: predictor("bbox_pred", 4 * boxes, 0.001),
            coder: Box2BoxTransform::new(self.bbox_reg_weights),
            sampling: LabelAndSample {
                matcher: Matcher {
                    below: Label::Negative,
                    thresholds: vec![(self.iou_threshold, Label::Positive)],
                    allow_low_quality_matches: false,
                },
                batch_size_per_image: self.batch_size_per_image,
                positive_fraction: self.positive_fraction,
            },
            selection: DetectionSelection {
                score_thresh: self.score_thresh,
                nms_thresh: self.nms_thresh,
                topk_per_image: self.topk_per_image,
            },
            regions,
            spec: self.clone(),
        }))
    }
}

convmae_framework::register!(InstanceHead: BoxHead);

struct BoxModule {
    pooler: RoiPooler,
    convs: Vec<NormConv2d>,
    fcs: Vec<Linear>,
    cls_score: Linear,
    bbox_pred: Linear,
    coder: Box2BoxTransform,
    sampling: LabelAndSample,
    selection: DetectionSelection,
    /// How many it gets of an image at most.
    regions: usize,
    spec: BoxHead,
}

impl BoxModule {
    /// Logits `[R, K + 1]` and deltas `[R, 4 K]`, or `[R, 4]`, of the regions of all images.
    fn predict(&self, features: &Features, boxes: &[Vec<[f32; 4]>], ctx: &Context) -> Result<[Tensor; 2]> {
        let pooled = self.pooler.forward(&maps(features)?, boxes)?;
        let x = self.convs.iter().try_fold(pooled, |x, conv| conv.forward(x, ctx))?;
        let (regions, height, width, channels) = x.dims4()?;
        // The weights of the first linear layer are in the order of channels, rows, columns.
        let flat = Sequential::new().then(MergeCells { cell: height, kernel: height });
        let relu = |layers: Sequential, fc: &Linear| layers.then(fc.clone()).then(Relu);
        let x = x.reshape((regions, height * width, channels))?;
        let x = self.fcs.iter().fold(flat, relu).forward(x, ctx)?;
        let (_, _, features) = x.dims3()?;
        let x = x.reshape((regions, features))?;
        let (logits, deltas) = (self.cls_score.forward(x.clone(), ctx)?, self.bbox_pred.forward(x, ctx)?);
        ctx.record("cls_score", &logits)?;
        ctx.record("bbox_pred", &deltas)?;
        Ok([logits, deltas])
    }

    fn train(&self, features: &Features, given: &[Regions], batch: &Batch, ctx: &Context) -> Result<Found> {
        let images = given.iter().zip(&batch.targets).zip(ctx.image_streams(batch.len())).enumerate();
        let sampled = images.map(|(image, ((given, target), mut rng))| {
            let truth = GroundTruth::of(target);
            let mut proposals = given.boxes.clone();
            if self.spec.proposal_append_gt {
                proposals.extend_from_slice(&truth.boxes);
            }
            let draw = Draw::of(ctx, "roi", image, proposals.len(), &mut rng)?;
            Ok(self.sampling.proposals(&proposals, &truth, &self.coder, draw))
        });
        let sampled = sampled.collect::<Result<Vec<SampledProposals>>>()?;
        let boxes: Vec<_> = sampled.iter().map(|sampled| sampled.boxes.clone()).collect();
        let targets: Vec<_> = sampled.iter().flat_map(|sampled| sampled.targets.clone()).collect();
        if targets.is_empty() && !self.convs.iter().any(NormConv2d::is_shared) {
            return Ok(Found { losses: Vec::new(), regions: vec![Regions::default(); batch.len()] });
        }
        let [logits, deltas] = self.predict(features, &boxes, ctx)?;
        let regions = if self.spec.refine {
            self.refined(&boxes, &logits, &deltas, batch)?
        } else {
            sampled.into_iter().map(trained_on).collect()
        };
        let [cls, box_reg] = fast_rcnn_losses(logits, deltas, &targets, self.spec.smooth_l1_beta)?;
        Ok(Found { losses: vec![Loss::new("cls", cls), Loss::new("box_reg", box_reg)], regions })
    }

    fn detect(
        &self,
        features: &Features,
        given: &[Regions],
        batch: &Batch,
        ctx: &Context,
    ) -> Result<Vec<Regions>> {
        let boxes: Vec<_> = given.iter().map(|regions| regions.boxes.clone()).collect();
        if boxes.iter().all(Vec::is_empty) {
            return Ok(vec![Regions::default(); batch.len()]);
        }
        let [logits, deltas] = self.predict(features, &boxes, ctx)?;
        if self.spec.refine {
            return self.refined(&boxes, &logits, &deltas, batch);
        }
        let detect = |boxes: &[[f32; 4]], logits: &[f32], deltas: &[f32], size| {
            self.selection.fast_rcnn_inference(boxes, logits, deltas, &self.coder, size)
        };
        of_images(&boxes, &logits, &deltas, batch, detect)
    }

    fn refined(
        &self,
        boxes: &[Vec<[f32; 4]>],
        logits: &Tensor,
        deltas: &Tensor,
        batch: &Batch,
    ) -> Result<Vec<Regions>> {
        let refine = |boxes: &[[f32; 4]], logits: &[f32], deltas: &[f32], size| Regions {
            boxes: refined_boxes(boxes, logits, deltas, &self.coder, size),
            ..Regions::default()
        };
        of_images(boxes, logits, deltas, batch, refine)
    }
}

/// The regions of each image from its boxes, logits and deltas, and its size.
fn of_images(
    boxes: &[Vec<[f32; 4]>],
    logits: &Tensor,
    deltas: &Tensor,
    batch: &Batch,
    of_image: impl Fn(&[[f32; 4]], &[f32], &[f32], [usize; 2]) -> Regions,
) -> Result<Vec<Regions>> {
    let ((_, classes), (_, sides)) = (logits.dims2()?, deltas.dims2()?);
    let values = Tensor::to_vecs([logits, deltas])?;
    let (mut logits, mut deltas) = (values[0].as_slice(), values[1].as_slice());
    let regions = boxes.iter().zip(&batch.sizes).map(|(boxes, &size)| {
        let (own_logits, own_deltas);
        (own_logits, logits) = logits.split_at(boxes.len() * classes);
        (own_deltas, deltas) = deltas.split_at(boxes.len() * sides);
        of_image(boxes, own_logits, own_deltas, size)
    });
    Ok(regions.collect())
}

/// The regions that the losses are of: positive ones, then background.
fn trained_on(sampled: SampledProposals) -> Regions {
    let mut gts: Vec<_> = sampled.gts.into_iter().map(Some).collect();
    gts.resize(sampled.boxes.len(), None);
    Regions { boxes: sampled.boxes, gts, ..Regions::default() }
}

impl InstanceHeadModule for BoxModule {
    fn regions(&self) -> usize {
        if self.spec.refine { self.regions } else { self.spec.topk_per_image }
    }

    fn macs(&self) -> Macs {
        let positions = self.spec.pooler_resolution * self.spec.pooler_resolution;
        let convs: u64 = self.convs.iter().map(|conv| conv.macs(self.regions * positions)).sum();
        let linears = self.fcs.iter().chain([&self.cls_score, &self.bbox_pred]);
        Macs::same(convs + linears.map(|linear| linear.macs(self.regions)).sum::<u64>())
    }

    fn forward(
        &self,
        features: &Features,
        given: Option<&[Regions]>,
        batch: &Batch,
        ctx: &Context,
    ) -> Result<Found> {
        let given = given.ok_or_else(|| Error::Value("no regions reach this head".to_owned()))?;
        if ctx.training {
            return self.train(features, given, batch, ctx);
        }
        Ok(Found { losses: Vec::new(), regions: self.detect(features, given, batch, ctx)? })
    }
}
