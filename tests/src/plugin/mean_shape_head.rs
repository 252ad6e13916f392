//! A head of masks that does not look at the picture.

use convmae_framework::component::{
    Features, Found, InstanceHead, InstanceHeadInputs, InstanceHeadModule, Loss, Macs, Problem, Regions,
    RoiMask,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::Linear;
use convmae_framework::nn::ops::{ValueTarget, binary_cross_entropy_with_logits};
use convmae_framework::nn::{self, Context, Error, Scope, Tape, Tensor};
use convmae_registry::detection::mask_targets::crop_and_resize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives every object the mean shape of its class within its box: what a `MaskHead` has to beat. Loss: `mean_shape`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanShapeHead {
    /// Classes of objects, those of the dataset.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Cells along each side of a mask.
    #[schemars(range(min = 1, max = 64))]
    pub mask_size: usize,
}

#[typetag::serde]
impl InstanceHead for MeanShapeHead {
    fn classes(&self) -> Option<usize> {
        Some(self.num_classes)
    }

    fn build(
        &self,
        scope: &Scope,
        inputs: &InstanceHeadInputs,
    ) -> Result<Box<dyn InstanceHeadModule>, Problem> {
        let regions = inputs.regions.ok_or_else(|| {
            Problem::new("from", "no instance head comes before it").help("name one that tells classes")
        })?;
        let cells = self.mask_size * self.mask_size;
        let shapes = Linear::without_bias(&scope.child("mean_shape"), self.num_classes, cells);
        Ok(Box::new(MeanShapeModule { shapes, head: self.clone(), regions }))
    }
}

convmae_framework::register!(InstanceHead: MeanShapeHead);

struct MeanShapeModule {
    /// From classes to the cells of a mask.
    shapes: Linear,
    head: MeanShapeHead,
    /// How many it gets of an image at most.
    regions: usize,
}

impl MeanShapeModule {
    /// Logits of the cells of the masks of `R` objects, `[R, S * S]`.
    fn logits(&self, classes: &[u32], ctx: &Context) -> nn::Result<Tensor> {
        let mut one_hot = vec![0.0; classes.len() * self.head.num_classes];
        for (row, &class) in one_hot.chunks_exact_mut(self.head.num_classes).zip(classes) {
            row[class as usize] = 1.0;
        }
        let one_hot = Tensor::from_vec(one_hot, (classes.len(), self.head.num_classes), &ctx.tape)?;
        self.shapes.forward(one_hot, ctx)
    }

    fn loss(&self, given: &[Regions], batch: &Batch, ctx: &Context) -> nn::Result<Loss> {
        let (mut classes, mut cells) = (Vec::new(), Vec::new());
        for (regions, target) in given.iter().zip(&batch.targets) {
            let objects = &target.instances;
            for (&bbox, &gt) in regions.boxes.iter().zip(&regions.gts) {
                let Some(gt) = gt else { continue };
                classes.push(objects.classes[gt]);
                cells.extend(crop_and_resize(&objects.masks[gt], bbox, self.head.mask_size)?);
            }
        }
        let value = match cells.len() {
            0 => Tensor::from_vec(vec![0.0], (), &Tape::none())?,
            count => {
                let target =
                    |(index, on): (usize, bool)| ValueTarget { index, target: f32::from(u8::from(on)) };
                let targets: Vec<_> = cells.into_iter().enumerate().map(target).collect();
                binary_cross_entropy_with_logits(self.logits(&classes, ctx)?, &targets, count as f32)?
            }
        };
        Ok(Loss::new("mean_shape", value))
    }
}

impl InstanceHeadModule for MeanShapeModule {
    fn regions(&self) -> usize {
        self.regions
    }

    fn macs(&self) -> Macs {
        Macs::same(self.shapes.macs(self.regions))
    }

    fn forward(
        &self,
        _: &Features,
        given: Option<&[Regions]>,
        batch: &Batch,
        ctx: &Context,
    ) -> nn::Result<Found> {
        let given = given.ok_or_else(|| Error::Value("no regions reach this head".to_owned()))?;
        let mut regions = given.to_vec();
        if ctx.training {
            return Ok(Found { losses: vec![self.loss(given, batch, ctx)?], regions });
        }
        for regions in regions.iter_mut().filter(|regions| !regions.is_empty()) {
            let logits = self.logits(&regions.classes, ctx)?.to_vec()?;
            let masks = logits.chunks_exact(self.head.mask_size * self.head.mask_size);
            let probable = |logit: &f32| 1.0 / (1.0 + (-logit).exp());
            regions.masks = masks.map(|logits| RoiMask(logits.iter().map(probable).collect())).collect();
        }
        Ok(Found { losses: Vec::new(), regions })
    }
}
