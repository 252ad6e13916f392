//! The head of masks.

use convmae_framework::component::{
    Features, Found, InstanceHead, InstanceHeadInputs, InstanceHeadModule, Loss, Macs, Problem, Regions,
    RoiMask,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::ConvTranspose2d;
use convmae_framework::nn::ops::{Relu, Sequential};
use convmae_framework::nn::{Context, Error, Init, Result, Scope, Tape, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{channels_of, maps, of_image, pooling, tower};
use crate::detection::conv::{Norm, NormConv2d};
use crate::detection::losses::mask_rcnn_loss;
use crate::detection::mask_targets::crop_and_resize;
use crate::detection::roi_pooler::RoiPooler;

/// Tells the mask of the object in every detected box: `RoIAlign`, convolutions, a deconvolution that doubles
/// the resolution, a mask for each class (`MaskRCNNConvUpsampleHead` of detectron2; He et al. 2017). Loss:
/// `mask`.
///
/// Under the prefix `roi_heads` it takes the official weights.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaskHead {
    /// Classes with a mask each: as many as the dataset has. COCO has 80.
    #[schemars(range(min = 1, max = 65535))]
    pub num_classes: usize,
    /// Bins along each side of a pooled region; a mask has twice as many cells.
    #[schemars(range(min = 1, max = 64))]
    pub pooler_resolution: usize,
    /// Samples of a bin along each side; 0 for one per position of the level.
    #[schemars(range(max = 16))]
    pub sampling_ratio: usize,
    /// Channels of the 3x3 convolutions, and last of the deconvolution.
    #[schemars(length(min = 1), inner(range(min = 1, max = 65536)))]
    pub conv_dims: Vec<usize>,
    /// What normalises the convolutions.
    pub norm: Norm,
    /// Whether the statistics of BatchNorm are shared among processes (`SyncBN`). A single process has none
    /// to share them with.
    pub sync: bool,
    /// Whether there is a single mask whatever the class.
    pub cls_agnostic_mask: bool,
}

impl Default for MaskHead {
    fn default() -> Self {
        Self {
            num_classes: 80,
            pooler_resolution: 14,
            sampling_ratio: 0,
            conv_dims: vec![256; 5],
            norm: Norm::None,
            sync: false,
            cls_agnostic_mask: false,
        }
    }
}

#[typetag::serde]
impl InstanceHead for MaskHead {
    fn classes(&self) -> Option<usize> {
        Some(self.num_classes)
    }

    fn build(
        &self,
        scope: &Scope,
        inputs: &InstanceHeadInputs,
    ) -> Result<Box<dyn InstanceHeadModule>, Problem> {
        let (regions, pooler) = pooling(inputs, self.pooler_resolution, self.sampling_ratio)?;
        let scope = scope.child("mask_head");
        let Some((&upsampled, convolved)) = self.conv_dims.split_last() else {
            return Err(
                Problem::new("conv_dims", "it is empty").help("the last one is that of the deconvolution")
            );
        };
        let (convs, channels) =
            tower(&scope, "mask_fcn", channels_of(inputs)?, convolved, self.norm, self.sync);
        // PyTorch takes the first axis of a weight, here the inputs, for that of the outputs.
        let init = Init::kaiming_normal(channels * 4);
        let masks = if self.cls_agnostic_mask { 1 } else { self.num_classes };
        let predictor = Init::Normal { std: 0.001 };
        Ok(Box::new(MaskModule {
            pooler,
            convs,
            deconv: ConvTranspose2d::with_init(
                &scope.child("deconv"),
                channels,
                upsampled,
                2,
                &init,
                &Init::ZEROS,
            ),
            predictor: NormConv2d::new(
                &scope.child("predictor"),
                upsampled,
                masks,
                1,
                Norm::None,
                &predictor,
            ),
            regions,
        }))
    }
}

convmae_framework::register!(InstanceHead: MaskHead);

struct MaskModule {
    pooler: RoiPooler,
    convs: Vec<NormConv2d>,
    deconv: ConvTranspose2d,
    predictor: NormConv2d,
    /// How many it gets of an image at most.
    regions: usize,
}

impl MaskModule {
    /// Logits of the cells of the regions of all images, `[R, S, S, K]` or `[R, S, S, 1]`.
    fn predict(&self, features: &Features, boxes: &[Vec<[f32; 4]>], ctx: &Context) -> Result<Tensor> {
        let pooled = self.pooler.forward(&maps(features)?, boxes)?;
        let x = self.convs.iter().try_fold(pooled, |x, conv| conv.forward(x, ctx))?;
        let x = Sequential::new().then(self.deconv.clone()).then(Relu).forward(x, ctx)?;
        let logits = self.predictor.forward(x, ctx)?;
        ctx.record("mask_logits", &logits)?;
        Ok(logits)
    }

    /// Of those regions that are to predict an object.
    fn train(&self, features: &Features, given: &[Regions], batch: &Batch, ctx: &Context) -> Result<Found> {
        let side = 2 * self.pooler.output_size;
        let (mut regions, mut classes, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        for (image, given) in given.iter().enumerate() {
            let objects = &batch.targets[image].instances;
            let positive: Vec<_> = (0..given.gts.len()).filter(|&at| given.gts[at].is_some()).collect();
            let positive = given.select(&positive);
            for (&bbox, &gt) in positive.boxes.iter().zip(positive.gts.iter().flatten()) {
                let mask = objects.masks.get(gt).ok_or_else(|| {
                    Error::Value(format!(
                        "{}: an object has no mask, which a `MaskHead` learns",
                        batch.ids[image]
                    ))
                })?;
                masks.push(crop_and_resize(mask, bbox, side).map_err(of_image(&batch.ids[image]))?);
                classes.push(objects.classes[gt]);
            }
            regions.push(positive);
        }
        let boxes: Vec<_> = regions.iter().map(|regions| regions.boxes.clone()).collect();
        let value = match masks.is_empty() && !self.convs.iter().any(NormConv2d::is_shared) {
            // The statistics of norms stay as they are.
            true => Tensor::from_vec(vec![0.0], (), &Tape::none())?,
            false => mask_rcnn_loss(self.predict(features, &boxes, ctx)?, &classes, &masks)?,
        };
        Ok(Found { losses: vec![Loss::new("mask", value)], regions })
    }

    fn segment(&self, features: &Features, given: &[Regions], ctx: &Context) -> Result<Vec<Regions>> {
        let mut regions = given.to_vec();
        let boxes: Vec<_> = given.iter().map(|regions| regions.boxes.clone()).collect();
        if boxes.iter().all(Vec::is_empty) {
            return Ok(regions);
        }
        let logits = self.predict(features, &boxes, ctx)?;
        let (_, height, width, masks) = logits.dims4()?;
        let logits = logits.to_vec()?;
        let mut of_regions = logits.chunks_exact(height * width * masks);
        for regions in &mut regions {
            let of_region = |(class, logits): (&u32, &[f32])| {
                let class = if masks == 1 { 0 } else { *class as usize };
                let of_class = logits.iter().skip(class).step_by(masks);
                RoiMask(of_class.map(|logit| 1.0 / (1.0 + (-logit).exp())).collect())
            };
            regions.masks = regions.classes.iter().zip(of_regions.by_ref()).map(of_region).collect();
        }
        Ok(regions)
    }
}

impl InstanceHeadModule for MaskModule {
    fn regions(&self) -> usize {
        self.regions
    }

    fn macs(&self) -> Macs {
        let bins = self.regions * self.pooler.output_size * self.pooler.output_size;
        let convs: u64 = self.convs.iter().map(|conv| conv.macs(bins)).sum();
        Macs::same(convs + self.deconv.macs(bins) + self.predictor.macs(4 * bins))
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
        Ok(Found { losses: Vec::new(), regions: self.segment(features, given, ctx)? })
    }
}
